"""Entries as a store sees them, for tests of stores."""

from zlib import crc32

from nearcache.entry import HEAD, MAGIC, VERSION, Mark

__all__ = ["mark_of", "stored_entry"]


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
