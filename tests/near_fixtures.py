"""Fixtures of the NearCache tests: both faces, every kind of store, a source of values that counts.

A module that wants caches closed after each test says so::

    near = pytest.fixture(near_caches)
"""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from embedders import Face, until
from nearcache import AsyncNearCache, NearCache, Options
from nearcache.caches.values import ValueTiers
from nearcache.coherence.link import DEAD

__all__ = [
    "SPACE",
    "Source",
    "begun",
    "linked",
    "links",
    "near_caches",
    "near_with_clock",
    "settled",
    "sockets",
]

SPACE = "near"


def near_caches() -> Iterator[Callable[..., Face]]:
    """Make caches that are closed afterwards: ``near(face, store, **options)``."""
    made: list[Face] = []

    def make(face: str = "sync", store: Any = None, **options: Any) -> Face:
        cls = {"sync": NearCache, "async": AsyncNearCache}[face]
        made.append(Face(cls(store, **{"namespace": SPACE, **options})))
        return made[-1]

    yield make
    for one in made:
        one.close()


def near_with_clock(
    clock: Callable[[], float], store: Any = None, face: str = "sync", **given: Any
) -> Face:
    """A cache whose near tier lives by ``clock``."""
    arguments: dict[str, Any] = {
        "store": store,
        "namespace": SPACE,
        "codec": "json",
        "type": None,
        "max_entries": 10_000,
        "max_bytes": None,
        "ttl": 300.0,
        "policy": "lru",
        "options": Options(),
    }
    cache: NearCache[Any, Any] = NearCache._face(ValueTiers({**arguments, **given}, clock=clock))
    return Face(cache if face == "sync" else cache.as_async())


def linked(*caches: Any) -> None:
    """Have each cache listen, and wait until it has been told that it hears of changes."""

    def hears(cache: Any) -> bool:
        tracked = cache._tiers.shelf.tracked
        return tracked is None or (cache.link == "tracking" and tracked.epoch is not DEAD)

    for cache in caches:
        cache.get("nothing is kept under this key")
        until(lambda cache=cache: hears(cache))


def begun(near: Callable[..., Face], face: str, store: Any, **options: Any) -> Face:
    """A new cache that listens, in a namespace that another one has created before."""
    near(face, store, **options).put("begun", 1)
    cache = near(face, store, **options)
    linked(cache)
    cache.reset_stats()
    return cache


def settled(cache: Any, key: Any) -> None:
    """Wait until a key is near, verified, and stays so."""

    def is_hit() -> bool:
        before = cache.get_stats().near_hits
        cache.get(key)
        return cache.get_stats().near_hits == before + 1

    until(is_hit)


class Source:
    """Where values come from: a loader that counts, with a value per version of its own."""

    def __init__(self, before: Callable[[], Any] | None = None) -> None:
        self.before = before
        self.version = 1
        self.lock = threading.Lock()
        self.calls: Counter[Any] = Counter()

    def value(self, key: Any) -> Any:
        return f"{key}@{self.version}"

    def __call__(self, key: Any = "key") -> Any:
        with self.lock:
            self.calls[key] += 1
            value = self.value(key)
        if self.before is not None:
            self.before()
        return value

    def many(self, keys: list[Any]) -> dict[Any, Any]:
        return {key: self(key) for key in keys}

    def of(self, face: str, key: Any = "key") -> Callable[[], Any]:
        """A loader of one key: a plain function, or a coroutine function."""
        if face == "sync":
            return lambda: self(key)

        async def load() -> Any:
            return await asyncio.to_thread(self, key)

        return load


def links() -> list[threading.Thread]:
    """The threads of links in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "nearcache-link"]


def sockets() -> int:
    """How many sockets this process has open."""
    gc.collect()
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except OSError:  # closed since it was listed
            continue
    return count
