"""Least recently used, exactly, without reordering anything on a hit.

A hit writes the slot's new stamp, for a whole batch in one numpy assignment. Victims come from a
queue of the slots that had the smallest stamps when it was filled: a slot touched since then has a
larger stamp than everything in the queue, so skipping those whose stamp changed leaves exact LRU
order. Filling the queue is O(slots) once per slots/16 evictions.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["LRU"]

_LEAST_QUEUE = 64
_QUEUE_SHARE = 16


class LRU:
    """Stamps of the slots of one arena; 0 marks a free slot. Stamps only grow."""

    __slots__ = ("_queue", "stamps")

    def __init__(self, capacity: int) -> None:
        self.stamps: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self._queue: list[tuple[int, int]] = []

    def oldest(self, high: int) -> tuple[int, int] | None:
        """Return (stamp, slot) of the least recently used slot below ``high``."""
        stamps, queue = self.stamps, self._queue
        while True:
            while queue:
                stamp, slot = queue[-1]
                if stamps[slot] == stamp:
                    return stamp, slot
                queue.pop()
            self._fill(high)
            if not queue:
                return None

    def _fill(self, high: int) -> None:
        stamps = self.stamps[:high]
        live = np.flatnonzero(stamps)
        count = max(_LEAST_QUEUE, len(live) // _QUEUE_SHARE)
        if count < len(live):
            live = live[np.argpartition(stamps[live], count)[:count]]
        live = live[np.argsort(stamps[live])[::-1]]
        self._queue.extend(zip(stamps[live].tolist(), live.tolist(), strict=True))

    def moved(self, stamps: NDArray[np.int64]) -> None:
        """Take over after the arena renumbered its slots."""
        self.stamps = stamps
        self._queue.clear()
