"""One process of a run: threads and event loops that read and write through its own caches."""

import asyncio
import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.history.board import Board, Key, keys_of, text_of
from live.history.caches import Held, Setting, find
from live.history.readers import Reader, Source, Tally
from live.history.writers import Writer

__all__ = ["Orders", "main"]

_WAIT = 60.0
_SETTLE = 10.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told when it starts."""

    number: int
    workers: int
    board: str
    cache: str
    setting: Setting
    groups: bool
    seed: int
    threads: int
    tasks: int
    loops: int
    rest: float
    patience: float


class _Told(logging.Handler):
    """Keeps what the library logs, with the clock of everything else here."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.lines: deque[str] = deque(maxlen=500)

    def emit(self, record: logging.LogRecord) -> None:
        told = record.getMessage()
        if record.exc_info:
            told += f" {record.exc_info[1]!r}"
        self.lines.append(f"t={time.monotonic():.3f} worker {self.number} logs: {told}")


class _Loop:
    """A thread with an event loop; its tasks end when what they run has ended."""

    def __init__(self, held: Held, jobs: Sequence[Callable[[], Any]], name: str) -> None:
        self._held, self._jobs = held, jobs
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main()), name=name)

    async def _main(self) -> None:
        await asyncio.gather(*(job() for job in self._jobs))


