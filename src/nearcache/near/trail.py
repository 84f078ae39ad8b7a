"""The trail of a near tier: what was asked for of late, for a sample of the keys, in order.

Whoever wants to know what a cache of another size or policy would have hit plays the trail on it
(``nearcache.near.miniature``). A key is followed where the low bits of its hash are zeros, one key
in ``2**shift``, and then with every access. At first all are. When there is no more room,

* half of the keys are let go, while a cache as much smaller as the sample still has 768 entries: a
  smaller one does not behave like the large one;
* else the oldest accesses are. What is left are 64 requests, at least, for every entry of the
  tier: a quarter of them to fill a cache, the others to count.

So the trail of a tier of up to 1535 entries has every key, and that of a large one goes back as far
as that of a small one, entry by entry.

Native twin: ``near/native/trail.h``. Not thread-safe: the tier sees to that.
"""

from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Steps", "Trail"]

# The same numbers as in trail.h.
_MOST = 3 << 15
_FIRST = 1 << 10
_FEW = 1 << 12
_TURNS = 128
_LEAST = 768
_RARE = 10
_HASH = (1 << 31) - 1


class Steps(NamedTuple):
    """What a trail has, the oldest first."""

    words: NDArray[np.uint32]
    """31 bits of a hash, and in the lowest bit whether it was a hit."""
    shift: int
    """One key in ``2**shift`` was followed."""
    late: bool
    """Older accesses were dropped: it does not begin with an empty cache."""


class Trail:
    """Notes accesses in a ring of limited size."""

    __slots__ = ("_capacity", "_first", "_late", "_words", "entries", "sample", "shift")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, and give all memory back."""
        self.entries = 0
        """Entries of the tier; who notes a miss says it."""
        self.shift = self.sample = 0
        self._words = array("I")
        self._capacity = self._first = 0
        self._late = False

    @property
    def nbytes(self) -> int:
        """What it takes. Units: bytes."""
        return self._capacity * self._words.itemsize

    def note(self, key_hash: int, *, hit: bool) -> None:
        """Note one access."""
        if key_hash & self.sample:
            return
        if self._is_full() and not self._grow():
            while self._is_full() and self._may_halve():
                self._halve()
            if key_hash & self.sample:
                return
            if self._is_full():
                self._words[self._first] = (key_hash & _HASH) << 1 | hit
                self._first = (self._first + 1) % self._capacity
                self._late = True
                return
        self._words.append((key_hash & _HASH) << 1 | hit)

    def note_hits(self, hashes: NDArray[np.uint64]) -> None:
        """Note so many hits, in this order."""
        hashes = hashes[(hashes & np.uint64(self.sample)) == 0]
        words = ((hashes & np.uint64(_HASH)) << np.uint64(1) | np.uint64(1)).astype(np.uint32)
        if len(self._words) + len(words) <= self._capacity:
            self._words.frombytes(words.tobytes())
        elif self._is_full() and not self._may_grow() and not self._may_halve():
            self._first = (self._first + len(words)) % self._capacity
            words = words[-self._capacity :]
            places = (self._first - len(words) + np.arange(len(words))) % self._capacity
            np.frombuffer(self._words, np.uint32)[places] = words
            self._late = True
        else:
            for key_hash in hashes.tolist():
                self.note(key_hash, hit=True)

    def steps(self) -> Steps:
        """Return what it has."""
        words = np.array(self._words, np.uint32)
        return Steps(np.roll(words, -self._first), self.shift, self._late)

    def _is_full(self) -> bool:
        return len(self._words) == self._capacity

    def _may_grow(self) -> bool:
        few = self._capacity < _FEW or self._capacity < _TURNS * self.entries
        return self._capacity < _MOST and few

    def _grow(self) -> bool:
        if not self._may_grow():
            return False
        self._unroll()
        self._capacity = min(2 * self._capacity, _MOST) or _FIRST
        return True

    def _may_halve(self) -> bool:
        return self.shift < _RARE and self.entries >> (self.shift + 1) >= _LEAST

    def _halve(self) -> None:
        self.shift += 1
        self.sample = (1 << self.shift) - 1
        self._unroll()
        self._words = array("I", [word for word in self._words if not word >> 1 & self.sample])

    def _unroll(self) -> None:
        if self._first:
            self._words = self._words[self._first :] + self._words[: self._first]
            self._first = 0
