"""A window and a main list whose shares are chosen by watching what would have hit.

The window W is in the order of use, the main list M a queue; entries have hits, up to 3. With a
share of 100 % W is all there is: exact LRU. With 10 % it is much like S3-FIFO, with 1 % it stands
loops. Shadows (see ``shadows``) tell which of these members of the family to follow.

A new entry joins W; or M, if it is a ghost (then it is none any more), the share is not 100 %, and
enough others were skipped since. A hit counts. It makes an entry of W the newest; in M it moves
nothing, but at 100 % it leads back to W.

To evict one of n entries, W should have n * share of them, and 1 at least. While it has as many, or
M none: if W's oldest was hit, and is not the last entry of all, it joins M with no hits; else it
leaves and becomes a ghost (at 100 % hits do not matter). Otherwise M's oldest joins its end again
with one hit less, until there is one without, which leaves and is no ghost. After a change to a
smaller share W's old end, 8 entries at each eviction, becomes M as it is, and nobody leaves W until
it has its new size: on loops, where nothing has been hit yet, this is what wins.

The shadows see every request that is sampled (none of the fingerprint's lowest bits is set: so many
bits that about 256 to 768 entries are) if it is an insertion; hits while there is credit, 16 for
each insertion and 4096 at most. Where misses are rare shadows cost nothing.

Recency is kept by stamps, as in ``lru``: a hit in W writes a number and moves nothing.

Source: Yang et al., FIFO queues are all you need for cache eviction (SOSP 2023), for the two lists
and the ghosts; Waldspurger et al., Cache modeling and optimization using miniature simulations (ATC
2017), for the shadows; Waldspurger et al., Efficient MRC construction with SHARDS (FAST 2015), for
the sample by hash; Einziger et al., Adaptive software cache management (Middleware 2018), and
Caffeine, for a window whose size is adapted. Ours: the end of the window that is frozen, and the
credit.
"""

from array import array
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nearcache.near.policies.base import OnHit, Slots
from nearcache.near.policies.links import Links, resize
from nearcache.near.policies.shadows import ADMIT, SHARE, WHOLE, Ghosts, Shadows, fingerprint_of

__all__ = ["Adaptive"]

_FREE, _WINDOW, _MAIN = range(3)  # where a slot is
_MOST_HITS = 3
_CREDIT = 16
_MOST_CREDIT = 4096
_STEPS = 8
_FEW = 24  # hits that are noted one by one: numpy would take longer
_LEAST_QUEUE = 64
_QUEUE_SHARE = 16


