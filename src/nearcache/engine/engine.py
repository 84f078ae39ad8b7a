"""The way of a call through near, store and loader; docs/flow.md draws it.

Nothing here knows what a value is: a *batch* (``engine/rows.py``) brings the keys of one call, and
decodes, checks and installs. All waiting goes through ``io``, so that this is the one source of
both faces.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nearcache.clock import Clock
from nearcache.coherence.epochs import stamp
from nearcache.coherence.forgets import Forget, LogReader
from nearcache.coherence.leases import LeaseKeeper
from nearcache.engine import fork
from nearcache.engine.access import Access
from nearcache.engine.flights import (
    ABSENT,
    RELEASED,
    Failed,
    Flight,
    FlightTable,
    Landed,
    Outcome,
)
from nearcache.engine.io import IO, Loader
from nearcache.engine.rows import Landing, RowBatch, RowShelf
from nearcache.engine.trip import Trip
from nearcache.entry import Mark
from nearcache.errors import ClosedError, StoreError
from nearcache.events import Events
from nearcache.keys import KeySpace
from nearcache.near.pick import VectorTier
from nearcache.options import Options, jittered
from nearcache.stats import Counters, Stats
from nearcache.stores.base import Store

__all__ = ["Engine", "live_engines"]


def live_engines() -> "list[Engine]":
    """Return every engine of this process that is in use; for tests."""
    return [engine for engine in fork.members() if isinstance(engine, Engine)]


class Engine:
    """Near tier, flights, store and log of one namespace, shared by both faces of a cache."""

    def __init__(
        self,
        near: VectorTier,
        store: Store | None,
        space: KeySpace,
        *,
        shelves: Callable[[], Sequence[RowShelf]],
        options: Options,
        clock: Clock,
    ) -> None:
        self.near = near
        self.store = store
        self.shelves = shelves
        self.options = options
        self.clock = clock
        self.counters = Counters()
        self.events = Events()
        self.flights = FlightTable()
        self.access: Access | None = None
        self.keeper: LeaseKeeper | None = None
        self.reader = LogReader(space.log, options.link_timeout / 2)
        self.closed = False
        self.generation = 0  # rises when the log had a gap: older flights install nothing
        self._opening: Flight | None = None
        self._evictions_before = self._expirations_before = 0
        if store is not None:
            strict = options.on_store_error == "raise"
            self.access = Access(
                store, space, self.reader, self.counters, self.events, clock, strict=strict
            )
            self.keeper = LeaseKeeper(store.renew, options.lease)
            self._opening = Flight(None, None)
        fork.join(self)

    # -- reading and loading -----------------------------------------------------------------

    def current(self) -> bool:
        """Say whether near hits may be served without a look at the log; costs a clock."""
        return self.access is None or not self.reader.due(self.clock())

    async def resolve(
        self, io: IO, batch: RowBatch, loader: Loader | None, life: float | None = None
    ) -> None:
        """Fill a batch from near, store and, where there is one, the loader; call listen first.

        Without a loader, texts that no tier has stay ABSENT. Each missing text reaches the loader
        once however many calls want it; the loader's error passes unchanged.
        """
        wanted = list(range(len(batch.keys)))
        if self.access is None and loader is None:
            batch.look_near(wanted)
            return
        while wanted:
            flight = Flight(batch.shelf.name, io.loop)
            crew = flight.board()
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
                wanted += await self._join(io, other, batch, positions, loader, life)
            wanted.sort()

    async def _join(
        self,
        io: IO,
        other: Flight,
        batch: RowBatch,
        positions: list[int],
        loader: Loader | None,
        life: float | None,
    ) -> list[int]:
        """Wait for another call's flight; return the positions to try again."""
        keys = [batch.keys[i] for i in positions]
        reading = loader is None
        waited = await io.wait(other, lambda: other.settled(keys, reading=reading))
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
        landed: dict[int, tuple[RowBatch, list[int]]] = {}
        for position, key in zip(positions, keys, strict=True):
            outcome = other.outcome(key)
            if isinstance(outcome, Landed):
                landed.setdefault(id(outcome.batch), (outcome.batch, []))[1].append(position)
            elif isinstance(outcome, Failed) and outcome.keys <= set(batch.keys):
                # without a cache we would have made the same call, and got the same error
                raise outcome.error
            elif not reading or (outcome is not None and outcome is not ABSENT):
                again.append(position)
        for source, taken in landed.values():
            batch.taken_from(source, taken)
        return again

    def lives(self, life: float | None, count: int) -> NDArray[np.float64] | None:
        """Return the seconds each of ``count`` entries lives; None for no limit."""
        if life is None:
            return None
        return np.array([jittered(life, self.options.jitter) for _ in range(count)], np.float64)

    # -- writing and forgetting --------------------------------------------------------------

    async def write(self, io: IO, batch: RowBatch, landing: Landing, life: float | None) -> None:
        """Put values into the store, then near; what was under way for these keys is detached."""
        await self.listen(io)
        await io.complete(self._write(io, batch, landing, life))

    async def _write(self, io: IO, batch: RowBatch, landing: Landing, life: float | None) -> None:
        generation = self.generation
        flight = Flight(batch.shelf.name, io.loop, writes=True)
        crew = flight.board()
        contested: set[bytes] = set()
        lives = self.lives(life, len(batch.keys))
        landing = landing.until(None if lives is None else self.clock() + lives)

        evicted = 0

        def install(keys: set[bytes]) -> None:
            nonlocal evicted
            # of two writes that overlapped nobody knows which one the store has; and whoever took
            # a key over may have read the store before this write reached it
            ours = keys - contested if generation == self.generation else set()
            evicted = batch.install(landing, ours)
            lost = [(d, k) for d, k in zip(batch.digests, batch.keys, strict=True) if k not in ours]
            self.flights.detach([key for _, key in lost])
            self.near.drop(batch.shelf.name, [digest for digest, _ in lost])

        done: dict[bytes, Outcome] = dict.fromkeys(batch.keys, RELEASED)
        try:
            contested = self.flights.take_over(flight, batch.keys)
            if self.access is not None:
                await self._write_through(io, self.access, batch, landing, lives)
            done = dict.fromkeys(batch.keys, Landed(batch))
        except BaseException:
            contested = set(batch.keys)  # it may or may not have reached the store
            raise
        finally:
            self.flights.land(flight, done, install)
            del crew
        if evicted:
            self.events.emit("evict", "near", evicted)

    async def _write_through(
        self,
        io: IO,
        access: Access,
        batch: RowBatch,
        landing: Landing,
        lives: NDArray[np.float64] | None,
    ) -> None:
        names = batch.shelf.keys
        entries = [Forget(names.identity, d).pack(self.reader.origin) for d in batch.digests]
        fetched, error = await access.attempt(io, "fetch", [], names.groups)
        if fetched is not None:
            batch.stamp = stamp(fetched.epochs)
            now = fetched.now + self.clock() - fetched.sent
            packed = batch.pack(landing, None if lives is None else now + lives)
            seconds = None if lives is None else lives.tolist()
            _, error = await access.attempt(
                io, "write", batch.keys, packed, seconds, names.log, entries
            )
            if error is None:
                access.superseded(batch.keys)
        if error is not None:
            # the store may hold an older value: what could not be written is forgotten there
            access.queue_texts(batch.keys, entries)
            if access.strict:
                raise error

    async def forget(self, io: IO, shelf: RowShelf, digests: Sequence[bytes]) -> int:
        """Forget texts in both tiers, and tell the other processes; return how many there were."""
        await self.listen(io)
        return await io.complete(self._forget(io, shelf, digests))

    async def _forget(self, io: IO, shelf: RowShelf, digests: Sequence[bytes]) -> int:
        keys = shelf.keys.values(digests)
        stored, near, error = 0, 0, None
        try:
            if self.access is not None:
                stored, error = await self._forget_stored(io, self.access, shelf, keys, digests)
        finally:  # whatever became of the store
            near = self._drop_near(shelf, keys, digests)
        self.counters.add(invalidations=len(digests))
        self.events.emit("invalidate", shelf.label, len(digests))
        self._raise_if_strict(error)
        return max(stored, near)

    async def _forget_stored(
        self,
        io: IO,
        access: Access,
        shelf: RowShelf,
        keys: Sequence[bytes],
        digests: Sequence[bytes],
    ) -> tuple[int, StoreError | None]:
        """Forget texts in the store; return how many valid entries it had."""
        stored, groups = 0, shelf.keys.groups
        entries = [Forget(shelf.keys.identity, d).pack(self.reader.origin) for d in digests]
        fetched, error = await access.attempt(io, "fetch", keys, groups)
        if fetched is not None:
            valid = Mark(0, None, stamp(fetched.epochs))
            shown = access.shown(keys, groups, fetched.values)
            stored = sum(value is not None and valid.wins(value) for value in shown)
            _, error = await access.attempt(io, "forget", keys, shelf.keys.log, entries)
        if error is not None:
            access.queue_texts(keys, entries)
        return stored, error

    async def forget_group(
        self, io: IO, group: bytes, log_name: bytes, gone: Forget, shelves: Sequence[RowShelf]
    ) -> int:
        """Forget a model or everything; return how many entries were near."""
        await self.listen(io)
        return await io.complete(self._forget_group(io, group, log_name, gone, shelves))

    async def _forget_group(
        self, io: IO, group: bytes, log_name: bytes, gone: Forget, shelves: Sequence[RowShelf]
    ) -> int:
        dropped, error = 0, None
        try:
            if self.access is not None:
                arguments = (group, log_name, gone.pack(self.reader.origin))
                _, error = await self.access.attempt(io, "forget_group", *arguments)
                if error is not None:
                    self.access.queue_group(group, arguments[2])
        finally:  # whatever became of the store
            dropped = self._drop_shelves(shelves)
        self.counters.add(invalidations=1)
        self.events.emit("invalidate", "group", dropped)
        self._raise_if_strict(error)
        return dropped

    def _raise_if_strict(self, error: StoreError | None) -> None:
        if error is not None and self.access is not None and self.access.strict:
            raise error

    def _drop_near(self, shelf: RowShelf, keys: Sequence[bytes], digests: Sequence[bytes]) -> int:
        with self.flights.lock:
            self.flights.detach(keys)
            return self.near.drop(shelf.name, digests)

    def _drop_shelves(self, shelves: Sequence[RowShelf]) -> int:
        names = {shelf.name for shelf in shelves}
        with self.flights.lock:
            self.flights.detach_shelves(names.__contains__)
            dropped = self.near.drop_shelves(names)
            for shelf in shelves:
                shelf.forget_size()
            return dropped

    # -- what other processes forgot ----------------------------------------------------------

    async def listen(self, io: IO) -> None:
        """Begin an operation: read the log if it is time, and drop what was forgotten elsewhere."""
        self.check_open()
        access, opening = self.access, self._opening
        if access is None:
            return
        if not self.reader.due(self.clock()) or not self.reader.claim(self.clock()):
            # until we have a place in the log, nothing read from the store may be kept near
            if opening is not None:
                await io.wait(opening, lambda: opening.looked)
            return
        if opening is None:
            if self.reader.may_serve_meanwhile(self.clock()):
                # a slow store must not slow a warm hit
                io.background(lambda aside: self._read_log(aside, access))
            else:
                await self._read_log(io, access)
            return
        opening.loop = io.loop
        try:
            await self._read_log(io, access)
        finally:
            self._opening = None
            opening.looked_in_store()

    async def _read_log(self, io: IO, access: Access) -> None:
        reader, asked = self.reader, self.clock()
        if self.closed:
            return
        changes, error = await access.attempt(io, "changes", reader.log, reader.cursor)
        if error is not None:
            reader.failed()  # copies of what never changes go on serving
            return
        reader.heard(asked)
        first, reader.cursor = not reader.cursor, changes.cursor
        if first or changes.entries is None:
            self._gap(sizes_too=not first)
            return
        for entry in changes.entries:
            gone = Forget.unpack(entry, reader.origin)
            if gone is not None:
                self._apply(gone)

    def _gap(self, *, sizes_too: bool) -> None:
        """Drop everything: nobody can say what was forgotten while we did not listen."""
        with self.flights.lock:
            self.generation += 1
            for shelf in self.shelves():
                self.near.drop_shelves([shelf.name])
                if sizes_too:
                    shelf.forget_size()

    def _apply(self, gone: Forget) -> None:
        named = [s for s in self.shelves() if not gone.model or s.keys.identity == gone.model]
        if not gone.digest:
            self._drop_shelves(named)
            return
        for shelf in named:
            self._drop_near(shelf, shelf.keys.values([gone.digest]), [gone.digest])

    # -- counting ----------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Return the counts, the sizes, and what the hits saved at the mean price of a load."""
        counts = self.counters.snapshot(
            bytes_near=self.near.used_bytes,
            entries_near=len(self.near),
            evictions=self.near.evictions - self._evictions_before,
            expirations=self.near.expirations - self._expirations_before,
            undelivered=0 if self.access is None else self.access.undelivered,
        )
        price = counts.load_seconds / counts.loads if counts.loads else 0.0
        return replace(counts, saved_seconds=counts.saved_loads * price)

    def reset_stats(self) -> None:
        """Count from zero again."""
        self.counters.reset()
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
        if self.access is not None:
            await self.access.ask(io, "purge")

    async def close(self, io: IO) -> None:
        """Deliver what is queued if the store can be reached, and end."""
        if self.closed:
            return
        if self.access is not None:
            await self.access.finish(io)
        self.closed = True
        fork.leave(self)

    def fork_locks(self) -> Sequence[fork.Lock]:
        """Return the locks to hold at a fork, so that the child copies nothing half done."""
        return (self.flights.lock, self.near.lock)

    def start_anew(self) -> None:
        """Let go, in a forked child, of what belongs to the parent's threads."""
        self.flights = FlightTable()
        self.counters.start_anew()
        self.reader.start_anew()
        self._opening = None
        for shelf in self.shelves():
            shelf.start_anew()
        if self.access is not None and self.keeper is not None:
            self.access.start_anew()
            self.keeper.start_anew()
            self.access.store.reset_after_fork()

    def check(self) -> None:
        """Raise AssertionError where something is inconsistent or left over; for tests."""
        self.near.check()
        assert not len(self.flights), "no flight is left"
