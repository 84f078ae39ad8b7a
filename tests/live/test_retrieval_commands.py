"""RetrievalCache on real servers: what each call costs there, in commands."""

import pytest

from embedders import until
from nearcache import Options
from nearcache.caches.memory_key import MemoryKey
from retrieval_fixtures import commands_of, hears, retrieval_caches

retrieval = pytest.fixture(retrieval_caches)

CALM = Options(link_timeout=60.0)  # the link asks for the time now and then


def test_a_second_read_asks_the_server_nothing(retrieval, face, redis_server):
    cache = retrieval(face, redis_server.url, options=CALM)
    hears(cache)
    query = {"text": "cats", "limit": 5}
    assert cache.get_or_load(query, lambda: (["cat"], ["m1"]), "ada") == ["cat"]

    def read():
        assert cache.get({"limit": 5, "text": "cats"}, "ada") == ["cat"]
        assert cache.get_or_load(query, lambda: 1 / 0, "ada") == ["cat"]

    def fifty_are_near():
        hits = cache.get_stats().near_hits
        for _ in range(50):
            read()
        return cache.get_stats().near_hits == hits + 100

    until(fifty_are_near)  # when the news of its own write has come
    until(lambda: commands_of(redis_server, read) == 0)  # but for a ping of the link now and then


FORGET = {
    "changed": lambda cache: cache.memory_changed("m1"),
    "added": lambda cache: cache.memory_added(MemoryKey("episodic", "m2", "ada")),
    "added to no scope": lambda cache: cache.memory_added(MemoryKey("episodic", "m2")),
    "scope": lambda cache: cache.invalidate_by_scope("ada"),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("forget", FORGET.values(), ids=FORGET)
def test_to_drop_a_thousand_lists_is_a_few_commands(retrieval, one_server, forget):
    """Two writes at most, and what the link looks at when it hears of them."""
    cache = retrieval("sync", one_server.url, options=CALM)
    hears(cache)
    for number in range(1000):
        cache.put({"page": number}, [number], memory_ids=["m1"], scope="ada")
    until(lambda: commands_of(one_server, lambda: cache.get({"page": 999}, "ada")) == 0)
    assert commands_of(one_server, lambda: forget(cache)) <= 20
    assert cache.get({"page": 5}, "ada") is None
    assert cache.get({"page": 999}, "ada", max_staleness=0) is None
