"""What was loaded while the store did not answer, to be written when it does.

Only of what never changes. It is kept as the near tier keeps it: what is forgotten, here or, as the
log says, elsewhere, is dropped. And it is written as a load is: under a lease, first writer wins::

    us                              store               another process
    load v (no answer), keep v                          forget k
    read k: nothing
    lease k                         ours
    read the log: k was forgotten,
    so v is dropped
                                    lease gone          forget k
    fill v: refused
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nearcache.engine.flights import Flight
from nearcache.engine.io import IO
from nearcache.engine.rows import Landing, RowBatch
from nearcache.engine.trip import Trip
from nearcache.errors import ClosedError, StoreError
from nearcache.stores.base import HELD, TAKEN
from nearcache.stores.gate import Grip, Turn

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine
    from nearcache.engine.logged import Logged

__all__ = ["Refills"]

_MOST_BYTES = 32 << 20
_ROW_BYTES = 400  # what a row takes beside components and text: key, digest, places in two tables
_AT_ONCE = 1000  # rows per request
_REST = 1.0  # seconds without another try after one that the store refused


class _Part:
    """Rows of one call, ``token`` of the lease they were loaded under; in memory as a whole."""

    __slots__ = ("batch", "landing", "left", "size", "token")

    def __init__(self, batch: RowBatch, landing: Landing, token: bytes | None) -> None:
        at = landing.positions
        texts = [batch.texts[i] for i in at] if batch.texts else []
        digests = [batch.digests[i] for i in at]
        # of its own rows only: a call may have had thousands of texts that were found
        self.batch = RowBatch(batch.shelf, texts, batch.near, batch.precision, digests)
        self.batch.stamp = batch.stamp
        self.landing = landing._replace(positions=list(range(len(at))))
        self.token = token
        self.left = 0
        self.size = landing.rows.data.nbytes + sum(map(len, texts)) + _ROW_BYTES * len(at)


class Refills:
    """Loaded rows that wait for their store: a bounded queue, oldest out. Thread-safe."""

    def __init__(self, engine: "Engine", sharing: "Logged", most_bytes: int = _MOST_BYTES) -> None:
        self._engine = engine
        self._sharing = sharing
        self._most_bytes = most_bytes
        self.start_anew()

    def start_anew(self) -> None:
        """Keep nothing: after a fork it is the parent's to write."""
        self._lock = threading.Lock()
        self._writing = Turn()
        self._rows: dict[bytes, tuple[_Part, int]] = {}
        self._bytes = 0
        self._rests_until = 0.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._rows)

    # -- keeping -----------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """What it takes in memory."""
        return self._bytes

    def keep(self, batch: RowBatch, landing: Landing, token: bytes | None) -> None:
        """Keep rows that were loaded; the oldest make room."""
        if not landing.positions:
            return
        part = _Part(batch, landing, token)
        with self._lock:
            for i, key in enumerate(part.batch.keys):
                self._drop(key)
                self._rows[key] = (part, i)
            part.left = len(part.batch.keys)
            self._bytes += part.size
            while self._bytes > self._most_bytes:
                oldest, _ = next(iter(self._rows.values()))
                self._drop_part(oldest)

    def due(self) -> bool:
        """Say whether something waits, and it is time to try."""
        return bool(self._rows) and self._engine.clock() >= self._rests_until

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop rows, for they were forgotten, or written anew."""
        if self._rows:
            with self._lock:
                for key in keys:
                    self._drop(key)

    def forget_shelves(self, names: Iterable[object]) -> None:
        """Drop all rows of these shelves."""
        if self._rows:
            gone = set(names)
            with self._lock:
                for key, (part, _) in list(self._rows.items()):
                    if part.batch.shelf.name in gone:
                        self._drop(key)

    def _drop(self, key: bytes) -> None:
        found = self._rows.pop(key, None)
        if found is not None:
            part, _ = found
            part.left -= 1
            if not part.left:
                self._bytes -= part.size

    def _drop_part(self, part: _Part) -> None:
        for i in part.landing.positions:
            key = part.batch.keys[i]
            if self._holds(key, part):
                self._drop(key)

    def _holds(self, key: bytes, part: _Part) -> bool:
        found = self._rows.get(key)
        return found is not None and found[0] is part

    def _waiting(self, part: _Part) -> list[int]:
        """Return the positions of a part that are still wanted."""
        now, landing = self._engine.clock(), part.landing
        with self._lock:
            return [
                i
                for i, end in zip(landing.positions, landing.expires.tolist(), strict=True)
                if self._holds(part.batch.keys[i], part) and not 0 < end <= now
            ]

    # -- writing -----------------------------------------------------------------------------

    async def write(self, io: IO) -> None:
        """Write what waits, as long as the store answers. One caller does, others go on."""
        if not self._rows:
            return
        grip = Grip()
        try:
            if not self._writing.take(grip, 0.0):
                return
            while self._rows and not self._closed:
                with self._lock:
                    part, _ = next(iter(self._rows.values()), (None, 0))
                if part is None:
                    return
                positions = self._waiting(part)
                for at in range(0, len(positions), _AT_ONCE):
                    if not await self._write(io, part, positions[at : at + _AT_ONCE]):
                        self._rests_until = self._engine.clock() + _REST
                        return
                with self._lock:
                    self._drop_part(part)
        except (StoreError, ClosedError):  # for who wants errors raised; nobody waits for this one
            self._rests_until = self._engine.clock() + _REST
        finally:
            self._writing.give_back(grip)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Keep everybody from writing."""
        grip = Grip()
        try:
            self._writing.take(grip, float("inf"))
            yield
        finally:
            self._writing.give_back(grip)

    def close(self) -> None:
        """Write no more, and let the rows that are being written end."""
        self._closed = True
        grip = Grip()
        self._writing.take(grip, _REST)
        self._writing.give_back(grip)

    async def _write(self, io: IO, part: _Part, positions: list[int]) -> bool:
        """Write some rows, or take what others wrote; False where the store does not answer."""
        engine, batch = self._engine, part.batch
        flight = Flight(batch.shelf.name, io.loop, behind=True)
        crew = flight.board()
        try:
            mine, _ = engine.flights.claim(flight, batch.keys, positions)
            if not mine:  # somebody is reading or writing them just now
                return True
            trip = Trip(engine, io, flight, batch, None, None)
            left = await trip.look(mine)
            return not left or await self._fill(io, trip, part, left)
        finally:
            flight.left = True
            engine.flights.abandon(flight, batch.keys)
            del crew

    async def _fill(self, io: IO, trip: Trip, part: _Part, left: list[int]) -> bool:
        sharing, batch, token = self._sharing, part.batch, os.urandom(16)
        if part.token is not None:  # its lease, of which the store may not know that it is over
            await sharing.access.attempt(io, "release", batch.keys_at(left), part.token)
        answers = await sharing.lease(io, batch, left, token)
        if answers is None:
            return False
        pairs = list(zip(left, answers, strict=True))
        others = [i for i, answer in pairs if answer is HELD]
        if others:  # another process loads them: what it writes is what all shall have
            handles = [batch.handles[i] for i in others]
            self._engine.drop_near(batch.shelf, batch.keys_at(others), handles)
        came = {i: answer for i, answer in pairs if isinstance(answer, bytes)}
        if came:
            await trip.adopt(sharing, came)
        taken = [i for i, answer in pairs if answer is TAKEN]
        heard = await sharing.catch_up(io)
        wanted = set(self._waiting(part)) if heard else set()
        landing = part.landing.only({i for i in taken if i in wanted})
        kept = await trip.fill(sharing, landing, token)
        for one in (kept or [])[1:]:  # those of others; ours are near, or were not worth it
            trip.settle(one.positions, one)
        over = [batch.keys[i] for i in taken if i not in wanted]
        if over:
            await sharing.access.attempt(io, "release", over, token)
        return kept is not None and heard
