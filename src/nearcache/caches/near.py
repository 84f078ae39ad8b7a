"""The cache of any values: a near tier that stays together with a store others write to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from nearcache.caches.checks import Ttl
from nearcache.caches.near_admin import NearAdmin
from nearcache.caches.near_async import AsyncNearCache
from nearcache.caches.tiers import describe, remake, travelling
from nearcache.caches.values import ValueTiers
from nearcache.engine.io import BlockingIO, run
from nearcache.entry import MISSING
from nearcache.events import Subscriber
from nearcache.near.policies.base import Policy
from nearcache.options import Options
from nearcache.stats import Stats

if TYPE_CHECKING:
    from nearcache.caches.cached import Decorator, Tags

__all__ = ["NearCache"]

K = TypeVar("K")
V = TypeVar("V")


class NearCache(Generic[K, V]):
    """Any values in two tiers: near (this process) and a store that other processes share.

    Within one process you read your own writes. Across processes a near copy is at most
    ``Options.link_timeout`` seconds behind, typically a few milliseconds; an invalidated value is
    never resurrected (docs/concepts/coherence.md).

    store: None (near only), a URL (``sqlite:///file.db``, ``redis://…``, ``valkey://…``), or a
        store object. Constructing does no I/O.
    namespace: programs that share a server choose different ones.
    codec: how values become bytes: "json", "msgpack", "bytes", "ndarray", or a codec of yours.
    type: a dataclass, pydantic model or msgspec struct that values are.
    max_entries, max_bytes: most that near holds; 0 entries switches it off.
    ttl: seconds an entry lives; None keeps it until it is evicted.

    Keys are str, bytes, or tuples of them. ``None`` is a value; absent is ``MISSING``. What can be
    changed in place (lists, dicts, arrays) is decoded afresh for every caller. Thread-safe. A
    failing store is a counted miss, never an error.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str,
        codec: object = "json",
        type: object = None,  # noqa: A002  what the codecs of others call it
        max_entries: int = 10_000,
        max_bytes: int | None = None,
        ttl: float | None = 300.0,
        policy: str | Policy = "adaptive",
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        twin: AsyncNearCache[K, V] = AsyncNearCache(
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
        self._set(twin._tiers)

    def _set(self, tiers: ValueTiers) -> None:
        self._tiers = tiers
        self._twin: AsyncNearCache[K, V] = AsyncNearCache._face(tiers, BlockingIO())
        self._near_value = self._twin.near_value
        self._put_alone = self._twin.put_alone

    @classmethod
    def _face(cls, tiers: ValueTiers) -> "NearCache[K, V]":
        face = cls.__new__(cls)
        face._set(tiers)
        return face

    def as_async(self) -> AsyncNearCache[K, V]:
        """Return the asynchronous face of this same cache."""
        return AsyncNearCache._face(self._tiers, self._tiers.async_io)

    def as_sync(self) -> "NearCache[K, V]":
        """Return this cache."""
        return self

    def view(self, name: str) -> "NearCache[K, V]":
        """Return the same cache under a sub-namespace that nothing outside can name."""
        return self._face(self._tiers.view(name))

    # -- get ---------------------------------------------------------------------------------

    def get(self, key: K, default: Any = None, *, max_staleness: float | None = None) -> Any:
        """Return the value of a key, or ``default``.

        max_staleness: seconds the answer may be behind; 0 reads through.
        """
        if max_staleness is None:
            value = self._near_value(key)
            if value is not MISSING:
                return value
        return run(self._twin.get(key, default, max_staleness=max_staleness))

    def get_batch(
        self, keys: Sequence[K], default: Any = None, *, max_staleness: float | None = None
    ) -> list[Any]:
        """Return the value of each key, ``default`` for those that are nowhere."""
        return run(self._twin.get_batch(keys, default, max_staleness=max_staleness))

    def contains(self, key: K) -> bool:
        """Say whether any tier has a key."""
        return run(self._twin.contains(key))

    def get_or_load(
        self,
        key: K,
        loader: Callable[[], Any],
        ttl: Ttl = ...,
        tags: Sequence[str] = (),
        *,
        max_staleness: float | None = None,
        options: Options | None = None,
    ) -> Any:
        """Return the value of a key; from ``loader()`` where no tier has it.

        loader: sync or async; returns a value, ``Loaded(value, ttl=…, tags=…)``, or MISSING, which
            is returned and kept for ``Options.negative_ttl``. What it raises passes unchanged.
            However many callers want the key, in threads, tasks and processes, it runs once.
        options: of this call, instead of the cache's: what concerns loading and freshness.
        """
        if max_staleness is None:
            value = self._near_value(key)
            if value is not MISSING:
                return value
        return run(
            self._twin.get_or_load(
                key, loader, ttl, tags, max_staleness=max_staleness, options=options
            )
        )

    def get_or_load_batch(
        self,
        keys: Sequence[K],
        loader: Callable[[list[K]], Any],
        ttl: Ttl = ...,
        tags: Sequence[str] = (),
        *,
        default: Any = None,
        max_staleness: float | None = None,
        options: Options | None = None,
    ) -> list[Any]:
        """Return the value of each key; ``loader(missing)`` gives a mapping of those nowhere.

        A key that the loader leaves out is absent: ``default``.
        """
        return run(
            self._twin.get_or_load_batch(
                keys,
                loader,
                ttl,
                tags,
                default=default,
                max_staleness=max_staleness,
                options=options,
            )
        )

    def cached(
        self,
        *,
        key: Callable[..., K] | None = None,
        ttl: Ttl = ...,
        tags: "Tags" = (),
    ) -> "Decorator":
        """Return a decorator that keeps what a function returns; sync and async functions alike.

        key, tags: functions of the same arguments (tags may be a plain list). Without a key one is
            made of the function's name and its arguments, if they are of the plain kinds.

        The function has ``.cache`` and ``.invalidate(*args)`` then. None is a value.
        """
        from nearcache.caches.cached import decorate

        return decorate(self, key, ttl, tags)

    # -- put and forget ----------------------------------------------------------------------

    def put(self, key: K, value: V, ttl: Ttl = ..., tags: Sequence[str] = ()) -> None:
        """Keep a value in both tiers.

        Raises: CodecError for what the codec cannot write; nothing is written then.
        """
        if not self._put_alone(key, value, ttl, tags):
            run(self._twin.put(key, value, ttl, tags))

    def put_batch(
        self,
        items: Mapping[K, V] | Iterable[tuple[K, V]],
        ttl: Ttl = ...,
        tags: Sequence[str] = (),
    ) -> None:
        """Keep values in both tiers. Of a key given twice the last value stands."""
        run(self._twin.put_batch(items, ttl, tags))

    def update(
        self,
        key: K,
        change: Callable[[Any], Any],
        ttl: Ttl = ...,
        tags: Sequence[str] = (),
    ) -> Any:
        """Put ``change(value)`` in the place of a key's value, and return it; none is lost.

        Compare-and-set on the version: where another writer was faster, ``change`` runs again, on
        the value of that writer. It is given None where there is no value, and returns MISSING to
        leave things as they are.

        ttl: of the new value; by default what the old one has left, or else the cache's.
        tags: of a value where there was none; one that is there keeps its own.
        Raises: StoreError, whatever the options say: the update may have been made, or not.
        """
        return run(self._twin.update(key, change, ttl, tags))

    def warm(self, items: Mapping[K, V] | Iterable[tuple[K, V]], ttl: Ttl = ...) -> int:
        """Keep (key, value) pairs, ``max_batch`` at a time; return how many."""
        return run(self._twin.warm(items, ttl))

    def invalidate(self, key: K) -> bool:
        """Forget a key, in both tiers and every process; say whether any tier here had it."""
        return run(self._twin.invalidate(key))

    def invalidate_batch(self, keys: Sequence[K]) -> int:
        """Forget keys; return how many there were."""
        return run(self._twin.invalidate_batch(keys))

    def invalidate_by_tag(self, tag: str) -> None:
        """Forget all that was put or loaded with a tag. Cost: one write, however many there are."""
        run(self._twin.invalidate_by_tag(tag))

    def clear(self) -> int:
        """Forget everything in this namespace, in both tiers and every process.

        Returns the near entries dropped here.
        """
        return run(self._twin.clear())

    def cleanup_expired(self) -> int:
        """Drop what has expired, from near and from a store that does not do so itself.

        Returns the near entries dropped. No lock is held longer than about a millisecond.
        """
        return run(self._twin.cleanup_expired())

    # -- the rest ----------------------------------------------------------------------------

    @property
    def options(self) -> Options:
        """The options this cache was made with."""
        return self._twin.options

    @property
    def size(self) -> int:
        """Entries near, views included."""
        return self._twin.size

    @property
    def max_size(self) -> int:
        """The most entries near."""
        return self._twin.max_size

    @property
    def link(self) -> str:
        """What the link to the store is doing: "tracking" is well; "none" without a store."""
        return self._twin.link

    @property
    def admin(self) -> NearAdmin:
        """The corner for rare things."""
        return self._twin.admin

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(event, subject, detail)`` at every event; returns how to stop.

        The events are hit, miss, load, evict, invalidate, store_error, breaker, link. A callback
        that raises is logged, never felt.
        """
        return self._twin.subscribe(callback)

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._twin.get_stats()

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._twin.reset_stats()

    def close(self) -> None:
        """End: leave the link, close the store if this cache made it. May be called again."""
        run(self._twin.close())

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
        return describe(self, self._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), travelling(self._tiers))
