"""The policies in Python and in C decide the same, whatever happens."""

import importlib
import os
import random

import numpy as np
import pytest

from nearcache.near.policies.base import NAMES, by_name

if os.environ.get("NEARCACHE_PURE") == "1":
    pytest.skip("NEARCACHE_PURE=1: no native core is wanted", allow_module_level=True)
try:
    native = importlib.import_module("nearcache.near._native")
    Native, POLICIES = native.Policy, native.POLICIES
except (ImportError, AttributeError) as missing:
    pytest.skip(f"no native policies: {missing}", allow_module_level=True)

STEPS = 30_000
TWINS = [
    pytest.param(
        name, marks=pytest.mark.skipif(name not in POLICIES, reason=f"{name} is not native yet")
    )
    for name in NAMES
]


def hashes_for(kind: str, count: int, rng: random.Random) -> list[int]:
    if kind == "mixed":
        return [rng.getrandbits(64) for _ in range(count)]
    # keys that share fingerprints, 0 among them: ghosts that cannot be told apart
    return [rng.randrange(4) << 32 | rng.getrandbits(32) for _ in range(count)]


@pytest.mark.parametrize("kind", ["mixed", "colliding"])
@pytest.mark.parametrize("room", [1, 10, 64, 1000])
@pytest.mark.parametrize("name", TWINS)
def test_twins_decide_the_same(name, room, kind):
    rng = random.Random(f"{name} {room} {kind}")
    pure, native = by_name(name, 42), Native(name, 42)
    twins = (pure, native)
    live: list[int] = []
    free: set[int] = set()
    hashes = hashes_for(kind, 3 * room, rng)
    capacity = 0

    def reserve(count: int) -> None:
        nonlocal capacity
        for twin in twins:
            twin.reserve(count)
        free.update(range(capacity, count))
        free.intersection_update(range(count))
        capacity = count

    def evict() -> None:
        victim = pure.evict()
        assert native.evict() == victim
        if victim is None:
            assert not live
            return
        live.remove(victim)
        free.add(victim)

    def move(source: int, target: int) -> None:
        for twin in twins:
            twin.move(source, target)
        live[live.index(source)] = target
        free.add(source)
        free.discard(target)

    def insert() -> None:
        if len(live) == room:
            evict()
        if not free:
            reserve(capacity + capacity // 2 + 1)
        slot, key_hash = free.pop(), hashes[int(len(hashes) * rng.random() ** 2)]
        for twin in twins:
            twin.insert(slot, key_hash)
        live.append(slot)

    def compact() -> None:
        for source in sorted(live, reverse=True):
            target = min(free, default=source)
            if target < source:
                move(source, target)
        reserve(max(live, default=-1) + 1)

    for step in range(STEPS):
        action = rng.random()
        if action < 0.5 or not live:
            insert()
        elif action < 0.8:
            slot = live[int(len(live) * rng.random() ** 3)]
            for twin in twins:
                twin.touch(slot)
        elif action < 0.83:
            slots = np.array(rng.choices(live[: len(live) // 3 + 1], k=rng.randrange(40)), np.intp)
            for twin in twins:
                twin.touch_many(slots)
        elif action < 0.93:
            slot = live.pop(rng.randrange(len(live)))
            free.add(slot)
            for twin in twins:
                twin.remove(slot)
        elif action < 0.96:
            evict()
        elif action < 0.99:
            if free:
                move(rng.choice(live), min(free))
        elif step % 10 == 0:
            compact()
        if step % 1000 == 0 and rng.random() < 0.1:
            for twin in twins:
                twin.clear()
            free.update(live)
            live.clear()
        assert len(pure) == len(native) == len(live)
        if step % 500 < 3:
            for twin in twins:
                twin.check()
    for twin in twins:
        twin.check()
    while live:
        evict()
    evict()


def traffic(room: int, count: int, rng: random.Random) -> list[int]:
    """Keys that are popular, a loop, and keys with scans in between; then all again."""
    keys = []
    for at in range(count):
        kind = at * 6 // count % 3
        popular = int(4 * room * rng.random() ** 3)
        if kind == 0 or (kind == 2 and rng.random() < 0.5):
            keys.append(popular)
        else:
            keys.append(at % (room * 13 // 10 + 1) if kind == 1 else 4 * room + at)
    return keys


@pytest.mark.parametrize("room", [3, 60, 760, 1000, 3500])
@pytest.mark.parametrize("name", TWINS)
def test_twins_decide_the_same_on_traffic_that_changes(name, room):
    rng = random.Random(f"{name} {room}")
    pure, native = twins = (by_name(name, 42), Native(name, 42))
    for twin in twins:
        twin.reserve(room)
    slots: dict[int, int] = {}
    owner: dict[int, int] = {}
    free = list(range(room))
    hits: list[int] = []  # those that the next miss finds not noted yet
    evictions = 0
    hashes: dict[int, int] = {}
    for key in traffic(room, 40_000, rng):
        if key in slots:
            hits.append(slots[key])
            continue
        for twin in twins:
            twin.touch_many(np.array(hits, np.intp))
        hits.clear()
        if not free:
            victim = pure.evict()
            assert native.evict() == victim
            del slots[owner[victim]]
            free.append(victim)
            evictions += 1
        slots[key] = slot = free.pop()
        owner[slot] = key
        for twin in twins:
            twin.insert(slot, hashes.setdefault(key, rng.getrandbits(64)))
    assert evictions > 10_000
    for twin in twins:
        twin.check()
    assert [pure.evict() for _ in range(room + 1)] == [native.evict() for _ in range(room + 1)]


@pytest.mark.parametrize("name", TWINS)
def test_without_memory_nothing_changes(name):
    _testcapi = pytest.importorskip("_testcapi", reason="this interpreter cannot run out of memory")
    policy = Native(name, 1)
    policy.reserve(20)
    for slot in range(20):
        policy.insert(slot, slot << 32)
    policy.evict()
    size = policy.nbytes
    failed = None
    _testcapi.set_nomemory(0, 1)
    try:
        policy.reserve(1000)
    except MemoryError as error:
        failed = error
    finally:
        _testcapi.remove_mem_hooks()
    assert failed is not None
    assert policy.nbytes == size
    policy.check()
    assert len(policy) == 19
    policy.reserve(1000)
    policy.check()
    assert len({policy.evict() for _ in range(19)}) == 19


@pytest.mark.parametrize(
    "name,most", [("lru", 8), ("fifo", 8), ("random", 8), ("sieve", 9), ("lfu", 9), ("s3fifo", 18)]
)
def test_bytes_per_entry(name, most):
    policy = Native(name, 1)
    policy.reserve(1_000_000)
    assert most <= policy.nbytes / 1_000_000 < most + 0.01


def test_a_name_without_native_policy_is_refused():
    with pytest.raises(ValueError, match="mru"):
        Native("mru", 1)
