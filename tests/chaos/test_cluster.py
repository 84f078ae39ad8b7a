"""Caches on a cluster whose primaries die and change and whose slots move: slower, never wrong.

Every read of many processes under many faults at once is checked by the history checker; its long
form is ``python -m bench.coherence.history --server cluster:valkey-9.1``.
"""

import asyncio
import threading
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest

from clusters import Cluster, slot_of
from embedders import Face, M, Model, face_of, in_threads, same, until, vectors
from live.history import Plan, check
from near_fixtures import SPACE, linked, near_caches
from nearcache import Options, StoreError
from nearcache.caches.hot import HotMemoryCache
from nearcache.caches.hot_async import AsyncHotMemoryCache
from nearcache.caches.memory_key import MemoryKey
from nearcache.keys import BUCKETS, KeySpace, ValueKeys

near = pytest.fixture(near_caches)

QUICK = Options(link_timeout=0.5, lease=1.0)
# a machine that stands still for a moment is no failure of a store
STRICT = Options(link_timeout=0.5, lease=1.0, store_timeout=5.0, on_store_error="raise")
BRIEF = Options(link_timeout=0.5, lease=1.0, store_timeout=0.2, on_store_error="raise")
# who asks for a slot that is moving waits so long each time
MOVING = Options(link_timeout=0.5, lease=1.0, store_timeout=0.5)
KEYS = [f"key {n}" for n in range(300)]
SLOTS = [slot_of(f"{{{SPACE}:{bucket:02x}}}".encode()) for bucket in range(BUCKETS)]


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        yield made


@pytest.fixture
def sound(cluster):
    """The cluster, whole and empty."""
    cluster.restart()
    cluster.until_sound()
    for node in cluster.primaries:
        node.flush()
    return cluster


@pytest.fixture(params=["sync", "async"])
def face(request):
    return request.param


def agree(cache, plain, keys):
    """Whether near says of every key what the store does."""
    return cache.get_batch(keys) == plain.get_batch(keys, max_staleness=0)


# -- all is well -----------------------------------------------------------------------------------


def test_values_vectors_and_memories_of_many_nodes_are_like_those_of_one(near, face, sound):
    cache, other = (near(face, sound.url, options=STRICT) for _ in range(2))
    values = {key: [key, n] for n, key in enumerate(KEYS)}
    cache.put_batch(values)
    assert other.get_batch(KEYS) == list(values.values())
    assert other.update("key 1", lambda old: [*old, "more"]) == ["key 1", 1, "more"]
    assert cache.get("key 1", max_staleness=0) == ["key 1", 1, "more"]
    cache.put("tagged", 1, tags=["tag"])
    other.invalidate_by_tag("tag")
    assert cache.get("tagged", max_staleness=0) is None
    cache.clear()
    assert other.get_batch(KEYS[:10], max_staleness=0) == [None] * 10
    model = Model(64)
    embeddings = Face(face_of(face)(sound.url, max_entries=0, options=STRICT))
    for _ in range(2):
        assert same(embeddings.wrap(model, M)(KEYS), vectors(KEYS, 64))
    assert set(model.times.values()) == {1}
    embeddings.invalidate(KEYS[0], M)
    assert embeddings.get_batch(KEYS, M)[1].sum() == len(KEYS) - 1
    embeddings.close()
    hot = Face({"sync": HotMemoryCache, "async": AsyncHotMemoryCache}[face](sound.url))
    key = MemoryKey("episodic", "a", "alice")
    hot.put(key, {"text": "hello"})
    assert hot.get(key) == {"text": "hello"}
    hot.close()


def test_a_change_on_any_node_is_heard_near(near, face, sound):
    reader, writer = near(face, sound.url, options=STRICT), near("sync", sound.url, options=STRICT)
    writer.put_batch(dict.fromkeys(KEYS, "old"))
    linked(reader)
    assert set(reader.get_batch(KEYS)) == {"old"}
    writer.put_batch(dict.fromkeys(KEYS, "new"))
    until(lambda: set(reader.get_batch(KEYS)) == {"new"})
    writer.clear()
    until(lambda: set(reader.get_batch(KEYS)) == {None})


# -- slots move ------------------------------------------------------------------------------------


