"""NearCache: what was put or loaded with a tag is forgotten with it, everywhere and for good."""

import asyncio

import pytest

from embedders import until
from near_fixtures import begun, linked, near_caches, settled
from nearcache import Loaded, MemoryStore, Options
from nearcache.errors import ConfigError, LoaderError, StoreReadOnly, StoreUnavailable
from nearcache.testing import ChaosStore

near = pytest.fixture(near_caches)


def test_a_tag_forgets_all_that_carries_it_and_nothing_else(near, face, store):
    cache = near(face, store)
    cache.put("a", 1, tags=["red"])
    cache.put("b", 2, tags=["red", "blue"])
    cache.put("c", 3, tags=["blue"])
    cache.put("d", 4)
    cache.get_or_load("e", lambda: 5, tags=["red"])
    cache.get_or_load("f", lambda: Loaded(6, tags=["red"]))
    cache.get_or_load_batch(["g", "h"], lambda keys: dict.fromkeys(keys, 7), tags=["red"])
    cache.put_batch({"i": 8}, tags=("red",))
    cache.invalidate_by_tag("red")
    keys = list("abcdefghi")
    wanted = [None, None, 3, 4, None, None, None, None, None]
    assert cache.get_batch(keys) == wanted
    assert cache.get_batch(keys, max_staleness=0) == wanted
    cache.invalidate_by_tag("blue")
    assert cache.get_batch(["c", "d"]) == [None, 4]


def test_a_batch_loader_may_give_each_value_its_own_tags_and_life(near, face, store):
    cache = near(face, store)
    answer = cache.get_or_load_batch(
        ["a", "b", "c"],
        lambda _: {"a": Loaded(1, tags=["t"]), "b": Loaded(2, ttl=0), "c": Loaded(3, ttl=None)},
    )
    assert answer == [1, 2, 3]
    assert cache.get_batch(["a", "b", "c"], max_staleness=0) == [1, None, 3]
    cache.invalidate_by_tag("t")
    assert cache.get_batch(["a", "b", "c"]) == [None, None, 3]


def test_a_push_between_two_looks_at_a_tag_refuses_no_write(near, monkeypatch):
    store = MemoryStore()
    cache, other = near("sync", store), near("sync", store, max_entries=0)
    cache.put("key", 0, tags=["tag"])
    tokens, pushes = cache._tiers.shelf.tracked.tokens, []
    outdated = tokens.outdated

    def then_a_push(groups):
        found = outdated(groups)
        tags = [group for group in groups if group is not cache._tiers.shelf.everything]
        if tags and len(pushes) < 2:
            pushes.append(tags[0].forget())
        return found

    monkeypatch.setattr(tokens, "outdated", then_a_push)
    assert cache.update("key", lambda value: value + 1, tags=["tag"]) == 1
    assert pushes
    assert other.get("key") == 1


def test_what_is_put_again_after_its_tag_was_forgotten_lives(near, face, store):
    cache = near(face, store)
    for n in range(3):
        cache.put("key", n, tags=["tag"])
        assert cache.get("key") == n
        assert cache.get("key", max_staleness=0) == n
        cache.invalidate_by_tag("tag")
        assert cache.get("key") is None
    cache.put("key", "without")
    cache.invalidate_by_tag("tag")
    assert cache.get("key") == "without"


def test_the_tags_of_the_last_write_count(near, face, shared):
    one, two = near(face, shared), near(face, shared)
    one.put("key", 1, tags=["old"])
    assert two.get("key") == 1
    one.put("key", 2, tags=["new"])
    one.invalidate_by_tag("old")
    assert one.get("key") == 2
    until(lambda: two.get("key") == 2)
    two.invalidate_by_tag("new")
    assert two.get("key") is None
    until(lambda: one.get("key") is None)


