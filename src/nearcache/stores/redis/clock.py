"""What time it is at a server, from its last answer."""

import threading
import time
from typing import NamedTuple

from nearcache.stores.redis.replies import time_of

__all__ = ["Reading", "ServerClock"]

_LIFE = 10.0


class Reading(NamedTuple):
    """The server's time, and when it was asked for and received (monotonic). Units: seconds."""

    time: float
    sent: float
    received: float

    @property
    def is_young(self) -> bool:
        """Whether it can still be reckoned from."""
        return time.monotonic() - self.sent <= _LIFE

    def latest(self) -> float:
        """Return the server's time now, or later: as if it had looked when it was asked."""
        return self.time + time.monotonic() - self.sent

    def earliest(self) -> float:
        """Return the server's time now, or earlier: as if it had looked when we had the answer."""
        return self.time + time.monotonic() - self.received


class ServerClock:
    """The last reading of a server's clock, if it is young. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading: Reading | None = None

    @property
    def reading(self) -> Reading | None:
        """The last one, if there is one that is young."""
        reading = self._reading
        return reading if reading is not None and reading.is_young else None

    def read(self, reply: object, sent: float) -> float:
        """Take the reply to TIME, which was asked for at ``sent``; return the server's time."""
        now = time_of(reply)
        with self._lock:
            self._reading = Reading(now, sent, time.monotonic())
        return now

    def forget(self) -> None:
        """Have no reading: the clock may have been set."""
        self._reading = None

    def reset_after_fork(self) -> None:
        """Take a new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()
