"""NearCache.update: the next value follows from the present one, and no update is lost."""

import threading
import time
from contextlib import contextmanager

import pytest

from embedders import in_threads, until
from near_fixtures import SPACE, begun, linked, near_caches, near_with_clock
from nearcache import MISSING, AsyncNearCache, MemoryStore, Options
from nearcache.caches.values import ValueTiers
from nearcache.errors import (
    CodecError,
    ConfigError,
    CorruptEntry,
    StoreError,
    StoreReadOnly,
    StoreUnavailable,
)
from nearcache.testing import ChaosStore, ManualClock

near = pytest.fixture(near_caches)


def one_more(value):
    return (value or 0) + 1


def test_an_update_follows_from_what_is_there_and_from_nothing(near, face, store):
    cache = near(face, store)
    assert cache.update("key", one_more) == 1
    assert cache.update("key", one_more) == 2
    assert cache.get("key") == cache.get("key", max_staleness=0) == 2
    cache.put("list", ["a"])
    assert cache.update("list", lambda value: [*value, "b"]) == ["a", "b"]
    cache.update("none", lambda _: None)
    assert cache.get("none", MISSING) is None


def test_missing_leaves_things_as_they_are(near, face, store):
    cache = near(face, store)
    assert cache.update("key", lambda _: MISSING) is None
    assert not cache.contains("key")
    cache.put("key", 1)
    assert cache.update("key", lambda _: MISSING) == 1
    assert cache.get("key") == 1


def test_what_the_caller_gets_is_its_own(near, face, store):
    cache = near(face, store)
    cache.update("key", lambda _: ["kept"]).append("mine")
    cache.update("key", lambda value: value.append("half done") or MISSING)
    assert cache.get("key") == ["kept"]


def test_what_change_raises_passes_and_nothing_is_written(near, face, store):
    cache = near(face, store)
    cache.put("key", 1)
    with pytest.raises(ZeroDivisionError):
        cache.update("key", lambda value: value / 0)
    with pytest.raises(CodecError):
        cache.update("key", lambda _: object())
    assert cache.get("key", max_staleness=0) == 1


def test_it_refuses_to_store_nothing(near, face, store):
    cache = near(face, store)
    with pytest.raises(ConfigError, match="ttl=0"):
        cache.update("key", one_more, ttl=0)
    with pytest.raises(ConfigError):
        cache.update("", one_more)


def test_many_at_once_are_all_made(near, shared):
    one, two = near("sync", shared), near("async", shared)
    linked(one, two)
    caches = [one, two, one, two]

    def work(number):
        for _ in range(25):
            caches[number].update("key", one_more)

    assert in_threads(4, work) == [None] * 4
    assert one.get("key", max_staleness=0) == two.get("key", max_staleness=0) == 100


def test_many_at_once_are_all_made_without_a_store(near):
    cache = near("sync")
    in_threads(4, lambda _: [cache.update("key", one_more) for _ in range(250)])
    assert cache.get("key") == 1000


@pytest.mark.parametrize("before", [None, 10])
def test_who_was_overtaken_follows_from_the_other_value(near, face, shared, before):
    mine, other = begun(near, face, shared), near("sync", shared)
    if before is not None:
        other.put("key", before)
    seen = []

    def change(value):
        if not seen:
            other.put("key", 100)
        seen.append(value)
        return (value or 0) + 1

    assert mine.update("key", change) == 101
    assert seen == [before, 100]
    assert other.get("key", max_staleness=0) == 101


def test_what_was_forgotten_meanwhile_is_not_brought_back(near, face, shared):
    mine, other = begun(near, face, shared), near("sync", shared)
    for forget in (
        lambda: other.invalidate("key"),
        lambda: other.invalidate_by_tag("tag"),
        other.clear,
    ):
        mine.put("key", 10, tags=["tag"])
        seen = []

        def change(value, forget=forget, seen=seen):
            if not seen:
                forget()
            seen.append(value)
            return (value or 0) + 1

        assert mine.update("key", change) == 1
        assert seen == [10, None]


def test_without_a_store_what_was_forgotten_meanwhile_is_not_brought_back(near, face):
    cache = near(face)
    cache.put("key", 10, tags=["tag"])
    seen = []

    def change(value):
        if not seen:
            cache.invalidate_by_tag("tag") if face == "sync" else cache.as_sync().invalidate_by_tag(
                "tag"
            )
        seen.append(value)
        return (value or 0) + 1

    assert cache.update("key", change) == 1
    assert seen == [10, None]


