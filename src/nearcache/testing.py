"""For tests of what builds on nearcache: a clock that moves when told, a store in memory, entries.

The contract suites of the near tier and of stores (``tests/contract``) need nothing else: subclass
one, say how your implementation is made, and pytest runs the specification on it.
"""

from zlib import crc32

from nearcache.entry import HEAD, MAGIC, VERSION, Mark
from nearcache.stores.memory import MemoryStore

__all__ = ["ManualClock", "MemoryStore", "mark_of", "stored_entry"]


class ManualClock:
    """A clock that stands still until it is advanced; give it wherever a clock is taken."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time it was set to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, at once."""
        if seconds < 0:
            msg = f"time does not go back, not by {-seconds} seconds"
            raise ValueError(msg)
        self._now += seconds


def stored_entry(
    payload: bytes = b"", *, kind: int = 3, size: int = 4, stamp: bytes = b"current."
) -> bytes:
    """Return bytes with the head of a stored entry: all that a store may look at.

    Entries of different payloads differ in their heads, as those of a codec do.
    """
    return HEAD.pack(MAGIC, VERSION, kind, size, 0.0, stamp, crc32(payload)) + payload


def mark_of(entry: bytes, *, any_size: bool = False) -> Mark:
    """Return the mark under which ``entry`` is written, and which it satisfies."""
    _, _, kind, size, _, stamp, _ = HEAD.unpack(entry[: HEAD.size])
    return Mark(kind, None if any_size else size, stamp)
