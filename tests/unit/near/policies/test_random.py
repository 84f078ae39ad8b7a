"""Anybody leaves."""

from collections import Counter

from nearcache.near.policies.base import by_name


def leaving(seed: int, count: int = 10) -> list[int]:
    policy = by_name("random", seed)
    policy.reserve(count)
    for slot in range(count):
        policy.insert(slot, 0)
    return [policy.evict() for _ in range(count)]


def test_everybody_leaves_once():
    assert sorted(leaving(7)) == list(range(10))


def test_the_seed_decides():
    assert leaving(7) == leaving(7)
    assert leaving(7) != leaving(8)


def test_these_are_the_numbers():
    # xorshift64* from seed ^ 0x9E3779B97F4A7C15, upper 32 bits times n, upper 32 bits
    assert leaving(0) == [0, 2, 5, 3, 6, 7, 4, 1, 8, 9]


def test_a_seed_that_makes_the_state_0_is_taken_for_1():
    assert leaving(0x9E3779B97F4A7C15) == leaving(0x9E3779B97F4A7C15 ^ 1)


def test_each_with_the_same_probability():
    policy = by_name("random", 3)
    policy.reserve(8)
    for slot in range(8):
        policy.insert(slot, 0)
    counts = Counter()
    for _ in range(16_000):
        slot = policy.evict()
        counts[slot] += 1
        policy.insert(slot, 0)
    chi_square = sum((count - 2000) ** 2 / 2000 for count in counts.values())
    assert chi_square < 24.3  # 7 degrees of freedom: 0.1 %


def test_hits_change_nothing():
    policies = [by_name("random", 5), by_name("random", 5)]
    for policy in policies:
        policy.reserve(9)
        for slot in range(9):
            policy.insert(slot, 0)
    policies[0].touch(3)
    assert policies[0].evict() == policies[1].evict()
