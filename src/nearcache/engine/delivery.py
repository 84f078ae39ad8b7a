"""Forgetting in a store that could not be reached, should nobody else ask it.

Every call that asks the store brings it what is queued (``engine/access.py``). A process that has
forgotten something and then asks nothing would keep it to itself; so there is a thread, but only
as long as something is queued.
"""

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import ref

from nearcache.engine.io import BlockingIO, run

if TYPE_CHECKING:
    from nearcache.engine.access import Access

__all__ = ["Delivery"]

log = logging.getLogger("nearcache")

_RETRY = 0.2  # seconds between attempts


class Delivery:
    """The thread that tries again and again, for one ``Access``. Thread-safe."""

    def __init__(self, access: "Access") -> None:
        self._access = ref(access)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the thread running: something is queued."""
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(
                    target=self._deliver, name="nearcache-deliver", daemon=True
                )
                with suppress(RuntimeError):  # at the interpreter's exit no thread can be started
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """Let the thread end."""
        self._closed.set()

    def _deliver(self) -> None:
        while not self._closed.is_set():
            access = self._access()
            if access is None:
                return
            try:
                run(access.retry(BlockingIO()))
            except Exception:  # a bug; but what is queued must not suffer from it
                log.exception("bringing the store what was forgotten failed")
            if self._rests(access):
                return
            del access
            self._closed.wait(_RETRY)

    def _rests(self, access: "Access") -> bool:
        """End if nothing is left; whoever queues more looks under the same lock."""
        with self._lock:
            if access.undelivered:
                return False
            self._thread = None
            return True
