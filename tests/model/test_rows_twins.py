# ruff: noqa: B023 (every lambda runs before the loop goes on)
"""The two tiers for rows, side by side: after every operation both hold the same.

Same hits, same evictions, same counts, over hundreds of thousands of single operations per run.
"""

import os
import random

import numpy as np
import pytest

from nearcache.codecs.vectors import by_name
from nearcache.near import pick, vectors
from nearcache.near.policies.base import NAMES
from nearcache.testing import ManualClock
from nearcache.testing.contracts.near_rows import ROOMY, digests, rows_of

pytestmark = pytest.mark.skipif(
    pick.native is None, reason="the native core is not built, or NEARCACHE_PURE is set"
)

SHELVES = {"one": 4, "two": 4, "three": 6}
TEXTS = [f"text {n}" for n in range(400)]
ROWS = {
    (size, text): row
    for size in (4, 6)
    for text, row in zip(TEXTS, rows_of(TEXTS, size), strict=True)
}
DIGEST = dict(zip(TEXTS, digests(TEXTS), strict=True))
# of about ten texts each; a sanitized core takes its time
STEPS = 600 if os.environ.get("NEARCACHE_SANITIZED") else 6_000


class Both:
    """A pure and a native tier that are told the same."""

    def __init__(self, policy, precision, max_entries, seed):
        self.clock = ManualClock()
        self.precision = by_name(precision)
        options = {
            "dtype": self.precision.dtype,
            "scaled": self.precision.scaled,
            "max_entries": max_entries,
            "max_bytes": ROOMY,
            "clock": self.clock,
            "policy": policy,
            "seed": seed,
        }
        self.tiers = vectors.VectorTier(**options), pick.native.VectorTier(**options)

    def same(self, call):
        pure, native = (call(tier) for tier in self.tiers)
        assert plain(pure) == plain(native)
        return native

    def compare(self):
        self.same(lambda tier: (len(tier), tier.evictions, tier.expirations))
        self.same(lambda tier: sorted(tier.listing()))
        for tier in self.tiers:
            tier.check()


def plain(found):
    if isinstance(found, np.ndarray):
        return found.tobytes()
    if isinstance(found, tuple):
        return tuple(map(plain, found))
    return found


@pytest.mark.parametrize("max_entries", [1, 13, 150])
# adaptive keeps its ghosts in buckets by hash, and the tiers hash under secrets of their own: its
# twins are compared under the same hashes (tests/unit/near/policies/test_twins.py)
@pytest.mark.parametrize("policy", [name for name in NAMES if name != "adaptive"])
def test_both_decide_the_same(policy, max_entries):
    rng = random.Random(f"{policy} {max_entries}")
    precision = rng.choice(["float32", "float16", "int8"])
    both = Both(policy, precision, max_entries, rng.getrandbits(64))
    # lots are drawn among places, and whoever leaves together may leave them in any order
    ordered = policy != "random"
    weights = [1 / (n + 1) for n in range(len(TEXTS))]
    for step in range(STEPS):
        shelf = rng.choices(list(SHELVES), [6, 2, 1])[0]
        some = rng.choices(TEXTS, weights, k=rng.randint(1, 20))
        act = rng.random()
        if act < 0.4:
            put(both, shelf, some, rng.choice([None, None, 1.0, 3.0]) if ordered else None)
        elif act < 0.75:
            both.same(lambda tier: tier.get_some(shelf, some))
        elif act < 0.85:
            both.same(lambda tier: tier.get_all(shelf, some[:2]))
        elif act < 0.9:
            both.same(lambda tier: tier.get_one(shelf, some[0]))
        elif act < 0.93:
            both.same(lambda tier: tier.get_digest(shelf, DIGEST[some[0]]))
        elif act < 0.96:
            both.same(lambda tier: tier.drop(shelf, [DIGEST[text] for text in some]))
        elif act < 0.965 and ordered:
            both.same(lambda tier: tier.drop_shelves([shelf]))
        elif act < 0.975:
            both.same(lambda tier: tier.expire())
        elif act < 0.98:
            entries = rng.choice([max_entries, max_entries, max(1, max_entries // 2)])
            both.same(lambda tier: tier.resize(entries, ROOMY))
        else:
            both.clock.advance(rng.choice([0.25, 1.0]))
        if step % 50 == 0:
            both.compare()
    both.compare()


def put(both, shelf, some, ttl):
    size = SHELVES[shelf]
    packed = both.precision.pack(np.array([ROWS[size, text] for text in some]))
    expires = np.full(len(some), 0.0 if ttl is None else both.clock() + ttl)
    names = [DIGEST[text] for text in some]
    both.same(lambda tier: tier.put(shelf, some, names, packed.data, packed.scale, expires))
