"""What the integrations that keep values share: both faces of one cache, and an end."""

from types import TracebackType
from typing import Any, Self

from nearcache.caches.near import NearCache
from nearcache.caches.near_async import AsyncNearCache
from nearcache.clock import monotonic
from nearcache.engine.warn import Warnings
from nearcache.stats import Stats

__all__ = ["Values"]


class Values:
    """A cache of values under both faces, closed with ``close`` or ``aclose``."""

    _cache: NearCache[Any, Any]
    _async_cache: AsyncNearCache[Any, Any]

    def _set(self, cache: NearCache[Any, Any]) -> None:
        self._cache, self._async_cache = cache, cache.as_async()
        self._say = Warnings(monotonic).say

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._cache.get_stats()

    def close(self) -> None:
        """End: close the store if it was given as a URL. May be called again."""
        self._cache.close()

    async def aclose(self) -> None:
        """End, for asynchronous programs."""
        await self._async_cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return repr(self._cache).replace("NearCache", type(self).__name__, 1)
