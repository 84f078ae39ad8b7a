"""HotMemoryCache: what its calls cost, in commands at a real server."""

import asyncio
from functools import partial

import pytest

from embedders import until
from hot_fixtures import A, B, hot_caches, linked, settled, work
from nearcache import Options
from nearcache.caches.memory_key import MemoryKey

made = pytest.fixture(hot_caches)


@pytest.fixture
def hot(made):
    """Caches whose links outlive a machine that stands still.

    One that is lost and comes back costs commands: its canary, and a look at what is near.
    """
    return partial(made, options=Options(link_timeout=60.0))


@pytest.fixture
def quiet(hot, face, redis_server):
    """A cache that holds A near, of a namespace that is long in use, and its server."""
    hot(face, redis_server.url).put(B, "begun")
    cache = hot(face, redis_server.url)
    cache.put(A, "value", tags=["tag"])
    linked(cache)
    settled(cache, A)
    return cache, redis_server


def becomes_free(server, read) -> None:
    """Wait until reading makes no command; before, the cache may look again at what is near."""

    def is_free():
        server.reset_counts()
        for _ in range(100):
            read()
        return work(server.command_counts()) == {}

    until(is_free)


READS = {
    "get": lambda cache: cache.get(A),
    "get_batch": lambda cache: cache.get_batch([A, A])[0],
    "contains": lambda cache: cache.contains(A) and "value",
    "get_or_load": lambda cache: cache.get_or_load(A, lambda: 1 / 0),
    "get_or_load_batch": lambda cache: cache.get_or_load_batch([A], lambda _: 1 / 0)[0],
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_second_read_makes_no_command(quiet, read):
    cache, server = quiet
    assert read(cache) == "value"
    becomes_free(server, lambda: read(cache))


def test_a_read_after_a_write_makes_no_command(quiet):
    cache, server = quiet
    cache.put(A, "new")
    becomes_free(server, lambda: cache.get(A))
    assert cache.get(A) == "new"


def test_what_another_cache_changes_is_read_once_more(quiet, hot, face):
    cache, server = quiet
    hot(face, server.url).put(A, "new")
    until(lambda: cache.get(A) == "new")
    becomes_free(server, lambda: cache.get(A))


FORGETS = {
    "type": lambda cache: cache.invalidate_by_type("episodic"),
    "scope": lambda cache: cache.invalidate_by_scope("alice"),
    "no scope": lambda cache: cache.invalidate_by_scope(None),
    "tag": lambda cache: cache.invalidate_by_tag("tag"),
    "pattern of a type": lambda cache: cache.invalidate_pattern("episodic"),
    "pattern of a scope": lambda cache: cache.invalidate_pattern(scope="alice"),
}


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
def test_a_type_or_scope_of_ten_thousand_is_three_commands_at_most(hot, one_server, forget):
    cache = hot("sync", one_server.url, max_entries=20_000)
    cache.warm({MemoryKey("episodic", f"{n}", "alice"): n for n in range(10_000)})
    cache.put(A, "value", tags=["tag"])
    settled(cache, A)
    becomes_free(one_server, lambda: cache.get(A))
    forget(cache)
    counts = work(one_server.command_counts())
    # The link's thread, which hears of the group, looks once more at what is near: a command a key,
    # and maybe before these are counted. A forget reads nothing.
    looks = {"mget", "getrange"}
    assert sum(count for name, count in counts.items() if name not in looks) <= 3, counts


def test_a_pattern_is_searched_page_by_page_and_forgotten_in_batches(hot, face, redis_server):
    cache = hot(face, redis_server.url, max_entries=0)
    cache.put_batch({MemoryKey("working", f"{n}"): n for n in range(2000)})
    redis_server.reset_counts()
    assert cache.invalidate_pattern(memory_id="1*") == 1111
    counts = redis_server.command_counts()
    assert "keys" not in counts
    assert counts["scan"] >= 4
    with redis_server.client() as client:
        assert len(list(client.scan_iter("*:k:*"))) == 2000 - 1111


def test_fifty_readers_of_an_absent_memory_load_it_once(hot, one_server):
    cache = hot("async", one_server.url)
    calls = []

    async def load():
        calls.append(1)
        await asyncio.sleep(0)
        return "value"

    async def main():
        return await asyncio.gather(*(cache.thing.get_or_load(A, load) for _ in range(50)))

    assert asyncio.run(main()) == ["value"] * 50
    assert calls == [1]


def test_a_batch_of_a_hundred_is_one_read(hot, face, redis_server):
    keys = [MemoryKey("working", f"{n}") for n in range(100)]
    cache = hot(face, redis_server.url, max_entries=0)
    cache.put_batch(dict.fromkeys(keys, 1))

    def costs():
        redis_server.reset_counts()
        assert cache.get_batch(keys) == [1] * 100
        return work(redis_server.command_counts())

    until(lambda: costs() == {"mget": 1})
