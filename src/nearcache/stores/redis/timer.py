"""How long to wait for a store: measured round trips, as TCP measures them.

Source: RFC 6298 (smoothed round trip, variation, doubling after a time-out). What is farther away
gets a larger margin. What is long takes time to travel: large requests are measured by the byte,
and wait longer.
"""

import threading
import time

__all__ = ["LONG", "RoundTripTimer"]

LONG = 65_536
"""Bytes from which a message takes noticeably longer than a short one."""

_FIRST = 1.0  # before the first answer nobody knows how far it is
_LEAST = 0.05
_MARGIN_OF_FAR, _MOST_OF_FAR = 8, 0.5  # what is farther away varies more: by round trips
_MOST = 5.0
_LONGEST_TRY = 1.0  # a server that came back is to be found soon
_FIRST_COST = 1e-7  # seconds per byte: 80 Mbit/s, until long messages were measured
_COSTS = 3  # times what a long message usually takes
_MOST_FOR_LENGTH = 30.0


class RoundTripTimer:
    """A time-out that follows what a store usually takes. Thread-safe. Units: seconds, bytes.

    fixed: always wait so long. least: never wait shorter.
    """

    __slots__ = (
        "_cost",
        "_doubled_at",
        "_fixed",
        "_least",
        "_lock",
        "_mean",
        "_silent",
        "_spread",
        "_timeout",
        "_under_way",
        "heard",
    )

    def __init__(self, fixed: float | None = None, least: float = 0.0) -> None:
        self.start_anew()
        self._fixed = fixed
        self._least = least
        self._mean: float | None = None
        self._spread = 0.0
        self._cost = _FIRST_COST
        self._timeout = _FIRST if fixed is None else fixed
        self._doubled_at = 0.0
        self._silent = False
        self.heard = 0.0
        """When (monotonic) a part of a long answer came last, whoever gets it."""

    def start_anew(self) -> None:
        """Take a new lock; after a fork what is under way is the parent's."""
        self._lock = threading.Lock()
        self._under_way = 0

    @property
    def timeout(self) -> float:
        """How long to wait for the next answer."""
        return self._timeout

    @property
    def usual(self) -> float:
        """How long an answer usually takes; 0 before the first."""
        return self._mean or 0.0

    def within(self, size: int) -> float:
        """How long to wait for the answer to a request of ``size`` bytes.

        Other long requests that are under way to the same store may be before it.
        """
        if self._fixed is not None:
            return self._fixed
        size = self._under_way + (size if size >= LONG else 0)
        if not size:
            return self._timeout
        return self._timeout + min(_MOST_FOR_LENGTH, _COSTS * self._cost * size)

    def answered(self, seconds: float, size: int = 0) -> None:
        """Learn from the beginning of an answer to a request of ``size`` bytes."""
        with self._lock:
            self._silent = False
            if size >= LONG:
                # what a short request may take, too, says nothing of bytes: a moment's stall of one
                # of 64 KB would else count a hundredfold for one of megabytes
                cost = max(0.0, seconds - max(self.usual, self._timeout)) / size
                # it follows the slowest at once, and comes down by and by
                self._cost = max(cost, self._cost + (cost - self._cost) / 4)
                return
            if self._mean is None:
                self._mean, self._spread = seconds, seconds / 2
            else:
                self._spread += (abs(seconds - self._mean) - self._spread) / 4
                self._mean += (seconds - self._mean) / 8
            if self._fixed is None:
                self._timeout = self._measured()

    def _measured(self) -> float:
        mean = self._mean or 0.0
        far = min(_MARGIN_OF_FAR * mean, _MOST_OF_FAR)
        return min(_MOST, max(_LEAST, self._least, mean + max(4 * self._spread, far)))

    def timed_out(self, asked: float | None = None, size: int = 0) -> None:
        """Wait longer, until an answer comes, if this was asked after another had timed out.

        asked: when (monotonic). What was asked before the first time-out says nothing new, and who
        asks in the moment until the store is left alone shall not wait longer than others did.
        """
        now = time.monotonic()
        asked = now if asked is None else asked
        with self._lock:
            if self._fixed is not None or asked < self._doubled_at:
                return
            self._doubled_at = now
            if size >= LONG:
                self._cost *= 2
            first, self._silent = not self._silent, True
            if first:
                return
            least = _FIRST if self._mean is None else self._measured()
            self._timeout = max(least, min(_LONGEST_TRY, 2 * self._timeout))

    def sets_out(self, size: int) -> None:
        """Note that a long request is under way, which others may have to wait for."""
        with self._lock:
            self._under_way += size

    def has_come(self, size: int) -> None:
        """Note that it has come, or never will."""
        with self._lock:
            self._under_way = max(0, self._under_way - size)
