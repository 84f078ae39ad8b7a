"""RetrievalCache: a list lives as long as nothing came or changed that it depends on."""

import copy
import pickle

import pytest

from embedders import until
from near_fixtures import near_with_clock
from nearcache import MISSING, AsyncNearCache, CodecError, ConfigError, MemoryStore, Options
from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.retrieval import RetrievalCache
from nearcache.caches.retrieval_async import AsyncRetrievalCache
from nearcache.errors import ClosedError, StoreUnavailable
from nearcache.testing import ChaosStore, ManualClock
from retrieval_fixtures import hears, near_hit, retrieval_caches

retrieval = pytest.fixture(retrieval_caches)

M1 = MemoryKey("episodic", "m1", "ada")


def filled(cache):
    """Lists of two scopes and of none; return how to see which are left."""
    lists = {
        ("ada: one", "ada"): ["m1"],
        ("ada: two", "ada"): ["m2", "m3"],
        ("bob: one", "bob"): ["m4"],
        ("bob: shared", "bob"): ["m1", "m5"],
        ("all: one", None): ["m1", "m4"],
        ("all: none", None): [],
    }
    for (query, scope), ids in lists.items():
        cache.put(query, [query, *ids], memory_ids=ids, scope=scope)

    def left():
        near = {query for query, scope in lists if cache.get(query, scope) is not None}
        far = {q for q, scope in lists if cache.get(q, scope, max_staleness=0) is not None}
        assert near == far
        return near

    everything = {query for query, _ in lists}
    assert left() == everything
    return lambda: everything - left()


# -- what is kept ----------------------------------------------------------------------------------


def test_a_list_is_found_again_until_somebody_says_why_not(retrieval, face, store):
    cache = retrieval(face, store)
    assert cache.get("q") is None
    assert cache.get("q", default=MISSING) is MISSING
    cache.put("q", [{"id": "m1", "score": 0.5}], memory_ids=["m1"])
    assert cache.get("q") == [{"id": "m1", "score": 0.5}]
    assert cache.get("q", "ada") is None
    assert cache.get("q", max_staleness=0) == [{"id": "m1", "score": 0.5}]
    cache.put("q", [], memory_ids=[])
    assert cache.get("q") == []  # nothing was found: an answer like any other
    stats = cache.get_stats()
    assert (stats.hits, stats.misses, stats.hit_rate) == (3, 3, 0.5)
    cache.reset_stats()
    assert cache.get_stats().misses == 0


def test_nobody_can_change_what_another_caller_gets(retrieval, face, store):
    cache = retrieval(face, store)
    given = [{"id": "m1"}]
    cache.put("q", given, memory_ids=["m1"])
    given[0]["id"] = "changed"
    cache.get("q").append("changed")
    cache.get("q")[0]["id"] = "changed"
    assert cache.get("q") == [{"id": "m1"}]
    loaded = cache.get_or_load("p", lambda: ([[1]], ["m1"]))
    loaded[0].append("changed")
    assert cache.get("p") == cache.get_or_load("p", lambda: 1 / 0) == [[1]]


def test_a_list_lives_as_long_as_it_was_given(face):
    clock = ManualClock()
    near = near_with_clock(clock, ttl=10.0).thing
    cache = RetrievalCache._face(near)
    cache.put("short", [1], memory_ids=[], ttl=0.5)
    cache.put("usual", [2], memory_ids=[])
    cache.put("ever", [3], memory_ids=[], ttl=None)
    cache.put("never", [4], memory_ids=[], ttl=0)
    cache.get_or_load("loaded", lambda: ([5], []), ttl=0.5)
    queries = ["short", "usual", "ever", "never", "loaded"]
    assert [cache.get(query) for query in queries] == [[1], [2], [3], None, [5]]
    clock.advance(0.6)
    assert [cache.get(query) for query in queries] == [None, [2], [3], None, None]
    clock.advance(10.0)
    assert [cache.get(query) for query in queries] == [None, None, [3], None, None]
    assert cache.cleanup_expired() <= 3
    assert cache.size == 1


# -- the two honesty rules -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m1", M1, MemoryKey("semantic", "m1"), MemoryKey("x", "m1", "y")])
def test_a_changed_memory_drops_every_list_that_holds_it_and_no_other(retrieval, face, store, name):
    cache = retrieval(face, store)
    dropped = filled(cache)
    cache.memory_changed(name)
    assert dropped() == {"ada: one", "bob: shared", "all: one"}


