"""Fixtures of the HotMemoryCache tests: both faces, every kind of store.

A module that wants caches closed after each test says so::

    hot = pytest.fixture(hot_caches)
"""

from collections.abc import Callable, Iterator
from typing import Any

from embedders import Face, until
from near_fixtures import linked as near_linked
from nearcache.caches.access_counts import AccessCounts
from nearcache.caches.hot import HotMemoryCache
from nearcache.caches.hot_async import AsyncHotMemoryCache
from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.near import NearCache
from nearcache.caches.values import ValueTiers
from nearcache.options import Options

__all__ = ["A", "B", "C", "hot_caches", "hot_with_clock", "is_near", "linked", "settled", "work"]

A = MemoryKey("episodic", "a", "alice")
B = MemoryKey("episodic", "b", "bob")
C = MemoryKey("semantic", "c")


def hot_caches() -> Iterator[Callable[..., Face]]:
    """Make caches that are closed afterwards: ``hot(face, store, **options)``."""
    made: list[Face] = []

    def make(face: str = "sync", store: Any = None, **options: Any) -> Face:
        cls = {"sync": HotMemoryCache, "async": AsyncHotMemoryCache}[face]
        made.append(Face(cls(store, **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def hot_with_clock(
    clock: Callable[[], float], store: Any = None, face: str = "sync", **given: Any
) -> Face:
    """A cache whose near tier lives by ``clock``."""
    tiers = ValueTiers(
        {
            "store": store,
            "namespace": "hot",
            "codec": "json",
            "type": None,
            "max_entries": 10_000,
            "max_bytes": None,
            "ttl": 300.0,
            "policy": "lru",
            "options": Options(),
            **given,
        },
        clock=clock,
    )
    cache: HotMemoryCache[Any] = HotMemoryCache._face(NearCache._face(tiers), AccessCounts())
    return Face(cache if face == "sync" else cache.as_async())


def inner(cache: Any) -> NearCache:
    """The cache below."""
    return getattr(cache, "thing", cache).as_sync()._cache


def linked(*caches: Any) -> None:
    """Have each cache listen, and wait until it has been told that it hears of changes."""
    near_linked(*map(inner, caches))


def settled(cache: Any, key: MemoryKey) -> None:
    """Wait until a key is near, verified, and stays so."""

    def is_hit() -> bool:
        before = cache.get_stats().near_hits
        cache.get(key)
        return cache.get_stats().near_hits == before + 1

    until(is_hit)


def is_near(cache: Any, key: MemoryKey) -> bool:
    """Whether a get would be answered from near now."""
    found = cache.admin.inspect(key)
    return found is not None and found["servable"]


def work(counts: dict[str, int]) -> dict[str, int]:
    """What users' calls cost: commands, without those of connections and of the link."""
    own = (
        "hello", "client|setinfo", "client|setname", "client|tracking", "client|id", "select",
        "ping", "time", "script|load",
    )  # fmt: skip
    return {name: count for name, count in counts.items() if name not in own}
