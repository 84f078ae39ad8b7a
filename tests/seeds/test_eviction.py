"""Seed defects 7 to 12: the bounded near tier."""

import sys
import threading

import numpy as np
import pytest

from embedders import M, ManualClock, Model, cache_with_clock, same, vector, vectors
from nearcache.keys import content_digest
from nearcache.near.pick import native
from nearcache.near.policies.lru import LRU
from nearcache.near.vectors import VectorTier


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
    monkeypatch.setattr(LRU, "_fill", lambda self: (scans.append(len(self)), refill(self)))
    policy = LRU()
    policy.reserve(1600)
    for slot in range(1600):
        policy.insert(slot, slot)
    for _ in range(1600):
        policy.insert(policy.evict(), 0)
    assert len(scans) <= 1600 // 64 + 1  # one look at the stamps serves many evictions


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


TEXTS = [f"t{n}" for n in range(20_000)]


def bounded_tier(kind):
    """A tier of 20,000 rows, all of which have expired."""
    clock = ManualClock()
    tier = kind(
        dtype=np.dtype(np.float32), scaled=False, max_entries=20_000, max_bytes=2**30, clock=clock
    )
    rows = np.ones((20_000, 4), np.float32)
    digests = [content_digest(text) for text in TEXTS]
    tier.put("m", TEXTS, digests, rows, None, np.full(20_000, clock() + 1))
    clock.advance(1)
    return tier


def test_11_a_clean_up_lets_go_of_its_lock_between_slices():
    near = bounded_tier(VectorTier)
    near.lock = lock = CountingLock(near.lock, near)
    assert near.expire() == 20_000
    assert max(lock.freed) <= 1000
    assert sum(lock.freed) == 20_000


@pytest.mark.skipif(native is None, reason="the native core is not built, or NEARCACHE_PURE is set")
def test_11_a_clean_up_in_native_code_lets_other_threads_run():
    near = bounded_tier(native.VectorTier)
    seen, begun, over = set(), threading.Event(), threading.Event()

    def watch():
        while not over.is_set():
            seen.add(len(near))
            begun.set()

    watcher = threading.Thread(target=watch)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        watcher.start()
        begun.wait()
        assert near.expire() == 20_000
    finally:
        over.set()
        watcher.join()
        sys.setswitchinterval(interval)
    assert seen & set(range(1, 20_000)), "nobody saw the tier half cleaned"


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
    kept = sys.getsizeof(texts[0]) if native is None and length <= 1000 else 16
    least = 10 * 64 * 4 + 10 * kept
    assert least <= cache.get_stats().bytes_near <= least + 10 * 300
