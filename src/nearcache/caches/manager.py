# Generated from manager_async.py by make faces; do not edit.
"""One object over all caches of an agent, for blocking programs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nearcache.caches.checks import Floats, Model, Ttl
from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.hot import HotMemoryCache
from nearcache.caches.manager_parts import ManagerParts, remake
from nearcache.caches.manager_stats import ManagerStats
from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.retrieval import RetrievalCache
from nearcache.caches.schedule import wait_for
from nearcache.caches.warming import Warming
from nearcache.errors import ConfigError
from nearcache.options import Options

if TYPE_CHECKING:
    from nearcache.caches.manager_async import AsyncCacheManager

__all__ = ["CacheManager"]


class CacheManager:
    """The hot memories, embeddings and retrieval results of an agent, for blocking programs.

    One call tells all of them what became of a memory. Each cache may be left out, and be given in
    either face; ``from_url`` makes all three over one store. What was given stays open at
    ``close``; what was made here is closed.

    cleanup_interval: seconds between clean-ups, once ``start`` was called.
    Thread-safe. Raises: ConfigError where a cache is needed that the manager has not.
    """

    def __init__(
        self,
        *,
        hot: HotMemoryCache[Any] | None = None,
        embeddings: EmbeddingCache | None = None,
        retrieval: RetrievalCache | None = None,
        cleanup_interval: float = 60.0,
    ) -> None:
        self._set(ManagerParts(hot, embeddings, retrieval, cleanup_interval))

    def _set(self, parts: ManagerParts) -> None:
        self._parts = parts
        hot, embeddings, retrieval = parts.hot, parts.embeddings, parts.retrieval
        self._hot = None if hot is None else hot.as_sync()
        self._embeddings = None if embeddings is None else embeddings.as_sync()
        self._retrieval = None if retrieval is None else retrieval.as_sync()

    @classmethod
    def _face(cls, parts: ManagerParts) -> Self:
        face = cls.__new__(cls)
        face._set(parts)
        return face

    @classmethod
    def from_url(
        cls,
        url: object,
        *,
        namespace: str = "",
        cleanup_interval: float = 60.0,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> Self:
        """Return a manager of three new caches over one store.

        url: as a cache takes it: a URL, a store object (which stays open), or None.
        namespace: of all three; programs that share a server choose different ones.
        """
        return cls._face(ManagerParts.from_url(url, namespace, cleanup_interval, options))

    def as_async(self) -> "AsyncCacheManager":
        """Return the asynchronous face of this same manager."""
        from nearcache.caches.manager_async import AsyncCacheManager

        return AsyncCacheManager._face(self._parts)

    def as_sync(self) -> "CacheManager":
        """Return this manager."""
        return self

    # -- the caches --------------------------------------------------------------------------

    @property
    def hot(self) -> HotMemoryCache[Any]:
        """The hot memories."""
        if self._hot is None:
            raise _left_out("hot")
        return self._hot

    @property
    def embeddings(self) -> EmbeddingCache:
        """The embeddings."""
        if self._embeddings is None:
            raise _left_out("embeddings")
        return self._embeddings

    @property
    def retrieval(self) -> RetrievalCache:
        """The retrieval results."""
        if self._retrieval is None:
            raise _left_out("retrieval")
        return self._retrieval

    def get_memory(self, key: MemoryKey, default: Any = None) -> Any:
        """Return a memory from the hot tier, or ``default``."""
        return self.hot.get(key, default)

    def cache_memory(
        self, key: MemoryKey, value: Any, ttl: Ttl = ..., tags: Sequence[str] = ()
    ) -> None:
        """Keep a memory in the hot tier. That alone says nothing of a change: no list is dropped.

        Raises: CodecError for what the codec cannot write; nothing is written then.
        """
        self.hot.put(key, value, ttl, tags)

    def get_embedding(self, text: str, model: Model) -> Floats | None:
        """Return the vector of a text, or None. Shapes: (d,), read-only."""
        return self.embeddings.get(text, model)

    def cache_embedding(self, text: str, vector: object, model: Model, ttl: Ttl = ...) -> str:
        """Keep the vector of a text; return the content hash. Shapes: (d,)."""
        return self.embeddings.put(text, vector, model, ttl)

    def get_retrieval(self, query: object, scope: str | None = None, *, default: Any = None) -> Any:
        """Return the results of a query, or ``default``."""
        return self.retrieval.get(query, scope, default=default)

    def cache_retrieval(
        self,
        query: object,
        results: Any,
        *,
        memory_ids: Iterable[MemoryKey | str],
        scope: str | None = None,
        ttl: Ttl = ...,
    ) -> None:
        """Keep the results of a query, until one of these memories changes or one may be missing.

        Where memories change meanwhile use ``retrieval.get_or_load``, which notices.
        """
        self.retrieval.put(query, results, memory_ids=memory_ids, scope=scope, ttl=ttl)

    # -- what became of a memory ---------------------------------------------------------------

    def memory_added(self, key: MemoryKey) -> None:
        """Say that a memory is new: drop every list that it might have been in.

        And what the hot tier remembers of its absence. To fill the hot tier with what was already
        there is no such thing.
        """
        _check_key(key)
        try:
            hot = self._hot
            if hot is not None and hot.options.negative_ttl and not hot.contains(key):
                hot.invalidate(key)
        finally:  # whatever became of the first
            if self._retrieval is not None:
                self._retrieval.memory_added(key)

    def memory_changed(self, key: MemoryKey) -> None:
        """Say that a memory changed: forget it in the hot tier, and every list that holds it.

        Keep its new value after this call, not before. If what it says now may match more queries
        than before, call ``memory_added`` too.
        """
        _check_key(key)
        try:
            if self._hot is not None:
                self._hot.invalidate(key)
        finally:
            if self._retrieval is not None:
                self._retrieval.memory_changed(key)

    def invalidate_memory(self, memory_type: str, memory_id: str, scope: str | None = None) -> bool:
        """Forget a memory in the hot tier, and every list that holds it, in every process.

        Returns whether any tier of the hot cache here had it.
        """
        key = MemoryKey(memory_type, memory_id, scope)
        try:
            return self._hot is not None and self._hot.invalidate(key)
        finally:
            if self._retrieval is not None:
                self._retrieval.memory_changed(key)

    def invalidate_by_type(self, memory_type: str) -> None:
        """Forget all memories of a type; and all lists, for any may hold one."""
        MemoryKey(memory_type, "any")  # refuses what is no type
        try:
            if self._hot is not None:
                self._hot.invalidate_by_type(memory_type)
        finally:
            if self._retrieval is not None:
                self._retrieval.clear()

    def invalidate_by_scope(self, scope: str | None) -> None:
        """Forget all memories of a scope; and the lists of that scope, and those of no scope.

        Of None: the memories of no scope; and all lists, for any may hold one.
        """
        MemoryKey("any", "any", scope)  # refuses what is no scope
        try:
            if self._hot is not None:
                self._hot.invalidate_by_scope(scope)
        finally:
            if self._retrieval is not None:
                self._retrieval._forget_reach(scope)

    def clear_all(self) -> int:
        """Forget everything in every cache, in both tiers and every process.

        Returns the near entries dropped here.
        """
        dropped = 0
        try:
            if self._hot is not None:
                dropped += self._hot.clear()
        finally:
            try:
                if self._embeddings is not None:
                    dropped += self._embeddings.clear()
            finally:
                if self._retrieval is not None:
                    dropped += self._retrieval.clear()
        return dropped

    # -- warm and clean ------------------------------------------------------------------------

    def warmup(
        self,
        memory_type: str,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]] | Callable[[], Any],
        scope: str | None = None,
        ttl: Ttl = ...,
    ) -> int:
        """Keep memories of one type and scope; return how many of them are near afterwards.

        items: a mapping by id, (id, memory) pairs, or a loader: a function that returns either,
            which the blocking face also awaits. Streams are taken ``max_batch`` at a time.

        It may be fewer than there were: near keeps no more than it has room for.
        """
        warming = Warming(memory_type, items, scope)
        self.hot.warm(warming.items, ttl)
        return len(warming.keys.intersection(self.hot.admin.entries()))

    def get_hot_memories(self, limit: int) -> list[tuple[MemoryKey, int]]:
        """Return the memories that were asked for most here, and how often."""
        return self.hot.get_hot_memories(limit)

    def cleanup_expired(self) -> int:
        """Drop what has expired, from every cache; return how many entries left near."""
        return wait_for(self._parts.clean)

    def start(self) -> None:
        """Clean up every ``cleanup_interval`` seconds from now on; once is enough.

        In a thread, which ends with ``stop``, with ``close``, with this manager, or with the
        interpreter. What fails is logged, and tried again when its time has come.
        """
        self._parts.start()

    def stop(self) -> None:
        """Clean up no more, and wait for the clean-up that is under way; once is enough."""
        wait_for(self._parts.schedule.stop)

    @property
    def running(self) -> bool:
        """Whether the clean-up was started here."""
        return self._parts.schedule.running

    @property
    def last_cleanup(self) -> float | None:
        """When the last clean-up ended well, by whomever; a Unix time. None before the first."""
        return self._parts.last_cleanup

    # -- the rest ------------------------------------------------------------------------------

    def get_stats(self) -> ManagerStats:
        """Return what every cache did so far; a snapshot."""
        return self._parts.stats()

    def reset_stats(self) -> None:
        """Let every cache count from zero again."""
        self._parts.reset_stats()

    def close(self) -> None:
        """End the clean-up, and what was made here. May be called again."""
        wait_for(self._parts.close)

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
        return f"{type(self).__name__}({self._parts.describe()})"

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), self._parts.travelling())


def _check_key(key: object) -> None:
    if not isinstance(key, MemoryKey):
        kind = type(key).__name__
        msg = f"a memory is named by MemoryKey(memory_type, memory_id, scope=None), not {kind}"
        raise ConfigError(msg)


def _left_out(name: str) -> ConfigError:
    return ConfigError(f"this manager has no {name} cache: give CacheManager({name}=…)")
