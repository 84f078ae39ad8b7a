"""RetrievalCache: one load of a query, and what happens to it when a memory changes meanwhile."""

import asyncio
import threading

import pytest

from embedders import in_threads, until
from near_fixtures import near_with_clock
from nearcache import MISSING, ConfigError, Loaded, LoaderError, Options
from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.retrieval import RetrievalCache
from nearcache.testing import ManualClock
from retrieval_fixtures import hears, retrieval_caches

retrieval = pytest.fixture(retrieval_caches)

ADA = MemoryKey("episodic", "m1", "ada")


def id_of(results):
    return [result["id"] for result in results]


async def soon(value):
    await asyncio.sleep(0)
    return value


LOADERS = {
    "results and ids": (lambda: ([{"id": "m1"}], ["m1"]), None),
    "results and a key": (lambda: ([{"id": "m1"}], [ADA]), None),
    "ids read off": (lambda: [{"id": "m1"}], id_of),
    "asynchronous": (lambda: soon(([{"id": "m1"}], {"m1"})), None),
    "asynchronous, ids read off": (lambda: soon([{"id": "m1"}]), id_of),
    "with a life of its own": (lambda: Loaded(([{"id": "m1"}], ["m1"]), ttl=None), None),
    "with a life, ids read off": (lambda: Loaded([{"id": "m1"}], ttl=60.0), id_of),
}


@pytest.mark.parametrize("loader, ids", LOADERS.values(), ids=LOADERS)
def test_what_a_loader_finds_is_kept_until_one_of_its_memories_changes(
    retrieval, face, store, loader, ids
):
    cache = retrieval(face, store)
    assert cache.get_or_load("q", loader, "ada", ids=ids) == [{"id": "m1"}]
    assert cache.get_or_load("q", lambda: 1 / 0, "ada", ids=ids) == [{"id": "m1"}]
    assert cache.get("q", "ada", max_staleness=0) == [{"id": "m1"}]
    cache.memory_changed("m2")
    cache.memory_added(MemoryKey("episodic", "m3", "bob"))
    assert cache.get("q", "ada") == [{"id": "m1"}]
    cache.memory_changed("m1")
    assert cache.get("q", "ada") is cache.get("q", "ada", max_staleness=0) is None


def test_a_coroutine_function_and_a_callable_object_load_too(retrieval, face):
    async def load():
        return [1], ["m1"]

    class Loader:
        async def __call__(self):
            return [2], ["m1"]

    cache = retrieval(face)
    assert cache.get_or_load("one", load) == [1]
    assert cache.get_or_load("two", Loader()) == [2]
    cache.memory_changed("m1")
    assert cache.get("one") is cache.get("two") is None


def test_nothing_found_by_a_loader_is_not_kept(retrieval, face, store):
    cache = retrieval(face, store)
    assert cache.get_or_load("q", lambda: MISSING) is MISSING
    assert cache.get_or_load("q", lambda: ([], [])) == []
    assert cache.get_or_load("q", lambda: 1 / 0) == []


def test_a_load_may_say_how_long_its_list_lives(retrieval, face, store):
    cache = retrieval(face, store)
    assert cache.get_or_load("q", lambda: Loaded(([1], ["m1"]), ttl=0)) == [1]
    assert cache.get_or_load("p", lambda: ([1], ["m1"]), ttl=0) == [1]
    assert cache.get("q") is cache.get("p") is None


def test_what_a_loader_raises_passes_unchanged(retrieval, face, store):
    cache = retrieval(face, store)
    error = KeyError("the database")

    def fail(*_):
        raise error

    for loader, ids in [(fail, None), (lambda: [1], fail)]:
        with pytest.raises(KeyError) as caught:
            cache.get_or_load("q", loader, ids=ids)
        assert caught.value is error
    assert cache.get_or_load("q", lambda: ([1], [])) == [1]


BROKEN = {
    "no ids": (lambda: [1], None),
    "no ids in a tuple": (lambda: ([1],), None),
    "one string": (lambda: ([1], "m1"), None),
    "an odd id": (lambda: ([1], [5]), None),
    "an empty id": (lambda: ([1], [""]), None),
    "ids that are none": (lambda: [1], lambda _: None),
    "tags": (lambda: Loaded(([1], ["m1"]), tags=["m1"]), None),
    "what cannot be written": (lambda: ([object()], ["m1"]), None),
    "a bad life": (lambda: Loaded(([1], ["m1"]), ttl=-1), None),
}


