"""The head of every stored entry: what a store may look at without reading the value.

Layout of the 32 bytes, little-endian, all that follows them is the payload::

    0  magic "nC"   2  version   3  kind   4  size (u32)   8  expiry (f64, 0 = never)
    16 stamp (8 bytes)           24 checksum (u64)

The *kind* names the codec and orders precisions: of two kinds of one value the larger holds more.
A vector's has the bit SIGNED where a signature ends the entry, and SEALED where a user's codec has
been over it; they say nothing of its precision.
The *size* is the codec's (a vector's dimension). The *expiry* is in the store's own time. The
*stamp* condenses the epochs of the groups the entry belonged to when its load started.

Source: ours, docs/design/decisions.md.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple

__all__ = ["HEAD", "MAGIC", "MISSING", "SEALED", "SIGNED", "VERSION", "Loaded", "Mark", "Missing"]

MAGIC = b"nC"
VERSION = 1
SIGNED, SEALED = 0x80, 0x40
_PRECISION = 0xFF ^ SIGNED ^ SEALED
HEAD = struct.Struct("<2sBBId8sQ")

_FORMAT = slice(0, 3)
_KIND = 3
_SIZE = slice(4, 8)
_STAMP = slice(16, 24)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a stored entry must show to win against one that is about to be written.

    A fill is first-writer-wins; but an entry of a forgotten group, of another format or size, or
    of less precision does not count as written. ``size`` None stands for any.
    """

    kind: int
    size: int | None
    stamp: bytes

    def wins(self, stored: bytes) -> bool:
        """Say whether ``stored`` stands and the new entry has to give way."""
        return (
            len(stored) >= HEAD.size
            and stored[_FORMAT] == self.format
            and stored[_KIND] & self.protection == self.protection
            and stored[_KIND] & _PRECISION >= self.kind & _PRECISION
            and (self.size is None or stored[_SIZE] == self.size_bytes)
            and stored[_STAMP] == self.stamp
        )

    @property
    def protection(self) -> int:
        """The bits SIGNED and SEALED an entry must have: more do not stand for more precision."""
        return self.kind & (SIGNED | SEALED)

    @property
    def format(self) -> bytes:
        """The first three bytes of an entry this version can read."""
        return MAGIC + bytes((VERSION,))

    @property
    def size_bytes(self) -> bytes:
        """The size as it stands in the head; empty for any."""
        return b"" if self.size is None else self.size.to_bytes(4, "little")


class Missing:
    """The absence of a value; ``None`` is a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"  # one object in every process


MISSING = Missing()
"""What a loader returns where there is nothing, and ``get`` where it is given as default."""


class Loaded(NamedTuple):
    """A loader's value with a life and tags of its own. Units: seconds; None for no limit."""

    value: Any
    ttl: float | EllipsisType | None = ...
    tags: Sequence[str] = ()
