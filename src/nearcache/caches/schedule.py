"""Work that is done again and again in a thread of its own, until it is stopped."""

import logging
import math
import os
import threading
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeVar
from weakref import WeakMethod, finalize

from nearcache.daemon import running
from nearcache.errors import ConfigError
from nearcache.flag import Flag

__all__ = ["Schedule", "wait_for"]

T = TypeVar("T")

_log = logging.getLogger("nearcache")


class Schedule:
    """Calls a method every ``interval`` seconds, between ``start`` and ``stop``.

    One thread serves both faces: a task would end with its event loop, and what it cleans blocks.
    It is a daemon and keeps nobody alive: it ends with the method's owner, and with the interpreter
    at the latest. What the method raises is logged. A forked child has to start its own.
    Units: seconds. Thread-safe.
    """

    def __init__(self, interval: object, work: Callable[[], Any]) -> None:
        if isinstance(interval, bool) or not isinstance(interval, Real):
            msg = f"cleanup_interval is seconds, not {interval!r}"
            raise ConfigError(msg)
        self.interval = float(interval)
        if not (0 < self.interval <= threading.TIMEOUT_MAX and math.isfinite(self.interval)):
            msg = f"cleanup_interval is a positive, finite number of seconds, not {interval!r}"
            raise ConfigError(msg)
        self._work = WeakMethod(work)
        self._end: finalize[..., Any] | None = None
        self._start_anew()

    def _start_anew(self) -> None:
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._thread: threading.Thread | None = None
        self._ended = Flag()

    def _look_where(self) -> None:
        """Begin anew in a forked child: what threads of the parent held is held for ever there."""
        if self._pid != os.getpid():
            self._start_anew()

    @property
    def running(self) -> bool:
        """Whether it was started, here, and not stopped since."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._ended.is_set()

    def start(self) -> None:
        """Begin, an interval from now; once is enough."""
        self._look_where()
        with self._lock:
            if self.running:
                return
            self._ended.set()  # for one whose start was cut off, and which runs all the same
            ended = self._ended = Flag()
            owner: Any = getattr(self._work(), "__self__", None)
            if self._end is not None:
                self._end.detach()
            self._end = finalize(owner, _end, ended, self._pid)  # at the interpreter's exit, too
            self._thread = running(
                None, "nearcache-cleanup", _again_and_again, self._work, self.interval, ended
            )

    def stop(self) -> None:
        """End, and wait for the call that is under way; once is enough."""
        self._look_where()
        with self._lock:
            thread = self._thread
            self._ended.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _end(ended: Flag, pid: int) -> None:
    if pid == os.getpid():  # in a child another thread may have held the event's lock
        ended.set()


def _again_and_again(work: WeakMethod[Any], interval: float, ended: Flag) -> None:
    while not ended.wait(interval):
        call = work()
        if call is None:
            return
        try:
            call()
        except Exception:  # noqa: BLE001  the next clean-up may succeed
            _log.exception("a scheduled clean-up failed; the next is due in %s s", interval)
        del call  # nor does it keep its owner alive while it waits


def wait_for(work: Callable[[], T]) -> T:
    """Do what blocks."""
    return work()
