"""Everything that is exported, once: names, units, and where each figure comes from.

Prometheus and OpenTelemetry are two spellings of this list: ``lookups`` is ``nearcache.lookups``
here and ``nearcache_lookups_total`` there. No label holds what callers choose without bound: no
keys, no models, no views.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from nearcache.histogram import BOUNDS
from nearcache.metrics.observed import Observed
from nearcache.metrics.prices import Prices

__all__ = ["LATENCIES", "MEASURES", "Latency", "Measure", "Point"]

Point = tuple[dict[str, str], float]
Read = Callable[[Observed, Prices | None], Iterable[Point]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One name, its unit as OpenTelemetry writes units, and how to read its points."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    about: str
    read: Read


@dataclass(frozen=True, slots=True)
class Latency:
    """One histogram of ``engine.meter``. Units: seconds."""

    name: str
    about: str
    bounds: tuple[float, ...]


def _field(field: str) -> Read:
    return lambda cache, _: [({}, getattr(cache.stats, field))]


def _lookups(cache: Observed, _: Prices | None) -> Iterable[Point]:
    stats = cache.stats
    for result, tier, count in (
        ("hit", "near", stats.near_hits),
        ("hit", "store", stats.far_hits),
        ("hit", "stale", stats.stale_hits),
        ("coalesced", "none", stats.coalesced),
        ("miss", "none", stats.misses),
    ):
        yield {"result": result, "tier": tier}, count


def _link(cache: Observed, _: Prices | None) -> Iterable[Point]:
    if cache.links:
        yield {}, float(all(cache.links))


def _spent(cache: Observed, prices: Prices | None) -> Iterable[Point]:
    return _money(cache, prices, cache.stats.loads)


def _saved(cache: Observed, prices: Prices | None) -> Iterable[Point]:
    return _money(cache, prices, cache.stats.saved_loads)


def _money(cache: Observed, prices: Prices | None, values: int) -> Iterable[Point]:
    money = None if prices is None else prices.money(cache.namespace, values)
    if money is not None and prices is not None:
        yield {"currency": prices.currency}, money


_V, _S, _B = "{value}", "s", "By"

MEASURES: tuple[Measure, ...] = (
    Measure("lookups", "counter", _V, "Values asked for, by result and tier.", _lookups),
    Measure("loads", "counter", _V, "Values that reached the loader.", _field("loads")),
    Measure(
        "load.failures", "counter", "{call}", "Loader calls that raised.", _field("load_failures")
    ),
    Measure(
        "saved.loads", "counter", _V, "Values that were not loaded again.", _field("saved_loads")
    ),
    Measure(
        "saved.seconds",
        "gauge",
        _S,
        "Saved loads at the mean time of a load; falls when loads get faster.",
        _field("saved_seconds"),
    ),
    Measure("saved.bytes", "counter", _B, "Bytes of saved loads.", _field("bytes_saved")),
    Measure("saved.money", "counter", "{money}", "Saved loads at the prices given.", _saved),
    Measure("spent.money", "counter", "{money}", "Loads at the prices given.", _spent),
    Measure(
        "store.errors",
        "counter",
        "{error}",
        "Failed questions to the store.",
        _field("store_errors"),
    ),
    Measure("corrupt", "counter", _V, "Stored entries that did not verify.", _field("corrupt")),
    Measure("evictions", "counter", _V, "Near entries that made room.", _field("evictions")),
    Measure("expirations", "counter", _V, "Near entries that expired.", _field("expirations")),
    Measure(
        "invalidations", "counter", _V, "Keys and groups forgotten here.", _field("invalidations")
    ),
    Measure(
        "undelivered", "gauge", _V, "Invalidations that wait for the store.", _field("undelivered")
    ),
    Measure("unwritten", "gauge", _V, "Loads that wait for the store.", _field("unwritten")),
    Measure("entries", "gauge", _V, "Near entries.", _field("entries_near")),
    Measure("bytes", "gauge", _B, "Bytes of near entries.", _field("bytes_near")),
    Measure(
        "max.entries", "gauge", _V, "Near entries at most.", lambda c, _: [({}, c.max_entries)]
    ),
    Measure(
        "breaker",
        "gauge",
        "1",
        "The store: 0 asked, 1 being tried, 2 left alone.",
        lambda c, _: [({}, c.breaker)],
    ),
    Measure("link", "gauge", "1", "Whether changes are heard: 1, or 0.", _link),
)


def _steps(least: float, most: float) -> tuple[float, ...]:
    return tuple(bound for bound in BOUNDS if least <= bound <= most)


LATENCIES: tuple[Latency, ...] = (
    Latency("near", "Time of a near hit, one of 2048 measured.", _steps(1e-7, 1e-2)),
    Latency("store", "Time of a question to the store.", _steps(1e-5, 10)),
    Latency("load", "Time of a loader call.", _steps(1e-3, 100)),
    Latency("link", "Time until a change is heard, at most: a ping's.", _steps(1e-4, 10)),
    Latency("staleness", "Age beyond its end of a stale answer.", _steps(1e-1, 100)),
)
"""Histograms, with the part of ``nearcache.histogram.BOUNDS`` that matters: less is exported."""