class Adaptive:
    """Whoever would leave under the policy that has hit most of late leaves."""

    __slots__ = (
        "_credit",
        "_fingerprints",
        "_freezing",
        "_ghosts",
        "_hits",
        "_in_main",
        "_in_window",
        "_links",
        "_queue",
        "_shadows",
        "_share",
        "_skipped",
        "_stamps",
        "_tick",
        "_where",
        "marks",
    )

    name: ClassVar[str] = "adaptive"
    on_hit: ClassVar[OnHit] = "log"
    most: ClassVar[int] = 0

    def __init__(self, _seed: int = 0) -> None:
        self.marks = bytearray()
        self._where = bytearray()
        self._hits = bytearray()
        self._fingerprints = array("I")
        self._stamps = array("q")  # of those in W; they only grow
        self._tick = 0
        self._links = Links()  # M
        self._begin()

    def _begin(self) -> None:
        """Forget everything that was learned."""
        self._queue: list[tuple[int, int]] = []  # (stamp, slot), W's oldest at the end
        self._in_window = self._in_main = 0
        self._ghosts = Ghosts(len(self._where) // 8 + 1)
        self._shadows = Shadows()
        self._share = SHARE[0]
        self._skipped = 0  # ghosts that were not admitted to M
        self._freezing = True
        self._credit = 0

    def __len__(self) -> int:
        return self._in_window + self._in_main

    def reserve(self, capacity: int) -> None:
        if capacity != len(self._where):
            self._ghosts.reserve(capacity // 8 + 1)
        self._links.reserve(capacity)
        self._resize(capacity)

    def _resize(self, capacity: int) -> None:
        resize(self._hits, capacity)
        resize(self._where, capacity)
        del self._fingerprints[capacity:]
        self._fingerprints.extend(array("I", bytes(4 * (capacity - len(self._fingerprints)))))
        del self._stamps[capacity:]
        self._stamps.extend(array("q", bytes(8 * (capacity - len(self._stamps)))))

    # -- entries -----------------------------------------------------------------------------

    def insert(self, slot: int, key_hash: int) -> None:
        self._fingerprints[slot] = fingerprint = fingerprint_of(key_hash)
        self._hits[slot] = 0
        if self._ghosts.take(fingerprint) and self._is_admitted():
            self._join_main(slot)
        else:
            self._join_window(slot)
        self._shadows.grow(self._in_window + self._in_main)
        self._credit = min(self._credit + _CREDIT, _MOST_CREDIT)
        if not fingerprint & self._shadows.mask:
            self._feed(fingerprint)

    def _is_admitted(self) -> bool:
        """Say whether a ghost that comes back joins M."""
        if self._share == WHOLE:
            return False
        self._skipped += 1
        if self._skipped < ADMIT[self._shadows.member]:
            return False
        self._skipped = 0
        return True

    def _join_window(self, slot: int) -> None:
        self._tick += 1
        self._stamps[slot] = self._tick
        self._where[slot] = _WINDOW
        self._in_window += 1

    def _join_main(self, slot: int) -> None:
        self._links.append(slot)
        self._where[slot] = _MAIN
        self._in_main += 1

    def remove(self, slot: int) -> None:
        if self._where[slot] == _MAIN:
            self._links.unlink(slot)
            self._in_main -= 1
        else:
            self._in_window -= 1
        self._where[slot] = _FREE

    def move(self, source: int, target: int) -> None:
        if self._where[source] == _MAIN:
            self._links.move(source, target)
        for column in (self._where, self._hits, self._fingerprints, self._stamps):
            column[target] = column[source]
        self._where[source] = _FREE
        self._queue.clear()

    # -- hits --------------------------------------------------------------------------------

    def touch(self, slot: int) -> None:
        where = self._where[slot]
        if where == _FREE:
            return
        if self._hits[slot] < _MOST_HITS:
            self._hits[slot] += 1
        if where == _WINDOW:
            self._tick += 1
            self._stamps[slot] = self._tick
        elif self._share == WHOLE:
            self.remove(slot)
            self._join_window(slot)
        if self._credit and not self._fingerprints[slot] & self._shadows.mask:
            self._credit -= 1
            self._feed(self._fingerprints[slot])

    def touch_many(self, slots: Slots) -> None:
        if len(slots) <= _FEW:
            for slot in slots.tolist():
                self.touch(slot)
            return
        where = np.frombuffer(self._where, np.uint8)[slots]
        if not where.all():
            slots = slots[where != _FREE]
        done = 0
        if self._credit:
            fingerprints = np.frombuffer(self._fingerprints, np.uint32)[slots]
            sampled = np.flatnonzero(fingerprints & self._shadows.mask == 0)[: self._credit]
            for at, fingerprint in zip(
                sampled.tolist(), fingerprints[sampled].tolist(), strict=True
            ):
                self._credit -= 1
                share = self._share
                self._feed(fingerprint)
                if self._share != share:  # from the next hit on
                    self._note(slots[done : at + 1], share)
                    done = at + 1
        self._note(slots[done:], self._share)

    def _note(self, slots: Slots, share: int) -> None:
        """Note hits of entries while W has this share."""
        low = slots[np.frombuffer(self._hits, np.uint8)[slots] < _MOST_HITS]
        if len(low):
            # an assignment counts a slot once: those that come twice, and thrice, are raised again
            ordered = np.sort(low)
            self._raise(low)
            self._raise(ordered[1:][ordered[1:] == ordered[:-1]])
            self._raise(ordered[2:][ordered[2:] == ordered[:-2]])
        if share == WHOLE and self._in_main:
            where = np.frombuffer(self._where, np.uint8)[slots]
            for slot in set(slots[where == _MAIN].tolist()):
                self.remove(slot)
                self._join_window(slot)
        # numpy assigns in order: the last of a slot that comes twice stays
        first = self._tick + 1
        self._tick += len(slots)
        if len(slots):
            np.frombuffer(self._stamps, np.int64)[slots] = np.arange(first, self._tick + 1)

    def _raise(self, slots: Slots) -> None:
        raised = np.frombuffer(self._hits, np.uint8)[slots] + np.uint8(1)
        np.frombuffer(self._hits, np.uint8)[slots] = np.minimum(raised, _MOST_HITS)

    def _feed(self, fingerprint: int) -> None:
        if self._shadows.feed(fingerprint):
            self._follow()

    def _follow(self) -> None:
        """Take over the share of the member that is followed now."""
        share = SHARE[self._shadows.member]
        self._freezing = share < self._share
        self._share = share

    # -- victims -----------------------------------------------------------------------------

    def evict(self) -> int | None:
        entries = self._in_window + self._in_main
        if not entries:
            return None
        self._shadows.fill(entries)
        self._ghosts.fit(entries)
        want = (entries * self._share >> 10) or 1
        if self._freezing:
            self._freeze(want)
        while self._takes_from_window(want):
            slot = self._oldest()
            self.remove(slot)
            last = not self._in_window and not self._in_main
            if self._share == WHOLE or not self._hits[slot] or last:
                self._ghosts.put(self._fingerprints[slot])
                return slot
            self._hits[slot] = 0
            self._join_main(slot)
        return self._evict_main()

    def _freeze(self, want: int) -> None:
        """Make M of some of W's old end."""
        for _ in range(min(_STEPS, self._in_window - want)):
            slot = self._oldest()
            self.remove(slot)
            self._join_main(slot)
        self._freezing = self._in_window > want

    def _takes_from_window(self, want: int) -> bool:
        if self._freezing or not self._in_window:
            return False
        return self._in_window >= want or not self._in_main

    def _evict_main(self) -> int:
        links, hits = self._links, self._hits
        while True:
            slot = links.after[-1]
            if not hits[slot]:
                self.remove(slot)
                return slot
            hits[slot] -= 1
            links.unlink(slot)
            links.append(slot)

    def _oldest(self) -> int:
        """Return W's oldest."""
        while True:
            while self._queue:
                stamp, slot = self._queue[-1]
                here = slot < len(self._where)  # reserve may have shortened the columns
                if here and self._stamps[slot] == stamp and self._where[slot] == _WINDOW:
                    return slot
                self._queue.pop()
            self._fill()

    def _fill(self) -> None:
        window = np.flatnonzero(np.frombuffer(self._where, np.uint8) == _WINDOW)
        stamps = np.frombuffer(self._stamps, np.int64)[window]
        some = max(_LEAST_QUEUE, len(window) // _QUEUE_SHARE)
        if some < len(window):
            oldest = np.argpartition(stamps, some)[:some]
            window, stamps = window[oldest], stamps[oldest]
        order = np.argsort(stamps)[::-1]
        self._queue = list(zip(stamps[order].tolist(), window[order].tolist(), strict=True))

    # -- rare things -------------------------------------------------------------------------

    def clear(self) -> None:
        capacity = len(self._where)
        self._where[:] = bytes(capacity)
        self._links.reset(capacity)
        self._begin()

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        left = {slot for slot, _ in live}
        capacity = max([self._links.capacity, *(slot + 1 for slot in left)])
        main = self._links.survivors(left)
        self._resize(capacity)
        window = sorted(left, key=self._stamps.__getitem__)
        self.clear()  # what was learned was to be kept exactly or not at all
        for slot, key_hash in live:
            self._fingerprints[slot] = fingerprint_of(key_hash)
        for slot in main + window:
            self._join_window(slot)

    def check(self) -> None:
        main = list(self._links.walk())
        assert len(main) == self._in_main, "the main list holds its entries"
        assert all(self._where[slot] == _MAIN for slot in main), "where it says"
        assert self._where.count(_MAIN) == self._in_main, "nobody else is in the main list"
        assert self._where.count(_WINDOW) == self._in_window, "the window's are counted"
        for column in (self._where, self._hits, self._fingerprints, self._stamps):
            assert len(column) == self._links.capacity, "every slot is in every column"
        assert max(self._hits, default=0) <= _MOST_HITS, "hits stay below their top"
        assert max(self._stamps, default=0) <= self._tick, "no stamp is from the future"
        queued = [stamp for stamp, _ in self._queue]
        assert queued == sorted(queued, reverse=True), "the oldest is at the end of the queue"
        assert 0 <= self._credit <= _MOST_CREDIT, "credit is limited"
        assert self._share == SHARE[self._shadows.member], "the member's share is followed"
        self._ghosts.check()
        self._shadows.check()
