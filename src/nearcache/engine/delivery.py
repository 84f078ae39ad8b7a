"""Forgetting in a store that could not be reached, should nobody else ask it.

Every call that asks the store brings it what is queued (``engine/access.py``). A process that has
forgotten something and then asks nothing would keep it to itself; so there is a thread for each
store, but only as long as something is queued for it.
"""

import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary, ref

from nearcache.daemon import running
from nearcache.engine.io import BlockingIO, run
from nearcache.errors import ClosedError
from nearcache.flag import Flag

if TYPE_CHECKING:
    from nearcache.engine.access import Access

__all__ = ["Delivery"]

_RETRY, _MOST = 0.2, 1.0  # seconds between attempts; longer each time where a store refuses


class Delivery:
    """The thread that tries again and again, for all namespaces of one store. Thread-safe."""

    @classmethod
    def to(cls, store: object) -> "Delivery":
        """Return the one to a store, which whoever asks must hold as long as the answer."""
        with _guard:
            found = _deliveries.get(id(store))
            if found is None:
                found = _deliveries[id(store)] = cls()
            return found

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: dict[int, ref[Access]] = {}
        self._over = Flag()
        self._thread: threading.Thread | None = None

    def see_where_we_are(self) -> None:
        """Begin anew in a forked child: the thread stayed in the parent."""
        if self._pid != os.getpid():
            self._begin()

    def wake(self, access: "Access") -> None:
        """Have what is queued there delivered."""
        self.see_where_we_are()
        with self._lock:
            if id(access) not in self._waiting or self._waiting[id(access)]() is not access:
                self._waiting[id(access)] = ref(access)
            self._thread = running(self._thread, "nearcache-deliver", self._deliver)

    def leave(self, access: "Access") -> None:
        """Deliver nothing more of it."""
        self.see_where_we_are()
        with self._lock:
            self._waiting.pop(id(access), None)
            self._over.set()

    def _deliver(self) -> None:
        pause = _RETRY
        while True:
            self._over.clear()
            with self._lock:
                waiting = list(self._waiting.items())
            refused = [self._try(name, found) for name, found in waiting]
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
            pause = min(_MOST, 2 * pause) if any(refused) else _RETRY
            self._over.wait(pause)

    def _try(self, name: int, found: "ref[Access]") -> bool:
        """Deliver what is queued there; say whether the store answers, and does not take it."""
        access = found()
        ends, before = access is None or access.closed, 0
        if access is not None and not ends:
            before = access.undelivered
            try:
                run(access.retry(BlockingIO()))
            except ClosedError:  # its user has closed the store
                ends = True
            except Exception as error:  # noqa: BLE001  a bug; what else is queued goes on
                access.say("delivery", "forgetting in the store failed: %s", type(error).__name__)
        with self._lock:  # whoever queues more looks under this lock, after it
            left = 0 if access is None else access.undelivered
            if (ends or not left) and self._waiting.get(name) is found:
                self._waiting.pop(name, None)
        return access is not None and access.state == "closed" and left >= before > 0


_guard = threading.Lock()
_deliveries: "WeakValueDictionary[int, Delivery]" = WeakValueDictionary()


def _start_anew() -> None:
    """Take new locks, in a forked child: others may have held the old ones."""
    global _guard  # noqa: PLW0603  a lock of the process
    _guard = threading.Lock()
    for delivery in list(_deliveries.values()):
        delivery.see_where_we_are()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
