"""Answering a call for values that grow old: from what is fresh, from what stands in, or in time.

::

    near, then store:   fresh                                    the answer
                        about to expire (early_refresh)          the answer; load it behind
                        expired, stale_while_revalidate          the answer; load it behind
                        else load; it takes loader_soft_timeout,
                        loader_timeout, or fails: fail_safe      the expired value, if still there
                                                                 and not forgotten; else the error
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nearcache.engine.flights import Flight
from nearcache.engine.io import IO, Loader
from nearcache.engine.rows import ABSENT
from nearcache.engine.timely import Timely
from nearcache.engine.trip import Trip
from nearcache.engine.warn import Warnings
from nearcache.errors import ClosedError, LoadTimeout, StoreError

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine
    from nearcache.engine.values import ValueBatch

__all__ = ["Answer"]

_REST = 1.0  # seconds without another try after a load behind an answer failed
_WHILE_LOADING = float("inf")
_MOST_RESTING = 10_000  # keys


class Answer:
    """Answers calls for one namespace of values. Thread-safe."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._say = Warnings(engine.clock).say
        self.start_anew()

    def start_anew(self) -> None:
        """Renew nothing: after a fork the threads stayed in the parent."""
        self._renewals: set[object] = set()
        self._resting: dict[bytes, float] = {}  # until when a key is not loaded behind an answer

    async def get(
        self, io: IO, batch: "ValueBatch", loader: Loader | None, life: float | None
    ) -> None:
        """Fill a batch; keys that no tier has, and the loader neither, stay ABSENT."""
        wants = batch.wants
        left = batch.look_near(range(len(batch.keys)))
        if loader is None:
            if left:
                await self._part(io, batch, left, None, life)
            return
        if wants.stale:
            left = batch.stand_in(left, wants.stale)
        try:
            if left:
                await self._load(io, batch, left, loader, life)
        except (StoreError, ClosedError):
            raise
        except Exception as error:
            unanswered = self._unanswered(batch, left)
            if not wants.fail_safe or await self._stand_in(io, batch, unanswered):
                raise
            self._say("stale", "a load failed, what expired stands in: %s", _described(error))
        if batch.due:
            self._renew_aside(io, batch, loader, life)

    async def _part(
        self,
        io: IO,
        batch: "ValueBatch",
        positions: list[int],
        loader: Loader | None,
        life: float | None,
    ) -> None:
        part = batch if len(positions) == len(batch.keys) else batch.part(positions)
        try:
            await self._engine.resolve(io, part, loader, life)
        finally:  # what was answered before a failure counts
            if part is not batch:
                batch.take(positions, part)

    async def _load(
        self, io: IO, batch: "ValueBatch", left: list[int], loader: Loader, life: float | None
    ) -> None:
        """Load; a load that has only so much time goes on when that is over."""
        wants, engine = batch.wants, self._engine
        if wants.soft is None and wants.hard is None:
            await self._part(io, batch, left, loader, life)
            return
        timely = Timely(engine, io, batch, left, loader, life)
        try:
            if wants.soft is not None and not await timely.wait(wants.soft):
                late = await self._stand_in(io, batch, self._unanswered(batch, left))
                if not late:
                    return
            if not await timely.wait(wants.hard):
                msg = f"a load of {batch.shelf.label} took longer than {wants.hard:g} s; it goes on"
                raise LoadTimeout(msg)
        finally:
            timely.leave()

    @staticmethod
    def _unanswered(batch: "ValueBatch", positions: Sequence[int]) -> list[int]:
        return [i for i in positions if batch.origin[i] == ABSENT]

    async def _stand_in(self, io: IO, batch: "ValueBatch", positions: list[int]) -> list[int]:
        """Answer with expired values that are still there; return the positions without one.

        What was seen before the load may have been forgotten during it: both tiers are asked again.
        """
        batch.stale.clear()
        left = batch.look_near(positions)
        far = [i for i in left if i not in batch.stale]
        sharing = self._engine.sharing
        if far and sharing is not None:
            fetched = await sharing.read(io, batch, far)
            if fetched is not None:
                batch.accept(far, fetched)
        left = batch.stand_in(self._unanswered(batch, left), batch.wants.fail_safe)
        batch.due.clear()  # it is being loaded, or has just failed
        return left

    # -- behind an answer ----------------------------------------------------------------------

    def _renew_aside(self, io: IO, batch: "ValueBatch", loader: Loader, life: float | None) -> None:
        """Load anew what was answered, behind the answer; a few at once, each key once."""
        engine, now, renewal = self._engine, self._engine.clock(), object()
        try:
            with engine.flights.lock:
                due = [i for i in sorted(batch.due) if self._resting.get(batch.keys[i], now) <= now]
                if not due or len(self._renewals) >= engine.options.max_concurrency:
                    return
                self._renewals.add(renewal)
                self._resting.update((batch.keys[i], _WHILE_LOADING) for i in due)
            self._begin_renewal(io, batch, due, loader, life, renewal)
        except BaseException:  # Ctrl-C: perhaps nothing was begun
            self._rest(renewal, [batch.keys[i] for i in sorted(batch.due)], 0.0)
            raise

    def _begin_renewal(
        self,
        io: IO,
        batch: "ValueBatch",
        due: list[int],
        loader: Loader,
        life: float | None,
        renewal: object,
    ) -> None:
        part, rest = batch.part(due), _REST
        part.renew([batch.held[i] for i in due])

        async def renew(io: IO) -> None:
            nonlocal rest
            try:
                await self._renew(io, part, loader, life)
                rest = 0.0
            except Exception as error:  # noqa: BLE001  nobody waits for it; a later hit tries again
                self._say("renewal", "a load behind an answer failed: %s", _described(error))

        # a callback, not a finally: a task cancelled before its first step never enters its body
        done = io.aside(renew, loader)
        done.add_done_callback(lambda _: self._rest(renewal, part.keys, rest))

    async def _renew(self, io: IO, part: "ValueBatch", loader: Loader, life: float | None) -> None:
        engine = self._engine
        flight = Flight(part.shelf.name, io.loop, behind=True)
        crew = flight.board()
        if engine.sharing is not None:
            engine.sharing.boards(flight, part.keys)
        try:
            mine, _ = engine.flights.claim(flight, part.keys, range(len(part.keys)))
            if mine and not engine.closed:
                await Trip(engine, io, flight, part, loader, life).fly(mine)
        finally:
            flight.left = True
            engine.flights.abandon(flight, part.keys)
            del crew

    def _rest(self, renewal: object, keys: Sequence[bytes], seconds: float) -> None:
        """Note that a load behind an answer has ended; let a while pass after one that failed."""
        now = self._engine.clock()
        with self._engine.flights.lock:
            self._renewals.discard(renewal)
            if len(self._resting) > _MOST_RESTING:
                self._resting = {k: until for k, until in self._resting.items() if until > now}
            self._resting.update(dict.fromkeys(keys, now + seconds))
            if not seconds:
                for key in keys:
                    del self._resting[key]


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
