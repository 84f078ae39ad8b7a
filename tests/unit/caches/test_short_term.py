"""ShortTermMemory: what is kept is found, and what is known of it is true."""

import copy
import logging
import pickle

import numpy as np
import pytest

from embedders import in_threads, until
from near_fixtures import links
from nearcache import MISSING, Options
from nearcache.caches.agents import TTLStrategy
from nearcache.caches.short_term import ShortTermMemory
from nearcache.errors import ClosedError, CodecError, ConfigError, StoreError
from nearcache.stores.sqlite import SQLiteStore
from nearcache.testing import ManualClock, MemoryStore
from short_term_fixtures import ANN, BOB, hears, is_near, memories, memory_with_clock

memory = pytest.fixture(memories)

VALUES = [0, "", "text", None, True, 1.5, [], {}, {"a": [1, {"b": None}]}, "\ud800", "x" * 100_000]


# -- stash and retrieve ------------------------------------------------------------------------


def test_what_is_stashed_is_retrieved_from_either_tier(memory, face, store):
    one = memory(face, store)
    for value in VALUES:
        assert one.stash("key", value, ANN) is True
        for _ in range(2):
            assert one.retrieve("key", ANN) == value
        one.clear_local_cache()
        assert one.retrieve("key", ANN) == value


def test_what_is_nowhere_is_none(memory, face, store):
    one = memory(face, store)
    assert one.retrieve("key", ANN) is None
    assert one.retrieve_batch(["a", "b"], ANN) == {}
    assert one.retrieve_batch([], ANN) == {}
    assert one.delete("key", ANN) is False
    assert one.clear_working_memory(ANN) == 0


def test_what_is_retrieved_belongs_to_who_retrieved_it(memory, face, store):
    one = memory(face, store)
    given = {"list": [1]}
    one.stash("key", given, ANN)
    given["list"].append(2)
    one.retrieve("key", ANN)["list"].append(3)
    assert one.retrieve("key", ANN) == {"list": [1]}


def test_batches_go_through_the_same_tiers(memory, face, store):
    one = memory(face, store)
    assert one.stash_batch({"a": 1, "b": None}, ANN) == 2
    assert one.stash_batch([("c", 3), ("c", 4)], ANN) == 1
    assert one.stash_batch({}, ANN) == 0
    assert one.retrieve_batch(["c", "x", "b", "a", "c"], ANN) == {"c": 4, "b": None, "a": 1}
    assert list(one.retrieve_batch(["c", "a"], ANN)) == ["c", "a"]
    assert one.retrieve("a", ANN) == 1


def test_both_faces_are_one_memory(memory, shared):
    one = memory("async", shared)
    blocking = one.as_sync()
    blocking.stash("key", "value", ANN)
    assert one.retrieve("key", ANN) == "value"
    assert blocking.get_metrics() == one.get_metrics()
    assert blocking.get_stats().hits == one.get_stats().hits == 1
    assert blocking.as_sync() is blocking
    assert one.thing.as_async() is one.thing
    assert isinstance(blocking, ShortTermMemory)


def test_two_memories_on_one_store_are_one(memory, face, shared):
    one, other = memory(face, shared), memory(face, shared)
    hears(one, other)
    one.stash("key", 1, ANN)
    assert other.retrieve("key", ANN) == 1
    is_near(other, "key")
    one.stash("key", 2, ANN)
    until(lambda: other.retrieve("key", ANN) == 2)
    one.delete("key", ANN)
    until(lambda: other.retrieve("key", ANN) is None)


def test_another_namespace_is_another_memory(memory, face, shared):
    one, other = memory(face, shared), memory(face, shared, namespace="other")
    one.stash("key", 1, ANN)
    assert other.retrieve("key", ANN) is None
    assert other.clear_working_memory(ANN) == 0
    assert other.scan_keys(ANN).items == []
    assert one.retrieve("key", ANN) == 1


def test_deleting_is_of_one_key_and_says_whether_it_was_there(memory, face, store):
    one = memory(face, store)
    one.stash_batch({"a": 1, "b": 2}, ANN)
    assert one.delete("a", ANN) is True
    assert one.delete("a", ANN) is False
    assert one.retrieve_batch(["a", "b"], ANN) == {"b": 2}


