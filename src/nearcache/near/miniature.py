"""Miniature simulation: what near tiers of other sizes and policies would hit of what one is asked.

A tier keeps a trail: all accesses of a sample of its keys. Played on a cache that is as much
smaller as the sample, under the very policy, it hits as the large cache would (Waldspurger et al.,
"Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017). A trail that does
not begin with an empty cache fills one with its first quarter, and only the rest counts.

Whether the hottest keys are in the sample is luck. They hit in a cache of any size, nearly: so what
the sample tells of are the misses, and they are scaled to those that the tier itself had of all
keys (as SHARDS_adj does, Waldspurger et al., FAST 2015).
"""

from collections.abc import Generator, Iterator
from time import thread_time
from typing import NamedTuple

import numpy as np

from nearcache.near.pick import NATIVE_POLICIES
from nearcache.near.policies.base import NAMES
from nearcache.near.replay import BY_CHANCE, SALTS, hits, mixed
from nearcache.near.trail import Steps

__all__ = ["Miniature", "Played"]

_SIZES = (0.05, 0.1, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # times the present one
_TAKES = 5  # of what chance has a say in
_SLOW = 1 << 13  # accesses that a policy in Python is asked for, at most


class Played(NamedTuple):
    """What was found out. Ratios are 0 to 1."""

    policy: str
    size: int
    """Entries of the tier as it is."""
    requests: int
    """Requests that were counted, those of keys that are not in the sample too."""
    really: float
    """The hit ratio that the tier itself had."""
    points: tuple[tuple[int, float], ...]
    """Entries, and what the tier's policy would have hit with so many."""
    others: tuple[tuple[str, float], ...]
    """What other policies would have hit with the present size."""


class Miniature:
    """Plays a trail, a run at a time. Not thread-safe."""

    def __init__(self, steps: Steps, policy: str, size: int, hit_ratio: float) -> None:
        """Play the trail of a tier of a size, which had a hit ratio of late."""
        words, late = steps.words, steps.late
        if policy not in NATIVE_POLICIES and len(words) > _SLOW:
            words, late = words[-_SLOW:], True
        self._after = len(words) // 4 if late else 0
        self._counted = len(words) - self._after
        self._keys = (words >> np.uint32(1)).astype(np.uint64)
        self._distinct = len(set(self._keys.tolist()))
        self._really = float((words[self._after :] & 1).mean()) if self._counted else 0.0
        self._scale = 1.0
        if steps.shift and self._really < 1.0:
            self._scale = (1.0 - hit_ratio) / (1.0 - self._really)
        self._policy, self._size, self._shift = policy, size, steps.shift
        self._ratios: dict[tuple[str, int], float] = {}
        self._runs = self._all_runs()
        self.found: Played | None = None
        """Everything, once it has been played."""

    def play(self, seconds: float = float("inf")) -> bool:
        """Go on for so long, a run at least; say whether that was all.

        Units: seconds of the processor. Cost: a run takes some milliseconds.
        """
        end = thread_time() + seconds
        return all(thread_time() < end for _ in self._runs)

    def _all_runs(self) -> Iterator[None]:
        if not self._counted:
            return
        sizes = sorted({max(1, round(self._size * each)) for each in _SIZES})
        ratios = {}
        for entries in sizes:
            ratios[entries] = yield from self._ratio(self._policy, entries)
        others = {}
        for policy in NAMES:
            if policy != self._policy:
                others[policy] = yield from self._ratio(policy, self._size)
        self.found = Played(
            policy=self._policy,
            size=self._size,
            requests=self._counted << self._shift,
            really=self._scaled(self._really),
            points=tuple(ratios.items()),
            others=tuple(others.items()),
        )

    def _ratio(self, policy: str, entries: int) -> Generator[None, None, float]:
        room = max(1, round(entries / (1 << self._shift)))
        room = min(room, self._distinct)  # larger ones keep everything
        known = self._ratios.get((policy, room))
        if known is not None:
            return known
        found = []
        for salt in SALTS[: _TAKES if policy in BY_CHANCE else 1]:
            hashes = mixed(self._keys ^ np.uint64(salt))
            found.append(hits(hashes, policy, room, self._after))
            yield
        self._ratios[policy, room] = ratio = self._scaled(
            sorted(found)[len(found) // 2] / self._counted
        )
        return ratio

    def _scaled(self, ratio: float) -> float:
        return min(1.0, max(0.0, 1.0 - (1.0 - ratio) * self._scale))
