"""The reporter: who is told of and when; nobody ever waits for it, or hears of its failures."""

import asyncio
import gc
import json
import threading
from fractions import Fraction

import numpy as np
import pytest

from embedders import until
from nearcache import (
    AsyncNearCache,
    ConfigError,
    EmbeddingCache,
    HotMemoryCache,
    MemoryKey,
    NearCache,
    Options,
    RetrievalCache,
    ShortTermMemory,
)
from nearcache.engine import reporting
from nearcache.engine.snapshot import Identity
from nearcache.errors import StoreError, StoreUnavailable
from nearcache.keys import DIRECTORY, board_of
from nearcache.metrics.report import read
from nearcache.testing import MemoryStore

SOON = Options(report=0.05)


class Shared(MemoryStore):
    """A store that others could see, as far as its address says."""

    address = "shared://"

    def __init__(self):
        super().__init__()
        self.spoken = []
        self.error = None
        self.hears = lambda board: None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def report(self, board, name, value, seconds):
        self.spoken.append((board, name, value, seconds))
        self.may_go_on.wait(10.0)
        if self.error is not None:
            raise self.error
        self.hears(board)
        super().report(board, name, value, seconds)


@pytest.fixture
def store():
    return Shared()


def thread():
    return next((t for t in threading.enumerate() if t.name == "nearcache-report"), None)


@pytest.fixture(autouse=True)
def nobody_speaks():
    """The thread of the test before has ended, and so has ours."""
    gc.collect()
    reporting._reporter.look_around()
    until(lambda: thread() is None)
    yield
    gc.collect()
    reporting._reporter.look_around()
    until(lambda: thread() is None)


def test_it_begins_with_the_first_use_and_ends_with_the_last_cache(store):
    with NearCache(store, namespace="a", options=SOON) as one:
        with NearCache(store, namespace="b", options=SOON) as two:
            assert thread() is None
            one.get("k")
            two.get("k")
            until(lambda: len(read(store).caches) == 2)
            assert thread().daemon
        assert [cache.namespace for cache in read(store).caches] == ["a"]
        assert thread() is not None
    assert read(store).workers == ()
    until(lambda: thread() is None)


@pytest.mark.drops_caches
def test_a_cache_that_is_dropped_is_spoken_of_no_more(store):
    NearCache(store, namespace="a", options=SOON).get("k")
    until(lambda: store.spoken)
    gc.collect()
    until(lambda: thread() is None)


def _scarce(store):
    store.reportable = False
    return store


@pytest.mark.parametrize(
    "make",
    [
        lambda store: NearCache(store, namespace="a", options=Options(report=0)),
        lambda store: NearCache(_scarce(store), namespace="a", options=SOON),
        lambda _: NearCache(MemoryStore(), namespace="a", options=SOON),
        lambda _: NearCache(namespace="a", options=SOON),
    ],
    ids=["reports are off", "connections are scarce", "a store of this process only", "no store"],
)
def test_where_nobody_is_told_there_is_no_thread(store, make):
    with make(store) as cache:
        cache.get_or_load("k", lambda: 1)
        assert thread() is None
    assert store.spoken == []


def test_the_environment_says_how_often_where_the_program_does_not(monkeypatch):
    monkeypatch.setenv("NEARCACHE_REPORT", "7")
    assert Options().report == 7.0
    assert Options(report=1.0).report == 1.0
    for nothing in ("", "soon", "-1", "inf", "nan"):
        monkeypatch.setenv("NEARCACHE_REPORT", nothing)
        assert Options().report == 5.0
    for wrong in (-1, "5", None, float("nan")):
        with pytest.raises(ConfigError):
            Options(report=wrong)


def test_a_snapshot_lives_three_times_as_long_as_the_next_takes_and_five_seconds(store):
    with NearCache(store, namespace="a", options=SOON) as cache:
        cache.get("k")
        until(lambda: len(store.spoken) > 2)
    boards = {board: seconds for board, _, value, seconds in store.spoken if seconds}
    assert boards[board_of("a")] == pytest.approx(5.15)
    assert boards[DIRECTORY] >= 5.15
    assert sum(board == DIRECTORY for board, *_ in store.spoken) == 1
    assert store.spoken[-1][2:] == (b"", 0.0)


def test_views_are_part_of_their_cache_and_share_its_near_tier(store):
    with NearCache(store, namespace="a", options=SOON) as cache:
        cache.get_or_load("k", lambda: 1)
        view = cache.view("one").view("two")
        view.get_or_load("k", lambda: 1)
        view.get("k")
        until(lambda: [(c.stats.loads, c.stats.hits) for c in read(store).caches] == [(2, 1)])
        (found,) = read(store).caches
        assert found.views == 1
        assert found.stats.entries_near == cache.get_stats().entries_near


