"""What never changes: near copies serve unasked, and a log says what was forgotten.

The log of the namespace is read at most every ``link_timeout / 2``; fills are first-writer-wins,
so that all processes have the same bits.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from nearcache.coherence.epochs import stamp
from nearcache.coherence.forgets import Forget, LogReader
from nearcache.coherence.leases import LeaseKeeper
from nearcache.engine.access import Access
from nearcache.engine.flights import Flight
from nearcache.engine.io import IO
from nearcache.engine.refills import Refills
from nearcache.engine.rows import Landing, RowBatch, RowShelf
from nearcache.entry import Mark
from nearcache.errors import StoreError
from nearcache.keys import KeySpace
from nearcache.stores.base import Fetched, Store

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine

__all__ = ["Logged"]

_FIRST_LOOK, _SLOWEST_LOOK = 0.002, 0.05  # seconds between looks at a lease another process holds


class Logged:
    """One namespace of values that never change, shared through a store."""

    def __init__(self, engine: "Engine", store: Store, space: KeySpace) -> None:
        options = engine.options
        self._engine = engine
        self._store = store
        self._space = space
        self.reader = LogReader(space.log, options.link_timeout / 2)
        self.access = Access(
            store,
            self,
            engine.counters,
            engine.events,
            engine.clock,
            strict=options.on_store_error == "raise",
            meter=engine.meter,
        )
        self.keeper = LeaseKeeper(store.renew, options.lease)
        self.refills = Refills(engine, self)
        self._opening: Flight | None = Flight(None, None)

    # -- what other processes forgot ----------------------------------------------------------

    def current(self) -> bool:
        """Say whether it is not yet time to read the log."""
        return not self.reader.due(self._engine.clock())

    def hears(self) -> tuple[str, str]:
        """Say how it hears of what is forgotten elsewhere, and why it does not."""
        well = self.access.state == "closed"
        return ("polling", "") if well else ("lost", "the store does not answer")

    async def listen(self, io: IO) -> None:
        """Read the log if it is time, and drop what was forgotten elsewhere."""
        opening, clock = self._opening, self._engine.clock
        if not self.reader.due(clock()) or not self.reader.claim(clock()):
            # until we have a place in the log, nothing read from the store may be kept near
            if opening is not None:
                await io.wait(opening, lambda: opening.looked)
            return
        if opening is None:
            if self.reader.may_serve_meanwhile(clock()):
                # a slow store must not slow a warm hit
                io.background(self._read_log)
            else:
                await self._read_log(io)
            return
        opening.loop = io.loop
        try:
            await self._read_log(io)
        finally:
            self._opening = None
            opening.looked_in_store()

    async def _read_log(self, io: IO) -> None:
        if await self.catch_up(io):
            self.write_kept(io)

    async def catch_up(self, io: IO) -> bool:
        """Read the log; say whether all that was forgotten until now has been dropped."""
        reader, asked = self.reader, self._engine.clock()
        if self._engine.closed:
            return False
        changes, error = await self.access.attempt(io, "changes", reader.log, reader.cursor)
        if error is not None:
            reader.failed()  # copies of what never changes go on serving
            return False
        reader.heard(asked)
        first = not reader.cursor
        if first or changes.entries is None:
            self._gap(sizes_too=not first)
        for entry in () if first else changes.entries or ():
            gone = Forget.unpack(entry, reader.origin)
            if gone is not None:
                self._apply(gone)
        reader.cursor = changes.cursor  # last: who reads from there must find all that applied
        return True

    def _gap(self, *, sizes_too: bool) -> None:
        """Drop everything: nobody can say what was forgotten while we did not listen."""
        for shelf in self._engine.drop_everything():
            if sizes_too:
                shelf.forget_size()

    def _named(self, gone: Forget) -> list[RowShelf]:
        shelves: Sequence[RowShelf] = self._engine.shelves()
        return [s for s in shelves if not gone.model or s.keys.identity == gone.model]

    def _apply(self, gone: Forget) -> None:
        named = self._named(gone)
        if not gone.digest:
            self._engine.drop_shelves(named)
            return
        for shelf in named:
            self._engine.drop_near(shelf, shelf.keys.values([gone.digest]), [gone.digest])

    # -- reading and loading -----------------------------------------------------------------

    def boards(self, flight: Flight, keys: Sequence[bytes]) -> None:
        """Do nothing: whoever gets a value that never changes gets the right one."""

    async def read(self, io: IO, batch: RowBatch, positions: Sequence[int]) -> Fetched | None:
        """Read values and epochs in one round trip."""
        keys, groups = batch.keys_at(positions), batch.shelf.keys.groups
        show = self.access.hiding()
        fetched: Fetched | None = await self.access.ask(io, "fetch", keys, groups)
        if fetched is None:
            return None
        batch.stamp = stamp(fetched.epochs)
        return fetched._replace(values=show(keys, groups, fetched.values))

    async def came(self, io: IO, _batch: RowBatch, entries: dict[int, bytes]) -> Fetched | None:
        """Return entries that a script gave back, with the times that a fetch would have."""
        sent = self._engine.clock()
        now = await self.access.ask(io, "now")
        return None if now is None else Fetched(list(entries.values()), [], now, sent)

    async def lease(
        self, io: IO, batch: RowBatch, positions: Sequence[int], token: bytes
    ) -> list[bool | bytes] | None:
        """Claim the right to load what has no valid value."""
        # a store that still has what we know to be forgotten must not give it back
        keys, seconds = batch.keys_at(positions), self._engine.options.lease
        if not batch.stamp or self.access.hides(keys):
            return None
        answers: list[bool | bytes] | None = await self.access.ask(
            io, "lease", keys, token, seconds, batch.marked()
        )
        return answers

    def holding(self, keys: Sequence[bytes], token: bytes) -> AbstractContextManager[None]:
        """Keep the lease alive while its load runs."""
        return self.keeper.holding(keys, token)

    async def fill(
        self, io: IO, batch: RowBatch, landing: Landing, token: bytes
    ) -> list[bool | bytes] | None:
        """Write what was loaded; where another process was first, its entry is the answer."""
        now = await self.access.ask(io, "now")
        if now is None:
            return None
        lives = landing.lives(self._engine.clock())
        answers: list[bool | bytes] | None = await self.access.ask(
            io,
            "fill",
            batch.keys_at(landing.positions),
            batch.pack(landing, None if lives is None else now + lives),
            token,
            batch.marked(),
            None if lives is None else lives.tolist(),
        )
        return answers

    def keep(self, batch: RowBatch, landing: Landing, token: bytes | None) -> None:
        """Keep what could not be written, until it can."""
        self.refills.keep(batch, landing, token)

    def write_kept(self, io: IO) -> None:
        """Write it aside, unless the store does not answer, or has just refused it."""
        if self.access.state == "closed" and self.refills.due():
            io.background(self.refills.write)

    def let_go(self, keys: Sequence[bytes]) -> None:
        """Keep these no longer."""
        self.refills.forget(keys)

    def let_go_shelves(self, names: Collection[object]) -> None:
        """Keep nothing of these shelves."""
        self.refills.forget_shelves(names)

    @property
    def unwritten(self) -> int:
        """How many loaded vectors wait to be written."""
        return len(self.refills)

    @contextmanager
    def waiting(self, _keys: Sequence[bytes]) -> Iterator["_Pauses"]:
        """Look at the lease again and again: nobody tells when it ends."""
        yield _Pauses()

    # -- writing and forgetting --------------------------------------------------------------

    async def write(self, io: IO, batch: RowBatch, landing: Landing) -> StoreError | None:
        """Write values whatever is there."""
        names, access = batch.shelf.keys, self.access
        self.refills.forget(batch.keys)  # before the store is asked: a lease taken then is too late
        entries = [Forget(names.identity, d).pack(self.reader.origin) for d in batch.handles]
        queued, done = await access.before_write(io, batch.keys), False
        try:
            error = await self._write(io, batch, landing, entries)
            done = error is None
        finally:
            access.after_write(queued, done=done)
        if error is not None:
            # the store may hold an older value: what could not be written is forgotten there
            access.queue_texts(batch.keys, entries)
        return error

    async def _write(
        self, io: IO, batch: RowBatch, landing: Landing, entries: Sequence[bytes]
    ) -> StoreError | None:
        names, access = batch.shelf.keys, self.access
        failed: StoreError | None
        fetched, failed = await access.attempt(io, "fetch", [], names.groups)
        if fetched is not None:
            batch.stamp = stamp(fetched.epochs)
            here = self._engine.clock()
            lives = landing.lives(here)
            now = fetched.now + here - fetched.sent
            packed = batch.pack(landing, None if lives is None else now + lives)
            seconds = None if lives is None else lives.tolist()
            _, failed = await access.attempt(
                io, "write", batch.keys, packed, seconds, names.log, entries
            )
        return failed

    async def forget(
        self, io: IO, shelf: RowShelf, handles: Sequence[bytes]
    ) -> tuple[int, StoreError | None]:
        """Forget texts by their digests."""
        stored, groups, access = 0, shelf.keys.groups, self.access
        keys = shelf.keys.values(handles)
        self.refills.forget(keys)  # before the store is asked, as in write()
        entries = [Forget(shelf.keys.identity, d).pack(self.reader.origin) for d in handles]
        show = access.hiding()
        fetched, error = await access.attempt(io, "fetch", keys, groups)
        if fetched is not None:
            valid = Mark(0, None, stamp(fetched.epochs))
            shown = show(keys, groups, fetched.values)
            stored = sum(value is not None and valid.wins(value) for value in shown)
            _, error = await access.attempt(io, "forget", keys, shelf.keys.log, entries)
        if error is not None:
            access.queue_texts(keys, entries)
        return stored, error

    async def forget_group(self, io: IO, group: tuple[bytes, Forget]) -> StoreError | None:
        """Give a model, or everything, a new epoch, and log it."""
        name, entry = group[0], group[1].pack(self.reader.origin)
        self.refills.forget_shelves(shelf.name for shelf in self._named(group[1]))
        _, error = await self.access.attempt(io, "forget_group", name, self._space.log, entry)
        if error is not None:
            self.access.queue_group(name, entry)
        return error

    # -- what is queued is delivered like this -------------------------------------------------

    def forget_stored(self, keys: Sequence[bytes], entries: Sequence[bytes]) -> None:
        """Forget values in the store."""
        self._store.forget(keys, self._space.log, entries)

    def forget_stored_group(self, group: bytes, entry: bytes) -> None:
        """Forget a group in the store."""
        self._store.forget_group(group, self._space.log, entry)

    def joined(self, _before: bytes, entry: bytes) -> bytes:
        """Return the later one: they say the same."""
        return entry

    def everything(self) -> tuple[bytes, bytes]:
        """Return the group of everything, and its entry."""
        return self._space.everything, Forget().pack(self.reader.origin)

    def store_is_back(self) -> None:
        """Let the next operation read the log, and write what was loaded meanwhile."""
        self.reader.hurry()

    # -- life --------------------------------------------------------------------------------

    def at_rest(self) -> AbstractContextManager[object]:
        """Return what keeps what is kept from being written."""
        return self.refills.at_rest()

    def start_anew(self) -> None:
        """Stand nowhere in the log, and hold no lease."""
        self.reader.start_anew()
        self._opening = None
        self.access.start_anew()
        self.keeper.start_anew()
        self.refills.start_anew()

    def close(self) -> None:
        """Let what is being written end."""
        self.refills.close()


class _Pauses:
    """Longer and longer pauses between looks."""

    def __init__(self) -> None:
        self._pause = _FIRST_LOOK

    async def wait(self, io: IO) -> None:
        """Pause."""
        await io.sleep(self._pause)
        self._pause = min(_SLOWEST_LOOK, 1.5 * self._pause)
