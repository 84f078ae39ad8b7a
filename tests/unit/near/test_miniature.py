"""A miniature of a tier hits what the tier hits, of its own size and others."""

import numpy as np
import pytest

from nearcache.near import miniature
from nearcache.near.miniature import Miniature
from nearcache.near.pick import NATIVE_POLICIES, native, object_tier
from nearcache.near.policies.base import NAMES
from nearcache.near.replay import hits, mixed
from nearcache.near.trail import Steps

needs_a_trail = pytest.mark.skipif(native is None, reason="the pure tier of values has no trail")
POINTS = 0.02


def popular(count, seed=1):
    rng, at = np.random.default_rng(seed), np.arange(count)
    return np.where(at % 1000 >= 850, 100_000 + at, np.minimum(rng.zipf(1.1, count), 60_000))


def tier_asked(keys, policy, entries):
    tier = object_tier(policy=policy, max_entries=entries, max_bytes=2**62, clock=lambda: 0.0)
    found = []
    for key in keys.tolist():
        found.append(tier.get(key) is not None)
        if not found[-1]:
            tier.put(key, True)
    return tier, np.array(found)


def played(steps, policy, size, hit_ratio=0.9):
    made = Miniature(Steps(*steps), policy, size, hit_ratio)
    assert made.play()
    return made.found


def steps_of(numbers, hit=(), *, shift=0, late=False):
    words = (mixed(np.asarray(numbers, np.uint64)) & np.uint64(2**31 - 1)) << np.uint64(1)
    words[: len(hit)] |= np.asarray(hit, np.uint64)
    return words.astype(np.uint32), shift, late


@needs_a_trail
@pytest.mark.parametrize("policy", ["lru", "sieve", "adaptive"])
def test_a_small_tier_is_played_key_by_key(policy):
    keys = popular(20_000)
    tier, found = tier_asked(keys, policy, 200)
    told = played(tier.trail(), policy, 200)
    assert (told.policy, told.size, told.requests) == (policy, 200, 20_000)
    assert told.really == pytest.approx(found.mean())
    ratios = dict(told.points)
    assert ratios[200] == pytest.approx(found.mean(), abs=0.0 if policy != "adaptive" else POINTS)
    for size in (50, 100, 400, 800):
        assert ratios[size] == pytest.approx(
            tier_asked(keys, policy, size)[1].mean(), abs=1e-9 if policy != "adaptive" else POINTS
        )
    assert set(dict(told.others)) == set(NAMES) - {policy}
    for other, ratio in told.others:
        truth = tier_asked(keys, other, 200)[1].mean()
        assert ratio == pytest.approx(truth, abs=POINTS), other


@needs_a_trail
@pytest.mark.parametrize("salt", range(6))
def test_a_large_tier_is_played_by_a_sample_of_its_keys_whichever_they_are(salt):
    """One request in ten is for the hottest key, which is in one sample of eight."""
    hashes = mixed(popular(200_000).astype(np.uint64) ^ np.uint64(salt << 40))
    truth = {size: hits(hashes, "lru", size) / 200_000 for size in (1500, 3000, 6000)}
    sample = hashes[(hashes & np.uint64(7)) == 0]
    words = ((sample & np.uint64(2**31 - 1)) << np.uint64(1)).astype(np.uint32)
    words[: hits(sample, "lru", 3000 // 8)] |= np.uint32(1)
    told = played((words, 3, False), "lru", 3000, truth[3000])
    assert told.really == pytest.approx(truth[3000])
    for size, ratio in truth.items():
        assert dict(told.points)[size] == pytest.approx(ratio, abs=POINTS), size


def test_what_does_not_begin_with_an_empty_cache_fills_one_with_its_first_quarter():
    keys = np.tile(np.arange(100), 10)
    hit = np.arange(1000) % 4 == 0
    begun = played(steps_of(keys, hit, late=True), "lru", 100)
    assert (begun.requests, dict(begun.points)[100]) == (750, 1.0)
    assert begun.really == pytest.approx(187 / 750)
    whole = played(steps_of(keys, hit), "lru", 100)
    assert (whole.requests, dict(whole.points)[100]) == (1000, 0.9)


def test_a_sample_is_played_on_a_cache_as_much_smaller():
    keys = np.tile(np.arange(100), 10)
    hit = np.arange(1000) >= 100
    told = played(steps_of(keys, hit[::-1], shift=3), "lru", 800)
    ratios = dict(told.points)
    assert told.requests == 8000
    assert (ratios[800], ratios[560]) == (0.9, 0.0)  # a loop through 100 keys, 100 and 70 entries


def test_nothing_is_told_where_nothing_was_asked():
    assert played(steps_of([]), "lru", 10) is None


def test_it_goes_on_where_it_stopped(monkeypatch):
    runs = []

    def counted(*given):
        runs.append(given)
        return hits(*given)

    monkeypatch.setattr(miniature, "hits", counted)
    made = Miniature(Steps(*steps_of(popular(3000))), "sieve", 100, 0.5)
    bits = 0
    while not made.play(0.0):
        bits += 1
        assert len(runs) == bits
        assert made.found is None
    assert made.found is not None
    assert made.found.points == played(steps_of(popular(3000)), "sieve", 100).points
    assert made.play()  # there is no more


def test_a_policy_in_python_is_asked_less():
    keys = popular(20_000)
    told = played(steps_of(keys), "lru", 200)
    assert told.requests == (20_000 if "lru" in NATIVE_POLICIES else 6144)
