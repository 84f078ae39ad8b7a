"""NearCache.invalidate says what there was: not what was forgotten, nor what never came."""

import pytest

from embedders import until
from near_fixtures import linked, near_caches
from nearcache import MISSING, Options

near = pytest.fixture(near_caches)


def test_it_says_whether_there_was_something(near, face, store):
    cache = near(face, store)
    assert not cache.invalidate("key")
    cache.put("key", 1)
    assert cache.invalidate("key")
    assert not cache.invalidate("key")
    cache.put("none", None)
    assert cache.invalidate("none")
    cache.put_batch({"a": 1, "b": 2})
    assert cache.invalidate_batch(["a", "b", "c"]) == 2
    assert cache.invalidate_batch(["a", "b", "c"]) == 0


@pytest.mark.parametrize("how", ["clear", "tag"])
def test_what_was_forgotten_with_others_is_not_there(near, face, store, how):
    cache = near(face, store)
    cache.put("key", 1, tags=["tag"])
    cache.clear() if how == "clear" else cache.invalidate_by_tag("tag")
    assert not cache.invalidate("key")


def test_a_remembered_absence_is_nothing(near, face, store):
    cache = near(face, store, options=Options(negative_ttl=50.0))
    cache.get_or_load("key", lambda: MISSING)
    assert not cache.invalidate("key")


def test_what_only_the_store_has_counts(near, face, shared):
    one, two = near("sync", shared), near(face, shared)
    linked(one, two)
    one.put("key", 1, tags=["tag"])
    assert two.invalidate("key")
    one.put("key", 1, tags=["tag"])
    one.invalidate_by_tag("tag")
    until(lambda: two.get("key") is None)
    assert not two.invalidate("key")
