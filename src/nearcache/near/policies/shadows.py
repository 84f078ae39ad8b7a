"""What the adaptive policy learns from: ghosts, and small caches that play the policies it may be.

The members of the family differ in the share of the window, and in how many ghosts that come back
it takes for one to be admitted to the main list. Each has a shadow: the policy itself over a few
hundred fingerprints, which sees a sample of the requests. The cache follows the member whose shadow
has hit most of late.
"""

from array import array
from collections import OrderedDict

__all__ = ["ADMIT", "SHARE", "WHOLE", "Ghosts", "Shadows", "fingerprint_of"]

WHOLE = 1024
"""Shares are in 1/1024. A window that is the whole cache is LRU."""
SHARE = (WHOLE, 614, 307, 102, 10, 10)
"""The window of each member; the first is LRU."""
ADMIT = (1, 1, 1, 1, 1, 4)
"""One in so many ghosts that come back is admitted; the last member is for loops."""

_MEMORY = 16  # scores fade over so many shadow capacities of requests …
_LEAST_MEMORY = 3000  # … or over this many
_MARGIN = 5  # the lead that a change needs, and LRU's bonus, in 1/1024 of the misses
_BONUS = 3
_SAMPLE = 768  # the most entries wanted in a shadow: caches of no more are not sampled
_ROOM = 832  # what fits into it: samples vary
_GHOSTS = 148  # buckets of a shadow
_MOST_HITS = 3
_BUCKET = 8


