"""HotMemoryCache: memories by type, id and scope, in two tiers."""

import asyncio
import copy
import pickle

import pytest

from embedders import ManualClock, until
from hot_fixtures import A, B, C, hot_caches, hot_with_clock, is_near, linked
from nearcache import MISSING, Loaded, MemoryStore, Options
from nearcache.caches.hot import HotMemoryCache
from nearcache.caches.hot_async import AsyncHotMemoryCache
from nearcache.caches.memory_key import MemoryKey, MemoryType
from nearcache.errors import ClosedError, CodecError, ConfigError, LoaderError

hot = pytest.fixture(hot_caches)

VALUES = ["text", 1, 1.5, True, None, ["a", {"b": 1}], {"list": [1, 2]}]


# -- put and get ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES)
def test_what_was_put_is_got_from_both_tiers(hot, face, store, value):
    cache = hot(face, store)
    cache.put(A, value)
    assert cache.get(A, MISSING) == value
    assert cache.get(A, MISSING, max_staleness=0) == value
    assert cache.contains(A)
    assert not cache.contains(B)


def test_what_is_nowhere_is_the_default(hot, face, store):
    cache = hot(face, store)
    assert cache.get(A) is None
    assert cache.get(A, "default") == "default"
    assert cache.get_batch([A, B], default=0) == [0, 0]
    assert cache.get_batch([]) == []


def test_a_batch_answers_in_order_with_repeats(hot, face, store):
    cache = hot(face, store)
    cache.put_batch({A: 1, B: 2, C: None})
    missing = MemoryKey("episodic", "x")
    assert cache.get_batch([B, missing, A, B, C], default=0) == [2, 0, 1, 2, None]


def test_of_a_key_given_twice_the_last_value_stands(hot, face, store):
    cache = hot(face, store)
    cache.put_batch([(A, 1), (B, 2), (A, 3)])
    assert cache.get_batch([A, B]) == [3, 2]


def test_an_entry_has_a_life_of_its_own(face):
    clock = ManualClock()
    cache = hot_with_clock(clock, face=face)
    cache.put(A, "short", ttl=1.0)
    cache.put(B, "usual")
    cache.put(C, "endless", ttl=None)
    clock.advance(1.1)
    assert cache.get_batch([A, B, C]) == [None, "usual", "endless"]
    clock.advance(300)
    assert cache.get_batch([A, B, C]) == [None, None, "endless"]
    assert cache.cleanup_expired() >= 0
    assert cache.size == 1
    cache.close()


def test_nothing_of_a_batch_is_kept_when_one_value_cannot_be(hot, face, store):
    cache = hot(face, store)
    with pytest.raises(CodecError):
        cache.put_batch([(A, 1), (B, object()), (C, 2)])
    assert cache.get_batch([A, B, C]) == [None, None, None]


def test_a_container_is_the_callers_own(hot, face, store):
    cache = hot(face, store)
    given = {"list": [1]}
    cache.put(A, given)
    given["list"].append(2)
    cache.get(A)["list"].append(3)
    assert cache.get(A) == {"list": [1]}


def test_both_faces_are_one_cache(hot, face, store):
    cache = hot(face, store)
    cache.put(A, 1)
    other = cache.as_async() if face == "sync" else cache.as_sync()
    found = other.get(A)
    assert (asyncio.run(found) if face == "sync" else found) == 1
    assert other.get_hot_memories(1) == [(A, 1)]
    assert cache.get_hot_memories(1) == [(A, 1)]
    assert isinstance(other, AsyncHotMemoryCache if face == "sync" else HotMemoryCache)
    assert (cache.as_sync() if face == "sync" else cache.as_async()) is cache.thing


# -- keys ----------------------------------------------------------------------------------------

ODD = [
    MemoryKey(kind, name, scope)
    for kind in ("a", "a:b", "*", "m:a")
    for name in ("a", "b:c", ":", "[a]", "\n", "\x00", "\U0001f600", "\ud800", "a,b", "x" * 8000)
    for scope in (None, "a", "None", "*", "s:a", "(a)")
]


@pytest.mark.parametrize("tier", ["near", "far"])
def test_no_two_keys_meet_in_any_tier(hot, face, shared, tier):
    cache = hot(face, shared, max_entries=1000 if tier == "near" else 0)
    cache.put_batch([(key, number) for number, key in enumerate(ODD)])
    assert cache.get_batch(ODD) == list(range(len(ODD)))
    assert cache.invalidate(ODD[1])
    assert [key for key in ODD if cache.get(key) is None] == [ODD[1]]


def test_a_type_is_any_string_and_four_have_a_name():
    assert [*MemoryType] == ["working", "episodic", "semantic", "procedural"]
    key = MemoryKey(MemoryType.WORKING, "id")
    assert key == MemoryKey("working", "id")
    assert hash(key) == hash(MemoryKey("working", "id"))
    assert type(key.memory_type) is str
    assert MemoryKey("my own", "id").memory_type == "my own"


