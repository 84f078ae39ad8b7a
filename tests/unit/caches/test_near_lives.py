"""NearCache: lives, budgets, views, warm, clear, counts, events, printing, pickling."""

import copy
import math
import pickle
import threading

import pytest

from embedders import in_threads, until
from near_fixtures import SPACE, Source, begun, linked, near_caches, near_with_clock, settled
from nearcache import AsyncNearCache, MemoryStore, NearCache, Options
from nearcache.engine.io import BlockingIO, run
from nearcache.errors import ClosedError, ConfigError
from nearcache.testing import ManualClock

near = pytest.fixture(near_caches)


# -- lives -----------------------------------------------------------------------------------------


def inspected(cache, key):
    """What near knows of a key once it is there, verified: a link that begins drops copies."""
    found = {}

    def is_there():
        cache.get(key)
        found.update(cache.admin.inspect(key) or {"verified_ago": math.inf})
        return found["verified_ago"] < 5

    until(is_there)
    return found


def test_an_entry_ends_after_its_ttl_and_not_before(face):
    clock = ManualClock()
    cache = near_with_clock(clock, face=face, ttl=100.0)
    cache.put("default", 1)
    cache.put("short", 2, ttl=10.0)
    cache.put("for ever", 3, ttl=None)
    cache.get_or_load("loaded", lambda: 4, ttl=50.0)
    clock.advance(9.9)
    assert cache.get_batch(["default", "short", "for ever", "loaded"]) == [1, 2, 3, 4]
    clock.advance(0.2)
    assert cache.get_batch(["default", "short", "for ever", "loaded"]) == [1, None, 3, 4]
    clock.advance(40)
    assert cache.get_batch(["default", "for ever", "loaded"]) == [1, 3, None]
    clock.advance(1e9)
    assert cache.get_batch(["default", "for ever"]) == [None, 3]
    cache.close()


def test_what_comes_from_the_store_has_the_life_that_is_left_and_no_fresh_one(near, face):
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    one, two = (near_with_clock(clock, store, face) for _ in range(2))
    one.put("key", 1, ttl=100.0)
    clock.advance(60)
    assert two.get("key") == 1
    assert inspected(two, "key")["seconds_left"] == pytest.approx(40, abs=2)
    one.put("ever", 1, ttl=None)
    assert two.get("ever") == 1
    assert inspected(two, "ever")["seconds_left"] is None
    clock.advance(41)
    for cache in (one, two, near(face, store)):
        assert cache.get("key") is None
        assert cache.get("ever") == 1
    one.close()
    two.close()


def test_a_ttl_of_nothing_stores_nothing_and_leaves_no_older_value(near, face, shared):
    one, two = near(face, shared), near(face, shared)
    one.put("key", "old")
    assert two.get("key") == "old"
    one.put("key", "new", ttl=0)
    assert one.get("key") is None
    assert two.get("key", max_staleness=0) is None
    until(lambda: two.get("key") is None)
    assert one.get_or_load("key", lambda: "loaded", ttl=0) == "loaded"
    assert one.get("key") is None
    assert two.get("key", max_staleness=0) is None
    one.put("key", "kept")
    assert two.get("key", max_staleness=0) == "kept"


def test_a_longer_ttl_than_anybody_can_count_is_none(near, face, store):
    cache = near(face, store)
    cache.put("key", 1, ttl=1e18)
    cache.put("inf", 1, ttl=float("inf"))
    assert cache.get_batch(["key", "inf"]) == [1, 1]
    assert inspected(cache, "key")["seconds_left"] is None


def test_a_very_short_ttl_is_over_soon_in_both_tiers(near, face, store):
    cache = near(face, store)
    cache.put("key", 1, ttl=0.001)
    until(lambda: cache.get("key") is None)
    assert cache.get("key", max_staleness=0) is None


@pytest.mark.parametrize("ttl", [-1, -0.001, float("nan"), "5", True, [], 1j])
def test_a_bad_ttl_is_refused_before_any_effect(near, face, ttl):
    cache = near(face, "memory://")
    cache.put("key", 1)
    with pytest.raises(ConfigError, match="ttl"):
        cache.put("key", 2, ttl=ttl)
    with pytest.raises(ConfigError, match="ttl"):
        cache.get_or_load("other", lambda: 1 / 0, ttl=ttl)
    with pytest.raises(ConfigError, match="ttl"):
        near(face, ttl=ttl)
    assert cache.get("key") == 1


