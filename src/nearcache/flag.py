"""A flag that threads wait for, and that an interrupted one cannot break.

``threading.Event`` has a lock whose ``__enter__`` is Python: Ctrl-C right after that took the lock
leaves it taken, and whoever sets, clears or waits next hangs for ever::

    main thread                     another thread
    event.set(): takes the lock
    KeyboardInterrupt
                                    event.wait(): waits for the lock

Here every waiter has a lock of its own, and whoever sets takes none.
"""

import threading
from collections import deque
from contextlib import suppress

__all__ = ["Flag"]


class Flag:
    """Set, cleared and waited for like ``threading.Event``. Thread-safe.

    Who is interrupted while setting it may leave some asleep until it is set again.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: deque[threading.Lock] = deque()

    def is_set(self) -> bool:
        """Say whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all who wait."""
        self._is_set = True
        for lock in self._waiting.copy():
            with suppress(RuntimeError):  # another thread has woken it
                lock.release()

    def clear(self) -> None:
        """Let who waits from now on wait."""
        self._is_set = False

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, for so long at most; say whether it was."""
        if self._is_set:
            return True
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock)
        # said first, looked at after: who sets does it the other way round
        woken = self._is_set or lock.acquire(timeout=-1 if seconds is None else max(0.0, seconds))
        self._waiting.remove(lock)
        return woken or self._is_set
