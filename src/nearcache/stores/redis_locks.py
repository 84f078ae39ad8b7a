"""Several locks as one, for a fork to hold."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Together"]


class Together:
    """A lock, and those that exist while it is held, taken and given back together; re-entrant."""

    def __init__(self, first: Any, others: Callable[[], Sequence[Any]]) -> None:
        self._first = first
        self._others = others
        self._held: list[Any] = []

    def acquire(self) -> bool:
        """Take them all."""
        self._first.acquire()
        for lock in self._others():
            lock.acquire()
            self._held.append(lock)
        return True

    def release(self) -> None:
        """Give them back."""
        while self._held:
            self._held.pop().release()
        self._first.release()