def test_a_value_keeps_its_tags(near, face, store):
    cache = near(face, store)
    cache.put("key", 1, tags=["tag"])
    cache.update("key", one_more, tags=["another"])
    cache.update("new", one_more, tags=["another"])
    cache.invalidate_by_tag("another")
    assert cache.get_batch(["key", "new"]) == [2, None]
    cache.invalidate_by_tag("tag")
    assert cache.get("key") is None
    assert cache.update("key", one_more) == 1


@pytest.mark.parametrize("sliding", [False, True])
def test_a_value_keeps_its_end_unless_told_otherwise(face, sliding):
    clock = ManualClock()
    for store in (None, MemoryStore(clock=clock)):
        options = Options(link_timeout=1e6, sliding=sliding)
        cache = near_with_clock(clock, store, face, options=options)
        cache.put("key", 1, ttl=10.0)
        cache.put("for ever", 1, ttl=None)
        clock.advance(9)
        assert cache.update("key", one_more) == 2
        assert cache.update("new", one_more, ttl=5.0) == 1
        assert cache.update("for ever", one_more) == 2
        clock.advance(2)
        assert cache.get("key") == (2 if sliding else None)
        assert cache.get("new") == 1
        clock.advance(500)
        assert cache.get_batch(["key", "new"], max_staleness=0) == [None, None]
        assert cache.get("for ever") == 2
        cache.close()


def test_change_may_be_asynchronous_under_the_asynchronous_face(near, store):
    async def change(value):
        return one_more(value)

    cache = near("async", store)
    assert cache.update("key", change) == 1
    with pytest.raises(ConfigError, match="as_async"):
        near("sync", store).update("key", change)


def test_an_update_that_the_store_does_not_take_is_an_error(near, face):
    store = ChaosStore(MemoryStore())
    cache = near(face, store)
    cache.put("key", 1)
    store.fail(1.0, methods=["look"])
    with pytest.raises(StoreUnavailable):
        cache.update("key", one_more)
    store.calm()


@pytest.mark.parametrize("method", ["commit_and_look", "epochs", "expect"])
def test_an_update_that_failed_on_its_way_is_an_error(near, face, method):
    store = ChaosStore(MemoryStore())
    cache = near(face, store)
    store.fail(1.0, methods=[method])
    with pytest.raises(StoreError):
        cache.update("key", one_more, tags=["tag"])


# -- a system of record ------------------------------------------------------------------------


def record(store, face="sync"):
    arguments = {
        "store": store,
        "namespace": SPACE,
        "codec": "json",
        "type": None,
        "max_entries": 100,
        "max_bytes": None,
        "ttl": 300.0,
        "policy": "lru",
        "options": Options(on_store_error="raise"),
        "record": True,
    }
    tiers = ValueTiers(arguments)
    cache = AsyncNearCache._face(tiers, tiers.async_io)
    return cache.as_sync() if face == "sync" else cache


def test_a_record_survives_a_write_that_failed():
    store = ChaosStore(MemoryStore())
    cache, other = record(store), record(store)
    cache.put("key", "kept")
    assert other.get("key") == "kept"
    store.fail(1.0, methods=["put", "commit_and_look", "commit"])
    with pytest.raises(StoreError):
        cache.put("key", "lost")
    with pytest.raises(StoreError):
        cache.update("key", lambda _: "lost")
    store.calm()
    for one in (cache, other):
        assert one.get("key", max_staleness=0) == "kept"
        assert one.get_stats().undelivered == 0
        one.close()


def test_a_record_that_could_not_be_deleted_is_there():
    store = ChaosStore(MemoryStore())
    cache = record(store)
    cache.put("key", "kept")
    store.fail(1.0, methods=["revoke"])
    with pytest.raises(StoreError):
        cache.invalidate("key")
    store.calm()
    assert cache.get("key", max_staleness=0) == "kept"
    cache.close()


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_record_is_an_error_and_stays(damage):
    store = MemoryStore()
    cache = record(store)
    cache.put("key", "kept")
    cache.close()
    cache = record(store)
    edit = {"flip": lambda data: data[:-1] + bytes([data[-1] ^ 1]), "cut": lambda data: data[:40]}
    store.edit(lambda key, value: edit[damage](value) if b":k:" in key else value)
    for ask in (
        lambda: cache.get("key"),
        lambda: cache.get_batch(["key"]),
        lambda: cache.update("key", lambda _: "new"),
    ):
        with pytest.raises(CorruptEntry):
            ask()
    assert len(store) == 1
    cache.put("key", "written anew")
    assert cache.get("key") == "written anew"
    cache.close()


# -- what updates must not do to others -----------------------------------------------------------


def test_an_update_that_changes_nothing_holds_no_load_up(near, face, shared):
    cache = begun(near, face, shared)
    assert cache.update("key", lambda _: MISSING) is None
    with pytest.raises(ZeroDivisionError):
        cache.update("key", lambda _: 1 / 0)
    with in_time():
        assert cache.get_or_load("key", lambda: "loaded") == "loaded"