def test_cleaning_up_drops_what_has_expired(near, face):
    clock = ManualClock()
    cache = near_with_clock(clock, face=face)
    cache.put_batch({f"k{n}": n for n in range(10)}, ttl=5.0)
    cache.put("more", 1, ttl=50.0)
    clock.advance(6)
    assert cache.cleanup_expired() == 10
    assert cache.size == 1
    assert cache.get_stats().expirations == 10
    cache.close()


# -- budgets ---------------------------------------------------------------------------------------


def test_no_entries_means_no_near_tier(near, face, shared):
    cache = near(face, shared, max_entries=0)
    cache.put("key", 1)
    assert cache.get_or_load("loaded", lambda: 2) == 2
    assert (cache.get("key"), cache.get("loaded")) == (1, 2)
    assert cache.size == cache.max_size == 0
    assert cache.get_stats().near_hits == 0
    assert cache.get_stats().far_hits == 2


def test_neither_tier_keeps_nothing_and_answers_all_the_same(near, face):
    cache, source = near(face, max_entries=0), Source()
    cache.put("key", 1)
    assert cache.get("key") is None
    assert [cache.get_or_load("key", source) for _ in range(3)] == ["key@1"] * 3


def test_no_more_entries_than_allowed(near, face, shared):
    cache = begun(near, face, shared, max_entries=10, policy="lru")
    cache.put_batch({f"k{n}": n for n in range(100)})
    assert cache.size == cache.max_size == 10
    assert cache.get_batch([f"k{n}" for n in range(100)]) == list(range(100))
    assert cache.size <= 10
    assert cache.get_stats().evictions > 0


def test_max_bytes_counts_keys_and_values(near, face):
    cache = near(face, max_bytes=100_000)
    for n in range(200):
        cache.put(f"k{n}", "x" * 1000)
    assert 20 < cache.size < 100
    assert cache.get_stats().bytes_near <= 100_000
    cache.put("too large", "x" * 200_000)
    assert cache.get("too large") is None
    wide = near(face, max_bytes=100_000)
    wide.put_batch({"k" * 10_000 + str(n): 1 for n in range(50)})
    assert wide.size < 10


def test_a_value_too_large_for_near_is_served_from_the_store(near, face, shared):
    cache = near(face, shared, max_bytes=10_000)
    cache.put("key", "x")
    cache.put("key", "y" * 50_000)
    assert cache.get("key") == "y" * 50_000
    assert cache.size == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"max_entries": -1},
        {"max_entries": 1.5},
        {"max_bytes": -1},
        {"max_bytes": "1GB"},
        {"policy": "mru"},
        {"namespace": ""},
        {"namespace": 5},
        {"ttl": 0},
        {"options": {}},
        {"store": "nowhere://"},
        {"store": 5},
    ],
)
def test_a_bad_argument_is_refused_when_the_cache_is_made(face, bad):
    cls = {"sync": NearCache, "async": AsyncNearCache}[face]
    with pytest.raises(ConfigError):
        cls(**{"namespace": SPACE, **bad})


def test_resizing_evicts_at_once(near, face):
    cache = near(face)
    cache.put_batch({f"k{n}": n for n in range(100)})
    cache.admin.resize(max_entries=5)
    assert cache.size == cache.max_size == 5
    with pytest.raises(ConfigError):
        cache.admin.resize(max_entries=-1)
    cache.admin.resize(max_entries=50, max_bytes=0)
    assert cache.size == 0


# -- views -----------------------------------------------------------------------------------------