def test_while_a_slot_is_half_moved_reads_work_and_no_write_is_half_done(near, face, sound):
    """A server refuses scripts on two keys of such a slot, if it has but one of them."""
    brief, calm = near(face, sound.url, options=BRIEF), near(face, sound.url, options=MOVING)
    other = near("sync", sound.url, options=STRICT)
    names, slot = ValueKeys(KeySpace(SPACE)), SLOTS[7]
    keys = [f"k{n}" for n in range(2000) if slot_of(names.name(f"k{n}")) == slot][:12]
    other.put_batch(dict.fromkeys(keys, "old"))
    source = sound.owner_of(slot)
    target = next(node for node in sound.primaries if node is not source)
    with sound.half_moved(slot, target):
        assert other.get_batch(keys) == ["old"] * 12
        assert [other.get(key, max_staleness=0) for key in keys] == ["old"] * 12
        for key in keys[:4]:
            with suppress(StoreError):
                brief.put(key, "new")
        for key in keys[4:8]:
            calm.put(key, "new")
            assert calm.get(key) in ("new", None)
            assert calm.get_or_load(key, lambda: "new") == "new"
        for key in keys[8:]:
            calm.invalidate(key)
            assert calm.get_or_load(key, lambda: "loaded") == "loaded"
        assert set(other.get_batch(keys, max_staleness=0)) <= {"old", "new", "loaded", None}
    sound.until_sound()
    assert sound.owner_of(slot) is target
    until(lambda: calm.get_stats().undelivered == 0)
    found = other.get_batch(keys, max_staleness=0)
    assert "old" not in found[4:]
    linked(calm)
    assert calm.get_batch(keys) == found
    other.put(keys[0], "after")
    until(lambda: calm.get(keys[0]) == "after")


def test_a_slot_that_stays_half_moved_keeps_no_forget_and_no_load_from_the_store(near, face, sound):
    """A re-sharding that was interrupted may last for days."""
    cache, other = near(face, sound.url, options=MOVING), near("sync", sound.url, options=STRICT)
    names, slot = ValueKeys(KeySpace(SPACE)), SLOTS[9]
    there = [f"k{n}" for n in range(2000) if slot_of(names.name(f"k{n}")) == slot][:8]
    elsewhere = [f"e{n}" for n in range(50) if slot_of(names.name(f"e{n}")) != slot][:8]
    other.put_batch(dict.fromkeys(there, "old"))
    target = next(node for node in sound.primaries if node is not sound.owner_of(slot))
    with sound.half_moved(slot, target):
        for key in there:
            cache.invalidate(key)
        until(lambda: cache.get_stats().undelivered == 0)
        assert other.get_batch(there, max_staleness=0) == [None] * 8
        for key in elsewhere:
            assert cache.get_or_load(key, lambda: "loaded") == "loaded"

        def is_in_the_store():  # a machine that stood still: its store was late, and is asked again
            for key in elsewhere:
                cache.get_or_load(key, lambda: "loaded", max_staleness=0)
            return other.get_batch(elsewhere, max_staleness=0) == ["loaded"] * 8

        until(is_in_the_store)
    sound.until_sound()
    assert other.get_batch(there, max_staleness=0) == [None] * 8


def test_no_update_is_lost_and_no_call_fails_while_a_third_of_the_slots_moves(near, sound):
    caches = [near("sync", sound.url, options=STRICT).thing for _ in range(2)]
    counters = [f"counter {n}" for n in range(20)]
    caches[0].put_batch(dict.fromkeys(counters, 0))
    done, counted = threading.Event(), [Counter() for _ in range(4)]

    def steps(number):
        cache, counts, turn = caches[number % 2], counted[number], 0
        while not done.is_set():
            turn += 1
            key = counters[(turn * 7 + number) % 20]
            yield cache, key, f"own {number} {turn % 50}", turn
            counts[key] += 1

    def in_a_thread(number):
        for cache, key, own, turn in steps(number):
            cache.update(key, lambda old: old + 1)
            cache.put(own, turn)
            assert cache.get(own) == turn
            cache.invalidate(own)
            assert cache.get(own) is None

    async def in_a_task(number):
        for cache, key, own, turn in steps(number):
            twin = cache.as_async()
            await twin.update(key, lambda old: old + 1)
            await twin.put(own, turn)
            assert await twin.get(own) == turn
            await twin.invalidate(own)
            assert await twin.get(own) is None

    async def tasks():
        await asyncio.gather(in_a_task(2), in_a_task(3))

    def work(number):
        return in_a_thread(number) if number < 2 else asyncio.run(tasks())

    results = []
    load = threading.Thread(target=lambda: results.extend(in_threads(3, work)))
    load.start()
    try:
        source, *others = sound.primaries
        mine = sorted(set(SLOTS) & set(sound.slots_of(source)))
        assert len(mine) >= 12
        for number, slot in enumerate(mine):
            sound.move_slots([slot], others[number % 2])
    finally:
        done.set()
        load.join()
    assert results == [None] * 3
    sound.until_sound()
    totals = sum(counted, Counter())
    plain = near("sync", sound.url, max_entries=0, options=STRICT)
    assert plain.get_batch(counters) == [totals[key] for key in counters]
    for cache in caches:
        linked(Face(cache))
        until(lambda cache=cache: agree(cache, plain, counters))


