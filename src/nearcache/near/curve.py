"""The miss-ratio curve of the near tier: what its hit ratio would be at any other size, under LRU.

Under LRU an access hits in every cache of at least ``d`` entries, where ``d`` is its reuse
distance: the distinct keys asked for since the same key was, itself included (Mattson et al.,
1970). The distribution of the distances is the curve. SHARDS (Waldspurger et al., FAST 2015)
measures it on the keys whose hash says so, one in ``2**shift``, and multiplies the distances. This
is its variant of fixed size: the rate is halved whenever more than ``_KEYS`` keys are sampled.

What is added to it:

* **Work is paid by misses.** Each grants 32 accesses; a sampled hit spends one. Where nearly
  everything hits, the credit ends, and the curve pauses for 64 times as many hits as the next burst
  will take: eight turns through the sampled keys. Hits and misses are counted apart, and each
  distribution is scaled to all the hits or misses that there were, skipped ones included.
* **What happened in a pause is unknown.** A key that was not seen since the pause has a distance
  *longer* than the keys seen since. Such observations are censored, and the estimator of Kaplan
  and Meier (1958) uses them as such: a loop keeps its cliff, a long tail is not cut off.
* **The correction of SHARDS_adj.** Whether the hottest keys are in the sample is luck; the hits
  that were seen and the sampled ones times ``2**shift`` should be equal, and the difference is
  added at distance 1.
* **The trail.** What it looks at, hits and misses, is noted in the tier's trail, too
  (``near/trail.py``), which has a sample of its own.
* **Old behaviour fades.** After 64 requests per distinct key (no fewer than 2**16, no more than
  2**24 requests) all counts are halved, and keys not seen since the halving before are forgotten.
  When few are left the rate rises again.

Native twin: ``near/native/curve.h``. Not thread-safe: the tier sees to that.
"""

from array import array
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearcache.near.trail import Steps, Trail

__all__ = ["Curve", "Histogram", "MissRatioCurve", "measured"]

# The same numbers as in curve.h.
_KEYS = 6144
_TURNS = 8
_BURST = 2048
_SHARE = 64
_GRANT = 32
_SAVED = 1 << 16
_TICK = 4096
_FRACTION = 8
_RARE = 32
_BINS_STEP = 128
_NEVER = (1 << 64) - 1

_HIT, _MISS, _GHOST = 0, 1, 2  # a ghost is a miss in a pause: seen, not counted
_KNOWN, _AT_LEAST = 0, 2  # columns of the counts: plus _HIT or _MISS

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Shares = NDArray[np.floating[Any]]


class Histogram(NamedTuple):
    """What was counted; by either twin. Counts and ``cold`` are in 256ths of a request."""

    counts: NDArray[np.uint64]  # a row per bin: known hits, misses; longer hits, misses
    cold: int  # misses of keys never seen before
    hits: int
    misses: int
    skipped_hits: int
    skipped_misses: int
    keys: int  # sampled
    shift: int  # one key in 2**shift is sampled


@dataclass(frozen=True, slots=True, repr=False)
class MissRatioCurve:
    """The miss ratio that the requests of late would have had in caches of other sizes, under LRU.

    Sizes are in entries. Between two of ``sizes`` the ratio is interpolated; a cache larger than
    the last one would have missed as often as that.
    """

    sizes: tuple[int, ...]
    miss_ratios: tuple[float, ...]
    requests: int
    """Requests the curve tells of; older ones count less."""
    sampled: int
    """Keys whose reuse was followed: below some hundred, the curve is a rough one."""

    def miss_ratio(self, size: float) -> float:
        """Return the share that LRU would miss with ``size`` entries, 0 to 1."""
        return float(np.interp(size, self.sizes, self.miss_ratios))

    def hit_ratio(self, size: float) -> float:
        """Return the share that LRU would hit with ``size`` entries, 0 to 1."""
        return 1.0 - self.miss_ratio(size)

    def size_for(self, hit_ratio: float) -> int | None:
        """Return the smallest size with this hit ratio; None where no size has it."""
        most = 1.0 - hit_ratio
        if most >= self.miss_ratios[0]:
            return 0
        reached = np.flatnonzero(np.asarray(self.miss_ratios) <= most + 1e-12)
        if not len(reached):
            return None
        to = int(reached[0])
        above, below = self.miss_ratios[to - 1 : to + 1]
        left, right = self.sizes[to - 1 : to + 1]
        return min(ceil(left + (above - most) / (above - below) * (right - left) - 1e-6), right)

    def __repr__(self) -> str:
        if not self.requests:
            return "<MissRatioCurve of no requests>"
        best = self.hit_ratio(self.sizes[-1])
        steps = ", ".join(
            f"{ratio:.1%} at {self.size_for(ratio):,}"
            for ratio in (best * part for part in (0.5, 0.8, 0.95, 1.0))
        )
        return (
            f"<MissRatioCurve of {self.requests:,} requests, {self.sampled:,} sampled keys; "
            f"hit ratio {steps} entries>"
        )


