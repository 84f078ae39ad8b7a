"""The way of a call through near, store and loader; docs/flow.md draws it.

Nothing here knows what a value is: a *batch* (``engine/rows.py``) brings the keys of one call, and
decodes, checks and installs. All waiting goes through ``io``, so that this is the one source of
both faces.
"""

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nearcache.clock import Clock
from nearcache.coherence.epochs import stamp
from nearcache.coherence.forgets import Forget, LogReader
from nearcache.coherence.leases import LeaseKeeper
from nearcache.engine.breaker import Breaker
from nearcache.engine.flights import ABSENT, Failed, Flight, FlightTable, Landed
from nearcache.engine.io import IO, Loader
from nearcache.engine.rows import Landing, RowBatch, RowShelf
from nearcache.errors import ClosedError, StoreError, StoreUnavailable
from nearcache.events import Events
from nearcache.keys import KeySpace
from nearcache.near.pick import VectorTier
from nearcache.options import Options, effective_ttl
from nearcache.stats import Counters, Stats
from nearcache.stores.base import HELD, TAKEN, WRITTEN, Fetched, Store

__all__ = ["Engine", "live_engines"]

log = logging.getLogger("nearcache")

_FIRST_LOOK, _SLOWEST_LOOK = 0.002, 0.05  # seconds between looks at a lease another process holds
_MOST_QUEUED = 10_000
_QUIET = 60.0  # seconds between two log lines about one kind of store failure

