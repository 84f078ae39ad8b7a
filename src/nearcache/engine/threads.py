"""Threads for work beside its caller: what somebody waits for begins, what nobody does is bounded.

They are daemons, unlike an executor's: a loader that hangs must not keep the interpreter from
ending.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["Threads", "Work"]


class Work(Future[None]):
    """Work in a thread of ``Threads``."""

    def __init__(self, threads: "Threads") -> None:
        super().__init__()
        self._threads = threads

    def leave(self) -> None:
        """Wait for it no more: it goes on, but it does not begin if it has not begun."""
        if not self.cancel():
            self._threads.left(self)


class Threads:
    """A thread for each piece of work. Thread-safe.

    most: how many, whose callers have left, may go on at once. With so many, what is new waits for
        one of them to end. What waits can be cancelled, and is gone from the queue then: the queue
        is never longer than there are callers who wait.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._running = 0
        self._left: set[Work] = set()
        self._waiting: dict[Work, Callable[[], None]] = {}

    def __len__(self) -> int:
        """Return how much is under way or waits."""
        return self._running + len(self._waiting)

    def run(self, work: Callable[[], None]) -> Work:
        """Do work at once, unless too much goes on that was left."""
        self._see_where_we_are()
        done = Work(self)
        with self._lock:
            waits = len(self._left) >= self._most
            if waits:
                self._waiting[done] = work
            else:
                self._running += 1
        if waits:
            done.add_done_callback(self._forget)
        else:
            self._start(done, work)
        return done

    def run_now(self, work: Callable[[], None]) -> bool:
        """Do work that nobody waits for, if no more is done than may be; say whether it is."""
        self._see_where_we_are()
        with self._lock:
            if self._running >= self._most:
                return False
            self._running += 1
        self._start(Work(self), work)
        return True

    def left(self, done: Work) -> None:
        """Note that nobody waits for this any more."""
        with self._lock:
            if not done.done():
                self._left.add(done)

    def _see_where_we_are(self) -> None:
        if self._pid != os.getpid():
            self._begin()  # the threads stayed in the parent

    def _start(self, done: Work, work: Callable[[], None]) -> None:
        thread = threading.Thread(
            target=self._drive, args=(done, work), name=self._name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # at the interpreter's exit no thread can be started
            self._drive(done, work)

    def _drive(self, done: Work, work: Callable[[], None]) -> None:
        while True:
            if done.set_running_or_notify_cancel():
                _finish(done, work)
            with self._lock:
                self._left.discard(done)
                if not self._waiting:
                    self._running -= 1
                    return
                done = next(iter(self._waiting))
                work = self._waiting.pop(done)

    def _forget(self, done: Future[None]) -> None:
        if done.cancelled():
            with self._lock:
                self._waiting.pop(done, None)  # type: ignore[call-overload]


def _finish(done: Work, work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001  whoever waits gets it
        done.set_exception(error)
    else:
        done.set_result(None)