def test_a_view_holds_its_own_keys_in_the_same_near_tier(near, face, store):
    cache = near(face, store)
    one, two, inner = cache.view("one"), cache.view("two"), cache.view("one").view("two")
    for n, each in enumerate((cache, one, two, inner)):
        each.put("key", n)
        each.put(("one", "key"), n + 10)
    for n, each in enumerate((cache, one, two, inner)):
        assert each.get("key") == n
        assert each.get("key", max_staleness=0) == n
        assert each.get(("one", "key")) == n + 10

    def are_near():  # the echo of a write may drop its copy, until it is read again
        for each in (cache, one, two, inner):
            each.get_batch(["key", ("one", "key")])
        counts = [len(each.admin.entries()) for each in (cache, one, two, inner)]
        return counts == [2, 2, 2, 2] and cache.size == 8

    until(are_near)
    assert sorted(map(str, one.admin.entries())) == ["('one', 'key')", "key"]
    one.invalidate("key")
    assert [each.get("key") for each in (cache, one, two, inner)] == [0, None, 2, 3]
    two.clear()
    assert [each.get("key") for each in (cache, one, two, inner)] == [0, None, None, 3]
    assert cache.view("one").get(("one", "key")) == 11


def test_the_link_of_a_cache_with_views_tracks(near, face, shared):
    cache = near(face, shared)
    one, inner = cache.view("one"), cache.view("one").view("two")
    other = near(face, shared)
    for each in (inner, cache, one):
        each.put("key", 1)
        linked(each)
    for mine, theirs in (
        (cache, other),
        (one, other.view("one")),
        (inner, other.view("one").view("two")),
    ):
        settled(mine, "key")
        theirs.put("key", 2)
        until(lambda mine=mine: mine.get("key") == 2)
    assert {each.link for each in (cache, one, inner)} == {"tracking"}


def test_a_view_alone_hears_of_changes(near, face, shared):
    view, other = near(face, shared).view("alone"), near(face, shared).view("alone")
    other.put("key", 1)
    settled(view, "key")
    other.put("key", 2)
    until(lambda: view.get("key") == 2)
    assert view.link == "tracking"


@pytest.mark.parametrize("name", ["", None, 5, "x" * 300])
def test_a_view_needs_a_name(near, face, name):
    with pytest.raises(ConfigError):
        near(face).view(name)


def test_namespaces_and_views_of_odd_names_never_meet(near, face, shared):
    names = ["a", "a/b", "a%2Fb", "a:b", "a}", "{a", "A", "ä"]
    caches = [near(face, shared, namespace=name) for name in names]
    caches += [cache.view(name) for cache in caches[:3] for name in names[:4]]
    for n, cache in enumerate(caches):
        cache.put("key", n)
    assert [cache.get("key", max_staleness=0) for cache in caches] == list(range(len(caches)))


# -- warm, clear, contains -------------------------------------------------------------------------


def test_warm_keeps_pairs_and_says_how_many(near, face, store):
    cache = near(face, store, options=Options(max_batch=7))
    assert cache.warm((f"k{n}", n) for n in range(50)) == 50
    assert cache.warm({"more": 1}) == 1
    assert cache.warm([]) == 0
    assert cache.get_batch([f"k{n}" for n in range(50)]) == list(range(50))


def test_clear_counts_what_was_near(near, face, store):
    cache = begun(near, face, store)
    cache.put_batch({f"k{n}": n for n in range(10)})
    until(lambda: cache.get_batch([f"k{n}" for n in range(10)]) and cache.size == 10)
    assert cache.clear() in (9, 10)  # one may just be looked at again
    assert cache.size == 0
    assert cache.get_batch([f"k{n}" for n in range(10)]) == [None] * 10
    assert cache.clear() == 0
    cache.put("key", 1)
    assert cache.get("key") == 1


def test_clear_forgets_what_only_the_store_has(near, face, shared):
    one, two = near(face, shared), near(face, shared)
    one.put("key", 1)
    assert two.clear() == 0
    assert one.get("key", max_staleness=0) is None
    until(lambda: one.get("key") is None)


def test_invalidate_says_whether_any_tier_had_it(near, face, store):
    cache = near(face, store)
    assert cache.invalidate("key") is False
    cache.put("key", 1)
    assert cache.invalidate("key") is True
    assert cache.invalidate("key") is False
    cache.put_batch({"a": 1, "b": 2})
    assert cache.invalidate_batch(["a", "b", "a", "c"]) == 2
    assert cache.invalidate_batch([]) == 0


def test_contains_asks_both_tiers(near, face, shared):
    one, two = near(face, shared), near(face, shared)
    assert not two.contains("key")
    one.put("key", 0)
    assert one.contains("key")
    until(lambda: two.contains("key"))


