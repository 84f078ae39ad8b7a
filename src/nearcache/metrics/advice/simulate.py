"""What a cache of another size or policy would have hit: nearcache's own near tier is asked.

Where there is much, a share of the keys is played on a cache that is as much smaller (Waldspurger
et al., "Cache Modeling and Optimization using Miniature Simulations", ATC 2017). Whether the
hottest keys are in the sample is luck; the requests it has too few or too many are counted as the
hits they would be (SHARDS_adj, FAST 2015). What the adaptive policy decides hangs on how keys hash,
and may differ by points between two runs: it is played nine times, and the median taken.
"""

from collections.abc import Sequence
from statistics import median

import numpy as np

from nearcache.clock import monotonic
from nearcache.metrics.advice.keys import Keys
from nearcache.near.pick import object_tier
from nearcache.near.replay import BY_CHANCE, SALTS, hits, mixed

__all__ = ["hit_ratio", "hit_ratio_with_ttl", "share_for"]

_ENTRIES = 10_000  # of a miniature cache, at least: smaller ones are not alike
_REQUESTS = 600_000  # of a sample, at least
_MOST = 3_000_000  # of a sample, at most: some seconds of work for a table
_ROOM = 2**62


def share_for(keys: Keys, size: int) -> float:
    """Return the share of the keys that is enough to tell about a size."""
    count = max(1, len(keys.hashes))
    mine = max(1.0, size * keys.share)
    enough = max(_ENTRIES / mine, _REQUESTS / count)
    return min(1.0, enough, max(_MOST / count, 1e-6))


def hit_ratio(keys: Keys, policy: str, size: int) -> float:
    """Return the share of the requests that a cache of ``size`` entries would have hit, 0 to 1."""
    return _played(keys, policy, size, None)


def hit_ratio_with_ttl(keys: Keys, policy: str, size: int, ttl: float) -> float | None:
    """Return the share with a life of ``ttl`` seconds; None where no time is known."""
    return None if keys.times is None else _played(keys, policy, size, ttl)


def _played(keys: Keys, policy: str, size: int, ttl: float | None) -> float:
    if not len(keys.hashes) or size < 1:
        return 0.0
    share = share_for(keys, size)
    taken = keys.sampled(share)
    room = max(1, round(size * keys.share * share))
    times = None if ttl is None or keys.times is None else keys.times[taken].tolist()
    played = []
    for salt in SALTS if policy in BY_CHANCE else SALTS[:1]:
        wanted = mixed(keys.hashes[taken] ^ np.uint64(salt))
        if times is None or ttl is None:
            played.append(hits(wanted, policy, room))
        else:
            played.append(_young_hits(wanted.tolist(), times, policy, room, ttl))
    whole = keys.requests * keys.share * share
    return float(np.clip((median(played) + whole - len(wanted)) / whole, 0.0, 1.0))


def _young_hits(
    wanted: Sequence[int], times: Sequence[float], policy: str, room: int, ttl: float
) -> int:
    """Count the hits that are no older than ``ttl``; what is older is loaded anew."""
    tier = object_tier(policy=policy, max_entries=room, max_bytes=_ROOM, clock=monotonic, seed=1)
    get, put = tier.get, tier.put
    found = 0
    for key, now in zip(wanted, times, strict=True):
        born = get(key)
        if born is None or now - born >= ttl:
            put(key, now)
        else:
            found += 1
    return found