def test_clearing_takes_all_of_ones_own_and_counts_it(memory, face, store):
    one = memory(face, store, local_cache_size=10)
    keys = [f"key {n}" for n in range(50)]
    one.stash_batch(dict.fromkeys(keys, 1), ANN)
    one.stash_batch(dict.fromkeys(keys, 2), BOB)
    assert one.clear_working_memory(ANN) == 50
    assert one.retrieve_batch(keys, ANN) == {}
    assert one.retrieve_batch(keys, BOB) == dict.fromkeys(keys, 2)
    assert one.clear_working_memory(ANN) == 0


def test_clearing_reaches_more_than_a_page(memory, face, shared):
    one = memory(face, shared)
    one.stash_batch({f"key {n}": n for n in range(2500)}, ANN)
    one.stash("mine", 1, BOB)
    assert one.clear_working_memory(ANN) == 2500
    assert one.scan_keys(ANN).items == []
    assert one.retrieve("mine", BOB) == 1


# -- lives -------------------------------------------------------------------------------------


def test_a_value_lives_as_long_as_was_said(face):
    clock = ManualClock()
    one = memory_with_clock(clock, MemoryStore(clock=clock), face)
    one.stash("hour", 1, ANN)
    one.stash("session", 1, ANN, TTLStrategy.SESSION)
    one.stash("short", 1, ANN, 0.5)
    one.stash("for ever", 1, ANN, None)
    one.update("hour too", lambda _: 1, ANN)
    one.update("session too", lambda _: 1, ANN, ttl=TTLStrategy.SESSION)
    keys = ["hour", "hour too", "session", "session too", "short", "for ever"]
    for seconds, left in ((0.4, keys), (0.2, 5), (1799, 5), (1, 3), (1800, 1), (1e9, 1)):
        clock.advance(seconds)
        found = one.retrieve_batch(keys, ANN)
        assert len(found) == (left if isinstance(left, int) else len(left))
    assert list(found) == ["for ever"]
    one.close()


def test_an_update_that_names_no_life_leaves_a_value_its_own(face):
    clock = ManualClock()
    one = memory_with_clock(clock, MemoryStore(clock=clock), face)
    one.stash("week", 0, ANN, TTLStrategy.CONFLICT_CONTEXT)
    one.stash("for ever", 0, ANN, None)
    one.stash("session", 0, ANN, TTLStrategy.SESSION)
    for key in ("week", "for ever", "session"):
        assert one.update(key, lambda value: value + 1, ANN) == 1
    clock.advance(1801)
    assert one.retrieve_batch(["week", "for ever", "session"], ANN) == {"week": 1, "for ever": 1}
    clock.advance(604_800)
    assert one.retrieve_batch(["week", "for ever"], ANN) == {"for ever": 1}
    one.close()


def test_a_life_of_nothing_keeps_nothing_nor_what_was_there(memory, face, store):
    one = memory(face, store)
    one.stash("key", 1, ANN)
    assert one.stash("key", 2, ANN, ttl=0) is False
    assert one.retrieve("key", ANN) is None
    assert one.stash_batch({"key": 1}, ANN, ttl=0) == 0
    with pytest.raises(ConfigError, match="ttl"):
        one.update("key", lambda _: 1, ANN, ttl=0)


def test_the_strategies_are_seconds():
    assert {name: int(life) for name, life in TTLStrategy.__members__.items()} == {
        "WORKING_RESULTS": 3600,
        "STAGED_PATTERNS": 86_400,
        "COORDINATION": 300,
        "CONFLICT_CONTEXT": 604_800,
        "SESSION": 1800,
        "STREAM_ENTRY": 604_800,
        "TASK_QUEUE": 14_400,
    }


# -- update ------------------------------------------------------------------------------------


def test_an_update_follows_from_what_is_there(memory, face, store):
    one = memory(face, store)
    assert one.update("key", lambda value: [value], ANN) == [None]
    assert one.update("key", lambda value: [*value, 1], ANN) == [None, 1]
    assert one.retrieve("key", ANN) == [None, 1]