def measured(histogram: Histogram) -> MissRatioCurve:
    """Work out the curve from what either twin counted."""
    counts, cold, hits, misses, skipped_hits, skipped_misses, keys, shift = histogram
    requests = hits + misses
    table = counts.astype(np.float64) / (1 << _FRACTION)
    filled = np.flatnonzero(table[:, _KNOWN : _KNOWN + 2].any(axis=1))
    bins = 1 + (int(filled[-1]) if len(filled) else 0)
    sizes = _ends(bins)
    if bins > 1:
        # No distance is longer than the keys are many: a loop through all of them has its cliff
        # there, and not at the end of the bin.
        sizes[-1] = max(int(sizes[-2]) + 1, min(int(sizes[-1]), keys << shift))
    sizes = np.append(sizes, max(int(sizes[-1]) + 1, keys << shift))
    ratio = np.zeros(bins + 1)
    for kind, total, skipped in ((_HIT, hits, skipped_hits), (_MISS, misses, skipped_misses)):
        if not total:
            continue
        known, longer = table[:, _KNOWN + kind], table[:, _AT_LEAST + kind]
        never = cold / (1 << _FRACTION) if kind == _MISS else 0.0
        within = np.zeros(bins + 1)
        share = _distribution(known, longer, never)[:bins]
        within[: len(share)] = share
        if kind == _MISS:
            within[-1] = within[-2]
        else:
            # A hit was asked for before: where its distance is not known it is within the keys.
            within[-1] = 1.0
            # SHARDS_adj: hits that the sample has too few or too many of are the hottest keys'.
            sampled, seen = float(known.sum() + longer.sum()), total - skipped
            if seen > 0 and sampled > 0:
                within = (within * sampled + seen - sampled) / seen
        ratio += total / requests * within.clip(0.0, 1.0)
    # between two points on a line is nothing to be told
    sizes, ratio = sizes[1:], ratio[1:].clip(0.0, 1.0)
    moved = np.diff(ratio, prepend=0.0) > 0
    kept = moved | np.append(moved[1:], True)
    return MissRatioCurve(
        (0, *sizes[kept].tolist()), (1.0, *(1.0 - ratio[kept]).tolist()), requests, keys
    )


def _distribution(known: Shares, longer: Shares, never: float) -> Shares:
    """Kaplan and Meier's estimate: which share of the distances is within each bin."""
    at_risk = np.cumsum((known + longer)[::-1])[::-1] + never
    leave = np.divide(known, at_risk, out=np.zeros_like(known), where=at_risk > 0)
    within: Shares = 1.0 - np.cumprod(1.0 - leave)
    return within


def _bins(distances: Numbers) -> Numbers:
    """Bins are exact to 64, then 32 to an octave."""
    octave = (np.frexp(distances)[1].astype(np.int64) - 6).clip(0)
    bins: Numbers = (octave << 5) + (distances >> octave)
    return bins


def _ends(count: int) -> Numbers:
    """Return the longest distance in each bin."""
    bins = np.arange(count, dtype=np.int64)
    octave = ((bins >> 5) - 1).clip(0)
    ends: Numbers = ((bins - (octave << 5) + 1) << octave) - 1
    return ends


