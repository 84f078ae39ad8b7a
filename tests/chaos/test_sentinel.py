"""Caches on a group whose primary dies, stalls or is replaced: slower, never wrong.

Every read of many processes under these faults is checked by the history checker:
``python -m bench.coherence.history --server sentinel:valkey-9.1``.
"""

import threading
from contextlib import suppress

import numpy as np
import pytest

from clusters import SentinelGroup
from embedders import Face, M, Model, face_of, same, until, vectors
from near_fixtures import linked, near_caches
from nearcache import Options, StoreError

near = pytest.fixture(near_caches)

QUICK = Options(link_timeout=0.5, lease=1.0)
KEYS = [f"key {n}" for n in range(100)]


@pytest.fixture(scope="module")
def group():
    with SentinelGroup() as made:
        yield made


@pytest.fixture
def sound(group):
    """The group, whole and empty."""
    for server in group.servers:
        if server is not group.primary and server not in group.replicas:
            group.rejoin(server)
    group.until_sound()
    group.primary.flush()
    return group


@pytest.fixture(params=["sync", "async"])
def face(request):
    return request.param


def put(cache, keys, value):
    """Put until the store has it all: a write that found nobody is repeated by its caller."""
    cache.put_batch(dict.fromkeys(keys, value))
    return cache.get_batch(keys, max_staleness=0) == [value] * len(keys)


def agree(cache, plain, keys):
    """Whether near says of every key what the store does."""
    return cache.get_batch(keys) == plain.get_batch(keys, max_staleness=0)


def test_the_primary_is_found_by_its_service_and_changes_are_heard(near, face, sound):
    cache, other = (near(f, sound.url, options=QUICK) for f in (face, "sync"))
    other.put_batch(dict.fromkeys(KEYS, "old"))
    linked(cache)
    assert cache.get_batch(KEYS) == ["old"] * len(KEYS)
    assert sound.primary.ask("DBSIZE") > len(KEYS)
    assert put(other, KEYS, "new")
    until(lambda: set(cache.get_batch(KEYS)) == {"new"})


@pytest.mark.parametrize("face", ["async"])
def test_while_the_primary_is_dead_loaders_answer_and_after_it_near_equals_the_store(
    near, face, sound
):
    cache, other = (near(f, sound.url, options=QUICK) for f in (face, "sync"))
    embeddings = Face(face_of(face)(sound.url, max_entries=0, options=QUICK))
    other.put_batch(dict.fromkeys(KEYS, "old"), tags=["tag"])
    linked(cache)
    cache.get_batch(KEYS)
    dead = sound.kill_primary()
    assert same(embeddings.wrap(Model(), M)(KEYS), vectors(KEYS))
    for key in KEYS[:20]:
        assert cache.get(key) in ("old", None)
        assert cache.get_or_load(key, lambda: "old") == "old"
        other.put(key, "new")
    other.invalidate_by_tag("tag")
    sound.until_replaced(dead)
    until(lambda: other.get_stats().undelivered == 0)
    until(lambda: put(other, KEYS[:20], "new"))
    linked(cache, other)
    until(lambda: agree(cache, other, KEYS))
    assert cache.get_batch(KEYS) == ["new"] * 20 + [None] * (len(KEYS) - 20)
    embed = embeddings.wrap(Model(), M)
    until(lambda: same(embed(KEYS), vectors(KEYS)) and np.all(embeddings.get_batch(KEYS, M)[1]))
    embeddings.close()


def test_a_failover_that_was_asked_for_reaches_no_caller_and_near_equals_the_store(near, sound):
    """Writes to the old primary after another took its place are lost by the servers."""
    cache, other = (near(f, sound.url, options=QUICK) for f in ("async", "sync"))
    other.put_batch(dict.fromkeys(KEYS, "old"))
    linked(cache)
    cache.get_batch(KEYS)
    old, done, failed = sound.primary, threading.Event(), []

    def work():
        turn = 0
        while not done.is_set():
            turn += 1
            try:
                other.put(KEYS[turn % 50], turn)
                other.get_or_load(f"load {turn % 9}", lambda turn=turn: turn)
                other.invalidate(f"load {turn % 9}")
                with suppress(StoreError):  # it says so, or an update would be lost
                    other.update(f"count {turn % 9}", lambda old: (old or 0) + 1)
            except Exception as error:
                failed.append(error)

    load = threading.Thread(target=work)
    load.start()
    try:
        sound.failover()
        sound.rejoin(old)
    finally:
        done.set()
        load.join()
    assert failed == []
    until(lambda: other.get_stats().undelivered == 0)
    until(lambda: put(other, KEYS, "new"))
    assert sound.primary is not old
    linked(cache, other)
    until(lambda: set(cache.get_batch(KEYS)) == {"new"})
    assert agree(cache, other, KEYS)


def test_a_primary_that_stalled_and_goes_on_serves_nobody_an_old_value(near, sound):
    cache, other = (near("sync", sound.url, options=QUICK) for _ in range(2))
    other.put_batch(dict.fromkeys(KEYS, "old"))
    linked(cache)
    cache.get_batch(KEYS)
    old = sound.primary
    old.pause()
    assert set(cache.get_batch(KEYS, max_staleness=0)) == {None}
    sound.until_replaced(old)
    until(lambda: put(other, KEYS, "new"))
    linked(cache, other)
    until(lambda: set(cache.get_batch(KEYS)) == {"new"})
    old.resume()
    for _ in range(20):
        assert set(cache.get_batch(KEYS)) == {"new"}
        assert set(other.get_batch(KEYS, max_staleness=0)) == {"new"}
