"""Loads in progress: who waits for a key that somebody is already getting waits for that.

One flight is one call's way to the store and the loader, for all the keys it claimed. A key is
*claimed* from the look into the store until it *settles*: it landed, failed, is absent, or was
released (the owner was cancelled), after which a waiter claims it itself.

The table is also the ticket against stale installs. An invalidation takes a key out of the table;
the flight that had it may still give its result to those who already wait, but no longer installs
it near, and whoever comes later starts anew::

    reader                          invalidator
    claims k, reads v from store
                                    deletes k in the store
                                    detaches k, drops k near
    lands: k is not ours any more,
    so v is not installed

Lock order: the table's lock, then the near tier's.
"""

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import ref

from nearcache.clock import monotonic

__all__ = [
    "ABOARD",
    "ABSENT",
    "NOTHING",
    "RELEASED",
    "Failed",
    "Flight",
    "FlightTable",
    "Landed",
    "Outcome",
]

_CLEANING_UP = 0.5  # seconds in which a call that leaves has released its keys


@dataclass(frozen=True, slots=True)
class Landed:
    """The value is in the owner's batch."""

    batch: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The loader raised while it loaded ``keys`` in one call."""

    error: Exception
    keys: frozenset[bytes]


class _Mark:
    __slots__ = ("__weakref__",)


ABSENT = _Mark()
"""No tier has it, and nobody loads it."""
NOTHING = _Mark()
"""The loader said that there is nothing."""
RELEASED = _Mark()
"""The owner gave up; whoever waits may try."""
Outcome = Landed | Failed | _Mark


class Flight:
    """The keys one call is getting.

    ``loop`` is the event loop it runs on, if any. ``began`` and ``epoch`` tell how old its answers
    may be, for values that change. ``aloft`` are the keys whose load goes on even when the caller
    has ``left``. ``behind`` says that it loads anew what the tiers have: nobody needs to wait for
    it who can do with that. ``joined`` says that another call waits, or waited, for a key: it will
    copy from this call's batch, which must not be handed out then.
    """

    __slots__ = (
        "_crew",
        "_lock",
        "_outcomes",
        "_seen_leaving",
        "_waiters",
        "aloft",
        "began",
        "behind",
        "claimed",
        "epoch",
        "joined",
        "left",
        "looked",
        "loop",
        "shelf",
        "writes",
    )

    def __init__(
        self,
        shelf: object,
        loop: AbstractEventLoop | None,
        *,
        writes: bool = False,
        behind: bool = False,
    ) -> None:
        self.shelf = shelf
        self.loop = loop
        self.writes = writes
        self.behind = behind
        self.looked = self.left = self.joined = False
        self.began = 0.0
        self.epoch: Any = None
        self.aloft: set[bytes] = set()
        self.claimed: Sequence[bytes] = ()
        self._crew: ref[_Mark] | None = None
        self._seen_leaving: float | None = None
        self._lock = threading.Lock()
        self._outcomes: dict[bytes, Outcome] = {}
        self._waiters: dict[Callable[[], None], None] = {}  # ten thousand may wait for one

    def settle(self, outcomes: Mapping[bytes, Outcome]) -> None:
        """Announce outcomes and wake everybody who waits on this flight."""
        with self._lock:
            self._outcomes.update(outcomes)
            waiters = tuple(self._waiters)
        for wake in waiters:
            wake()

    def looked_in_store(self) -> None:
        """Announce that keys not settled by now are in no tier: who only reads need not wait."""
        self.looked = True
        self.settle({})

    def outcome(self, key: bytes) -> Outcome | None:
        """Return what became of a key; None while it is under way."""
        return self._outcomes.get(key)

    def unsettled(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return the keys that are under way."""
        return [key for key in keys if key not in self._outcomes]

    def settled(self, keys: Iterable[bytes], *, reading: bool) -> bool:
        """Say whether a waiter has nothing more to wait for."""
        return (reading and self.looked) or all(key in self._outcomes for key in keys)

    def board(self) -> object:
        """Return what the call holds as long as it runs, and nobody else does."""
        crew = _Mark()
        self._crew = ref(crew)
        return crew

    @property
    def stranded(self) -> bool:
        """Whether it will never settle anything: its loop was closed under it, or its call is gone.

        A call may be gone without having cleaned up: Ctrl-C may hit the cleaning-up itself. Then
        its frame is gone, unless somebody keeps the traceback, as a notebook does.
        """
        if self.loop is not None and self.loop.is_closed():
            return True
        if self._crew is None or self.aloft:
            return False
        return self._crew() is None or (self.left and self._left_long_ago())

    def _left_long_ago(self) -> bool:
        now = monotonic()
        if self._seen_leaving is None:
            self._seen_leaving = now
        return now - self._seen_leaving > _CLEANING_UP

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` at every change."""
        with self._lock:
            self._waiters[wake] = None

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Stop calling ``wake``."""
        with self._lock:
            del self._waiters[wake]


ABOARD: ContextVar[tuple[Flight, ...]] = ContextVar("nearcache_aboard", default=())
"""The flights whose loader is running in this context: waiting for one of them would never end."""


class FlightTable:
    """Which flight has which key. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def claim(
        self, flight: Flight, keys: Sequence[bytes], positions: Sequence[int]
    ) -> tuple[list[int], dict[Flight, list[int]]]:
        """Claim free keys; return the positions that are ours, and who has the others."""
        mine: list[int] = []
        theirs: dict[Flight, list[int]] = {}
        with self.lock:
            wanted = [keys[position] for position in positions]
            if self._flights.keys().isdisjoint(wanted):
                flight.claimed = wanted
                self._flights.update(dict.fromkeys(wanted, flight))
                return list(positions), theirs
            for position in positions:
                owner = self._flights.setdefault(keys[position], flight)
                if owner is flight:
                    mine.append(position)
                else:
                    owner.joined = True
                    theirs.setdefault(owner, []).append(position)
            flight.claimed = [keys[position] for position in mine]
        return mine, theirs

    def claim_one(self, flight: Flight, key: bytes) -> bool:
        """Claim one key if it is free."""
        with self.lock:
            if self._flights.setdefault(key, flight) is not flight:
                return False
            flight.claimed = (key,)
            return True

    def take_over(self, flight: Flight, keys: Sequence[bytes]) -> set[bytes]:
        """Claim keys for a write, whoever has them; return those another write had.

        Two writes of one key that overlap reach the store in an order nobody here knows, so
        neither may install its value near.
        """
        with self.lock:
            before = {key: self._flights.get(key) for key in keys}
            self._flights.update(dict.fromkeys(keys, flight))
        return {key for key, owner in before.items() if owner is not None and owner.writes}

    def land(
        self,
        flight: Flight,
        outcomes: Mapping[bytes, Outcome],
        install: Callable[[set[bytes]], None] | None = None,
    ) -> None:
        """Settle keys; ``install`` gets those that are still this flight's, under the lock."""
        with self.lock:
            owned = {key for key in outcomes if self._flights.get(key) is flight}
            try:
                if install is not None:
                    install(owned)
            finally:
                for key in owned:
                    if self._flights.get(key) is flight:
                        del self._flights[key]
        flight.settle(outcomes)

    def install(
        self, flight: Flight, keys: Iterable[bytes], install: Callable[[set[bytes]], None]
    ) -> None:
        """Let ``install`` have those keys that are this flight's, under the lock; it keeps them."""
        with self.lock:
            install({key for key in keys if self._flights.get(key) is flight})

    def abandon(self, flight: Flight, keys: Iterable[bytes]) -> None:
        """Release whatever the flight still has, but for what is aloft."""
        with self.lock:  # a claim that was interrupted may have noted less than it took
            left = {key for key in keys if self._flights.get(key) is flight}
        left.update(flight.unsettled(flight.claimed))
        self.finish(flight, left - flight.aloft)

    def finish(self, flight: Flight, keys: Iterable[bytes]) -> None:
        """Release whatever has not settled; nothing happens where all has."""
        left = flight.unsettled(keys)
        if left:
            self.land(flight, dict.fromkeys(left, RELEASED))

    def owners(self, keys: Iterable[bytes]) -> list[tuple[bytes, Flight]]:
        """Return who has which of these keys."""
        return [(key, self._flights[key]) for key in keys if key in self._flights]

    def detach(self, keys: Iterable[bytes]) -> None:
        """Take keys from their flights: what is under way will not be installed."""
        with self.lock:
            for key in keys:
                self._flights.pop(key, None)

    def detach_shelves(self, chosen: Callable[[object], bool]) -> None:
        """Take from their flights all keys of the chosen shelves."""
        with self.lock:
            for key, flight in list(self._flights.items()):
                if chosen(flight.shelf):
                    del self._flights[key]
