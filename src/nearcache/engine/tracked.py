"""What may change: a near copy serves as long as a change of it would have been heard.

Nothing is executed late. A put has a deadline in the store's time, and one that failed is waited
for until then; fills and updates compare and set, on the version or on the token of the absence
that was seen before. A write that failed is queued as an invalidation, never as a value.

Own writes are heard like those of others. A value of ours is kept near when its write has landed;
when its echo comes, its head is read once more, for a foreign write may have come right after::

    us                              link                    another process
    commit v1, keep it near
                                                            commits v2
                                    "k changed" (both)
                                    v1 serves no more
    the head of k: v2, so drop k
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from nearcache.coherence.groups import (
    BUMP_LIFE,
    TOKEN_BYTES,
    Group,
    Groups,
    bump_token,
)
from nearcache.coherence.leases import LeaseKeeper
from nearcache.coherence.link import DEAD, Epoch, Link, State
from nearcache.engine.access import Access
from nearcache.engine.bells import Bells
from nearcache.engine.flights import ABSENT, Flight, Landed
from nearcache.engine.held import END, EPOCH, GROUPS, HELD_VERSION, Held, kept_for
from nearcache.engine.io import IO, BlockingIO
from nearcache.engine.links import link_of
from nearcache.engine.lookout import Lookout
from nearcache.engine.tokens import Tokens
from nearcache.engine.values import ValueBatch, ValueLanding, ValueOne, ValueShelf
from nearcache.entry import MISSING
from nearcache.errors import StoreError, StoreUnavailable
from nearcache.stores.base import TAKEN, Fetched, Store, version_of

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine

__all__ = ["Tracked"]

_NO_VERSION = bytes(8)
_MOST_TRIED = 8 * 32  # bytes of versions kept for a key whose writes fail again and again
_ATTEMPTS = 10  # of a write that other writers of its key are in the way of
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
            meter=engine.meter,
        )
        self.keeper = LeaseKeeper(store.renew, options.lease)
        self.tokens = Tokens(engine, shelf, self.access)
        self.lookout = Lookout(engine, shelf, self.access, self.tokens)
        self.bells = Bells(engine.flights.lock)
        self._link: Link | None = None
        self._over_at = _NEVER  # until when a put that was broken off may still be executed

    @property
    def epoch(self) -> Epoch:
        """The link's present life; DEAD while there is none."""
        return self.tokens.epoch

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

    def hears(self) -> tuple[str, str]:
        """Say how it hears of changes, and why it does not."""
        link = self._link
        if link is None or link.state is State.CLOSED:
            return "none", ""
        return ("tracking", "") if link.state is State.TRACKING else ("lost", link.problem)

    def linked(self, epoch: Epoch) -> None:
        """Hear of changes from now on; look again at what was kept while nobody listened."""
        with self._engine.flights.lock:
            self.lookout.echoes.clear()
            self._shelf.groups.forget()
            self.tokens.epoch = epoch
        self._engine.events.emit("link", "tracking", None)
        self.access.hurry(BlockingIO())
        self.lookout.verify(self._shelf.keys.values(self._shelf.near.keys(self._shelf.name)))

    def lost(self, reason: str) -> None:
        """Let what is near serve as long as it may; what is read from here on knows no link."""
        with self._engine.flights.lock:
            self.tokens.epoch = DEAD
            self.lookout.echoes.clear()
            bells = self.bells.every()
        self.bells.ring(bells)
        self._engine.events.emit("link", "lost", reason)

    def answered(self, seconds: float) -> None:
        """Note how late the news is."""
        self._engine.meter.link.record(seconds)

    def changed(self, names: Sequence[bytes]) -> None:
        """Drop what changed, take it from whoever reads it, and wake who waits for it."""
        keys, again = self._shelf.keys, list[bytes]()
        ringing: list[Flight] = []
        with self._engine.flights.lock:
            for name in names:
                if keys.is_group(name):
                    again += self._group_changed(name)
                elif (key := keys.key(name)) is not None:
                    ringing += self.bells.of(name)
                    if self.lookout.echoes.pop(name, None) is not None:
                        self.lookout.suspend(self.lookout.held(key))
                        again.append(name)
                    else:
                        self._engine.drop_near(self._shelf, [name], [key])
                elif self.bells:  # of a lease, perhaps
                    value = name.removesuffix(b":lease")
                    ringing += self.bells.of(value)
                    if value in self.lookout.loading:
                        again.append(value)
        self.bells.ring(ringing)
        if again:
            self.lookout.verify(again)

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
        self.tokens.doubted = True
        keys = self._shelf.near.keys(self._shelf.name)
        for key in keys:
            self.lookout.suspend(self.lookout.held(key))
        return [name, *self._shelf.keys.values(keys)]

    def everything_changed(self) -> None:
        """Drop all, as after a flush."""
        with self._engine.flights.lock:
            self._engine.drop_everything()
            self._engine.drop_shelves([self._shelf])
            self._shelf.groups.forget()
            self.lookout.echoes.clear()
            bells = self.bells.every()
        self.bells.ring(bells)

    def wrote(self, name: bytes, held: Held) -> None:
        """Hear, under the lock, that a write of ours is about to be kept near."""
        if held[EPOCH] is not DEAD and self.lookout.echoes.get(name) != held[HELD_VERSION]:
            self.lookout.suspend(held)  # its echo came before its reply was handled
            self.lookout.verify([name])

    def kept(self, name: bytes, held: Held) -> None:
        """Hear, under the lock, that a copy is kept near.

        If it was asked for before this link was there, or loaded while the store did not answer,
        its changes may not have been heard; if everything is in doubt, so is this copy.
        """
        unheard = held[EPOCH] is not self.tokens.epoch and self.tokens.epoch is not DEAD
        if unheard or self.tokens.doubted:
            self.lookout.suspend(held)
            self.lookout.verify([name])

    def touch(self, name: bytes, held: Held) -> None:
        """Tell the store, by and by, that a sliding value was read; its groups live on, too."""
        names = [name, *(group.name for group, _ in held[GROUPS])]
        self.lookout.touch(names, kept_for(-held[END]))

    async def forget_seen(
        self, io: IO, batch: ValueBatch, positions: Sequence[int]
    ) -> Sequence[int]:
        """Forget values of which a loader has just said that they are no more.

        Returns the positions where there was none.
        """
        found = [i for i in positions if batch.seen[i]]
        if found:
            versions = [batch.seen[i] for i in found]
            keys = batch.keys_at(found)
            await self.access.attempt(io, "revoke", keys, self._shelf.keys.log, versions)
        return [i for i in positions if not batch.seen[i]]

    # -- reading -----------------------------------------------------------------------------

    def boards(self, flight: Flight, keys: Sequence[bytes]) -> None:
        """Note when a flight began; take keys from flights that are too old to wait for.

        What such a flight brings may have changed more than the bound ago, unheard: its question
        is on its way for long, or its loader is slow, and the link was lost meanwhile.
        """
        engine = self._engine
        flight.began, flight.epoch = engine.clock(), self.tokens.epoch
        since = flight.began - self.bound
        with engine.flights.lock:
            owners = engine.flights.owners(keys)
            old = [k for k, f in owners if f.epoch and f.began <= since and f.epoch.heard <= since]
            if old:
                engine.flights.detach(old)

    async def read(self, io: IO, batch: ValueBatch, positions: Sequence[int]) -> Fetched | None:
        """Read values; and the tokens of groups that are not known."""
        epoch = batch.epoch = self.tokens.epoch
        if batch.tags and not await self.tokens.know(io, batch, batch.kept_for):
            return None
        everything = self._shelf.everything
        token = everything.token  # before the question is asked whether it is known
        wanted = [everything] if batch.fresh else self.tokens.outdated([everything])
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
            self.tokens.learn(ticket, fetched.epochs, epoch, fetched.sent)
            token = fetched.epochs[0]
            if len(token) != TOKEN_BYTES:
                made = await self.tokens.made(io, wanted, None, epoch)
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
        everything, epoch = shelf.everything, self.tokens.epoch
        token, generation = everything.token, self._engine.generation
        if token is None or everything.epoch is not epoch or self.tokens.outdated([everything]):
            return None
        if self.access.undelivered:
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
            end = one.read(data, fetched, token, epoch, good_at, self.tokens.outdated)
            if end is None:
                return None

            def install(ours: set[bytes]) -> None:
                if ours and generation == self._engine.generation:
                    one.install(end)

            near = shelf.near.tier
            flights.land(flight, {name: Landed(one)}, install if near.max_entries else None)
            return one.held[0]
        finally:
            flight.left = True
            if flight.claimed:
                flights.finish(flight, flight.claimed)
            del crew

    async def _opened(
        self, io: IO, batch: ValueBatch, positions: Sequence[int], fetched: Fetched
    ) -> Fetched | None:
        groups = list(batch.open(positions, fetched.values))
        if groups:
            # for this call they count, even where a push forbids to go on believing them
            batch.tokens = {g: token for g in groups if (token := g.token) is not None}
            wanted = groups if batch.fresh else self.tokens.outdated(groups)
            if wanted:
                epoch, ticket = self.tokens.epoch, Groups.ticket(wanted)
                names = [group.name for group in wanted]
                queued = {group for group in wanted if self.access.is_queued(group.name)}
                read = await self.access.ask(io, "look", [], names)
                if read is None:
                    return None
                self.tokens.learn(ticket, read.epochs, epoch, read.sent)
                pairs = zip(wanted, read.epochs, strict=True)
                batch.tokens.update((g, b"" if g in queued else token) for g, token in pairs)
        return fetched

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
        keys, seen = batch.keys_at(positions), [batch.seen[i] for i in positions]
        if not batch.everything or self.access.hides(keys):
            return None
        answers: list[bool | bytes] | None = None
        try:
            # before it is asked for: whoever ends the lease is heard
            self.lookout.loading.update(dict.fromkeys(keys, token))
            answers = await self.access.ask(
                io, "claim", keys, seen, token, self._engine.options.lease
            )
        finally:
            held = [False] * len(keys) if answers is None else [a is TAKEN for a in answers]
            self._no_longer_loading([k for k, h in zip(keys, held, strict=True) if not h], token)
        return answers

    def _no_longer_loading(self, keys: Sequence[bytes], token: bytes) -> None:
        for key in keys:
            if self.lookout.loading.get(key) == token:
                self.lookout.loading.pop(key, None)

    async def fill(
        self, io: IO, batch: ValueBatch, landing: ValueLanding, token: bytes
    ) -> list[bool | bytes] | None:
        """Write what was loaded, where its lease is still held."""
        epoch = self.tokens.epoch
        if not await self.tokens.know_loaded(io, batch, landing, epoch):
            return None
        # after a long load the epochs of its tags must still outlive it
        kept_for = batch.kept_for
        until = float("inf") if kept_for is None else self._engine.clock() + kept_for
        short = [group for group in batch.tags if group.lives_until < until]
        if short:
            await self.tokens.made(io, short, kept_for, epoch)
        expected = [token] * len(landing.positions)
        answers = await self._commit(io, batch, landing, expected, epoch)
        # where its lease was gone the key was forgotten during the load: kept nowhere
        return None if answers is None else [answer is True for answer in answers]

    async def _commit(
        self,
        io: IO,
        batch: ValueBatch,
        landing: ValueLanding,
        expected: Sequence[bytes],
        epoch: Epoch,
        token: bytes = b"",
        groups: Sequence[Group] = (),
    ) -> list[bool | bytes] | None:
        """Write where the store still has what is expected; what was written knows its place.

        ``groups``: those whose tokens are looked at afterwards.
        """
        now = self._store.least_now_at_hand() or await self.access.ask(io, "least_now")
        if now is None:
            return None
        sent = self._engine.clock()
        keys, entries, versions, lives = self._packed(batch, landing, sent, now, epoch)
        lease = self._engine.options.lease if token else 0.0
        answers: list[bool | bytes] | None = None
        try:
            arguments = (keys, entries, expected, lives, self._shelf.keys.log, token, lease)
            if groups:
                names = [group.name for group in groups]
                both = await self.access.ask(io, "commit_and_look", *arguments, names)
                if both is not None:
                    answers, batch.after = both
            else:
                answers = await self.access.ask(io, "commit", *arguments)
        finally:
            self._place(batch, landing, answers, versions, epoch)
        return answers

    def _packed(
        self, batch: ValueBatch, landing: ValueLanding, sent: float, now: float, epoch: Epoch
    ) -> tuple[list[bytes], list[bytes], list[bytes], list[float | None]]:
        """Return the keys of a landing, their entries, new versions, and how long each lives."""
        keys = batch.keys_at(landing.positions)
        noise = os.urandom(8 * len(keys))
        versions = [noise[at : at + 8] for at in range(0, len(noise), 8)]
        lives = landing.lives(sent)
        ends = [0.0 if life is None else now + life for life in lives]
        entries = batch.pack(landing, versions, ends)
        for key, version in zip(keys, versions, strict=True):
            batch.tried[key] = batch.tried.get(key, b"") + version
            if epoch is not DEAD:
                self.lookout.echoes[key] = version
        return keys, entries, versions, lives

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
                if self.lookout.echoes.get(name) == version:
                    self.lookout.echoes.pop(name, None)
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

    def keep(self, batch: ValueBatch, landing: ValueLanding, token: bytes | None) -> None:
        """Keep nothing: what may have changed since is not to be written later."""

    def write_kept(self, io: IO) -> None:
        """Nothing is."""

    def let_go(self, keys: Sequence[bytes]) -> None:
        """Nothing is kept."""

    def let_go_shelves(self, names: Collection[object]) -> None:
        """Nothing is kept."""

    unwritten = 0

    @contextmanager
    def waiting(self, keys: Sequence[bytes]) -> Iterator["_Bell"]:
        """Return what rings when one of these keys, or its lease, changes."""
        with self.bells.waiting(keys) as bell:
            yield _Bell(self, bell)

    # -- writing and forgetting --------------------------------------------------------------

    async def write(self, io: IO, batch: ValueBatch, landing: ValueLanding) -> StoreError | None:
        """Write values over what is there; None, or why not all of them could be written."""
        queued, done = await self.access.before_write(io, batch.keys), False
        try:
            error = await self._write(io, batch, landing)
            done = error is None
        except StoreError as raised:  # for who wants errors raised
            error = raised
        finally:
            self.access.after_write(queued, done=done)
            self._tell(batch.keys)
        if error is None:
            return None
        batch.held = [None] * len(batch.held)
        if self._shelf.record or batch.expected is not None:
            return error  # one that is late replaces only what it followed from
        # the store may hold an older value, or get this one late: both are forgotten there
        tried = [batch.tried.get(key, b"") for key in batch.keys]
        self.access.queue_texts(batch.keys, tried)
        return error

    async def _write(self, io: IO, batch: ValueBatch, landing: ValueLanding) -> StoreError | None:
        """Write under the present tokens: if others are there afterwards, once more.

        ::

            us                              link                another process
            knows the token e1              (late)
                                                                clears: e2
            put v under e1: dead on arrival
            sees e2: put v under e2
        """
        if batch.expected is not None:
            return await self._swap(io, batch, landing, batch.expected)
        batch.read_at, epoch = self._engine.clock(), self.tokens.epoch
        for _ in range(_ATTEMPTS):
            if not await self.tokens.take(io, batch, epoch):
                break
            error = await self._put(io, batch, landing, epoch)
            if error is not None:
                return error
            if batch.after == [batch.everything, *(token for _, token in batch.pairs)]:
                return None
            groups = [self._shelf.everything, *batch.tags]
            with self._engine.flights.lock:
                for group, current in zip(groups, batch.after, strict=False):
                    if group.token != current:
                        group.forget()
        return self._refused()

    async def _put(
        self, io: IO, batch: ValueBatch, landing: ValueLanding, epoch: Epoch
    ) -> StoreError | None:
        """Write over whatever is there; what failed is over when this returns.

        A put that nobody heard the end of may be executed late, but not after its deadline, which
        lies in the store's time and is waited for here::

            us                              store                another process
            put v1, no answer               (stands still)
            wait for the deadline           (goes on)
                                            v1, or it is too late
            say that it failed
                                                                 puts v2
        """
        await self._wait_until(io, self._over_at)
        now = self._store.least_now_at_hand() or await self.access.ask(io, "least_now")
        if now is None:
            return self._refused()
        sent = self._engine.clock()  # after it: the deadline here is not before that in the store
        keys, entries, versions, lives = self._packed(batch, landing, sent, now, epoch)
        groups = [self._shelf.everything.name, *(group.name for group in batch.tags)]
        patience = self._store.patience(sum(map(len, entries)))
        log = self._shelf.keys.log
        written: list[bool | bytes] | None = None
        try:
            epochs, error = await self.access.attempt(
                io, "put", keys, entries, lives, log, now + patience, groups
            )
            batch.after = []
            if error is None and epochs is not True:  # else it was too late
                written, batch.after = [True] * len(keys), epochs
        except BaseException:  # Ctrl-C: the next put waits
            self._over_at = max(self._over_at, sent + patience)
            raise
        finally:
            self._place(batch, landing, written, versions, epoch)
        if error is not None and not error.is_over:
            await self._wait_until(io, sent + patience)
        return error

    async def _wait_until(self, io: IO, end: float) -> None:
        left = end - self._engine.clock()
        if left > 0:
            await io.sleep(left)

    async def seen(self, io: IO, batch: ValueBatch) -> bool:
        """Read values that others are to follow from; False for no answer.

        That is also the answer while the store may still have what was forgotten.
        """
        fetched = await self.read(io, batch, range(len(batch.keys)))
        if fetched is None or self.access.hides(batch.keys):
            return False
        batch.accept(range(len(batch.keys)), fetched)
        batch.expected = list(batch.seen)
        return True

    async def _swap(
        self, io: IO, batch: ValueBatch, landing: ValueLanding, expected: list[bytes]
    ) -> StoreError | None:
        """Write where the store still has what the values follow from.

        Where there was nothing, a token of its absence is taken only now: it is a lease, and what
        is followed from takes its time. A value that came meanwhile is no token::

            us                              another process
            look: nothing
                                            writes v1
            expect: v1, which is 8 bytes long
        """
        epoch = self.tokens.epoch
        absent = [i for i, version in enumerate(expected) if not version]
        if absent:
            token, lease = os.urandom(TOKEN_BYTES), self._engine.options.lease
            names = batch.keys_at(absent)
            tokens = await self.access.ask(io, "expect", names, token, lease)
            if tokens is None:
                return self._refused()
            if any(len(one) != TOKEN_BYTES for one in tokens):
                batch.overtaken = True
                return self._overtaken()
            for i, one in zip(absent, tokens, strict=True):
                expected[i] = one
        groups = [self._shelf.everything, *batch.tags]
        if not await self.tokens.take(io, batch, epoch):
            return self._refused()
        if not batch.follows():
            batch.overtaken = True
            return self._overtaken()
        answers = await self._commit(io, batch, landing, expected, epoch, groups=groups)
        if answers is None:
            return self._refused()
        if all(answer is True for answer in answers) and batch.after == [
            batch.everything,
            *(token for _, token in batch.pairs),
        ]:
            return None
        batch.overtaken = True
        return self._overtaken()

    def _overtaken(self) -> StoreError:
        return StoreUnavailable(f"{self._store.address}: another writer was faster")

    def _refused(self) -> StoreError:
        return StoreUnavailable(f"{self._store.address} did not take a write")

    async def forget(
        self, io: IO, shelf: ValueShelf, handles: Sequence[Any]
    ) -> tuple[int, StoreError | None]:
        """Delete values and leases."""
        keys = shelf.keys.values(handles)
        if shelf.record:
            stored, error = await self._take_away(io, keys)
        else:
            stored = await self._there(io, handles)
            _, error = await self.access.attempt(io, "revoke", keys, shelf.keys.log)
        self._tell(keys)
        if error is not None:
            if not self._shelf.record:
                self.access.queue_texts(keys, [b""] * len(keys))
            return 0, error
        return int(stored), None

    async def _there(self, io: IO, handles: Sequence[Any]) -> int:
        """Count the keys that a get would find: what was forgotten with its group is not there."""
        near = self._shelf.valid_near(handles)
        left = [handle for handle in handles if handle not in near]
        if left:
            batch, fetched = ValueBatch(self._shelf, left), None
            with suppress(StoreError):  # which the forgetting itself will meet, and say
                fetched = await self.read(io, batch, range(len(left)))
            if fetched is not None:
                batch.accept(range(len(left)), fetched)
                return len(near) + sum(batch.answer(i) is not MISSING for i in range(len(left)))
        return len(near)

    async def _take_away(self, io: IO, keys: Sequence[bytes]) -> tuple[int, StoreError | None]:
        """Delete records as they are now: what is executed late deletes none that came later."""
        gone, left = 0, list(keys)
        for _ in range(_ATTEMPTS):
            found, error = await self.access.attempt(io, "heads", left, [])
            if error is not None:
                return gone, error
            versions = [version_of(head) or _NO_VERSION for head in found.values]
            done, error = await self.access.attempt(
                io, "revoke", left, self._shelf.keys.log, versions
            )
            if error is not None:
                return gone, error
            gone += done
            left = [key for key, one in zip(left, versions, strict=True) if one != _NO_VERSION]
            if done == len(left):
                return gone, None
        return gone, self._overtaken()

    async def forget_group(self, io: IO, group: Group) -> StoreError | None:
        """Give a group a new token."""
        try:
            now, error = await self.access.attempt(io, "now")
            if error is None:
                token, life = bump_token(now), self._life_of(group.name)
                log = self._shelf.keys.log
                _, error = await self.access.attempt(io, "bump", group.name, token, log, life)
                if error is None:
                    group.note(token)
        finally:
            with self._engine.flights.lock:
                self._shelf.groups.bump(group)
            self._tell([group.name])
        if error is not None and not self._shelf.record:
            self.access.queue_group(group.name, b"")
        return error

    def _life_of(self, group: bytes) -> float | None:
        return None if group == self._shelf.everything.name else BUMP_LIFE

    def _tell(self, names: Sequence[bytes]) -> None:
        """Tell the other caches of this namespace in this process, which read our writes too."""
        if self._link is not None and self._link.has_others(self):
            self._link.dispatch(names, but=self)

    # -- what is queued is delivered like this -------------------------------------------------

    def forget_stored(self, keys: Sequence[bytes], entries: Sequence[bytes]) -> None:
        """Forget what the store has now, and what our failed writes may still bring.

        Never what is written later: this call, too, may be executed late.

        ::

            us                                  store
            put v2, no answer; forget k         (stands still)
                                                (goes on)
            put v3, done                        v3
                                                the forgetting, late: of v1 and v2, not of v3

        Leases go first, for what is being loaded may be older than the forgetting, and once more
        where an update came in between, which followed from what was forgotten::

            us                                  another process
                                                leases k, loads v1
            forget k, no answer; ask: nothing
                                                v1, its lease is still there
            forget nothing, end the lease
        """
        log = self._shelf.keys.log
        self._store.revoke(keys, log, [_NO_VERSION] * len(keys))
        for _ in range(_ATTEMPTS):
            versions = [version_of(head) for head in self._store.heads(keys, []).values]
            pairs = zip(entries, versions, strict=True)
            gone = self._store.revoke(keys, log, [tried + (v or _NO_VERSION) for tried, v in pairs])
            if gone >= sum(map(bool, versions)):
                return
        msg = f"{self._store.address}: values change as fast as they are forgotten; it goes on"
        raise StoreError(msg)

    def forget_stored_group(self, group: bytes, _entry: bytes) -> None:
        """Forget a group in the store."""
        token, log = bump_token(self._store.now()), self._shelf.keys.log
        self._store.bump(group, token, log, self._life_of(group))
        known = self._shelf.groups.known(group)
        if known is not None:
            with self._engine.flights.lock:  # who reads just now may have asked before
                known.forget()

    def joined(self, before: bytes, entry: bytes) -> bytes:
        """Return both: each write that failed may still be executed."""
        return (before + entry)[-_MOST_TRIED:]

    def everything(self) -> tuple[bytes, bytes]:
        """Return the group of everything."""
        return self._shelf.keys.groups[0], b""

    def store_is_back(self) -> None:
        """Look again at what was kept while the store did not answer."""
        self.lookout.verify(self._shelf.keys.values(self._shelf.near.keys(self._shelf.name)))

    # -- life --------------------------------------------------------------------------------

    def at_rest(self) -> AbstractContextManager[object]:
        """Return what keeps the background thread from claiming keys."""
        return self.lookout.at_rest()

    def start_anew(self) -> None:
        """Trust nothing that the parent's link would hear of; listen anew."""
        self.tokens.start_anew()
        self.lookout.start_anew()
        self.bells = Bells(self._engine.flights.lock)
        self.access.start_anew()
        self.keeper.start_anew()
        if self._link is not None:
            self._link.start_anew()

    def close(self) -> None:
        """Hear no more, and let the look that is being taken end."""
        if self._link is not None:
            self._link.leave(self)
        self.lookout.close()


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
