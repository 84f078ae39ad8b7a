"""What is measured, and where: one place each, however the cache is asked.

Nothing here asserts how long something took, but for loads and staleness, whose clock is set by
hand.
"""

import os

import pytest

from embedders import Face, M, Model, cache_with_clock, until
from near_fixtures import near_caches, near_with_clock
from nearcache import MemoryStore, Options
from nearcache.engine import meter as metering
from nearcache.testing import ChaosStore, ManualClock

near = pytest.fixture(near_caches)
_HITS, _BATCHES = 64, 4  # of so many one is measured here


@pytest.fixture(autouse=True)
def sooner(monkeypatch):
    monkeypatch.setattr(metering, "_HITS", _HITS)
    monkeypatch.setattr(metering, "_BATCHES", _BATCHES)


def meter(cache):
    return cache.thing._tiers.engine.meter


def counts(cache):
    return {name: one.snapshot().count for name, one in meter(cache).histograms.items()}


# -- near ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["sync", "async"])
def test_one_near_hit_of_many_is_measured(near, face):
    cache = near(face)
    cache.put("key", {"a": 1})
    for _ in range(2 * _HITS):
        cache.get("key")
    assert counts(cache)["near"] == 2
    assert cache.get_stats().near_hits == 2 * _HITS


def test_one_near_hit_of_many_vectors_is_measured(make, face):
    cache = make(face)
    cache.put("text", [1.0, 2.0], M)
    for _ in range(2 * _HITS):
        cache.get("text", M)
    assert counts(cache)["near"] == 2
    assert cache.get_stats().near_hits == 2 * _HITS


def test_one_batch_of_many_is_measured(make, face):
    cache, texts = make(face), [f"text {n}" for n in range(100)]
    cache.put_batch(texts, [[1.0, 2.0]] * 100, M)
    for _ in range(2 * _BATCHES):
        cache.get_batch(texts, M)
    assert counts(cache)["near"] == 2
    assert cache.get_stats().near_hits == 2 * _BATCHES * 100


