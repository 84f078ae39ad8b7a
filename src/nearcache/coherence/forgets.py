"""What the log of a namespace says: which near copies other processes forgot or overwrote.

Values that never change need no tracking; only forgetting has to travel. Every process reads the
namespace's log at most every ``interval`` seconds, and drops what it names. A gap in the log means
that anything may have been forgotten: everything near goes.
"""

import os
import threading
from dataclasses import dataclass

__all__ = ["Forget", "LogReader"]

_EVERYTHING, _MODEL, _TEXT = b"*", b"m", b"t"
_WIDTH = 16
_ORIGIN_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Forget:
    """One entry of the log: everything (no model), a model (no digest), or one text of a model."""

    model: bytes = b""
    digest: bytes = b""

    def pack(self, origin: bytes) -> bytes:
        """Return the entry's bytes; ``origin`` names the process that forgot."""
        kind = _TEXT if self.digest else _MODEL if self.model else _EVERYTHING
        return kind + origin + self.model + self.digest

    @staticmethod
    def unpack(entry: bytes, origin: bytes) -> "Forget | None":
        """Read an entry; None for our own, which took effect when it was written."""
        kind, rest = entry[:1], entry[1 + _ORIGIN_WIDTH :]
        if entry[1 : 1 + _ORIGIN_WIDTH] == origin:
            return None
        if kind == _TEXT and len(rest) == 2 * _WIDTH:
            return Forget(rest[:_WIDTH], rest[_WIDTH:])
        if kind == _MODEL and len(rest) == _WIDTH:
            return Forget(rest)
        # of a later version, or damaged: who cannot read what is gone drops all
        return Forget() if entry else None


class LogReader:
    """Where this process stands in one log, and when it has to look again. Thread-safe."""

    def __init__(self, log: bytes, interval: float) -> None:
        self.log = log
        self.interval = interval
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the place in the log, and take a new name: after a fork nobody is who it was."""
        self.origin = os.urandom(_ORIGIN_WIDTH)
        self.cursor = b""
        self._due = float("-inf")
        self._heard = float("-inf")
        self._failing = False
        self._lock = threading.Lock()

    def due(self, now: float) -> bool:
        """Say whether it is time to read; costs a comparison."""
        return now >= self._due

    def claim(self, now: float) -> bool:
        """Take the turn to read, if it is time: one thread reads, the others go on."""
        with self._lock:
            if now < self._due:
                return False
            self._due = now + self.interval
            return True

    def heard(self, now: float) -> None:
        """Note that the log was read at ``now``."""
        self._heard, self._failing = now, False

    def failed(self) -> None:
        """Note that the log could not be read."""
        self._failing = True

    def hurry(self) -> None:
        """Let the next operation read the log: the store is back after an outage."""
        self._due = float("-inf")

    def may_serve_meanwhile(self, now: float) -> bool:
        """Say whether near copies may be served while the log is being read.

        Within twice the interval of the last reading they may: that is the promise. When the store
        does not answer they may too: what never changes goes on serving. But after a long silence
        of our own nothing is served before the log has been read.
        """
        return self._failing or now < self._heard + 2 * self.interval
