"""Not asking a store that does not answer: a circuit breaker.

::

    closed     everybody asks                     a failure opens it
    open       nobody asks, for a pause           after the pause somebody tries
    half-open  one tries, in the background       an answer closes it, a failure opens it

The pause doubles with each further failure. No caller pays for finding out that a store is still
hung. Only the first calls do: those that were under way when it began to hang, once each.
"""

import random
import threading
from typing import Literal

from nearcache.clock import Clock

__all__ = ["Breaker", "State"]

State = Literal["closed", "open", "half-open"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 0.5  # what was kept in an outage is to be looked at soon after it


class Breaker:
    """Says whether to ask. Thread-safe. Units: seconds."""

    __slots__ = ("_clock", "_lock", "_pause", "_tried", "_until", "failures")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pause = 0.0
        self._until = 0.0
        self._tried = False
        self.failures = 0
        """How many there were; who waited for a turn sees by it that the store failed meanwhile."""

    @property
    def state(self) -> State:
        """Whether the store is asked, left alone, or being tried."""
        if not self._pause:
            return "closed"
        return "half-open" if self._tried else "open"

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
            self._tried = True
            return True

    def succeeded(self) -> bool:
        """Ask freely again; say whether nobody was to."""
        if not self._pause:
            return False
        with self._lock:
            was_open, self._pause, self._tried = self._pause > 0, 0.0, False
            return was_open

    def failed(self, since: int | None = None, *, silent: bool = False) -> bool:
        """Pause, longer each time, at random so that many processes do not return at once.

        since: how many failures there were when it was asked; if there are more by now, this one
            says nothing new.
        silent: it did not answer in time. It may have been held up for a moment, so it may be
            tried at once, and once more.

        Returns whether it was asked freely until now.
        """
        with self._lock:
            known = since is not None and since != self.failures
            self.failures += 1
            if known:
                return False
            before, self._tried = self._pause, False
            self._pause = min(_LONGEST_PAUSE, 2 * before or _FIRST_PAUSE)
            spread = random.uniform(0.75, 1.25)  # noqa: S311  guards nothing
            at_once = silent and before <= _FIRST_PAUSE
            self._until = self._clock() + (0.0 if at_once else self._pause * spread)
            return not before
