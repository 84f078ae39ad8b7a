"""S3-FIFO: a small queue for what may be seen only once, a main queue, and ghosts.

With n entries at the moment of an eviction, the small queue may hold n // 10 of them, the main
queue the others, and there may be 9 * n // 10 ghosts. A hit raises an entry's frequency, up to 3.

A new entry joins the small queue with frequency 0; or the main queue, if its key is a ghost, which
it then no longer is. To evict: if the main queue holds more than its share, or the small one is
empty, the oldest of the main queue joins its end again with a frequency one lower, until there is
one with frequency 0, which leaves. Otherwise the oldest of the small queue joins the main queue,
with frequency 0, if its own is 2 or 3, until there is one with less, which leaves and becomes a
ghost; if there is none, the main queue is asked.

Before the first eviction nobody knows n, and all are in the small queue. Then all but the oldest
n // 10 are moved to the main queue: where they would be if n had been known.

Ghosts are the upper 32 bits of the key's hash (1 instead of 0) in a queue with n places. One that
is no ghost any more keeps its place until that is the oldest; a key that has two places is
forgotten with the older. When there are too many ghosts, or no free place, the oldest places go.

Source: Yang et al., FIFO queues are all you need for cache eviction (SOSP 2023), and its authors'
libCacheSim, S3FIFO.c, for what the paper leaves open.
"""

from array import array
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nearcache.near.policies.base import OnHit, Slots
from nearcache.near.policies.links import Links, resize

__all__ = ["S3FIFO"]

_SMALL, _MAIN = -1, -2
_WORTH_KEEPING = 2


def _share_of(entries: int) -> int:
    """Return how many entries the small queue may hold."""
    return entries // 10


def _ghosts_of(entries: int) -> int:
    return entries * 9 // 10


class _Ghosts:
    """The fingerprints of those that left last."""

    __slots__ = ("_alive", "_counts", "_places")

    def __init__(self) -> None:
        self._alive = 0
        self._counts: dict[int, int] = {}  # of ghosts with one fingerprint
        self._places: deque[int] = deque()

    def add(self, fingerprint: int, entries: int) -> None:
        """Remember one of ``entries`` that is leaving."""
        room = _ghosts_of(entries)
        self._trim(max(room - 1, 0), entries - 1)
        if room:
            self._places.append(fingerprint)
            self._counts[fingerprint] = self._counts.get(fingerprint, 0) + 1
            self._alive += 1

    def reserve(self, capacity: int) -> None:
        self._trim(_ghosts_of(capacity), capacity)

    def _trim(self, ghosts: int, places: int) -> None:
        while self._places and (self._alive > ghosts or len(self._places) > places):
            self.discard(self._places.popleft())

    def discard(self, fingerprint: int) -> bool:
        """Forget a ghost; False if it was none."""
        seen = self._counts.get(fingerprint, 0)
        if not seen:
            return False
        if seen > 1:
            self._counts[fingerprint] = seen - 1
        else:
            del self._counts[fingerprint]
        self._alive -= 1
        return True

    def check(self, capacity: int) -> None:
        assert self._alive <= _ghosts_of(capacity), "ghosts are no more than allowed"
        assert len(self._places) <= capacity, "places are no more than allowed"
        assert sum(self._counts.values()) == self._alive, "every ghost is counted once"
        assert self._alive <= len(self._places), "every ghost has a place"
        assert self._counts.keys() <= set(self._places), "a ghost's place is its own"


