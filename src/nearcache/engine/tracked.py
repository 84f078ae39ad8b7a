"""What may change: a near copy serves as long as a change of it would have been heard.

Every write is a compare-and-set on the version, or on the token of the absence, that was seen
before it; so one that is executed late, or twice, changes nothing. A write that failed is queued as
an invalidation, never as a value.

Own writes are heard like those of others. A value of ours is kept near when its write has landed;
when its echo comes, its head is read once more, for a foreign write may have come right after::

    us                              link                    another process
    commit v1, keep it near
                                                            commits v2
                                    "k changed" (both)
                                    v1 serves no more
    the head of k: v2, so drop k
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from nearcache.coherence.groups import (
    TOKEN_BYTES,
    Group,
    Groups,
    Ticket,
    bump_token,
    bumped_since,
)
from nearcache.coherence.leases import LeaseKeeper
from nearcache.coherence.link import DEAD, Epoch, Link, State
from nearcache.engine.access import Access
from nearcache.engine.flights import ABSENT, RELEASED, Flight, Landed
from nearcache.engine.io import IO, BlockingIO, run
from nearcache.engine.values import (
    EPOCH,
    GROUPS,
    HELD_VERSION,
    READ_AT,
    Held,
    ValueBatch,
    ValueLanding,
    ValueOne,
    ValueShelf,
)
from nearcache.errors import StoreError, StoreUnavailable
from nearcache.stores.base import PONG, TAKEN, Changed, Fetched, Store, lease_of, version_of

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine

__all__ = ["Tracked", "link_of"]

log = logging.getLogger("nearcache")

_ATTEMPTS = 10  # of a write that other writers of its key are in the way of
_AT_ONCE = 500  # heads per request
_IDLE = 1.0  # seconds until a thread with nothing to verify ends
_NEVER = float("-inf")
_LOOKS_PER_LEASE = 40
_FIRST_LOOK, _SLOWEST_LOOK = 0.002, 0.05


class Tracked:
    """One namespace of values that may change, shared through a store that says what changed."""

    def __init__(self, engine: "Engine", store: Store, shelf: ValueShelf) -> None:
        options = engine.options
        self._engine = engine
        self._store = store
        self._shelf = shelf
        self.space = shelf.keys.space
        self.bound = options.link_timeout
        self.access = Access(
            store,
            self,
            engine.counters,
            engine.events,
            engine.clock,
            strict=options.on_store_error == "raise",
        )
        self.keeper = LeaseKeeper(store.renew, options.lease)
        self.epoch: Epoch = DEAD
        self._link: Link | None = None
        self._begin()

    def _begin(self) -> None:
        self._echoes: dict[bytes, bytes] = {}  # values that we write, and have yet to hear of
        self._doubted = False  # whether everything may have been forgotten
        self._bells: dict[bytes, list[Flight]] = {}
        self._loading: dict[bytes, bytes] = {}
        self._to_verify: dict[bytes, None] = {}
        self._verifying = threading.Lock()
        self._looking = threading.Lock()
        self._news = threading.Event()
        self._verifier: threading.Thread | None = None

    # -- the link ----------------------------------------------------------------------------

    def current(self) -> bool:
        """Say yes: every near copy knows itself how long it serves."""
        return True

    async def listen(self, _io: IO) -> None:
        """Begin to listen with the first operation."""
        if self._link is None:
            with self._engine.flights.lock:
                if self._link is None:
                    self._link = link_of(self._store)
                    self._link.join(self, self._shelf.keys.prefixes)

    @property
    def link_state(self) -> str:
        """What the link is doing, in words."""
        return (State.CLOSED if self._link is None else self._link.state).value

    def linked(self, epoch: Epoch) -> None:
        """Hear of changes from now on; look again at what was kept while nobody listened."""
        with self._engine.flights.lock:
            self._echoes.clear()
            self._shelf.groups.forget()
            self.epoch = epoch
        self._engine.events.emit("link", "tracking", None)
        self.access.hurry(BlockingIO())
        self.verify(self._shelf.keys.values(self._shelf.near.keys(self._shelf.name)))

    def lost(self, reason: str) -> None:
        """Let what is near serve as long as it may; what is read from here on knows no link."""
        with self._engine.flights.lock:
            self.epoch = DEAD
            self._echoes.clear()
            bells = [bell for bells in self._bells.values() for bell in bells]
        for bell in bells:
            bell.looked_in_store()
        self._engine.events.emit("link", "lost", reason)

    def changed(self, names: Sequence[bytes]) -> None:
        """Drop what changed, take it from whoever reads it, and wake who waits for it."""
        keys, again = self._shelf.keys, list[bytes]()
        ringing: list[Flight] = []
        with self._engine.flights.lock:
            for name in names:
                if keys.is_group(name):
                    again += self._group_changed(name)
                elif (key := keys.key(name)) is not None:
                    ringing += self._bells.get(name, ())
                    if self._echoes.pop(name, None) is not None:
                        self._suspend(self._held(key))
                        again.append(name)
                    else:
                        self._engine.drop_near(self._shelf, [name], [key])
                elif self._bells:  # of a lease, perhaps
                    value = name.removesuffix(b":lease")
                    ringing += self._bells.get(value, ())
                    if value in self._loading:
                        again.append(value)
        for bell in ringing:
            bell.looked_in_store()
        if again:
            self.verify(again)

    def _group_changed(self, name: bytes) -> list[bytes]:
        """Believe a group's token no more; return what is to be looked at again.

        It may be the token of before: who makes or prolongs an epoch is heard, too, ourselves
        included. Then its members serve on.
        """
        group = self._shelf.groups.known(name)
        if group is None:
            return []
        group.forget()
        if group is not self._shelf.everything:
            return [name]
        self._doubted = True
        keys = self._shelf.near.keys(self._shelf.name)
        for key in keys:
            self._suspend(self._held(key))
        return [name, *self._shelf.keys.values(keys)]

    def everything_changed(self) -> None:
        """Drop all, as after a flush."""
        with self._engine.flights.lock:
            self._engine.drop_everything()
            self._engine.drop_shelves([self._shelf])
            self._shelf.groups.forget()
            self._echoes.clear()
            bells = [bell for bells in self._bells.values() for bell in bells]
        for bell in bells:
            bell.looked_in_store()

    def _held(self, key: Any) -> Held | None:
        found = self._shelf.near.tier.peek(self._shelf.near_key(key))
        return None if found is None else found[0]

    @staticmethod
    def _suspend(held: Held | None) -> None:
        """Let nobody be served this copy until it has been looked at again."""
        if held is not None:
            held[EPOCH], held[READ_AT] = DEAD, _NEVER

    def wrote(self, name: bytes, held: Held) -> None:
        """Hear, under the lock, that a write of ours is about to be kept near."""
        if held[EPOCH] is not DEAD and self._echoes.get(name) != held[HELD_VERSION]:
            self._suspend(held)  # its echo came before its reply was handled
            self.verify([name])

    def kept(self, name: bytes, held: Held) -> None:
        """Hear, under the lock, that a copy is kept near.

        If it was asked for before this link was there, or loaded while the store did not answer,
        its changes may not have been heard; if everything is in doubt, so is this copy.
        """
        unheard = held[EPOCH] is not self.epoch and self.epoch is not DEAD
        if unheard or self._doubted:
            self._suspend(held)
            self.verify([name])

    # -- looking again -------------------------------------------------------------------------

    def verify(self, names: Sequence[bytes]) -> None:
        """Let a background thread compare near copies with the heads in the store."""
        if not names:
            return
        with self._verifying:
            self._to_verify.update(dict.fromkeys(names))
            self._news.set()
            if self._verifier is None:
                thread = threading.Thread(
                    target=_verify, args=(ref(self),), name="nearcache-verify", daemon=True
                )
                with suppress(RuntimeError):  # at the interpreter's exit no thread can be started
                    thread.start()
                    self._verifier = thread

    def verify_some(self) -> bool:
        """Look at the next names; say whether there were any."""
        with self._verifying:
            names = list(self._to_verify)[:_AT_ONCE]
            for name in names:
                del self._to_verify[name]
            self._news.clear()
        if names:
            with self._looking:
                run(self.look_again(BlockingIO(), names))
        return bool(names)

    async def look_again(self, io: IO, names: list[bytes]) -> None:
        """Compare near copies, and leases of loads under way, with what the store has."""
        groups = [g for name in names if (g := self._shelf.groups.known(name)) is not None]
        if groups:
            await self._verify_groups(io, groups)
        loading = {name: token for name in names if (token := self._loading.get(name))}
        if loading:
            await self._verify_leases(io, loading)
        apart = {*loading, *(group.name for group in groups)}
        names = [name for name in names if name not in apart]
        if names:
            await self._verify(io, names)

    async def _verify_groups(self, io: IO, groups: list[Group]) -> None:
        """Read the tokens of groups again: of those that are the same the members serve on."""
        epoch, ticket = self.epoch, Groups.ticket(groups)
        fetched, _ = await self.access.attempt(io, "look", [], [group.name for group in groups])
        if fetched is not None:
            self._learn(ticket, fetched.epochs, epoch, fetched.sent)

    async def _verify_leases(self, io: IO, loading: dict[bytes, bytes]) -> None:
        """Let nobody wait for a load whose lease was ended by an invalidation elsewhere."""
        found, _ = await self.access.attempt(io, "heads", [lease_of(name) for name in loading], [])
        if found is not None:
            held = zip(loading.items(), found.values, strict=True)
            self._engine.flights.detach([name for (name, token), lease in held if lease != token])

    def rest(self) -> bool:
        """End the verifying thread if there is nothing to do; say whether it ends."""
        with self._verifying:
            if self._to_verify:
                return False
            self._verifier = None
            return True

    async def _verify(self, io: IO, names: list[bytes]) -> None:
        """Read heads; copies of the same version serve on under this epoch, others are dropped."""
        engine, shelf, epoch = self._engine, self._shelf, self.epoch
        flight = Flight(shelf.name, None)
        crew = flight.board()
        mine, _ = engine.flights.claim(flight, names, range(len(names)))
        ours = [names[i] for i in mine]
        try:
            groups = self._outdated([shelf.everything, *self._groups_of(ours)])
            ticket = Groups.ticket(groups)
            fetched, _ = await self.access.attempt(io, "heads", ours, [g.name for g in groups])
            if fetched is None:
                return
            found = dict(zip(ours, fetched.values, strict=True))

            def confirm(still_ours: set[bytes]) -> None:
                if not self._learn(ticket, fetched.epochs, epoch, fetched.sent):
                    return
                for name in still_ours:
                    self._confirm(name, version_of(found[name]), epoch, fetched.sent)
                # what others are reading, or changed meanwhile, nobody has compared
                for name in set(names) - still_ours:
                    key = shelf.keys.key(name)
                    held = None if key is None else self._held(key)
                    if held is not None and held[EPOCH] is not epoch:
                        self._suspend(held)

            engine.flights.land(flight, dict.fromkeys(ours, RELEASED), confirm)
        finally:
            engine.flights.finish(flight, ours)
            del crew

    def _groups_of(self, names: Sequence[bytes]) -> set[Group]:
        keys = [self._shelf.keys.key(name) for name in names]
        held = [self._held(key) for key in keys if key is not None]
        return {group for one in held if one is not None for group, _ in one[GROUPS]}

    def _confirm(self, name: bytes, version: bytes, epoch: Epoch, sent: float) -> None:
        key = self._shelf.keys.key(name)
        held = None if key is None else self._held(key)
        if held is None or key is None:
            return
        groups = [self._shelf.everything, *(group for group, _ in held[GROUPS])]
        if not version or held[HELD_VERSION] != version or name in self._echoes:
            self._shelf.near.drop(self._shelf.name, [key])
        elif all(group.token is not None and group.epoch is epoch for group in groups):
            held[EPOCH] = epoch
            held[READ_AT] = min(sent, *(group.good_at for group in groups))
        elif held[READ_AT] == _NEVER:
            self._shelf.near.drop(self._shelf.name, [key])

    # -- reading -----------------------------------------------------------------------------

    def _outdated(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups whose tokens have to be read: unknown, or not heard of for long."""
        since, epoch = self._engine.clock() - self.bound / 2, self.epoch
        return [
            group
            for group in groups
            if group.token is None
            or group.good_at <= since
            or (group.epoch is not epoch and epoch is not DEAD)
        ]

    def _learn(self, ticket: Ticket, tokens: Sequence[bytes], epoch: Epoch, sent: float) -> bool:
        """Take tokens that were read; say whether what is near is still of the same everything."""
        everything, same = self._shelf.everything, True
        with self._engine.flights.lock:
            for (group, number), token in zip(ticket, tokens, strict=True):
                if group is not everything:
                    continue
                if group.ticket == number:
                    self._doubted = False
                if group.was_another(token):
                    # it was forgotten while we did not hear: what is near does not say of which
                    # everything it is
                    self._engine.drop_everything()
                    same = False
            # one that this process forgot, and could not tell the store yet, stays forgotten
            known = [
                (entry, token)
                for entry, token in zip(ticket, tokens, strict=True)
                if not self.access.is_queued(entry[0].name)
            ]
            Groups.learn([entry for entry, _ in known], [t for _, t in known], epoch, sent)
        return same

    async def _epochs(
        self, io: IO, groups: Sequence[Group], life: float | None, epoch: Epoch
    ) -> list[bytes] | None:
        """Return the tokens of groups, made where absent, for values that live ``life`` seconds."""
        ticket, sent = Groups.ticket(groups), self._engine.clock()
        names = [group.name for group in groups]
        tokens: list[bytes] | None = await self.access.ask(io, "epochs", names, life)
        if tokens is not None and any(len(token) != TOKEN_BYTES for token in tokens):
            self.access.say("epoch", "%s holds an epoch that is none", self._store.address)
            return None
        if tokens is not None:
            self._learn(ticket, tokens, epoch, sent)
            until = float("inf") if life is None else sent + life
            for group in groups:
                group.lives_until = max(group.lives_until, until)
        return tokens

    def boards(self, flight: Flight, keys: Sequence[bytes]) -> None:
        """Note when a flight began; take keys from flights that are too old to wait for.

        What such a flight brings may have changed more than the bound ago, unheard: its question
        is on its way for long, or its loader is slow, and the link was lost meanwhile.
        """
        engine = self._engine
        flight.began, flight.epoch = engine.clock(), self.epoch
        since = flight.began - self.bound
        with engine.flights.lock:
            owners = engine.flights.owners(keys)
            old = [k for k, f in owners if f.epoch and f.began <= since and f.epoch.heard <= since]
            if old:
                engine.flights.detach(old)

    async def read(self, io: IO, batch: ValueBatch, positions: Sequence[int]) -> Fetched | None:
        """Read values; and the tokens of groups that are not known."""
        epoch = batch.epoch = self.epoch
        if batch.tags and not await self._know(io, batch, batch.life):
            return None
        everything = self._shelf.everything
        token = everything.token  # before the question is asked whether it is known
        wanted = [everything] if batch.fresh else self._outdated([everything])
        if token is None:
            wanted = [everything]
        ticket = Groups.ticket(wanted)
        keys = batch.keys_at(positions)
        names = [group.name for group in wanted]
        show = self.access.hiding()
        fetched: Fetched | None = await self.access.ask(io, "look", keys, names)
        if fetched is None:
            return None
        if wanted:
            self._learn(ticket, fetched.epochs, epoch, fetched.sent)
            token = fetched.epochs[0]
            if len(token) != TOKEN_BYTES:
                made = await self._epochs(io, wanted, None, epoch)
                if made is None:
                    return None
                token = made[0]
        assert token is not None, "it was known, or has been read"
        batch.everything = token
        batch.read_at = min(fetched.sent, everything.good_at)
        if everything.epoch is not epoch:
            batch.epoch = DEAD
        values = show(keys, self._shelf.keys.groups, fetched.values)
        return await self._opened(io, batch, positions, fetched._replace(values=values))

    async def read_one(self, io: IO, key: Any) -> Any:
        """Return the near copy of one key that only the store has to be asked for, or ABSENT.

        That is ``Engine.resolve`` for the commonest miss, at half its cost; None where there is
        more to it: somebody is getting the key, a group's token is not known, damage.
        """
        shelf, flights = self._shelf, self._engine.flights
        everything, epoch = shelf.everything, self.epoch
        token, generation = everything.token, self._engine.generation
        if token is None or everything.epoch is not epoch or self._outdated([everything]):
            return None
        name = shelf.keys.name(key)
        flight = Flight(shelf.name, io.loop)
        flight.began, flight.epoch = self._engine.clock(), epoch
        crew = flight.board()
        try:
            if not flights.claim_one(flight, name):
                return None
            fetched = await self.access.ask(io, "look", (name,), ())
            if fetched is None:
                return None
            data = fetched.values[0]
            if data is None:
                flights.land(flight, {name: ABSENT})
                return ABSENT
            if self.access.undelivered:
                return None
            one = ValueOne(shelf, name, key)
            good_at = min(fetched.sent, everything.good_at)
            end = one.read(data, fetched, token, epoch, good_at)
            if end is None:
                return None

            def install(ours: set[bytes]) -> None:
                if ours and generation == self._engine.generation:
                    one.install(end)

            near = shelf.near.tier
            flights.land(flight, {name: Landed(one)}, install if near.max_entries else None)
            return one.held[0]
        finally:
            if flight.claimed:
                flights.finish(flight, flight.claimed)
            del crew

    async def _opened(
        self, io: IO, batch: ValueBatch, positions: Sequence[int], fetched: Fetched
    ) -> Fetched | None:
        groups = list(batch.open(positions, fetched.values))
        if groups:
            wanted = groups if batch.fresh else self._outdated(groups)
            if wanted:
                epoch, ticket = self.epoch, Groups.ticket(wanted)
                names = [group.name for group in wanted]
                queued = {group for group in wanted if self.access.is_queued(group.name)}
                read = await self.access.ask(io, "look", [], names)
                if read is None:
                    return None
                self._learn(ticket, read.epochs, epoch, read.sent)
                # for this call they count even where a push forbids to go on believing them
                pairs = zip(wanted, read.epochs, strict=True)
                batch.tokens = {group: token for group, token in pairs if group not in queued}
        return fetched

    async def _know(self, io: IO, batch: ValueBatch, life: float | None) -> bool:
        """Have the tokens of a call's own tags, in keys that outlive its values."""
        epoch, until = self.epoch, float("inf") if life is None else self._engine.clock() + life
        unknown = [g for g in batch.tags if g.lives_until < until]
        unknown += [g for g in self._outdated(batch.tags) if g not in unknown]
        tokens: dict[Group, bytes] = {}
        if unknown:
            made = await self._epochs(io, unknown, life, epoch)
            if made is None:
                return False
            tokens = dict(zip(unknown, made, strict=True))
        batch.pairs = tuple((g, g.token or tokens.get(g, b"")) for g in batch.tags)
        return all(token for _, token in batch.pairs)

    async def came(self, io: IO, batch: ValueBatch, entries: dict[int, bytes]) -> Fetched | None:
        """Take entries that another process wrote meanwhile; a push may have come since."""
        sent = self._engine.clock()
        now = await self.access.ask(io, "now")
        if now is None:
            return None
        fetched = Fetched(list(entries.values()), [], now, sent)
        return await self._opened(io, batch, list(entries), fetched)

    # -- loading -----------------------------------------------------------------------------

    async def lease(
        self, io: IO, batch: ValueBatch, positions: Sequence[int], token: bytes
    ) -> list[bool | bytes] | None:
        """Claim the right to load what has no value, or one that was seen and is of no use."""
        # a store that still has what we know to be forgotten must not give it back
        if not batch.everything or self.access.undelivered:
            return None
        keys, seen = batch.keys_at(positions), [batch.seen[i] for i in positions]
        # before it is asked for: whoever ends the lease is heard
        self._loading.update(dict.fromkeys(keys, token))
        answers: list[bool | bytes] | None = None
        try:
            answers = await self.access.ask(
                io, "claim", keys, seen, token, self._engine.options.lease
            )
        finally:
            held = [False] * len(keys) if answers is None else [a is TAKEN for a in answers]
            self._no_longer_loading([k for k, h in zip(keys, held, strict=True) if not h], token)
        return answers

    def _no_longer_loading(self, keys: Sequence[bytes], token: bytes) -> None:
        for key in keys:
            if self._loading.get(key) == token:
                self._loading.pop(key, None)

    async def fill(
        self, io: IO, batch: ValueBatch, landing: ValueLanding, token: bytes
    ) -> list[bool | bytes] | None:
        """Write what was loaded, where its lease is still held."""
        epoch = self.epoch
        if not await self._know_loaded(io, batch, landing, epoch):
            return None
        # after a long load the epochs of its tags must still outlive it
        until = self._engine.clock() + batch.life if batch.life is not None else float("inf")
        short = [group for group in batch.tags if group.lives_until < until]
        if short:
            await self._epochs(io, short, batch.life, epoch)
        expected = [token] * len(landing.positions)
        answers = await self._commit(io, batch, landing, expected, epoch)
        # where its lease was gone the key was forgotten during the load: kept nowhere
        return None if answers is None else [answer is True for answer in answers]

    async def _know_loaded(
        self, io: IO, batch: ValueBatch, landing: ValueLanding, epoch: Epoch
    ) -> bool:
        """Have the tokens of tags that the loader named with its value.

        They are read after the load. One that was bumped meanwhile says so (``bump_token``): the
        value may be of before, so it is written under a token that is no longer current.
        """
        tags = {group for i in landing.positions for group in batch.loaded_tags.get(i, ())}
        if not tags:
            return True
        groups = list(tags)
        tokens = await self._epochs(io, groups, batch.life, epoch)
        now = await self.access.ask(io, "now")
        if tokens is None or now is None:
            return False
        started = now - (self._engine.clock() - batch.read_at)
        token_of = {
            group: os.urandom(16) if bumped_since(token, started) else _object_of(group, token)
            for group, token in zip(groups, tokens, strict=True)
        }
        for i in landing.positions:
            held = batch.held[i]
            if held is not None and i in batch.loaded_tags:
                named = tuple((group, token_of[group]) for group in batch.loaded_tags[i])
                held[GROUPS] = (*batch.pairs, *named)
                if len(batch.pairs) == len(batch.tags):
                    held[READ_AT] = batch.read_at
        return True

    async def _commit(
        self,
        io: IO,
        batch: ValueBatch,
        landing: ValueLanding,
        expected: Sequence[bytes],
        epoch: Epoch,
        token: bytes = b"",
    ) -> list[bool | bytes] | None:
        """Write where the store still has what is expected; what was written knows its place."""
        sent = self._engine.clock()
        now = await self.access.ask(io, "least_now")
        if now is None:
            return None
        keys = batch.keys_at(landing.positions)
        noise = os.urandom(8 * len(keys))
        versions = [noise[at : at + 8] for at in range(0, len(noise), 8)]
        lives = landing.lives(sent)
        ends = [0.0 if life is None else now + life for life in lives]
        entries = batch.pack(landing, versions, ends)
        if epoch is not DEAD:
            self._echoes.update(zip(keys, versions, strict=True))
        lease = self._engine.options.lease if token else 0.0
        answers: list[bool | bytes] | None = None
        try:
            answers = await self.access.ask(
                io, "commit", keys, entries, expected, lives, self._shelf.keys.log, token, lease
            )
        finally:
            self._place(batch, landing, answers, versions, epoch)
        return answers

    def _place(
        self,
        batch: ValueBatch,
        landing: ValueLanding,
        answers: Sequence[bool | bytes] | None,
        versions: Sequence[bytes],
        epoch: Epoch,
    ) -> None:
        """Note of each value that was written its version, and whether its changes are heard."""
        written = [True] * len(versions) if answers is None else [a is True for a in answers]
        for i, version, done in zip(landing.positions, versions, written, strict=True):
            held, name = batch.held[i], batch.keys[i]
            if answers is None or not done:
                # nothing will echo; or nobody knows whether it will, and then it is a foreign one
                if self._echoes.get(name) == version:
                    self._echoes.pop(name, None)
                continue
            assert held is not None, "it has just been written"
            held[HELD_VERSION] = version
            held[EPOCH] = epoch if all(g.epoch is epoch for g, _ in held[GROUPS]) else DEAD

    @contextmanager
    def holding(self, keys: Sequence[bytes], token: bytes) -> Iterator[None]:
        """Keep the lease alive while its load runs, and hear when somebody else ends it."""
        try:
            with self.keeper.holding(keys, token):
                yield
        finally:
            self._no_longer_loading(keys, token)

    @contextmanager
    def waiting(self, keys: Sequence[bytes]) -> Iterator["_Bell"]:
        """Return what rings when one of these keys, or its lease, changes."""
        bell = Flight(None, None)
        with self._engine.flights.lock:
            for key in keys:
                self._bells.setdefault(key, []).append(bell)
        try:
            yield _Bell(self, bell)
        finally:
            with self._engine.flights.lock:
                for key in keys:
                    bells = self._bells.get(key, [])
                    if bell in bells:
                        bells.remove(bell)
                    if not bells:
                        self._bells.pop(key, None)

    # -- writing and forgetting --------------------------------------------------------------

    async def write(self, io: IO, batch: ValueBatch, landing: ValueLanding) -> StoreError | None:
        """Write values over what is there; None, or why not all of them could be written."""
        try:
            error = await self._write(io, batch, landing)
        except StoreError as raised:  # for who wants errors raised
            error = raised
        finally:
            self._tell(batch.keys)
        if error is None:
            self.access.superseded(batch.keys)
            return None
        # the store may hold an older value, or get this one late: it is forgotten there
        self.access.queue_texts(batch.keys, [b""] * len(batch.keys))
        batch.held = [None] * len(batch.held)
        return error

    async def _write(self, io: IO, batch: ValueBatch, landing: ValueLanding) -> StoreError | None:
        shelf, epoch, failed = (
            self._shelf,
            self.epoch,
            StoreUnavailable(f"{self._store.address} did not take a write"),
        )
        batch.read_at = self._engine.clock()
        everything = shelf.everything.token
        if everything is None or self._outdated([shelf.everything]):
            made = await self._epochs(io, [shelf.everything], None, epoch)
            if made is None:
                return failed
            everything = made[0]
        batch.everything = everything
        if not await self._know(io, batch, batch.life):
            return failed
        for held in batch.held:
            if held is not None:
                held[GROUPS] = batch.pairs
        token, left = os.urandom(16), landing
        expected = self._known_versions(batch, landing)
        if not all(expected):
            lease = self._engine.options.lease
            expected = await self.access.ask(io, "expect", batch.keys, token, lease)
            if expected is None:
                return failed
        for _ in range(_ATTEMPTS):
            answers = await self._commit(io, batch, left, expected, epoch, os.urandom(16))
            if answers is None:
                return failed
            behind = {
                i: answer
                for i, answer in zip(left.positions, answers, strict=True)
                if isinstance(answer, bytes)
            }
            if not behind:
                return None
            left, expected = left.only(set(behind)), list(behind.values())
        return StoreUnavailable(f"{self._store.address}: other writers were faster each time")

    def _known_versions(self, batch: ValueBatch, landing: ValueLanding) -> list[bytes]:
        """Return the versions that near copies have; b"" where one is not known."""
        held = [self._held(batch.handles[i]) for i in landing.positions]
        return [b"" if one is None else one[HELD_VERSION] for one in held]

    async def forget(
        self, io: IO, shelf: ValueShelf, handles: Sequence[Any]
    ) -> tuple[int, StoreError | None]:
        """Delete values and leases."""
        keys = shelf.keys.values(handles)
        stored, error = await self.access.attempt(io, "revoke", keys, shelf.keys.log)
        self._tell(keys)
        if error is not None:
            self.access.queue_texts(keys, [b""] * len(keys))
            return 0, error
        return int(stored), None

    async def forget_group(self, io: IO, group: Group) -> StoreError | None:
        """Give a group a new token."""
        try:
            now, error = await self.access.attempt(io, "now")
            if error is None:
                token, log = bump_token(now), self._shelf.keys.log
                _, error = await self.access.attempt(io, "bump", group.name, token, log)
        finally:
            with self._engine.flights.lock:
                self._shelf.groups.bump(group)
            self._tell([group.name])
        if error is not None:
            self.access.queue_group(group.name, b"")
        return error

    def _tell(self, names: Sequence[bytes]) -> None:
        """Tell the other caches of this namespace in this process, which read our writes too."""
        if self._link is not None:
            self._link.dispatch(names, but=self)

    # -- what is queued is delivered like this -------------------------------------------------

    def forget_stored(self, keys: Sequence[bytes], _entries: Sequence[bytes]) -> None:
        """Forget values in the store."""
        self._store.revoke(keys, self._shelf.keys.log)

    def forget_stored_group(self, group: bytes, _entry: bytes) -> None:
        """Forget a group in the store."""
        self._store.bump(group, bump_token(self._store.now()), self._shelf.keys.log)
        known = self._shelf.groups.known(group)
        if known is not None:
            with self._engine.flights.lock:  # who reads just now may have asked before
                known.forget()

    def everything(self) -> tuple[bytes, bytes]:
        """Return the group of everything."""
        return self._shelf.keys.groups[0], b""

    def store_is_back(self) -> None:
        """Look again at what was kept while the store did not answer."""
        self.verify(self._shelf.keys.values(self._shelf.near.keys(self._shelf.name)))

    # -- life --------------------------------------------------------------------------------

    def at_rest(self) -> AbstractContextManager[object]:
        """Return what keeps the verifying thread from claiming keys."""
        return self._looking

    def start_anew(self) -> None:
        """Trust nothing that the parent's link would hear of; listen anew."""
        self.epoch = DEAD
        self._begin()
        self.access.start_anew()
        self.keeper.start_anew()
        if self._link is not None:
            self._link.start_anew()

    def close(self) -> None:
        """Hear no more, and let the look that is being taken end."""
        if self._link is not None:
            self._link.leave(self)
        with self._verifying:
            self._to_verify.clear()
        if self._looking.acquire(timeout=_IDLE):
            self._looking.release()


