"""The miss-ratio curve tells what LRU would hit at other sizes; the twins count the same."""

import gzip
import importlib
import lzma
import os
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nearcache.near.curve import Curve, Histogram, MissRatioCurve, measured

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("NEARCACHE_DATA") or ROOT.parent / "shared" / "data")
REAL = ["lirs_multi3.trace.gz", "lirs_loop.trace.gz", "cache2k_web07.trace.xz"]


def native_curve():
    if os.environ.get("NEARCACHE_PURE") == "1":
        pytest.skip("NEARCACHE_PURE=1: no native core is wanted")
    try:
        return importlib.import_module("nearcache.near._native").Curve
    except (ImportError, AttributeError) as missing:
        pytest.skip(f"no native curve: {missing}")


@pytest.fixture(params=["pure", "native"])
def new(request):
    return Curve if request.param == "pure" else native_curve()


def spread(keys, seed=1):
    """splitmix64: what the tier's own hashes are like."""
    x = np.asarray(keys).astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def naive_distances(keys):
    """How many distinct keys since the same one, itself included; 0: it is new."""
    stack, distances = [], []
    for key in keys:
        distances.append(len(stack) - stack.index(key) if key in stack else 0)
        if key in stack:
            stack.remove(key)
        stack.append(key)
    return distances


def lru_hits(keys, size):
    cache, hits = OrderedDict(), []
    for key in keys:
        hits.append(key in cache)
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > size:
            cache.popitem(last=False)
    return np.array(hits, bool)


def ask(curve, hashes, hits):
    at = 0
    for miss in [*np.flatnonzero(~hits).tolist(), len(hashes)]:
        curve.hit_many(hashes[at:miss])
        if miss < len(hashes):
            curve.miss(int(hashes[miss]))
        at = miss + 1


def curve_of(counter) -> MissRatioCurve:
    return measured(Histogram(*counter.histogram()))


def error(curve, truth):
    return float(np.mean([abs(curve.hit_ratio(size) - ratio) for size, ratio in truth.items()]))


# -- what it says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [1, 5, 1000])
def test_exact_where_every_key_is_sampled(new, room):
    keys = np.random.default_rng(room).zipf(1.3, 2000) % 60
    distances = np.array(naive_distances(keys.tolist()))
    counter = new()
    ask(counter, spread(keys), lru_hits(keys.tolist(), room))
    curve = curve_of(counter)
    for size in range(1, 64):
        expected = np.mean((distances > 0) & (distances <= size))
        assert curve.hit_ratio(size) == pytest.approx(expected, abs=1e-9), size
    assert curve.requests == 2000
    assert curve.sampled == len(np.unique(keys))


def test_single_hits_count_like_many(new):
    hashes = spread(np.random.default_rng(1).integers(0, 300, 200_000))
    one, many = new(), new()
    for counter in (one, many):
        for key in np.unique(hashes).tolist():
            counter.miss(key)
    for key in hashes.tolist():
        one.hit(key)
    many.hit_many(hashes)
    assert same(one, many)
    assert one.paused == many.paused


def test_a_curve_falls_and_stays_between_0_and_1(new):
    counter = new()
    keys = np.random.default_rng(2).zipf(1.1, 60_000)
    ask(counter, spread(keys), lru_hits(keys.tolist(), 2000))
    curve = curve_of(counter)
    sizes = [*np.linspace(0, 60_000, 500).tolist(), 1e12]
    ratios = [curve.miss_ratio(size) for size in sizes]
    assert ratios[0] == 1
    assert all(after <= before for before, after in pairwise(ratios))
    assert 0 <= ratios[-1] <= 1
    assert curve.miss_ratio(-5) == 1
    assert all(a < b for a, b in pairwise(curve.sizes))


def test_nothing_was_asked_for(new):
    curve = curve_of(new())
    assert (curve.hit_ratio(0), curve.hit_ratio(100), curve.requests) == (0, 0, 0)
    assert repr(curve) == "<MissRatioCurve of no requests>"
    assert new().nbytes == 0


def counted(*, known=(), longer=(), shift=0, **fields):
    """A histogram of hits at these distances, and of hits farther than those."""
    counts = np.zeros((64, 4), np.uint64)
    for distance in known:
        counts[distance, 0] += 256 << shift
    for distance in longer:
        counts[distance, 2] += 256 << shift
    zeros = dict.fromkeys(("cold", "hits", "misses", "skipped_hits", "skipped_misses"), 0)
    return Histogram(counts=counts, shift=shift, **{**zeros, **fields})


