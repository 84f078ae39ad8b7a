"""The names, parameters and defaults that users' programs are written against.

A line may leave out what was added later; what it names is there, in this order, with these
defaults.
"""

import inspect

import pytest

import nearcache
from nearcache import TTLStrategy

REQUIRED = inspect.Parameter.empty
WORKING = TTLStrategy.WORKING_RESULTS


def pinned(*names, **defaults):
    return [*((name, REQUIRED) for name in names), *defaults.items()]


MANY = {
    "max_entries": 10_000,
    "max_bytes": None,
    "ttl": 300.0,
    "policy": "adaptive",
    "options": nearcache.Options(),
}
PUT = {"ttl": ..., "tags": ()}

PINNED = {
    "HotMemoryCache": {
        "__init__": pinned(store=None, namespace="hot", codec="json", type=None, **MANY),
        "get": pinned("key", default=None),
        "get_batch": pinned("keys", default=None),
        "put": pinned("key", "value", **PUT),
        "put_batch": pinned("items"),
        "contains": pinned("key"),
        "get_or_load": pinned("key", "loader", **PUT),
        "get_or_load_batch": pinned("keys", "loader"),
        "invalidate": pinned("key"),
        "invalidate_by_type": pinned("memory_type"),
        "invalidate_by_scope": pinned("scope"),
        "invalidate_by_tag": pinned("tag"),
        "invalidate_pattern": pinned(memory_type="*", memory_id="*", scope="*"),
        "get_hot_memories": [("limit", 10)],
        "warm": pinned("items"),
        "cached": pinned(key=None, **PUT),
        "clear": [],
        "cleanup_expired": [],
        "get_stats": [],
        "reset_stats": [],
        "close": [],
        "view": pinned("name"),
    },
    "RetrievalCache": {
        "__init__": pinned(store=None, namespace="retrieval", codec="json", type=None, **MANY),
        "get": pinned("query", scope=None),
        "put": [*pinned("query", "results", "memory_ids"), ("scope", None), ("ttl", ...)],
        "get_or_load": pinned("query", "loader", scope=None),
        "invalidate_by_memory": pinned("memory_id"),
        "invalidate_by_scope": pinned("scope"),
        "memory_changed": pinned("key"),
        "memory_added": pinned("key"),
        "clear": [],
        "get_stats": [],
    },
    "ShortTermMemory": {
        "__init__": pinned(
            store=None,
            namespace="stm",
            local_cache_enabled=True,
            local_cache_size=500,
            options=nearcache.Options(),
        ),
        "stash": pinned("key", "data", "credentials", ttl=WORKING),
        "stash_batch": pinned("items", "credentials", ttl=WORKING),
        "retrieve": pinned("key", "credentials", agent_id=None),
        "retrieve_batch": pinned("keys", "credentials", agent_id=None),
        "update": pinned("key", "fn", "credentials", agent_id=None, ttl=...),
        "delete": pinned("key", "credentials"),
        "clear_working_memory": pinned("credentials"),
        "scan_keys": pinned("credentials", pattern="*", cursor=0, count=100, agent_id=None),
        "warm": pinned("keys", "credentials"),
        "clear_local_cache": [],
        "get_local_cache_stats": [],
        "get_stats": [],
        "get_metrics": [],
        "reset_metrics": [],
        "ping": [],
        "close": [],
    },
    "CacheManager": {
        "__init__": pinned(hot=None, embeddings=None, retrieval=None, cleanup_interval=60.0),
        "from_url": pinned("url", namespace=""),
        "get_memory": pinned("key"),
        "cache_memory": pinned("key", "value"),
        "get_embedding": pinned("text", "model"),
        "cache_embedding": pinned("text", "vector", "model"),
        "get_retrieval": pinned("query", scope=None),
        "cache_retrieval": pinned("query", "results", "memory_ids", scope=None),
        "memory_added": pinned("key"),
        "memory_changed": pinned("key"),
        "invalidate_memory": pinned("memory_type", "memory_id", scope=None),
        "invalidate_by_type": pinned("memory_type"),
        "invalidate_by_scope": pinned("scope"),
        "clear_all": [],
        "warmup": pinned("memory_type", "items", scope=None),
        "get_hot_memories": pinned("limit"),
        "cleanup_expired": [],
        "start": [],
        "stop": [],
        "get_stats": [],
    },
    "AgentCredentials": {"__init__": pinned("agent_id", "tier", roles=())},
    "MemoryKey": {"__init__": pinned("memory_type", "memory_id", scope=None)},
}


@pytest.mark.parametrize(
    "name, method", [(name, method) for name, methods in PINNED.items() for method in methods]
)
def test_a_pinned_call_is_what_it_was(name, method):
    found = inspect.signature(getattr(getattr(nearcache, name), method)).parameters.values()
    given = [(one.name, one.default) for one in found if one.name != "self"]
    known = dict(given)
    wanted = PINNED[name][method]
    assert [(parameter, known.get(parameter)) for parameter, _ in wanted] == wanted
    in_order = [parameter for parameter, _ in given]
    places = [in_order.index(parameter) for parameter, _ in wanted]
    assert places == sorted(places)
    needed = {parameter for parameter, default in given if default is REQUIRED}
    assert needed == {parameter for parameter, default in wanted if default is REQUIRED}


def test_the_tiers_are_numbers():
    assert {one.name: int(one) for one in nearcache.AccessTier} == {
        "OBSERVER": 1,
        "CONTRIBUTOR": 2,
        "VALIDATOR": 3,
        "STEWARD": 4,
    }


def test_a_page_and_the_local_statistics_have_these_names():
    assert nearcache.PaginatedResult._fields == ("items", "cursor", "has_more", "total_scanned")
    with nearcache.ShortTermMemory() as memory:
        assert list(memory.get_local_cache_stats()) == [
            "enabled",
            "size",
            "max_size",
            "hits",
            "misses",
            "hit_rate",
            "total_requests",
        ]
