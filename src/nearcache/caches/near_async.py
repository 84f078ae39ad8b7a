"""The cache of any values for asynchronous programs: the source of both faces.

The blocking class (``caches/near.py``) drives the same coroutines by hand.
"""

import inspect
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from nearcache.caches.checks import check_pairs
from nearcache.caches.near_admin import NearAdmin
from nearcache.caches.near_loaders import SingleLoader, ValueLoader
from nearcache.caches.tiers import describe, remake, travelling
from nearcache.caches.values import ValueTiers
from nearcache.engine.flights import ABSENT as NOWHERE
from nearcache.engine.held import Freshness, value_of
from nearcache.engine.io import AsyncIO, BlockingIO
from nearcache.engine.rows import NEAR, Ends
from nearcache.engine.values import ValueBatch
from nearcache.entry import MISSING
from nearcache.errors import ConfigError
from nearcache.events import Subscriber
from nearcache.keys import check_key, check_tags
from nearcache.near.policies.base import Policy
from nearcache.options import Options, check_staleness, check_ttl, effective_ttl
from nearcache.stats import Stats

if TYPE_CHECKING:
    from nearcache.caches.cached import Decorator, Tags
    from nearcache.caches.checks import Ttl
    from nearcache.caches.near import NearCache

__all__ = ["AsyncNearCache"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


_KEY_TYPES = frozenset((str, bytes, tuple))
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds between attempts of an update


class AsyncNearCache(Generic[K, V]):
    """Any values in two tiers for asynchronous programs; the same names as ``NearCache``.

    What may touch the store or a loader is awaited. Thread-safe; serves several event loops.
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
        tiers = ValueTiers(
            {
                "store": store,
                "namespace": namespace,
                "codec": codec,
                "type": type,
                "max_entries": max_entries,
                "max_bytes": max_bytes,
                "ttl": ttl,
                "policy": policy,
                "options": options,
            }
        )
        self._set(tiers, tiers.async_io)

    def _set(self, tiers: ValueTiers, io: AsyncIO | BlockingIO) -> None:
        self._tiers, self._io = tiers, io
        # what a near hit needs, close at hand
        shelf = tiers.shelf
        self._clock = tiers.engine.clock
        self._bound = shelf.bound
        self._find = shelf.finder()
        plain = Freshness(jitter=0.0)
        self._is_alone = shelf.tracked is None and replace(shelf.freshness, negative=0.0) == plain
        self._cells = tiers.engine.hits.cell
        self._events = tiers.engine.events
        self._meter = tiers.engine.meter

    @classmethod
    def _face(cls, tiers: ValueTiers, io: AsyncIO | BlockingIO) -> "AsyncNearCache[K, V]":
        face = cls.__new__(cls)
        face._set(tiers, io)
        return face

    def as_sync(self) -> "NearCache[K, V]":
        """Return the blocking face of this same cache."""
        from nearcache.caches.near import NearCache

        return NearCache._face(self._tiers)

    def as_async(self) -> "AsyncNearCache[K, V]":
        """Return this cache."""
        return self

    def view(self, name: str) -> "AsyncNearCache[K, V]":
        """Return the same cache under a sub-namespace that nothing outside can name."""
        tiers = self._tiers.view(name)
        return self._face(tiers, tiers.async_io if isinstance(self._io, AsyncIO) else self._io)

    # -- get ---------------------------------------------------------------------------------

    def near_value(self, key: Any) -> Any:
        """Return the value of a key that is near and may be served, or MISSING; never raises.

        The warm path: no coroutine, no lock.
        """
        if type(key) not in _KEY_TYPES:  # it may say anything of itself
            return MISSING
        cell = self._cells()
        began = None if cell[0] < cell[2] else perf_counter()
        try:
            held = self._find(key)
        except TypeError:  # unhashable: refused elsewhere
            return MISSING
        if held is None or self._tiers.engine.closed:
            return MISSING
        value, decode, _, epoch, read_at, groups, size, soft, _ = held
        since = self._clock() - self._bound
        if (epoch.heard <= since and read_at <= since) or since >= soft:
            return MISSING
        for group, token in groups:
            if group.token is not token:
                return MISSING
        cell[0] += 1
        cell[1] += size
        if self._events.hear_hits:
            self._events.emit("hit", "near", 1)
        if decode is not None:
            value = decode(value)
        if began is not None:
            self._meter.answered(cell, perf_counter() - began)
        return value

    async def get(self, key: K, default: Any = None, *, max_staleness: float | None = None) -> Any:
        """Return the value of a key, or ``default``.

        max_staleness: seconds the answer may be behind; 0 reads through.
        """
        if max_staleness is None:
            value = self.near_value(key)
            if value is not MISSING:
                return value
            held = await self._far(key)
            if held is not None:
                value = MISSING if held is NOWHERE else value_of(held)
                return default if value is MISSING else value
        batch = self._batch([key], staleness=max_staleness)
        await self._resolve(batch, None, None)
        value = batch.answer(0)
        return default if value is MISSING else value

    async def _far(self, key: Any) -> Any:
        """Return what the store has of a key, or ABSENT; None where there is more to it."""
        tiers, tracked = self._tiers, self._tiers.shelf.tracked
        if tracked is None or tiers.engine.closed:
            return None
        key = check_key(key)
        if tracked.lookout.held(key) is not None:
            return None
        held = await tracked.read_one(self._io, key)
        if held is not None:
            tiers.count_far(held)
        return held

    async def get_batch(
        self, keys: Sequence[K], default: Any = None, *, max_staleness: float | None = None
    ) -> list[Any]:
        """Return the value of each key, ``default`` for those that are nowhere."""
        return await self._answer(keys, default, None, None, max_staleness)

    async def contains(self, key: K) -> bool:
        """Say whether any tier has a key."""
        return await self.get(key, MISSING) is not MISSING

    async def get_or_load(
        self,
        key: K,
        loader: Callable[[], Any],
        ttl: "Ttl" = ...,
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
            value = self.near_value(key)
            if value is not MISSING:
                return value
        life, chosen = effective_ttl(ttl, self._tiers.ttl), self._chosen(options)
        batch = self._batch([key], tags, staleness=max_staleness, life=life, options=options)
        await self._resolve(batch, SingleLoader(loader, chosen, self._tiers.crowd), life)
        return batch.answer(0)

    def _chosen(self, options: Options | None) -> Options:
        if options is None:
            return self.options
        if not isinstance(options, Options):
            msg = f"options is an Options object, not {options!r}"
            raise ConfigError(msg)
        return options

    async def get_or_load_batch(
        self,
        keys: Sequence[K],
        loader: Callable[[list[K]], Any],
        ttl: "Ttl" = ...,
        tags: Sequence[str] = (),
        *,
        default: Any = None,
        max_staleness: float | None = None,
        options: Options | None = None,
    ) -> list[Any]:
        """Return the value of each key; ``loader(missing)`` gives a mapping of those nowhere.

        A key that the loader leaves out is absent: ``default``.
        """
        life, chosen = effective_ttl(ttl, self._tiers.ttl), self._chosen(options)
        wrapped = ValueLoader(loader, chosen, self._tiers.crowd)
        return await self._answer(keys, default, wrapped, life, max_staleness, tags, options)

    async def _answer(
        self,
        keys: Sequence[K],
        default: Any,
        loader: Any,
        life: float | None,
        staleness: float | None,
        tags: Sequence[str] = (),
        options: Options | None = None,
    ) -> list[Any]:
        cell = self._cells()
        began = None if cell[0] < cell[2] else perf_counter()
        asked = _check_keys(keys)
        distinct = list(dict.fromkeys(asked))
        batch = self._batch(distinct, tags, staleness=staleness, life=life, options=options)
        await self._resolve(batch, loader, life)
        place = {key: i for i, key in enumerate(batch.handles)}
        answers = [batch.answer(place[key]) for key in asked]
        if began is None:
            cell[2] -= len(asked)  # these hits are counted elsewhere
        elif asked and batch.origin.count(NEAR) == len(distinct):
            self._meter.answered(cell, perf_counter() - began, len(asked))
        return [default if answer is MISSING else answer for answer in answers]

    def _batch(
        self,
        keys: Sequence[Any],
        tags: Sequence[str] = (),
        *,
        staleness: float | None = None,
        life: float | None = None,
        options: Options | None = None,
    ) -> ValueBatch:
        shelf = self._tiers.shelf
        seconds = check_staleness(staleness)
        if shelf.tracked is None:
            seconds = None  # nobody else can change anything
        return ValueBatch(
            shelf,
            [check_key(key) for key in keys],
            shelf.tags(tags),
            staleness=seconds,
            life=life,
            wants=None if options is None else Freshness.of(options),
        )

    async def _resolve(self, batch: ValueBatch, loader: Any, life: float | None) -> None:
        engine = self._tiers.engine
        await engine.listen(self._io)
        try:
            await self._tiers.answer.get(self._io, batch, loader, life)
        finally:  # what was answered before a failure counts
            self._tiers.count(batch)

    def cached(
        self,
        *,
        key: Callable[..., K] | None = None,
        ttl: "Ttl" = ...,
        tags: "Tags" = (),
    ) -> "Decorator":
        """Return a decorator that keeps what a function returns; sync and async functions alike.

        key, tags: functions of the same arguments (tags may be a plain list). Without a key one is
            made of the function's name and its arguments, if they are of the plain kinds.

        The function has ``.cache`` and ``.invalidate(*args)`` then. None is a value.
        """
        from nearcache.caches.cached import decorate

        return decorate(self, key, ttl, tags)

    # -- put ---------------------------------------------------------------------------------

    async def put(self, key: K, value: V, ttl: "Ttl" = ..., tags: Sequence[str] = ()) -> None:
        """Keep a value in both tiers.

        Raises: CodecError for what the codec cannot write; nothing is written then.
        """
        if not self.put_alone(key, value, ttl, tags):
            await self._put([(key, value)], ttl, tags)

    def put_alone(self, key: Any, value: Any, ttl: "Ttl" = ..., tags: Sequence[str] = ()) -> bool:
        """Put a value where there is no store; say whether that could be done the quick way."""
        tiers = self._tiers
        if not self._is_alone or tiers.engine.closed or value is None or value is MISSING:
            return False
        life = tiers.ttl if ttl is ... else check_ttl(ttl)
        if life == 0 or type(key) not in _KEY_TYPES:
            return False
        shelf = tiers.shelf
        return shelf.put_alone(check_key(key), value, life, shelf.tags(tags) if tags else ())

    async def put_batch(
        self,
        items: Mapping[K, V] | Iterable[tuple[K, V]],
        ttl: "Ttl" = ...,
        tags: Sequence[str] = (),
    ) -> None:
        """Keep values in both tiers. Of a key given twice the last value stands."""
        await self._put(check_pairs(items), ttl, tags)

    async def _put(self, items: Iterable[tuple[Any, Any]], ttl: "Ttl", tags: Sequence[str]) -> None:
        tiers, engine = self._tiers, self._tiers.engine
        engine.check_open()
        life = effective_ttl(ttl, tiers.ttl)
        last = {check_key(key): value for key, value in items}
        if not last:
            return
        batch = self._batch(list(last), tags, life=life)
        ends = Ends(life, engine.options.jitter)
        landing = batch.given(list(last.values()), engine.clock(), ends)
        if life == 0:  # "do not store": nor may an older value be served after this put
            await engine.forget(self._io, tiers.shelf, batch.handles)
        else:
            await engine.write(self._io, batch, landing)

    async def update(
        self,
        key: K,
        change: Callable[[Any], Any],
        ttl: "Ttl" = ...,
        tags: Sequence[str] = (),
    ) -> Any:
        """Put ``change(value)`` in the place of a key's value, and return it; none is lost.

        Compare-and-set on the version: where another writer was faster, ``change`` runs again, on
        the value of that writer. It is given None where there is no value, and returns MISSING to
        leave things as they are. Under the asynchronous face it may be asynchronous.

        ttl: of the new value; by default what the old one has left, or else the cache's.
        tags: of a value where there was none; one that is there keeps its own.
        Raises: StoreError, whatever the options say: the update may have been made, or not.
        """
        tiers, engine = self._tiers, self._tiers.engine
        engine.check_open()
        life = effective_ttl(ttl, tiers.ttl)
        if life == 0:
            msg = "ttl=0 would store nothing: an update keeps its value; give seconds or None"
            raise ConfigError(msg)
        pause = _FIRST_PAUSE
        while True:
            batch = self._batch([key], tags, staleness=0.0, life=life)
            await engine.see(self._io, batch)
            before = batch.answer(0)
            before = None if before is MISSING else before
            after = change(before)
            if inspect.isawaitable(after):
                after = await self._promised(after)
            if after is MISSING:
                return before
            now = engine.clock()
            if ttl is ...:
                batch.life = batch.life_left(now)
                if batch.life is not None and batch.life <= 0:
                    continue  # it ended while change() ran: there is nothing to follow from
            batch.keep_tags()
            landing = batch.given([after], now, Ends(batch.life, 0.0))
            if await engine.swap(self._io, batch, landing):
                return batch.value(0)
            # at random, so that of many writers none is always the last
            await self._io.sleep(random.uniform(0, pause))  # noqa: S311  guards nothing
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _promised(self, promise: Awaitable[Any]) -> Any:
        if isinstance(self._io, AsyncIO):
            return await promise
        if inspect.iscoroutine(promise):
            promise.close()
        msg = "under the blocking face change() is a plain function; use as_async() for this one"
        raise ConfigError(msg)

    async def warm(self, items: Mapping[K, V] | Iterable[tuple[K, V]], ttl: "Ttl" = ...) -> int:
        """Keep (key, value) pairs, ``max_batch`` at a time; return how many."""
        part: dict[K, V] = {}
        done = 0
        for key, value in check_pairs(items):
            part[key] = value
            if len(part) == self.options.max_batch:
                await self.put_batch(part, ttl)
                done += len(part)
                part.clear()
        await self.put_batch(part, ttl)
        return done + len(part)

    # -- forget ------------------------------------------------------------------------------

    async def invalidate(self, key: K) -> bool:
        """Forget a key, in both tiers and every process; say whether any tier here had it."""
        tiers = self._tiers
        return bool(await tiers.engine.forget(self._io, tiers.shelf, [check_key(key)]))

    async def invalidate_batch(self, keys: Sequence[K]) -> int:
        """Forget keys; return how many there were."""
        asked = list(dict.fromkeys(_check_keys(keys)))
        if not asked:
            return 0
        return await self._tiers.engine.forget(self._io, self._tiers.shelf, asked)

    async def invalidate_by_tag(self, tag: str) -> None:
        """Forget all that was put or loaded with a tag. Cost: one write, however many there are."""
        (tag,) = check_tags([tag])
        shelf = self._tiers.shelf
        group = shelf.tag(tag)
        if shelf.tracked is None:
            shelf.groups.bump(group)
        await self._tiers.engine.forget_group(self._io, group, [])

    async def clear(self) -> int:
        """Forget everything in this namespace, in both tiers and every process.

        Returns the near entries dropped here.
        """
        shelf = self._tiers.shelf
        return await self._tiers.engine.forget_group(self._io, shelf.everything, [shelf])

    async def cleanup_expired(self) -> int:
        """Drop what has expired, from near and from a store that does not do so itself.

        Returns the near entries dropped. No lock is held longer than about a millisecond.
        """
        self._tiers.engine.check_open()
        dropped: int = self._tiers.engine.near.expire()
        await self._tiers.engine.purge(self._io)
        return dropped

    # -- the rest ----------------------------------------------------------------------------

    @property
    def options(self) -> Options:
        """The options this cache was made with."""
        return self._tiers.engine.options

    @property
    def size(self) -> int:
        """Entries near, views included."""
        return len(self._tiers.engine.near)

    @property
    def max_size(self) -> int:
        """The most entries near."""
        most: int = self._tiers.engine.near.max_entries
        return most

    @property
    def link(self) -> str:
        """What the link to the store is doing: "tracking" is well; "none" without a store."""
        tracked = self._tiers.shelf.tracked
        return "none" if tracked is None else tracked.link_state

    @property
    def admin(self) -> NearAdmin:
        """The corner for rare things."""
        return NearAdmin(self._tiers)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(event, subject, detail)`` at every event; returns how to stop.

        The events are hit, miss, load, evict, invalidate, store_error, breaker, link. A callback
        that raises is logged, never felt.
        """
        return self._tiers.engine.events.subscribe(callback)

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._tiers.stats()

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._tiers.engine.reset_stats()

    async def close(self) -> None:
        """End: leave the link, close the store if this cache made it. May be called again.

        Closing a view does nothing: it lives as long as the cache it is a view of.
        """
        await self._tiers.close(self._io)

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
        return describe(self, self._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), travelling(self._tiers))


def _check_keys(keys: object) -> list[Any]:
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        msg = f"keys is a list of keys, not {type(keys).__name__}; give [key]"
        raise ConfigError(msg)
    return [check_key(key) for key in keys]
