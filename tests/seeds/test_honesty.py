"""Seed defects 36 to 39: the figures are true."""

import dataclasses
import random

import pytest

from embedders import M, Model, in_threads, same, vector, vectors
from nearcache import MemoryStore


def test_36_bytes_saved_counts_what_no_model_had_to_make(make, face, store):
    cache = make(face, store)
    embed = cache.wrap(Model(), M)
    embed(["a", "b"])
    assert cache.get_stats().bytes_saved == 0
    embed(["a", "b", "c"])
    assert cache.get_stats().bytes_saved == 2 * 8 * 4
    assert cache.get_stats().saved_loads == 2


def test_36_stats_are_a_snapshot(make, face):
    cache = make(face)
    before = cache.get_stats()
    cache.get("text", M)
    assert before.misses == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.misses = 1


def test_36_a_hit_rate_stays_a_rate_after_an_error(make, face, store):
    failures = [RuntimeError("provider down")]

    def fail(texts):
        if failures:
            raise failures.pop()

    cache = make(face, store)
    embed = cache.wrap(Model(before=fail), M)
    with pytest.raises(RuntimeError, match="provider down"):
        embed("text")
    embed("text")
    for _ in range(2):
        embed("text")
    assert cache.get_stats().hit_rate == pytest.approx(2 / 4)
    stats = embed.get_stats()
    assert stats["cache_hit_count"] == 2
    assert 0 <= stats["cache_hit_rate"] <= 1


def test_36_every_text_asked_for_is_counted_once(make, face, shared):
    make(face, shared).put_batch(["far1", "far2"], vectors(["far1", "far2"]), M)
    cache = make(face, shared)
    cache.put("near", vector("near"), M)
    cache.wrap(Model(), M)(["near", "near", "far1", "new", "new", "new", "far2", "far2"])
    stats = cache.get_stats()
    assert stats.near_hits == 2
    assert stats.far_hits == 3
    assert stats.misses == stats.loads == 1
    assert stats.coalesced == 2


def test_36_reset_starts_from_nothing(make, face, store):
    cache = make(face, store, max_entries=2)
    embed = cache.wrap(Model(), M)
    embed(["a", "b", "c"])
    embed(["c"])
    cache.reset_stats()
    stats = cache.get_stats()
    assert (stats.hits, stats.misses, stats.loads, stats.evictions) == (0, 0, 0, 0)
    assert stats.entries_near == 2


def test_37_eight_threads_neither_raise_nor_miscount(make, face, store):
    cache, model = make(face, store, max_entries=40), Model()
    embed = cache.wrap(model, M)
    rounds = 10 if face == "async" else 40

    def work(number):
        choice = random.Random(number)
        asked = 0
        for step in range(rounds):
            texts = [f"t{choice.randrange(80)}" for _ in range(10)]
            assert same(embed(texts), vectors(texts))
            asked += 10
            if step % 5 == 0:
                cache.put(texts[0], vector(texts[0]), M)
            if step % 7 == 0:
                cache.invalidate(texts[1], M)
            if step % 9 == 0:
                cache.cleanup_expired()
        return asked

    asked = in_threads(8, work)
    assert asked == [10 * rounds] * 8
    stats = cache.get_stats()
    assert stats.hits + stats.misses + stats.coalesced == sum(asked)
    assert stats.loads == sum(model.times.values())
    cache.admin.check()


def test_39_a_near_hit_asks_the_server_nothing(make, face, redis_server):
    from nearcache import Options

    cache = make(face, redis_server.url, options=Options(link_timeout=3600.0))
    embed = cache.wrap(Model(), M)
    texts = [f"t{n}" for n in range(100)]
    embed(texts)
    redis_server.reset_counts()
    for _ in range(20):
        assert same(embed(texts), vectors(texts))
        assert same(cache.get("t0", M), vector("t0"))
        assert cache.get_batch(texts, M)[1].all()
    assert redis_server.command_counts() == {}


def test_39_a_far_hit_becomes_a_near_one():
    from nearcache import EmbeddingCache

    store = MemoryStore()
    EmbeddingCache(store).put("text", vector("text"), M)
    cache = EmbeddingCache(store)
    cache.get("text", M)
    cache.get("text", M)
    stats = cache.get_stats()
    assert (stats.far_hits, stats.near_hits) == (1, 1)
