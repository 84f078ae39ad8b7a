"""The way of a call through near, store and loader; docs/flow.md draws it.

Nothing here knows what a value is: a *batch* (``engine/rows.py``, ``engine/values.py``) brings the
keys of one call, and decodes, checks and installs; a *shelf* names them; a *sharing*
(``engine/sharing.py``) is how other processes take part. All waiting goes through ``io``, so that
this is the one source of both faces.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from nearcache.clock import Clock
from nearcache.engine import fork, reporting
from nearcache.engine.flights import (
    ABSENT,
    NOTHING,
    RELEASED,
    Failed,
    Flight,
    FlightTable,
    Landed,
    Outcome,
)
from nearcache.engine.io import IO, Loader
from nearcache.engine.meter import Meter
from nearcache.engine.sharing import Sharing
from nearcache.engine.trip import Trip
from nearcache.errors import ClosedError, StoreError, StoreUnavailable
from nearcache.events import Events
from nearcache.options import Options
from nearcache.stats import Counters, NearHits, Stats
from nearcache.stores.base import Store

__all__ = ["Engine", "live_engines", "watch_engines"]


def live_engines() -> "list[Engine]":
    """Return every engine of this process that is in use, those of views too."""
    return [engine for engine in fork.members() if isinstance(engine, Engine)]


_watchers: "tuple[Callable[[Engine], object], ...]" = ()


def watch_engines(callback: "Callable[[Engine], object]") -> Callable[[], None]:
    """Call ``callback(engine)`` for every engine there is, and every new one; returns how to stop.

    A new one has no name yet, and has done nothing.
    """
    global _watchers  # noqa: PLW0603  of this process
    _watchers = (*_watchers, callback)
    for engine in live_engines():
        callback(engine)

    def stop() -> None:
        global _watchers  # noqa: PLW0603
        _watchers = tuple(one for one in _watchers if one is not callback)

    return stop


class Engine:
    """Near tier and flights of one namespace, shared by both faces of a cache, and its store.

    ``near`` drops by shelf: a ``VectorTier``, or ``engine/values.py`` around an ``ObjectTier``.
    """

    def __init__(
        self,
        near: Any,
        store: Store | None,
        *,
        shelves: Callable[[], Sequence[Any]],
        share: Callable[["Engine", Store], Sharing],
        options: Options,
        clock: Clock,
    ) -> None:
        self.near = near
        self.store = store
        self.shelves = shelves
        self.options = options
        self.clock = clock
        self.counters = Counters()
        self.hits = NearHits()  # those of the quick way; stats() adds them to the others
        self.meter = Meter()
        self.events = Events()
        self.flights = FlightTable()
        self.after_fork: list[Callable[[], None]] = []
        # what a report calls it; a view is one of its root's
        self.kind = self.namespace = self.view = ""
        self.settings: dict[str, Any] = {}
        self.hottest: Callable[[int], list[tuple[Any, int]]] | None = None
        self.used = False  # told of from then on
        self.leaves = False  # nothing more is told of it: it is about to close
        self.closed = False
        self.generation = 0  # rises when anything may have changed: older flights install nothing
        self._evictions_before = self._expirations_before = 0
        self.sharing: Sharing | None = None if store is None else share(self, store)
        if self.sharing is not None and reporting.is_told_of(self):
            self.sharing.access.on_first_use = self.hits.on_first = self._is_used
        fork.join(self)
        for watcher in _watchers:
            watcher(self)

    def _is_used(self) -> None:
        if not self.used:
            self.used = True
            reporting.begin()

    # -- reading and loading -----------------------------------------------------------------

    def current(self) -> bool:
        """Say whether near hits may be served without asking anybody; costs a clock."""
        return self.sharing is None or self.sharing.current()

    async def listen(self, io: IO) -> None:
        """Begin an operation: refuse after ``close``, and hear what there is to hear."""
        self.check_open()
        if self.sharing is not None:
            await self.sharing.listen(io)

    async def resolve(
        self, io: IO, batch: Any, loader: Loader | None, life: float | None = None
    ) -> None:
        """Fill a batch from near, store and, where there is one, the loader; call listen first.

        Without a loader, keys that no tier has stay ABSENT. Each missing key reaches the loader
        once however many calls want it; the loader's error passes unchanged.
        """
        wanted = list(range(len(batch.keys)))
        if self.sharing is None and loader is None:
            batch.look_near(wanted)
            return
        if batch.fresh:
            self.flights.detach(batch.keys)  # who reads already may have begun too early
        while wanted:
            flight = Flight(batch.shelf.name, io.loop)
            crew = flight.board()
            if self.sharing is not None:
                self.sharing.boards(flight, batch.keys)
            try:
                mine, theirs = self.flights.claim(flight, batch.keys, wanted)
                if mine:
                    await Trip(self, io, flight, batch, loader, life).fly(mine)
            finally:
                flight.left = True
                self.flights.abandon(flight, batch.keys)
                batch.shared |= flight.joined
                del crew
            # what we claimed has landed: only now may we wait, or two calls could wait for
            # each other's keys for ever
            wanted = []
            for other, positions in theirs.items():
                wanted += await self.join(io, other, batch, positions, loader, life)
            wanted.sort()

    async def join(
        self,
        io: IO,
        other: Flight,
        batch: Any,
        positions: list[int],
        loader: Loader | None,
        life: float | None,
        seconds: float | None = None,
    ) -> list[int]:
        """Wait for another call's flight, so long at most; return the positions to try again."""
        reading = loader is None
        if other.behind:
            look = Trip(self, io, Flight(batch.shelf.name, io.loop), batch, loader, life)
            positions = await look.look(positions)
            if reading or not positions:
                return []
        keys = [batch.keys[i] for i in positions]
        waited = await io.wait(other, lambda: other.settled(keys, reading=reading), seconds)
        if other.stranded:
            self.flights.finish(other, keys)
        elif not waited:
            # the flight can only go on when we do: it called us, or it runs on our loop
            if loader is not None:
                alone = Trip(self, io, Flight(batch.shelf.name, io.loop), batch, loader, life)
                size = loader.max_batch or self.options.max_batch
                for at in range(0, len(positions), size):
                    await alone.call(positions[at : at + size], loader)
            return []
        again: list[int] = []
        landed: dict[int, tuple[Any, list[int]]] = {}
        for position, key in zip(positions, keys, strict=True):
            outcome = other.outcome(key)
            if isinstance(outcome, Landed) and not batch.may_take(outcome.batch, key):
                again.append(position)  # what it depends on was forgotten since
            elif isinstance(outcome, Landed):
                landed.setdefault(id(outcome.batch), (outcome.batch, []))[1].append(position)
            elif isinstance(outcome, Failed) and outcome.keys <= set(batch.keys):
                # without a cache we would have made the same call, and got the same error
                raise outcome.error
            elif outcome is NOTHING:
                continue  # its loader has just said so
            elif not reading or (outcome is not None and outcome is not ABSENT):
                again.append(position)
        for source, taken in landed.values():
            batch.taken_from(source, taken)
        return again

    # -- writing and forgetting --------------------------------------------------------------

    async def write(self, io: IO, batch: Any, landing: Any) -> None:
        """Put values into the store, then near; what was under way for these keys is detached."""
        await self.listen(io)
        self._raise_if_strict(await io.complete(self._write(io, batch, landing)))

    async def see(self, io: IO, batch: Any) -> None:
        """Read values as they are now, so that a later ``swap`` can follow from them.

        Raises: StoreError, for nobody can tell then.
        """
        await self.listen(io)
        if self.sharing is None:
            batch.see_near()
        elif not await batch.shelf.tracked.seen(io, batch):
            raise self._no_answer()

    async def swap(self, io: IO, batch: Any, landing: Any) -> bool:
        """Put values in the place of those that were seen; False where they are others by now.

        Raises: StoreError; the values may be there then, or not.
        """
        await self.listen(io)
        if self.sharing is None:
            return self._swap_near(batch, landing)
        error = await io.complete(self._write(io, batch, landing))
        if error is not None and not batch.overtaken:
            raise error
        return error is None

    def _swap_near(self, batch: Any, landing: Any) -> bool:
        with self.flights.lock:
            if not batch.sees_the_same():
                return False
            self.flights.detach(batch.keys)
            batch.install(landing, set(batch.keys))
            return True

    def _no_answer(self) -> StoreError:
        return StoreUnavailable(f"{self.store and self.store.address} does not answer")

    async def _write(self, io: IO, batch: Any, landing: Any) -> StoreError | None:
        generation = self.generation
        flight = Flight(batch.shelf.name, io.loop, writes=True)
        crew = flight.board()
        contested: set[bytes] = set()
        error: StoreError | None = None
        evicted = 0

        def install(keys: set[bytes]) -> None:
            nonlocal evicted
            # of two writes that overlapped nobody knows which one the store has; and whoever took
            # a key over may have read the store before this write reached it
            ours = keys - contested if generation == self.generation else set()
            evicted = batch.install(landing, ours)
            lost = [(d, k) for d, k in zip(batch.handles, batch.keys, strict=True) if k not in ours]
            self.flights.detach([key for _, key in lost])
            self.near.drop(batch.shelf.name, [handle for handle, _ in lost])

        done: dict[bytes, Outcome] = dict.fromkeys(batch.keys, RELEASED)
        try:
            contested = self.flights.take_over(flight, batch.keys)
            if self.sharing is not None:
                error = await self.sharing.write(io, batch, landing)
            if error is not None and (batch.changes or self._strict):
                contested = set(batch.keys)
            else:
                done = dict.fromkeys(batch.keys, Landed(batch))
        except BaseException:
            contested = set(batch.keys)  # it may or may not have reached the store
            raise
        finally:
            flight.left = True
            self.flights.land(flight, done, install)
            del crew
        if evicted:
            self.events.emit("evict", "near", evicted)
        return error

    async def forget(self, io: IO, shelf: Any, handles: Sequence[Any]) -> int:
        """Forget values in both tiers, and tell the others; return how many there were."""
        await self.listen(io)
        return await io.complete(self._forget(io, shelf, handles))

    async def _forget(self, io: IO, shelf: Any, handles: Sequence[Any]) -> int:
        keys = shelf.keys.values(handles)
        stored, near, error = 0, 0, None
        valid = shelf.valid_near(handles)
        try:
            if self.sharing is not None:
                stored, error = await self.sharing.forget(io, shelf, handles)
        finally:  # whatever became of the store
            near = self.drop_near(shelf, keys, handles)
        near = near if valid is None else len(valid)
        self.counters.add(invalidations=len(handles))
        self.events.emit("invalidate", shelf.label, len(handles))
        self._raise_if_strict(error)
        # of a record only the store knows: a near copy may be behind
        return stored if shelf.record else max(stored, near)

    async def forget_group(self, io: IO, group: Any, shelves: Sequence[Any]) -> int:
        """Forget a group: a model, a tag, everything; return how many entries left near."""
        await self.listen(io)
        return await io.complete(self._forget_group(io, group, shelves))

    async def _forget_group(self, io: IO, group: Any, shelves: Sequence[Any]) -> int:
        # at once, to say how much there was: the link may be faster than the answer
        dropped, error = self.drop_shelves(shelves), None
        try:
            if self.sharing is not None:
                error = await self.sharing.forget_group(io, group)
        finally:  # whatever became of the store
            dropped += self.drop_shelves(shelves)
        self.counters.add(invalidations=1)
        self.events.emit("invalidate", "group", dropped)
        self._raise_if_strict(error)
        return dropped

    @property
    def _strict(self) -> bool:
        return self.sharing is not None and self.sharing.access.strict

    def _raise_if_strict(self, error: StoreError | None) -> None:
        if error is not None and self._strict:
            raise error

    # -- near ----------------------------------------------------------------------------------

    def drop_near(self, shelf: Any, keys: Sequence[bytes], handles: Sequence[Any]) -> int:
        """Drop values near, and take them from whoever is getting them; return how many."""
        with self.flights.lock:
            self.flights.detach(keys)
            if self.sharing is not None:
                self.sharing.let_go(keys)
            dropped: int = self.near.drop(shelf.name, handles)
            return dropped

    def drop_shelves(self, shelves: Sequence[Any]) -> int:
        """Drop all that these shelves have near, and take it from whoever is getting it."""
        names = {shelf.name for shelf in shelves}
        with self.flights.lock:
            self.flights.detach_shelves(names.__contains__)
            if self.sharing is not None:
                self.sharing.let_go_shelves(names)
            dropped: int = self.near.drop_shelves(names)
            for shelf in shelves:
                shelf.forget_size()
            return dropped

    def drop_everything(self) -> Sequence[Any]:
        """Drop all that is near, and let no flight under way install anything."""
        with self.flights.lock:
            self.generation += 1
            shelves = self.shelves()
            names = {shelf.name for shelf in shelves}
            self.near.drop_shelves(names)
            if self.sharing is not None:
                self.sharing.let_go_shelves(names)
            return shelves

    # -- counting ----------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Return the counts, the sizes, and what the hits saved at the mean price of a load."""
        sharing = self.sharing
        self._count_hits()
        counts = self.counters.snapshot(
            bytes_near=self.near.used_bytes,
            entries_near=len(self.near),
            evictions=self.near.evictions - self._evictions_before,
            expirations=self.near.expirations - self._expirations_before,
            undelivered=0 if sharing is None else sharing.access.undelivered,
            unwritten=0 if sharing is None else sharing.unwritten,
        )
        price = counts.load_seconds / counts.loads if counts.loads else 0.0
        breaker = "closed" if sharing is None else sharing.access.state
        return replace(counts, saved_seconds=counts.saved_loads * price, breaker=breaker)

    def _count_hits(self) -> None:
        hits, size = self.hits.total()
        if hits:
            self.counters.add(near_hits=hits, saved_loads=hits, bytes_saved=size)

    def reset_stats(self) -> None:
        """Count, and measure, from zero again."""
        self._count_hits()
        self.counters.reset()
        self.meter.reset()
        self._evictions_before = self.near.evictions
        self._expirations_before = self.near.expirations

    # -- life --------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Refuse to work after ``close``."""
        if self.closed:
            msg = "this cache is closed; make a new one"
            raise ClosedError(msg)

    async def purge(self, io: IO) -> None:
        """Let the store delete what has expired."""
        self.check_open()
        if self.sharing is not None:
            await self.sharing.access.ask(io, "purge")

    async def close(self, io: IO) -> None:
        """Deliver what is queued if the store can be reached, and end."""
        if self.closed:
            return
        if self.sharing is not None:
            await reporting.farewell(io, self)
            await self.sharing.access.finish(io)
            await io.store(self.sharing.close)  # which may wait for a look that is being taken
            self.sharing.access.close()
        self.closed = True
        fork.leave(self)

    def fork_locks(self) -> Sequence[fork.Lock]:
        """Return the locks to hold at a fork, so that the child copies nothing half done."""
        store = threading.RLock() if self.store is None else self.store.fork_lock
        return (self.flights.lock, self.near.lock, store)

    def start_anew(self) -> None:
        """Let go, in a forked child, of what belongs to the parent's threads."""
        self.flights = FlightTable()
        self.counters.start_anew()
        self.hits.start_anew()
        self.meter.start_anew()
        self.reset_stats()  # what the parent did is the parent's to tell
        self.used = False
        for begin in (*self.after_fork, *(shelf.start_anew for shelf in self.shelves())):
            begin()
        if self.sharing is not None and self.store is not None:
            self.store.reset_after_fork()
            self.sharing.start_anew()

    def check(self) -> None:
        """Raise AssertionError where something is inconsistent or left over; for tests."""
        with nullcontext() if self.sharing is None else self.sharing.at_rest():
            self.near.check()
            assert not len(self.flights), "no flight is left"
