"""Keeping leases alive while their loads run, so that no other process starts the same load.

A lease is short, so that a process that dies while loading delays others only briefly; a load may
be long. One background thread renews each every third of its life; it ends when it finds none, so
that many short loads share one.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import ref

from nearcache.daemon import running
from nearcache.errors import StoreError
from nearcache.flag import Flag

__all__ = ["LeaseKeeper"]

Renew = Callable[[Sequence[bytes], bytes, float], None]


class _Grip:
    """What a block holds as long as it runs; ``over`` where its frame is kept, by a traceback."""

    __slots__ = ("__weakref__", "over")

    def __init__(self) -> None:
        self.over = False


class LeaseKeeper:
    """Renews what is held. Thread-safe."""

    def __init__(self, renew: Renew, seconds: float) -> None:
        self._renew = renew
        self._seconds = seconds
        self.start_anew()

    def start_anew(self) -> None:
        """Hold nothing: after a fork the thread and its leases belong to the parent."""
        self._lock = threading.Lock()
        self._pause = Flag()  # never set
        self._held: dict[int, tuple[ref[_Grip], Sequence[bytes], bytes]] = {}
        self._next = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, keys: Sequence[bytes], token: bytes) -> Iterator[None]:
        """Renew the leases on ``keys`` until the block ends."""
        grip = _Grip()  # dies with this block, even where Ctrl-C cuts off the cleaning-up
        ticket = 0
        try:
            with self._lock:
                self._next += 1
                ticket = self._next
                self._held[ticket] = (ref(grip), keys, token)
                self._thread = running(self._thread, "nearcache-leases", self._run)
            yield
        finally:
            grip.over = True  # first, an assignment: Ctrl-C may hit all else
            with self._lock:
                self._held.pop(ticket, None)
                del grip

    def _run(self) -> None:
        while True:
            self._pause.wait(self._seconds / 3)
            with self._lock:
                self._held = {t: held for t, held in self._held.items() if _is_on(held[0]())}
                if not self._held:
                    self._thread = None
                    return
                held = list(self._held.values())
            for _, keys, token in held:
                try:
                    self._renew(keys, token, self._seconds)
                except StoreError:
                    # the load goes on; at worst its lease ends and another process loads as well
                    continue


def _is_on(grip: _Grip | None) -> bool:
    return grip is not None and not grip.over
