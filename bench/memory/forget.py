"""Forgetting among 100,000 memories: how long, how many commands, and who waits meanwhile."""

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from bench.machine import log, one_core, other_core
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_BATCH = 1000
_TURN = 0.001  # seconds
_OWN = ("hello", "client", "ping", "slowlog", "command")
_NONE, _SOME = "invalidate_pattern, none matches", "invalidate_pattern, one in ten"
_VALUE = "a memory of one hundred characters " * 3


def measure(report: Report, *, quick: bool) -> None:
    """Forget a type, a scope and a pattern, of a cache that is filled up each time."""
    from nearcache import AsyncHotMemoryCache
    from servers import Server

    entries, rounds = (10_000, 1) if quick else (100_000, 7)
    ways: dict[str, Callable[[Any], Any]] = {
        _NONE: lambda hot: hot.invalidate_pattern(memory_id="x*"),
        "invalidate_by_type": lambda hot: hot.invalidate_by_type("episodic"),
        _SOME: lambda hot: hot.invalidate_pattern(memory_id="*7"),
        "invalidate_by_scope": lambda hot: hot.invalidate_by_scope("team"),
    }
    found: dict[str, list[_Seen]] = {name: [] for name in ways}
    with ExitStack() as stack, one_core():
        server = stack.enter_context(Server())
        other_core(server.pid)
        runner = stack.enter_context(asyncio.Runner())
        hot: Any = AsyncHotMemoryCache(server.url, max_entries=2 * entries, ttl=None)
        stack.callback(lambda: runner.run(hot.close()))
        runner.run(hot.invalidate_by_tag("none"))  # connected, and the script is known
        missing: Sequence[int] = range(entries)
        for turn in range(rounds):
            log(f"memory: forgetting among {entries:,}, round {turn + 1} of {rounds}")
            for name, way in ways.items():
                runner.run(_fill(hot, missing))
                found[name].append(runner.run(_forget(hot, way, server, search="pattern" in name)))
                missing = _gone(name, entries)
                runner.run(_check(hot, name, entries, set(missing)))
    _tell(report, found, entries, rounds)


class _Seen:
    """What was seen of one call."""

    def __init__(self, seconds: float, turns: list[tuple[float, float]], server: Any) -> None:
        self.seconds = seconds
        self.held, self.busy = (max(one) for one in zip(*turns, strict=True))
        counts = server.command_counts()
        self.commands = {n: c for n, c in counts.items() if not n.startswith(_OWN)}
        with server.client() as client:
            log = client.slowlog_get(10_000_000)
        took = [one["duration"] for one in log if not _is_own(one["command"])]
        self.slowest = max(took, default=0)


def _is_own(command: bytes) -> bool:
    return command.lower().startswith(tuple(name.encode() for name in (*_OWN, "config", "info")))


def _gone(name: str, entries: int) -> Sequence[int]:
    """Return which memories a call has forgotten."""
    return {_NONE: range(0), _SOME: range(7, entries, 10)}.get(name, range(entries))


def _keys(numbers: Sequence[int]) -> list[Any]:
    from nearcache import MemoryKey

    return [MemoryKey("episodic", str(number), "team") for number in numbers]


async def _fill(hot: Any, numbers: Sequence[int]) -> None:
    from nearcache.caches.listening import hearing

    await hearing(hot._cache)
    for start in range(0, len(numbers), _BATCH):
        keys = _keys(numbers[start : start + _BATCH])
        await hot.put_batch(dict.fromkeys(keys, _VALUE))
        await hot.get_batch(keys)


async def _forget(hot: Any, way: Callable[[Any], Any], server: Any, *, search: bool) -> _Seen:
    """Call it; where it takes long, another task looks how long the loop is held meanwhile."""
    turns, over = [(0.0, 0.0)], False  # late by so much, of it processor time of this thread

    async def watch() -> None:
        while not over:
            before, busy = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_TURN)
            late = time.perf_counter() - before - _TURN
            turns.append((late, time.thread_time() - busy))

    with server.client() as client:
        client.config_set("slowlog-max-len", 1_000_000)
        client.config_set("slowlog-log-slower-than", 0)
        client.slowlog_reset()
    server.reset_counts()
    gc.collect()
    gc.freeze()
    watching = asyncio.create_task(watch()) if search else None
    await asyncio.sleep(2 * _TURN)
    start = time.perf_counter()
    await way(hot)
    seconds = time.perf_counter() - start
    over = True
    if watching is not None:
        await watching
    gc.unfreeze()
    return _Seen(seconds, turns, server)


async def _check(hot: Any, name: str, entries: int, gone: set[int]) -> None:
    numbers = range(0, entries, 97)
    values = await hot.get_batch(_keys(numbers))
    for number, value in zip(numbers, values, strict=True):
        if (value is None) != (number in gone):
            raise ArithmeticError(
                f"{name}: memory {number} is {'gone' if value is None else 'there'}"
            )


def _tell(report: Report, found: dict[str, list[_Seen]], entries: int, rounds: int) -> None:
    table = Table(
        f"Forgetting among {entries:,} memories, near and on the server, {rounds} rounds",
        [
            "",
            "ms (median)",
            "commands",
            "event loop held, ms (median of the longest)",
            "worst",
            "of processor time",
            "slowest command, ms (median)",
            "worst",
        ],
    )
    for name, seen in found.items():
        took = 1000 * statistics.median(one.seconds for one in seen)
        told = ", ".join(f"{what} {n:,}" for what, n in sorted(seen[-1].commands.items()))
        held = sorted(1000 * one.held for one in seen)
        slow = sorted(one.slowest / 1000 for one in seen)
        held_middle, slow_middle = statistics.median(held), statistics.median(slow)
        busy = 1000 * statistics.median(one.busy for one in seen)
        row = [name, took, told, held_middle, held[-1], busy, slow_middle, slow[-1]]
        table.rows.append(row)
        if "pattern" in name:
            report.judged.append(Judged(f"{name}: event loop held", 5, held_middle, "ms"))
            report.judged.append(Judged(f"{name}: slowest command", 5, slow_middle, "ms"))
        else:
            most = max(sum(one.commands.values()) for one in seen)
            goal = f"{name} over {entries:,} entries"
            report.judged.append(Judged(goal, 1, took, "ms"))
            report.judged.append(Judged(goal, 3, most, "commands"))
    report.tables.append(table)
    report.notes.append(
        "Forgetting: the asynchronous face, on a cache that is filled up before each call; that "
        "what should be gone is gone, and the rest is not, is looked at afterwards. The event loop "
        "is held while a task that sleeps for a millisecond wakes up late, which is looked at "
        "while a pattern is searched; what it is held for beyond the processor time of its thread "
        "is other threads and other programs. What was there before is frozen out of Python's "
        "garbage collection. Commands are those of INFO commandstats, with those that a script "
        "runs; the slowest is that of SLOWLOG."
    )
