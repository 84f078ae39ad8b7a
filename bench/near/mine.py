"""nearcache's tiers for any value as contestants of one key, and a hot cache's get on top."""

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.near.laps import Loop, calls, own
from bench.near.peers import TTL, VALUE, Peer
from bench.near.tiers import object_tier
from nearcache.clock import monotonic

__all__ = ["Hot", "MemoryKey", "hot_cache", "tier_peer"]


class MemoryKey(NamedTuple):
    """The key of a memory, as an agent's memory service names it."""

    memory_type: str
    memory_id: str
    scope: str | None = None


class Hot:
    """The least public face over a tier: a key's three parts, a default, the tier's own counts."""

    def __init__(self, tier: Any) -> None:
        self._tier = tier

    def get(self, key: MemoryKey, default: Any = None) -> Any:
        return self._tier.get(key, default)

    def put(self, key: MemoryKey, value: Any) -> None:
        self._tier.put(key, value, monotonic() + TTL, 300)


def _puts(put: Callable[..., object]) -> Loop:
    def loop(keys: list[Any]) -> None:
        for key in keys:
            put(key, VALUE, monotonic() + TTL, 200)

    return own(loop)


def _puts_until(put: Callable[..., object], end: float) -> Loop:
    def loop(keys: list[Any]) -> None:
        for key in keys:
            put(key, VALUE, end, 200)

    return own(loop)


def tier_peer(core: str, policy: str, size: int) -> tuple[Peer, Loop]:
    """Return a tier whose entries live for an hour, and its put with the end known beforehand."""
    tier = object_tier(core, policy, size)
    get = calls(tier.get)
    peer = Peer(f"nearcache {core}, {policy}, TTL", get, calls(tier.get), _puts(tier.put))
    return peer, _puts_until(tier.put, monotonic() + TTL)


def hot_cache(core: str, policy: str, size: int) -> tuple[Peer, Callable[..., Any]]:
    """Return the public get of a hot cache, and what makes its keys.

    It is nearcache's own HotMemoryCache where that is there and has this core, else :class:`Hot`.
    """
    try:
        from nearcache import HotMemoryCache
        from nearcache import MemoryKey as Key
        from nearcache.near import pick
    except ImportError:
        pass
    else:
        if core == pick.core()[0]:
            cache = HotMemoryCache(max_entries=size, ttl=TTL, policy=policy)
            return _face(f"HotMemoryCache.get, {core}, {policy}", cache), Key
    return _face(f"a hot cache's get, {core}, {policy}", Hot(object_tier(core, policy, size))), (
        MemoryKey
    )


def _face(name: str, cache: Any) -> Peer:
    def puts(keys: list[Any]) -> None:
        for key in keys:
            cache.put(key, VALUE if isinstance(cache, Hot) else 1)

    return Peer(name, calls(cache.get), calls(cache.get), own(puts))