_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def live_engines() -> "list[Engine]":
    """Return every engine of this process that is in use; for tests and for ``fork``."""
    return list(_engines)


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
        self.reader = LogReader(space.log, options.link_timeout / 2)
        self.shelves = shelves
        self.options = options
        self.clock = clock
        self.counters = Counters()
        self.events = Events()
        self.flights = FlightTable()
        self.breaker = Breaker(clock)
        self.keeper = None if store is None else LeaseKeeper(store.renew, options.lease)
        self.closed = False
        self._everything = space.everything
        self._generation = 0  # rises when the log had a gap: older flights install nothing
        self._evictions_before = self._expirations_before = 0
        self._queued: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._logged: dict[str, float] = {}
        _engines.add(self)

    # -- reading and loading -----------------------------------------------------------------

    def current(self) -> bool:
        """Say whether near hits may be served without a look at the log; costs a clock."""
        return self.store is None or not self.reader.due(self.clock())

    async def resolve(
        self, io: IO, batch: RowBatch, loader: Loader | None, ttl: float | None = None
    ) -> None:
        """Fill a batch from near, store and, where there is one, the loader.

        Without a loader, texts that no tier has stay ABSENT. Each missing text reaches the loader
        once however many calls want it; the loader's error passes unchanged.
        """
        self.check_open()
        await self.listen(io)
        wanted = batch.look_near(range(len(batch.keys)))
        if self.store is None and loader is None:
            return
        while wanted:
            flight = Flight(batch.shelf.name, io.loop)
            mine, theirs = self.flights.claim(flight, batch.keys, wanted)
            try:
                if mine:
                    await self._fly(io, flight, batch, mine, loader, ttl)
            finally:
                flight.left = True
                keys = (batch.keys[i] for i in mine)
                self.flights.finish(flight, [key for key in keys if key not in flight.aloft])
            # what we claimed has landed: only now may we wait, or two calls could wait for
            # each other's keys for ever
            wanted = []
            for other, positions in theirs.items():
                wanted += await self._join(io, other, batch, positions, loader, ttl)

    async def _fly(
        self,
        io: IO,
        flight: Flight,
        batch: RowBatch,
        mine: list[int],
        loader: Loader | None,
        ttl: float | None,
    ) -> None:
        generation = self._generation
        # somebody may have landed between our look and our claim
        left = batch.look_near(mine)
        self._settle(flight, batch, set(mine) - set(left))
        if left and self.store is not None:
            left = await self._read(io, flight, batch, left, generation)
        flight.looked_in_store()
        if not left:
            return
        if loader is None:
            self.flights.land(flight, dict.fromkeys([batch.keys[i] for i in left], ABSENT))
            return
        await self._load(io, flight, batch, left, loader, ttl, generation)

    def _settle(self, flight: Flight, batch: RowBatch, positions: Iterable[int]) -> None:
        self.flights.land(flight, {batch.keys[i]: Landed(batch, i) for i in positions})

    def _land(self, flight: Flight, batch: RowBatch, landing: Landing, generation: int) -> None:
        def install(keys: set[bytes]) -> None:
            if generation == self._generation:
                batch.install(landing, keys)

        outcomes = {batch.keys[i]: Landed(batch, i) for i in landing.positions}
        self.flights.land(flight, outcomes, install)

    async def _read(
        self, io: IO, flight: Flight, batch: RowBatch, positions: list[int], generation: int
    ) -> list[int]:
        """Take from the store what is there; return the positions that are not."""
        names = batch.shelf.keys
        fetched = await self._ask(
            io, "fetch", [batch.keys[i] for i in positions], (names.everything, names.group)
        )
        if fetched is None:
            return positions
        return await self._accept(io, flight, batch, positions, fetched, generation)

    async def _accept(
        self,
        io: IO,
        flight: Flight,
        batch: RowBatch,
        positions: list[int],
        fetched: Fetched,
        generation: int,
    ) -> list[int]:
        landing, corrupt = batch.accept(positions, fetched, stamp(fetched.epochs))
        if corrupt:
            self.counters.add(corrupt=len(corrupt))
            self._say("corrupt", "%d stored entries did not verify and are deleted", len(corrupt))
            found = dict(zip(positions, fetched.values, strict=True))
            keys = [batch.keys[i] for i in corrupt]
            await self._ask(io, "drop_corrupt", keys, [found[i] for i in corrupt])
        if landing is None:
            return positions
        self._land(flight, batch, landing, generation)
        here = set(landing.positions)
        return [i for i in positions if i not in here]

    # -- loading -----------------------------------------------------------------------------

    async def _load(
        self,
        io: IO,
        flight: Flight,
        batch: RowBatch,
        left: list[int],
        loader: Loader,
        ttl: float | None,
        generation: int,
    ) -> None:
        pause = _FIRST_LOOK
        size = loader.max_batch or self.options.max_batch
        while left:
            steps = [
                _Chunk(self, io, flight, batch, left[at : at + size], loader, ttl, generation)
                for at in range(0, len(left), size)
            ]
            held = await io.gather(steps, loader.limit)
            left = [i for part in held for i in part]
            if left:  # loading elsewhere; what was ours has been loaded before we wait
                await io.sleep(pause)
                pause = min(_SLOWEST_LOOK, 1.5 * pause)

    async def load_chunk(
        self,
        io: IO,
        flight: Flight,
        batch: RowBatch,
        positions: list[int],
        loader: Loader,
        ttl: float | None,
        generation: int,
    ) -> list[int]:
        """Load what nobody else is loading; return the positions somebody else is."""
        token = os.urandom(16)
        answers = None
        if batch.stamp and self.keeper is not None:
            answers = await self._ask(
                io,
                "lease",
                [batch.keys[i] for i in positions],
                token,
                self.options.lease,
                batch.marked(),
            )
        if answers is None or self.keeper is None:
            await self._call(io, flight, batch, positions, loader, ttl, generation)
            return []
        taken = [i for i, a in zip(positions, answers, strict=True) if a is TAKEN]
        held = [i for i, a in zip(positions, answers, strict=True) if a is HELD]
        came = {i: a for i, a in zip(positions, answers, strict=True) if isinstance(a, bytes)}
        if came:
            taken += await self._adopt(io, flight, batch, came, generation)
        if taken:
            keys = [batch.keys[i] for i in taken]
            with self.keeper.holding(keys, token):
                try:
                    await self._call(io, flight, batch, taken, loader, ttl, generation, token=token)
                except BaseException:
                    await self._ask(io, "release", keys, token)
                    raise
        return held

    async def _adopt(
        self,
        io: IO,
        flight: Flight,
        batch: RowBatch,
        came: dict[int, bytes],
        generation: int,
    ) -> list[int]:
        """Take entries another process wrote meanwhile; return the positions of unusable ones."""
        sent = self.clock()
        now = await self._ask(io, "now")
        if now is None:
            return list(came)
        fetched = Fetched(list(came.values()), [], now, sent)
        landing, _ = batch.accept(list(came), fetched, batch.stamp)
        if landing is None:
            return list(came)
        self._land(flight, batch, landing, generation)
        here = set(landing.positions)
        return [i for i in came if i not in here]

    async def _call(
        self,
        io: IO,
        flight: Flight,
        batch: RowBatch,
        positions: list[int],
        loader: Loader,
        ttl: float | None,
        generation: int,
        *,
        token: bytes | None = None,
    ) -> None:
        """Call the loader, keep the result in both tiers, and let the waiters have it."""
        started = self.clock()
        life = effective_ttl(ttl, None, self.options.jitter)
        try:
            output = await io.load(loader, batch.inputs(positions), flight)
            loaded_at = self.clock()
            landing = batch.loaded(positions, output, 0.0 if life is None else loaded_at + life)
        except Exception as error:
            self.counters.add(load_failures=1)
            keys = frozenset(batch.keys[i] for i in positions)
            self.flights.land(flight, dict.fromkeys(keys, Failed(error, keys)))
            raise
        self.counters.add(loads=len(positions), load_seconds=loaded_at - started)
        self.events.emit("load", batch.shelf.label, len(positions))
        if token is not None and life != 0:
            await self._fill(io, batch, landing, token, life)
        if life == 0:
            self._settle(flight, batch, positions)
        else:
            self._land(flight, batch, landing, generation)

    async def _fill(
        self, io: IO, batch: RowBatch, landing: Landing, token: bytes, life: float | None
    ) -> None:
        """Write what was loaded, unless another process was first or it was forgotten."""
        now = await self._ask(io, "now")
        if now is None:
            return
        entries = batch.pack(landing, 0.0 if life is None else now + life)
        keys = [batch.keys[i] for i in landing.positions]
        answers = await self._ask(io, "fill", keys, entries, token, batch.marked(), life)
        if answers and (late := sum(answer is not WRITTEN for answer in answers)):
            self.events.emit("late", batch.shelf.label, late)

    # -- waiting -----------------------------------------------------------------------------

    async def _join(
        self,
        io: IO,
        other: Flight,
        batch: RowBatch,
        positions: list[int],
        loader: Loader | None,
        ttl: float | None,
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
                alone = Flight(batch.shelf.name, io.loop)
                for at in range(0, len(positions), self.options.max_batch):
                    part = positions[at : at + self.options.max_batch]
                    await self._call(io, alone, batch, part, loader, ttl, -1)
            return []
        again: list[int] = []
        landed: dict[int, tuple[Any, list[tuple[int, int]]]] = {}
        for position, key in zip(positions, keys, strict=True):
            outcome = other.outcome(key)
            if isinstance(outcome, Landed):
                source = landed.setdefault(id(outcome.batch), (outcome.batch, []))
                source[1].append((position, outcome.position))
            elif isinstance(outcome, Failed) and outcome.keys <= set(batch.keys):
                # without a cache we would have made the same call, and got the same error
                raise outcome.error
            elif outcome is None or outcome is ABSENT:
                if not reading:
                    again.append(position)
            else:
                again.append(position)
        for source_batch, pairs in landed.values():
            batch.taken_from(source_batch, pairs)
        return again

    # -- writing and forgetting --------------------------------------------------------------

    async def write(self, io: IO, batch: RowBatch, landing: Landing, life: float | None) -> None:
        """Put values into the store, then near; what was under way for these keys is detached."""
        self.check_open()
        await self.listen(io)
        generation = self._generation
        flight = Flight(batch.shelf.name, io.loop, writes=True)
        contested = self.flights.take_over(flight, batch.keys)
        try:
            if self.store is not None:
                await self._write_through(io, batch, landing, life)

            def install(keys: set[bytes]) -> None:
                lost = [d for d, k in zip(batch.digests, batch.keys, strict=True) if k not in keys]
                lost += [
                    d for d, k in zip(batch.digests, batch.keys, strict=True) if k in contested
                ]
                if generation == self._generation:
                    batch.install(landing, keys - contested)
                # of two writes that overlapped nobody knows which one the store has
                self.near.drop(batch.shelf.name, lost)

            outcomes = {key: Landed(batch, i) for i, key in enumerate(batch.keys)}
            self.flights.land(flight, outcomes, install)
        finally:
            self.flights.finish(flight, batch.keys)

    async def _write_through(
        self, io: IO, batch: RowBatch, landing: Landing, life: float | None
    ) -> None:
        names = batch.shelf.keys
        entries = [Forget(names.identity, d).pack(self.reader.origin) for d in batch.digests]
        fetched = await self._ask(io, "fetch", [], (names.everything, names.group))
        written = None
        if fetched is not None:
            batch.stamp = stamp(fetched.epochs)
            sent = self.clock()
            expiry = 0.0 if life is None else fetched.now + (sent - fetched.sent) + life
            written = await self._ask(
                io,
                "write",
                batch.keys,
                batch.pack(landing, expiry),
                life,
                names.log,
                entries,
                done=True,
            )
        if written is None:
            # the store may hold an older value: what could not be written is forgotten there
            self._queue("forget", (batch.keys, names.log, entries))

    async def forget(self, io: IO, shelf: RowShelf, digests: Sequence[bytes]) -> int:
        """Forget texts in both tiers, and tell the other processes; return how many there were."""
        self.check_open()
        await self.listen(io)
        keys = shelf.keys.values(digests)
        stored = 0
        if self.store is not None:
            entries = [Forget(shelf.keys.identity, d).pack(self.reader.origin) for d in digests]
            arguments = (keys, shelf.keys.log, entries)
            answer = await self._ask(io, "forget", *arguments)
            if answer is None:
                self._queue("forget", arguments)
            stored = answer or 0
        near = self._drop_near(shelf, keys, digests)
        self.counters.add(invalidations=len(digests))
        self.events.emit("invalidate", shelf.label, len(digests))
        return max(stored, near)

    def _drop_near(self, shelf: RowShelf, keys: Sequence[bytes], digests: Sequence[bytes]) -> int:
        with self.flights.lock:
            self.flights.detach(keys)
            return self.near.drop(shelf.name, digests)

    async def forget_group(
        self, io: IO, group: bytes, log_name: bytes, gone: Forget, shelves: Sequence[RowShelf]
    ) -> int:
        """Forget a model or everything; return how many entries were near."""
        self.check_open()
        await self.listen(io)
        if self.store is not None:
            arguments = (group, log_name, gone.pack(self.reader.origin))
            if await self._ask(io, "forget_group", *arguments, done=True) is None:
                self._queue("forget_group", arguments)
        dropped = self._drop_shelves(shelves)
        self.counters.add(invalidations=1)
        self.events.emit("invalidate", "group", dropped)
        return dropped

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
        """Read the log if it is time, and drop here what was forgotten elsewhere."""
        reader = self.reader
        if self.store is None or not reader.due(self.clock()) or not reader.claim(self.clock()):
            return
        changes = await self._ask(io, "changes", reader.log, reader.cursor)
        if changes is None:
            return  # the store is down: copies of what never changes go on serving
        first, reader.cursor = not reader.cursor, changes.cursor
        if first or changes.entries is None:
            self._gap()
            return
        for entry in changes.entries:
            gone = Forget.unpack(entry, reader.origin)
            if gone is not None:
                self._apply(gone)

    def _gap(self) -> None:
        """Drop everything: nobody can say what was forgotten while we did not listen."""
        with self.flights.lock:
            self._generation += 1
            self.near.drop_shelves(self._names(b""))

    def _apply(self, gone: Forget) -> None:
        with self.flights.lock:
            names = self._names(gone.model)
            if not gone.digest:
                self.flights.detach_shelves(names.__contains__)
                self.near.drop_shelves(names)
                return
            for shelf in self.shelves():
                if shelf.name in names:
                    self._drop_near(shelf, shelf.keys.values([gone.digest]), [gone.digest])

    def _names(self, model: bytes) -> list[Any]:
        return [s.name for s in self.shelves() if not model or s.keys.identity == model]

    # -- the store ---------------------------------------------------------------------------

    async def _ask(self, io: IO, method: str, *arguments: Any, done: Any = None) -> Any:
        """Ask the store; None when it cannot answer. ``done`` is returned for an answer of None."""
        if self.store is None:
            return None
        try:
            if not self.breaker.allows():
                msg = f"{self.store.address} failed a moment ago and is left alone for now"
                raise StoreUnavailable(msg)
            await self._deliver(io)
            answer = await io.store(getattr(self.store, method), *arguments)
        except StoreError as error:
            if isinstance(error, StoreUnavailable):
                self.breaker.failed()
            self.counters.add(store_errors=1)
            self.events.emit("store_error", method, error)
            self._say(type(error).__name__, "the store failed at %s: %s", method, error)
            if self.options.on_store_error == "raise":
                raise
            return None
        self.breaker.succeeded()
        return done if answer is None else answer

    def _queue(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Keep an invalidation for when the store can be reached."""
        if len(self._queued) >= _MOST_QUEUED:
            self._queued.clear()
            forget_all = Forget().pack(self.reader.origin)
            method, arguments = "forget_group", (self._everything, self.reader.log, forget_all)
        self._queued.append((method, arguments))

    async def _deliver(self, io: IO) -> None:
        """Do what is queued before anything else, so that nothing forgotten is read again."""
        while self._queued:
            method, arguments = self._queued[0]
            await io.store(getattr(self.store, method), *arguments)
            if self._queued and self._queued[0] == (method, arguments):
                self._queued.popleft()

    def _say(self, kind: str, text: str, *values: object) -> None:
        now = self.clock()
        if now - self._logged.get(kind, float("-inf")) >= _QUIET:
            self._logged[kind] = now
            log.warning(text, *values)

    async def purge(self, io: IO) -> None:
        """Let the store delete what has expired."""
        await self._ask(io, "purge")

    # -- counting ----------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Return the counts, the sizes, and what the hits saved at the mean price of a load."""
        counts = self.counters.snapshot(
            bytes_near=self.near.used_bytes,
            entries_near=len(self.near),
            evictions=self.near.evictions - self._evictions_before,
            expirations=self.near.expirations - self._expirations_before,
            undelivered=len(self._queued),
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

    async def close(self, io: IO) -> None:
        """Deliver what is queued if the store can be reached, and end."""
        if self.closed:
            return
        if self._queued:
            await self._ask(io, "now")
        if self._queued:
            log.warning("%d invalidations never reached the store", len(self._queued))
        self.closed = True
        _engines.discard(self)

    def check(self) -> None:
        """Raise AssertionError where something is inconsistent or left over; for tests."""
        self.near.check()
        assert not len(self.flights), "no flight is left"


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One call of the loader: a step that goes on when its caller is cancelled.

    Its keys are *aloft* from before the step is scheduled until it has ended in whatever way, so
    that the caller's clean-up does not release what is still being loaded.
    """

    engine: Engine
    io: IO
    flight: Flight
    batch: RowBatch
    positions: list[int]
    loader: Loader
    ttl: float | None
    generation: int

    def keys(self) -> list[bytes]:
        return [self.batch.keys[i] for i in self.positions]

    def start(self) -> Coroutine[Any, Any, list[int]]:
        self.flight.aloft.update(self.keys())
        return self.engine.load_chunk(
            self.io,
            self.flight,
            self.batch,
            self.positions,
            self.loader,
            self.ttl,
            self.generation,
        )

    def ended(self) -> None:
        self.flight.aloft.difference_update(self.keys())
        if self.flight.left:
            self.engine.flights.finish(self.flight, self.keys())


def _before_fork() -> None:
    """Take every lock, so that the child copies nothing that is half done."""
    for engine in live_engines():
        engine.flights.lock.acquire()
        engine.near.lock.acquire()
        _locked.append(engine)


def _after_fork() -> None:
    while _locked:
        engine = _locked.pop()
        engine.near.lock.release()
        engine.flights.lock.release()


def _after_fork_in_child() -> None:
    """Start anew: the threads that flew, renewed and waited are the parent's."""
    engines = list(_locked)
    _after_fork()
    for engine in engines:
        engine.flights = FlightTable()
        engine.breaker = Breaker(engine.clock)
        engine.reader.start_anew()
        if engine.keeper is not None:
            engine.keeper.start_anew()
        if engine.store is not None:
            engine.store.reset_after_fork()


_locked: list[Engine] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )
