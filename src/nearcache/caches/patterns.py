"""Forgetting the memories whose keys match globs, in both tiers and every process."""

import re
from collections.abc import Awaitable, Iterable, Sequence
from fnmatch import translate
from itertools import islice
from typing import Any, overload

from nearcache.caches.access_counts import AccessCounts
from nearcache.caches.near import NearCache
from nearcache.caches.near_async import AsyncNearCache
from nearcache.engine.io import run
from nearcache.errors import ConfigError

__all__ = ["Pattern", "forget_matching"]

_AT_ONCE = 100  # keys between two turns of the event loop: about a millisecond
_PAGE = 250  # names the store looks at for one answer
_FORGOTTEN = 100  # keys per command
_GLOB = re.compile(r"[*?\[]")


class Pattern:
    """Globs for the parts of a memory's key, as of ``fnmatch.fnmatchcase``: ``* ? [seq] [!seq]``.

    A memory without a scope matches the scope "*" and no other.
    """

    def __init__(self, memory_type: str, memory_id: str, scope: str) -> None:
        globs = {"memory_type": memory_type, "memory_id": memory_id, "scope": scope}
        for name, glob in globs.items():
            if not isinstance(glob, str) or not glob:
                msg = f'{name} is a glob, not empty ("*" matches all); not {type(glob).__name__}'
                raise ConfigError(msg)
        self._globs = tuple(map(str.__str__, globs.values()))
        # None: whatever there is
        self._parts = [None if g == "*" else re.compile(translate(g)).match for g in self._globs]

    @property
    def everything(self) -> bool:
        """Whether it matches every key."""
        return self._globs == ("*", "*", "*")

    @property
    def only_type(self) -> str | None:
        """The type, if it matches all of one type and nothing else."""
        memory_type, *rest = self._globs
        return memory_type if rest == ["*", "*"] and not _GLOB.search(memory_type) else None

    @property
    def only_scope(self) -> str | None:
        """The scope, if it matches all of one scope and nothing else."""
        *rest, scope = self._globs
        return scope if rest == ["*", "*"] and not _GLOB.search(scope) else None

    def matches(self, key: Any) -> bool:
        """Say whether a key, (type, id) or (type, id, scope), matches."""
        if not isinstance(key, tuple) or len(key) not in (2, 3):
            return False
        for match, part in zip(self._parts, (*key, None), strict=False):
            if match is not None and (not isinstance(part, str) or match(part) is None):
                return False
        return True


@overload
def forget_matching(
    cache: "AsyncNearCache[Any, Any]", pattern: Pattern, counts: AccessCounts
) -> Awaitable[int]: ...
@overload
def forget_matching(
    cache: "NearCache[Any, Any]", pattern: Pattern, counts: AccessCounts
) -> int: ...
def forget_matching(cache: Any, pattern: Pattern, counts: AccessCounts) -> Any:
    """Forget what matches; return how many there were.

    First what is near or being loaded here, then what the store has or any process is loading, in
    batches. A store that does not answer cannot be searched: everything is forgotten then, which
    reaches it later.
    """
    if isinstance(cache, NearCache):
        return run(_Search(cache._twin, pattern, counts).forget())
    return _Search(cache, pattern, counts).forget()


class _Search:
    def __init__(
        self, cache: "AsyncNearCache[Any, Any]", pattern: Pattern, counts: AccessCounts
    ) -> None:
        self._cache = cache
        self._pattern = pattern
        self._counts = counts

    async def forget(self) -> int:
        tiers = self._cache._tiers
        shelf, flights = tiers.shelf, tiers.engine.flights
        await tiers.engine.listen(self._cache._io)
        # a load under way before the near tier: it may land meanwhile
        with flights.lock:
            loading = list(flights._flights)
        done = await self._forget_these(map(shelf.keys.key, loading))
        done += await self._forget_these(
            key for space, key, _ in shelf.near._entries() if space is shelf.name
        )
        if tiers.engine.sharing is not None:
            done += await self._forget_stored()
        await self._forget_these(self._counts.keys(), counted=True)
        return done

    async def _forget_these(self, keys: Iterable[Any], *, counted: bool = False) -> int:
        """Forget the keys that match; those that are only ``counted`` are in no tier."""
        left, done = iter(keys), 0
        found: list[Any] = []
        while some := list(islice(left, _AT_ONCE)):
            found += filter(self._pattern.matches, some)
            while len(found) >= _FORGOTTEN:
                part, found = found[:_FORGOTTEN], found[_FORGOTTEN:]
                done += await self._forget_part(part, counted=counted)
            await self._cache._io.sleep(0)
        return done + await self._forget_part(found, counted=counted)

    async def _forget_part(self, keys: Sequence[Any], *, counted: bool = False) -> int:
        try:
            return 0 if counted or not keys else await self._cache.invalidate_batch(keys)
        finally:  # afterwards: what is found meanwhile must not make it hot
            self._counts.forget(keys)

    async def _forget_stored(self) -> int:
        tiers, io = self._cache._tiers, self._cache._io
        keys, sharing = tiers.shelf.keys, tiers.engine.sharing
        assert sharing is not None, "there is a store"
        start = (b"nc1:{%b:" % keys.space, b"}:k:t")  # all keys that are tuples
        cursor, done = 0, 0
        while True:
            page = await sharing.access.ask(io, "scan", start, cursor, _PAGE, leases=True)
            if page is None:
                done += await self._cache.clear()
                self._counts.clear()
                return done
            cursor, names = page
            done += await self._forget_these(map(keys.key, names))
            if not cursor:
                return done