def test_hits_the_sample_lacks_were_near():
    """SHARDS_adj: 20 of 100 hits are neither sampled nor stood for: a hot key was not sampled."""
    curve = measured(counted(known=[30] * 40, shift=1, hits=100, keys=25))
    assert curve.hit_ratio(1) == pytest.approx(0.2)
    assert curve.hit_ratio(29) == pytest.approx(0.2)
    assert curve.hit_ratio(30) == pytest.approx(1)


def test_hits_the_sample_has_too_many_of_were_near():
    curve = measured(counted(known=[1] * 30 + [30] * 30, shift=1, hits=100, keys=25))
    assert curve.hit_ratio(1) == pytest.approx(0.4)
    assert curve.hit_ratio(30) == pytest.approx(1)


def test_what_is_only_known_to_be_longer_is_spread_over_what_is_longer():
    """Kaplan and Meier: the two beyond 10 are divided like those that are known to be beyond."""
    curve = measured(counted(known=[5] * 4 + [20, 40], longer=[10, 10], hits=8, keys=40))
    assert curve.hit_ratio(5) == pytest.approx(0.5)
    assert curve.hit_ratio(20) == pytest.approx(0.75)
    assert curve.hit_ratio(40) == pytest.approx(1)


def test_a_hit_is_within_the_keys_there_are():
    curve = measured(counted(known=[5] * 5, longer=[10] * 5, hits=10, keys=60))
    assert curve.hit_ratio(5) == pytest.approx(0.5)
    assert curve.hit_ratio(60) == pytest.approx(1)


def test_skipped_hits_were_like_those_looked_at():
    histogram = counted(
        known=[5] * 10, hits=1000, skipped_hits=990, misses=1000, cold=1000 * 256, keys=20
    )
    assert measured(histogram).hit_ratio(5) == pytest.approx(0.5)


def test_reading_a_curve():
    curve = MissRatioCurve((0, 100, 200), (1.0, 0.5, 0.2), 12_345, 150)
    assert curve.hit_ratio(50) == pytest.approx(0.25)
    assert curve.miss_ratio(150) == pytest.approx(0.35)
    assert curve.miss_ratio(10_000) == 0.2
    assert curve.size_for(0.5) == 100
    assert curve.size_for(0.65) == 150
    assert curve.size_for(0.8) == 200
    assert curve.size_for(0) == 0
    assert curve.size_for(0.81) is None
    assert "12,345 requests, 150 sampled keys; hit ratio 40.0% at 80, " in repr(curve)
    with pytest.raises(AttributeError):
        curve.requests = 1  # type: ignore[misc]


# -- how wrong it is ------------------------------------------------------------------------------


def trace(name):
    if name == "zipf":
        return np.random.default_rng(3).zipf(1.1, 60_000) % 30_000
    if name == "loop":
        return np.arange(60_000) % 9_000
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there: zipf and loop stand in for it")
    if name.endswith(".xz"):
        return np.frombuffer(lzma.open(path).read(), ">i4").astype(np.int64)
    return np.array([int(line) for line in gzip.open(path).read().split() if line != b"*"])[
        :120_000
    ]


@pytest.mark.parametrize("name", REAL if DATA.exists() else ["zipf", "loop"])
def test_error_whatever_the_size_of_the_cache(new, name):
    keys = np.unique(trace(name), return_inverse=True)[1].tolist()
    distinct = max(keys) + 1
    sizes = np.linspace(distinct * 0.01, distinct, 8).astype(int).tolist()
    hits = {size: lru_hits(keys, size) for size in sizes}
    truth = {size: hits[size].mean() for size in sizes}
    for size in (sizes[0], sizes[3], sizes[-1]):
        counter = new()
        ask(counter, spread(keys), hits[size])
        assert error(curve_of(counter), truth) < 0.02, size


# -- what it costs --------------------------------------------------------------------------------


def hot(new, hashes, keys=1000, turns=1):
    counter = new()
    for key in range(keys):
        counter.miss(int(spread([key])[0]))
    for _ in range(turns):
        counter.hit_many(hashes)
    return counter


def test_where_all_hit_few_are_looked_at_and_the_curve_stays_right(new):
    keys = np.random.default_rng(4).integers(0, 1000, 2_000_000)
    counter = hot(new, spread(keys))
    histogram = Histogram(*counter.histogram())
    assert histogram.skipped_hits > 0.8 * histogram.hits
    assert error(measured(histogram), {size: size / 1000 for size in range(50, 1001, 50)}) < 0.02


def test_a_loop_keeps_its_cliff_through_pauses(new):
    # the order changes while nobody looks: what is remembered from before would be wrong
    orders = [np.random.default_rng(turn).permutation(1000) for turn in range(4)]
    curve = curve_of(hot(new, spread(np.concatenate([np.tile(order, 500) for order in orders]))))
    assert curve.hit_ratio(950) < 0.02
    assert curve.hit_ratio(1001) > 0.98