def test_the_first_value_of_a_namespace_is_kept_near(near, face, shared):
    """What this process creates in the store to begin with is no reason to ask for long."""
    for tags in ([], ["tag"]):
        one, two = (near(face, shared, namespace=f"{word}{len(tags)}") for word in ("load", "put"))
        one.get_or_load("key", lambda: 1, tags=tags)
        two.put("key", 1, tags=tags)
        for cache in (one, two):
            until(
                lambda cache=cache: cache.get("key") == 1 and cache.get_stats().near_hits,
                Options().link_timeout,
            )
            until(lambda cache=cache: cache.link == "tracking")
            hits = cache.get_stats().near_hits
            until(
                lambda cache=cache, hits=hits: (
                    cache.get("key") == 1 and cache.get_stats().near_hits > hits + 10
                ),
                1.0,
            )
            assert cache.get_stats().loads <= 1


# -- counting and telling --------------------------------------------------------------------------


def test_every_key_asked_for_is_counted_once(near, face, shared):
    near(face, shared).put_batch({"a": 1, "b": 2})
    cache, source = begun(near, face, shared), Source()
    settled(cache, "a")
    settled(cache, "b")
    cache.reset_stats()
    cache.get("a")
    cache.get("absent")
    cache.get_batch(["a", "b", "absent", "a"])
    cache.get_or_load("new", source.of("sync", "new"))
    cache.get_or_load_batch(["a", "x", "y", "x"], source.many)
    cache.get("a", max_staleness=0)
    stats = cache.get_stats()
    assert stats.near_hits == 4
    assert stats.far_hits == 1
    assert stats.misses == 5
    assert stats.coalesced == 0
    assert stats.loads == 3
    assert stats.hit_rate == 0.5
    cache.reset_stats()
    assert cache.get_stats().hits == cache.get_stats().misses == cache.get_stats().loads == 0


def test_counts_are_exact_under_threads(near, store):
    cache, source = near("sync", store), Source()
    each = 60

    def work(number):
        for n in range(each):
            cache.get_or_load(f"k{n % 20}", source.of("sync", f"k{n % 20}"))

    assert in_threads(8, work) == [None] * 8
    stats = cache.get_stats()
    assert stats.hits + stats.misses + stats.coalesced == 8 * each
    assert stats.loads == stats.misses == 20
    assert sum(source.calls.values()) == 20
    assert stats.saved_loads == 8 * each - 20


def test_a_failed_load_is_counted_as_one(near, face, store):
    cache = near(face, store)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_load("key", lambda: 1 / 0)
    stats = cache.get_stats()
    assert (stats.load_failures, stats.loads, stats.misses) == (1, 0, 1)


def test_bytes_saved_are_those_of_the_values(near, face):
    cache = near(face, codec="bytes")
    cache.put("key", b"x" * 1000)
    cache.get("key")
    cache.get_batch(["key"])
    assert cache.get_stats().bytes_saved == 2000


def test_subscribers_hear_what_happens_and_may_raise(near, face, store, caplog):
    cache = near(face, store, max_entries=2, policy="lru")
    heard = []

    def listen(name, subject, detail):
        heard.append(name)
        raise ValueError("never felt")

    stop = cache.subscribe(listen)
    cache.put_batch({"a": 1, "b": 2})
    cache.get("b")
    cache.get("absent")
    cache.get_or_load("c", lambda: 3)
    cache.invalidate("c")
    cache.invalidate_by_tag("tag")
    for name in ("hit", "miss", "load", "invalidate"):
        assert name in heard, name
    assert "never felt" in caplog.text
    if store is not None:
        until(lambda: "link" in heard)
    stop()
    heard.clear()
    cache.get("absent")
    assert "miss" not in heard


def test_a_subscriber_may_use_the_cache(near, face, store):
    cache = near(face, store)
    blocking = cache.thing.as_sync()
    cache.subscribe(lambda name, *_: blocking.get("a") if name != "store_error" else None)
    cache.put("a", 1)
    cache.get_or_load("b", lambda: 2)
    cache.invalidate("a")
    linked(cache)
    assert cache.get("b") == 2


