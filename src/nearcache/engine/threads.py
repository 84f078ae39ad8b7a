"""Threads for work beside its caller: so many at most, and none when there is nothing to do.

They are daemons, unlike an executor's: a loader that hangs must not keep the interpreter from
ending.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["Threads"]


class Threads:
    """Work for ``most`` threads at once. Thread-safe.

    What waits for a thread can be cancelled, and is gone from the queue then: the queue is never
    longer than there are callers who wait.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: dict[Future[None], Callable[[], None]] = {}

    def __len__(self) -> int:
        """Return how much is under way or waits."""
        return self._running + len(self._waiting)

    def run(self, work: Callable[[], None]) -> "Future[None]":
        """Do work as soon as there is a thread for it."""
        done: Future[None] = Future()
        if not self._take(done, work):
            done.add_done_callback(self._forget)
        return done

    def run_now(self, work: Callable[[], None]) -> bool:
        """Do work if there is a thread for it; say whether there is."""
        if self._pid == os.getpid() and self._running >= self._most:
            return False
        return self._take(Future(), work)

    def _take(self, done: "Future[None]", work: Callable[[], None]) -> bool:
        """Say whether a thread begins with it."""
        if self._pid != os.getpid():
            self._begin()  # the threads stayed in the parent
        with self._lock:
            if self._running >= self._most:
                self._waiting[done] = work
                return False
            self._running += 1
        thread = threading.Thread(
            target=self._drive, args=(done, work), name=self._name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # at the interpreter's exit no thread can be started
            self._drive(done, work)
        return True

    def _drive(self, done: "Future[None]", work: Callable[[], None]) -> None:
        while True:
            if done.set_running_or_notify_cancel():
                _finish(done, work)
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                done = next(iter(self._waiting))
                work = self._waiting.pop(done)

    def _forget(self, done: "Future[None]") -> None:
        if done.cancelled():
            with self._lock:
                self._waiting.pop(done, None)


def _finish(done: "Future[None]", work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001  whoever waits gets it
        done.set_exception(error)
    else:
        done.set_result(None)
