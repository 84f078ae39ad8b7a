"""What a report calls a cache: its class, its namespace, and the view."""

import pytest

from nearcache import EmbeddingCache, HotMemoryCache, NearCache, RetrievalCache, ShortTermMemory
from nearcache.engine.engine import live_engines

KINDS = [EmbeddingCache, NearCache, HotMemoryCache, RetrievalCache, ShortTermMemory]


def found(namespace):
    return [
        (engine.kind, engine.view) for engine in live_engines() if engine.namespace == namespace
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_knows_what_its_cache_is(kind):
    with kind(namespace="my agents/1") as cache:
        cache.as_async().as_sync()
        assert found("my agents/1") == [(kind.__name__, "")]
    assert found("my agents/1") == []


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_a_view_is_its_roots(kind):
    with kind(namespace="viewed") as cache:
        cache.view("a").view("b")
        assert sorted(found("viewed")) == [
            (kind.__name__, ""),
            (kind.__name__, "a"),
            (kind.__name__, "a/b"),
        ]