class Curve:
    """Counts the reuse distances of a sample of the keys, in chunks: numpy needs many at a time."""

    __slots__ = (
        "_cold",
        "_counts",
        "_credit",
        "_faded",
        "_fresh",
        "_hits",
        "_keys",
        "_kinds",
        "_log",
        "_misses",
        "_paused",
        "_paused_at",
        "_sample",
        "_shift",
        "_skipped_hits",
        "_skipped_misses",
        "_trail",
        "_until_tick",
        "_wake",
    )

    def __init__(self) -> None:
        self._trail = Trail()
        self.reset()

    def reset(self) -> None:
        """Forget everything, and give all memory back."""
        self._hits = self._misses = self._skipped_hits = self._skipped_misses = 0
        self._cold = self._paused_at = 0
        self._paused = False
        self._wake = _NEVER  # the pause ends with this hit
        self._credit, self._until_tick = _SAVED, _TICK
        self._shift = self._sample = 0
        self._keys: Hashes = np.empty(0, np.uint64)  # sampled, as they were last asked for
        self._fresh = 0  # so many of them since the last pause
        self._faded = 0  # so many of them before the last halving
        self._counts = np.zeros((0, 4), np.uint64)
        self._log = array("Q")  # accesses of sampled keys that were not looked at yet …
        self._kinds = bytearray()  # … and what they were
        self._trail.reset()

    @property
    def nbytes(self) -> int:
        """What the sample takes. Units: bytes."""
        log = len(self._log) * self._log.itemsize + len(self._kinds)
        return self._keys.nbytes + self._counts.nbytes + log

    @property
    def trail_nbytes(self) -> int:
        """What the trail takes. Units: bytes."""
        return self._trail.nbytes

    @property
    def paused(self) -> bool:
        """Whether hits are not looked at for now."""
        return self._paused

    def hit(self, key_hash: int) -> None:
        """One hit."""
        if self._paused and self._hits + 1 == self._wake:
            self._resume(1)
        self._hits += 1
        if self._paused:
            return
        self._trail.note(key_hash, hit=True)
        if key_hash & self._sample:
            return
        self._credit -= 1
        self._log.append(key_hash)
        self._kinds.append(_HIT)
        self._took(1)
        if self._credit <= 0:
            self._pause()

    def miss(self, key_hash: int, entries: int = 0) -> None:
        """One miss: when what was missing is put, and the tier has so many entries."""
        self._misses += 1
        self._trail.entries = entries
        if not self._paused:
            self._credit = min(self._credit + _GRANT, _SAVED)
        elif self._wake - self._hits <= _GRANT * _SHARE:
            self._resume(0)
        else:
            self._wake -= _GRANT * _SHARE
            self._skipped_misses += 1
        if not self._paused:
            self._trail.note(key_hash, hit=False)
        if not key_hash & self._sample:
            self._log.append(key_hash)
            self._kinds.append(_GHOST if self._paused else _MISS)
            if self._until_tick > 1:
                self._until_tick -= 1
            else:
                self._took(1)

    def hit_many(self, hashes: Hashes) -> None:
        """So many hits, in this order."""
        at, count = 0, len(hashes)
        while at < count:
            if self._paused:
                skipped = min(count - at, self._wake - self._hits - 1)
                self._hits += skipped
                at += skipped
                if at < count:
                    self._resume(1)
                continue
            # no further than to the next tick, and not all of them where most are rejected
            rest = hashes[at : at + (_TICK << min(self._shift, 8))]
            room = min(self._credit, self._until_tick)
            if self._sample:
                where = np.flatnonzero((rest & np.uint64(self._sample)) == 0)
                if len(where) >= room:
                    where = where[:room]
                    rest = rest[: int(where[-1]) + 1]
                taken = rest[where]
            else:
                taken = rest = rest[:room]
            self._hits += len(rest)
            at += len(rest)
            self._trail.note_hits(rest)
            if len(taken):
                self._log.frombytes(taken.tobytes())
                self._kinds.extend(bytes(len(taken)))  # _HIT is 0
                self._credit -= len(taken)
                self._took(len(taken))
                if self._credit <= 0:
                    self._pause()

    def histogram(self) -> Histogram:
        """Return what was counted so far, for ``measured``."""
        self._flush()
        pause = self._hits - self._paused_at if self._paused else 0
        return Histogram(
            self._counts.copy(),
            self._cold,
            self._hits,
            self._misses,
            self._skipped_hits + pause,
            self._skipped_misses,
            len(self._keys),
            self._shift,
        )

    def trail(self) -> Steps:
        """Return what was asked for of late, the pauses left out."""
        return self._trail.steps()

    def _took(self, count: int) -> None:
        self._until_tick -= count
        if not self._until_tick:
            self._flush()
            # a rate that fell took some of them back
            if not self._until_tick:
                self._fade()

    def _burst(self) -> int:
        return max(_BURST, _TURNS * len(self._keys))

    def _pause(self) -> None:
        self._flush()
        if self._credit > 0:
            return
        self._paused = True
        self._paused_at = self._hits
        self._wake = self._hits + _SHARE * self._burst()

    def _resume(self, waking: int) -> None:
        self._flush()
        self._skipped_hits += self._hits - self._paused_at
        self._hits += waking  # a hit that ends the pause counts before all counts fade
        self._paused = False
        self._wake = _NEVER
        self._credit = self._burst()
        self._fresh = 0  # what happened in the pause is unknown
        self._fade()
        self._hits -= waking

    def _fade(self) -> None:
        """Halve the counts when it is time."""
        self._until_tick = _TICK
        requests, by = self._hits + self._misses, 0
        period = min(max(len(self._keys) << self._shift << 6, 1 << 16), 1 << 24)
        while requests >> by >= period:
            by += 1
        if not by:
            return
        if self._paused:  # the hits are other numbers from here: the pause begins anew
            self._skipped_hits += self._hits - self._paused_at
            self._paused_at = self._hits >> by
            self._wake = self._paused_at + _SHARE * self._burst()
        self._hits >>= by
        self._misses >>= by
        self._skipped_hits >>= by
        self._skipped_misses >>= by
        self._cold >>= by
        self._counts >>= np.uint64(by)
        self._keys = self._keys[self._faded :]
        self._fresh = min(self._fresh, len(self._keys))
        self._faded = len(self._keys)
        if self._shift and len(self._keys) <= _KEYS // 4:  # fewer keys are asked for: look at more
            self._set_rate(self._shift - 1)
            self._fresh = 0

    def _set_rate(self, shift: int) -> None:
        self._shift = shift
        self._sample = (1 << shift) - 1

    def _flush(self) -> None:
        if not self._log:
            return
        log, kinds = np.array(self._log, np.uint64), np.array(self._kinds, np.int64)
        self._log, self._kinds = array("Q"), bytearray()
        while len(log):
            done = self._chunk(log, kinds)
            log, kinds = log[done:], kinds[done:]
            if len(self._keys) <= _KEYS:
                continue
            while len(self._keys) > _KEYS and self._shift < _RARE:
                self._lower()
            if len(self._keys) > _KEYS:  # hashes that are no hashes
                self._faded = max(0, self._faded - len(self._keys) + _KEYS)
                self._keys = self._keys[-_KEYS:]
                self._fresh = min(self._fresh, _KEYS)
            kept = (log & np.uint64(self._sample)) == 0
            self._until_tick += int(len(kept) - kept.sum())
            self._credit += int(((kinds == _HIT) & ~kept).sum())
            log, kinds = log[kept], kinds[kept]

    def _lower(self) -> None:
        """Sample half as many keys."""
        self._set_rate(self._shift + 1)
        kept = (self._keys & np.uint64(self._sample)) == 0
        self._fresh = int(kept[len(kept) - self._fresh :].sum())
        self._faded = int(kept[: self._faded].sum())
        self._keys = self._keys[kept]

    def _chunk(self, log: Hashes, kinds: Numbers) -> int:
        """Count the distances of these accesses; stop at the one that makes the keys too many.

        The sampled keys, as they were last asked for, and the accesses are one sequence. The keys
        asked for by access ``i`` since the same key's one before, ``p``, are those accesses up to
        ``i`` that have none of the same key between ``p`` and themselves: whose own access before
        is not after ``p``. All up to ``p`` are among them.
        """
        had = len(self._keys)
        sequence = np.concatenate([self._keys, log])
        before = _before(sequence)
        previous = before[had:]
        new = np.cumsum(previous < 0)
        if had + int(new[-1]) > _KEYS:
            full = int(np.searchsorted(new, _KEYS - had, "right"))
            sequence, previous, new = (
                sequence[: had + full + 1],
                previous[: full + 1],
                new[: full + 1],
            )
            before, log, kinds = before[: had + full + 1], log[: full + 1], kinds[: full + 1]
        start = had - self._fresh
        stale = previous < start
        fresh = self._fresh + np.cumsum(stale) - stale
        weight = np.int64(1 << (self._shift + _FRACTION))
        ghost = kinds == _GHOST
        unseen = (previous < 0) & (kinds == _MISS) & (fresh == had + new - 1)
        self._cold += int(unseen.sum()) * int(weight)
        known = ~stale & ~ghost
        censored = stale & ~ghost & ~unseen
        others = had + _not_greater_before(previous) - previous - 2
        distance = np.where(known, (others << self._shift) + 1, fresh << self._shift)
        counted = known | censored
        column = kinds + np.where(known, _KNOWN, _AT_LEAST)
        self._count(_bins(distance[counted]), column[counted], int(weight))
        # the keys as they are now: each at its last access
        again = before[before >= 0]
        last = np.ones(len(sequence), bool)
        last[again] = False
        self._fresh += int(stale.sum())
        self._faded = int(last[: self._faded].sum())
        self._keys = sequence[last]
        return len(log)

    def _count(self, bins: Numbers, column: Numbers, weight: int) -> None:
        if not len(bins):
            return
        most = int(bins.max())
        if most >= len(self._counts):
            grown = np.zeros(((most // _BINS_STEP + 1) * _BINS_STEP, 4), np.uint64)
            grown[: len(self._counts)] = self._counts
            self._counts = grown
        found = np.bincount(bins * 4 + column, minlength=self._counts.size)
        self._counts += (found.reshape(-1, 4) * weight).astype(np.uint64)


def _before(sequence: Hashes) -> Numbers:
    """Return where each access's key was last asked for, or -1."""
    # hash and place in one word sort several times as fast as places by hash; 50 bits of a hash
    # tell some thousand keys apart
    bits = np.uint64((1 << 14) - 1)
    places = np.arange(len(sequence), dtype=np.uint64)
    ordered = np.sort((sequence & ~bits) | places)
    at = (ordered & bits).astype(np.int64)
    same = ((ordered[1:] ^ ordered[:-1]) & ~bits) == 0
    before = np.full(len(sequence), -1, np.int64)
    before[at[1:][same]] = at[:-1][same]
    return before


def _not_greater_before(values: Numbers) -> Numbers:
    """Return how many values up to each one, itself included, are not greater."""
    # Values become ranks, of which there are as many as places. A table counts, for blocks of 64
    # places by 64 ranks, what is wholly before and below; what is left is two blocks per value.
    count = len(values)
    blocks = -(-count // 64)
    size = blocks * 64
    order = np.argsort(values, kind="stable")
    place = np.arange(size)  # of each rank
    place[:count] = order
    rank = np.arange(size)  # of each place
    rank[order] = np.arange(count)
    table = np.zeros((blocks + 1, blocks + 1), np.int64)
    cells = np.bincount((np.arange(size) >> 6) * blocks + (rank >> 6), minlength=blocks * blocks)
    table[1:, 1:] = cells.reshape(blocks, blocks).cumsum(0).cumsum(1)
    small_rank = rank.astype(np.int16).reshape(blocks, 64)
    small_place = place.astype(np.int16).reshape(blocks, 64)
    mine = np.arange(size)
    whole = table[mine >> 6, rank >> 6]
    # in the same block of places, up to mine and not greater
    low = np.arange(64)
    near = (small_rank[:, None, :] <= small_rank[:, :, None]) & (low[None, :] <= low[:, None])
    # in earlier blocks of places, in the same block of ranks and not greater
    far = (small_place[:, None, :] < (small_place[:, :, None] & ~np.int16(63))) & (
        low[None, :] <= low[:, None]
    )
    by_rank = far.sum(2, dtype=np.int64).ravel()
    counts: Numbers = whole + near.sum(2, dtype=np.int64).ravel() + by_rank[rank]
    return counts[:count]
