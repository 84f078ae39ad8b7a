"""The cache of an agent's hot memories for asynchronous programs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from nearcache.caches.access_counts import AccessCounts
from nearcache.caches.cached import Decorator, Tags, decorate
from nearcache.caches.checks import Ttl
from nearcache.caches.hot_admin import HotAdmin
from nearcache.caches.hot_loaders import (
    batch_loader,
    by_implied_tags,
    implied_tags,
    pairs_of,
    single_loader,
    split_tags,
    user_tags,
)
from nearcache.caches.listening import hearing
from nearcache.caches.memory_key import MemoryKey, check_part, inner_key
from nearcache.caches.near_async import AsyncNearCache
from nearcache.caches.patterns import Pattern, forget_matching
from nearcache.caches.tiers import describe, remake, travelling
from nearcache.entry import MISSING
from nearcache.errors import ConfigError
from nearcache.events import Subscriber
from nearcache.near.policies.base import Policy
from nearcache.options import Options, check_count
from nearcache.stats import Stats

if TYPE_CHECKING:
    from nearcache.caches.hot import HotMemoryCache  # swapped

__all__ = ["AsyncHotMemoryCache"]

V = TypeVar("V")

Items = Mapping[MemoryKey, V] | Iterable[tuple[MemoryKey, V]]


class AsyncHotMemoryCache(Generic[V]):
    """An agent's memories in two tiers: near (this process) and a store that others share.

    A memory is kept under a ``MemoryKey``: type, id, scope. It is forgotten by its key, with its
    type or scope, with a tag, or by a pattern, in both tiers and every process. Each time one is
    found counts, for ``get_hot_memories``; the counts are this process's own.

    Parameters, values and promises are those of ``NearCache``. Thread-safe.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "hot",
        codec: object = "json",
        type: object = None,  # noqa: A002  what the codecs of others call it
        max_entries: int = 10_000,
        max_bytes: int | None = None,
        ttl: float | None = 300.0,
        policy: str | Policy = "adaptive",
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        cache: AsyncNearCache[tuple[str, ...], V] = AsyncNearCache(
            store,
            namespace=namespace,
            codec=codec,
            type=type,
            max_entries=max_entries,
            max_bytes=max_bytes,
            ttl=ttl,
            policy=policy,
            options=options,
        )
        counts = AccessCounts()
        cache._tiers.serve("HotMemoryCache")
        cache._tiers.engine.hottest = counts.most_counted
        cache._tiers.engine.after_fork.append(counts.start_anew)
        self._set(cache, counts)

    def _set(self, cache: AsyncNearCache[tuple[str, ...], V], counts: AccessCounts) -> None:
        self._cache, self._counts = cache, counts
        # what a near hit needs, close at hand
        self._near_value = cache.as_async().near_value
        self._count = counts.add

    @classmethod
    def _face(
        cls, cache: AsyncNearCache[tuple[str, ...], V], counts: AccessCounts
    ) -> "AsyncHotMemoryCache[V]":
        face = cls.__new__(cls)
        face._set(cache, counts)
        return face

    def as_sync(self) -> "HotMemoryCache[V]":  # swapped
        """Return the blocking face of this same cache."""
        from nearcache.caches.hot import HotMemoryCache

        return HotMemoryCache._face(self._cache.as_sync(), self._counts)

    def as_async(self) -> "AsyncHotMemoryCache[V]":  # swapped
        """Return this cache."""
        return self

    def view(self, name: str) -> "AsyncHotMemoryCache[V]":
        """Return the same cache under a sub-namespace that nothing outside can name."""
        return self._face(self._cache.view(name), self._counts.inside(name))

    # -- get ---------------------------------------------------------------------------------

    async def get(
        self, key: MemoryKey, default: Any = None, *, max_staleness: float | None = None
    ) -> Any:
        """Return a memory, or ``default``.

        max_staleness: seconds the answer may be behind; 0 reads through.
        """
        inner = key.inner if type(key) is MemoryKey else inner_key(key)
        value = self._near_value(inner) if max_staleness is None else MISSING
        if value is MISSING:
            value = await self._cache.get(inner, MISSING, max_staleness=max_staleness)
            if value is MISSING:
                return default
        self._count(inner)
        return value

    async def get_batch(
        self,
        keys: Sequence[MemoryKey],
        default: Any = None,
        *,
        max_staleness: float | None = None,
    ) -> list[Any]:
        """Return each memory, ``default`` for those that are nowhere.

        A key that is repeated counts one access.
        """
        asked = _inner_keys(keys)
        values = await self._cache.get_batch(asked, MISSING, max_staleness=max_staleness)
        return self._counted(asked, values, default)

    async def contains(self, key: MemoryKey) -> bool:
        """Say whether any tier has a key; that counts for nothing."""
        return await self._cache.contains(inner_key(key))

    async def get_or_load(
        self,
        key: MemoryKey,
        loader: Callable[[], Any],
        ttl: Ttl = ...,
        tags: Sequence[str] = (),
        *,
        max_staleness: float | None = None,
        options: Options | None = None,
    ) -> Any:
        """Return a memory; from ``loader()`` where no tier has it.

        loader: sync or async; returns a value, ``Loaded(value, ttl=…, tags=…)``, or MISSING, which
            is returned and kept for ``Options.negative_ttl``. What it raises passes unchanged.
            However many callers want the key, in threads, tasks and processes, it runs once.
        options: of this call, instead of the cache's: what concerns loading and freshness.
        """
        inner = key.inner if type(key) is MemoryKey else inner_key(key)
        value = self._near_value(inner) if max_staleness is None else MISSING
        if value is MISSING:
            value = await self._cache.get_or_load(
                inner,
                single_loader(loader),
                ttl,
                [*implied_tags(inner), *user_tags(tags)],
                max_staleness=max_staleness,
                options=options,
            )
            if value is MISSING:
                return value
        self._count(inner)
        return value

    async def get_or_load_batch(
        self,
        keys: Sequence[MemoryKey],
        loader: Callable[[list[MemoryKey]], Any],
        ttl: Ttl = ...,
        tags: Sequence[str] = (),
        *,
        default: Any = None,
        max_staleness: float | None = None,
        options: Options | None = None,
    ) -> list[Any]:
        """Return each memory; ``loader(missing)`` gives a mapping of those that are nowhere.

        A key that the loader leaves out is absent: ``default``.
        """
        asked = _inner_keys(keys)
        common, own = split_tags(asked)
        values = await self._cache.get_or_load_batch(
            asked,
            batch_loader(loader, own),
            ttl,
            [*common, *user_tags(tags)],
            default=MISSING,
            max_staleness=max_staleness,
            options=options,
        )
        return self._counted(asked, values, default)

    def _counted(
        self, asked: Sequence[tuple[str, ...]], values: Sequence[Any], default: Any
    ) -> list[Any]:
        pairs = zip(asked, values, strict=True)
        for inner in dict.fromkeys(inner for inner, value in pairs if value is not MISSING):
            self._count(inner)
        return [default if value is MISSING else value for value in values]

    # -- put ---------------------------------------------------------------------------------

    async def put(self, key: MemoryKey, value: V, ttl: Ttl = ..., tags: Sequence[str] = ()) -> None:
        """Keep a memory in both tiers.

        Raises: CodecError for what the codec cannot write; nothing is written then.
        """
        inner = inner_key(key)
        await self._cache.put(inner, value, ttl, [*implied_tags(inner), *user_tags(tags)])

    async def put_batch(self, items: "Items[V]", ttl: Ttl = ..., tags: Sequence[str] = ()) -> None:
        """Keep memories in both tiers. Of a key given twice the last value stands.

        Cost: one write for each type and scope among them.
        Raises: CodecError for what the codec cannot write; nothing is written then.
        """
        more = user_tags(tags)
        groups = by_implied_tags(items)
        if len(groups) > 1:
            for part in groups.values():
                self._check_values(part.values())
        for implied, part in groups.items():
            await self._cache.put_batch(part, ttl, [*implied, *more])

    def _check_values(self, values: Iterable[V]) -> None:
        encode = self._cache._tiers.codec.encode
        for value in values:
            if value is not None:
                encode(value)

    async def warm(
        self, items: "Items[V] | Callable[[], Any]", ttl: Ttl = ..., tags: Sequence[str] = ()
    ) -> int:
        """Keep (key, memory) pairs, ``max_batch`` at a time; return how many are near afterwards.

        items: a mapping, pairs, or a function, sync or async, that returns either.
        """
        pairs = await pairs_of(self._cache, items)
        await hearing(self._cache)
        part: dict[MemoryKey, V] = {}
        given: dict[tuple[str, ...], None] = {}
        for key, value in pairs:
            given[inner_key(key)] = None
            part[key] = value
            if len(part) == self.options.max_batch:
                await self.put_batch(part, ttl, tags)
                part.clear()
        await self.put_batch(part, ttl, tags)
        return len(given.keys() & set(self._cache.admin.entries()))

    # -- forget ------------------------------------------------------------------------------

    async def invalidate(self, key: MemoryKey) -> bool:
        """Forget a memory, in both tiers and every process; say whether any tier here had it."""
        return await self._forget([inner_key(key)]) > 0

    async def invalidate_batch(self, keys: Sequence[MemoryKey]) -> int:
        """Forget memories; return how many there were."""
        return await self._forget(_inner_keys(keys))

    async def _forget(self, keys: Sequence[tuple[str, ...]]) -> int:
        try:
            return await self._cache.invalidate_batch(keys)
        finally:  # afterwards: what is found meanwhile must not make it hot
            self._counts.forget(keys)

    async def invalidate_by_type(self, memory_type: str) -> None:
        """Forget all memories of a type, in both tiers and every process.

        Cost: one write, however many there are; so nobody knows how many there were.
        """
        kind = check_part("type", memory_type)
        try:
            await self._cache.invalidate_by_tag(f"m:{kind}")
        finally:
            self._counts.forget_type(kind)

    async def invalidate_by_scope(self, scope: str | None) -> None:
        """Forget all memories of a scope, in both tiers and every process; None: of no scope.

        Cost: one write, however many there are; so nobody knows how many there were.
        """
        name = None if scope is None else check_part("scope", scope)
        try:
            await self._cache.invalidate_by_tag("n:" if name is None else f"s:{name}")
        finally:
            self._counts.forget_scope(name)

    async def invalidate_by_tag(self, tag: str) -> None:
        """Forget all that was put or loaded with a tag, in both tiers and every process.

        Cost: one write, however many there are. Their access counts stay: which they are, nobody
        knows.
        """
        (name,) = user_tags([tag])
        await self._cache.invalidate_by_tag(name)

    async def invalidate_pattern(
        self, memory_type: str = "*", memory_id: str = "*", scope: str = "*"
    ) -> int | None:
        """Forget the memories whose parts match globs (``* ? [seq] [!seq]``), wherever they are.

        The scope "*" also matches no scope. Returns how many there were; None where that is not
        known, because all of one type or scope was forgotten at once.
        Cost: looks at every name in the store, in batches, unless only a type or only a scope is
            given, and that without globs.
        Error: where the store does not answer, everything is forgotten: that needs no search.
        """
        pattern = Pattern(memory_type, memory_id, scope)
        if pattern.everything:
            return await self.clear()
        if pattern.only_type is not None:
            await self.invalidate_by_type(pattern.only_type)
            return None
        if pattern.only_scope is not None:
            await self.invalidate_by_scope(pattern.only_scope)
            return None
        return await forget_matching(self._cache, pattern, self._counts)

    async def clear(self) -> int:
        """Forget everything in this namespace, in both tiers and every process.

        Returns the near entries dropped here.
        """
        try:
            return await self._cache.clear()
        finally:
            self._counts.clear()

    async def cleanup_expired(self) -> int:
        """Drop what has expired, from near and from a store that does not do so itself.

        Returns the near entries dropped. No lock is held longer than about a millisecond.
        """
        return await self._cache.cleanup_expired()

    # -- the rest ----------------------------------------------------------------------------

    def get_hot_memories(self, limit: int = 10) -> list[tuple[MemoryKey, int]]:
        """Return the keys found most often in this process, with how often; ties in keys' order.

        The counts go on when a memory leaves near, and begin anew when it is forgotten by its key,
        type, scope or a pattern. They are exact up to 100,000 different keys.
        """
        found = self._counts.most_counted(check_count("limit", limit, least=0))
        return [(MemoryKey.of(inner), count) for inner, count in found]

    def cached(
        self,
        *,
        key: Callable[..., MemoryKey] | None = None,
        ttl: Ttl = ...,
        tags: Tags = (),
    ) -> Decorator:
        """Return a decorator that keeps what a function returns; a plain or an asynchronous one.

        key: a function of the same arguments. Without it the function's qualified name is the type
            and its arguments are the id, if they are str, bytes, numbers, bools, None or tuples;
            so closures that differ only in what they took from around them need one.
        tags: a list, or a function of the same arguments that returns one.

        The decorated function has ``cache``, ``key(*args)`` and ``invalidate(*args)``.
        """
        return decorate(self.as_sync(), key, ttl, tags, derive=MemoryKey)

    @property
    def options(self) -> Options:
        """The options this cache was made with."""
        return self._cache.options

    @property
    def size(self) -> int:
        """Entries near, views included."""
        return self._cache.size

    @property
    def max_size(self) -> int:
        """The most entries near."""
        return self._cache.max_size

    @property
    def link(self) -> str:
        """What the link to the store is doing: "tracking" is well; "none" without a store."""
        return self._cache.link

    @property
    def admin(self) -> HotAdmin:
        """The corner for rare things."""
        return HotAdmin(self._cache._tiers)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(event, subject, detail)`` at every event; returns how to stop.

        The events are hit, miss, load, evict, invalidate, store_error, breaker, link. A callback
        that raises is logged, never felt.
        """
        return self._cache.subscribe(callback)

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._cache.get_stats()

    def reset_stats(self) -> None:
        """Count from zero again; access counts are no statistics and stay."""
        self._cache.reset_stats()

    async def close(self) -> None:
        """End: leave the link, close the store if this cache made it. May be called again.

        Closing a view does nothing: it lives as long as the cache it is a view of.
        """
        await self._cache.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return describe(self, self._cache._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), travelling(self._cache._tiers))


def _inner_keys(keys: object) -> list[tuple[str, ...]]:
    if isinstance(keys, (str, bytes, MemoryKey)) or not isinstance(keys, Iterable):
        msg = f"keys is a list of MemoryKeys, not {type(keys).__name__}; give [key]"
        raise ConfigError(msg)
    return [inner_key(key) for key in keys]