def test_an_update_may_leave_things_as_they_are(memory, face, store):
    one = memory(face, store)
    one.stash("key", 1, ANN)
    assert one.update("key", lambda _: MISSING, ANN) == 1
    assert one.update("absent", lambda _: MISSING, ANN) is None
    assert one.retrieve("key", ANN) == 1


def test_what_an_update_raises_passes_and_changes_nothing(memory, face, store):
    one = memory(face, store)
    one.stash("key", 1, ANN)
    with pytest.raises(ZeroDivisionError):
        one.update("key", lambda value: value / 0, ANN)
    with pytest.raises(CodecError):
        one.update("key", lambda _: {1, 2}, ANN)
    assert one.retrieve("key", ANN) == 1


def test_of_updates_at_once_none_is_lost(memory, face, shared):
    one, other = memory(face, shared), memory(face, shared)

    def work(number):
        for _ in range(10):
            (one, other)[number % 2].update("key", lambda value: (value or 0) + 1, ANN)

    assert in_threads(6, work) == [None] * 6
    assert one.retrieve("key", ANN) == 60 or until(lambda: one.retrieve("key", ANN) == 60)


# -- scan --------------------------------------------------------------------------------------


def scan(one, credentials=ANN, **options):
    """All pages to the end, and each key once."""
    pages, cursor = [], 0
    while True:
        pages.append(one.scan_keys(credentials, cursor=cursor, **options))
        cursor = pages[-1].cursor
        assert pages[-1].has_more == (cursor != 0)
        if not cursor:
            return pages, sorted({key for page in pages for key in page.items})


def test_keys_come_in_pages(memory, face, store):
    one = memory(face, store)
    keys = sorted(f"key {n}" for n in range(250))
    one.stash_batch(dict.fromkeys(keys, 1), ANN)
    pages, found = scan(one, count=20)
    assert found == keys
    assert len(pages) > 5
    assert all(len(page.items) < 60 for page in pages)
    assert sum(page.total_scanned for page in pages) >= 250
    assert scan(one, count=10_000)[1] == keys


@pytest.mark.parametrize(
    "pattern, matching",
    [
        ("*", ["a", "a1", "a2", "b1", "a*", "a[1]", "A1", "a\n1"]),
        ("a?", ["a1", "a2", "a*"]),
        ("a[12]", ["a1", "a2"]),
        ("a[!1]", ["a2", "a*"]),
        ("a[[]1]", ["a[1]"]),
        ("a[*]", ["a*"]),
        ("*1", ["a1", "b1", "A1", "a\n1"]),
        ("a", ["a"]),
        ("a[1]", ["a1"]),
        ("x*", []),
    ],
)
def test_a_pattern_is_a_glob_on_the_key(memory, face, shared, pattern, matching):
    one = memory(face, shared)
    one.stash_batch(dict.fromkeys(["a", "a1", "a2", "b1", "a*", "a[1]", "A1", "a\n1"], 1), ANN)
    assert scan(one, pattern=pattern)[1] == sorted(matching)


def test_a_scan_finds_neither_what_was_deleted_nor_what_has_expired(face):
    clock = ManualClock()
    one = memory_with_clock(clock, MemoryStore(clock=clock), face)
    one.stash_batch({"a": 1, "b": 1}, ANN)
    one.stash("c", 1, ANN, ttl=1)
    one.delete("a", ANN)
    clock.advance(2)
    assert one.scan_keys(ANN).items == ["b"]
    one.close()


@pytest.mark.parametrize("bad", [{"count": 0}, {"cursor": -1}, {"cursor": 2**64}, {"cursor": "0"}])
def test_a_page_is_asked_for_by_numbers(memory, face, bad):
    with pytest.raises(ConfigError):
        memory(face).scan_keys(ANN, **bad)


# -- the local cache ---------------------------------------------------------------------------