def test_a_view_alone_is_its_cache(store):
    with NearCache(store, namespace="a", options=SOON) as cache:
        view = cache.view("one")
        view.get("k")
        until(lambda: view.link == "tracking")
        view.put("k", 1)
        until(lambda: [c.stats.entries_near for c in read(store).caches] == [1])


def test_every_kind_of_cache_is_told_of_by_its_name(store):
    options = {"store": store, "namespace": "a", "options": SOON}
    with (
        EmbeddingCache(**options) as vectors,
        NearCache(**options) as values,
        HotMemoryCache(**options) as hot,
        RetrievalCache(**options) as retrieval,
        ShortTermMemory(**options) as memory,
    ):
        vectors.get("text", "m")
        values.get("k")
        hot.put(MemoryKey("fact", "x"), 1)
        hot.get(MemoryKey("fact", "x"))
        retrieval.get("query")
        memory.get_stats()
        kinds = {"EmbeddingCache", "NearCache", "HotMemoryCache", "RetrievalCache"}
        until(lambda: {cache.kind for cache in read(store).caches} >= kinds)
        (found,) = [cache for cache in read(store).caches if cache.kind == "HotMemoryCache"]
        assert found.hottest == (('["fact", "x"]', 1),)
        assert len(read(store).workers) == 1


@pytest.fixture
def posted(store):
    """What is said of a cache, spoken by the test instead of the thread; and its engine."""
    with NearCache(store, namespace="a", options=Options(report=1000.0)) as cache:
        cache.get("k")
        engine = cache._twin._tiers.engine
        yield reporting._Post(store, "a", "me", 0.0), engine


def test_a_store_that_refuses_is_asked_less_and_less_and_the_caller_hears_nothing(
    store, posted, caplog
):
    caplog.set_level("INFO", logger="nearcache")
    store.error = StoreError("no permission")
    post, engine = posted
    pauses = []
    for _ in range(12):
        post.due = 0.0
        post.speak([engine], Identity(), 5.0)
        pauses.append(post.due)
    assert pauses[:6] == [0.0, 5.0, 15.0, 35.0, 60.0, 60.0]
    assert caplog.text.count("no permission") == 1
    stats = engine.stats()
    assert (stats.store_errors, stats.breaker) == (0, "closed")


def test_a_blip_costs_one_report(store, posted):
    post, engine = posted
    store.error = StoreUnavailable("no connection")
    store.error.is_over = True
    post.speak([engine], Identity(), 5.0)
    store.error = None
    assert post.due == 0.0
    post.speak([engine], Identity(), 5.0)
    assert len(read(store).workers) == 1


def test_callers_find_out_when_it_answers_again_and_then_it_is_told(store, posted, monkeypatch):
    post, engine = posted
    store.error = StoreUnavailable("no connection")
    for _ in range(5):
        post.speak([engine], Identity(), 5.0)
    post.due = 0.0
    with monkeypatch.context() as callers:
        callers.setattr(type(engine.sharing.access), "state", "open")
        post.speak([engine], Identity(), 5.0)
    post.speak([engine], Identity(), 5.0)
    assert post.due == 0.0  # as if it had failed for the first time


def test_who_may_not_write_the_directory_is_told_of_where_the_namespace_is_named(store, posted):
    post, engine = posted

    def refuse(board):
        if board == DIRECTORY:
            raise StoreError("no permission")

    store.hears = refuse
    for _ in range(5):
        post.speak([engine], Identity(), 5.0)
    assert post.due == 0.0
    assert read(store).workers == ()
    assert len(read(store, "a").workers) == 1
    boards = [board for board, *_ in store.spoken]
    assert (boards.count(DIRECTORY), boards.count(board_of("a"))) == (2, 5)


def test_near_hits_alone_are_a_use(store):
    with (
        NearCache(store, namespace="a", options=SOON) as values,
        EmbeddingCache(store, namespace="b", options=SOON) as vectors,
    ):
        values.get_or_load("k", lambda: 1)
        vectors.put("text", [1.0], "m")
        engines = reporting.told_of()
        assert len(engines) == 2
        for engine in engines:  # as a forked child is
            engine.hits.start_anew()
            engine.used = False
        assert reporting.told_of() == []
        values.get("k")
        vectors.get("text", "m")
        assert {engine.namespace for engine in reporting.told_of()} == {"a", "b"}


def test_a_store_that_is_silent_is_asked_again_in_time(store):
    store.error = StoreUnavailable("gone")
    with NearCache(store, namespace="a", options=SOON) as cache:
        cache.get("k")
        until(lambda: len(store.spoken) > 2)
        store.error = None
        until(lambda: read(store).workers)
        assert cache.get_stats().store_errors == 0


