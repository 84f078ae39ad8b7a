"""Forgetting from outside is forgetting as the programs that cache there do it."""

import numpy as np
import pytest

from nearcache import EmbeddingCache, HotMemoryCache, MemoryKey, NearCache
from nearcache.errors import ConfigError, StoreError
from nearcache.metrics.forgetting import forget
from nearcache.stores.memory import MemoryStore
from nearcache.testing import ChaosStore

A = MemoryKey("episodic", "a", "tenant")


@pytest.fixture
def store():
    return MemoryStore()


def test_a_key(store):
    with NearCache(store, namespace="n") as cache:
        cache.put("a", 1)
        cache.put(("b", "c"), 2)
        assert "forgotten" in forget(store, "n", key="a")
        forget(store, "n", key='["b", "c"]')
        assert (cache.get("a", None), cache.get(("b", "c"), None)) == (None, None)
        assert "not there" in forget(store, "n", key="a")


def test_another_namespace_keeps_its_own(store):
    with NearCache(store, namespace="n") as cache:
        cache.put("a", 1)
        forget(store, "other", key="a")
        forget(store, "other", everything=True)
        assert cache.get("a") == 1


@pytest.mark.parametrize("kind", [NearCache, HotMemoryCache])
def test_a_tag_of_values_and_of_memories(store, kind):
    with kind(store, namespace="n") as cache:
        key = A if kind is HotMemoryCache else "a"
        cache.put(key, 1, tags=["t"])
        forget(store, "n", tag="u")
        assert cache.get(key) == 1
        forget(store, "n", tag="t")
        assert cache.get(key, None) is None


def test_a_text_a_model_and_everything(store):
    with EmbeddingCache(store, namespace="n", max_entries=0) as cache:

        def there():
            return [
                cache.get(text, model) is not None
                for text, model in (("a", "m"), ("b", "m"), ("a", "o"))
            ]

        for text, model in (("a", "m"), ("b", "m"), ("a", "o")):
            cache.put(text, np.ones(4, np.float32), model)
        forget(store, "n", text="a", model="m")
        assert there() == [False, True, True]
        forget(store, "n", model="m")
        assert there() == [False, False, True]
        forget(store, "n", everything=True)
        assert there() == [False, False, False]


@pytest.mark.parametrize(
    "what",
    [{}, {"key": "a", "tag": "t"}, {"text": "a"}, {"key": "a", "model": "m"},
     {"everything": True, "tag": "t"}, {"everything": True, "model": "m"}],
)  # fmt: skip
def test_what_is_not_one_thing(store, what):
    with pytest.raises(ConfigError, match="name"):
        forget(store, "n", **what)


@pytest.mark.impatient
def test_a_store_that_fails_is_an_error(store):
    broken = ChaosStore(store)
    broken.fail()
    for what in ({"key": "a"}, {"tag": "t"}, {"model": "m"}, {"everything": True}):
        with pytest.raises(StoreError):
            forget(broken, "n", **what)
