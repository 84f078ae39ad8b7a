"""Several locks as one, for a fork to hold."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Together"]


class Together:
    """A lock, and those that exist while it is held, taken and given back together; re-entrant."""

    def __init__(self, first: Any, others: Callable[[], Sequence[Any]]) -> None:
        self._first = first
        self._others = others
        self._held: list[list[Any]] = []  # of each acquire

    def acquire(self) -> bool:
        """Take them all."""
        self._first.acquire()
        taken: list[Any] = []
        self._held.append(taken)
        for lock in self._others():
            lock.acquire()
            taken.append(lock)
        return True

    def release(self) -> None:
        """Give them back."""
        for lock in reversed(self._held.pop()):
            lock.release()
        self._first.release()