def test_a_store_that_callers_leave_alone_is_not_told(store, monkeypatch):
    with NearCache(store, namespace="a", options=SOON) as cache:
        cache.get("k")
        until(lambda: store.spoken)
        engine = cache._twin._tiers.engine
        post = reporting._reporter.post_of(engine)
        monkeypatch.setattr(type(engine.sharing.access), "state", "open")
        post.let_finish()
        store.spoken.clear()
        post.speak([engine], Identity(), 0.05)
        assert store.spoken == []
    assert store.spoken == []


def test_whatever_else_fails_is_said_in_the_log_and_nowhere_else(store, caplog):
    store.error = ZeroDivisionError("a bug")
    with NearCache(store, namespace="a", options=SOON) as cache:
        cache.get("k")
        until(lambda: "reporting statistics failed" in caplog.text)
        store.error = None
        assert cache.get_or_load("k", lambda: 1) == 1


@pytest.mark.parametrize("number", [np.float32(0.05), Fraction(1, 20)], ids=["numpy", "fraction"])
def test_any_number_will_do(store, number):
    with NearCache(store, namespace="a", ttl=number * 600, options=Options(report=number)) as cache:
        cache.get("k")
        until(lambda: len([each for each in store.spoken if each[0] == board_of("a")]) > 1)
        assert [found.ttl for found in read(store).caches] == [pytest.approx(30)]


def test_a_cache_that_cannot_speak_silences_no_other(store, monkeypatch, caplog):
    with (
        NearCache(store, namespace="a", options=SOON) as mute,
        RetrievalCache(store, namespace="a", options=SOON) as found,
        NearCache(store, namespace="b", options=SOON) as other,
    ):
        monkeypatch.setattr(mute._twin._tiers.engine, "stats", lambda: 1 // 0)
        for cache in (mute, found, other):
            cache.get("k")
        until(lambda: len(read(store).caches) == 2)
        kinds = {(cache.namespace, cache.kind) for cache in read(store).caches}
        assert kinds == {("a", "RetrievalCache"), ("b", "NearCache")}
        monkeypatch.undo()
    assert caplog.text.count("reporting statistics failed: ZeroDivisionError") == 1


def test_a_store_that_breaks_silences_no_other(store):
    other = Shared()
    other.error = ZeroDivisionError("a bug")
    with (
        NearCache(other, namespace="a", options=SOON) as one,
        NearCache(store, namespace="a", options=SOON) as two,
    ):
        one.get("k")
        two.get("k")
        until(lambda: other.spoken)
        until(lambda: len(read(store).caches) == 1)


def test_where_thousands_are_to_be_told_of_it_is_done_less_often():
    reporter = reporting._Reporter()
    with NearCache(Shared(), namespace="a", options=Options(report=5.0)) as cache:
        engines = [cache._twin._tiers.engine]
        for cost, every in ((0.0, 5.0), (0.019, 5.0), (0.3, 30.0)):
            reporter._cost = cost
            assert reporter._every(engines) == every


def test_nobody_waits_for_a_report(store):
    with NearCache(store, namespace="a", options=SOON) as cache:
        cache.get("k")
        store.may_go_on.clear()
        spoken = len(store.spoken)
        until(lambda: len(store.spoken) > spoken)
        assert cache.get_or_load("k2", lambda: 1) == 1
        cache.invalidate("k2")
        store.may_go_on.set()


def test_two_event_loops_have_one_reporter(store):
    async def use(cache):
        await cache.get_or_load("k", lambda: 1)

    cache = AsyncNearCache(store, namespace="a", options=SOON)
    for _ in range(2):
        asyncio.run(use(cache))
    until(lambda: read(store).workers)
    assert len(read(store).workers) == 1
    assert sum(t.name == "nearcache-report" for t in threading.enumerate()) == 1
    asyncio.run(cache.close())
    assert read(store).workers == ()


def test_what_happened_is_kept_by_the_minute_and_a_reset_does_not_count_backwards(store):
    with NearCache(store, namespace="a", options=SOON) as cache:
        cache.get_or_load("k", lambda: 1)
        until(lambda: [m.misses for c in read(store).caches for m in c.minutes] == [1])
        cache.reset_stats()
        cache.get("k")
        until(lambda: sum(m.hits for c in read(store).caches for m in c.minutes) == 1)
        (found,) = read(store).caches
        assert found.stats.misses == 0
        assert sum(minute.misses for minute in found.minutes) == 1


def test_a_snapshot_is_json_of_a_few_kilobytes(store):
    with NearCache(store, namespace="a", options=SOON) as cache:
        for n in range(2000):
            cache.get_or_load(f"k{n % 300}", lambda: 1)
        until(lambda: store.spoken)
    value = store.spoken[0][2]
    assert json.loads(value)["format"] == 1
    assert len(value) < 8000
