"""CacheManager: one word about a memory reaches every cache, and each keeps its own counts."""

import asyncio
import gc
import pickle
import threading
import time
import weakref

import numpy as np
import pytest

from embedders import Face, until, vector
from near_fixtures import near_with_clock
from nearcache import MISSING, ConfigError, EmbeddingCache, MemoryStore, Options
from nearcache.caches.access_counts import AccessCounts
from nearcache.caches.hot import HotMemoryCache
from nearcache.caches.manager import CacheManager
from nearcache.caches.manager_async import AsyncCacheManager
from nearcache.caches.manager_stats import ManagerStats
from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.retrieval import RetrievalCache
from nearcache.errors import ClosedError, StoreUnavailable
from nearcache.stats import Stats
from nearcache.testing import ChaosStore, ManualClock

FACES = {"sync": CacheManager, "async": AsyncCacheManager}
CAT = MemoryKey("episodic", "cat", "ada")
DOG = MemoryKey("semantic", "dog", "bob")
OLD = MemoryKey("semantic", "old")


@pytest.fixture
def manager():
    """Make managers that are closed afterwards: ``manager(face, store, **options)``."""
    made = []

    def make(face="sync", store=None, **options):
        made.append(Face(FACES[face].from_url(store, **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def filled(it):
    """Three memories and the lists that hold them; return how to see what is left."""
    lists = {
        ("cats", "ada"): [CAT],
        ("dogs", "bob"): [DOG],
        ("pets", None): [CAT, DOG],
        ("nothing", "ada"): [],
        ("past", "bob"): [OLD],
    }
    for key in (CAT, DOG, OLD):
        it.cache_memory(key, {"about": key.memory_id})
    for (query, scope), keys in lists.items():
        it.cache_retrieval(query, [key.memory_id for key in keys], memory_ids=keys, scope=scope)
    names = {"cat": CAT, "dog": DOG, "old": OLD}

    def left():
        memories = {name for name, key in names.items() if it.get_memory(key) is not None}
        found = {query for query, scope in lists if it.get_retrieval(query, scope) is not None}
        return memories | found

    everything = {*names, *(query for query, _ in lists)}
    assert left() == everything
    return lambda: everything - left()


# -- what it keeps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_each_kind_is_kept_in_its_cache(manager, face, store):
    it = manager(face, store)
    assert it.get_memory(CAT) is it.get_retrieval("cats") is it.get_embedding("cat", "m") is None
    assert it.get_memory(CAT, MISSING) is it.get_retrieval("cats", default=MISSING) is MISSING
    it.cache_memory(CAT, {"name": "Tom"}, ttl=60.0, tags=["pet"])
    it.cache_retrieval({"text": "cats", "limit": 5}, ["cat"], memory_ids=[CAT], scope="ada")
    content_hash = it.cache_embedding("cat", vector("cat"), "m")
    assert it.get_memory(CAT) == {"name": "Tom"}
    assert it.get_retrieval({"limit": 5, "text": "cats"}, "ada") == ["cat"]
    assert np.array_equal(it.get_embedding("cat", "m"), vector("cat"))
    assert content_hash == EmbeddingCache.hash_content("cat")
    assert (it.hot.size, it.retrieval.size, it.embeddings.size) == (1, 1, 1)


@pytest.mark.parametrize("face", FACES)
def test_to_fill_the_hot_tier_is_no_change(manager, face, store):
    it = manager(face, store)
    gone = filled(it)
    it.cache_memory(CAT, {"about": "cat"})
    it.warmup("episodic", {"cat": {"about": "cat"}}, "ada")
    assert gone() == set()


# -- what became of a memory -----------------------------------------------------------------------

WORDS = {
    "changed": (
        lambda it: it.memory_changed(CAT),
        {"cat", "cats", "pets"},
    ),
    "invalidated": (
        lambda it: it.invalidate_memory("episodic", "cat", "ada"),
        {"cat", "cats", "pets"},
    ),
    "invalidated, no scope": (
        lambda it: it.invalidate_memory("semantic", "old"),
        {"old", "past"},
    ),
    "added": (
        lambda it: it.memory_added(MemoryKey("episodic", "new", "ada")),
        {"cats", "nothing", "pets"},
    ),
    "added to no scope": (
        lambda it: it.memory_added(MemoryKey("episodic", "new")),
        {"cats", "nothing", "pets", "dogs", "past"},
    ),
    "a type": (
        lambda it: it.invalidate_by_type("semantic"),
        {"dog", "old", "cats", "nothing", "pets", "dogs", "past"},
    ),
    "a scope": (
        lambda it: it.invalidate_by_scope("ada"),
        {"cat", "cats", "nothing", "pets"},
    ),
    "no scope": (
        lambda it: it.invalidate_by_scope(None),
        {"old", "cats", "nothing", "pets", "dogs", "past"},
    ),
    "everything": (
        lambda it: it.clear_all(),
        {"cat", "dog", "old", "cats", "nothing", "pets", "dogs", "past"},
    ),
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("say, wanted", WORDS.values(), ids=WORDS)
def test_one_word_reaches_memories_and_lists(manager, face, store, say, wanted):
    it = manager(face, store)
    gone = filled(it)
    say(it)
    assert gone() == wanted


@pytest.mark.parametrize("say, wanted", WORDS.values(), ids=WORDS)
def test_one_word_reaches_other_processes(manager, shared, say, wanted):
    """Two managers on one file or server are as far apart as two processes."""
    it, other = manager("sync", shared), manager("async", shared)
    gone = filled(it)
    for key in (CAT, DOG, OLD):
        assert other.get_memory(key) is not None
    assert other.get_retrieval("pets") == ["cat", "dog"]
    say(it)
    assert gone() == wanted
    until(lambda: (other.get_memory(CAT) is None) == ("cat" in wanted))
    until(lambda: (other.get_memory(OLD) is None) == ("old" in wanted))
    until(lambda: (other.get_retrieval("pets") is None) == ("pets" in wanted))


@pytest.mark.parametrize("face", FACES)
def test_what_was_invalidated_says_whether_it_was_there(manager, face, store):
    it = manager(face, store)
    it.cache_memory(CAT, 1)
    assert it.invalidate_memory("episodic", "cat", "ada") is True
    assert it.invalidate_memory("episodic", "cat", "ada") is False  # SEEDS 22


@pytest.mark.parametrize("face", FACES)
def test_clear_all_counts_what_left_near(manager, face):
    it = manager(face)
    filled(it)
    it.cache_embedding("cat", vector("cat"), "m")
    assert it.clear_all() == 3 + 5 + 1
    assert it.get_embedding("cat", "m") is None
    assert it.clear_all() == 0


@pytest.mark.parametrize("face", FACES)
def test_a_remembered_absence_ends_when_the_memory_comes(manager, face, store):
    it = manager(face, store, options=Options(negative_ttl=60.0))
    assert it.hot.as_sync().get_or_load(CAT, lambda: MISSING) is MISSING
    it.memory_added(CAT)
    assert it.hot.as_sync().get_or_load(CAT, lambda: "here") == "here"
    it.memory_added(CAT)  # what is there stays
    assert it.get_memory(CAT) == "here"


@pytest.mark.parametrize("face", FACES)
def test_a_failure_in_one_cache_keeps_no_other_from_hearing(manager, face):
    store = ChaosStore(MemoryStore())
    it = manager(face, store, options=Options(on_store_error="raise"))
    gone = filled(it)
    store.fail(error=StoreUnavailable, methods=["revoke", "bump"])
    for say in (
        lambda: it.memory_changed(CAT),
        lambda: it.invalidate_by_type("semantic"),
        lambda: it.invalidate_by_scope("ada"),
        lambda: it.clear_all(),
    ):
        with pytest.raises(StoreUnavailable):
            say()
    store.calm()
    until(lambda: gone() >= {"cat", "cats", "pets"})


@pytest.mark.parametrize("face", FACES)
def test_names_that_name_no_memory_are_refused_before_any_effect(manager, face):
    it = manager(face)
    gone = filled(it)
    for use in (
        lambda: it.memory_changed("cat"),
        lambda: it.memory_added(("episodic", "cat", "ada")),
        lambda: it.invalidate_memory("", "cat", "ada"),
        lambda: it.invalidate_memory("episodic", "", "ada"),
        lambda: it.invalidate_memory("episodic", "cat", ""),
        lambda: it.invalidate_by_type(""),
        lambda: it.invalidate_by_type(None),
        lambda: it.invalidate_by_scope(""),
        lambda: it.invalidate_by_scope("x" * 10_000),
        lambda: it.warmup("", {"a": 1}),
        lambda: it.warmup("episodic", {"": 1}),
        lambda: it.warmup("episodic", {"a": 1}, scope=""),
    ):
        with pytest.raises(ConfigError):
            use()
    assert gone() == set()


# -- caches that it has not, and both faces --------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_a_cache_that_is_needed_and_not_there_is_named(face):
    it = Face(FACES[face]())
    for name, use in (
        ("hot", lambda: it.get_memory(CAT)),
        ("hot", lambda: it.cache_memory(CAT, 1)),
        ("hot", lambda: it.warmup("episodic", {"a": 1})),
        ("hot", lambda: it.get_hot_memories(5)),
        ("embeddings", lambda: it.get_embedding("cat", "m")),
        ("embeddings", lambda: it.cache_embedding("cat", [1.0], "m")),
        ("retrieval", lambda: it.get_retrieval("cats")),
        ("retrieval", lambda: it.cache_retrieval("cats", [], memory_ids=[])),
    ):
        with pytest.raises(ConfigError, match=f"give CacheManager\\({name}="):
            use()
    it.memory_added(CAT)  # there is nobody to tell
    it.memory_changed(CAT)
    it.invalidate_by_type("episodic")
    it.invalidate_by_scope("ada")
    assert it.invalidate_memory("episodic", "cat", "ada") is False
    assert it.clear_all() == it.cleanup_expired() == 0
    assert it.get_stats() == ManagerStats(last_cleanup=it.last_cleanup)
    it.reset_stats()
    it.close()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("given_as", ["as_sync", "as_async"])
def test_caches_may_be_given_in_either_face_and_stay_open(face, given_as):
    hot, lists = HotMemoryCache("memory://"), RetrievalCache("memory://")
    given = {"hot": getattr(hot, given_as)(), "retrieval": getattr(lists, given_as)()}
    it = Face(FACES[face](**given))
    it.cache_memory(CAT, 1)
    it.cache_retrieval("cats", [1], memory_ids=[CAT])
    assert (hot.get(CAT), lists.get("cats")) == (1, [1])
    it.memory_changed(CAT)
    assert hot.get(CAT) is lists.get("cats") is None
    it.close()
    hot.put(CAT, 2)  # who made it closes it
    hot.close()
    lists.close()


@pytest.mark.parametrize("name", ["hot", "embeddings", "retrieval"])
def test_what_is_no_such_cache_is_refused(name):
    for wrong in (
        "redis://localhost",
        5,
        RetrievalCache if name == "retrieval" else EmbeddingCache,
    ):
        with pytest.raises(ConfigError, match=f"{name} is a"):
            CacheManager(**{name: wrong})
    other = EmbeddingCache() if name == "hot" else HotMemoryCache()
    with pytest.raises(ConfigError, match=f"{name} is a"):
        CacheManager(**{name: other})


def test_both_faces_are_one_manager():
    with CacheManager.from_url("memory://") as it:
        other = it.as_async()
        assert isinstance(other, AsyncCacheManager)
        assert (it.as_sync() is it, other.as_async() is other) == (True, True)
        assert isinstance(other.as_sync(), CacheManager)
        it.cache_memory(CAT, 1)

        async def main():
            assert await other.get_memory(CAT) == 1
            await other.memory_changed(CAT)
            await other.start()

        asyncio.run(main())
        assert it.get_memory(CAT) is None
        assert it.running  # a task would have ended with its loop
        assert other.get_stats() == it.get_stats()
        it.stop()
        assert not other.running


# -- one store -------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_from_url_makes_one_store_and_closes_it(face, tmp_path):
    it = Face(FACES[face].from_url(f"sqlite:///{tmp_path}/m.db", namespace="agent"))
    stores = {
        id(c._tiers.engine.store) for c in (it.hot._cache, it.embeddings, it.retrieval._cache)
    }
    assert len(stores) == 1
    it.cache_memory(CAT, 1)
    it.close()
    it.close()
    for use in (
        lambda: it.get_memory(CAT),
        lambda: it.get_retrieval("cats"),
        lambda: it.get_embedding("cat", "m"),
        lambda: it.memory_changed(CAT),
        lambda: it.cleanup_expired(),
        lambda: it.start(),
    ):
        with pytest.raises(ClosedError):
            use()


@pytest.mark.parametrize("face", FACES)
def test_who_made_the_store_closes_it(face, monkeypatch):
    closed = []
    monkeypatch.setattr(MemoryStore, "close", lambda store: closed.append(store))
    store = MemoryStore()
    it = Face(FACES[face].from_url(store))
    it.cache_memory(CAT, 1)
    it.close()
    assert closed == []
    it = Face(FACES[face].from_url("memory://"))
    it.cache_memory(CAT, 1)
    mine = it.hot._cache._tiers.engine.store
    it.close()
    assert closed == [mine]


def test_namespaces_keep_managers_apart():
    store = MemoryStore()
    names = ["", "a", "a:hot", "a/b", "*", "a*"]
    managers = [CacheManager.from_url(store, namespace=name) for name in names]
    for number, it in enumerate(managers):
        it.cache_memory(CAT, number)
        it.cache_retrieval("cats", [number], memory_ids=[CAT])
        it.cache_embedding("cat", np.full(3, number + 1.0), "m")
    for number, it in enumerate(managers):
        it.clear_all()  # SEEDS 25
        left = [n for n, other in enumerate(managers) if other.get_memory(CAT) is not None]
        assert left == list(range(number + 1, len(names)))
        assert [m.get_retrieval("cats") is not None for m in managers].count(True) == len(left)
        assert [m.get_embedding("cat", "m") is not None for m in managers].count(True) == len(left)
    for it in managers:
        it.close()


def test_bad_arguments_are_refused():
    for bad in ({"namespace": None}, {"options": {}}, {"cleanup_interval": 0}):
        with pytest.raises(ConfigError):
            CacheManager.from_url("memory://", **bad)
    with pytest.raises(ConfigError, match="scheme"):
        CacheManager.from_url("nowhere://")
    with pytest.raises(ConfigError, match="cleanup_interval"):
        CacheManager(cleanup_interval="often")


@pytest.mark.parametrize("face", FACES)
def test_it_travels_and_says_what_it_is(face, tmp_path):
    cls = FACES[face]
    url = f"sqlite:///{tmp_path}/m.db"
    for it in (cls.from_url(url, namespace="a"), cls(hot=HotMemoryCache(url), cleanup_interval=5)):
        twin = pickle.loads(pickle.dumps(it))
        assert type(twin) is cls
        assert repr(twin) == repr(it)
        assert repr(it).startswith(f"{cls.__name__}(HotMemoryCache(")
        Face(it).close()
        Face(twin).close()
    assert "secret" not in repr(cls.from_url("redis://:secret@localhost"))


# -- warming ---------------------------------------------------------------------------------------


async def soon(value):
    await asyncio.sleep(0)
    return value


SOURCES = {
    "a mapping": {"a": 1, "b": 2, "c": 3},
    "pairs": [("a", 1), ("b", 2), ("c", 3)],
    "keys": [(MemoryKey("episodic", name, "ada"), 1) for name in "abc"],
    "a loader": lambda: {"a": 1, "b": 2, "c": 3},
    "a loader of a stream": lambda: ((name, 1) for name in "abc"),
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_type_is_warmed(manager, face, store, source):
    it = manager(face, store)
    assert it.warmup("episodic", source, "ada") == 3
    assert it.get_memory(MemoryKey("episodic", "a", "ada")) == 1
    assert it.get_memory(MemoryKey("episodic", "a")) is None


def test_an_asynchronous_loader_warms(manager):
    it = manager("async")

    async def load():
        return await soon({"a": 1})

    assert it.warmup("episodic", load) == 1
    assert it.warmup("episodic", lambda: soon({"b": 1})) == 1
    assert it.get_memory(MemoryKey("episodic", "b")) == 1


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", ["none", "memory"])
def test_the_warmed_are_counted_that_are_really_there(face, kind):
    """SEEDS 40: six were "loaded" into a cache of three."""
    hot = HotMemoryCache(None if kind == "none" else "memory://", max_entries=3, policy="lru")
    it = Face(FACES[face](hot=hot))
    assert it.warmup("episodic", {f"m{n}": n for n in range(6)}) == 3
    assert hot.size == 3
    assert it.warmup("episodic", [("m1", 1), ("m1", 2)]) == 1
    assert it.warmup("episodic", {}) == 0
    assert it.warmup("episodic", {"never": 1}, ttl=0) == 0
    hot.close()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "items", ["ab", 5, None, [1], [("a",)], ["ab"], [(DOG, 1)], lambda: 5, lambda: None]
)
def test_what_cannot_be_warmed_is_refused(manager, face, items):
    it = manager(face)
    with pytest.raises(ConfigError):
        it.warmup("episodic", items, "ada")
    assert it.hot.size == 0


@pytest.mark.parametrize("face", FACES)
def test_the_hottest_are_known(manager, face, store):
    it = manager(face, store)
    it.warmup("semantic", {"dog": 1}, "bob")
    it.cache_memory(CAT, 1)
    for key, times in ((CAT, 3), (DOG, 5)):
        for _ in range(times):
            it.get_memory(key)
    assert it.get_hot_memories(1) == [(DOG, 5)]
    assert it.get_hot_memories(5) == [(DOG, 5), (CAT, 3)]


# -- cleaning up -----------------------------------------------------------------------------------


def with_clock(clock):
    """A manager whose hot memories and lists live by ``clock``."""
    near = [near_with_clock(clock, ttl=10.0).thing for _ in range(2)]
    return CacheManager(
        hot=HotMemoryCache._face(near[0], AccessCounts()),
        retrieval=RetrievalCache._face(near[1]),
        cleanup_interval=0.001,
    )


@pytest.mark.parametrize("face", FACES)
def test_what_has_expired_leaves_every_cache(face):
    clock = ManualClock()
    blocking = with_clock(clock)
    it = Face(blocking if face == "sync" else blocking.as_async())
    filled(it)
    assert it.last_cleanup is it.get_stats().last_cleanup is None
    assert it.cleanup_expired() == 0
    clock.advance(11.0)
    before = time.time()
    assert it.cleanup_expired() == 3 + 5
    assert before <= it.get_stats().last_cleanup == it.last_cleanup <= time.time()
    assert (it.hot.size, it.retrieval.size) == (0, 0)


@pytest.mark.parametrize("face", FACES)
def test_the_clean_up_comes_by_itself_between_start_and_stop(face):
    clock = ManualClock()
    blocking = with_clock(clock)
    it = Face(blocking if face == "sync" else blocking.as_async())
    filled(it)
    assert not it.running
    it.start()
    it.start()
    clock.advance(11.0)
    until(lambda: it.hot.size == it.retrieval.size == 0)
    until(lambda: it.last_cleanup is not None)
    it.stop()
    it.stop()
    last = it.last_cleanup
    assert not it.running
    assert it.last_cleanup == last


@pytest.mark.parametrize("face", FACES)
def test_close_stops_the_clean_up(manager, face):
    it = manager(face, cleanup_interval=0.001)
    it.start()
    until(lambda: it.last_cleanup is not None)
    it.close()
    assert not it.running


@pytest.mark.parametrize("face", FACES)
def test_the_clean_up_holds_no_manager_that_nobody_wants(face):
    it = FACES[face]()
    gone = weakref.ref(it._parts)
    Face(it).start()
    thread = next(one for one in threading.enumerate() if one.name == "nearcache-cleanup")
    del it
    until(lambda: gc.collect() >= 0 and gone() is None)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("face", FACES)
def test_a_cache_that_cannot_be_cleaned_keeps_no_other_from_it(face, caplog):
    clock = ManualClock()
    hot, lists = HotMemoryCache(), RetrievalCache._face(near_with_clock(clock, ttl=1.0).thing)
    it = Face(FACES[face](hot=hot, retrieval=lists, cleanup_interval=0.001))
    lists.put("q", [1], memory_ids=[])
    clock.advance(2.0)
    hot.close()
    with pytest.raises(ClosedError):
        it.cleanup_expired()
    assert (lists.size, it.last_cleanup) == (0, None)
    it.start()
    until(lambda: "clean-up failed" in caplog.text)
    lists.put("q", [1], memory_ids=[])
    clock.advance(2.0)
    until(lambda: lists.size == 0)
    it.stop()


# -- counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_the_counts_are_those_of_each_cache_and_of_all(manager, face, store):
    """SEEDS 36: a snapshot, a rate between 0 and 1, bytes that were really saved."""
    it = manager(face, store)
    assert it.get_stats().overall_hit_rate == 0.0
    it.cache_memory(CAT, "x" * 100)
    it.cache_embedding("cat", vector("cat"), "m")
    it.cache_retrieval("cats", ["cat"], memory_ids=[CAT])
    it.get_memory(CAT)
    it.get_memory(DOG)
    it.get_embedding("cat", "m")
    it.get_embedding("dog", "m")
    it.get_retrieval("cats")
    it.get_retrieval("cats")
    stats = it.get_stats()
    assert isinstance(stats, ManagerStats)
    rates = [stats.hot.hit_rate, stats.embeddings.hit_rate, stats.retrieval.hit_rate]
    assert (rates, stats.overall_hit_rate) == ([0.5, 0.5, 1.0], 4 / 6)
    assert stats.hot.bytes_saved >= 100
    assert set(stats.caches) == {"hot", "embeddings", "retrieval"}
    assert stats.to_dict()["caches"]["hot"]["hits"] == 1
    assert stats.to_dict()["overall_hit_rate"] == 4 / 6
    it.get_memory(CAT)
    assert stats.hot.hits == 1
    with pytest.raises(AttributeError):
        stats.hot = None
    it.reset_stats()
    assert it.get_stats().overall_hit_rate == 0.0


def test_the_rate_is_of_all_that_was_asked_for():
    hot = Stats(near_hits=1, far_hits=1, stale_hits=1, misses=1)
    stats = ManagerStats(hot=hot, retrieval=Stats(misses=2, coalesced=2))
    assert stats.overall_hit_rate == 3 / 8
    assert ManagerStats().overall_hit_rate == 0.0