def test_a_key_cannot_be_changed_and_travels():
    with pytest.raises(AttributeError):
        A.scope = "other"
    assert repr(C) == "MemoryKey(memory_type='semantic', memory_id='c', scope=None)"
    for copied in (pickle.loads(pickle.dumps(A)), copy.copy(A), copy.deepcopy(A)):
        assert copied == A
        assert copied.inner == A.inner


@pytest.mark.parametrize(
    "parts",
    [("", "id"), ("t", ""), ("t", "id", ""), (1, "id"), ("t", None), ("t", b"id"), ("t", "i", 1)],
)
def test_a_part_that_can_be_none_is_refused(parts):
    with pytest.raises(ConfigError, match="not empty"):
        MemoryKey(*parts)


def test_a_key_that_is_too_long_is_refused():
    MemoryKey("t", "x" * 8000, "s")
    with pytest.raises(ConfigError, match="at most 8192 bytes"):
        MemoryKey("t", "ä" * 5000)


USES = {
    "get": lambda cache, key: cache.get(key),
    "get_batch": lambda cache, key: cache.get_batch([A, key]),
    "contains": lambda cache, key: cache.contains(key),
    "put": lambda cache, key: cache.put(key, 1),
    "put_batch": lambda cache, key: cache.put_batch([(A, 1), (key, 1)]),
    "get_or_load": lambda cache, key: cache.get_or_load(key, lambda: 1 / 0),
    "get_or_load_batch": lambda cache, key: cache.get_or_load_batch([A, key], lambda _: 1 / 0),
    "invalidate": lambda cache, key: cache.invalidate(key),
    "warm": lambda cache, key: cache.warm([(key, 1)]),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("key", ["a", ("episodic", "a"), None, 1, ["a"]], ids=repr)
def test_what_is_no_memory_key_is_refused_before_any_effect(hot, face, use, key):
    cache = hot(face)
    with pytest.raises(ConfigError, match="MemoryKey"):
        use(cache, key)
    assert cache.size == 0


@pytest.mark.parametrize("keys", [A, "ab", None, 1])
def test_what_is_no_list_of_keys_is_refused(hot, face, keys):
    with pytest.raises(ConfigError, match=r"\[key\]"):
        hot(face).get_batch(keys)


@pytest.mark.parametrize("items", [A, "ab", None, 1, [(A,)], [(A, 1, 2)], [A], [(A, 1), 5]])
def test_what_is_no_list_of_pairs_is_refused(hot, face, items):
    with pytest.raises(ConfigError, match="pairs"):
        hot(face).put_batch(items)


# -- loading -------------------------------------------------------------------------------------


def loader(kind, value):
    """A loader of either kind, and a list that grows with each call."""
    calls = []

    def load():
        calls.append(1)
        return value

    async def load_async():
        return load()

    return (load if kind == "plain" else load_async), calls


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_memory_is_loaded_once(hot, face, store, kind):
    cache = hot(face, store)
    load, calls = loader(kind, {"a": [1]})
    for _ in range(3):
        assert cache.get_or_load(A, load) == {"a": [1]}
    assert calls == [1]
    assert cache.get(A) == {"a": [1]}


def test_a_plain_loader_may_return_a_promise(hot, face):
    async def load():
        return Loaded("value", tags=["tag"])

    cache = hot(face)
    assert cache.get_or_load(A, lambda: load()) == "value"
    cache.invalidate_by_tag("tag")
    assert cache.get(A) is None


def test_missing_is_returned_and_not_kept(hot, face, store):
    cache = hot(face, store)
    load, calls = loader("plain", MISSING)
    assert cache.get_or_load(A, load) is MISSING
    assert cache.get_or_load(A, load) is MISSING
    assert calls == [1, 1]
    assert cache.get_hot_memories(5) == []


def test_the_loaders_error_passes(hot, face, store):
    with pytest.raises(ZeroDivisionError):
        hot(face, store).get_or_load(A, lambda: 1 / 0)


def test_a_batch_of_several_types_and_scopes_is_one_call(hot, face, store):
    cache = hot(face, store)
    cache.put(A, "near")
    calls = []

    def load(keys):
        calls.append(keys)
        return {B: "b", C: Loaded("c", tags=["tag"]), MemoryKey("other", "x"): "not asked for"}

    missing = MemoryKey("procedural", "p")
    asked = [A, C, B, missing, C]
    assert cache.get_or_load_batch(asked, load, default="none") == ["near", "c", "b", "none", "c"]
    assert calls == [[C, B, missing]]
    assert cache.get_batch([A, B, C]) == ["near", "b", "c"]
    cache.invalidate_by_type("semantic")
    assert cache.get_batch([A, B, C], max_staleness=0) == ["near", "b", None]
    cache.invalidate_by_scope("bob")
    assert cache.get_batch([A, B, C], max_staleness=0) == ["near", None, None]


def test_an_asynchronous_batch_loader(hot, face):
    async def load(keys):
        return {key: key.memory_id for key in keys}

    cache = hot(face)
    assert cache.get_or_load_batch([A, B], load, tags=["tag"]) == ["a", "b"]
    cache.invalidate_by_tag("tag")
    assert cache.get_batch([A, B]) == [None, None]


def test_a_loader_that_breaks_its_contract(hot, face):
    cache = hot(face)
    with pytest.raises(LoaderError, match="mapping"):
        cache.get_or_load_batch([A], lambda keys: [1])
    with pytest.raises(LoaderError, match="tags"):
        cache.get_or_load(A, lambda: Loaded(1, tags="tag"))
    with pytest.raises(ConfigError, match="callable"):
        cache.get_or_load(A, "value")


# -- warming -------------------------------------------------------------------------------------


async def promised(items):
    return items


WARMINGS = {
    "mapping": lambda items: items,
    "pairs": lambda items: iter(items.items()),
    "function": lambda items: lambda: items,
    "coroutine": lambda items: lambda: promised(items),
}


@pytest.mark.parametrize("given", WARMINGS.values(), ids=WARMINGS)
def test_warming_keeps_memories(hot, face, store, given):
    cache = hot(face, store, options=Options(max_batch=2))
    items = {MemoryKey("working", f"{n}", "s"): n for n in range(5)}
    # the first time a namespace is written to, its own beginning is heard, and some look again
    until(lambda: cache.warm(given(items), tags=["tag"]) == 5)
    assert cache.get_batch(list(items)) == list(range(5))
    cache.invalidate_by_tag("tag")
    assert cache.get_batch(list(items)) == [None] * 5


# -- the rest ------------------------------------------------------------------------------------


def test_a_view_is_a_cache_of_its_own(hot, face, store):
    cache = hot(face, store)
    view = cache.view("tenant")
    cache.put(A, "outer")
    view.put(A, "inner")
    assert (cache.get(A), view.get(A)) == ("outer", "inner")
    assert view.get_hot_memories(2) == cache.view("tenant").get_hot_memories(2) == [(A, 1)]
    view.invalidate_by_type("episodic")
    assert (cache.get(A), view.get(A)) == ("outer", None)
    assert cache.get_hot_memories(2) == [(A, 2)]


def test_a_cache_says_what_it_is_and_travels(face, tmp_path):
    kind = HotMemoryCache if face == "sync" else AsyncHotMemoryCache
    cache = kind(f"sqlite:///{tmp_path / 'x.db'}", max_entries=7)
    assert repr(cache).startswith(f"{kind.__name__}('sqlite:")
    other = pickle.loads(pickle.dumps(cache))
    assert type(other) is kind
    assert other.max_size == 7
    assert other.options == cache.options
    for one in (cache, other):
        one.as_sync().close()


def test_the_corner_for_rare_things(hot, face):
    cache = hot(face)
    cache.put(A, 1)
    cache.put(C, 1)
    assert set(cache.admin.entries()) == {A, C}
    assert is_near(cache, A)
    assert cache.admin.inspect(B) is None
    cache.admin.resize(max_entries=1)
    assert cache.size == 1
    cache.admin.check()


def test_what_happens_is_heard(hot, face):
    cache = hot(face)
    heard = []
    stop = cache.subscribe(lambda name, subject, detail: heard.append(name))
    cache.get(A)
    cache.put(A, 1)
    cache.get(A)
    stop()
    cache.get(A)
    assert heard == ["miss", "hit"]


def test_statistics_count_every_get(hot, face, store):
    cache = hot(face, store)
    cache.put(A, "x")
    cache.get(A)
    cache.get(B)
    stats = cache.get_stats()
    assert (stats.hits, stats.misses, stats.hit_rate) == (1, 1, 0.5)
    cache.reset_stats()
    assert cache.get_stats().hits == 0
    assert cache.get_hot_memories(1) == [(A, 1)]


def test_a_closed_cache_refuses(face):
    cache = (HotMemoryCache if face == "sync" else AsyncHotMemoryCache)()
    if face == "sync":
        with cache as same:
            assert same is cache
        for call in (lambda: cache.get(A), lambda: cache.put(A, 1), cache.clear):
            with pytest.raises(ClosedError):
                call()
        cache.close()
        return

    async def main():
        async with cache as same:
            assert same is cache
        with pytest.raises(ClosedError):
            await cache.get(A)
        await cache.close()

    asyncio.run(main())


def test_a_store_object_serves_several_caches(hot, face):
    store = MemoryStore()
    one, two = hot(face, store), hot(face, store)
    one.put(A, 1)
    linked(one, two)
    assert two.get(A) == 1
    one.invalidate(A)
    until(lambda: two.get(A) is None)