class S3FIFO:
    """The oldest that was not hit while it was in its queue leaves."""

    __slots__ = (
        "_fingerprints",
        "_ghosts",
        "_in_main",
        "_links",
        "_main",
        "_placed",
        "_small",
        "marks",
    )

    name: ClassVar[str] = "s3fifo"
    on_hit: ClassVar[OnHit] = "mark"
    most: ClassVar[int] = 3

    def __init__(self, _seed: int = 0) -> None:
        self.marks = bytearray()  # frequencies
        self._in_main = bytearray()
        self._fingerprints = array("I")
        self._links = Links(2)
        self._ghosts = _Ghosts()
        self._small = self._main = 0  # entries in each
        self._placed = False  # n has been known once

    def __len__(self) -> int:
        return self._small + self._main

    def reserve(self, capacity: int) -> None:
        self._links.reserve(capacity)
        self._resize(capacity)
        self._ghosts.reserve(capacity)

    def _resize(self, capacity: int) -> None:
        resize(self.marks, capacity)
        resize(self._in_main, capacity)
        del self._fingerprints[capacity:]
        self._fingerprints.extend(array("I", bytes(4 * (capacity - len(self._fingerprints)))))

    def insert(self, slot: int, key_hash: int) -> None:
        self._fingerprints[slot] = fingerprint = key_hash >> 32 or 1
        self.marks[slot] = 0
        if self._ghosts.discard(fingerprint):
            self._join_main(slot)
        else:
            self._in_main[slot] = 0
            self._links.append(slot, _SMALL)
            self._small += 1

    def _join_main(self, slot: int) -> None:
        self._in_main[slot] = 1
        self._links.append(slot, _MAIN)
        self._main += 1

    def touch(self, slot: int) -> None:
        frequency = self.marks[slot]
        if frequency < self.most:
            self.marks[slot] = frequency + 1

    def touch_many(self, slots: Slots) -> None:
        slots = slots[np.frombuffer(self.marks, np.uint8)[slots] < self.most]
        if not len(slots):
            return
        # an assignment counts a slot once: those that come twice, and thrice, are raised again
        ordered = np.sort(slots)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        self._raise(slots)
        if len(twice):
            self._raise(twice)
            self._raise(ordered[2:][ordered[2:] == ordered[:-2]])

    def _raise(self, slots: Slots) -> None:
        raised = np.frombuffer(self.marks, np.uint8)[slots] + np.uint8(1)
        np.frombuffer(self.marks, np.uint8)[slots] = np.minimum(raised, self.most)

    def remove(self, slot: int) -> None:
        self._links.unlink(slot)
        if self._in_main[slot]:
            self._main -= 1
        else:
            self._small -= 1

    def evict(self) -> int | None:
        size = self._small + self._main
        if not size:
            return None
        share = _share_of(size)
        if not self._placed:
            self._place(share)
        slot = None
        if self._main <= size - share:
            slot = self._evict_small(size)
        return self._evict_main() if slot is None else slot

    def _place(self, share: int) -> None:
        """Make the main queue of all but the oldest ``share``, at the first eviction."""
        for slot in list(self._links.walk(_SMALL))[share:]:
            self.remove(slot)
            self._join_main(slot)
        self._placed = True

    def _evict_small(self, size: int) -> int | None:
        while self._small:
            slot = self._links.after[_SMALL]
            self.remove(slot)
            if self.marks[slot] < _WORTH_KEEPING:
                self._ghosts.add(self._fingerprints[slot], size)
                return slot
            self.marks[slot] = 0
            self._join_main(slot)
        return None

    def _evict_main(self) -> int:
        links, marks = self._links, self.marks
        while True:
            slot = links.after[_MAIN]
            frequency = marks[slot]
            if not frequency:
                self.remove(slot)
                return slot
            marks[slot] = frequency - 1
            links.unlink(slot)
            links.append(slot, _MAIN)

    def move(self, source: int, target: int) -> None:
        self._links.move(source, target)
        self.marks[target] = self.marks[source]
        self._in_main[target] = self._in_main[source]
        self._fingerprints[target] = self._fingerprints[source]

    def clear(self) -> None:
        self._links.reset(self._links.capacity)
        self._ghosts = _Ghosts()
        self._small = self._main = 0
        self._placed = False

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        left = {slot for slot, _ in live}
        capacity = max([self._links.capacity, *(slot + 1 for slot in left)])
        main = self._links.survivors(left, _MAIN)
        small = [*self._links.survivors(left, _SMALL), *sorted(left)]
        self._links.reset(capacity)
        self._resize(capacity)
        self._ghosts = _Ghosts()  # they were to be kept exactly or not at all
        self._main = self._small = 0
        for slot, key_hash in live:
            self._fingerprints[slot] = key_hash >> 32 or 1
        for slot in main:
            self._join_main(slot)
        for slot in small:
            self._in_main[slot] = 0
            self._links.append(slot, _SMALL)
            self._small += 1

    def check(self) -> None:
        for name, count in ((_SMALL, self._small), (_MAIN, self._main)):
            order = list(self._links.walk(name))
            assert len(order) == count, "the queues hold every entry"
            assert all(self._in_main[slot] == (name == _MAIN) for slot in order), "where it says"
        for column in (self.marks, self._in_main, self._fingerprints):
            assert len(column) == self._links.capacity, "every slot is in every column"
        assert max(self.marks, default=0) <= self.most, "frequencies stay below their top"
        self._ghosts.check(self._links.capacity)
