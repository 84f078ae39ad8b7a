"""First in, first out: a hit changes nothing."""

from collections.abc import Sequence
from typing import ClassVar

from nearcache.near.policies.base import OnHit, Slots
from nearcache.near.policies.links import Links

__all__ = ["FIFO"]


class FIFO:
    """The slot that came first leaves first."""

    __slots__ = ("_links", "_size", "marks")

    name: ClassVar[str] = "fifo"
    on_hit: ClassVar[OnHit] = "nothing"
    most: ClassVar[int] = 0

    def __init__(self, _seed: int = 0) -> None:
        self.marks = bytearray()
        self._links = Links()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def reserve(self, capacity: int) -> None:
        self._links.reserve(capacity)

    def insert(self, slot: int, _key_hash: int) -> None:
        self._links.append(slot)
        self._size += 1

    def touch(self, slot: int) -> None:
        pass

    def touch_many(self, slots: Slots) -> None:
        pass

    def remove(self, slot: int) -> None:
        self._links.unlink(slot)
        self._size -= 1

    def evict(self) -> int | None:
        if not self._size:
            return None
        slot = self._links.after[-1]
        self.remove(slot)
        return slot

    def move(self, source: int, target: int) -> None:
        self._links.move(source, target)

    def clear(self) -> None:
        self._links.reset(self._links.capacity)
        self._size = 0

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        left = {slot for slot, _ in live}
        capacity = max([self._links.capacity, *(slot + 1 for slot in left)])
        order = self._links.survivors(left)
        self._links.reset(capacity)
        for slot in [*order, *sorted(left)]:
            self._links.append(slot)
        self._size = len(live)

    def check(self) -> None:
        assert sum(1 for _ in self._links.walk()) == self._size, "the list holds every entry"
