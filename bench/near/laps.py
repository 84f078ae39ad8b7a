"""Nanoseconds per operation: loops of thousands of calls, in turns within one process."""

import asyncio
import gc
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import process_time
from typing import Any

from bench.machine import steady_memory

__all__ = ["Lap", "awaits", "calls", "items", "net", "nothing", "own", "race_laps"]

Loop = Callable[[list[Any]], object]
_LAP_SECONDS = 0.004


@dataclass(frozen=True, slots=True)
class Lap:
    """One contestant: ``loop`` does one operation for each of the keys that ``draw`` returns."""

    name: str
    loop: Loop
    draw: Callable[[], list[Any]]


def own(loop: Any) -> Any:
    """Give a loop a code object of its own.

    CPython specialises bytecode where it runs; contestants that share a code object would spoil
    it for one another.
    """
    loop.__code__ = loop.__code__.replace()
    return loop


def nothing() -> Loop:
    """Return the loop itself: what is subtracted from all others."""

    def loop(keys: Iterable[Any]) -> None:
        for _key in keys:
            pass

    return own(loop)


def calls(get: Callable[[Any], object]) -> Loop:
    """Return the loop that calls ``get(key)``."""

    def loop(keys: Iterable[Any]) -> None:
        for key in keys:
            get(key)

    return own(loop)


def items(cache: Any) -> Loop:
    """Return the loop that reads ``cache[key]``."""

    def loop(keys: Iterable[Any]) -> None:
        for key in keys:
            cache[key]

    return own(loop)


def awaits(get: Callable[[Any], Any], runner: asyncio.Runner) -> Loop:
    """Return the loop that awaits ``get(key)``, within one task."""

    async def inside(keys: Iterable[Any]) -> None:
        for key in keys:
            await get(key)

    def loop(keys: Iterable[Any]) -> None:
        runner.run(inside(keys))

    return loop


def _timed(lap: Lap, repeats: int) -> float:
    drawn = [lap.draw() for _ in range(repeats)]
    loop = lap.loop
    start = process_time()
    for keys in drawn:
        loop(keys)
    return (process_time() - start) / sum(map(len, drawn))


def _repeats(lap: Lap) -> int:
    seconds = min(_timed(lap, 1) for _ in range(2)) * len(lap.draw())
    return max(1, min(50, int(_LAP_SECONDS / seconds)))


def race_laps(laps: Sequence[Lap], rounds: int) -> dict[str, list[float]]:
    """Return the processor seconds per operation of every lap, each round from another starter.

    Of the processor, for at this scale whatever else a machine does would be most of the figure.
    """
    steady_memory()
    gc.collect()
    gc.freeze()
    try:
        repeats = {lap.name: _repeats(lap) for lap in laps}
        taken: dict[str, list[float]] = {lap.name: [] for lap in laps}
        for turn in range(rounds):
            at = turn % len(laps)
            for lap in (*laps[at:], *laps[:at]):
                taken[lap.name].append(_timed(lap, repeats[lap.name]))
    finally:
        gc.unfreeze()
    return taken


def net(taken: dict[str, list[float]], name: str, empty: str) -> float:
    """Return the middle time of one operation without the loop around it."""
    return statistics.median(taken[name]) - statistics.median(taken[empty])