def _verify(tracked_ref: "ref[Tracked]") -> None:
    """Look again at near copies, until there is none left to look at for a while."""
    while True:
        tracked = tracked_ref()
        if tracked is None:
            return
        try:
            if tracked.verify_some():
                continue
        except Exception:  # a bug; but what is looked at later must not suffer from it
            log.exception("looking again at near copies failed")
        news = tracked._news
        del tracked
        if not news.wait(_IDLE):
            tracked = tracked_ref()
            if tracked is None or tracked.rest():
                return


class _Bell:
    """Wakes who waits for a key that another process loads."""

    def __init__(self, tracked: Tracked, bell: Flight) -> None:
        self._tracked = tracked
        self._bell = bell
        self._pause = _FIRST_LOOK

    async def wait(self, io: IO) -> None:
        """Wait for the bell; without a link, and for a holder that died, look now and then."""
        if self._tracked.epoch is DEAD:
            self._pause = min(_SLOWEST_LOOK, 1.5 * self._pause)
            await io.sleep(self._pause)
            return
        lease = self._tracked._engine.options.lease
        await io.wait(self._bell, lambda: self._bell.looked, lease / _LOOKS_PER_LEASE)
        self._bell.looked = False


class _Links:
    """The links of this process, one per store object."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: WeakKeyDictionary[Store, ref[Link]] = WeakKeyDictionary()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()

    def of(self, store: Store) -> Link:
        """Return the link of a store, however many caches use it."""
        with self._lock:
            known = self._links.get(store)
            link = None if known is None else known()
            if link is None:
                link = Link(store.address, store.stream, names=_names, pong=PONG)
                self._links[store] = ref(link)
            return link


def _object_of(group: Group, token: bytes) -> bytes:
    """Return the object that stands for a token near, if it is the group's present one."""
    return group.token if group.token is not None and group.token == token else token


def _names(message: Any) -> Sequence[bytes] | None:
    return message.names if isinstance(message, Changed) else None


_links = _Links()
link_of = _links.of
