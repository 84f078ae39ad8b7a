"""Caches of one key in memory, as their documentation shows them, each with one way to call it."""

import asyncio
import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bench.near.laps import Loop, awaits, calls, items, own

__all__ = ["TTL", "VALUE", "Locked", "Peer", "peers", "sets"]

TTL = 3600.0
VALUE = object()


@dataclass(frozen=True, slots=True)
class Peer:
    """Three loops of one cache; None where it has no such operation."""

    name: str
    hit: Loop
    miss: Loop | None
    put: Loop | None


class Locked:
    """OrderedDict + lock + TTL, by hand: the yardstick of the pure tier."""

    def __init__(self, size: int) -> None:
        self._kept: OrderedDict[Any, tuple[Any, float]] = OrderedDict()
        self._size = size
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def get(self, key: Any, default: Any = None) -> Any:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
                return default
            value, end = found
            if end <= time.monotonic():
                del self._kept[key]
                self.misses += 1
                return default
            self._kept.move_to_end(key)
            self.hits += 1
            return value

    def put(self, key: Any, value: Any) -> None:
        with self._lock:
            self._kept[key] = value, time.monotonic() + TTL
            self._kept.move_to_end(key)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)


def sets(cache: Any) -> Loop:
    """Return the loop that writes ``cache[key] = value``."""

    def loop(keys: list[Any]) -> None:
        for key in keys:
            cache[key] = VALUE

    return own(loop)


def _puts(put: Callable[[Any, Any], object]) -> Loop:
    def loop(keys: list[Any]) -> None:
        for key in keys:
            put(key, VALUE)

    return own(loop)


def _puts_with(put: Callable[[Any, Any, Any], object], ttl: Any) -> Loop:
    def loop(keys: list[Any]) -> None:
        for key in keys:
            put(key, VALUE, ttl)

    return own(loop)


def peers(size: int, stack: ExitStack) -> list[Peer]:
    """Return every peer, empty, with room for ``size`` entries."""
    return [
        *_standard(size),
        *_cachebox(size),
        *_other_natives(size, stack),
        *_pythons(size, stack),
    ]


def _standard(size: int) -> list[Peer]:
    kept: dict[Any, Any] = {}
    cached = functools.lru_cache(maxsize=size)(lambda _key: VALUE)
    locked = Locked(size)
    return [
        Peer("dict (never evicts)", calls(kept.get), calls(kept.get), sets(kept)),
        Peer("functools.lru_cache", calls(cached), None, calls(cached)),
        Peer(
            "OrderedDict + lock + TTL, by hand",
            calls(locked.get),
            calls(locked.get),
            _puts(locked.put),
        ),
    ]


def _cachebox(size: int) -> list[Peer]:
    import cachebox

    lru, ttl = cachebox.LRUCache(size), cachebox.TTLCache(size, TTL)
    each = cachebox.VTTLCache(size)
    puts = [sets(lru), sets(ttl), _puts_with(each.insert, TTL)]
    found = []
    for name, cache, put in zip(("LRU", "TTL", "VTTL"), (lru, ttl, each), puts, strict=True):
        found.append(Peer(f"cachebox {name}", calls(cache.get), calls(cache.get), put))
        found.append(Peer(f"cachebox {name}, cache[key]", items(cache), None, None))
    return found


def _other_natives(size: int, stack: ExitStack) -> list[Peer]:
    import lru
    import moka_py
    import theine

    moka = moka_py.Moka(size, ttl=TTL)
    tiny = theine.Cache(size)
    stack.callback(tiny.close)
    plain = lru.LRU(size)
    hour = timedelta(seconds=TTL)
    return [
        Peer("moka-py, TTL", calls(moka.get), calls(moka.get), _puts(moka.set)),
        Peer("theine, TTL", calls(tiny.get), calls(tiny.get), _puts_with(tiny.set, hour)),
        Peer("lru-dict", calls(plain.get), calls(plain.get), sets(plain)),
    ]


def _pythons(size: int, stack: ExitStack) -> list[Peer]:
    import cachetools
    import cashews

    kept, lock = cachetools.TTLCache(size, TTL), threading.Lock()

    def get(key: Any) -> Any:
        with lock:
            return kept.get(key)

    def put(key: Any, value: Any) -> None:
        with lock:
            kept[key] = value

    runner = stack.enter_context(asyncio.Runner())
    cache = cashews.Cache()
    cache.setup(f"mem://?size={size}&check_interval=60")
    stack.callback(lambda: runner.run(cache.close()))

    async def set_(key: Any) -> None:
        await cache.set(key, VALUE, TTL)

    return [
        Peer("cachetools TTL + lock", calls(get), calls(get), _puts(put)),
        Peer(
            "cashews, in memory, await",
            awaits(cache.get, runner),
            awaits(cache.get, runner),
            awaits(set_, runner),
        ),
    ]