def test_a_list_that_names_keys_is_found_by_id_and_by_key(retrieval, face, store):
    cache = retrieval(face, store)
    for drop in (
        lambda: cache.memory_changed("m1"),
        lambda: cache.invalidate_by_memory("m1"),
        lambda: cache.invalidate_by_memory(M1),
        lambda: cache.memory_changed(MemoryKey("episodic", "m1")),
    ):
        cache.put("q", [1], memory_ids=[M1, "m2"], scope="ada")
        cache.put("r", [2], memory_ids=(key for key in ["m2"]), scope="ada")
        drop()
        assert (cache.get("q", "ada"), cache.get("r", "ada")) == (None, [2])


def test_a_new_memory_drops_the_lists_of_its_scope_and_those_that_looked_everywhere(
    retrieval, face, store
):
    cache = retrieval(face, store)
    dropped = filled(cache)
    cache.memory_added(MemoryKey("episodic", "m9", "ada"))
    assert dropped() == {"ada: one", "ada: two", "all: one", "all: none"}


@pytest.mark.parametrize("name", ["m9", MemoryKey("episodic", "m9")])
def test_a_new_memory_of_no_known_scope_may_match_anywhere(retrieval, face, store, name):
    cache = retrieval(face, store)
    dropped = filled(cache)
    cache.memory_added(name)
    assert len(dropped()) == 6


def test_a_scope_is_forgotten_alone(retrieval, face, store):
    cache = retrieval(face, store)
    dropped = filled(cache)
    cache.invalidate_by_scope("ada")
    assert dropped() == {"ada: one", "ada: two"}
    cache.invalidate_by_scope(None)
    assert dropped() == {"ada: one", "ada: two", "all: one", "all: none"}
    cache.clear()
    assert len(dropped()) == 6
    assert cache.clear() == 0


def test_a_list_put_after_the_change_lives(retrieval, face, store):
    cache = retrieval(face, store)
    for version in range(3):
        cache.put("q", [version], memory_ids=["m1"], scope="ada")
        assert cache.get("q", "ada") == cache.get("q", "ada", max_staleness=0) == [version]
        cache.memory_changed("m1")
        assert cache.get("q", "ada") is None
        cache.put("q", [version], memory_ids=["m1"], scope="ada")
        cache.memory_added(M1)
        assert cache.get("q", "ada") is None


def test_odd_ids_and_scopes_reach_nobody_else(retrieval, face, store):
    names = ["m", "m:", "m:m1", "s:a", "n:", "*", "m*", "[m]", "a\nb", "\x00", "🙂", "x" * 10_000]
    cache = retrieval(face, store)
    for name in names:
        cache.put(f"of {name}", [name], memory_ids=[name], scope=name)
    for number, name in enumerate(names):
        cache.memory_changed(name) if number % 2 else cache.invalidate_by_scope(name)
        left = [other for other in names if cache.get(f"of {other}", other) is not None]
        assert left == names[number + 1 :]


def test_changes_reach_other_caches(retrieval, face, shared):
    one, two = retrieval(face, shared), retrieval(face, shared)
    dropped = filled(one)
    hears(one, two)
    near_hit(two, "ada: one", "ada")
    near_hit(two, "ada: two", "ada")
    one.memory_changed("m1")
    until(lambda: two.get("ada: one", "ada") is None)
    assert two.get("ada: two", "ada") == ["ada: two", "m2", "m3"]
    one.memory_added(M1)
    until(lambda: two.get("ada: two", "ada") is None)
    assert two.get("bob: one", "bob") == ["bob: one", "m4"]
    one.clear()
    until(lambda: two.get("bob: one", "bob") is None)
    assert len(dropped()) == 6


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["m1", b"m1", None, 5, [5], [""], [None], [("a", "b")], ["m", 1]])
def test_bad_ids_are_refused_before_any_effect(retrieval, face, store, ids):
    cache = retrieval(face, store)
    cache.put("q", [1], memory_ids=["m1"])
    with pytest.raises(ConfigError, match="memory"):
        cache.put("q", [2], memory_ids=ids)
    assert cache.get("q") == cache.get("q", max_staleness=0) == [1]


@pytest.mark.parametrize("key", ["", None, 5, b"m1", ("episodic", "m1"), ["m1"]])
def test_only_a_memory_can_change(retrieval, face, key):
    cache = retrieval(face)
    cache.put("q", [1], memory_ids=["m1"])
    for use in (cache.memory_changed, cache.memory_added, cache.invalidate_by_memory):
        with pytest.raises(ConfigError, match="MemoryKey"):
            use(key)
    assert cache.get("q") == [1]


