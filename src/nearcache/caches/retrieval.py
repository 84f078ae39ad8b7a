# Generated from retrieval_async.py by make faces; do not edit.
"""The cache of retrieval results, for blocking programs."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nearcache.caches.checks import Ttl
from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.near import NearCache
from nearcache.caches.near_admin import NearAdmin
from nearcache.caches.retrieval_loader import with_ids
from nearcache.caches.retrieval_query import check_ids, memory_tag, query_key, scope_tag
from nearcache.caches.tiers import describe, remake, travelling
from nearcache.events import Subscriber
from nearcache.near.policies.base import Policy
from nearcache.options import Options
from nearcache.stats import Stats

if TYPE_CHECKING:
    from nearcache.caches.retrieval_async import AsyncRetrievalCache

__all__ = ["RetrievalCache"]


class RetrievalCache:
    """Result lists by query, for blocking programs, in two tiers that stay together.

    A list is given with the memories it holds and the scope it was looked for in. It is dropped, in
    both tiers and every process, when one of those memories changed (``memory_changed``) or when a
    memory came that might have matched (``memory_added``). To fill a hot tier with what was already
    there is neither.

    A query is a str, or a mapping, dataclass or ``RetrievalQuery`` of parameters. Equal parameters
    in another order are the same query; 1, 1.0, "1" and True are four; a list and a tuple are one;
    a dataclass is known by its name too, for two kinds of query may have the same parameters.

    The other arguments are those of ``NearCache``. Results are decoded afresh for every caller.
    Thread-safe. A failing store is a counted miss, never an error.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "retrieval",
        codec: object = "json",
        type: object = None,  # noqa: A002  what the codecs of others call it
        max_entries: int = 10_000,
        max_bytes: int | None = None,
        ttl: float | None = 300.0,
        policy: str | Policy = "adaptive",
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        self._cache: NearCache[tuple[str, ...], Any] = NearCache(
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
        self._cache._tiers.serve("RetrievalCache")

    @classmethod
    def _face(cls, cache: NearCache[tuple[str, ...], Any]) -> "RetrievalCache":
        face = cls.__new__(cls)
        face._cache = cache
        return face

    def as_async(self) -> "AsyncRetrievalCache":
        """Return the asynchronous face of this same cache."""
        from nearcache.caches.retrieval_async import AsyncRetrievalCache

        return AsyncRetrievalCache._face(self._cache.as_async())

    def as_sync(self) -> "RetrievalCache":
        """Return this cache."""
        return self

    def view(self, name: str) -> "RetrievalCache":
        """Return the same cache under a sub-namespace that nothing outside can name."""
        return RetrievalCache._face(self._cache.view(name))

    # -- get and put -------------------------------------------------------------------------

    def get(
        self,
        query: object,
        scope: str | None = None,
        *,
        default: Any = None,
        max_staleness: float | None = None,
    ) -> Any:
        """Return the results of a query, or ``default``.

        scope: where it looked; None, everywhere, is a scope of its own.
        max_staleness: seconds the answer may be behind; 0 reads through.
        """
        key = query_key(query, scope)
        return self._cache.get(key, default, max_staleness=max_staleness)

    def put(
        self,
        query: object,
        results: Any,
        *,
        memory_ids: Iterable[MemoryKey | str],
        scope: str | None = None,
        ttl: Ttl = ...,
    ) -> None:
        """Keep the results of a query in both tiers.

        memory_ids: every memory that the results hold, by its ``MemoryKey`` or bare id.
        Results that were read before a change, and put after it was announced, are outdated and
        kept: where memories change meanwhile use ``get_or_load``, which notices.
        Raises: CodecError for what the codec cannot write; nothing is written then.
        """
        tags = [scope_tag(scope), *check_ids(memory_ids)]
        self._cache.put(query_key(query, scope), results, ttl, tags)

    def get_or_load(
        self,
        query: object,
        loader: Callable[[], Any],
        scope: str | None = None,
        ttl: Ttl = ...,
        ids: Callable[[Any], Iterable[MemoryKey | str]] | None = None,
        *,
        max_staleness: float | None = None,
        options: Options | None = None,
    ) -> Any:
        """Return the results of a query; from ``loader()`` where no tier has them.

        loader: sync or async; returns (results, memory ids), ``Loaded((results, memory ids), ttl)``
            or MISSING, which is returned and kept for ``Options.negative_ttl``. What it raises
            passes unchanged. However many callers ask, in threads, tasks and processes, it runs
            once. It reads the source, not another cache, whose copies may be a moment behind.
        ids: reads the memory ids off results; then the loader returns the results alone.
        options: of this call, instead of the cache's: what concerns loading and freshness.

        A memory that changes while the loader runs drops what it brings, whichever process says so.
        """
        return self._cache.get_or_load(
            query_key(query, scope),
            with_ids(loader, ids),
            ttl,
            [scope_tag(scope)],
            max_staleness=max_staleness,
            options=options,
        )

    # -- forget ------------------------------------------------------------------------------

    def memory_changed(self, key: MemoryKey | str) -> None:
        """Drop every list that holds a memory: it was changed or deleted.

        Lists with a memory of the same id in another scope, or of another type, go with them. If
        what it says now may match more queries than before, call ``memory_added`` too.
        Cost: one write, however many lists there are.
        """
        self._cache.invalidate_by_tag(memory_tag(key))

    def invalidate_by_memory(self, memory_id: MemoryKey | str) -> None:
        """Drop every list that holds a memory; the same as ``memory_changed``."""
        self.memory_changed(memory_id)

    def memory_added(self, key: MemoryKey | str) -> None:
        """Drop every list that a new memory might have been in.

        Those are the lists of its scope and the lists of no scope, which looked everywhere. A
        memory without a scope, and one that is only known by its id, may match in every scope: all
        lists are dropped.
        Cost: two writes at most.
        """
        memory_tag(key)  # refuses what names no memory
        self._forget_reach(key.scope if isinstance(key, MemoryKey) else None)

    def _forget_reach(self, scope: str | None) -> None:
        """Drop every list that a memory of this scope may be in."""
        if scope is None:
            self._cache.clear()
            return
        try:
            self._cache.invalidate_by_tag(scope_tag(scope))
        finally:  # whatever became of the first
            self._cache.invalidate_by_tag(scope_tag(None))

    def invalidate_by_scope(self, scope: str | None) -> None:
        """Drop the lists that were looked for in a scope; None: those of no scope.

        Cost: one write, however many lists there are.
        """
        self._cache.invalidate_by_tag(scope_tag(scope))

    def clear(self) -> int:
        """Drop all lists of this namespace, in both tiers and every process.

        Returns the near entries dropped here.
        """
        return self._cache.clear()

    def cleanup_expired(self) -> int:
        """Drop what has expired, from near and from a store that does not do so itself.

        Returns the near entries dropped. No lock is held longer than about a millisecond.
        """
        return self._cache.cleanup_expired()

    # -- the rest ----------------------------------------------------------------------------

    @property
    def options(self) -> Options:
        """The options this cache was made with."""
        return self._cache.options

    @property
    def size(self) -> int:
        """Lists near, those of views included."""
        return self._cache.size

    @property
    def max_size(self) -> int:
        """The most lists near."""
        return self._cache.max_size

    @property
    def link(self) -> str:
        """What the link to the store is doing: "tracking" is well; "none" without a store."""
        return self._cache.link

    @property
    def admin(self) -> NearAdmin:
        """The corner for rare things."""
        return self._cache.admin

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(event, subject, detail)`` at every event; returns how to stop."""
        return self._cache.subscribe(callback)

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._cache.get_stats()

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._cache.reset_stats()

    def close(self) -> None:
        """End: leave the link, close the store if this cache made it. May be called again."""
        self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return describe(self, self._cache._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), travelling(self._cache._tiers))
