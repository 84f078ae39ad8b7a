"""A far hit of a value with tags is one question, once the tags' tokens are known."""

import pytest

from embedders import until
from near_fixtures import linked, near_caches
from nearcache import MemoryStore, Options

near = pytest.fixture(near_caches)


class Counting(MemoryStore):
    """A store that counts how often it is looked at for values."""

    looks = 0

    def look(self, keys, groups):
        self.looks += bool(keys)  # a link looks at groups alone, behind its caches
        return super().look(keys, groups)


def test_a_far_hit_with_tags_is_one_question(near, face):
    store = Counting()
    options = Options(link_timeout=60.0)  # known tokens stay known, however busy the machine is
    writer, reader = near("sync", store), near(face, store, options=options)
    linked(writer, reader)
    for number in range(1000):
        writer.put(f"k{number}", number, tags=["a", "b"])
    others = iter(range(20, 1000))

    def one_question():  # once the news of the tokens' making has been heard
        number, looks = next(others), store.looks
        assert reader.get(f"k{number}") == number
        return store.looks == looks + 1

    until(lambda: all(one_question() for _ in range(5)))
    before = store.looks
    assert [reader.get(f"k{number}") for number in range(1, 20)] == list(range(1, 20))
    assert store.looks == before + 19
    assert [reader.get(f"k{number}") for number in range(1, 20)] == list(range(1, 20))
    assert store.looks == before + 19  # near


def test_a_forgotten_tag_ends_what_was_read_that_way(near, face):
    store = Counting()
    writer, reader = near("sync", store), near(face, store)
    linked(writer, reader)
    for number in range(3):
        writer.put(f"k{number}", number, tags=["a"])
    assert reader.get("k0") == 0
    assert reader.get("k1") == 1
    reader.invalidate_by_tag("a")
    assert [reader.get(f"k{number}") for number in range(3)] == [None] * 3
