"""Not asking a store that does not answer.

After a failure nobody asks. After a pause that doubles with each further failure somebody tries, in
the background: no caller pays for finding out that a store is still hung.
"""

import random
import threading

from nearcache.clock import Clock

__all__ = ["Breaker"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 0.5  # what was kept in an outage is to be looked at soon after it


class Breaker:
    """Says whether to ask. Thread-safe. Units: seconds."""

    __slots__ = ("_clock", "_lock", "_pause", "_until", "failures")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pause = 0.0
        self._until = 0.0
        self.failures = 0
        """How many there were; who waited for a turn sees by it that the store failed meanwhile."""

    def allows(self) -> bool:
        """Say whether the store may be asked now."""
        return not self._pause

    def tries(self) -> bool:
        """Say whether the caller shall try the store; true for one caller after each pause."""
        with self._lock:
            now = self._clock()
            if not self._pause or now < self._until:
                return False
            self._until = now + self._pause  # others wait for what this try finds out
            return True

    def succeeded(self) -> bool:
        """Ask freely again; say whether nobody was to."""
        if not self._pause:
            return False
        with self._lock:
            was_open, self._pause = self._pause > 0, 0.0
            return was_open

    def failed(self) -> None:
        """Pause, longer each time, at random so that many processes do not return at once."""
        with self._lock:
            self.failures += 1
            self._pause = min(_LONGEST_PAUSE, 2 * self._pause or _FIRST_PAUSE)
            spread = random.uniform(0.75, 1.25)  # noqa: S311  guards nothing
            self._until = self._clock() + self._pause * spread
