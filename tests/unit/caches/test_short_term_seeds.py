"""The defects of the systems ShortTermMemory comes from, each by its number; none comes back."""

import dataclasses

import numpy as np
import pytest

from embedders import in_threads, until
from nearcache.caches.agents import AccessTier
from nearcache.errors import CodecError
from nearcache.testing import ManualClock, MemoryStore
from short_term_fixtures import (
    ANN,
    BOB,
    EVE,
    SHARED,
    agent,
    hears,
    is_near,
    memories,
    memory_with_clock,
)

memory = pytest.fixture(memories)


def test_2_a_life_of_nothing_is_not_an_hour(memory, face, store):
    one = memory(face, store)
    assert one.stash("key", 1, ANN, ttl=0) is False
    assert one.retrieve("key", ANN) is None


def test_3_a_life_of_half_a_second_reaches_the_server_as_that(memory, face, redis_server):
    one = memory(face, redis_server.url)
    one.stash("half", 1, ANN, ttl=0.5)
    one.stash("more", 1, ANN, ttl=1.9)
    with redis_server.client() as client:
        lives = {name.rpartition(b",s")[2]: client.pttl(name) for name in client.keys("*:k:*")}
    assert lives.get(b"half.", 0) <= 500
    assert 1000 < lives[b"more."] <= 1900


def test_1_a_copy_of_what_another_wrote_ends_when_that_does(face):
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    one, other = memory_with_clock(clock, store, face), memory_with_clock(clock, store, face)
    one.stash("key", 1, ANN, ttl=1)
    clock.advance(0.5)
    assert other.retrieve("key", ANN) == 1
    clock.advance(0.6)
    assert other.retrieve("key", ANN) is None
    one.close()
    other.close()


CHANGES = {
    "stash": (lambda one: one.stash("key", 2, ANN, None), 2),
    "stash_batch": (lambda one: one.stash_batch({"key": 2}, ANN, None), 2),
    "update": (lambda one: one.update("key", lambda _: 2, ANN, ttl=None), 2),
    "delete": (lambda one: one.delete("key", ANN), None),
    "clear": (lambda one: one.clear_working_memory(ANN), None),
}


@pytest.mark.parametrize("change, after", CHANGES.values(), ids=CHANGES)
def test_5_a_copy_without_a_life_is_not_served_for_ever(memory, face, shared, change, after):
    one, other = memory(face, shared), memory(face, shared)
    hears(one, other)
    one.stash("key", 1, ANN, ttl=None)
    is_near(other, "key")
    change(one)
    assert one.retrieve("key", ANN) == after
    until(lambda: other.retrieve("key", ANN) == after)


def test_6_a_batch_does_not_pass_by_the_local_cache(memory, face, store):
    one = memory(face, store)
    hears(one)
    one.stash("key", 1, ANN)
    is_near(one, "key")
    one.stash_batch({"key": 2}, ANN)
    assert one.retrieve("key", ANN) == 2
    assert one.retrieve_batch(["key"], ANN) == {"key": 2}


def test_18_the_team_does_not_read_what_its_member_has(memory, face, store):
    one = memory(face, store)
    one.stash("x", "of team:bob", agent("team:bob"))
    one.stash("bob:x", "of team", agent("team"))
    assert one.retrieve("bob:x", agent("team")) == "of team"
    assert one.retrieve("x", agent("team:bob")) == "of team:bob"
    assert one.retrieve("bob", agent("team")) is None
    assert one.scan_keys(agent("team")).items == ["bob:x"]


def test_19_an_array_is_not_silently_dropped(memory, face, store):
    one = memory(face, store)
    with pytest.raises(CodecError):
        one.stash("key", {"vector": np.zeros(3)}, ANN)
    assert one.stash("key", {"vector": np.zeros(3).tolist()}, ANN)
    assert one.retrieve("key", ANN) == {"vector": [0.0, 0.0, 0.0]}


def test_22_deleting_what_is_not_there_is_false(memory, face, store):
    one = memory(face, store)
    one.stash("key", 1, ANN)
    assert [one.delete(key, ANN) for key in ("other", "key", "key")] == [False, True, False]


@pytest.mark.parametrize("namespace", ["app", "app:", "app*", "app[1]", "app?"])
def test_25_clearing_one_namespace_wipes_that_alone(memory, face, shared, namespace):
    names = {namespace, "app", "app:prod", "app1", "app[1]", "app*", "ap"}
    spaces = {name: memory(face, shared, namespace=name) for name in names}
    for name, one in spaces.items():
        one.stash("key", name, ANN)
    assert spaces[namespace].clear_working_memory(ANN) == 1
    for name, one in spaces.items():
        assert one.retrieve("key", ANN) == (None if name == namespace else name)


