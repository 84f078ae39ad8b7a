"""Loading while the caller waits only so long: the load goes on, and what it brings is kept."""

from typing import TYPE_CHECKING

from nearcache.clock import monotonic
from nearcache.engine.flights import Flight
from nearcache.engine.io import IO, Aside, Loader

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine
    from nearcache.engine.values import ValueBatch

__all__ = ["Timely"]


class Timely:
    """One call's loads. What nobody is loading yet goes aside, a thread or a task for all of it.

    For what somebody is loading the caller waits itself: of a loader that hangs there is one call,
    and one thread, however many want its value.
    """

    def __init__(
        self,
        engine: "Engine",
        io: IO,
        batch: "ValueBatch",
        positions: list[int],
        loader: Loader,
        life: float | None,
    ) -> None:
        self._engine = engine
        self._io = io
        self._batch = batch
        self._loader = loader
        self._life = life
        self._left = positions
        self._began = monotonic()
        if batch.fresh:  # who loads already may have begun too early
            engine.flights.detach(batch.keys)
        self._aside: list[tuple[list[int], ValueBatch, Aside]] = []

    async def wait(self, seconds: float | None) -> bool:
        """Wait until all is there, so long at most since the call began; say whether it is.

        What a load raises passes unchanged.
        """
        until = None if seconds is None else self._began + seconds
        while True:
            while self._left and _left(until) != 0:
                await self._go_on(until)
            for one in list(self._aside):
                positions, part, work = one
                if not await self._io.ended(work, _left(until)):
                    return False
                self._aside.remove(one)
                try:
                    work.result()
                finally:
                    self._batch.take(positions, part)
            if not self._left or _left(until) == 0:
                return not self._left

    def leave(self) -> None:
        """Wait no more: loads that have begun go on."""
        for _, _, work in self._aside:
            self._io.leave(work)

    async def _go_on(self, until: float | None) -> None:
        """Start what nobody loads; wait for what others do."""
        keys, flights = self._batch.keys, self._engine.flights
        if self._engine.sharing is not None:
            asking = Flight(self._batch.shelf.name, self._io.loop)
            self._engine.sharing.boards(asking, [keys[i] for i in self._left])
        with flights.lock:
            owners = dict(flights.owners([keys[i] for i in self._left]))
        theirs: dict[Flight, list[int]] = {}
        free = []
        for i in self._left:
            owner = owners.get(keys[i])
            if owner is None:
                free.append(i)
            else:
                theirs.setdefault(owner, []).append(i)
        if free:
            self._start(free)
        self._left = []
        for flight, positions in theirs.items():
            self._left += await self._engine.join(
                self._io, flight, self._batch, positions, self._loader, self._life, _left(until)
            )

    def _start(self, positions: list[int]) -> None:
        part = self._batch.part(positions)

        async def load(io: IO) -> None:
            await self._engine.resolve(io, part, self._loader, self._life)

        self._aside.append((positions, part, self._io.aside(load, self._loader)))


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - monotonic())