def fingerprint_of(key_hash: int) -> int:
    """Return 32 bits of a hash, for all that is sampled or remembered."""
    return (key_hash * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 32


class Ghosts:
    """The fingerprints of those that left last, in buckets of 8; the newest are first.

    A bucket that is full forgets its oldest. 0 is an empty place; that a fingerprint of 0 is found
    there does no harm.
    """

    __slots__ = ("_buckets", "_places")

    def __init__(self, most: int) -> None:
        self._buckets = 1  # in use
        self._places = array("I", bytes(4 * _BUCKET * most))

    def put(self, fingerprint: int) -> None:
        """Remember one; its bucket's oldest goes."""
        places = self._places
        at = (fingerprint * self._buckets >> 32) * _BUCKET
        places[at + 1 : at + _BUCKET] = places[at : at + _BUCKET - 1]
        places[at] = fingerprint

    def take(self, fingerprint: int) -> bool:
        """Forget a ghost; False if it was none."""
        places = self._places
        at = (fingerprint * self._buckets >> 32) * _BUCKET
        bucket = places[at : at + _BUCKET]
        if fingerprint not in bucket:
            return False
        bucket.remove(fingerprint)
        bucket.append(0)
        places[at : at + _BUCKET] = bucket
        return True

    def fit(self, want: int) -> None:
        """Make room for ``want``. Most are not found any more after it, so it is done seldom."""
        have = _BUCKET * self._buckets
        if want > have + have // 4 + _BUCKET or want < have - have // 4:
            most = len(self._places) // _BUCKET
            self._buckets = min(max((want + _BUCKET // 2) // _BUCKET, 1), most)

    def reserve(self, most: int) -> None:
        """Allow so many buckets; what lies in those that are not in use is forgotten."""
        buckets = min(self._buckets, most)
        places = self._places[: _BUCKET * buckets]
        places.extend(array("I", bytes(4 * _BUCKET * (most - buckets))))
        self._buckets, self._places = buckets, places

    def check(self) -> None:
        assert 0 < self._buckets <= len(self._places) // _BUCKET, "buckets in use are there"


class _Shadow:
    """One member over fingerprints. Window and main list lead to hits, the oldest first."""

    __slots__ = ("_admit", "_freezing", "_share", "_skipped", "ghosts", "main", "window")

    def __init__(self, member: int) -> None:
        self._share, self._admit = SHARE[member], ADMIT[member]
        self._skipped = 0
        self._freezing = True
        self.window: OrderedDict[int, int] = OrderedDict()
        self.main: OrderedDict[int, int] = OrderedDict()
        # nobody asks for the ghosts of LRU
        self.ghosts = None if self._share == WHOLE else Ghosts(_GHOSTS)

    def request(self, fingerprint: int, capacity: int, room: int) -> bool:
        """Say whether it was a hit; of those that miss, ``room`` fit in."""
        window, main = self.window, self.main
        hits = window.get(fingerprint)
        if hits is not None:
            if hits < _MOST_HITS:
                window[fingerprint] = hits + 1
            window.move_to_end(fingerprint)
            return True
        hits = main.get(fingerprint)
        if hits is not None:
            if self._share == WHOLE:  # whose window does not ask for hits
                window[fingerprint] = main.pop(fingerprint)
            elif hits < _MOST_HITS:
                main[fingerprint] = hits + 1
            return True
        while len(window) + len(main) >= room:
            self._evict(capacity)
        if self.ghosts is not None and self.ghosts.take(fingerprint):
            self._skipped += 1
            if self._skipped >= self._admit:
                self._skipped = 0
                main[fingerprint] = 0
                return False
        window[fingerprint] = 0
        return False

    def _evict(self, capacity: int) -> None:
        window, main, share = self.window, self.main, self._share
        want = (capacity * share >> 10) or 1
        if self._freezing:
            while len(window) > want:
                fingerprint, hits = window.popitem(last=False)
                main[fingerprint] = hits
            self._freezing = False
        while window and (len(window) >= want or not main):
            fingerprint, hits = window.popitem(last=False)
            if self.ghosts is None:
                return
            if not hits or not (main or window):
                self.ghosts.put(fingerprint)
                return
            main[fingerprint] = 0
        while True:
            fingerprint, hits = main.popitem(last=False)
            if not hits:
                return
            main[fingerprint] = hits - 1

    def thin_out(self, mask: int) -> None:
        """Drop those that are not sampled any more."""
        for entries in (self.window, self.main):
            for fingerprint in [fingerprint for fingerprint in entries if fingerprint & mask]:
                del entries[fingerprint]

    def check(self) -> None:
        assert not self.window.keys() & self.main.keys(), "an entry is in one list"
        assert len(self.window) + len(self.main) <= _ROOM, "a shadow has its room"
        if self.ghosts is not None:
            self.ghosts.check()


class Shadows:
    """All members' shadows, and which of them is followed."""

    __slots__ = (
        "_capacity",
        "_fitted",
        "_full",
        "_scores",
        "_seen",
        "_shadows",
        "_shift",
        "_since",
        "mask",
        "member",
    )

    mask: int
    """A fingerprint is sampled if it has none of these bits."""
    member: int
    """The one that is followed."""

    def __init__(self) -> None:
        self._shadows = [_Shadow(member) for member in range(len(SHARE))]
        self._scores = [0] * len(SHARE)  # hits, faded
        self._seen = 0  # requests, faded
        self._since = 0  # requests since the members were compared
        self._capacity = self._fitted = 0
        self._full = False  # something has been evicted
        self._shift = self.mask = 0
        self.member = 0

    def grow(self, entries: int) -> None:
        """There are so many entries."""
        if entries > self._capacity:
            self._resample(entries)

    def fill(self, entries: int) -> None:
        """One of so many entries is to leave: they are what there is room for."""
        self._full = True
        if entries != self._capacity:
            self._resample(entries)

    def _resample(self, capacity: int) -> None:
        self._capacity = capacity
        while capacity >> self._shift > _SAMPLE:
            self._shift += 1
            for shadow in self._shadows:
                shadow.thin_out((1 << self._shift) - 1)
        while self._shift and capacity >> self._shift < _SAMPLE // 3:
            self._shift -= 1
        self.mask = (1 << self._shift) - 1

    def feed(self, fingerprint: int) -> bool:
        """Let all see a request that is sampled; say whether another member is followed now."""
        capacity = max(self._capacity >> self._shift, 2)
        if capacity != self._fitted:
            self._fit(capacity)
        if not self._full:  # all members are alike
            for shadow in self._shadows:
                shadow.request(fingerprint, capacity, _ROOM)
            return False
        scores = self._scores
        for member, shadow in enumerate(self._shadows):
            if shadow.request(fingerprint, capacity, capacity):
                scores[member] += 1
        self._seen += 1
        self._since += 1
        if self._since < max(_MEMORY * capacity, _LEAST_MEMORY) // 16:
            return False
        self._since = 0
        before = self.member
        self.member = self._best()
        self._seen -= self._seen >> 4
        self._scores = [score - (score >> 4) for score in scores]
        return self.member != before

    def _fit(self, capacity: int) -> None:
        for shadow in self._shadows:
            if shadow.ghosts is not None:
                shadow.ghosts.fit(capacity * 3 // 2)
        self._fitted = capacity

    def _best(self) -> int:
        best = self.member
        misses = self._seen - self._scores[best]
        scores = [score * WHOLE for score in self._scores]
        scores[0] += _BONUS * misses
        if scores[0] >= scores[best]:
            best = 0  # back to LRU, without a lead
        top = scores[best] + _MARGIN * misses
        for member in range(1, len(scores)):
            if scores[member] > top:
                best, top = member, scores[member]
        return best

    def check(self) -> None:
        for shadow in self._shadows:
            shadow.check()
        assert self._capacity >> self._shift <= _SAMPLE, "a sample fits into a shadow"
        assert max(self._scores) <= self._seen, "no more hits than requests"
