"""The near cache that another cache is built on: its faces, and its store."""

from collections.abc import Callable
from typing import Any

from nearcache.caches.near import NearCache
from nearcache.caches.near_async import AsyncNearCache
from nearcache.caches.values import ValueTiers
from nearcache.engine.io import IO, run

__all__ = ["ask_store", "io_of", "near_face", "near_value_of"]

Face = NearCache[Any, Any] | AsyncNearCache[Any, Any]


def near_face(kind: Any, tiers: ValueTiers) -> Any:
    """Return the face of some tiers, ``kind`` says which."""
    face: NearCache[Any, Any] = NearCache._face(tiers)
    return face if kind is NearCache else face.as_async()


def io_of(cache: Face) -> IO:
    """Return how a face waits."""
    return _asynchronous(cache)._io


def near_value_of(cache: Face) -> Callable[[Any], Any]:
    """Return what gives the value of a key that is near and may be served, or MISSING."""
    return _asynchronous(cache).near_value


def ask_store(cache: Face, method: str, *arguments: Any) -> Any:
    """Ask the store of a cache what the cache has no question for: awaited if the face is.

    None when there is no store or it does not answer. Raises: StoreError if the cache's options say
    so, ClosedError.
    """
    answer = _ask(_asynchronous(cache), method, *arguments)
    return run(answer) if isinstance(cache, NearCache) else answer


def _asynchronous(cache: Face) -> AsyncNearCache[Any, Any]:
    return cache._twin if isinstance(cache, NearCache) else cache


async def _ask(cache: AsyncNearCache[Any, Any], method: str, *arguments: Any) -> Any:
    engine = cache._tiers.engine
    await engine.listen(cache._io)
    if engine.sharing is None:
        return None
    return await engine.sharing.access.ask(cache._io, method, *arguments)