def test_the_local_cache_says_what_it_did(memory, face, store):
    one = memory(face, store, local_cache_size=3)
    hears(one)
    nothing = {"hits": 0, "misses": 0, "hit_rate": 0.0, "total_requests": 0}
    assert one.get_local_cache_stats() == {"enabled": True, "size": 0, "max_size": 3, **nothing}
    one.stash("a", 1, ANN)
    is_near(one, "a")
    one.reset_stats()
    for _ in range(3):
        one.retrieve("a", ANN)
    one.retrieve_batch(["a", "x"], ANN)
    one.retrieve("x", ANN)
    assert one.get_local_cache_stats() == {
        "enabled": True,
        "size": 1,
        "max_size": 3,
        "hits": 4,
        "misses": 2,
        "hit_rate": pytest.approx(66.67, abs=0.01),
        "total_requests": 6,
    }


@pytest.mark.parametrize("off", [{"local_cache_enabled": False}, {"local_cache_size": 0}])
def test_the_local_cache_can_be_switched_off(memory, face, store, off):
    one = memory(face, store, **off)
    one.stash("a", 1, ANN)
    assert one.retrieve("a", ANN) == 1
    assert one.warm(["a"], ANN) == 0
    stats = one.get_local_cache_stats()
    assert (stats["enabled"], stats["max_size"], stats["total_requests"]) == (False, 0, 0)
    assert one.get_stats().far_hits >= 1


def test_clearing_the_local_cache_loses_nothing(memory, face, store):
    one = memory(face, store)
    hears(one)
    one.stash_batch({"a": 1, "b": 2}, ANN)
    for key in "ab":
        is_near(one, key)
    assert one.clear_local_cache() == 2
    assert one.get_local_cache_stats()["size"] == 0
    assert one.clear_local_cache() == 0
    assert one.retrieve_batch(["a", "b"], ANN) == {"a": 1, "b": 2}


def test_warming_says_how_many_really_are_near(memory, face, shared):
    memory(face, shared).stash_batch(dict.fromkeys("abcdef", 1), ANN)
    one = memory(face, shared, local_cache_size=3)
    hears(one)
    assert one.warm(list("abcdefx"), ANN) == 3
    assert one.get_local_cache_stats()["size"] == 3
    assert one.warm([], ANN) == 0


def test_what_leaves_near_does_not_leave_the_store(memory, face, store):
    one = memory(face, store, local_cache_size=2)
    hears(one)
    for key, value in {"a": 1, "b": 2, "c": 3}.items():
        one.stash(key, value, ANN)
        is_near(one, key)
        assert one.get_local_cache_stats()["size"] <= 2
    assert one.retrieve_batch(["a", "b", "c"], ANN) == {"a": 1, "b": 2, "c": 3}


# -- metrics -----------------------------------------------------------------------------------


def test_metrics_count_what_happened(memory, face, store):
    one = memory(face, store)
    one.stash("a", 1, ANN)
    one.stash_batch({"b": 1}, ANN)
    for _ in range(3):
        one.retrieve("a", ANN)
    one.retrieve_batch(["a"], ANN)
    one.update("a", lambda _: 2, ANN)
    one.scan_keys(ANN)
    one.warm(["a"], ANN)
    one.delete("a", ANN)
    one.clear_working_memory(ANN)
    one.ping()
    with pytest.raises(ConfigError):
        one.stash("", 1, ANN)
    metrics = one.get_metrics()
    counts = {name: figures["count"] for name, figures in metrics["by_operation"].items()}
    assert counts == {
        "stash": 2,
        "stash_batch": 1,
        "retrieve": 3,
        "retrieve_batch": 1,
        "update": 1,
        "delete": 1,
        "clear_working_memory": 1,
        "scan_keys": 1,
        "warm": 1,
        "ping": 1,
    }
    assert (metrics["operations_total"], metrics["operations_failed"]) == (13, 1)
    assert metrics["by_operation"]["stash"]["errors"] == 1
    for figures in metrics["by_operation"].values():
        assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["max_ms"]
        assert 0 < figures["mean_ms"] <= figures["max_ms"]
    one.reset_metrics()
    figures = one.get_metrics()["by_operation"]["stash"]
    assert figures == dict.fromkeys(figures, 0)