def test_inspect_says_what_near_knows(near, face, store):
    cache = begun(near, face, store)
    assert cache.admin.inspect("key") is None
    cache.put(("a", b"\xff"), "value", ttl=50.0)
    settled(cache, ("a", b"\xff"))
    found = inspected(cache, ("a", b"\xff"))
    if store is None:
        assert found["servable"] is True
    assert 45 < found["seconds_left"] <= 50
    assert found["value_bytes"] == len('"value"')
    assert found["bytes"] > found["value_bytes"]
    assert 0 <= found["verified_ago"] < 5
    hits = cache.get_stats().near_hits
    cache.admin.inspect(("a", b"\xff"))
    assert cache.get_stats().near_hits == hits
    cache.admin.check()
    cache.admin.miss_ratio_curve()


# -- printing, pickling, closing -------------------------------------------------------------------


def test_repr_shows_where_and_no_password(face):
    cls = {"sync": NearCache, "async": AsyncNearCache}[face]
    cache = cls("redis://user:secret@example.com:1/0?password=hidden", namespace=SPACE)
    assert "secret" not in repr(cache)
    assert "hidden" not in repr(cache)
    assert "example.com" in repr(cache)
    assert SPACE in repr(cache)


@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy"])
def test_a_cache_travels_as_its_url_and_options(near, face, one_server, way):
    options = Options(link_timeout=1.5, lease=3.0)
    cache = near(
        face, one_server.url, namespace="travels", ttl=50.0, codec="msgpack", options=options
    )
    cache.put("key", b"value")
    cache.view("inner").put("key", b"inner")
    send = {
        "pickle": lambda one: pickle.loads(pickle.dumps(one)),
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
    }[way]
    other, view = send(cache.thing).as_sync(), send(cache.thing.view("inner")).as_sync()
    try:
        assert type(send(cache.thing)) is type(cache.thing)
        assert other.get("key") == b"value"
        assert view.get("key") == b"inner"
        assert other.options == options
    finally:
        other.close()
        run(view._tiers.engine.close(BlockingIO()))
        view._tiers.engine.store.close()


def test_what_cannot_travel_is_a_type_error(near, face):
    with pytest.raises(TypeError):
        pickle.dumps(near(face, MemoryStore()).thing)


def test_closing_twice_and_using_what_is_closed(near, face, store):
    cache = near(face, store)
    cache.put("key", 1)
    cache.close()
    cache.close()
    for use in (
        lambda: cache.get("key"),
        lambda: cache.get_batch(["key"]),
        lambda: cache.get_batch([]),
        lambda: cache.contains("key"),
        lambda: cache.put("key", 1),
        lambda: cache.put_batch({}),
        lambda: cache.warm({}),
        lambda: cache.get_or_load("key", lambda: 1),
        lambda: cache.invalidate("key"),
        lambda: cache.invalidate_by_tag("tag"),
        lambda: cache.clear(),
        lambda: cache.cleanup_expired(),
    ):
        with pytest.raises(ClosedError):
            use()
    assert cache.get_stats().near_hits == 0
    assert cache.link in ("closed", "none")
    assert "near" in repr(cache.thing)


def test_the_other_face_and_the_views_close_with_the_cache(near, face, store):
    cache = near(face, store)
    view = cache.view("inner")
    view.put("key", 1)
    view.close()  # lives as long as its cache
    assert view.get("key") == 1
    cache.close()
    with pytest.raises(ClosedError):
        view.get("key")
    with pytest.raises(ClosedError):
        cache.thing.as_sync().get("key")


def test_a_store_object_outlives_its_caches(near, face):
    store = MemoryStore()
    one, two = near(face, store), near(face, store)
    one.put("key", 1)
    one.close()
    assert two.get("key") == 1
    linked(two)
    three = near(face, store)
    three.put("key", 2)
    until(lambda: two.get("key") == 2)


def test_making_a_cache_does_no_io(face):
    cls = {"sync": NearCache, "async": AsyncNearCache}[face]
    before = set(threading.enumerate())
    cache = cls("redis://127.0.0.1:1/0", namespace=SPACE)
    assert set(threading.enumerate()) <= before
    assert cache.link == "closed"
