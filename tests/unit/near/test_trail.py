"""A trail has what was asked for of late, for as many keys as there is room for; twins agree."""

import numpy as np
import pytest

from nearcache.metrics.advice.keys import mixed
from nearcache.near.curve import Curve
from nearcache.near.pick import VectorTier, native, object_tier, vector_tier
from nearcache.near.trail import Steps

MOST, LEAST, TURNS, FEW = 98_304, 768, 128, 4096


def native_curve():
    if native is None:
        pytest.skip("no native core here")
    return native.Curve()


def spread(keys):
    return mixed(np.asarray(keys, np.uint64))


@pytest.fixture(params=["pure", "native"])
def counter(request):
    return Curve() if request.param == "pure" else native_curve()


def steps(counter) -> Steps:
    return Steps(*counter.trail())


def words(keys, hits):
    return (spread(keys) & np.uint64(2**31 - 1)) << np.uint64(1) | np.asarray(hits, np.uint64)


def miss(counter, keys, entries):
    for key in spread(keys).tolist():
        counter.miss(key, entries)


def test_nothing_was_asked_for(counter):
    assert len(steps(counter).words) == 0
    assert (steps(counter).shift, steps(counter).late, counter.trail_nbytes) == (0, False, 0)


def test_every_access_is_there_in_order_and_whether_it_hit(counter):
    miss(counter, [7, 8], 2)
    counter.hit(int(spread([7])[0]))
    counter.hit_many(spread([8, 8, 7]))
    miss(counter, [9], 3)
    found = steps(counter)
    assert found.words.tolist() == words([7, 8, 7, 8, 8, 7, 9], [0, 0, 1, 1, 1, 1, 0]).tolist()
    assert (found.shift, found.late) == (0, False)


@pytest.mark.parametrize("entries", [0, 20, 64, 500])
def test_a_small_tier_has_every_key_and_drops_the_oldest_accesses(counter, entries):
    keys = np.arange(70_000)
    miss(counter, keys, entries)
    room = max(FEW, 1 << (TURNS * entries - 1).bit_length()) if entries else FEW
    found = steps(counter)
    assert (found.shift, found.late) == (0, True)
    assert found.words.tolist() == words(keys[-room:], 0 * keys[-room:]).tolist()
    assert counter.trail_nbytes == 4 * room


def test_a_large_tier_has_fewer_keys_and_goes_back_as_far(counter):
    keys = np.arange(300_000)
    miss(counter, keys, 4 * LEAST)
    found = steps(counter)
    followed = keys[(spread(keys) & np.uint64(3)) == 0]
    assert (found.shift, found.late) == (2, False)
    assert found.words.tolist() == words(followed, 0 * followed).tolist()


def test_a_sample_is_no_smaller_than_a_miniature_may_be(counter):
    miss(counter, np.arange(300_000), 3 * LEAST)
    assert steps(counter).shift == 1
    assert steps(counter).late
    assert len(steps(counter).words) == MOST


def test_a_tier_that_grew_may_follow_fewer_keys_from_then_on(counter):
    miss(counter, np.arange(FEW + 10), 10)
    assert steps(counter).late
    miss(counter, np.arange(400_000, 700_000), 4 * LEAST)
    found = steps(counter)
    assert (found.shift, found.late) == (2, True)  # what was dropped does not come back


def test_hits_that_nobody_looks_at_are_not_there(counter):
    miss(counter, np.arange(100), 100)
    while not counter.paused:
        counter.hit_many(spread(np.arange(100)))
    before = steps(counter).words.tolist()
    counter.hit(int(spread([5])[0]))
    counter.hit_many(spread(np.arange(100)))
    assert steps(counter).words.tolist() == before


def test_a_reset_forgets_it(counter):
    miss(counter, np.arange(10_000), 5000)
    counter.reset()
    assert (len(steps(counter).words), counter.trail_nbytes) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_twins_note_the_same(seed):
    """Through pauses, rates that fall, and rings that turn."""
    rng = np.random.default_rng(seed)
    pure, native = Curve(), native_curve()
    entries = 1
    for _ in range(40):
        few, count = int(rng.integers(1, 9000)), int(rng.integers(1, 30_000))
        entries = int(rng.integers(1, 1 << int(rng.integers(1, 15))))
        hashes = spread(rng.integers(0, few, count))
        kind = int(rng.integers(0, 3))
        for twin in (pure, native):
            if kind == 0:
                twin.hit_many(hashes)
            else:
                for at, key in enumerate(hashes.tolist()):
                    if kind == 1 or at % 7 == 0:
                        twin.miss(key, entries)
                    else:
                        twin.hit(key)
        mine, yours = steps(pure), steps(native)
        assert mine[1:] == yours[1:]
        assert np.array_equal(mine.words, yours.words)
        assert pure.trail_nbytes == native.trail_nbytes


def test_without_memory_the_native_trail_is_shorter():
    _testcapi = pytest.importorskip("_testcapi", reason="this interpreter cannot run out of memory")
    counter = native_curve()
    hashes = spread(np.arange(3000)).tolist()
    for key in hashes[:1024]:
        counter.miss(key, 1)
    full = steps(counter)
    _testcapi.set_nomemory(0, 0)
    try:
        counter.hit(hashes[1024])
    finally:
        _testcapi.remove_mem_hooks()
    assert steps(counter).words.tolist()[:-1] == full.words.tolist()[1:]
    assert steps(counter).late
    counter.hit(hashes[1025])
    assert counter.trail_nbytes == 8192


def test_a_tier_of_values_says_what_it_was_asked():
    tier = object_tier(max_entries=2, max_bytes=2**40, clock=lambda: 0.0, policy="lru")
    if native is None:
        assert not hasattr(tier, "trail")  # the pure tier of values keeps none
        return
    for key in "abca":
        if tier.get(key) is None:
            tier.put(key, key)
    tier.get("a")
    a, b, c, again, hit = Steps(*tier.trail()).words.tolist()
    assert len({a >> 1, b >> 1, c >> 1}) == 3
    assert (again, hit) == (a, a + 1)


@pytest.mark.parametrize("make", [vector_tier, VectorTier])
def test_a_tier_of_rows_says_what_it_was_asked(make):
    tier = make(
        dtype=np.dtype(np.float32),
        scaled=False,
        max_entries=5,
        max_bytes=2**40,
        clock=lambda: 0.0,
        policy="lru",
        seed=1,
    )
    digests = [bytes([n]) * 16 for n in range(3)]
    tier.put("m", list("abc"), digests, np.ones((3, 2), np.float32), None, np.zeros(3))
    assert tier.get_all("m", ["c", "a"]) is not None
    assert tier.get_one("m", "b") is not None
    *first, c, a, b = Steps(*tier.trail()).words.tolist()
    assert [c, a, b] == [word + 1 for word in (first[2], first[0], first[1])]
