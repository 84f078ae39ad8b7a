"""Least recently used, exactly, without reordering anything on a hit.

A hit writes the slot's new stamp, for a whole batch in one numpy assignment. Victims come from a
queue of the slots that had the smallest stamps when it was filled: a slot touched since then has a
larger stamp than everything in the queue, so skipping those whose stamp changed leaves exact LRU
order. Filling the queue is O(slots) once per slots/16 evictions.

The native twin is a linked list: there a hit that moves an entry costs no more than one that does
not.
"""

from array import array
from collections.abc import Sequence
from itertools import count
from typing import ClassVar

import numpy as np

from nearcache.near.policies.base import OnHit, Slots
from nearcache.near.policies.links import resize

__all__ = ["LRU"]

_TICK = 4096  # so many stamps between two single hits: a batch finds room without a new clock
_LEAST_QUEUE = 64
_QUEUE_SHARE = 16


class LRU:
    """The slot touched least recently leaves."""

    # stamps only grow; those of free slots mean nothing

    __slots__ = ("_clock", "_live", "_queue", "_size", "_stamps", "marks")

    name: ClassVar[str] = "lru"
    on_hit: ClassVar[OnHit] = "call"
    most: ClassVar[int] = 0

    def __init__(self, _seed: int = 0) -> None:
        self.marks = bytearray()
        self._stamps = array("q")
        # a late hit may stamp a slot that is free: stamps alone do not say who is here
        self._live = bytearray()
        self._clock = count(_TICK, _TICK)
        self._queue: list[tuple[int, int]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def reserve(self, capacity: int) -> None:
        del self._stamps[capacity:]
        self._stamps.extend(array("q", bytes(8 * (capacity - len(self._stamps)))))
        resize(self._live, capacity)

    def insert(self, slot: int, _key_hash: int) -> None:
        self._stamps[slot] = next(self._clock)
        self._live[slot] = 1
        self._size += 1

    def touch(self, slot: int) -> None:
        self._stamps[slot] = next(self._clock)  # no two threads get the same number

    def touch_many(self, slots: Slots) -> None:
        first = next(self._clock)
        for _ in range(len(slots) // _TICK):
            next(self._clock)
        # numpy assigns in order: the last of a slot that comes twice stays
        np.frombuffer(self._stamps, np.int64)[slots] = np.arange(first, first + len(slots))

    def remove(self, slot: int) -> None:
        self._live[slot] = 0
        self._size -= 1

    def evict(self) -> int | None:
        while self._size:
            while self._queue:
                stamp, slot = self._queue.pop()
                if self._stamps[slot] == stamp and self._live[slot]:
                    self.remove(slot)
                    return slot
            self._fill()
        return None

    def _fill(self) -> None:
        live = np.flatnonzero(np.frombuffer(self._live, np.uint8))
        stamps = np.frombuffer(self._stamps, np.int64)[live]
        some = max(_LEAST_QUEUE, len(live) // _QUEUE_SHARE)
        if some < len(live):
            oldest = np.argpartition(stamps, some)[:some]
            live, stamps = live[oldest], stamps[oldest]
        order = np.argsort(stamps)[::-1]
        self._queue = list(zip(stamps[order].tolist(), live[order].tolist(), strict=True))

    def move(self, source: int, target: int) -> None:
        self._stamps[target] = self._stamps[source]
        self._live[target] = 1
        self._live[source] = 0
        self._queue.clear()

    def clear(self) -> None:
        self._live[:] = bytes(len(self._live))
        self._queue.clear()
        self._size = 0

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        self.reserve(max([len(self._stamps), *(slot + 1 for slot, _ in live)]))
        self.clear()
        for slot, _ in live:
            self._live[slot] = 1
        self._size = len(live)

    def check(self) -> None:
        assert len(self._stamps) == len(self._live), "every slot has a stamp"
        assert sum(self._live) == self._size, "every entry is counted once"
        queued = [stamp for stamp, _ in self._queue]
        assert queued == sorted(queued, reverse=True), "the oldest is at the end of the queue"
