"""A replay hits what the tier of values hits, policy by policy; the twins hit the same."""

import numpy as np
import pytest

from nearcache.near import replay
from nearcache.near.objects import ObjectTier
from nearcache.near.pick import native, object_tier
from nearcache.near.policies.base import NAMES
from nearcache.near.replay import BY_CHANCE, hits, mixed

ROOMS = [1, 2, 9, 100, 300, 5000]


def asked(seed, count=8000):
    """Popular keys, scans, and a loop."""
    rng, at = np.random.default_rng(seed), np.arange(count)
    popular = np.minimum(rng.zipf(1.15, count), 5000)
    return mixed(np.where(at % 500 >= 400, 9000 + at % 700, popular).astype(np.uint64))


def by_tier(make, hashes, policy, room):
    tier = make(policy=policy, max_entries=room, max_bytes=2**62, clock=lambda: 0.0, seed=1)
    found = []
    for key in hashes.tolist():
        found.append(tier.get(key) is not None)
        if not found[-1]:
            tier.put(key, True)
    return np.array(found)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("policy", NAMES)
def test_it_hits_what_a_tier_hits(policy, room):
    hashes = asked(room)
    found = by_tier(object_tier, hashes, policy, room)
    if policy in BY_CHANCE:  # a tier mixes hashes with a secret of its own
        assert hits(hashes, policy, room) == pytest.approx(found.sum(), abs=0.02 * len(hashes))
    else:
        assert hits(hashes, policy, room) == found.sum()
        assert hits(hashes, policy, room, 3000) == found[3000:].sum()


@pytest.mark.parametrize("policy", NAMES)
def test_without_the_native_core_python_plays(policy, monkeypatch):
    monkeypatch.setattr(replay, "native", None)
    monkeypatch.setattr(replay, "object_tier", ObjectTier)
    hashes = asked(1, 3000)
    found = by_tier(ObjectTier, hashes, policy, 100)
    assert hits(hashes, policy, 100) == pytest.approx(found.sum(), abs=0.02 * len(hashes))
    assert hits(hashes, policy, 100, 2999) in (0, 1)


@pytest.mark.parametrize("policy", NAMES)
def test_nothing_is_asked_or_nothing_kept(policy):
    assert hits(asked(1, 0), policy, 5) == 0
    assert hits(asked(1, 50), policy, 0) == 0


def test_what_is_kept_for_ever_hits_but_once_missed():
    hashes = asked(2)
    assert hits(hashes, "lru", 2**40) == len(hashes) - len(np.unique(hashes))


def test_the_native_core_refuses_what_it_cannot_play():
    if native is None:
        assert replay.native is None
        return
    with pytest.raises(ValueError, match="no policy 'mru'"):
        native.replay(asked(1, 3), "mru", 5)
    with pytest.raises(ValueError, match="dtype mismatch"):
        native.replay(np.zeros(3, np.int32), "lru", 5)
