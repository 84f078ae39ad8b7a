"""A gate that many pass at once, until one closes it and waits for those inside to leave."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """For what must not be under way in any thread at a ``fork``: the child copies it half done.

    ``acquire`` and ``release`` are those of a re-entrant lock. Thread-safe.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._inside = 0
        self._closing = 0
        self._here = threading.local()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside; may be nested."""
        depth = getattr(self._here, "depth", 0)
        if not depth:
            with self._changed:
                while self._closing:
                    self._changed.wait()
                self._inside += 1
        self._here.depth = depth + 1
        try:
            yield
        finally:
            self._here.depth = depth
            if not depth:
                with self._changed:
                    self._inside -= 1
                    self._changed.notify_all()

    def acquire(self) -> bool:
        """Close the gate, and wait until nobody else is inside."""
        self._changed.acquire()
        self._closing += 1
        mine = getattr(self._here, "depth", 0) > 0
        while self._inside > mine:
            self._changed.wait()
        return True  # and the lock is kept: nobody enters

    def release(self) -> None:
        """Open it again."""
        self._closing -= 1
        self._changed.notify_all()
        self._changed.release()