def test_what_cannot_be_written_leaves_what_was_there(retrieval, face, store):
    cache = retrieval(face, store)
    cache.put("q", [1], memory_ids=["m1"])
    with pytest.raises(CodecError):
        cache.put("q", [object()], memory_ids=["m1"])
    with pytest.raises(ConfigError, match="ttl"):
        cache.put("q", [2], memory_ids=["m1"], ttl=-1)
    assert cache.get("q") == cache.get("q", max_staleness=0) == [1]


# -- a store that fails ----------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["changed", "added", "added somewhere"])
def test_what_could_not_be_forgotten_in_the_store_is_served_to_nobody_here(retrieval, face, why):
    store = ChaosStore(MemoryStore())
    cache = retrieval(face, store, options=Options(link_timeout=0.5))
    cache.put("q", ["old"], memory_ids=["m1"], scope="ada")
    store.fail(error=StoreUnavailable, methods=["bump", "claim", "commit"])
    change = {
        "changed": lambda: cache.memory_changed("m1"),
        "added": lambda: cache.memory_added(M1),
        "added somewhere": lambda: cache.memory_added("m1"),
    }[why]
    change()
    for _ in range(10):
        assert cache.get("q", "ada") is None
        assert cache.get("q", "ada", max_staleness=0) is None
    store.calm()
    until(lambda: cache.get("other") is None and cache.get_stats().undelivered == 0)
    assert cache.get("q", "ada", max_staleness=0) is None
    assert retrieval(face, store).get("q", "ada") is None


def test_where_errors_are_wanted_the_second_half_is_still_tried(retrieval, face):
    store = ChaosStore(MemoryStore())
    cache = retrieval(face, store, options=Options(on_store_error="raise"))
    cache.put("ada", [1], memory_ids=[], scope="ada")
    cache.put("all", [2], memory_ids=[])
    store.fail(error=StoreUnavailable, methods=["bump"])
    with pytest.raises(StoreUnavailable):
        cache.memory_added(M1)
    assert cache.get_stats().undelivered == 2
    store.calm()


# -- as a cache like the others --------------------------------------------------------------------


def test_both_faces_are_one_cache():
    with RetrievalCache("memory://") as cache:
        other = cache.as_async()
        assert isinstance(other, AsyncRetrievalCache)
        assert (cache.as_sync() is cache, other.as_async() is other) == (True, True)
        cache.put("q", [1], memory_ids=["m1"])
        assert other.as_sync().get("q") == [1]
        assert isinstance(other._cache, AsyncNearCache)
        assert other.get_stats() == cache.get_stats()


def test_a_view_is_a_cache_of_its_own_in_the_same_tiers(retrieval, face, store):
    cache = retrieval(face, store)
    view = cache.view("tenant")
    cache.put("q", ["outer"], memory_ids=["m1"])
    view.put("q", ["inner"], memory_ids=["m1"])
    view.memory_changed("m1")
    assert (cache.get("q"), view.get("q")) == (["outer"], None)


def test_the_small_things(retrieval, face):
    cache = retrieval(face, max_entries=3, options=Options(jitter=0.1))
    events = []
    stop = cache.subscribe(lambda *event: events.append(event))
    cache.put("q", [1], memory_ids=["m1"])
    cache.get("q")
    stop()
    assert events == [("hit", "near", 1)]
    assert (cache.size, cache.max_size, cache.link) == (1, 3, "none")
    assert cache.options.jitter == 0.1
    assert len(cache.admin.entries()) == 1
    cache.admin.check()
    assert repr(cache.thing) == f"{type(cache.thing).__name__}(None, namespace='retrieval')"


def test_a_cache_travels_by_its_arguments(face, tmp_path):
    cls = {"sync": RetrievalCache, "async": AsyncRetrievalCache}[face]
    cache = cls(f"sqlite:///{tmp_path}/r.db", namespace="mine", ttl=None).view("tenant")
    for twin in (pickle.loads(pickle.dumps(cache)), copy.copy(cache)):
        assert type(twin) is cls
        assert repr(twin) == repr(cache)


def test_a_closed_cache_says_so(retrieval, face, store):
    cache = retrieval(face, store)
    cache.put("q", [1], memory_ids=["m1"])
    cache.close()
    cache.close()
    for use in (
        lambda: cache.get("q"),
        lambda: cache.put("q", [1], memory_ids=[]),
        lambda: cache.memory_changed("m1"),
        lambda: cache.memory_added(M1),
        lambda: cache.cleanup_expired(),
    ):
        with pytest.raises(ClosedError):
            use()
