"""Hit ratios: traces played against every policy; ``python -m bench.sim`` plays any trace file."""

from collections.abc import Sequence
from pathlib import Path

from bench.report import Report
from bench.sim.grid import PERCENT, Grid, play
from bench.sim.players import others, policies
from bench.sim.traces import MADE_UP, MOST, found
from bench.sim.verdict import judged, ratios, standings

__all__ = ["TITLE", "report_of", "run"]

TITLE = "Hit ratio by policy and size of the cache"
_FOLDER = Path(__file__).parents[1] / "results" / "sim"


def run(*, quick: bool) -> Report:
    """Play the traces of the data folder, or made-up ones; a full run draws them, too."""
    names = found()
    most = 20_000 if quick else MOST
    grid = play(names, [*policies(), *others()], PERCENT[1::2] if quick else PERCENT, most)
    report = report_of(grid, names, quick=quick)
    if not quick:
        grid.write(_FOLDER)
        report.notes.append("![Hit ratio over size, per trace](sim/hit_ratios.png)")
    return report


def report_of(grid: Grid, names: Sequence[str], *, quick: bool = False) -> Report:
    """Return a grid as a report."""
    if set(names) <= set(MADE_UP):
        texts = f"made-up traces ({', '.join(names)}; no data folder found)"
    else:
        texts = f"traces {', '.join(dict.fromkeys(pair.trace for pair in grid.pairs))}"
    report = Report("sim", TITLE, quick, texts=texts)
    report.tables += [standings(grid), ratios(grid)]
    report.judged += judged(grid)
    report.notes.append(
        "nearcache's tier for any value plays each trace: a get, and a put when it misses; sizes "
        "are percentages of the distinct keys. `lcs:` are libCacheSim's; the best that a policy is "
        "compared with is the best of LRU, ARC, S3-FIFO and W-TinyLFU there (W-TinyLFU only from "
        "100 entries: below it reads 0, an artefact). Belady knows the future. At most "
        f"{MOST:,} requests of a trace are played."
    )
    return report