def test_recovers_when_hits_turn_into_misses(new):
    """A curve that told of all hits tells of the loop that misses, two rounds after it began."""
    counter = hot(new, spread(np.random.default_rng(5).integers(0, 1000, 1_000_000)))
    while not counter.paused:
        counter.hit_many(spread(np.arange(1000)))
    loop = spread(np.arange(5000, 10_000)).tolist()
    for key in loop:
        counter.miss(key)
    assert not counter.paused
    before = curve_of(counter)
    for key in loop * 2:
        counter.miss(key)
    after = curve_of(counter)
    lost = after.hit_ratio(4500)
    assert lost < before.hit_ratio(4500) - 0.05
    assert after.hit_ratio(6000) > lost + 0.05


def test_memory_is_bounded_and_comes_in_steps(new):
    counter = new()
    for key in spread(np.arange(100)).tolist():
        counter.miss(key)
    assert counter.nbytes < 16 << 10
    for key in spread(np.arange(100_000) % 70_000).tolist():
        counter.miss(key)
    histogram = Histogram(*counter.histogram())
    assert histogram.keys <= 6144
    assert histogram.keys << histogram.shift == pytest.approx(70_000, rel=0.06)
    assert counter.nbytes <= 128 << 10
    counter.reset()
    assert counter.nbytes == 0
    assert curve_of(counter).requests == 0


def test_hashes_that_are_no_hashes_cost_no_more(new):
    counter = new()
    for key in range(6400):
        counter.miss(key << 40)
        counter.hit((key // 2) << 40)
    assert Histogram(*counter.histogram()).keys <= 6144
    assert counter.nbytes <= 160 << 10


def test_old_behaviour_fades_and_the_rate_rises_again(new):
    counter = new()
    for key in spread(np.arange(10_000)).tolist():
        counter.miss(key)
    assert Histogram(*counter.histogram()).shift == 1
    few = spread(np.random.default_rng(6).integers(50_000, 50_100, 500_000))
    for _ in range(20):
        counter.hit_many(few)
    histogram = Histogram(*counter.histogram())
    assert (histogram.keys, histogram.shift) == (100, 0)
    assert measured(histogram).requests < 2**17
    assert measured(histogram).hit_ratio(50) == pytest.approx(0.5, abs=0.03)


# -- twins ----------------------------------------------------------------------------------------


def same(one, other):
    (mine, *rest), (yours, *others) = one.histogram(), other.histogram()
    longer, bins = max(mine, yours, key=len), min(len(mine), len(yours))
    return rest == others and np.array_equal(mine[:bins], yours[:bins]) and not longer[bins:].any()


@pytest.mark.parametrize("seed", range(3))
def test_twins_count_the_same(seed):
    """To the last bit: through pauses, rates that fall and rise, and fading."""
    rng = np.random.default_rng(seed)
    pure, native = Curve(), native_curve()()
    for _ in range(40):
        kind = rng.integers(0, 4)
        few = int(rng.integers(1, 9000))
        if kind == 0:  # a scan of what is new
            start = int(rng.integers(0, 2**40))
            keys, ratio = np.arange(start, start + few), 0.0
        elif kind == 1:  # nearly all hit
            keys, ratio = rng.integers(0, few // 5 + 1, 300_000), 0.99999
        else:
            keys, ratio = rng.integers(0, few, few * 3), rng.random()
        hits = rng.random(len(keys)) < ratio
        hashes = spread(keys)
        for twin in (pure, native):
            ask(twin, hashes, hits)
        if rng.random() < 0.5:
            assert same(pure, native)
        assert pure.paused == native.paused
    assert same(pure, native)


def test_without_memory_the_native_curve_samples_less():
    _testcapi = pytest.importorskip("_testcapi", reason="this interpreter cannot run out of memory")
    counter = native_curve()()
    hashes = spread(np.arange(3000)).tolist()

    def miss_without_memory(key):
        _testcapi.set_nomemory(0, 1)
        try:
            counter.miss(key)
        finally:
            _testcapi.remove_mem_hooks()

    miss_without_memory(hashes[0])
    assert counter.nbytes == 0
    for key in hashes[:192]:
        counter.miss(key)
    size = counter.nbytes
    miss_without_memory(hashes[192])
    assert counter.nbytes == size
    assert Histogram(*counter.histogram()).shift == 1
    for key in hashes * 3:
        counter.miss(key)
    curve = curve_of(counter)
    assert curve.hit_ratio(2400) < 0.05
    assert curve.hit_ratio(3600) > 0.6
