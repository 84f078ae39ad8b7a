"""Waiting until a cache hears of changes: what is put before may not stay near."""

import time
from collections.abc import Awaitable
from typing import Any, overload

from nearcache.caches.near import NearCache
from nearcache.caches.near_async import AsyncNearCache
from nearcache.coherence.link import DEAD, State
from nearcache.engine.io import run

__all__ = ["hearing"]

_LONGEST = 1.0  # seconds; a store that cannot be heard is written to all the same
_PAUSE = 0.005


@overload
def hearing(cache: AsyncNearCache[Any, Any]) -> Awaitable[None]: ...
@overload
def hearing(cache: NearCache[Any, Any]) -> None: ...
def hearing(cache: Any) -> Any:
    """Begin to listen, and wait a second at most until the link tells of changes."""
    return run(_hearing(cache._twin)) if isinstance(cache, NearCache) else _hearing(cache)


async def _hearing(cache: AsyncNearCache[Any, Any]) -> None:
    await cache._tiers.engine.listen(cache._io)
    tracked = cache._tiers.shelf.tracked
    until = time.monotonic() + _LONGEST
    while tracked is not None and time.monotonic() < until:
        if tracked.link_state == State.TRACKING.value and tracked.epoch is not DEAD:
            return
        await cache._io.sleep(_PAUSE)
