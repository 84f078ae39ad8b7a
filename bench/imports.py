"""Import time: what a program waits for before its first line of its own."""

import statistics
import subprocess
import sys

from bench.report import Judged, Report, Table

__all__ = ["run"]

LINES = (
    "import numpy",
    "import nearcache",
    "from nearcache import EmbeddingCache",
    "from nearcache import NearCache",
    "from nearcache import CacheManager, ShortTermMemory",
    "from nearcache import RedisStore",
)
_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def run(*, quick: bool) -> Report:
    """Time each line in fresh processes, in turns."""
    report = Report("imports", "Import time, in fresh processes", quick, texts="none")
    seconds: dict[str, list[float]] = {line: [] for line in LINES}
    for _ in range(3 if quick else 9):
        for line in LINES:
            seconds[line].append(_once(line))
    median = {line: 1000 * statistics.median(found) for line, found in seconds.items()}
    table = Table("Median of nine, ms", ["", "ms", "best", "less numpy's"])
    for line in LINES:
        best = 1000 * min(seconds[line])
        table.rows.append([f"`{line}`", median[line], best, median[line] - median["import numpy"]])
    report.tables.append(table)
    report.judged.append(Judged("import nearcache", 100, median["import nearcache"], "ms"))
    line = "from nearcache import EmbeddingCache"
    report.judged.append(Judged(line, 100, median[line], "ms"))
    report.notes.append(
        "`import nearcache` imports nothing: a cache, its engine and numpy are imported by whoever "
        "asks for the first name. Files are compiled and in the page cache; each process imports "
        "one line."
    )
    return report


def _once(line: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(line)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