@contextmanager
def in_time():
    """Fail where somebody waits for a lease, of which there is none."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < Options().lease / 2


def test_change_may_take_longer_than_a_lease(near, face, shared):
    cache, calls = near(face, shared, options=Options(lease=0.1)), []

    def slow(value):
        calls.append(value)
        assert not threading.Event().wait(0.25)  # longer than the lease
        return one_more(value)

    assert cache.update("key", slow) == 1
    assert calls == [None]


@pytest.mark.parametrize("method", ["look", "commit_and_look"])
def test_an_update_that_failed_deletes_nothing(near, face, method):
    store = ChaosStore(MemoryStore())
    cache = begun(near, face, store)
    cache.put("key", 5, tags=["tag"])
    store.fail(1.0, methods=[method])
    with pytest.raises(StoreError):
        cache.update("key", one_more)
    store.calm()
    assert cache.get_stats().undelivered == 0
    assert near("sync", store).get("key", max_staleness=0) == 5


def test_the_tags_of_a_value_that_takes_the_place_of_an_absence_hold(near, face, store):
    cache = near(face, store, options=Options(negative_ttl=50.0))
    cache.get_or_load("key", lambda: MISSING, tags=["absent"])
    assert cache.update("key", one_more, tags=["tag"]) == 1
    cache.invalidate_by_tag("absent")
    assert cache.get("key") == 1
    cache.invalidate_by_tag("tag")
    assert cache.get("key") is None


def test_a_tag_that_is_forgotten_while_a_first_value_is_made_does_not_forget_it(near, face, store):
    cache = near(face, store)
    sync = cache.as_sync() if face == "async" else cache

    def change(value):
        sync.invalidate_by_tag("tag")
        return one_more(value)

    assert cache.update("key", change, tags=["tag"]) == 1
    assert cache.get("key") == 1


def test_a_value_that_ends_while_change_runs_is_not_followed_from(face):
    for store, grace in ((None, 0.0), (None, 50.0), ("memory", 0.0), ("memory", 50.0)):
        clock = ManualClock()
        there = MemoryStore(clock=clock) if store else None
        options = Options(link_timeout=1e6, fail_safe=grace)
        cache, seen = near_with_clock(clock, there, face, options=options), []
        cache.put("key", 1, ttl=10.0)

        def change(value, clock=clock, seen=seen):
            seen.append(value)
            clock.advance(11)
            return one_more(value)

        assert cache.update("key", change) == 1
        assert seen[0] == 1
        assert set(seen[1:]) == {None}
        assert cache.get("key") == 1
        cache.close()


def test_an_update_is_refused_while_a_forgetting_waits(near, face):
    store = ChaosStore(MemoryStore())
    cache = begun(near, face, store)
    cache.put("key", 1)
    store.fail(1.0, StoreReadOnly, methods=["revoke"])
    cache.invalidate("key")
    with pytest.raises(StoreUnavailable):
        cache.update("key", one_more)
    store.calm()
    until(lambda: cache.get_stats().undelivered == 0)
    assert cache.update("key", one_more) == 1


def test_a_record_s_group_that_could_not_be_forgotten_is_not_forgotten_later():
    store = ChaosStore(MemoryStore())
    cache = record(store)
    cache.put("key", "kept", tags=["tag"])
    store.fail(1.0, methods=["bump"])
    for forget in (lambda: cache.invalidate_by_tag("tag"), cache.clear):
        with pytest.raises(StoreError):
            forget()
    store.calm()
    assert cache.get_stats().undelivered == 0
    assert cache.get("key", max_staleness=0) == "kept"
    cache.close()


def test_only_one_of_two_takes_a_record_away(shared):
    one, two = record(shared), record(shared)
    for cache in (one, two):
        linked(cache)
    for number in range(20):
        key = f"task {number}"
        one.put(key, "take me")
        assert two.get(key) == "take me"
        assert [one.invalidate(key), two.invalidate(key)] == [True, False]
    one.close()
    two.close()


def test_a_delete_that_is_executed_late_deletes_no_later_record():
    inner = MemoryStore()
    chaos = ChaosStore(inner)
    one, two = record(chaos), record(inner)
    one.put("key", "first")
    chaos.late(methods=["revoke"])
    with pytest.raises(StoreError):
        one.invalidate("key")
    chaos.calm()
    two.put("key", "second")
    assert chaos.deliver() == 1
    assert two.get("key", max_staleness=0) == "second"
    assert one.invalidate("key")
    assert two.get("key", max_staleness=0) is None
    one.close()
    two.close()