def test_metrics_are_a_snapshot(memory, face):
    one = memory(face)
    before = one.get_metrics()
    one.stash("a", 1, ANN)
    assert before["operations_total"] == 0


# -- a memory, and where it keeps things -------------------------------------------------------


def test_a_memory_without_a_store_evicts_nothing(memory, face):
    one = memory(face, local_cache_size=10)
    one.stash_batch({str(n): "x" * 1000 for n in range(2000)}, ANN)
    assert len(one.retrieve_batch([str(n) for n in range(2000)], ANN)) == 2000


def test_memories_without_a_store_share_nothing(memory, face):
    one, other = memory(face), memory(face)
    one.stash("key", 1, ANN)
    assert other.retrieve("key", ANN) is None


def test_a_file_evicts_nothing_unless_its_url_says_so(memory, face, tmp_path):
    def budget(one):
        return one._parts.tiers.engine.store._max_bytes

    url = f"sqlite:///{tmp_path}/max_bytes.db"
    assert budget(memory(face, url)) is None
    assert budget(memory(face, f"{url}?max_bytes=2MB")) == 2_000_000
    assert budget(memory(face, SQLiteStore(tmp_path / "a.db", max_bytes=2**20))) == 2**20


def test_what_a_file_has_is_there_the_next_time(memory, face, tmp_path):
    url = f"sqlite:///{tmp_path}/stm.db"
    one = memory(face, url)
    one.stash("key", {"a": 1}, ANN, ttl=None)
    one.close()
    assert memory(face, url).retrieve("key", ANN) == {"a": 1}


@pytest.mark.parametrize(
    "arguments, warned",
    [
        ((), False),
        (("--maxmemory", "50mb"), False),
        (("--maxmemory-policy", "allkeys-lru"), False),
        (("--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru"), True),
    ],
)
def test_a_server_that_evicts_is_named_in_the_log_once(
    memory, face, own_server, caplog, arguments, warned
):
    one = memory(face, own_server("valkey-9.1", *arguments).url)
    with caplog.at_level(logging.WARNING, "nearcache"):
        one.stash("a", 1, ANN)
        one.stash("b", 1, ANN)
        until(lambda: one._parts.looked)
    lines = [line for line in caplog.messages if "noeviction" in line]
    assert len(lines) == warned


def test_a_memory_answers_whether_its_store_does(memory, face, store):
    assert memory(face, store).ping() is True


def test_a_server_that_is_down_does_not_answer(memory, face, own_server):
    server = own_server()
    one = memory(face, server.url)
    assert one.ping() is True
    server.kill()
    assert one.ping() is False
    server.restart()
    assert until(one.ping)


def test_a_closed_memory_refuses(memory, face, shared):
    one = memory(face, shared)
    one.stash("key", 1, ANN)
    one.close()
    one.close()
    for use in (
        lambda: one.stash("key", 1, ANN),
        lambda: one.retrieve("key", ANN),
        lambda: one.retrieve_batch(["key"], ANN),
        lambda: one.update("key", lambda _: 1, ANN),
        lambda: one.delete("key", ANN),
        lambda: one.clear_working_memory(ANN),
        lambda: one.scan_keys(ANN),
        one.clear_local_cache,
        one.ping,
    ):
        with pytest.raises(ClosedError):
            use()
    assert not links()


def test_a_memory_says_where_it_keeps_things_and_no_password(memory, face, own_server):
    server = own_server(password="hush")
    one = memory(face, server.url)
    one.stash("key", 1, ANN)
    assert "hush" not in repr(one.thing)
    assert str(server.port) in repr(one.thing)
    assert "stm" in repr(one.thing)


def test_a_memory_travels_by_its_url(memory, face, tmp_path):
    one = memory(face, f"sqlite:///{tmp_path}/stm.db", local_cache_size=7)
    one.stash("key", 1, ANN)
    for again in (pickle.loads(pickle.dumps(one.thing)), copy.copy(one.thing)):
        assert type(again) is type(one.thing)
        assert again.get_local_cache_stats()["max_size"] == 7
        assert again.as_sync().retrieve("key", ANN) == 1
        again.as_sync().close()
    with pytest.raises(TypeError, match="URL"):
        pickle.dumps(memory(face).thing)