class _Worker:
    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.told = _Told(orders.number)
        logging.getLogger("nearcache").addHandler(self.told)
        self.keys: list[Key] = keys_of(orders.workers, orders.groups)
        self.board = Board(Path(orders.board), len(self.keys), orders.workers)
        self.held = find(orders.cache)(orders.setting)
        bound = orders.setting.bound
        pauses = ((0.05, 0.02), (0.04, 0.3), (0.003, bound + 1.0))
        self.source = Source(self.board, self.keys, text_of, pauses, orders.seed)
        self.readers: list[Reader] = []
        self.writers: list[Writer] = []
        self.threads: list[threading.Thread] = []
        self._task_jobs: list[Callable[[], Any]] = []
        self._loop_of_peer: asyncio.AbstractEventLoop | None = None
        self._make()

    def _make(self) -> None:
        held, orders = self.held, self.orders
        mine = [key for key in self.keys if key.owner == orders.number]
        if held.other_threads is None and held.other_tasks is None:
            mine = [key for key in mine if key.kind != "cleared"]
        both = held.own_threads is not None and held.own_tasks is not None
        for number in range(orders.threads if held.threads else 0):
            self._thread(self._reader(held.threads, f"thread {number}").run)
        for number in range(orders.tasks if held.tasks else 0):
            self._task_jobs.append(self._reader(held.tasks, f"task {number}").run_task)
        if held.own_threads:
            part = [key for key in mine if self._of_threads(key)] if both else mine
            writer = self._writer(part, held.own_threads, held.other_threads, "a thread")
            self._thread(writer.run)
            self._thread(self._reader(held.own_threads, "own thread", own=True).run)
        if held.own_tasks:
            part = [key for key in mine if not self._of_threads(key)] if both else mine
            writer = self._writer(part, held.own_tasks, held.other_tasks, "a task")
            self._task_jobs.append(writer.run_task)
            self._task_jobs.append(self._reader(held.own_tasks, "own task", own=True).run_task)
        if held.other_threads and orders.groups:
            cleared = self._reader(held.other_threads, "cleared thread", own=True, cleared=True)
            self._thread(cleared.run)
        if held.other_tasks and orders.groups:
            cleared = self._reader(held.other_tasks, "cleared task", own=True, cleared=True)
            self._task_jobs.append(cleared.run_task)
        loops = max(1, min(orders.loops, len(self._task_jobs))) if self._task_jobs else 0
        if held.open_tasks is not None:
            loops = min(loops, 1)
        for number in range(loops):
            jobs = self._task_jobs[number::loops]
            if held.open_tasks is not None:
                jobs = [lambda jobs=jobs: self._peer(jobs)]
            self.threads.append(_Loop(held, jobs, f"loop {number}").thread)

    async def _peer(self, jobs: Sequence[Callable[[], Any]]) -> None:
        """Run the jobs of a cache that lives in one loop."""
        self._loop_of_peer = asyncio.get_running_loop()
        await self.held.open_tasks()
        try:
            await asyncio.gather(*(job() for job in jobs))
        finally:
            self._loop_of_peer = None
            if self.held.close_tasks is not None:
                await self.held.close_tasks()

    def _of_threads(self, key: Key) -> bool:
        if key.group:  # a group is written as one
            return self.orders.number % 2 == 0
        return key.number % 2 == 0

    def _thread(self, run: Callable[[], None]) -> None:
        self.threads.append(threading.Thread(target=run))

    def _reader(self, face: Any, label: str, *, own: bool = False, cleared: bool = False) -> Reader:
        orders = self.orders
        reader = Reader(
            self.board,
            self.keys,
            face,
            self.source,
            orders.number,
            bound=orders.setting.bound,
            own=own,
            cleared=cleared,
            errors=self.held.errors,
            patience=orders.patience,
            rest=orders.rest * 20 if own else orders.rest,
            seed=orders.seed * 1000 + len(self.readers),
            label=label,
        )
        self.readers.append(reader)
        return reader

    def _writer(self, mine: Sequence[Key], face: Any, other: Any, label: str) -> Writer:
        writer = Writer(
            self.board,
            self.keys,
            mine,
            face,
            other,
            errors=self.held.errors,
            worker=self.orders.number,
            bound=self.orders.setting.bound,
            seed=self.orders.seed * 1000 + 500 + len(self.writers),
            label=f"worker {self.orders.number}, {label}",
        )
        self.writers.append(writer)
        return writer

    # Orders from the parent

    def obey(self, pipe: Any) -> None:
        for thread in self.threads:
            thread.start()
        pipe.send(("ready", None))
        while True:
            order, argument = pipe.recv()
            answer = getattr(self, order)(argument)
            pipe.send((order, answer))
            if order == "end":
                return

    def go(self, _: object) -> None:
        for each in (*self.readers, *self.writers):
            each.going.set()

    def quiet(self, settle: bool) -> None:
        """Stop the writers; before that, if asked, repeat what has an unknown outcome."""
        self._rest(self.writers)
        deadline = time.monotonic() + _SETTLE
        while settle and any(writer.unsettled for writer in self.writers):
            if time.monotonic() > deadline:
                self.told.lines.append(f"t={time.monotonic():.3f} not all could be written again")
                return
            for writer in self.writers:
                writer.settling.set()
            self._until(lambda: not any(writer.settling.is_set() for writer in self.writers))
            time.sleep(0.1)

    def pause(self, _: object) -> None:
        """Stop the readers."""
        self._rest(self.readers)

    def _rest(self, tasks: Sequence[Reader | Writer]) -> None:
        for each in tasks:
            each.idle.clear()
            each.going.clear()
        for each in tasks:
            self._until(each.idle.is_set)

    def _until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _WAIT
        while not done():
            dead = [thread.name for thread in self.threads if not thread.is_alive()]
            if dead:
                raise RuntimeError(f"died: {', '.join(dead)}")
            if time.monotonic() > deadline:
                faulthandler.dump_traceback(all_threads=True)
                raise TimeoutError("a task of the worker hangs")
            time.sleep(0.002)

    def compare(self, cycle_began: float) -> dict[str, Any]:
        """Compare each near copy with the store, and the store with what was completed."""
        held = self.held
        found: dict[str, Any] = {"compared": 0, "missed": 0}
        names = ("apart", "lost", "vanished", "undelivered", "rolled_back")
        found |= {name: [] for name in names}
        for key in self.keys:
            cleared = key.kind == "cleared"
            face = held.other_threads if cleared else held.threads
            tasks = held.other_tasks if cleared else held.tasks
            plain = held.other_plain if cleared else held.plain
            if plain is None or (face is None and tasks is None):
                continue
            get = face.get if face is not None else self._in_loop(tasks.get)
            for _ in range(20):
                before = self._asked(plain, key)
                near = self._asked(get, key)
                if before == self._asked(plain, key):
                    break
            else:
                found["apart"].append(f"{key.name}: the store does not come to rest")
                continue
            found["compared"] += 1
            if near is None and before is not None:  # no copy, and the store is left alone still
                found["missed"] += 1
            elif near != before and not key.ttl:
                found["apart"].append(
                    f"t={time.monotonic():.3f} {key.name} in worker {self.orders.number}: "
                    f"near {near}, store {before}, complete {self.board.latest[key.number]}, "
                    f"begun {self.board.started[key.number]}; {held.inspect(key.name)}"
                )
            if key.owner == self.orders.number:
                self._compare_store(key, before, cycle_began, found)
        return found

    def _asked(self, get: Callable[[str], Any], key: Key) -> int | None:
        """Ask again while the cache still takes the store for unreachable."""
        deadline = time.monotonic() + _SETTLE
        while True:
            try:
                return _version(get(key.name))
            except self.held.errors:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _compare_store(self, key: Key, version: int | None, began: float, found: Any) -> None:
        board = self.board
        latest = board.latest[key.number]
        told = f"{key.name}: store {version}, complete {latest}"
        if version is not None and version < latest:
            what = "lost"
        elif version is not None and version < board.started[key.number]:
            what = "undelivered"
            told += f", begun {board.started[key.number]}"
        elif (
            version is None
            and key.kind == "put"
            and not key.ttl
            and latest
            and latest == board.put[key.number] == board.started[key.number]
            and board.lost_at < board.begun[key.number]  # not while all was being lost
            and board.unknown[key.number] < began
        ):
            what = "vanished"
        else:
            return
        found["rolled_back" if board.may_be_lost(key.number) else what].append(f"{what}: {told}")

    def _in_loop(self, function: Callable[..., Any]) -> Callable[..., Any]:
        loop = self._loop_of_peer

        def call(name: str) -> Any:
            if loop is None:
                return asyncio.run(function(name))
            return asyncio.run_coroutine_threadsafe(function(name), loop).result(_WAIT)

        return call

    def end(self, _: object) -> tuple[Tally, list[str], list[str]]:
        """Stop everything, close, and hand in what was counted."""
        for each in (*self.readers, *self.writers):
            each.ended = True
        tally = Tally()
        near, far = self.held.hits()
        for thread in self.threads:
            thread.join(_WAIT)
            if thread.is_alive():
                tally.raised += 1
                tally.note(
                    f"at the end, the thread {thread.name} of worker {self.orders.number} hangs"
                )
        for each in (*self.readers, *self.writers):
            tally.add(each.tally)
        tally.near, tally.far = near, far
        tally.loads = self.source.loads
        tally.missing = sum(reader.tally.missing for reader in self.readers)
        tally.checked = tally.reads - tally.missing
        self.held.close()
        return tally, self.held.notes, list(self.told.lines)


def _version(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, list):
        return int(value[0])
    return int(str(value).partition("|")[0])


def main(orders: Orders, pipe: Any) -> None:
    """Run a worker; it dies with its parent, stopped or not."""
    if sys.platform == "linux":
        pdeathsig = 1
        ctypes.CDLL(None).prctl(pdeathsig, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        _Worker(orders).obey(pipe)
    except EOFError:
        os._exit(1)
    except BaseException as error:
        import traceback

        pipe.send(("failed", f"worker {orders.number}: {error!r}\n{traceback.format_exc()}"))
        os._exit(1)
