"""A healthy store that is far away: it is slow, and nothing else."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from time import perf_counter

import numpy as np

from bench import data
from bench.machine import log
from bench.report import Judged, Report, Table
from bench.servers import valkey
from bench.timing import Matrix
from nearcache import EmbeddingCache, NearCache
from nearcache.testing import FaultProxy

__all__ = ["judge_far"]

_LANE = 100e6 / 8
_SIZE, _DIMENSION = 1000, 1536
_MODEL = "m"


def judge_far(report: Report, *, quick: bool) -> None:
    """Read and write batches of 6 MB, alone and four at once, 37 and 300 ms away."""
    table = Table(
        f"A healthy store, batches of {_SIZE} × {_DIMENSION}-d over 100 Mbit/s",
        ["away", "callers", "batches", "cold, ms", "warm, ms", "store errors", "breaker opened"],
    )
    false = opened = 0
    for away in (0.037, 0.3):
        for callers in (1, 4):
            log(f"faults: {away * 1000:.0f} ms away, {callers} callers")
            row, errors, opens = _batches(away, callers, rounds=2 if quick else 6)
            table.rows.append(row)
            false += errors
            opened += opens
        errors, opens, calls = _small(away, seconds=3 if quick else 15)
        table.rows.append([f"{away * 1000:.0f} ms", "8, values", calls, "", "", errors, opens])
        false += errors
        opened += opens
    report.tables.append(table)
    report.judged += [
        Judged("False time-outs of a healthy store", 0, false, ""),
        Judged("The breaker opened on a healthy store", 0, opened, ""),
    ]


def _batches(away: float, callers: int, rounds: int) -> tuple[list[object], int, int]:
    matrix = data.vectors(_SIZE, _DIMENSION)
    with valkey() as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.delay(to_client=away / 2, to_server=away / 2)
        proxy.narrow(to_client=_LANE, to_server=_LANE)
        with EmbeddingCache(proxy.url, max_entries=0) as cache:
            events = Counter[str]()
            cache.subscribe(_counting(events))
            embed = cache.wrap(lambda texts: matrix[[int(t.split()[-1]) for t in texts]], _MODEL)
            took: dict[str, list[float]] = {"cold": [], "warm": []}

            def work(caller: int) -> None:
                for step in range(rounds):
                    texts = [f"{caller} {step} {n}" for n in range(_SIZE)]
                    for kind in ("cold", "warm"):
                        before = perf_counter()
                        got: Matrix = embed(texts)
                        took[kind].append(perf_counter() - before)
                        assert np.array_equal(got, matrix), "a wrong value"

            _in_threads(callers, work)
            errors = cache.get_stats().store_errors
    cold, warm = (float(np.median(took[kind])) * 1000 for kind in ("cold", "warm"))
    row = [f"{away * 1000:.0f} ms", callers, callers * rounds, cold, warm, errors, events["open"]]
    return row, errors, events["open"]


def _small(away: float, seconds: float) -> tuple[int, int, int]:
    """Read and write small values from eight tasks: errors, openings, calls."""

    async def crowd(cache: "NearCache[str, str]") -> int:
        face, end, calls = cache.as_async(), perf_counter() + seconds, 0

        async def work(number: int) -> None:
            nonlocal calls
            while perf_counter() < end:
                key = f"{number} {calls}"
                await face.put(key, "value")
                await face.get_or_load(key, key.upper)
                await face.invalidate(key)
                calls += 3

        await asyncio.gather(*(work(n) for n in range(8)))
        return calls

    with valkey() as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.delay(to_client=away / 2, to_server=away / 2)
        with NearCache[str, str](proxy.url, namespace="bench") as cache:
            events = Counter[str]()
            cache.subscribe(_counting(events))
            calls = asyncio.run(crowd(cache))
            return cache.get_stats().store_errors, events["open"], calls


def _counting(events: Counter[str]) -> Callable[[str, object, object], None]:
    def hear(name: str, _subject: object, detail: object) -> None:
        if name == "breaker":
            events[str(detail)] += 1

    return hear


def _in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