def test_a_small_batch_is_measured_as_seldom_as_its_texts(make, face):
    cache, texts = make(face), ["a", "b", "c", "d"]
    cache.put_batch(texts, [[1.0, 2.0]] * 4, M)
    for _ in range(2 * _HITS // 4):
        cache.get_batch(texts, M)
    assert counts(cache)["near"] == 2


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_batch_of_values_is_measured_where_all_of_it_is_near(near, face):
    cache = near(face)
    cache.put_batch({"a": 1, "b": 2})
    cache.get_batch(["a", "elsewhere"])
    assert counts(cache)["near"] == 0
    cache.get_batch(["a", "b", "a"])
    assert counts(cache)["near"] == 1
    assert cache.get_batch([]) == []


def test_batches_of_values_alone_are_measured_again_and_again(near):
    cache, many = near(), dict.fromkeys(map(str, range(100)), 1)
    cache.put_batch(many)
    for _ in range(2 * _BATCHES + 1):
        cache.get_batch(list(many))
    assert counts(cache)["near"] in (2, 3)


def test_what_is_not_near_is_no_near_hit(near):
    cache = near()
    assert cache.get("nowhere") is None
    assert cache.get_or_load("key", lambda: 1) == 1
    assert counts(cache)["near"] == 0


def test_a_near_hit_asks_no_store_and_no_loader(near, shared):
    cache = near("sync", shared)
    cache.put("key", 1)
    until(lambda: cache.get("key") and counts(cache)["near"])
    before = counts(cache)
    for _ in range(_HITS):
        cache.get_or_load("key", lambda: pytest.fail("it is near"))
    after = counts(cache)
    assert after["near"] > before["near"]
    assert (after["store"], after["load"]) == (before["store"], before["load"])


# -- store -----------------------------------------------------------------------------------------


def test_every_question_to_the_store_is_measured_once(make, face):
    asked = MemoryStore()
    calls = []
    fetch = asked.fetch
    asked.fetch = lambda *given: calls.append(given) or fetch(*given)
    cache = make(face, asked)
    cache.get("first", M)  # which also reads the log
    before, fetched = counts(cache)["store"], len(calls)
    cache.get("second", M)
    assert counts(cache)["store"] - before == len(calls) - fetched == 1


def test_a_question_without_an_answer_took_its_time_too_and_one_that_is_not_asked_none():
    chaos = ChaosStore(MemoryStore())
    cache = Face(cache_with_clock(ManualClock(), store=chaos))
    cache.get("first", M)
    before = counts(cache)["store"]
    chaos.fail()
    cache.get("second", M)
    asked = counts(cache)["store"]
    assert asked == before + 1
    assert cache.get_stats().breaker != "closed"
    cache.get("third", M)
    assert counts(cache)["store"] == asked
    chaos.calm()
    cache.close()


# -- loads -----------------------------------------------------------------------------------------


def test_a_call_of_the_loader_is_measured_once_however_many_texts_it_was_for(make, face):
    cache, model = make(face), Model()
    cache.wrap(model, M).generate_batch(["a", "b", "c"])
    assert counts(cache)["load"] == len(model.calls) == 1


def test_a_load_takes_what_the_clock_says():
    clock = ManualClock()
    cache = near_with_clock(clock)

    def slow():
        clock.advance(1.5)
        return 1

    cache.get_or_load("key", slow)
    assert meter(cache).load.snapshot().total == 1.5
    assert cache.get_stats().load_seconds == 1.5
    cache.close()


def test_a_load_that_fails_took_its_time_too():
    clock = ManualClock()
    cache = near_with_clock(clock)

    def fails():
        clock.advance(2)
        raise OSError

    with pytest.raises(OSError):
        cache.get_or_load("key", fails)
    assert meter(cache).load.snapshot().total == 2
    assert cache.get_stats().loads == 0
    cache.close()


def test_a_load_that_others_wait_for_is_one(make):
    cache, model = make(), Model()
    cache.wrap(model, M).generate_batch(["a", "a", "a"])
    assert counts(cache)["load"] == 1


# -- the link, and staleness -----------------------------------------------------------------------


def test_every_ping_that_comes_back_is_measured(near, shared):
    cache = near("sync", shared)
    cache.get("key")
    until(lambda: counts(cache)["link"] >= 2)


def test_without_a_store_there_is_no_link(near):
    cache = near()
    cache.get("key")
    assert counts(cache)["link"] == counts(cache)["store"] == 0


def test_a_stale_answer_says_how_long_ago_it_expired():
    clock = ManualClock()
    cache = near_with_clock(clock, ttl=10.0, options=Options(fail_safe=100.0, jitter=0.0))
    cache.get_or_load("key", lambda: 1)
    clock.advance(13)

    def fails():
        raise OSError

    assert cache.get_or_load("key", fails) == 1
    stale = meter(cache).staleness.snapshot()
    assert (stale.count, stale.total) == (1, pytest.approx(3))
    cache.close()


# -- all of it -------------------------------------------------------------------------------------


def test_views_measure_for_themselves(near):
    cache = near()
    cache.thing.view("inner").get_or_load("key", lambda: 1)
    assert counts(cache)["load"] == 0


def test_a_reset_of_the_statistics_is_one_of_these_too(near, shared):
    cache = near("sync", shared)
    cache.get_or_load("key", lambda: 1)
    cache.thing.reset_stats()
    assert counts(cache)["load"] == counts(cache)["store"] == counts(cache)["near"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_measures_from_zero(near):
    cache = near()
    cache.get_or_load("key", lambda: 1)
    pid = os.fork()
    if not pid:
        found = counts(cache)
        os._exit(0 if not any(found.values()) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert counts(cache)["load"] == 1


class Spans:
    """Notes what begins and ends."""

    def __init__(self):
        self.told = []

    def store(self, operation):
        return self.around("store", operation)

    def load(self, label, count):
        return self.around("load", label, count)

    def around(self, *what):
        spans = self

        class Around:
            def __enter__(self):
                spans.told.append(("begin", *what))

            def __exit__(self, kind, *_):
                spans.told.append(("end", *what, kind))

        return Around()


def test_who_wants_spans_hears_of_loads_and_questions(make, face):
    cache, model = make(face, MemoryStore(), namespace="n"), Model()
    spans = meter(cache).spans = Spans()
    cache.wrap(model, M).generate_batch(["a", "b"])
    assert ("begin", "load", M, 2) in spans.told
    assert ("end", "load", M, 2, None) in spans.told
    assert ("begin", "store", "fetch") in spans.told
    assert len(spans.told) % 2 == 0


def test_a_span_ends_with_the_error_of_its_load(near):
    cache = near()
    spans = meter(cache).spans = Spans()

    def fails():
        raise OSError

    with pytest.raises(OSError):
        cache.get_or_load("key", fails)
    assert spans.told[-1][-1] is OSError