def test_a_with_closes(tmp_path):
    with ShortTermMemory(f"sqlite:///{tmp_path}/stm.db") as one:
        one.stash("key", 1, ANN)
    with pytest.raises(ClosedError):
        one.retrieve("key", ANN)


# -- bad input ---------------------------------------------------------------------------------

BAD_KEYS = ["", None, 1, b"key", ("a",), ["a"], "x" * 70_000]

USES = {
    "stash": lambda one, key: one.stash(key, 2, ANN),
    "stash_batch": lambda one, key: one.stash_batch([("new", 2), (key, 2)], ANN),
    "retrieve": lambda one, key: one.retrieve(key, ANN),
    "retrieve_batch": lambda one, key: one.retrieve_batch(["a", key], ANN),
    "update": lambda one, key: one.update(key, lambda _: 2, ANN),
    "delete": lambda one, key: one.delete(key, ANN),
    "warm": lambda one, key: one.warm(["a", key], ANN),
    "of an agent": lambda one, key: one.retrieve("a", ANN, agent_id=key),
    "scan of an agent": lambda one, key: one.scan_keys(ANN, agent_id=key),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_no_key_is_refused_before_any_effect(memory, face, use):
    one = memory(face)
    one.stash("a", 1, ANN)
    for key in BAD_KEYS:
        if key is None and use in (USES["of an agent"], USES["scan of an agent"]):
            continue
        with pytest.raises(ConfigError):
            use(one, key)
    assert one.scan_keys(ANN).items == ["a"]
    assert one.retrieve("a", ANN) == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda one: one.stash("a", 2, ANN, ttl=-1),
        lambda one: one.stash("a", 2, ANN, ttl="1"),
        lambda one: one.stash_batch({"a": 2}, ANN, ttl=float("nan")),
        lambda one: one.stash_batch("ab", ANN),
        lambda one: one.stash_batch(None, ANN),
        lambda one: one.stash_batch([("a", 2), ("b",)], ANN),
        lambda one: one.stash_batch([("a", 2), ("b", 2, 3)], ANN),
        lambda one: one.update("a", 2, ANN),
        lambda one: one.stash("a", 2, "ann"),
        lambda one: one.retrieve("a", None),
        lambda one: one.retrieve_batch("ab", ANN),
        lambda one: one.retrieve_batch(1, ANN),
        lambda one: one.warm("ab", ANN),
        lambda one: one.scan_keys(ANN, pattern=""),
        lambda one: one.scan_keys(ANN, pattern=None),
        lambda one: one.scan_keys(ANN, pattern="x" * 70_000),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_effect(memory, face, use):
    one = memory(face)
    one.stash("a", 1, ANN)
    with pytest.raises(ConfigError):
        use(one)
    assert one.retrieve("a", ANN) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"local_cache_size": -1},
        {"local_cache_size": 1.5},
        {"local_cache_enabled": "yes"},
        {"namespace": ""},
        {"options": None},
        {"store": "nowhere"},
        {"store": 5},
    ],
)
def test_a_wrong_option_is_refused(memory, face, bad):
    with pytest.raises(ConfigError):
        memory(face, **bad)


@pytest.mark.parametrize(
    "data", [{1: 2}, b"bytes", {1, 2}, object(), np.zeros(3), {"a": np.ones(2)}]
)
def test_what_json_cannot_keep_is_an_error_and_changes_nothing(memory, face, store, data):
    one = memory(face, store)
    one.stash("key", 1, ANN)
    with pytest.raises(CodecError, match="json"):
        one.stash("key", data, ANN)
    with pytest.raises(CodecError):
        one.stash_batch({"other": 1, "key": data}, ANN)
    assert one.retrieve_batch(["key", "other"], ANN) == {"key": 1}


def test_the_stores_of_options_raise_whatever_the_options_say(memory, face, own_server):
    server = own_server()
    one = memory(face, server.url, options=Options(on_store_error="degrade"))
    server.kill()
    with pytest.raises(StoreError):
        one.retrieve("key", ANN)
