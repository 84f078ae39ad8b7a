"""Keeping leases alive while their loads run, so that no other process starts the same load.

A lease is short, so that a process that dies while loading delays others only briefly; a load may
be long. One background thread renews each every third of its life; it ends when it finds none, so
that many short loads share one.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from weakref import ref

from nearcache.errors import StoreError

__all__ = ["LeaseKeeper"]

Renew = Callable[[Sequence[bytes], bytes, float], None]


class _Grip:
    __slots__ = ("__weakref__",)


class LeaseKeeper:
    """Renews what is held. Thread-safe."""

    def __init__(self, renew: Renew, seconds: float) -> None:
        self._renew = renew
        self._seconds = seconds
        self.start_anew()

    def start_anew(self) -> None:
        """Hold nothing: after a fork the thread and its leases belong to the parent."""
        self._lock = threading.Lock()
        self._pause = threading.Event()  # never set
        self._held: dict[int, tuple[ref[_Grip], Sequence[bytes], bytes]] = {}
        self._next = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, keys: Sequence[bytes], token: bytes) -> Iterator[None]:
        """Renew the leases on ``keys`` until the block ends."""
        grip = _Grip()  # dies with this block, even where Ctrl-C cuts off the cleaning-up
        with self._lock:
            self._next += 1
            ticket = self._next
            self._held[ticket] = (ref(grip), keys, token)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="nearcache-leases", daemon=True)
                # at the interpreter's exit no thread can be started: the lease is not renewed
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(ticket, None)
                del grip

    def _run(self) -> None:
        while True:
            self._pause.wait(self._seconds / 3)
            with self._lock:
                self._held = {t: held for t, held in self._held.items() if held[0]() is not None}
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
