"""What all workers of a store did, as one report: what ``stats``, ``top`` and the dashboard show.

A *worker* is a process. Its figures are as old as its last snapshot; a report adds up what its
workers said last::

    store = open_store("redis://localhost", Options())[0]
    report = read(store)  # all namespaces; or read(store, "docs")
    report.to_dict()  # the document of ``nearcache stats --json``
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import groupby
from operator import add
from typing import Any

from nearcache.engine.engine import Engine, live_engines
from nearcache.engine.snapshot import History, Identity, by_cache
from nearcache.errors import StoreError
from nearcache.histogram import Distribution
from nearcache.keys import DIRECTORY, KeySpace, board_of
from nearcache.metrics.prices import Prices
from nearcache.metrics.snapshot import Unreadable, joined, worker_of
from nearcache.metrics.workers import (
    Curve,
    Link,
    Minute,
    Worker,
    WorkerCache,
    figures,
    summed,
)
from nearcache.stats import Stats
from nearcache.stores.base import Size, Store

__all__ = [
    "LATENCIES",
    "CacheReport",
    "Curve",
    "Link",
    "Minute",
    "OfProcess",
    "Report",
    "Worker",
    "WorkerCache",
    "of_process",
    "read",
]

LATENCIES = ("near", "store", "load", "link")
"""What is timed: a near hit, a trip to the store, a loader call, a ping on the link."""

_MOST_MINUTES, _MOST_HOTTEST, _MOST_POINTS = 60, 10, 32
_CLOCKS_DIFFER = 10.0  # seconds between a worker's and the reader's
_MOST_NAMESPACES = 1000


def read(store: Store, namespace: str | None = None) -> "Report":
    """Return what the workers of a store, or of one namespace of it, said last.

    Raises: StoreError, ConfigError where that names no namespace.
    Cost: a round trip for each namespace, and two more.
    """
    roots = [] if namespace is None else [KeySpace(namespace).name]
    if namespace is None:
        listed = sorted(store.reports(DIRECTORY))[:_MOST_NAMESPACES]
        roots = [root.decode("ascii", "replace") for root in listed]
    now, store_now = time.time(), store.now()
    said: list[Worker] = []
    unreadable = 0
    for root in roots:
        for document in store.reports(board_of(root)).values():
            try:
                said.append(worker_of(document, now, store_now))
            except Unreadable:
                unreadable += 1
    size = _size(store)
    return Report(
        at=now,
        address=store.address,
        entries=size.entries,
        bytes=size.bytes,
        namespace=namespace,
        workers=joined(said),
        unreadable=unreadable,
    )


def _size(store: Store) -> Size:
    try:
        return store.size()
    except StoreError:  # a server may refuse to tell, and a store of a user's may not know
        return Size(None, None)


def of_process() -> "Report":
    """Return the same of the caches of this process, those without a store too, as of now.

    When within the last hour something was done is not known: see ``OfProcess``.
    """
    found = OfProcess().report(whole=True)
    caches = [replace(cache, minutes=()) for cache in found.workers[0].caches]
    return replace(found, workers=(replace(found.workers[0], caches=tuple(caches)),))


class OfProcess:
    """The caches of this process, and what they did by the minute since this was made.

    Whoever has it calls ``note`` every few seconds. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._identity = Identity()
        self._histories: dict[tuple[str, str], History] = {}

    def note(self) -> None:
        """Count what was done since the last time to the present minute. Cost: microseconds."""
        with self._lock:
            for history, engines in self._present():
                history.note(engines, time.time())

    def report(self, *, whole: bool = False) -> "Report":
        """Return what there is to say now.

        whole: find out at once what other sizes would hit, which takes up to a second; else a bit
            of it with each report.
        """
        with self._lock:
            now = time.time()
            caches = [
                history.says(engines, now, whole=whole) for history, engines in self._present()
            ]
        worker = worker_of(self._identity.snapshot(caches, 0.0, None), now, now)
        return Report(at=now, address="this process", workers=(worker,))

    def _present(self) -> list[tuple[History, list[Engine]]]:
        found = by_cache(engine for engine in live_engines() if not engine.closed)
        self._histories = {key: self._histories.get(key) or History(*key) for key in found}
        return [(self._histories[key], engines) for key, engines in found.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReport:
    """One cache as all its workers have it: figures added up, states counted.

    ``stats.breaker`` is the worst of all. Settings are those of the worker that started last, who
    has the newest. ``curve`` is of one near tier: the mean of all, by how much each was asked for.
    """

    namespace: str
    kind: str
    workers: int
    stats: Stats
    links: Mapping[str, int]
    policy: str = ""
    max_entries: int | None = None
    max_bytes: int | None = None
    ttl: float | None = None
    latency: Mapping[str, Distribution] = field(default_factory=dict)
    minutes: tuple[Minute, ...] = ()
    curve: Curve | None = None
    hottest: tuple[tuple[str, int], ...] = ()
    views: int = 0

    @classmethod
    def of(cls, caches: Sequence[WorkerCache], now: float) -> "CacheReport":
        """Add up what workers, in the order they started, say of the same cache.

        Units: ``now`` is a Unix time in seconds; the minutes are those of the hour before.
        """
        last = caches[-1]
        return cls(
            namespace=last.namespace,
            kind=last.kind,
            workers=len(caches),
            stats=summed(cache.stats for cache in caches),
            links=dict(Counter(cache.link.state for cache in caches)),
            policy=last.policy,
            max_entries=last.max_entries,
            max_bytes=last.max_bytes,
            ttl=last.ttl,
            latency={
                name: reduce(
                    add,
                    (cache.latency[name] for cache in caches if name in cache.latency),
                    Distribution(),
                )
                for name in LATENCIES
            },
            minutes=added_minutes((m for cache in caches for m in cache.minutes), now),
            curve=_mean_curve(caches),
            hottest=_hottest(caches),
            views=max(cache.views for cache in caches),
        )

    def to_dict(self, prices: Prices | None = None) -> dict[str, Any]:
        """Return what JSON can carry; with prices, what was saved and spent, too."""
        return {
            "namespace": self.namespace,
            "kind": self.kind,
            "workers": self.workers,
            "views": self.views,
            "policy": self.policy,
            "max_entries": self.max_entries,
            "max_bytes": self.max_bytes,
            "ttl": self.ttl,
            **figures(self.stats),
            **_money(self, prices),
            "links": dict(self.links),
            "latency": {name: _quantiles(self.latency.get(name)) for name in LATENCIES},
            "minutes": [list(minute) for minute in self.minutes],
            "curve": None if self.curve is None else self.curve.to_dict(),
            "hottest": [list(pair) for pair in self.hottest],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All workers of a store, or of one namespace of it, at one moment.

    Units: ``at`` is a Unix time by the reader's clock; ``entries`` and ``bytes`` are the whole
    store's, None where it does not say. ``unreadable``: snapshots of another release, or no
    snapshots at all.
    """

    at: float
    address: str
    namespace: str | None = None
    entries: int | None = None
    bytes: int | None = None
    workers: tuple[Worker, ...] = ()
    unreadable: int = 0
    caches: tuple[CacheReport, ...] = field(init=False)

    def __post_init__(self) -> None:
        eldest_first = sorted(self.workers, key=lambda worker: (worker.started, worker.id))
        caches = [cache for worker in eldest_first for cache in worker.caches]
        caches.sort(key=_name)
        added = tuple(CacheReport.of(list(same), self.at) for _, same in groupby(caches, _name))
        object.__setattr__(self, "caches", added)

    @property
    def stats(self) -> Stats:
        """All caches together."""
        return summed(cache.stats for cache in self.caches)

    def to_dict(self, prices: Prices | None = None) -> dict[str, Any]:
        """Return the document of ``nearcache stats --json``: what JSON can carry.

        prices: for the money that was saved and spent; without them there are no such figures.
        """
        return {
            "at": self.at,
            "store": {"address": self.address, "entries": self.entries, "bytes": self.bytes},
            "namespace": self.namespace,
            **({} if prices is None else {"currency": prices.currency}),
            "caches": [cache.to_dict(prices) for cache in self.caches],
            "workers": [worker.to_dict() for worker in self.workers],
            "unreadable": self.unreadable,
        }


def _money(cache: CacheReport, prices: Prices | None) -> dict[str, float | None]:
    """Return what was saved and spent; None where nobody said what a value costs."""
    if prices is None:
        return {}
    return {
        "saved_money": prices.money(cache.namespace, cache.stats.saved_loads),
        "spent_money": prices.money(cache.namespace, cache.stats.loads),
    }


def added_minutes(minutes: Iterable[Minute], now: float) -> tuple[Minute, ...]:
    """Add up what happened within the same minutes; the last hour of them, in order.

    The hour is the reader's: a worker whose clock is wrong hides nobody else's.
    """
    found: dict[int, list[Any]] = {}
    for minute, *counts in minutes:
        before = found.get(minute)
        found[minute] = counts if before is None else list(map(add, before, counts))
    first, last = int(now // 60) - _MOST_MINUTES + 1, int((now + _CLOCKS_DIFFER) // 60)
    hour = sorted(minute for minute in found if first <= minute <= last)
    return tuple(Minute(minute, *found[minute]) for minute in hour[-_MOST_MINUTES:])


def _name(cache: WorkerCache) -> tuple[str, str]:
    return cache.namespace, cache.kind


def _quantiles(found: Distribution | None) -> dict[str, Any]:
    found = found or Distribution()
    return {
        "count": found.count,
        "mean": found.mean,
        "p50": found.quantile(0.5),
        "p90": found.quantile(0.9),
        "p99": found.quantile(0.99),
    }


def _hottest(caches: Sequence[WorkerCache]) -> tuple[tuple[str, int], ...]:
    counts: Counter[str] = Counter()
    for cache in caches:
        for key, count in cache.hottest:
            counts[key] += count
    return tuple(counts.most_common(_MOST_HOTTEST))


def _mean_curve(caches: Sequence[WorkerCache]) -> Curve | None:
    known = [
        (cache.curve, cache.stats.hits + cache.stats.misses + cache.stats.coalesced)
        for cache in caches
        if cache.curve is not None
    ]
    # whose curve is of its own policy knows more than whose is of LRU
    own = [(curve, asked) for curve, asked in known if curve.really is not None]
    own = [(curve, asked) for curve, asked in own if curve.policy == own[-1][0].policy]
    known = own or known
    whole = sum(asked for _, asked in known)
    if not whole:
        return known[-1][0] if known else None
    sizes = sorted({size for curve, _ in known for size, _ in curve.points})
    if len(sizes) > _MOST_POINTS:
        step = (len(sizes) - 1) / (_MOST_POINTS - 1)
        sizes = [sizes[round(i * step)] for i in range(_MOST_POINTS)]

    def mean(ratios: Iterable[float]) -> float:
        return sum(ratio * asked for ratio, (_, asked) in zip(ratios, known, strict=True)) / whole

    curves = [curve for curve, _ in known]
    last = curves[-1]
    points = [(size, mean(curve.hit_ratio(size) for curve in curves)) for size in sizes]
    return Curve(
        tuple(points),
        last.size,
        policy=last.policy,
        really=mean(curve.really or 0.0 for curve in curves) if own else None,
        requests=sum(curve.requests for curve in curves),
        others={
            name: mean(curve.others[name] for curve in curves)
            for name in last.others
            if all(name in curve.others for curve in curves)
        },
    )
