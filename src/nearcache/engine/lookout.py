"""Looking again at near copies of which nobody knows whether they are still the store's.

After the link was lost, after the echo of an own write, when a group's epoch was touched: a
background thread reads heads and tokens, in bulk. Copies of the same version serve on, others go.
"""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from weakref import ref

from nearcache.coherence.groups import Group, Groups
from nearcache.coherence.link import DEAD, Epoch
from nearcache.daemon import running
from nearcache.engine.access import Access
from nearcache.engine.flights import RELEASED, Flight
from nearcache.engine.held import EPOCH, GROUPS, HELD_VERSION, READ_AT, Held
from nearcache.engine.io import IO, BlockingIO, run
from nearcache.engine.tokens import Tokens
from nearcache.engine.values import ValueShelf
from nearcache.flag import Flag
from nearcache.stores.base import lease_of, version_of

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine

__all__ = ["Lookout"]

log = logging.getLogger("nearcache")

_AT_ONCE = 500  # heads per request
_MOST_TOUCHED = 10_000  # names that wait to be prolonged; who is left out is read again
_GATHER, _MANY = 0.003, 100  # seconds in which a few names become several, for one look
_IDLE = 1.0  # seconds until a thread with nothing to look at ends
_NEVER = float("-inf")


class Lookout:
    """Who looks again, for one namespace. Thread-safe.

    ``echoes`` are the versions this process wrote and has yet to hear of; ``loading`` the tokens of
    leases under which it is loading.
    """

    def __init__(self, engine: "Engine", shelf: ValueShelf, access: Access, tokens: Tokens) -> None:
        self._engine = engine
        self._shelf = shelf
        self._access = access
        self._tokens = tokens
        self.start_anew()

    def start_anew(self) -> None:
        """Look at nothing: after a fork the thread stayed in the parent."""
        self.echoes: dict[bytes, bytes] = {}
        self.loading: dict[bytes, bytes] = {}
        self.waiting: dict[bytes, None] = {}
        self.touched: dict[bytes, float] = {}
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._news = Flag()
        self._closed = Flag()
        self._thread: threading.Thread | None = None

    def held(self, key: Any) -> Held | None:
        """Return the near copy of a key, without touching it."""
        found = self._shelf.near.tier.peek(self._shelf.near_key(key))
        return None if found is None else found[0]

    @staticmethod
    def suspend(held: Held | None) -> None:
        """Let nobody be served this copy until it has been looked at again."""
        if held is not None:
            held[EPOCH], held[READ_AT] = DEAD, _NEVER

    def verify(self, names: Sequence[bytes]) -> None:
        """Let a background thread compare near copies with the heads in the store."""
        if not names:
            return
        with self._lock:
            self.waiting.update(dict.fromkeys(names))
            self._start()

    def touch(self, names: Sequence[bytes], seconds: float) -> None:
        """Let a background thread tell the store that a sliding value was read."""
        about = float(f"{0.995 * seconds:.2e}")  # so that many are of one life
        with self._lock:
            if len(self.touched) < _MOST_TOUCHED:
                self.touched.update(dict.fromkeys(names, about))
            self._start()

    def _start(self) -> None:
        self._news.set()
        self._thread = running(self._thread, "nearcache-verify", _look_again, ref(self))

    def look(self) -> bool:
        """Look at the next names; say whether there were any."""
        with self._lock:
            names = list(self.waiting)[:_AT_ONCE]
            for name in names:
                del self.waiting[name]
            touched, self.touched = self.touched, {}
            self._news.clear()
        if names:
            with self._looking:
                run(self.look_again(BlockingIO(), names))
        if touched:
            run(self._prolong(BlockingIO(), touched))
        return bool(names or touched)

    async def _prolong(self, io: IO, touched: dict[bytes, float]) -> None:
        """Let sliding values live on, all of one life at once."""
        by_life: dict[float, list[bytes]] = {}
        for name, seconds in touched.items():
            by_life.setdefault(seconds, []).append(name)
        for seconds, names in by_life.items():
            for at in range(0, len(names), _AT_ONCE):
                await self._access.glance(io, "touch", names[at : at + _AT_ONCE], seconds)

    async def look_again(self, io: IO, names: list[bytes]) -> None:
        """Compare near copies, and leases of loads under way, with what the store has."""
        groups = [g for name in names if (g := self._shelf.groups.known(name)) is not None]
        if groups:
            await self._look_at_groups(io, groups)
        loading = {name: token for name in names if (token := self.loading.get(name))}
        if loading:
            await self._look_at_leases(io, loading)
        apart = {*loading, *(group.name for group in groups)}
        names = [name for name in names if name not in apart]
        if names:
            await self._look_at_copies(io, names)

    async def _look_at_groups(self, io: IO, groups: list[Group]) -> None:
        """Read the tokens of groups again: of those that are the same the members serve on."""
        epoch, ticket = self._tokens.epoch, Groups.ticket(groups)
        fetched = await self._access.glance(io, "look", [], [group.name for group in groups])
        if fetched is not None:
            self._tokens.learn(ticket, fetched.epochs, epoch, fetched.sent)

    async def _look_at_leases(self, io: IO, loading: dict[bytes, bytes]) -> None:
        """Let nobody wait for a load whose lease was ended by an invalidation elsewhere."""
        found = await self._access.glance(io, "heads", [lease_of(name) for name in loading], [])
        if found is not None:
            held = zip(loading.items(), found.values, strict=True)
            self._engine.flights.detach([name for (name, token), lease in held if lease != token])

    def rest(self) -> bool:
        """End the verifying thread if there is nothing to do; say whether it ends."""
        with self._lock:
            if self.waiting or self.touched:
                return False
            self._thread = None
            return True

    async def _look_at_copies(self, io: IO, names: list[bytes]) -> None:
        """Read heads; copies of the same version serve on under this epoch, others are dropped."""
        engine, shelf, epoch = self._engine, self._shelf, self._tokens.epoch
        flight = Flight(shelf.name, None)
        crew = flight.board()
        mine, _ = engine.flights.claim(flight, names, range(len(names)))
        ours = [names[i] for i in mine]
        try:
            groups = self._tokens.outdated([shelf.everything, *self._groups_of(ours)])
            ticket = Groups.ticket(groups)
            fetched = await self._access.glance(io, "heads", ours, [g.name for g in groups])
            if fetched is None:
                with engine.flights.lock:
                    self._suspend_unheard(names, epoch)
                return
            found = dict(zip(ours, fetched.values, strict=True))

            def confirm(still_ours: set[bytes]) -> None:
                if not self._tokens.learn(ticket, fetched.epochs, epoch, fetched.sent):
                    return
                for name in still_ours:
                    self._confirm(name, version_of(found[name]), epoch, fetched.sent)
                # what others are reading, or changed meanwhile, nobody has compared
                self._suspend_unheard(set(names) - still_ours, epoch)

            engine.flights.land(flight, dict.fromkeys(ours, RELEASED), confirm)
        finally:
            engine.flights.finish(flight, ours)
            del crew

    def _suspend_unheard(self, names: Iterable[bytes], epoch: Epoch) -> None:
        """Let nobody be served copies that could not be compared, but for the link's own."""
        for name in names:
            key = self._shelf.keys.key(name)
            held = None if key is None else self.held(key)
            if held is not None and held[EPOCH] is not epoch:
                self.suspend(held)

    def _groups_of(self, names: Sequence[bytes]) -> set[Group]:
        keys = [self._shelf.keys.key(name) for name in names]
        held = [self.held(key) for key in keys if key is not None]
        return {group for one in held if one is not None for group, _ in one[GROUPS]}

    def _confirm(self, name: bytes, version: bytes, epoch: Epoch, sent: float) -> None:
        key = self._shelf.keys.key(name)
        held = None if key is None else self.held(key)
        if held is None or key is None:
            return
        groups = [self._shelf.everything, *(group for group, _ in held[GROUPS])]
        if not version or held[HELD_VERSION] != version or name in self.echoes:
            self._shelf.near.drop(self._shelf.name, [key])
        elif all(group.token is not None and group.epoch is epoch for group in groups):
            held[EPOCH] = epoch
            held[READ_AT] = min(sent, *(group.good_at for group in groups))
        elif held[READ_AT] == _NEVER:
            self._shelf.near.drop(self._shelf.name, [key])

    def at_rest(self) -> AbstractContextManager[object]:
        """Return what keeps the thread from looking."""
        return self._looking

    def close(self) -> None:
        """Look at nothing more, and let the look that is being taken end."""
        with self._lock:
            self.waiting.clear()
            touched, self.touched = self.touched, {}
            self._closed.set()
        if touched:
            run(self._prolong(BlockingIO(), touched))
        end = time.monotonic() + _IDLE
        # looked at, not taken: Ctrl-C behind the taking would leave it so
        while self._looking.locked() and time.monotonic() < end:
            time.sleep(_GATHER)  # until who looks has ended, who tells nobody


def _look_again(lookout_ref: "ref[Lookout]") -> None:
    """Look again at near copies, until there is none left to look at for a while."""
    while True:
        lookout = lookout_ref()
        if lookout is None:
            return
        try:
            if lookout.look():
                closed, few = lookout._closed, len(lookout.waiting) < _MANY
                del lookout
                if few:
                    closed.wait(_GATHER)
                continue
        except Exception:  # a bug; but what is looked at later must not suffer from it
            log.exception("looking again at near copies failed")
        news = lookout._news
        del lookout
        if not news.wait(_IDLE):
            lookout = lookout_ref()
            if lookout is None or lookout.rest():
                return
