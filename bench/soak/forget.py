"""A large group is forgotten: what it takes, and how long others wait meanwhile."""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import log
from bench.report import Judged, Report, Table
from bench.soak.long import LongReport
from nearcache import EmbeddingCache, NearCache
from servers import Server

__all__ = ["run"]

_LOOK = 0.0005


def run(*, quick: bool) -> Report:
    """Forget a tag, a model and all, near and in each store."""
    count = 10_000 if quick else 100_000
    report = LongReport("forget", f"A group of {count:,} entries is forgotten", quick)
    table = Table(
        "Another thread reads a key of another group all the while",
        ("what", "store", "forgotten in ms", "a hit before: median µs", "longest ms",
         "meanwhile and after: median µs", "longest ms"),
    )  # fmt: skip
    slower = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Server("valkey-9.1") as server:
        for name, store in (
            ("none", None),
            ("SQLite", f"sqlite:///{Path(folder)}/x.db"),
            ("Valkey", server.url),
        ):
            log(f"forget: {name}")
            for what, row in {**_values(store, count), **_rows(store, count)}.items():
                table.rows.append((what, name, *row))
                if what != "all":
                    slower.append(row[3] / row[1])
    report.tables.append(table)
    report.judged.append(
        Judged("a hit of another group meanwhile, median against before", 1.5, max(slower))
    )
    return report


def _values(store: object, count: int) -> dict[str, tuple[float, ...]]:
    found = {}
    with NearCache[str, int](
        store, namespace="forget", max_entries=2 * count, max_bytes=2**30, ttl=None
    ) as cache:
        for what, forget in {
            "a tag": lambda: cache.invalidate_by_tag("large"),
            "all": cache.clear,
        }.items():
            for at in range(0, count, 5000):
                items = {f"key {n}": n for n in range(at, min(count, at + 5000))}
                cache.put_batch(items, tags=["large"])
            cache.put("other", 1)
            found[what] = _measured(lambda: cache.get("other"), forget)
    return found


def _rows(store: object, count: int) -> dict[str, tuple[float, ...]]:
    with EmbeddingCache(
        store, namespace="forget-rows", max_entries=2 * count, max_bytes=2**30
    ) as cache:
        matrix = np.random.default_rng(0).uniform(0.1, 1, (5000, 16)).astype(np.float32)
        for at in range(0, count, 5000):
            cache.put_batch([f"text {n}" for n in range(at, at + 5000)], matrix, "large")
        cache.put("other", matrix[0], "small")
        return {
            "a model": _measured(
                lambda: cache.get("other", "small"), lambda: cache.invalidate_by_model("large")
            )
        }


def _measured(read: Callable[[], Any], forget: Callable[[], Any]) -> tuple[float, ...]:
    times: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK):
            began = time.perf_counter()
            read()
            times.append(time.perf_counter() - began)

    read()
    reader = threading.Thread(target=look)
    reader.start()
    time.sleep(1.0)
    before = times.copy()
    times.clear()
    began = time.perf_counter()
    forget()
    took = time.perf_counter() - began
    time.sleep(1.0)
    ended.set()
    reader.join()
    spread = [(1e6 * statistics.median(some), 1e3 * max(some)) for some in (before, times)]
    return (1e3 * took, *spread[0], *spread[1])
