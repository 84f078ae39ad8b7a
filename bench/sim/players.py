"""Who plays a trace: nearcache's tier under each policy, the exact ones, libCacheSim's."""

import heapq
from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec

from bench.near.tiers import CORES, object_tier
from nearcache.near import pick
from nearcache.near.policies.base import NAMES

__all__ = ["BELADY", "LRU", "OTHERS", "hit_ratio", "others", "policies"]

LRU, BELADY = "exact LRU", "Belady"
OTHERS = {"libCacheSim LRU": "LRU", "libCacheSim ARC": "ARC"}
OTHERS |= {"libCacheSim S3-FIFO": "S3FIFO", "libCacheSim W-TinyLFU": "WTinyLFU"}


def policies() -> list[str]:
    """Return the names of nearcache's own policies."""
    names = dict.fromkeys((*NAMES, *pick.NATIVE_POLICIES))
    return sorted(names, key=lambda name: name != "adaptive")


def others() -> list[str]:
    """Return the names of libCacheSim's, where it is installed."""
    return list(OTHERS) if find_spec("libcachesim") else []


def hit_ratio(player: str, keys: Sequence[int], size: int) -> float:
    """Play a trace on a cache of ``size`` entries; return the share of requests that hit."""
    if player == LRU:
        hits = _exact_lru(keys, size)
    elif player == BELADY:
        hits = _belady(keys, size)
    elif player in OTHERS:
        hits = _libcachesim(OTHERS[player], keys, size)
    else:
        hits = _tier(player, keys, size)
    return hits / len(keys)


def _tier(policy: str, keys: Sequence[int], size: int) -> int:
    core = "native" if policy in pick.NATIVE_POLICIES else CORES[-1]
    tier = object_tier(core, policy, size)
    get, put = tier.get, tier.put
    for key in keys:
        if get(key) is None:
            put(key, True)
    return int(tier.hits)


def _exact_lru(keys: Sequence[int], size: int) -> int:
    kept: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in kept:
            kept.move_to_end(key)
            hits += 1
        else:
            if len(kept) >= size:
                kept.popitem(last=False)
            kept[key] = None
    return hits


def _belady(keys: Sequence[int], size: int) -> int:
    """Evict who comes again last; a new key always enters."""
    count = len(keys)
    again, last = [0] * count, {}
    for at in range(count - 1, -1, -1):
        again[at] = last.get(keys[at], count + keys[at])  # never: later than anybody
        last[keys[at]] = at
    kept: dict[int, int] = {}
    heap: list[tuple[int, int]] = []
    hits = 0
    for at, key in enumerate(keys):
        if key in kept:
            hits += 1
        elif len(kept) >= size:
            while True:
                comes, who = heapq.heappop(heap)
                if kept.get(who) == -comes:
                    del kept[who]
                    break
        kept[key] = again[at]
        heapq.heappush(heap, (-again[at], key))
    return hits


def _libcachesim(name: str, keys: Sequence[int], size: int) -> int:
    import libcachesim

    get, request = getattr(libcachesim, name)(size).get, libcachesim.Request()
    hits = 0
    for key in keys:
        request.obj_id = key
        hits += get(request)
    return hits
