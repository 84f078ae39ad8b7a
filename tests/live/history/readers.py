"""Reads, each checked in the process and at the moment it is made.

The check of a near hit has to cost about what the hit costs: a value that is the same object as
the key's last one is not parsed again, and one comparison of numbers says that nothing is newer.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from live.history.board import MISSING, RING, Board, Key, name_of
from live.history.caches import Face

__all__ = ["Reader", "Source", "Tally"]

_KEPT = 3  # violations of a kind that are kept in full, per task
_BURST = 48
_POISON = -1


@dataclass(slots=True)
class Tally:
    """What some reads showed. ``stale`` counts values, ``resurrected`` those that had been
    invalidated, beyond the bound; ``unread`` own writes that the writer's cache did not show;
    ``unfresh`` reads past near (``max_staleness=0``) that were behind; ``overdue`` values served
    later than their life and the bound allow; ``rolled_back`` reads of what a server went back to
    because it had lost what it had acknowledged."""

    reads: int = 0
    checked: int = 0
    missing: int = 0
    loads: int = 0
    behind: int = 0
    stale: int = 0
    resurrected: int = 0
    unread: int = 0
    unfresh: int = 0
    overdue: int = 0
    rolled_back: int = 0
    spoiled: int = 0
    raised: int = 0
    slow: int = 0
    refused: int = 0
    writes: int = 0
    failed_writes: int = 0
    near: int = 0
    far: int = 0
    worst: float = 0.0
    worst_fresh: float = 0.0
    worst_overdue: float = 0.0
    slowest: float = 0.0
    slowest_write: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Take another's counts and maxima in."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name.startswith(("worst", "slowest")):
                setattr(self, each.name, max(mine, theirs))
            else:
                setattr(self, each.name, mine + theirs)

    def note(self, text: str) -> None:
        """Keep an example, if there are few of its kind: its second word."""
        kind = text.split()[1]
        if sum(kind in each for each in self.examples) < _KEPT:
            self.examples.append(text)


class Source:
    """The loaders of every key: they read the board, and pause now and then while they have read.

    What a pause holds back is older by it than what is true: an invalidation comes in between.
    """

    def __init__(self, board: Board, keys: Sequence[Key], make: Callable[[Key, int], object],
                 pauses: Sequence[tuple[float, float]], seed: int) -> None:  # fmt: skip
        self._board = board
        self._make = make
        self._pauses = pauses
        self._random = random.Random(seed)
        self.loads = 0
        self.sync = [self._loader(key) for key in keys]
        self.tasks = [self._async_loader(key) for key in keys]

    def _loader(self, key: Key) -> Callable[[], object]:
        def load() -> object:
            value, pause = self._read(key)
            if pause:
                time.sleep(pause)
            return value

        return load

    def _async_loader(self, key: Key) -> Callable[[], Awaitable[object]]:
        async def load() -> object:
            value, pause = self._read(key)
            if pause:
                await asyncio.sleep(pause)
            return value

        return load

    def _read(self, key: Key) -> tuple[object, float]:
        self.loads += 1
        return self._make(key, self._board.source[key.number]), self._pause()

    def _pause(self) -> float:
        chance = self._random.random()
        for share, seconds in self._pauses:
            chance -= share
            if chance < 0:
                return self._random.random() * seconds
        return 0.0


class Reader:
    """One task's reads through one cache. Either face: ``run`` in a thread, ``run_task`` in a loop.

    ``own``: the cache writes the keys of ``worker`` itself, so these have no bound, and its reads
    may raise (counted as refused). ``cleared``: the cache that is cleared as a whole.
    """

    def __init__(
        self,
        board: Board,
        keys: Sequence[Key],
        face: Face,
        source: Source,
        worker: int,
        *,
        bound: float,
        own: bool = False,
        errors: tuple[type[Exception], ...] = (),
        cleared: bool = False,
        patience: float = 30.0,
        rest: float = 0.001,
        seed: int = 0,
        label: str = "",
    ) -> None:
        self.tally = Tally()
        self.going = threading.Event()
        self.idle = threading.Event()
        self.ended = False
        self._board, self._keys, self._face, self._source = board, keys, face, source
        self._worker, self._bound, self._own, self._errors = worker, bound, own, errors
        self._patience, self._rest, self._label = patience, rest, label
        self._random = random.Random(seed)
        self._names = [key.name for key in keys]
        self._seen: list[object] = [self] * len(keys)
        self._versions = [MISSING] * len(keys)
        kinds = ("cleared",) if cleared else ("put", "source")
        self._gets = [key.number for key in keys if key.kind == "put" and not cleared]
        self._loads = [key.number for key in keys if key.kind in kinds and key.kind != "put"]
        self._stopped = 0.0
        self._counted = 0

    # Forms of reading

    def run(self) -> None:
        """Read until ``ended``; rest while not ``going``."""
        while not self.ended:
            if not self.going.is_set():
                self.idle.set()
                self.going.wait(0.05)
                continue
            self.idle.clear()
            try:
                self._round()
            except Exception as error:
                self._raised(error)
            self._count()
            time.sleep(self._rest)
        self.idle.set()

    async def run_task(self) -> None:
        """Read until ``ended``, in a loop."""
        while not self.ended:
            if not self.going.is_set():
                self.idle.set()
                await asyncio.sleep(0.02)
                continue
            self.idle.clear()
            try:
                await self._round_task()
            except Exception as error:
                self._raised(error)
            self._count()
            await asyncio.sleep(self._rest)
        self.idle.set()

    def _order(self, of: list[int]) -> list[int]:
        return self._random.choices(of, k=_BURST) if of else []

    def _round(self) -> None:
        calls = self._calls(self._source.sync)
        with contextlib.suppress(StopIteration):
            value = next(calls)
            while True:
                value = calls.send(value)

    async def _round_task(self) -> None:
        calls = self._calls(self._source.tasks)
        with contextlib.suppress(StopIteration):
            value = await next(calls)
            while True:
                value = await calls.send(value)

    def _calls(self, loaders: Sequence[Callable[[], Any]]) -> Generator[Any, Any, None]:
        """Make the calls of a round; yield what each returned, and be sent what it came to.

        So a round is written once for both faces: who drives it awaits what is yielded, or not.
        """
        now, board, face = time.monotonic, self._board, self._face
        names, seen, versions, latest = self._names, self._seen, self._versions, board.latest
        get, load, keys = face.get, face.load, self._keys
        form = self._random.random()
        previous = now()
        if form < 0.9:
            gets, loads = self._order(self._gets), self._order(self._loads)
            for number, loading in [*((n, False) for n in gets), *((n, True) for n in loads)]:
                if not self.going.is_set():  # behind a store that is far away a round takes minutes
                    break
                start = now()
                if start - previous > 0.05:
                    self._long(start - previous)
                previous = start
                if loading:
                    value = yield load(names[number], loaders[number], keys[number].tags)
                else:
                    value = yield get(names[number])
                if value is not seen[number]:
                    self._look(number, value)
                if latest[number] > versions[number]:
                    self._behind(number, start)
                if keys[number].ttl:
                    self._check_life(number, start)
                self.tally.reads += 1
            if now() - previous > 0.05:
                self._long(now() - previous)
        elif form < 0.96 and face.many is not None and self._gets:
            chosen = self._order(self._gets)[:20]
            start = now()
            values = yield face.many([names[number] for number in chosen])
            self._several(chosen, values, start)
        elif face.through is not None:
            for number in self._order(self._gets)[:3]:
                start = now()
                value = yield face.through(names[number])
                self._fresh(number, value, start)
            for number in self._order(self._loads)[:2]:
                if face.load_through is not None:
                    start = now()
                    value = yield face.load_through(
                        names[number], loaders[number], keys[number].tags
                    )
                    self._fresh(number, value, start)

    # What was read

    def _look(self, number: int, value: Any) -> None:
        if value is None:
            version = MISSING
            self.tally.missing += 1
        elif isinstance(value, list):
            version = value[0]
            if version == _POISON or value[1] != self._names[number]:
                self._violation("spoiled", number, repr(value)[:80])
                version = MISSING
            value[0] = _POISON  # ours alone, or somebody will read it
        else:
            text = str(value)
            version = int(text[: text.index("|")])
            if name_of(text) != self._names[number]:
                self._violation("spoiled", number, repr(value)[:80])
                version = MISSING
        self._seen[number] = value
        self._versions[number] = version

    def _several(self, chosen: Sequence[int], values: Sequence[Any], start: float) -> None:
        if time.monotonic() - start > 0.05:
            self._long(time.monotonic() - start)
        for number, value in zip(chosen, values, strict=True):
            if value is not self._seen[number]:
                self._look(number, value)
            if self._board.latest[number] > self._versions[number]:
                self._behind(number, start)
        self.tally.reads += len(chosen)

    def _behind(self, number: int, start: float) -> None:
        version = self._versions[number]
        age = self._board.behind(number, version, start)
        if age <= 0:
            return
        self.tally.behind += 1
        self.tally.worst = max(self.tally.worst, age)
        kept = partial(self._board.behind, number, version, start, kept=True)
        if age > self._bound:
            kind = "stale" if self._keys[number].kind == "put" else "resurrected"
            kind = kind if kept() > self._bound else "rolled_back"
            self._violation(kind, number, self._told(version, age))
        elif self._own and self._keys[number].owner == self._worker:
            kind = "unread" if kept() > 0 else "rolled_back"
            self._violation(kind, number, self._told(version, age))

    def _fresh(self, number: int, value: Any, start: float) -> None:
        self.tally.reads += 1
        if time.monotonic() - start > 0.05:
            self._long(time.monotonic() - start)
        self._look(number, value)
        version = self._versions[number]
        if self._board.latest[number] <= version:
            return
        age = self._board.behind(number, version, start)
        if age <= 0:
            return
        # while two servers answer, an old one's copy of the stream may be read
        if start < self._board.moved_at + 0.5:
            self._behind(number, start)
            return
        if self._board.behind(number, version, start, kept=True) <= 0:
            self._violation("rolled_back", number, self._told(version, age))
            return
        self.tally.worst_fresh = max(self.tally.worst_fresh, age)
        self._violation("unfresh", number, self._told(version, age))

    def _check_life(self, number: int, start: float) -> None:
        version, life = self._versions[number], self._keys[number].ttl
        if version == MISSING or life is None:
            return
        age = start - self._completed(number, version) - life
        if age > 0:
            if age > self.tally.worst_overdue:
                self.tally.worst_overdue = age
                if age > 0.1:
                    newest = self._board.latest[number]
                    self.tally.note(
                        f"t={time.monotonic():.3f} overstayed: {self._names[number]} in worker "
                        f"{self._worker} ({self._label}): version {version} of {newest}, "
                        f"{age:.3f} s after its life"
                    )
            if age > self._bound:
                self._violation("overdue", number, f"version {version}, {age:.3f} s after its life")

    def _completed(self, number: int, version: int) -> float:
        if version <= self._board.started[number] - RING + 2:
            return float("inf")
        moment = self._board.completed[number * RING + version % RING]
        return moment if moment == moment else float("inf")

    def _told(self, version: int, age: float) -> str:
        return f"read version {version}, {age:.3f} s behind"

    def _violation(self, what: str, number: int, told: str) -> None:
        setattr(self.tally, what, getattr(self.tally, what) + 1)
        newest = self._board.latest[number]
        self.tally.note(
            f"t={time.monotonic():.3f} {what}: {self._names[number]} in worker {self._worker} "
            f"({self._label}): {told}; newest complete {newest}"
        )

    def _long(self, seconds: float) -> None:
        seconds -= self._board.stopped[self._worker] - self._stopped
        self._stopped = self._board.stopped[self._worker]
        self.tally.slowest = max(self.tally.slowest, seconds)
        if seconds > self._patience:
            self.tally.slow += 1
            self.tally.note(
                f"t={time.monotonic():.3f} slow: {seconds:.3f} s in worker {self._worker} "
                f"({self._label})"
            )

    def _raised(self, error: Exception) -> None:
        if self._own and isinstance(error, self._errors):
            self.tally.refused += 1
            return
        self.tally.raised += 1
        import traceback

        where = traceback.format_exception(error)[-3:]
        self.tally.note(
            f"t={time.monotonic():.3f} raised in worker {self._worker} ({self._label}): "
            f"{type(error).__name__}: {error} {' '.join(where)}"[:1500]
        )

    def _count(self) -> None:
        if self.tally.reads - self._counted >= 1024:
            _add_reads(self._board, self._worker, self.tally.reads - self._counted)
            self._counted = self.tally.reads


_counting = threading.Lock()


def _add_reads(board: Board, worker: int, reads: int) -> None:
    with _counting:
        board.reads[worker] += reads