# -- primaries change ------------------------------------------------------------------------------


def test_a_failover_that_was_asked_for_loses_nothing_and_near_hears_on(near, face, sound):
    cache, other = (near(f, sound.url, options=QUICK) for f in (face, "sync"))
    other.put_batch(dict.fromkeys(KEYS, "old"))
    linked(cache, other)
    cache.get_batch(KEYS)
    sound.failover(0)
    until(lambda: cache.get_batch(KEYS, max_staleness=0) == ["old"] * len(KEYS))
    linked(cache, other)
    until(lambda: _put(other, KEYS, "new"))
    until(lambda: set(cache.get_batch(KEYS)) == {"new"})
    assert agree(cache, other, KEYS)


@pytest.mark.parametrize("face", ["async"])
def test_while_a_primary_is_dead_loaders_answer_and_after_it_near_equals_the_store(
    near, face, sound
):
    cache, other = (near(f, sound.url, options=QUICK) for f in (face, "sync"))
    embeddings = Face(face_of(face)(sound.url, max_entries=0, options=QUICK))
    other.put_batch(dict.fromkeys(KEYS, "old"), tags=["tag"])
    linked(cache)
    cache.get_batch(KEYS)
    dead = sound.kill_primary(1)
    assert same(embeddings.wrap(Model(), M)(KEYS[:50]), vectors(KEYS[:50]))
    for key in KEYS[:60]:
        assert cache.get(key) in ("old", None)
        assert cache.get_or_load(key, lambda: "old") == "old"
        other.put(key, "new")
    other.invalidate_by_tag("tag")
    forgotten = KEYS[60:]
    sound.until_replaced(dead)
    until(lambda: other.get_stats().undelivered == 0)
    until(lambda: _put(other, KEYS[:60], "new"))
    linked(cache, other)
    until(lambda: agree(cache, other, KEYS))
    assert set(cache.get_batch(KEYS[:60])) == {"new"}
    assert set(cache.get_batch(forgotten)) == {None}
    embed = embeddings.wrap(Model(), M)
    until(lambda: same(embed(KEYS), vectors(KEYS)) and np.all(embeddings.get_batch(KEYS, M)[1]))
    embeddings.close()


def test_a_primary_that_comes_back_empty_at_once_is_misses_and_no_old_value(near, sound):
    cache, other = (near("sync", sound.url, options=QUICK) for _ in range(2))
    other.put_batch(dict.fromkeys(KEYS, "old"))
    linked(cache)
    cache.get_batch(KEYS)
    node = sound.primaries[2]
    node.kill()
    node.restart()
    sound.until_sound()
    until(lambda: cache.get_or_load_batch(KEYS, lambda keys: dict.fromkeys(keys, "new")))
    until(lambda: _put(other, KEYS, "new"))
    until(lambda: set(cache.get_batch(KEYS)) == {"new"})
    linked(cache, other)
    assert agree(cache, other, KEYS)


def _put(cache, keys, value):
    """Put until the store has it all: a write that found nobody is repeated by its caller."""
    cache.put_batch(dict.fromkeys(keys, value))
    return cache.get_batch(keys, max_staleness=0) == [value] * len(keys)


# -- everything at once ----------------------------------------------------------------------------

STORM = {"workers": 2, "threads": 1, "tasks": 1, "loops": 1, "bound": 1.0, "lease": 1.0, "seed": 1}


def test_a_storm_of_faults_breaks_no_promise():
    faults = ("fail_over", "half_move", "kill_primary", "kill_clients")
    found = check(Plan(server="cluster:valkey-9.1", faults=faults, seconds=4.0, **STORM))
    assert found.wrong == {}, found.text() + "\n" + "\n".join(found.log)
    assert found.tally.checked > 1000
    assert found.compared > 0
    assert sum(found.faults.values()) > 1
