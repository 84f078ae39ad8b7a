"""Anybody leaves, each entry with the same probability.

The entries lie in a dense array, where one that leaves is replaced by the last; the next number of
xorshift64* says which of them it is: the upper 32 bits, scaled to the number of entries.

Source: Vigna, An experimental exploration of Marsaglia's xorshift generators, scrambled (2016).
"""

from array import array
from collections.abc import Sequence
from typing import ClassVar

from nearcache.near.policies.base import OnHit, Slots

__all__ = ["Random"]

_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_STAR = 0x2545F4914F6CDD1D


class Random:
    """The slot on which the lot falls leaves."""

    __slots__ = ("_live", "_places", "_state", "marks")

    name: ClassVar[str] = "random"
    on_hit: ClassVar[OnHit] = "nothing"
    most: ClassVar[int] = 0

    def __init__(self, seed: int = 0) -> None:
        self.marks = bytearray()
        self._live = array("i")
        self._places = array("i")  # of each slot in _live
        self._state = (seed ^ _GOLDEN) & _WORD or 1  # 0 would stay 0

    def __len__(self) -> int:
        return len(self._live)

    def _draw(self, below: int) -> int:
        x = self._state
        x ^= x >> 12
        x ^= x << 25 & _WORD
        x ^= x >> 27
        self._state = x
        return ((x * _STAR & _WORD) >> 32) * below >> 32

    def reserve(self, capacity: int) -> None:
        del self._places[capacity:]
        self._places.extend(array("i", bytes(4 * (capacity - len(self._places)))))

    def insert(self, slot: int, _key_hash: int) -> None:
        self._places[slot] = len(self._live)
        self._live.append(slot)

    def touch(self, slot: int) -> None:
        pass

    def touch_many(self, slots: Slots) -> None:
        pass

    def remove(self, slot: int) -> None:
        place, last = self._places[slot], self._live.pop()
        if last != slot:
            self._live[place] = last
            self._places[last] = place

    def evict(self) -> int | None:
        if not self._live:
            return None
        slot = self._live[self._draw(len(self._live))]
        self.remove(slot)
        return slot

    def move(self, source: int, target: int) -> None:
        self._places[target] = place = self._places[source]
        self._live[place] = target

    def clear(self) -> None:
        del self._live[:]

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        slots = sorted(slot for slot, _ in live)
        self.reserve(max([len(self._places), *(slot + 1 for slot in slots)]))
        self._live = array("i")
        for slot in slots:
            self.insert(slot, 0)

    def check(self) -> None:
        assert len(self._live) <= len(self._places), "no more entries than slots"
        for place, slot in enumerate(self._live):
            assert self._places[slot] == place, "an entry lies in its place"
