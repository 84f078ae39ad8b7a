"""How long to wait for a store: measured round trips, as TCP measures them.

Source: RFC 6298 (smoothed round trip, variation, doubling after a time-out).
"""

import threading

__all__ = ["RoundTripTimer"]

_FIRST = 1.0
_LEAST = 0.2  # Linux's own floor: a busy neighbour may stall a healthy server this long
_MOST = 5.0


class RoundTripTimer:
    """A time-out that follows what a store usually takes. Thread-safe. Units: seconds."""

    __slots__ = ("_lock", "_mean", "_spread", "_timeout")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mean: float | None = None
        self._spread = 0.0
        self._timeout = _FIRST

    @property
    def timeout(self) -> float:
        """How long to wait for the next answer."""
        return self._timeout

    @property
    def usual(self) -> float:
        """How long an answer usually takes; 0 before the first."""
        return self._mean or 0.0

    def answered(self, seconds: float) -> None:
        """Learn from an answer."""
        with self._lock:
            if self._mean is None:
                self._mean, self._spread = seconds, seconds / 2
            else:
                self._spread += (abs(seconds - self._mean) - self._spread) / 4
                self._mean += (seconds - self._mean) / 8
            self._timeout = min(_MOST, max(_LEAST, self._mean + 4 * self._spread))

    def timed_out(self) -> None:
        """Wait longer next time, until an answer comes."""
        with self._lock:
            self._timeout = min(_MOST, 2 * self._timeout)
