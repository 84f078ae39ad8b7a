"""What is measured: the caches of this process, views and namesakes added up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from nearcache.engine.engine import Engine, live_engines
from nearcache.engine.tracked import Tracked
from nearcache.errors import ConfigError
from nearcache.histogram import Distribution
from nearcache.stats import Stats

__all__ = ["Observed", "engines_of", "observe"]

_BREAKERS = ("closed", "half-open", "open")


@dataclass(frozen=True, slots=True)
class Observed:
    """One cache of this process at one moment: its figures, and those of its views.

    Caches of one namespace and kind are one. ``links`` says of each link whether it hears of
    changes; there is none without a store, and none for vectors, which never change.
    """

    namespace: str
    kind: str
    stats: Stats
    latency: dict[str, Distribution]
    max_entries: int
    links: tuple[bool, ...]

    @property
    def breaker(self) -> int:
        """The worst state of a breaker: 0 closed, 1 half-open, 2 open."""
        return _BREAKERS.index(self.stats.breaker)


def engines_of(caches: Iterable[Any]) -> list[Engine]:
    """Return the engines of caches, of their views too; those of this process for no caches.

    Raises: ConfigError for what is no cache.
    """
    given = [engine for cache in caches for engine in _engines_of(cache)]
    if not given:
        return live_engines()
    tiers = {id(engine.near) for engine in given}
    views = [one for one in live_engines() if one not in given and id(one.near) in tiers]
    return [*dict.fromkeys(given), *views]


def _engines_of(cache: Any) -> list[Engine]:
    parts: Any = getattr(cache, "_parts", None)
    if hasattr(parts, "schedule"):  # a manager
        return [engine for one in parts._caches for engine in _engines_of(one)]
    for name in ("cache", "_cache"):  # a wrapped embedder; a cache on a cache
        inner = getattr(cache, name, None)
        if inner is not None:
            return _engines_of(inner)
    tiers: Any = getattr(cache, "_tiers", None)
    if isinstance(getattr(tiers, "engine", None), Engine):
        return [tiers.engine]
    msg = f"a cache of nearcache's is expected, not {type(cache).__name__}"
    raise ConfigError(msg)


def observe(engines: Iterable[Engine]) -> list[Observed]:
    """Return the caches of some engines, in order of their names."""
    found: dict[tuple[str, str], list[Engine]] = {}
    for engine in engines:
        found.setdefault((engine.namespace, engine.kind), []).append(engine)
    return [_one(*name, same) for name, same in sorted(found.items())]


def _one(namespace: str, kind: str, engines: Sequence[Engine]) -> Observed:
    tiers: set[int] = set()
    all_stats, most = [], 0
    for engine in sorted(engines, key=lambda one: one.view):
        stats = engine.stats()
        if id(engine.near) in tiers:  # which its views share
            stats = replace(stats, bytes_near=0, entries_near=0, evictions=0, expirations=0)
        else:
            tiers.add(id(engine.near))
            most += engine.near.max_entries
        all_stats.append(stats)
    meters = [engine.meter.histograms for engine in engines]
    return Observed(
        namespace,
        kind,
        reduce(_plus, all_stats),
        {name: reduce(add, (m[name].snapshot() for m in meters)) for name in meters[0]},
        most,
        tuple(
            engine.sharing.link_state == "tracking"
            for engine in engines
            if isinstance(engine.sharing, Tracked) and engine.sharing.link_state != "closed"
        ),
    )


def _plus(one: Stats, other: Stats) -> Stats:
    figures: dict[str, Any] = {
        name: getattr(one, name) + getattr(other, name)
        for name in Stats.__dataclass_fields__
        if name != "breaker"
    }
    return Stats(**figures, breaker=max(one.breaker, other.breaker, key=_BREAKERS.index))
