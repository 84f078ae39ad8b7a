"""A policy that wants a log of hits is told of them all, in order, before it is asked anything."""

import random
from typing import ClassVar

import numpy as np
import pytest

from nearcache.near.objects import ObjectTier
from nearcache.near.policies.adaptive import Adaptive
from nearcache.near.policies.fifo import FIFO
from nearcache.testing import ManualClock

ROOMY = 2**40


class AtOnce(Adaptive):
    """The same, told at once."""

    __slots__ = ()
    on_hit: ClassVar[str] = "lock"


class Diary(FIFO):
    """Writes down what it is told."""

    on_hit: ClassVar[str] = "log"

    def __init__(self):
        super().__init__(0)
        self.told = []

    def insert(self, slot, key_hash):
        self.told.append(f"insert {slot}")
        super().insert(slot, key_hash)

    def touch(self, slot):
        self.told.append(slot)

    def touch_many(self, slots):
        self.told += slots.tolist()

    def remove(self, slot):
        self.told.append(f"remove {slot}")
        super().remove(slot)

    def evict(self):
        self.told.append("evict")
        return super().evict()


def tier_of(policy, most=3, clock=None):
    return ObjectTier(
        max_entries=most, max_bytes=ROOMY, clock=clock or ManualClock(), policy=policy, seed=1
    )


@pytest.fixture
def diary():
    return Diary()


@pytest.fixture
def tier(diary):
    made = tier_of(diary)
    for key in "abc":
        made.put(key, key)
    diary.told.clear()
    return made


def test_hits_are_told_before_the_next_insertion_and_eviction(tier, diary):
    tier.get_many("abbx")
    assert diary.told == []
    tier.put("d", "d")
    assert diary.told == [0, 1, 1, "evict", "remove 0", "insert 0"]


def test_hits_are_told_before_a_removal(tier, diary):
    tier.get_many("cb")
    tier.drop("b")
    assert diary.told == [2, 1, "remove 1"]


@pytest.mark.parametrize("count", [1, 16, 17, 4000])
def test_any_number_is_told_in_order_and_once(tier, diary, count):
    keys = random.Random(count).choices("abc", k=count)
    tier.get_many(keys)
    tier.check()
    assert diary.told == ["abc".index(key) for key in keys]
    tier.check()
    assert len(diary.told) == count


def test_of_very_many_the_last_are_told_and_all_are_counted(tier, diary):
    tier.get_many(["a"] * 3000 + ["b"] * 4000)
    tier.check()
    assert diary.told == [0] * 96 + [1] * 4000
    assert tier.hits == 7000


@pytest.mark.parametrize("count", [2, 40])
def test_a_hit_that_comes_when_all_is_over_is_not_told(tier, diary, count):
    late = tier._touch
    tier.clear()
    diary.told.clear()
    for slot in range(700, 700 + count):
        late(slot)
    tier.check()
    assert diary.told == []


@pytest.mark.parametrize("count", [1, 100])
def test_a_policy_that_is_cut_off_while_it_is_told_is_mended(tier, diary, count):
    def cut_off(_slots):
        raise KeyboardInterrupt

    mended = []
    diary.touch = diary.touch_many = cut_off
    diary.rebuild = lambda live: mended.append(len(live))
    tier.get_many("a" * count)
    with pytest.raises(KeyboardInterrupt):
        tier.drop("x")
    assert mended == [3]


class Busy(ManualClock):
    """A clock that does something the next time it is read."""

    act = None

    def __call__(self):
        act, self.act = self.act, None
        if act is not None:
            act()
        return super().__call__()


def test_a_hit_in_the_middle_of_a_hit_is_counted_too():
    clock = Busy()
    tier = tier_of("adaptive", clock=clock)
    tier.put("a", "A", clock() + 5)
    clock.act = lambda: tier.get("a")
    assert tier.get("a") == "A"
    assert tier.hits == 2


def test_what_is_dropped_in_the_middle_of_a_hit_is_no_hit():
    clock = Busy()
    tier = tier_of("adaptive", clock=clock)
    tier.put("a", "A", clock() + 5)
    clock.act = lambda: tier.drop("a")
    assert tier.get("a") is None
    assert (tier.hits, tier.misses) == (0, 1)
    tier.check()


def test_a_policy_with_a_log_decides_as_if_it_were_told_at_once():
    clock, rng = ManualClock(), random.Random(5)
    policies = Adaptive(), AtOnce()
    tiers = [tier_of(policy, 300, clock) for policy in policies]
    for tier in tiers:
        tier._secret = 7
    shares = set()
    for step in range(60_000):
        key = step % 380 if step // 15_000 % 2 else int(900 * rng.random() ** 3)
        found = {tier.get(key) for tier in tiers}
        assert len(found) == 1
        act = rng.random()
        if found == {None} or act < 0.01:
            end = clock() + 50 if act < 0.2 else 0.0
            assert len({tier.put(key, step, end) for tier in tiers}) == 1
        elif act > 0.995:
            dropped = [tier.drop(key) for tier in tiers]
            assert dropped == [True, True]
        clock.advance(0.01)
        shares.add(policies[1]._share)
        if step % 5000 == 0:
            for tier in tiers:
                tier.check()
            assert policies[0]._share == policies[1]._share
    assert len(shares) > 1
    contents = [sorted(tier.items()) for tier in tiers]
    assert contents[0] == contents[1]
    assert tiers[0].evictions > 5000


def test_it_is_told_what_it_can_look_up():
    tier = tier_of(Adaptive(), 400)
    for key in range(400):
        tier.put(key, key)
    tier.get_many(list(range(400)) * 3)
    assert isinstance(tier._log[0], int)
    tier.check()
    assert np.frombuffer(tier._policy._hits, np.uint8)[:400].tolist() == [3] * 400