def test_an_odd_tag_is_itself_and_no_other(near, face, store):
    tags = ["a", "A", "*", "a b", "a:b", "}", "\x00", "ä", "\ud800", "x" * 10_000]
    cache = near(face, store)
    for n, tag in enumerate(tags):
        cache.put(f"k{n}", n, tags=[tag])
    for n, tag in enumerate(tags):
        cache.invalidate_by_tag(tag)
        left = [
            value
            for value in cache.get_batch([f"k{n}" for n in range(len(tags))])
            if value is not None
        ]
        assert left == list(range(n + 1, len(tags)))


def test_many_tags(near, face, store):
    cache = near(face, store)
    tags = [f"t{n}" for n in range(300)]
    cache.put("key", 1, tags=tags)
    assert cache.get("key") == cache.get("key", max_staleness=0) == 1
    cache.invalidate_by_tag("t299")
    assert cache.get("key") is None
    cache.put_batch({f"k{n}": n for n in range(300)}, tags=["all", *tags[:3]])
    cache.invalidate_by_tag("all")
    assert cache.get_batch([f"k{n}" for n in range(300)]) == [None] * 300


def test_a_tag_of_a_view_is_its_own(near, face, store):
    cache = near(face, store)
    view = cache.view("inner")
    cache.put("key", 1, tags=["tag"])
    view.put("key", 2, tags=["tag"])
    view.invalidate_by_tag("tag")
    assert (cache.get("key"), view.get("key")) == (1, None)


def test_forgetting_a_tag_reaches_other_caches(near, face, shared):
    one, two = near(face, shared), near(face, shared)
    one.put("a", 1, tags=["tag"])
    one.put("b", 2)
    settled(two, "a")
    settled(two, "b")
    one.invalidate_by_tag("tag")
    assert one.get("a") is None
    until(lambda: two.get("a") is None)
    assert two.get("b") == 2


def test_values_of_a_new_tag_are_near_before_long(near, face, shared):
    """That the tag's epoch was created by this very write is no reason to drop them."""
    cache = begun(near, face, shared)
    keys = [f"k{n}" for n in range(10)]
    for n, key in enumerate(keys):
        cache.put(key, n, tags=[f"t{n}"])

    def all_are_hits():
        before = cache.get_stats().near_hits
        return (
            cache.get_batch(keys) == list(range(10)) and cache.get_stats().near_hits == before + 10
        )

    until(all_are_hits, Options().link_timeout)


BAD = ["tag", b"tag", [b"tag"], [1], [None], [""], ["good", ""], 5, None, [["tag"]]]


@pytest.mark.parametrize("tags", BAD, ids=repr)
def test_bad_tags_are_refused_before_any_effect(near, face, tags):
    cache = near(face, "memory://")
    cache.put("key", 1)
    with pytest.raises(ConfigError, match="tag"):
        cache.put("key", 2, tags=tags)
    with pytest.raises(ConfigError, match="tag"):
        cache.put_batch({"key": 2}, tags=tags)
    with pytest.raises(ConfigError, match="tag"):
        cache.get_or_load("other", lambda: 1 / 0, tags=tags)
    with pytest.raises(ConfigError, match="tag"):
        cache.get_or_load_batch(["other"], lambda _: 1 / 0, tags=tags)
    assert cache.get("key") == cache.get("key", max_staleness=0) == 1


@pytest.mark.parametrize("tags", BAD, ids=repr)
@pytest.mark.parametrize("kind", [None, "memory://"])
def test_a_loader_that_names_bad_tags_is_told_so(near, face, kind, tags):
    cache = near(face, kind)
    with pytest.raises((LoaderError, ConfigError)):
        cache.get_or_load("key", lambda: Loaded(1, tags=tags))
    with pytest.raises((LoaderError, ConfigError)):
        cache.get_or_load("key", lambda: Loaded(1, ttl=-1))
    assert cache.get("key") is None
    assert cache.get_or_load("key", lambda: 2) == 2


@pytest.mark.parametrize("tag", ["", b"tag", None, 5, ["tag"]])
def test_only_a_tag_can_be_forgotten(near, face, tag):
    with pytest.raises(ConfigError):
        near(face).invalidate_by_tag(tag)


