"""Least recently used, exactly, from stamps alone."""

import random

import numpy as np

from nearcache.near.policies.lru import LRU


def stamped(*stamps):
    order = LRU(len(stamps))
    order.stamps[:] = stamps
    return order


def leaving(order, count, high=None):
    """The next ``count`` slots to leave."""
    gone = []
    for _ in range(count):
        _, slot = order.oldest(len(order.stamps) if high is None else high)
        order.stamps[slot] = 0
        gone.append(slot)
    return gone


def test_the_smallest_stamp_leaves_first():
    assert leaving(stamped(5, 3, 9, 1), 4) == [3, 1, 0, 2]


def test_a_free_slot_never_leaves():
    order = stamped(0, 3, 0, 1)
    assert leaving(order, 2) == [3, 1]
    assert order.oldest(4) is None


def test_slots_beyond_the_highest_used_do_not_count():
    assert leaving(stamped(5, 3, 1), 2, high=2) == [1, 0]


def test_looking_does_not_take():
    order = stamped(5, 3)
    assert order.oldest(2) == order.oldest(2) == (3, 1)


def test_a_slot_touched_since_it_was_looked_at_does_not_leave_yet():
    order = stamped(1, 2, 3)
    assert order.oldest(3) == (1, 0)
    order.stamps[0] = 4
    assert leaving(order, 3) == [1, 2, 0]


def test_a_slot_freed_and_used_again_counts_as_new():
    order = stamped(1, 2, 3)
    order.oldest(3)
    order.stamps[0] = 0
    order.stamps[0] = 4
    assert leaving(order, 3) == [1, 2, 0]


def test_the_order_is_exact_through_thousands_of_touches_and_evictions():
    rng = random.Random(7)
    order, model = LRU(3000), {}
    for tick in range(1, 20_001):
        slot = rng.randrange(3000)
        if rng.random() < 0.6:
            order.stamps[slot] = tick
            model.pop(slot, None)
            model[slot] = tick
        elif model:
            assert order.oldest(3000) == (next(iter(model.values())), next(iter(model)))
            (gone,) = leaving(order, 1)
            model.pop(gone)
    assert set(np.flatnonzero(order.stamps)) == set(model)
