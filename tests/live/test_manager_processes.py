"""CacheManager on real stores: what is said in one process holds in all, at little cost."""

import numpy as np
import pytest

import manager_process
from embedders import Face, until, vector
from nearcache import Options
from nearcache.caches.manager import CacheManager
from nearcache.caches.manager_async import AsyncCacheManager
from nearcache.caches.memory_key import MemoryKey
from processes import HANG, finish, process_of, start_together
from retrieval_fixtures import commands_of, hears

process = pytest.fixture(process_of(manager_process))

CAT = MemoryKey("episodic", "cat", "ada")
DOG = MemoryKey("semantic", "dog", "bob")
FACES = {"sync": CacheManager, "async": AsyncCacheManager}


def test_another_process_hears_what_became_of_a_memory(process, tmp_path, url):
    with CacheManager.from_url(url) as manager:

        def fill():
            manager.cache_memory(CAT, "Tom")
            manager.cache_retrieval("cats", ["cat"], memory_ids=[CAT], scope="ada")
            manager.cache_retrieval("dogs", ["dog"], memory_ids=[DOG], scope="bob")

        steps = [
            (lambda: manager.memory_changed(CAT), "o"),
            (fill, "mlo"),
            (lambda: manager.memory_added(MemoryKey("episodic", "new", "ada")), "mo"),
            (fill, "mlo"),
            (lambda: manager.invalidate_memory("episodic", "cat", "ada"), "o"),
            (fill, "mlo"),
            (lambda: manager.invalidate_memory("semantic", "dog", "bob"), "ml"),
            (fill, "mlo"),
            (lambda: manager.invalidate_by_scope("ada"), "o"),
            (fill, "mlo"),
            (lambda: manager.invalidate_by_type("semantic"), "m"),
            (fill, "mlo"),
            (lambda: manager.clear_all(), "-"),
        ]
        fill()
        other = process("hold", url, *(word for _, word in steps))
        start_together(tmp_path, [other])
        for number, (step, _) in enumerate(steps):
            step()
            until(lambda number=number: _saw(tmp_path, number, other), HANG)
        finish(other)


def _saw(folder, number, other):
    assert other.poll() in (None, 0), other.stderr.read()
    return (folder / f"saw-{number}").exists()


@pytest.fixture
def manager(face, one_server):
    """A manager that hears of changes; its link asks for the time now and then."""
    it = Face(FACES[face].from_url(one_server.url, options=Options(link_timeout=60.0)))
    hears(it.hot, it.retrieval)
    yield it
    it.close()


def test_second_reads_ask_the_server_nothing(manager, one_server):
    """SEEDS 39: the local cache is alive if the server is not asked."""
    manager.cache_memory(CAT, "Tom")
    manager.cache_embedding("cat", vector("cat"), "m")
    manager.cache_retrieval("cats", ["cat"], memory_ids=[CAT])

    def read():
        assert manager.get_memory(CAT) == "Tom"
        assert np.array_equal(manager.get_embedding("cat", "m"), vector("cat"))
        assert manager.get_retrieval("cats") == ["cat"]
        return manager.get_stats()

    def all_are_near():
        before = read()
        for _ in range(50):
            read()
        after = read()
        return all(
            after.caches[name].near_hits == before.caches[name].near_hits + 51
            for name in ("hot", "embeddings", "retrieval")
        )

    until(all_are_near)  # when the news of its own writes has come
    until(lambda: commands_of(one_server, read) == 0)  # but for a question of the link's


INVALIDATE = {
    "type": lambda it: it.invalidate_by_type("episodic"),
    "scope": lambda it: it.invalidate_by_scope("ada"),
    "changed": lambda it: it.memory_changed(CAT),
    "added": lambda it: it.memory_added(CAT),
}


@pytest.mark.parametrize("say", INVALIDATE.values(), ids=INVALIDATE)
def test_one_word_is_a_few_commands_however_much_there_is(manager, one_server, say):
    manager.warmup("episodic", {f"m{n}": n for n in range(1000)}, "ada")
    for number in range(100):
        manager.cache_retrieval({"page": number}, [number], memory_ids=[CAT], scope="ada")
    assert commands_of(one_server, lambda: say(manager)) <= 20
    assert manager.get_retrieval({"page": 5}, "ada") is None
