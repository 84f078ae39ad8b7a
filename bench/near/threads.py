"""Hits from four threads at once, against the throughput of one."""

import statistics
import threading
from time import perf_counter
from typing import Any

from bench.machine import log
from bench.near.laps import calls
from bench.near.peers import TTL, VALUE
from bench.near.tiers import CORES, object_tier
from bench.report import Judged, Report, Table
from nearcache.clock import monotonic

__all__ = ["measure"]

_THREADS = 4


def measure(report: Report, policy: str, keys: list[Any], *, quick: bool) -> None:
    """Add a table of throughputs, and what is judged of them."""
    seconds, turns = (0.1, 3) if quick else (0.5, 9)
    table = Table(
        f"Hits from threads: {turns} turns of {seconds} s each",
        ["", "one thread, million/s", f"{_THREADS} threads, million/s", "× one thread"],
    )
    for core in CORES:
        log(f"near.single: threads, {core}")
        tier = object_tier(core, policy, len(keys))
        for key in keys:
            tier.put(key[:1] + key[1:], VALUE, monotonic() + TTL, 200)
        one, many = [], []
        for _ in range(turns):
            one.append(_throughput(tier, keys, 1, seconds))
            many.append(_throughput(tier, keys, _THREADS, seconds))
        single, together = statistics.median(one), statistics.median(many)
        name = f"nearcache {core}, {policy}, TTL"
        table.rows.append([name, single / 1e6, together / 1e6, together / single])
        what = f"{_THREADS} threads of hits, {core}, against one"
        report.judged.append(Judged(what, 0.6, together / single, at_least=True))
    report.tables.append(table)


def _throughput(tier: Any, keys: list[Any], count: int, seconds: float) -> float:
    """Return the hits per second of ``count`` threads together."""
    barrier = threading.Barrier(count)
    done: list[tuple[int, float]] = []

    def work() -> None:
        loop, laps = calls(tier.get), 0
        barrier.wait()
        start = perf_counter()
        end = start + seconds
        while perf_counter() < end:
            loop(keys)
            laps += 1
        done.append((laps * len(keys), perf_counter() - start))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(hits for hits, _ in done) / max(taken for _, taken in done)
