"""What once crashed the native core, or made it lie."""

import gc
import tracemalloc

import numpy as np
import pytest

from nearcache.clock import monotonic
from nearcache.near import pick
from nearcache.testing import ManualClock
from nearcache.testing.contracts.near_rows import ROOMY, digests, rows_of

pytestmark = pytest.mark.skipif(
    pick.native is None, reason="the native core is not built, or NEARCACHE_PURE is set"
)


def objects(max_entries=10, max_bytes=ROOMY, clock=monotonic):
    return pick.native.ObjectTier(max_entries=max_entries, max_bytes=max_bytes, clock=clock)


def rows(max_entries=10, max_bytes=ROOMY, clock=monotonic):
    return pick.native.VectorTier(
        dtype=np.dtype(np.float32), scaled=False, max_entries=max_entries, max_bytes=max_bytes,
        clock=clock,
    )  # fmt: skip


def put(tier, texts, data=None, ends=None):
    data = rows_of(texts) if data is None else data
    ends = np.zeros(len(texts)) if ends is None else ends
    return tier.put("m", texts, digests(texts), data, None, ends)


class Calls:
    """A value that calls when it is let go of."""

    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()


def test_a_destructor_empties_a_tier_that_is_making_room():
    tier = objects(max_entries=1)
    tier.put("a", Calls(lambda: tier.resize(0, ROOMY)))
    tier.put("b", 1)
    assert len(tier) == 0
    tier.check()


def test_a_clock_makes_a_full_tier_larger():
    clock, calls = ManualClock(), []

    def growing():
        if not calls:
            calls.append(1)
            tier.resize(5, ROOMY)
        return clock()

    tier = objects(max_entries=2, clock=growing)
    for key in "ab":
        tier.put(key, key, clock() + 0.5)
    clock.advance(1)
    for key in "cdefgh":
        tier.put(key, key, clock() + 5)
    tier.check()


def test_a_key_that_empties_the_tier_and_leaves_the_answer_to_the_other():
    class Key:
        def __hash__(self):
            return 7

        def __eq__(self, other):
            tier.clear()
            return NotImplemented

    tier = objects()
    tier.put(Key(), 1)
    assert tier.get(Key()) is None
    tier.check()


def test_a_key_that_changes_the_tier_whenever_it_is_asked_is_refused():
    class Key:
        def __hash__(self):
            return 7

        def __eq__(self, other):
            tier.put(object(), 1)
            return False

    tier = objects(max_entries=100_000)
    tier.put(Key(), 1)
    for call in (lambda: tier.get(Key()), lambda: tier.put(Key(), 1)):
        with pytest.raises(RuntimeError, match="__eq__"):
            call()
    tier.check()


@pytest.mark.parametrize("now", [float("inf"), -1.0, float("nan")])
def test_a_clock_that_says_nonsense(now):
    tier, other = objects(clock=lambda: now), rows(clock=lambda: now)
    tier.put("a", 1, 5.0)
    put(other, ["a"], ends=np.array([5.0]))
    for call in (tier.expire, other.expire):
        call()
    tier.get("a")
    other.get_one("m", "a")
    tier.check()
    other.check()


def test_a_clock_whose_answer_calls_back():
    class Answer:
        def __float__(self):
            tier.drop_shelves(["m"])
            return 1.0

    tier = rows(clock=Answer)
    for _ in range(3):
        put(tier, ["a", "b"], ends=np.array([5.0, 5.0]))
    tier.check()


@pytest.mark.parametrize(
    "data, ends",
    [
        (np.ones((2, 3), np.float32), np.zeros((2, 0))),
        (np.ones((2, 3, 0), np.float32), np.zeros(2)),
        (np.ones((2, 0), np.float32), np.zeros(2)),
        (np.ones(2, np.float32), np.zeros(2)),
        (np.ones((3, 3), np.float32), np.zeros(2)),
        (np.ones((2, 3), np.float32), np.zeros(3)),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(data, ends):
    tier = rows()
    with pytest.raises(ValueError, match="belong together"):
        put(tier, ["a", "b"], data, ends)
    assert len(tier) == 0


@pytest.mark.parametrize("dtype", [">f4", np.int32, np.float64])
def test_rows_of_another_type_are_converted(dtype):
    tier = rows()
    put(tier, ["a", "b"], rows_of(["a", "b"]).astype(dtype))
    assert np.array_equal(tier.get_all("m", ["a", "b"]), rows_of(["a", "b"]))


def test_a_size_near_the_largest_number_is_too_large():
    tier = objects(max_bytes=1000)
    tier.put("a", 1, 0.0, 10)
    tier.put("a", 2, 0.0, 2**64 - 1)
    assert tier.get("a") is None
    assert tier.used_bytes == 0


def test_an_overwriting_life_evicts_no_stranger():
    tier = rows(max_entries=100, max_bytes=10 * 88)
    put(tier, list("abcdefghij"))
    assert len(tier) == 10
    put(tier, ["a"], ends=np.array([monotonic() + 100]))
    assert (len(tier), tier.evictions) == (10, 0)
    tier.check()


def test_listing_entries_while_the_collector_drops_them():
    tier = objects(max_entries=1000)

    class Node:
        def __del__(self):
            tier.clear()

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(5):
            for number in range(50):
                tier.put(f"key {number}", [f"value {number}"])
            node = Node()
            node.itself = node
            del node
            for key, _ in tier.items():
                assert key.startswith("key ")
                found = tier.peek(key)
                assert found is None or found[0][0].startswith("value ")
    finally:
        gc.set_threshold(*threshold)
    tier.check()


def test_an_overwriting_value_that_is_larger_asks_the_budget():
    tier = objects(max_entries=100, max_bytes=4000)
    for size in range(10, 2000, 15):
        for key in range(20):
            tier.put(key, key, 0.0, size)
        tier.check()
    assert tier.used_bytes <= 4000


def test_a_shelf_whose_name_empties_the_tier():
    class Name:
        armed = True

        def __hash__(self):
            if Name.armed:
                tier.resize(0, ROOMY)
            return 1

    tier = rows()
    name = Name()
    texts = ["a", "b"]
    assert tier.put(name, texts, digests(texts), rows_of(texts), None, np.zeros(2)) == 0
    tier.check()


def test_sizes_whose_sum_overflows_are_too_large():
    tier = objects(max_bytes=2**64 - 1)
    for key in "abc":
        tier.put(key, key, 0.0, 2**63)
    assert len(tier) == 1


@pytest.mark.parametrize("keys", [50, 500], ids=["overwritten", "evicted"])
def test_ends_that_are_all_the_same_are_noted_once(keys):
    tier, other = objects(max_entries=100), rows(max_entries=100)
    end = monotonic() + 1000
    ends, texts = np.full(50, end), [f"text {n}" for n in range(keys)]
    data = rows_of(texts[:50])

    def work(rounds):
        for at in range(rounds):
            for key in range(keys):
                tier.put(key, key, end, 10)
            part = texts[at * 50 % keys :][:50]
            other.put("m", part, digests(part), data, None, ends)

    work(20)
    tracemalloc.start()
    work(20)
    before = tracemalloc.get_traced_memory()[0]
    work(400)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000
    tier.check()
    other.check()
