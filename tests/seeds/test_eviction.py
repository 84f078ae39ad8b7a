"""Seed defects 7 to 12: the bounded near tier."""

import sys

import numpy as np
import pytest

from embedders import M, ManualClock, Model, cache_with_clock, same, vector, vectors
from nearcache.near.policies.lru import LRU


def fill(cache, count, size=8, prefix="t"):
    texts = [f"{prefix}{n}" for n in range(count)]
    cache.put_batch(texts, vectors(texts, size), M)
    return texts


def test_07_overwriting_at_capacity_evicts_nobody(make, face):
    cache = make(face, max_entries=3)
    texts = fill(cache, 3)
    cache.put(texts[1], vector("newer"), M)
    rows, found = cache.get_batch(texts, M)
    assert found.all()
    assert same(rows[1], vector("newer"))
    assert cache.get_stats().evictions == 0


def test_08_no_entries_switch_the_near_tier_off(make, face, shared):
    cache = make(face, shared, max_entries=0)
    texts = fill(cache, 3)
    assert cache.size == 0
    assert same(cache.get_batch(texts, M)[0], vectors(texts))  # the store has them


def test_08_no_entries_and_no_store_is_a_cache_that_holds_nothing(make, face):
    cache, model = make(face, max_entries=0), Model()
    embed = cache.wrap(model, M)
    assert same(embed(["a", "b"]), vectors(["a", "b"]))
    assert same(embed(["a", "b"]), vectors(["a", "b"]))
    assert model.times == {"a": 2, "b": 2}


def test_08_no_bytes_are_no_entries(make, face):
    cache = make(face, max_bytes=0)
    cache.put("text", vector("text"), M)
    assert (cache.size, cache.get_stats().bytes_near) == (0, 0)


def test_09_what_has_expired_leaves_before_what_lives():
    clock = ManualClock()
    cache = cache_with_clock(clock, max_entries=4)
    live = fill(cache, 2, prefix="live")
    cache.put("dead1", vector("dead1"), M, ttl=1)
    cache.put("dead2", vector("dead2"), M, ttl=1)
    clock.advance(1)
    more = fill(cache, 2, prefix="more")
    assert cache.get_batch(live + more, M)[1].all()
    assert cache.get_stats().evictions == 0


def test_10_an_eviction_does_not_look_at_every_entry(monkeypatch):
    scans = []
    refill = LRU._fill
    monkeypatch.setattr(LRU, "_fill", lambda self, high: (scans.append(high), refill(self, high)))
    cache = cache_with_clock(ManualClock(), max_entries=1600)
    fill(cache, 1600)
    fill(cache, 1600, prefix="new")
    assert cache.get_stats().evictions == 1600
    assert len(scans) <= 1600 // 100 + 1  # one look at the stamps serves a hundred evictions


class CountingLock:
    """The near tier's lock, counting how much of a function runs in each hold of it."""

    def __init__(self, lock, near):
        self.lock, self.near, self.depth, self.freed, self.before = lock, near, 0, [], 0

    def __enter__(self):
        self.lock.__enter__()
        self.depth += 1
        if self.depth == 1:
            self.before = self.near.expirations
        return self

    def __exit__(self, *error):
        if self.depth == 1:
            self.freed.append(self.near.expirations - self.before)
        self.depth -= 1
        return self.lock.__exit__(*error)


def test_11_a_clean_up_lets_others_in_between_slices():
    clock = ManualClock()
    cache = cache_with_clock(clock)
    texts = [f"t{n}" for n in range(20_000)]
    cache.put_batch(texts, np.ones((20_000, 4)), M, ttl=1)
    clock.advance(1)
    near = cache._tiers.engine.near
    lock = near.lock = CountingLock(near.lock, near)
    assert cache.cleanup_expired() == 20_000
    near.lock = lock.lock
    assert max(lock.freed) <= 1000
    assert sum(lock.freed) == 20_000


def test_12_the_budget_is_in_bytes_by_default(make, face):
    cache = make(face)
    big = np.ones((500, 8192), np.float32)  # 16 MB a batch: half a gigabyte in 32
    for part in range(20):
        cache.put_batch([f"{part}/{n}" for n in range(500)], big, M)
    stats = cache.get_stats()
    assert stats.bytes_near <= 256 * 2**20
    assert stats.entries_near < 10_000
    assert stats.evictions == 10_000 - stats.entries_near


@pytest.mark.parametrize("length", [10, 1000, 100_000])
def test_12_bytes_count_rows_and_texts(make, face, length):
    cache = make(face)
    texts = [f"{n:0{length}}" for n in range(10)]
    cache.put_batch(texts, vectors(texts, 64), M)
    least = 10 * 64 * 4 + 10 * (sys.getsizeof(texts[0]) if length <= 1000 else 16)
    assert least <= cache.get_stats().bytes_near <= least + 10 * 300
