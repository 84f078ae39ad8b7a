"""Writes: each key has one writer, which numbers its versions and says when each was complete."""

import asyncio
import heapq
import random
import threading
import time
from collections.abc import Sequence

from live.history.board import Board, Key, text_of
from live.history.caches import Face
from live.history.readers import Tally

__all__ = ["Writer"]

# Seconds between two writes of a key, on average; keys take turns in this list. A stale copy of a
# key that is soon written again is soon repaired, so most keys have to be left alone for a while.
_PACES = (0.1, 0.6, 2.0, 4.0, 10.0, 20.0)


class Writer:
    """One task's writes to keys of its own: ``run`` in a thread, ``run_task`` in a loop."""

    def __init__(
        self,
        board: Board,
        keys: Sequence[Key],
        mine: Sequence[Key],
        face: Face,
        other: Face | None,
        *,
        errors: tuple[type[Exception], ...],
        worker: int,
        bound: float,
        seed: int,
        label: str,
    ) -> None:
        self.tally = Tally()
        self.going = threading.Event()
        self.idle = threading.Event()
        self.settling = threading.Event()
        self.ended = False
        self._board, self._keys, self._face, self._other = board, keys, face, other
        self._errors, self._label = errors, label
        self._worker, self._stopped = worker, 0.0
        self._random = random.Random(seed)
        groups: dict[str, list[Key]] = {}
        for key in mine:
            groups.setdefault(key.group or key.name, []).append(key)
        scale = bound / 3.0
        self._due = [
            (self._random.random() * 0.2, number, _PACES[number % len(_PACES)] * scale, each)
            for number, each in enumerate(groups.values())
        ]
        heapq.heapify(self._due)
        self._began = time.monotonic()
        self.unsettled: dict[str, list[Key]] = {}

    # What to write next: steps are (function, arguments, keys, versions, whether it puts)

    def _next(self) -> tuple[float, list[Key]]:
        due, number, pace, keys = self._due[0]
        wait = self._began + due - time.monotonic()
        if wait > 0:
            return wait, []
        pause = self._random.expovariate(1 / pace)
        if self._random.random() < 0.15:  # again, while others load what they lost just now
            pause = self._random.random() ** 2 * 0.2
        then = time.monotonic() - self._began + pause
        heapq.heapreplace(self._due, (then, number, pace, keys))
        return 0.0, keys

    def _step(self, keys: list[Key]) -> list[tuple]:
        """Begin the versions, and return what has to be called for them."""
        key = keys[0]
        board = self._board
        if key.kind == "cleared":
            versions = [(each, board.begin(each.number)) for each in keys]
            for each, version in versions:
                board.source[each.number] = version
            return [(self._other.clear, (), versions, False)]
        if key.kind == "source":
            bump = key.group and self._face.bump is not None
            chosen = keys if bump else [self._random.choice(keys)]
            versions = [(each, board.begin(each.number)) for each in chosen]
            for each, version in versions:
                board.source[each.number] = version
            if bump:
                return [(self._face.bump, (key.group,), versions, False)]
            return [(self._face.invalidate, (chosen[0].name,), versions, False)]
        form = self._random.random()
        if key.group and form < 0.15 and self._face.bump is not None:
            versions = [(each, board.begin(each.number)) for each in keys]
            return [(self._face.bump, (key.group,), versions, False)]
        if form > 0.92:
            version = board.begin(key.number)
            return [(self._face.invalidate, (key.name,), [(key, version)], False)]
        steps = []
        for each in keys:
            version = board.begin(each.number)
            arguments = (each.name, text_of(each, version), each.ttl, each.tags)
            steps.append((self._face.put, arguments, [(each, version)], True))
        return steps

    def _took(self, start: float) -> None:
        stopped = self._board.stopped[self._worker]
        seconds = time.monotonic() - start - (stopped - self._stopped)
        self._stopped = stopped
        self.tally.slowest_write = max(self.tally.slowest_write, seconds)

    def _done(self, versions: list[tuple[Key, int]], put: bool) -> None:
        for key, version in versions:
            self._board.end(key.number, version, put=put)
        self.tally.writes += 1

    def _failed(self, error: Exception, versions: list[tuple[Key, int]], keys: list[Key]) -> None:
        for key, _ in versions:
            self._board.fail(key.number)
        self.unsettled[keys[0].group or keys[0].name] = keys
        self.tally.failed_writes += 1
        if not isinstance(error, self._errors):
            self.tally.raised += 1
            self.tally.note(
                f"t={time.monotonic():.3f} write-raised ({self._label}): "
                f"{type(error).__name__}: {error}"
            )

    def run(self) -> None:
        """Write until ``ended``; rest while not ``going``."""
        while not self.ended:
            if self.settling.is_set():
                self._settle(self._write)
                self.settling.clear()
            if not self.going.is_set():
                self.idle.set()
                time.sleep(0.01)
                continue
            self.idle.clear()
            wait, keys = self._next()
            if keys:
                self._write(keys)
            else:
                time.sleep(min(wait, 0.05))
        self.idle.set()

    async def run_task(self) -> None:
        """Write until ``ended``, in a loop."""
        while not self.ended:
            if self.settling.is_set():
                for keys in self._take_unsettled():
                    await self._write_task(keys)
                self.settling.clear()
            if not self.going.is_set():
                self.idle.set()
                await asyncio.sleep(0.01)
                continue
            self.idle.clear()
            wait, keys = self._next()
            if keys:
                await self._write_task(keys)
            else:
                await asyncio.sleep(min(wait, 0.05))
        self.idle.set()

    def _take_unsettled(self) -> list[list[Key]]:
        found = list(self.unsettled.values())
        self.unsettled.clear()
        return found

    def _settle(self, write) -> None:
        for keys in self._take_unsettled():
            write(keys)

    def _write(self, keys: list[Key]) -> None:
        for function, arguments, versions, put in self._step(keys):
            start = time.monotonic()
            try:
                function(*arguments)
            except Exception as error:
                self._failed(error, versions, keys)
            else:
                self._done(versions, put)
            self._took(start)

    async def _write_task(self, keys: list[Key]) -> None:
        for function, arguments, versions, put in self._step(keys):
            start = time.monotonic()
            try:
                await function(*arguments)
            except Exception as error:
                self._failed(error, versions, keys)
            else:
                self._done(versions, put)
            self._took(start)
