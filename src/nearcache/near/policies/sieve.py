"""SIEVE: a queue that keeps its order, and a hand that goes round it.

A new entry joins at the end, not visited; a hit makes it visited. To evict, the hand goes from
where it stopped (at first, and whenever it has passed the newest: from the oldest) towards the
newest. It makes visited entries not visited and leaves them where they are; the first that is not
visited leaves, and the hand stops at the next newer one.

Source: Zhang et al., SIEVE is Simpler than LRU (NSDI 2024), algorithm 1.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nearcache.near.policies.base import OnHit, Slots
from nearcache.near.policies.links import Links, resize

__all__ = ["Sieve"]


class Sieve:
    """The first slot under the hand that was not hit since the hand was there leaves."""

    __slots__ = ("_hand", "_links", "_size", "marks")

    name: ClassVar[str] = "sieve"
    on_hit: ClassVar[OnHit] = "mark"
    most: ClassVar[int] = 1

    def __init__(self, _seed: int = 0) -> None:
        self.marks = bytearray()
        self._links = Links()
        self._hand = -1
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def reserve(self, capacity: int) -> None:
        self._links.reserve(capacity)
        resize(self.marks, capacity)

    def insert(self, slot: int, _key_hash: int) -> None:
        self.marks[slot] = 0
        self._links.append(slot)
        self._size += 1

    def touch(self, slot: int) -> None:
        self.marks[slot] = 1

    def touch_many(self, slots: Slots) -> None:
        np.frombuffer(self.marks, np.uint8)[slots] = 1

    def remove(self, slot: int) -> None:
        if self._hand == slot:
            self._hand = self._links.after[slot]
        self._links.unlink(slot)
        self._size -= 1

    def evict(self) -> int | None:
        if not self._size:
            return None
        marks, after, slot = self.marks, self._links.after, self._hand
        while slot < 0 or marks[slot]:
            if slot >= 0:
                marks[slot] = 0
            slot = after[slot]
        self._hand = slot
        self.remove(slot)
        return slot

    def move(self, source: int, target: int) -> None:
        self._links.move(source, target)
        self.marks[target] = self.marks[source]
        if self._hand == source:
            self._hand = target

    def clear(self) -> None:
        self._links.reset(self._links.capacity)
        self._hand = -1
        self._size = 0

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        left = {slot for slot, _ in live}
        capacity = max([self._links.capacity, *(slot + 1 for slot in left)])
        if self._hand not in left:
            self._hand = -1
        order = self._links.survivors(left)
        self._links.reset(capacity)
        resize(self.marks, capacity)
        for slot in [*order, *sorted(left)]:
            self._links.append(slot)
        self._size = len(live)

    def check(self) -> None:
        order = list(self._links.walk())
        assert len(order) == self._size, "the list holds every entry"
        assert self._hand == -1 or self._hand in order, "the hand points to an entry"
        assert len(self.marks) == self._links.capacity, "every slot has a mark"
        assert max(self.marks, default=0) <= self.most, "marks stay below their top"
