"""What a near tier would hit of a sequence of hashes: nearcache's own policies are asked.

Native twin: ``near/native/replay.pxi``, which lets other threads run meanwhile.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearcache.clock import monotonic
from nearcache.near.pick import NATIVE_POLICIES, native, object_tier

__all__ = ["BY_CHANCE", "SALTS", "hits", "mixed"]

BY_CHANCE = ("adaptive", "random")
"""What these policies decide hangs on lots, or on how keys hash: play them under each of
SALTS, and take the median."""
SALTS = (
    0,
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x27D4EB2F165667C5,
    0xD6E8FEB86659FD93,
    0xA0761D6478BD642F,
    0xE7037ED1A0B428DB,
    0x8EBC6AF09C88C6E3,
)
"""What hashes are xored with, for runs that are independent of each other."""

_ROOM = 2**62  # bytes

Hashes = NDArray[np.uint64]


def hits(hashes: Hashes, policy: str, room: int, after: int = 0) -> int:
    """Return how many are hits, from number ``after`` on, where ``room`` entries are kept.

    Cost: about 20 ns each, 200 under "adaptive", without the interpreter's lock; where the native
    core is not, microseconds.
    """
    if native is not None and policy in NATIVE_POLICIES:
        played: int = native.replay(hashes, policy, min(room, 2**31), after)
        return played
    tier: Any = object_tier(
        policy=policy, max_entries=room, max_bytes=_ROOM, clock=monotonic, seed=1
    )
    get, put = tier.get, tier.put
    found = 0
    for number, key in enumerate(hashes.tolist()):
        if get(key) is None:
            put(key, True)
        elif number >= after:
            found += 1
    return found


def mixed(numbers: Hashes) -> Hashes:
    """Return 64 well-mixed bits of each number. Source: splitmix64 (Steele et al., 2014)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed_bits: Hashes = x ^ (x >> np.uint64(31))
    return mixed_bits