# -- forgotten during a load -----------------------------------------------------------------------

NAMING = {
    "by the caller": (["tag"], lambda value: value),
    "by the loader": ([], lambda value: Loaded(value, tags=["tag"])),
    "by both": (["tag", "more"], lambda value: Loaded(value, tags=["tag"])),
}


@pytest.mark.parametrize("naming", NAMING.values(), ids=NAMING)
def test_a_tag_forgotten_during_a_load_takes_the_value_along(near, face, store, naming):
    cache, (tags, give) = near(face, store), naming
    blocking = cache.thing.as_sync()

    def load():
        blocking.invalidate_by_tag("tag")
        return give("old")

    assert cache.get_or_load("key", load, tags=tags) == "old"
    assert cache.get("key") is None
    assert cache.get("key", max_staleness=0) is None


@pytest.mark.parametrize("naming", NAMING.values(), ids=NAMING)
def test_a_tag_forgotten_elsewhere_during_a_load_takes_the_value_along(near, face, shared, naming):
    (tags, give), cache, other = naming, near(face, shared), near("sync", shared)
    linked(other)

    def load():
        other.invalidate_by_tag("tag")
        return give("old")

    assert cache.get_or_load("key", load, tags=tags) == "old"
    assert other.get("key") is None
    assert cache.get("key", max_staleness=0) is None
    until(lambda: cache.get("key") is None)


def test_everything_forgotten_during_a_load_takes_the_value_along(near, face, store):
    cache = near(face, store)
    blocking = cache.thing.as_sync()
    assert cache.get_or_load("key", lambda: (blocking.clear() and None) or "old") == "old"
    assert cache.get("key") is None
    assert cache.get("key", max_staleness=0) is None
    cache.put("key", "new")
    assert cache.get("key", max_staleness=0) == "new"


def test_a_tag_forgotten_while_another_task_loads(near, store):
    cache = near("async", store).thing

    async def main():
        inside, go = asyncio.Event(), asyncio.Event()

        async def load():
            inside.set()
            await go.wait()
            return "old"

        task = asyncio.create_task(cache.get_or_load("key", load, tags=["tag"]))
        await inside.wait()
        await cache.invalidate_by_tag("tag")
        go.set()
        assert await task == "old"
        assert await cache.get("key") is None
        assert await cache.get_or_load("key", lambda: "new", tags=["tag"]) == "new"
        assert await cache.get("key", max_staleness=0) == "new"

    asyncio.run(main())


# -- a store that cannot take it -------------------------------------------------------------------


@pytest.mark.parametrize("error", [StoreReadOnly, StoreUnavailable])
@pytest.mark.parametrize("what", ["tag", "key", "everything"])
def test_what_could_not_be_forgotten_in_the_store_stays_forgotten_here(near, face, error, what):
    store = ChaosStore(MemoryStore())
    cache = near(face, store, options=Options(link_timeout=0.5))
    cache.put("key", 1, tags=["tag"])
    settled(cache, "key")
    writing = ["bump", "put", "commit", "revoke", "claim", "epochs", "expect", "renew", "release"]
    store.fail(error=error, methods=writing)
    forget = {
        "tag": lambda: cache.invalidate_by_tag("tag"),
        "key": lambda: cache.invalidate("key"),
        "everything": lambda: cache.clear(),
    }[what]
    forget()
    assert cache.get_stats().undelivered == 1
    for _ in range(20):
        assert cache.get("key") is None
        assert cache.get("key", max_staleness=0) is None
        assert cache.get_batch(["key", "other"]) == [None, None]
    assert cache.get_or_load("key", lambda: "loaded") == "loaded"
    store.calm()
    until(lambda: cache.get("other") is None and cache.get_stats().undelivered == 0)
    assert cache.get("key") in (None, "loaded")
    assert cache.get("key", max_staleness=0) != 1
    assert near(face, store).get("key") != 1
