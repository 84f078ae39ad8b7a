"""Least frequently used, with ageing: what was popular long ago leaves at last.

An entry's priority is the age of the cache when it was last touched plus its frequency: 1 for the
insertion and 1 for every hit, 255 at most. The lowest priority leaves, among equals the one touched
least recently, and its priority becomes the age. Priorities therefore lie between the age and the
age plus 255, and a ring of 256 lists sorts them: every operation takes constant time.

Source: Arlitt et al., Evaluating content management techniques for Web proxy caches (2000), LFU-DA.
"""

from collections.abc import Sequence
from typing import ClassVar

from nearcache.near.policies.base import OnHit, Slots
from nearcache.near.policies.links import Links, resize

__all__ = ["LFU"]

_RING = 256


class LFU:
    """The slot with the lowest age plus frequency leaves."""

    __slots__ = ("_age", "_frequencies", "_links", "_size", "marks")

    name: ClassVar[str] = "lfu"
    on_hit: ClassVar[OnHit] = "lock"  # a hit moves the slot to another list
    most: ClassVar[int] = 0

    def __init__(self, _seed: int = 0) -> None:
        self.marks = bytearray()
        self._frequencies = bytearray()
        self._links = Links(_RING)
        self._age = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def _list(self, priority: int) -> int:
        return -1 - priority % _RING

    def reserve(self, capacity: int) -> None:
        self._links.reserve(capacity)
        resize(self._frequencies, capacity)

    def insert(self, slot: int, _key_hash: int) -> None:
        self._frequencies[slot] = 1
        self._links.append(slot, self._list(self._age + 1))
        self._size += 1

    def touch(self, slot: int) -> None:
        frequency = self._frequencies[slot]
        if frequency < _RING - 1:
            self._frequencies[slot] = frequency = frequency + 1
        self._links.unlink(slot)
        self._links.append(slot, self._list(self._age + frequency))

    def touch_many(self, slots: Slots) -> None:
        for slot in slots.tolist():
            self.touch(slot)

    def remove(self, slot: int) -> None:
        self._links.unlink(slot)
        self._size -= 1

    def evict(self) -> int | None:
        if not self._size:
            return None
        after = self._links.after
        while (slot := after[self._list(self._age)]) < 0:
            self._age += 1
        self.remove(slot)
        return slot

    def move(self, source: int, target: int) -> None:
        self._links.move(source, target)
        self._frequencies[target] = self._frequencies[source]

    def clear(self) -> None:
        self._links.reset(self._links.capacity)
        self._age = 0
        self._size = 0

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        left = {slot for slot, _ in live}
        capacity = max([self._links.capacity, *(slot + 1 for slot in left)])
        lists = [self._list(self._age + more) for more in range(_RING)]
        orders = [(name, self._links.survivors(left, name)) for name in lists]
        self._links.reset(capacity)
        resize(self._frequencies, capacity)
        for more, (name, order) in enumerate(orders):
            for slot in order:
                self._frequencies[slot] = max(1, more, self._frequencies[slot])
                self._links.append(slot, name)
        for slot in sorted(left):
            self._frequencies[slot] = frequency = max(1, self._frequencies[slot])
            self._links.append(slot, self._list(self._age + frequency))
        self._size = len(live)

    def check(self) -> None:
        count = 0
        for more in range(_RING):
            for slot in self._links.walk(self._list(self._age + more)):
                count += 1
                assert self._frequencies[slot] >= max(1, more), "priority is age plus frequency"
        assert count == self._size, "the lists hold every entry"
        assert len(self._frequencies) == self._links.capacity, "every slot has a frequency"
