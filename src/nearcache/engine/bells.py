"""Waking who waits for a key that another process is loading."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from nearcache.engine.flights import Flight

__all__ = ["Bells"]


class Bells:
    """Who waits for which key. Under the flight table's lock, which is given."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._bells: dict[bytes, list[Flight]] = {}

    def __len__(self) -> int:
        return len(self._bells)

    def of(self, key: bytes) -> Sequence[Flight]:
        """Return the bells that a change of this key, or of its lease, rings."""
        return self._bells.get(key, ())

    def every(self) -> list[Flight]:
        """Return all bells."""
        return [bell for bells in self._bells.values() for bell in bells]

    @staticmethod
    def ring(bells: Iterable[Flight]) -> None:
        """Wake who waits; not under the lock."""
        for bell in bells:
            bell.looked_in_store()

    @contextmanager
    def waiting(self, keys: Sequence[bytes]) -> Iterator[Flight]:
        """Return what rings when one of these keys, or its lease, changes."""
        bell = Flight(None, None)
        try:
            with self._lock:
                for key in keys:
                    self._bells.setdefault(key, []).append(bell)
            yield bell
        finally:
            with self._lock:
                for key in keys:
                    bells = self._bells.get(key, [])
                    if bell in bells:
                        bells.remove(bell)
                    if not bells:
                        self._bells.pop(key, None)
