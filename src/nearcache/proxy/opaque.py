"""Questions whose answers cannot be cached, again and again."""

from nearcache.clock import Clock, monotonic

__all__ = ["Opaque"]

_PATIENCE = 3  # answers
_SECONDS = 60.0
_MOST = 10_000  # questions


class Opaque:
    """Remembers by name which questions are better passed on at once: asking twice costs twice."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._found: dict[bytes, tuple[int, float]] = {}

    def is_known(self, name: bytes) -> bool:
        """Say whether the last answers could not be cached; for a minute, then one is tried."""
        times, until = self._found.get(name, (0, 0.0))
        return times >= _PATIENCE and self._clock() < until

    def note(self, name: bytes) -> None:
        """Note that an answer could not be cached."""
        if len(self._found) >= _MOST:  # names are callers' to choose
            self._found.clear()
        times, _ = self._found.get(name, (0, 0.0))
        self._found[name] = times + 1, self._clock() + _SECONDS

    def forget(self, name: bytes) -> None:
        """Note that an answer could be cached."""
        self._found.pop(name, None)
