"""A mixed load for minutes: memory within its budget, nothing that grows, nothing left over."""

import contextlib
import ctypes
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import log
from bench.report import Judged, Report, Table
from bench.soak.long import LongReport
from servers import Server
from soak.mixed import Held, Load, held_now

__all__ = ["run"]

_ARENAS, _ARENA_MAX = 2, -8  # as MALLOC_ARENA_MAX=2, by mallopt(3)

_BUDGET = 256 * 2**20
_MB = 2**20


def run(*, minutes: float, quick: bool) -> Report:
    """Load a Valkey and an SQLite file at once, for so long."""
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL("libc.so.6").mallopt(_ARENA_MAX, _ARENAS)
    report = LongReport("soak", f"{minutes:g} minutes of mixed load", quick)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Server("valkey-9.1", "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru") as server,
    ):
        urls = [server.url, f"sqlite:///{Path(folder)}/soak.db?max_bytes=256MiB"]
        _soak(report, urls, 60 * minutes)
    report.notes.append(
        "Per store one cache of values and one of vectors, filled beyond their budgets at the "
        "start, each with two threads and eight tasks that get, put, update, forget, load and "
        "embed without a pause. Memory is the process's anonymous memory less what it was before "
        "the first entry (interpreter, libraries, the load's own vectors). Of the samples from "
        "minute 2 on, the medians of the first and of the last third are compared. The C library "
        "has two arenas (MALLOC_ARENA_MAX=2): with glibc's default, eight per core, fifty threads "
        "leave it up to half the budget in free pieces that it does not give back. In use is "
        "memory without such pieces (mallinfo2)."
    )
    return report


@dataclass
class _Seen:
    """What a load was seen to hold, and what was left when it had ended."""

    base: Held
    samples: list[tuple[float, Held]]
    counts: dict[str, int]
    flights: int
    tasks: int


def _loaded(urls: Sequence[str], seconds: float) -> _Seen:
    load = Load(urls, _BUDGET)
    load.run(0.0, lambda *_: None)  # connections, threads: everything but entries
    base = held_now(load)
    load.fill()
    samples: list[tuple[float, Held]] = []

    def look(at: float, held: Held) -> None:
        samples.append((at, held))
        log(f"soak: {at:.0f} s, {(held.memory - base.memory) / _MB:.0f} MB, {held}")

    load.run(seconds, look)
    engines, ports = load.engines, [cache._tiers.async_io for cache in (*load.values, *load.rows)]
    flights = _until_none(lambda: sum(len(engine.flights) for engine in engines))
    tasks = _until_none(lambda: sum(len(port._tasks) for port in ports))
    for engine in engines:
        engine.check()
    counts = {**load.counts, "store errors": load.errors}
    load.close()
    return _Seen(base, samples, counts, flights, tasks)


def _soak(report: Report, urls: Sequence[str], seconds: float) -> None:
    before = held_now(None)
    seen = _loaded(urls, seconds)
    gc.collect()
    _until_none(lambda: held_now(None).threads - before.threads)
    after, base, samples = held_now(None), seen.base, seen.samples
    table = Table(
        "Held", ("second", "operations", "memory MB", "in use MB", "near MB", "threads", "tasks",
                 "files", "flights")
    )  # fmt: skip
    step = max(1, len(samples) // 20)
    for at, held in samples[::step]:
        table.rows.append(
            (round(at), held.operations, round((held.memory - base.memory) / _MB, 1),
             round((held.used - base.used) / _MB, 1),
             round(held.near / _MB, 1), held.threads, held.tasks, held.files, held.flights)
        )  # fmt: skip
    report.tables.append(table)
    summed = Table("Counted", ("what", "how many"))
    summed.rows += sorted(seen.counts.items())
    report.tables.append(summed)
    late = [held for at, held in samples if at >= min(120.0, seconds / 5)]
    most = max(held.memory for _, held in samples) - base.memory
    report.judged += [
        Judged("wrong answers", 0, seen.counts.get("wrong", 0), ""),
        Judged("errors that reached a caller", 0, seen.counts.get("raised", 0), ""),
        Judged("most memory against the budget", 1.15, most / _BUDGET),
        Judged(
            "memory in use beside entries, the end against minute 2", 1.05, _grown(late, _beside)
        ),
        Judged("threads, the end against minute 2", 1.05, _grown(late, lambda held: held.threads)),
        Judged("files, the end against minute 2", 1.05, _grown(late, lambda held: held.files)),
        Judged("flights left", 0, seen.flights, ""),
        Judged("tasks left", 0, seen.tasks, ""),
        Judged("threads left", 0, after.threads - before.threads, ""),
        Judged("sockets and files left", 0, after.files - before.files, ""),
    ]


def _beside(held: Held) -> int:
    """Return what is in use for something else than entries, the interpreter included."""
    return held.used - held.near


def _grown(late: Sequence[Held], figure: Callable[[Held], int]) -> float:
    """Return the median of the last third against that of the first."""
    third = max(1, len(late) // 3)
    first, last = (statistics.median(map(figure, some)) for some in (late[:third], late[-third:]))
    return last / first


def _until_none(count: Callable[[], int]) -> int:
    """Return what is left when nothing is, or after ten seconds."""
    end = time.monotonic() + 10.0
    while (left := count()) > 0 and time.monotonic() < end:
        time.sleep(0.05)
    return left
