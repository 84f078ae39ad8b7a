"""Least recently used, exactly, from stamps."""

import numpy as np


def test_who_was_touched_least_recently_leaves_first(letters):
    cache = letters("lru")
    cache.use("abcd" + "ba")
    assert cache.evict(4) == "cdba"


def test_a_hit_after_the_victims_were_looked_up_counts(letters):
    cache = letters("lru")
    cache.use("abcd")
    assert cache.evict() == "a"
    cache.use("b")
    assert cache.evict(3) == "cdb"


def test_a_slot_that_is_used_again_is_new(letters):
    cache = letters("lru", room=3)
    assert cache.use("abc" + "d") == "a"
    assert cache.evict(3) == "bcd"


def test_a_batch_is_as_many_hits_in_order_and_the_last_of_a_slot_counts(letters):
    cache = letters("lru")
    cache.use("abcd")
    cache.policy.touch_many(np.array([cache.slots[key] for key in "abcab"]))
    assert cache.evict(4) == "dcab"


def test_a_batch_may_be_of_any_size(letters):
    cache = letters("lru")
    cache.use("ab")
    cache.policy.touch_many(np.array([cache.slots["b"]] * 10_000))
    cache.use("a")
    assert cache.evict(2) == "ba"


def test_a_hit_that_comes_late_brings_nobody_back(letters):
    cache = letters("lru")
    cache.use("ab")
    slot = cache.slots["a"]
    cache.forget("a")
    cache.policy.touch(slot)
    cache.policy.check()
    assert cache.evict() == "b"
    assert cache.policy.evict() is None


def test_more_entries_than_the_queue_of_victims_holds(letters):
    cache = letters("lru", room=2000)
    keys = "".join(chr(1000 + n) for n in range(2000))
    cache.use(keys + keys[::2])
    assert cache.evict(2000) == keys[1::2] + keys[::2]
