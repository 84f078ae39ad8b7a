"""The grid: every player on every trace at every size, and what it amounts to."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import data
from bench.machine import log
from bench.sim.players import BELADY, LRU, hit_ratio
from bench.sim.traces import MOST, Trace, load

__all__ = ["PERCENT", "Grid", "Pair", "play", "reference"]

PERCENT = (1, 5, 10, 20)
_REFERENCE_NAMES = ("lirs_", "cache2k_", "mooncake_", "arc_")


@dataclass(frozen=True, slots=True)
class Pair:
    """One trace at one size: how often each player hit."""

    trace: str
    requests: int
    distinct: int
    percent: float
    size: int
    ratios: dict[str, float] = field(default_factory=dict)

    def over_lru(self, player: str) -> float:
        """Return how many points a player is above exact LRU."""
        return 100 * (self.ratios[player] - self.ratios[LRU])

    def gap_closed(self, player: str) -> float | None:
        """Return the share of the way from LRU to Belady; None where there is no way."""
        gap = self.ratios[BELADY] - self.ratios[LRU]
        return (self.ratios[player] - self.ratios[LRU]) / gap if gap > 1e-9 else None

    def short_of(self, player: str, rivals: Sequence[str]) -> float:
        """Return how many points a player is below the best of its rivals."""
        best = max(self.ratios[each] for each in rivals if self.counts(each))
        return 100 * (best - self.ratios[player])

    def counts(self, player: str) -> bool:
        """libCacheSim's W-TinyLFU reads 0 in small caches: an artefact of its sketch."""
        return not (player.endswith("W-TinyLFU") and self.size < 100)


@dataclass(slots=True)
class Grid:
    """All pairs, in order."""

    players: list[str]
    pairs: list[Pair]

    def write(self, folder: Path) -> None:
        """Write the figures as JSON and draw them."""
        from bench.sim.figure import draw

        folder.mkdir(parents=True, exist_ok=True)
        pairs = [asdict(pair) for pair in self.pairs]
        text = json.dumps({"players": self.players, "pairs": pairs}, indent=1)
        (folder / "hit_ratios.json").write_text(text + "\n", encoding="utf-8")
        draw(self, folder / "hit_ratios.png")


def _one(job: tuple[str, int, float, str]) -> float:
    name, most, percent, player = job
    trace = load(name, most)
    ratio = hit_ratio(player, trace.keys, trace.size(percent))
    log(f"sim: {trace.name}, {percent:g} %, {player}: {ratio:.4f}")
    return ratio


def play(
    names: Sequence[str],
    players: Sequence[str],
    percents: Sequence[float] = PERCENT,
    most: int = MOST,
) -> Grid:
    """Play all traces, on every core of the machine: nothing here is timed."""
    everybody = [*dict.fromkeys((*players, LRU, BELADY))]
    grid = Grid(everybody, [])
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name in names:
            trace: Trace = load(name, most)
            jobs = [(name, most, percent, who) for percent in percents for who in everybody]
            ratios = iter(pool.map(_one, jobs))
            for percent in percents:
                size = trace.size(percent)
                pair = Pair(trace.name, len(trace.keys), trace.distinct, percent, size)
                pair.ratios.update((who, next(ratios)) for who in everybody)
                grid.pairs.append(pair)
    return grid


def reference() -> dict[tuple[str, int, int], float]:
    """Return the reference hit ratios of exact LRU by (trace, requests, size), where there are."""
    path = data.folder() / "oracle_hit_ratios.jsonl"
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return {(bare(row["trace"]), row["n"], row["size"]): row["lru_exact"] for row in rows}


def bare(name: str) -> str:
    """Return a trace's name without its folder's prefix and its ending."""
    for prefix in _REFERENCE_NAMES:
        name = name.removeprefix(prefix)
    return name.partition(".")[0]
