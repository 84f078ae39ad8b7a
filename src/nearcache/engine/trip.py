"""One call's way through store and loader, for the keys it claimed."""

import os
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearcache.coherence.epochs import stamp
from nearcache.engine.flights import ABSENT, Failed, Flight, Landed
from nearcache.engine.io import IO, Loader
from nearcache.engine.rows import LOADED, Landing, RowBatch
from nearcache.stores.base import HELD, TAKEN, WRITTEN, Fetched

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine

__all__ = ["Trip"]

_FIRST_LOOK, _SLOWEST_LOOK = 0.002, 0.05  # seconds between looks at a lease another process holds


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
        batch: RowBatch,
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
            self._settle(sorted(set(mine) - set(left)))
        if left:
            left = await self._read(left)
        self.flight.looked_in_store()
        if not left:
            return
        if self.loader is None:
            keys = self.batch.keys_at(left)
            self.engine.flights.land(self.flight, dict.fromkeys(keys, ABSENT))
            return
        await self._load(left, self.loader)

    def _settle(self, positions: Sequence[int], *landings: Landing) -> None:
        """Let the waiters have what is at these positions; install the landings near."""
        evicted = 0

        def install(keys: set[bytes]) -> None:
            nonlocal evicted
            if self.generation == self.engine.generation:
                evicted = sum(self.batch.install(landing, keys) for landing in landings)

        outcomes = dict.fromkeys(self.batch.keys_at(positions), Landed(self.batch))
        near = install if landings and self.engine.near.max_entries else None
        self.engine.flights.land(self.flight, outcomes, near)
        if evicted:
            self.engine.events.emit("evict", "near", evicted)

    # -- store -------------------------------------------------------------------------------

    async def _read(self, positions: list[int]) -> list[int]:
        """Take from the store what is there; return the positions that are not."""
        access = self.engine.access
        if access is None:
            return positions
        keys, groups = self.batch.keys_at(positions), self.batch.shelf.keys.groups
        fetched = await access.ask(self.io, "fetch", keys, groups)
        if fetched is None:
            return positions
        self.batch.stamp = stamp(fetched.epochs)
        shown = access.shown(keys, groups, fetched.values)
        return await self._accept(positions, fetched._replace(values=shown))

    async def _accept(self, positions: list[int], fetched: Fetched) -> list[int]:
        landing, corrupt = self.batch.accept(positions, fetched)
        if corrupt and self.engine.access is not None:
            self.engine.counters.add(corrupt=len(corrupt))
            self.engine.access.say("corrupt", "%d stored entries did not verify", len(corrupt))
            found = dict(zip(positions, fetched.values, strict=True))
            keys = [self.batch.keys[i] for i in corrupt]
            await self.engine.access.ask(self.io, "drop_corrupt", keys, [found[i] for i in corrupt])
        if landing is None:
            return positions
        self._settle(landing.positions, landing)
        if len(landing.positions) == len(positions):
            return []
        here = set(landing.positions)
        return [i for i in positions if i not in here]

    # -- loader ------------------------------------------------------------------------------

    async def _load(self, left: list[int], loader: Loader) -> None:
        pause = _FIRST_LOOK
        size = loader.max_batch or self.engine.options.max_batch
        while left:
            steps = [_Chunk(self, left[at : at + size], loader) for at in range(0, len(left), size)]
            held = await self.io.gather(steps, loader.limit)
            left = sorted(i for part in held for i in part)
            if left:  # loading elsewhere; what was ours has been loaded before we wait
                await self.io.sleep(pause)
                pause = min(_SLOWEST_LOOK, 1.5 * pause)

    async def load_chunk(self, positions: list[int], loader: Loader) -> list[int]:
        """Load what nobody else is loading; return the positions somebody else is."""
        access, keeper, token = self.engine.access, self.engine.keeper, os.urandom(16)
        answers = None
        # a store that still has what we know to be forgotten must not give it back
        if self.batch.stamp and access is not None and not access.undelivered:
            keys, mark = self.batch.keys_at(positions), self.batch.marked()
            answers = await access.ask(
                self.io, "lease", keys, token, self.engine.options.lease, mark
            )
        if answers is None or keeper is None:
            await self.call(positions, loader)
            return []
        pairs = list(zip(positions, answers, strict=True))
        taken = [i for i, answer in pairs if answer is TAKEN]
        came = {i: answer for i, answer in pairs if isinstance(answer, bytes)}
        if came:
            taken = sorted([*taken, *await self._adopt(came)])
        if taken:
            keys = self.batch.keys_at(taken)
            with keeper.holding(keys, token):
                try:
                    await self.call(taken, loader, token)
                except BaseException:
                    assert access is not None, "a lease was taken"
                    await access.attempt(self.io, "release", keys, token)
                    raise
        return [i for i, answer in pairs if answer is HELD]

    async def _adopt(self, came: dict[int, bytes]) -> list[int]:
        """Take entries another process wrote meanwhile; return the positions of unusable ones."""
        fetched = await self._as_fetched(came)
        return list(came) if fetched is None else await self._accept(list(came), fetched)

    async def _as_fetched(self, entries: dict[int, bytes]) -> Fetched | None:
        """Return entries that a script gave back, with the times that a fetch would have."""
        sent = self.engine.clock()
        assert self.engine.access is not None, "only a store gives entries"
        now = await self.engine.access.ask(self.io, "now")
        return None if now is None else Fetched(list(entries.values()), [], now, sent)

    async def call(self, positions: list[int], loader: Loader, token: bytes | None = None) -> None:
        """Call the loader, keep the result in both tiers, and let the waiters have it."""
        engine, batch = self.engine, self.batch
        started = engine.clock()
        try:
            output = await self.io.load(loader, batch.inputs(positions), self.flight)
            loaded_at = engine.clock()
            lives = engine.lives(self.life, len(positions))
            landing = batch.loaded(positions, output, None if lives is None else loaded_at + lives)
        except Exception as error:
            engine.counters.add(load_failures=1)
            keys = frozenset(batch.keys_at(positions))
            engine.flights.land(self.flight, dict.fromkeys(keys, Failed(error, keys)))
            raise
        engine.counters.add(loads=len(positions), load_seconds=loaded_at - started)
        engine.events.emit("load", batch.shelf.label, len(positions))
        if self.life == 0:
            self._settle(positions)
        elif token is None:
            self._settle(positions, landing)
        else:
            self._settle(positions, *await self._fill(landing, token, loaded_at))

    async def _fill(self, landing: Landing, token: bytes, loaded_at: float) -> list[Landing]:
        """Write what was loaded; return what may be near.

        Where another process was first, its entry is taken instead, so that all have the same
        bits. Where the lease is gone the text was forgotten during the load: kept nowhere.
        """
        access, batch = self.engine.access, self.batch
        assert access is not None, "a lease was taken"
        now = await access.ask(self.io, "now")
        if now is None:
            return [landing]
        lives = None if self.life is None else landing.expires - loaded_at
        entries = batch.pack(landing, None if lives is None else now + lives)
        keys = batch.keys_at(landing.positions)
        answers = await access.ask(
            self.io,
            "fill",
            keys,
            entries,
            token,
            batch.marked(),
            None if lives is None else lives.tolist(),
        )
        if answers is None:
            return [landing]
        pairs = list(zip(landing.positions, answers, strict=True))
        installed = [landing.only({i for i, answer in pairs if answer is WRITTEN})]
        first = {i: answer for i, answer in pairs if isinstance(answer, bytes)}
        fetched = await self._as_fetched(first) if first else None
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
        return self.trip.batch.keys_at(self.positions)

    def start(self) -> Coroutine[Any, Any, list[int]]:
        self.trip.flight.aloft.update(self._keys())
        return self.trip.load_chunk(self.positions, self.loader)

    def ended(self) -> None:
        flight = self.trip.flight
        flight.aloft.difference_update(self._keys())
        if flight.left:
            self.trip.engine.flights.finish(flight, self._keys())
