"""How often a hot memory, and repeated content, is where it is asked for."""

import itertools
from collections import Counter
from typing import Any

import numpy as np

from bench import data
from bench.machine import log
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_KEYS, _CAPACITY = 100_000, 20_000
_TEXTS, _ASKED = 2_000, 40_000


def measure(report: Report, *, quick: bool) -> None:
    """Play Zipf(1.0) requests through full caches, then embed texts that come again."""
    log("memory: hit rates")
    _hot(report, 100_000 if quick else 500_000)
    _content(report, _ASKED)


def _zipf(count: int, keys: int, seed: int) -> list[int]:
    """Return requests for keys, the k-th in proportion to 1/k."""
    shares = np.cumsum(1 / np.arange(1, keys + 1))
    drawn = np.random.default_rng(seed).random(count) * shares[-1]
    return np.searchsorted(shares, drawn).tolist()


def _hot(report: Report, count: int) -> None:
    from nearcache import HotMemoryCache, MemoryKey
    from nearcache.near.policies.base import NAMES

    keys = [MemoryKey("episodic", str(number), "team") for number in range(_KEYS)]
    warm, asked = _zipf(count, _KEYS, 1), _zipf(count, _KEYS, 2)
    perfect = sum(1 / k for k in range(1, _CAPACITY + 1)) / sum(1 / k for k in range(1, _KEYS + 1))
    table = Table(
        f"Hot memories: Zipf(1.0) over {_KEYS:,} keys, room for {_CAPACITY:,}, "
        f"{count:,} requests after as many to warm up",
        ["policy", "hit rate, %", "loads"],
    )
    table.rows.append(["perfect: always the most popular", 100 * perfect, ""])
    for policy in sorted(NAMES, key=lambda name: name != "adaptive"):
        with HotMemoryCache[Any](max_entries=_CAPACITY, ttl=None, policy=policy) as hot:
            for number in warm:
                hot.get_or_load(keys[number], lambda: 1)
            hot.reset_stats()
            loads = itertools.count()
            for number in asked:
                hot.get_or_load(keys[number], lambda loads=loads: next(loads))
            stats = hot.get_stats()
        if stats.loads != next(loads) or stats.hits + stats.loads != count:
            raise ArithmeticError("the statistics are not what the loader saw")
        table.rows.append([policy, 100 * stats.hit_rate, stats.loads])
        if policy == "adaptive":
            goal = "hot memories, Zipf(1.0), 20 % capacity: hit rate after warm-up"
            report.judged.append(Judged(goal, 80, 100 * stats.hit_rate, "%", at_least=True))
    report.tables.append(table)


def _content(report: Report, count: int) -> None:
    from nearcache import EmbeddingCache

    texts = list(data.passages(_TEXTS))
    sent = Counter[str]()

    def model(asked: list[str]) -> Any:
        sent.update(asked)
        return np.stack([data.fake_vector(text) for text in asked])

    with EmbeddingCache() as cache:
        embed = cache.wrap(model, model="m")
        for number in _zipf(count, _TEXTS, 3):
            embed(texts[number])
        stats = cache.get_stats()
    if sent and max(sent.values()) > 1:
        raise ArithmeticError("a text reached the model twice")
    table = Table(
        f"Repeated content: {count:,} requests, Zipf(1.0), for {_TEXTS:,} texts, from cold",
        ["hit rate, %", "model calls", "distinct texts asked for"],
        [[100 * stats.hit_rate, stats.loads, len(sent)]],
    )
    report.tables.append(table)
    goal = "repeated content: hit rate"
    report.judged.append(Judged(goal, 90, 100 * stats.hit_rate, "%", at_least=True))
    report.notes.append(f"Repeated content is {data.source()}.")