@pytest.mark.parametrize("name", ["*", "a*", "?nn", "[a]nn"])
def test_26_no_agent_id_clears_everybody(memory, face, shared, name):
    one = memory(face, shared)
    one.stash("key", 1, ANN)
    assert one.clear_working_memory(agent(name, AccessTier.STEWARD)) == 0
    assert one.retrieve("key", ANN) == 1
    with pytest.raises(TypeError):
        one.clear_working_memory(agent("zoe", AccessTier.STEWARD), "ann")


def test_27_of_two_who_promote_one_pattern_one_does(memory, face, shared):
    """Read, decide, write: with stale copies both would have promoted it."""
    faces = [memory(face, shared) for _ in range(2)]
    hears(*faces)
    faces[0].stash("pattern", {"state": "staged"}, agent(SHARED))
    for one in faces:
        is_near(one, "pattern", agent(SHARED))

    def promote(number):
        promoted = []

        def change(pattern):
            promoted.append(pattern["state"] == "staged")
            return {"state": "promoted", "by": pattern.get("by", number)}

        faces[number].update("pattern", change, EVE, SHARED)
        return promoted[-1]

    assert sorted(in_threads(2, promote)) == [False, True]


def test_27_no_update_is_lost(memory, face, shared):
    faces = [memory(face, shared) for _ in range(2)]

    def join(number):
        for n in range(20):
            faces[number % 2].update(
                "session", lambda there, n=n: [*(there or []), [number, n]], ANN, SHARED
            )

    in_threads(4, join)
    joined = memory(face, shared).retrieve("session", ANN, SHARED)
    assert sorted(joined) == [[number, n] for number in range(4) for n in range(20)]


def test_36_what_is_counted_is_what_happened(memory, face, store):
    one = memory(face, store)
    hears(one)
    one.stash("key", "value", ANN)
    is_near(one, "key")
    one.reset_stats()
    before = one.get_stats()
    one.retrieve("key", ANN)
    one.retrieve("absent", ANN)
    with pytest.raises(PermissionError):
        one.stash("key", 1, agent("ann", AccessTier.OBSERVER))
    stats, metrics = one.get_stats(), one.get_metrics()
    assert before.near_hits == 0  # a snapshot
    assert (stats.near_hits, stats.misses, stats.hit_rate) == (1, 1, 0.5)
    assert stats.bytes_saved == len(b'"value"')
    assert one.get_local_cache_stats()["hit_rate"] == 50.0
    assert metrics["by_operation"]["stash"]["count"] == 2
    assert metrics["by_operation"]["stash"]["errors"] == 1
    assert metrics["by_operation"]["retrieve"]["count"] >= 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.near_hits = 5


def test_37_threads_meet_no_error_and_every_call_is_counted(memory, shared):
    one = memory("sync", shared, local_cache_size=5)
    rounds = 40

    def work(number):
        who = (ANN, BOB)[number % 2]
        for n in range(rounds):
            key = f"key {n % 7}"
            one.stash(key, n, who)
            assert one.retrieve(key, who) in range(rounds)
            one.retrieve_batch([key, "absent"], who)
            one.scan_keys(who)
            one.clear_local_cache()

    assert in_threads(8, work) == [None] * 8
    counts = {n: figures["count"] for n, figures in one.get_metrics()["by_operation"].items()}
    for name in ("stash", "retrieve", "retrieve_batch", "scan_keys"):
        assert counts[name] == 8 * rounds
    local, stats = one.get_local_cache_stats(), one.get_stats()
    assert local["total_requests"] == 3 * 8 * rounds
    assert local["hits"] == stats.near_hits
    assert one.get_metrics()["operations_failed"] == 0


def test_39_the_local_cache_lives_and_the_server_is_not_asked(memory, face, redis_server):
    one = memory(face, redis_server.url)
    hears(one)
    one.stash_batch({"a": "text", "b": {"list": [1]}}, ANN)
    for key in "ab":
        is_near(one, key)
    redis_server.reset_counts()
    for _ in range(50):
        assert one.retrieve("a", ANN) == "text"
        assert one.retrieve("b", BOB, "ann") == {"list": [1]}
        assert len(one.retrieve_batch(["a", "b"], ANN)) == 2
    counts = redis_server.command_counts()
    assert counts.keys().isdisjoint({"get", "mget"})
    assert counts.get("evalsha", 0) <= 2  # the link's second look at what it had missed


def test_39_without_the_local_cache_every_read_asks(memory, face, redis_server):
    one = memory(face, redis_server.url, local_cache_enabled=False)
    one.stash("a", "text", ANN)
    redis_server.reset_counts()
    for _ in range(5):
        one.retrieve("a", ANN)
    counts = redis_server.command_counts()
    assert counts.get("get", 0) + counts.get("mget", 0) >= 5


def test_40_warming_six_in_a_cache_of_three_is_three(memory, face, shared):
    one = memory(face, shared, local_cache_size=3)
    hears(one)
    one.stash_batch(dict.fromkeys("abcdef", 1), ANN)
    assert one.warm("a b c d e f".split(), ANN) == 3