@pytest.mark.parametrize("loader, ids", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("kind", [None, "memory://"])
def test_a_loader_that_breaks_its_contract_is_told_so(retrieval, face, kind, loader, ids):
    cache = retrieval(face, kind)
    with pytest.raises(LoaderError):
        cache.get_or_load("q", loader, ids=ids)
    assert cache.get("q") is None
    assert cache.get_or_load("q", lambda: ([2], [])) == [2]


@pytest.mark.parametrize("bad", [{"loader": 5}, {"loader": None}, {"ids": "id"}, {"ttl": -1}])
def test_bad_arguments_are_refused_before_the_load(retrieval, face, bad):
    cache = retrieval(face)
    arguments = {"loader": lambda: 1 / 0, **bad}
    with pytest.raises(ConfigError):
        cache.get_or_load("q", **arguments)


def test_options_are_those_of_the_call(retrieval, face, store):
    cache = retrieval(face, store)
    remembers = Options(negative_ttl=60.0)
    assert cache.get_or_load("q", lambda: MISSING, options=remembers) is MISSING
    assert cache.get_or_load("q", lambda: 1 / 0) is MISSING
    with pytest.raises(ConfigError, match="options"):
        cache.get_or_load("p", lambda: 1 / 0, options={"negative_ttl": 60.0})


FRESHNESS = {"stale_while_revalidate": 60.0, "fail_safe": 60.0}


@pytest.mark.parametrize("option, seconds", FRESHNESS.items(), ids=FRESHNESS)
@pytest.mark.parametrize("forgotten", [False, True])
def test_an_expired_list_may_stand_in_but_never_an_outdated_one(option, seconds, forgotten):
    clock = ManualClock()
    near = near_with_clock(clock, ttl=1.0, options=Options(**{option: seconds})).thing
    cache = RetrievalCache._face(near)
    cache.put("q", ["old"], memory_ids=["m1"])
    clock.advance(2.0)
    if forgotten:
        cache.memory_changed("m1")
        with pytest.raises(ZeroDivisionError):
            cache.get_or_load("q", lambda: 1 / 0)
        assert cache.get_or_load("q", lambda: (["new"], ["m1"])) == ["new"]
    else:
        assert cache.get_or_load("q", lambda: 1 / 0) == ["old"]
        until(lambda: not len(near._tiers.engine.flights))  # it is loaded aside, and fails


def test_fifty_callers_are_one_load(retrieval, store):
    cache = retrieval("sync", store)
    calls = []

    def load():
        calls.append(1)
        return [1], ["m1"]

    assert in_threads(50, lambda _: cache.get_or_load({"text": "q"}, load)) == [[1]] * 50
    assert len(calls) == 1


def test_what_is_loaded_after_a_change_is_kept(retrieval, face, store):
    """However soon after it: the change was over before the load began."""
    cache, loads = retrieval(face, store), []

    def load():
        loads.append(1)
        return [len(loads)], ["m1"]

    for version in range(1, 4):
        assert cache.get_or_load("q", load, "ada") == [version]
        assert cache.get_or_load("q", load, "ada") == [version]
        assert cache.get("q", "ada", max_staleness=0) == [version]
        cache.memory_changed("m1")
    assert len(loads) == 3


# -- changed during the load -----------------------------------------------------------------------

CHANGES = {
    "changed, by id": lambda cache: cache.memory_changed("m1"),
    "changed, by key": lambda cache: cache.memory_changed(ADA),
    "added to the scope": lambda cache: cache.memory_added(MemoryKey("episodic", "m2", "ada")),
    "added to no scope": lambda cache: cache.memory_added(MemoryKey("episodic", "m2")),
    "added, by id": lambda cache: cache.memory_added("m2"),
    "invalidated by memory": lambda cache: cache.invalidate_by_memory("m1"),
    "invalidated by scope": lambda cache: cache.invalidate_by_scope("ada"),
    "cleared": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_during_the_load_takes_the_list_along(retrieval, face, store, change):
    """The loader names its memories only at the end: after they changed."""
    cache = retrieval(face, store)
    inside = cache.as_sync()

    def load():
        change(inside)
        return ["old"], ["m1"]

    assert cache.get_or_load("q", load, "ada") == ["old"]  # to whoever asked before the change
    assert cache.get("q", "ada") is None
    assert cache.get("q", "ada", max_staleness=0) is None


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_elsewhere_during_the_load_takes_the_list_along(retrieval, face, shared, change):
    cache, other = retrieval(face, shared), retrieval("sync", shared)
    hears(cache, other)

    def load():
        change(other)
        return ["old"], ["m1"]

    assert cache.get_or_load("q", load, "ada") == ["old"]
    assert other.get("q", "ada") is None
    assert cache.get("q", "ada", max_staleness=0) is None
    until(lambda: cache.get("q", "ada") is None)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_who_asks_after_the_change_does_not_get_what_was_loaded_before_it(store, change):
    with RetrievalCache(store) as cache:
        inside, changed = threading.Event(), threading.Event()

        def old():
            inside.set()
            assert changed.wait(30)
            return ["old"], ["m1"]

        first = []
        thread = threading.Thread(
            target=lambda: first.append(cache.get_or_load("q", old, "ada")), daemon=True
        )
        thread.start()
        assert inside.wait(30)
        change(cache)
        later = []
        waiting = threading.Thread(
            target=lambda: later.append(cache.get_or_load("q", lambda: (["new"], ["m1"]), "ada")),
            daemon=True,
        )
        waiting.start()
        changed.set()
        thread.join(30)
        waiting.join(30)
        assert (first, later) == ([["old"]], [["new"]])


def test_a_change_that_touches_no_memory_of_the_list_leaves_the_load_alone(retrieval, face, store):
    cache = retrieval(face, store)
    inside = cache.as_sync()

    def load():
        inside.memory_changed("m2")
        inside.memory_added(MemoryKey("episodic", "m3", "bob"))
        return ["kept"], ["m1"]

    assert cache.get_or_load("q", load, "ada") == ["kept"]
    assert cache.get("q", "ada") == cache.get("q", "ada", max_staleness=0) == ["kept"]
