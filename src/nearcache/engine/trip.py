"""One call's way through store and loader, for the keys it claimed."""

import os
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearcache.engine.flights import ABOARD, ABSENT, NOTHING, Failed, Flight, Landed
from nearcache.engine.io import IO, Loader
from nearcache.engine.rows import LOADED, Ends
from nearcache.stores.base import HELD, TAKEN, WRITTEN, Fetched

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine
    from nearcache.engine.sharing import Bell, Sharing

__all__ = ["Trip"]


class Trip:
    """What one flight does: look near again, read the store, load what is left.

    Installs near only what its ``generation`` allows: after a gap in the log nobody can say
    whether what was read before it is still wanted.
    """

    __slots__ = ("batch", "engine", "flight", "generation", "io", "life", "loader")

    def __init__(
        self,
        engine: "Engine",
        io: IO,
        flight: Flight,
        batch: Any,
        loader: Loader | None,
        life: float | None,
    ) -> None:
        self.engine = engine
        self.io = io
        self.flight = flight
        self.batch = batch
        self.loader = loader
        self.life = life
        self.generation = engine.generation

    async def fly(self, mine: list[int]) -> None:
        """Get the claimed positions, as far as they can be got."""
        # somebody may have landed between our look and our claim
        left = self.batch.look_near(mine)
        if len(left) != len(mine):
            self.settle(sorted(set(mine) - set(left)))
        if left:
            left = await self.look(left)
        self.flight.looked_in_store()
        if not left:
            return
        if self.loader is None:
            keys = self.batch.keys_at(left)
            self.engine.flights.land(self.flight, dict.fromkeys(keys, ABSENT))
            return
        await self._load(left, self.loader)

    async def look(self, positions: list[int]) -> list[int]:
        """Take what the store has; return the other positions."""
        return self._stand_in(await self._read(positions))

    def _stand_in(self, positions: list[int]) -> list[int]:
        """Answer with what has just expired while it is loaded anew; return the other positions."""
        batch = self.batch
        if not batch.changes:
            return positions
        landing = batch.stale_landing()
        if landing is not None:
            self._install_stale(landing)
        if self.loader is None or batch.renews is not None:
            return positions
        left: list[int] = batch.stand_in(positions, batch.wants.stale)
        if len(left) != len(positions):
            gone = set(positions) - set(left)
            self.engine.flights.finish(self.flight, batch.keys_at(sorted(gone)))
        return left

    def _install_stale(self, landing: Any) -> None:
        def install(keys: set[bytes]) -> None:
            if self.generation == self.engine.generation and self.engine.near.max_entries:
                self.batch.install(landing, keys)

        self.engine.flights.install(self.flight, self.batch.keys_at(landing.positions), install)

    def settle(self, positions: Sequence[int], *landings: Any) -> None:
        """Let the waiters have what is at these positions; install the landings near."""
        near = landings if self.engine.near.max_entries else ()
        self._land(positions, near, ())

    def _land(
        self,
        positions: Sequence[int],
        near: Sequence[Any],
        unwritten: Sequence[Any],
        token: bytes | None = None,
    ) -> None:
        evicted, sharing = 0, self.engine.sharing

        def install(keys: set[bytes]) -> None:
            nonlocal evicted
            if self.generation != self.engine.generation:
                return
            evicted = sum(self.batch.install(landing, keys) for landing in near)
            for landing in unwritten:
                assert sharing is not None, "it was asked"
                ours = {i for i in landing.positions if self.batch.keys[i] in keys}
                sharing.keep(self.batch, landing.only(ours), token)

        outcomes = dict.fromkeys(self.batch.keys_at(positions), Landed(self.batch))
        self.engine.flights.land(self.flight, outcomes, install if near or unwritten else None)
        if evicted:
            self.engine.events.emit("evict", "near", evicted)

    # -- store -------------------------------------------------------------------------------

    async def _read(self, positions: list[int]) -> list[int]:
        """Take from the store what is there; return the positions that are not."""
        sharing = self.engine.sharing
        if sharing is None:
            return positions
        fetched = await sharing.read(self.io, self.batch, positions)
        return positions if fetched is None else await self._accept(positions, fetched)

    async def _accept(self, positions: list[int], fetched: Fetched) -> list[int]:
        landing, corrupt = self.batch.accept(positions, fetched)
        if corrupt and self.engine.sharing is not None:
            access = self.engine.sharing.access
            self.engine.counters.add(corrupt=len(corrupt))
            access.say("corrupt", "%d stored entries did not verify", len(corrupt))
            found = dict(zip(positions, fetched.values, strict=True))
            keys = [self.batch.keys[i] for i in corrupt]
            await access.ask(self.io, "drop_corrupt", keys, [found[i] for i in corrupt])
        if landing is None:
            return positions
        self.settle(landing.positions, landing)
        if len(landing.positions) == len(positions):
            return []
        here = set(landing.positions)
        return [i for i in positions if i not in here]

    # -- loader ------------------------------------------------------------------------------

    async def _load(self, left: list[int], loader: Loader) -> None:
        size = loader.max_batch or self.engine.options.max_batch
        # before the first lease: who rings between "held by another" and our wait is heard
        with self._waiting(left) as bell:
            while left:
                parts = [left[at : at + size] for at in range(0, len(left), size)]
                steps = [_Chunk(self, part, loader) for part in parts]
                held = await self.io.gather(steps, loader.limit)
                left = sorted(i for part in held for i in part)
                left = await self._without_inner(left, loader)
                if left and self.batch.renews is not None:
                    return  # somebody else is loading it anew; nobody waits for us
                if left:  # loading elsewhere; what was ours has been loaded before we wait
                    assert bell is not None, "only a store knows of others"
                    await bell.wait(self.io)

    async def _without_inner(self, held: list[int], loader: Loader) -> list[int]:
        """Load alone what a call that we are inside of is loading; return the other positions.

        That call's lease ends when its loader does, which waits for us.
        """
        inside = {key for flight in ABOARD.get() for key in (*flight.aloft, *flight.claimed)}
        mine = [i for i in held if self.batch.keys[i] in inside]
        for position in mine:
            await self.call([position], loader)
        return [i for i in held if i not in mine] if mine else held

    def _waiting(self, positions: list[int]) -> AbstractContextManager["Bell | None"]:
        sharing = self.engine.sharing
        return sharing.waiting(self.batch.keys_at(positions)) if sharing else nullcontext()

    async def load_chunk(self, positions: list[int], loader: Loader) -> list[int]:
        """Load what nobody else is loading; return the positions somebody else is."""
        sharing, token = self.engine.sharing, os.urandom(16)
        answers = None
        if sharing is not None:
            answers = await sharing.lease(self.io, self.batch, positions, token)
        if sharing is None or answers is None:
            await self.call(positions, loader)
            return []
        pairs = list(zip(positions, answers, strict=True))
        taken = [i for i, answer in pairs if answer is TAKEN]
        came = {i: answer for i, answer in pairs if isinstance(answer, bytes)}
        if came:
            taken = sorted([*taken, *await self.adopt(sharing, came)])
        if taken:
            keys = self.batch.keys_at(taken)
            with sharing.holding(keys, token):
                try:
                    await self.call(taken, loader, token)
                except BaseException:
                    await sharing.access.attempt(self.io, "release", keys, token)
                    raise
        return [i for i, answer in pairs if answer is HELD]

    async def adopt(self, sharing: "Sharing", came: dict[int, bytes]) -> list[int]:
        """Take entries another process wrote meanwhile; return the positions of unusable ones."""
        fetched = await sharing.came(self.io, self.batch, came)
        return list(came) if fetched is None else await self._accept(list(came), fetched)

    async def call(self, positions: list[int], loader: Loader, token: bytes | None = None) -> None:
        """Call the loader, keep the result in both tiers, and let the waiters have it."""
        engine, batch = self.engine, self.batch
        started = engine.clock()
        try:
            inputs = batch.inputs(positions)
            try:
                with engine.meter.loading(batch.shelf.label, len(positions)):
                    output = await self.io.load(loader, inputs, self.flight)
            finally:
                loaded_at = engine.clock()
                engine.meter.load.record(loaded_at - started)
            jitter = batch.wants.jitter if batch.changes else engine.options.jitter
            ends = Ends(self.life, jitter)
            landing = batch.loaded(positions, output, loaded_at, ends)
        except Exception as error:
            engine.counters.add(load_failures=1)
            keys = frozenset(batch.keys_at(positions))
            engine.flights.land(self.flight, dict.fromkeys(keys, Failed(error, keys)))
            raise
        engine.counters.add(loads=len(positions), load_seconds=loaded_at - started)
        engine.events.emit("load", batch.shelf.label, len(positions))
        if self.life == 0:
            landing = landing.only(set())
        nothing = batch.nothing(positions)
        unkept = sorted({*nothing, *positions} - set(landing.positions))
        if unkept:
            await self._forget(unkept, token)
        if nothing:
            keys_of_nothing = batch.keys_at(nothing)
            engine.flights.land(self.flight, dict.fromkeys(keys_of_nothing, NOTHING))
            gone = set(nothing)
            positions = [i for i in positions if i not in gone]
        if engine.sharing is None:
            self.settle(positions, landing)
            return
        kept = None if token is None else await self.fill(engine.sharing, landing, token)
        if kept is not None:
            self.settle(positions, *kept)
            return
        self._land(positions, [landing] if engine.near.max_entries else (), [landing], token)
        engine.sharing.write_kept(self.io)

    async def _forget(self, positions: list[int], token: bytes | None) -> None:
        """Keep nothing at these positions, nor what had expired there and might stand in."""
        engine, batch = self.engine, self.batch
        if batch.changes:
            handles = {batch.keys[i]: batch.handles[i] for i in positions}

            def drop(ours: set[bytes]) -> None:
                engine.near.drop(batch.shelf.name, [handles[key] for key in ours])

            engine.flights.install(self.flight, list(handles), drop)
            if batch.shelf.tracked is not None:  # which ends the lease, too
                positions = await batch.shelf.tracked.forget_seen(self.io, batch, positions)
        if engine.sharing is not None and token is not None and positions:
            keys = batch.keys_at(positions)
            await engine.sharing.access.attempt(self.io, "release", keys, token)

    async def fill(self, sharing: "Sharing", landing: Any, token: bytes) -> list[Any] | None:
        """Write what was loaded; return what may be near, None where the store does not answer.

        Where another process was first, its entry is taken instead, so that all have the same
        bits. Where the lease is gone the key was forgotten during the load: kept nowhere.
        """
        batch = self.batch
        if not landing.positions:
            return []
        answers = await sharing.fill(self.io, batch, landing, token)
        if answers is None:
            return None
        pairs = list(zip(landing.positions, answers, strict=True))
        installed = [landing.only({i for i, answer in pairs if answer is WRITTEN})]
        first = {i: answer for i, answer in pairs if isinstance(answer, bytes)}
        fetched = await sharing.came(self.io, batch, first) if first else None
        if fetched is not None:
            adopted, _ = batch.accept(list(first), fetched, LOADED)
            if adopted is not None:
                installed.append(adopted)
        return installed


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One call of the loader: a step that goes on when its caller is cancelled.

    Its keys are *aloft* from before the step is scheduled until it has ended in whatever way, so
    that the caller's clean-up does not release what is still being loaded.
    """

    trip: Trip
    positions: list[int]
    loader: Loader

    def _keys(self) -> Iterable[bytes]:
        keys: list[bytes] = self.trip.batch.keys_at(self.positions)
        return keys

    def start(self) -> Coroutine[Any, Any, list[int]]:
        self.trip.flight.aloft.update(self._keys())
        return self.trip.load_chunk(self.positions, self.loader)

    def ended(self) -> None:
        flight = self.trip.flight
        flight.aloft.difference_update(self._keys())
        if flight.left:
            self.trip.engine.flights.finish(flight, self._keys())
