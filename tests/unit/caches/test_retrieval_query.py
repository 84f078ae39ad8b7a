"""Queries of a RetrievalCache: equal parameters are one query, all others are told apart."""

import enum
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearcache import ConfigError
from nearcache.caches.retrieval import RetrievalCache
from nearcache.caches.retrieval_query import RetrievalQuery, canonical, query_key


@dataclass
class Search:
    text: str
    limit: int = 10
    filters: dict[str, Any] = field(default_factory=dict)


@dataclass
class TitleSearch(Search):
    pass


class Kind(enum.StrEnum):
    EPISODIC = "episodic"


SAME = {
    "another order": [{"text": "a", "limit": 5}, {"limit": 5, "text": "a"}],
    "another order within": [{"f": {"a": 1, "b": 2}}, {"f": {"b": 2, "a": 1}}],
    "any mapping": [
        {"a": 1, "b": 2},
        OrderedDict(b=2, a=1),
        MappingProxyType({"b": 2, "a": 1}),
    ],
    "RetrievalQuery": [
        RetrievalQuery("a", limit=5),
        RetrievalQuery(limit=5, text="a"),
        {"text": "a", "limit": 5},
    ],
    "a dataclass": [Search("a", filters={"x": 1, "y": 2}), Search("a", 10, {"y": 2, "x": 1})],
    "list and tuple": [{"ids": [1, (2, 3)]}, {"ids": (1, [2, 3])}],
    "a str of another type": [{"kind": "episodic"}, {"kind": Kind.EPISODIC}],
    "numpy's float": [{"x": 0.5}, {"x": np.float64(0.5)}],
    "minus zero": [{"x": 0.0}, {"x": -0.0}],
    "bytes": [{"x": b"ab"}, {"x": bytearray(b"ab")}],
}

APART = [
    "a",
    "A",
    "a ",
    "",
    b"a".decode() + "\x00",
    "é",
    "e\u0301",
    "\ud800",
    *[{"x": value} for value in (1, 1.0, "1", True, b"1", [1], {"1": 1}, 1 + 2**70)],
    *[{"x": value} for value in (0, 0.0, "", False, None, b"", [], {}, [None])],
    {},
    {"x": "a"},
    {"x": ["a", "b"]},
    {"x": ["b", "a"]},
    {"x": ["ab"]},
    {"x": ["as", "b"]},
    {"x": ["a", "sb"]},
    {"x": [["a"], "b"]},
    {"x": [["a", "b"]]},
    {"x": "a", "y": "b"},
    {"x": "b", "y": "a"},
    {"xy": "ab"},
    {"x": {"y": "ab"}},
    {1: "a"},
    {"1": "a"},
    {"text": "a"},
    {"x": float("inf")},
    {"x": float("-inf")},
    Search("a"),
    TitleSearch("a"),
    {"text": "a", "limit": 10, "filters": {}},
    {"x": Search("a")},
    {"x": {"text": "a", "limit": 10, "filters": {}}},
]


@pytest.mark.parametrize("queries", SAME.values(), ids=SAME)
def test_equal_parameters_are_one_query(queries):
    cache = RetrievalCache()
    for query in queries:
        cache.clear()
        cache.put(query, ["found"], memory_ids=[])
        assert [cache.get(other) for other in queries] == [["found"]] * len(queries)


def test_every_other_query_is_another():
    cache = RetrievalCache()
    for number, query in enumerate(APART):
        assert cache.get(query) is None, query
        cache.put(query, [number], memory_ids=[])
    assert [cache.get(query) for query in APART] == [[number] for number in range(len(APART))]


def test_a_scope_is_part_of_the_query_and_none_is_one_of_its_own():
    scopes = [None, "None", "a", "a:b", "n:", "*", "[a]", "a\nb", "\x00", "🙂", "x" * 10_000]
    cache = RetrievalCache("memory://")
    for number, scope in enumerate(scopes):
        assert cache.get("q", scope) is None
        cache.put("q", [number], memory_ids=[], scope=scope)
    assert [cache.get("q", scope) for scope in scopes] == [[n] for n in range(len(scopes))]
    assert query_key("a", "b") != query_key("b", "a")


def test_a_megabyte_is_a_query_like_any_other(store):
    with RetrievalCache(store) as cache:
        long = "x" * 2**20
        cache.put(long, ["long"], memory_ids=["m"])
        assert cache.get(long) == ["long"]
        assert cache.get(long, max_staleness=0) == ["long"]
        assert cache.get(long + "x") is None
        cache.put({"vector": [0.5] * 1536}, ["vector"], memory_ids=[])
        assert cache.get({"vector": [0.5] * 1536}) == ["vector"]


def test_a_query_has_the_same_name_in_every_process():
    """Whatever the seed of hash() there; and in every version: what is stored must be found."""
    code = (
        "from nearcache.caches.retrieval_query import query_key;"
        "print(*query_key({'b': [1, None, 'ä'], 'a': {'y': True, 'x': 0.5}}, 'agent'))"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert names == {"00f5e6ea2677c2411b20df35135d8938 agent\n"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
parameters = st.dictionaries(st.text(), values, max_size=4)


def typed(value):
    """A value that equals another only if all their types are equal too."""
    if isinstance(value, dict):
        return ("dict", frozenset((key, typed(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", *map(typed, value))
    return (type(value), value)


@given(one=parameters, two=parameters)
def test_two_queries_share_a_form_if_they_are_equal_and_only_then(one, two):
    assert (canonical(one) == canonical(two)) == (typed(one) == typed(two))
    assert canonical(dict(reversed(one.items()))) == canonical(one)


def nested(levels):
    value: Any = []
    for _ in range(levels):
        value = [value]
    return {"x": value}


class Cyclic(list):
    def __init__(self):
        self.append(self)


BAD = {
    "no parameters": (5, "give {'name': value}"),
    "a list": (["a"], "give {'name': value}"),
    "None": (None, "give {'name': value}"),
    "bytes": (b"a", "give {'name': value}"),
    "a class": (Search, "give {'name': value}"),
    "a set": ({"x": {1, 2}}, "has no stable form"),
    "an object": ({"x": object()}, "has no stable form"),
    "an array": ({"x": np.zeros(2)}, "has no stable form"),
    "numpy's int": ({"x": np.int64(1)}, "has no stable form"),
    "NaN": ({"x": float("nan")}, "NaN"),
    "an odd name": ({(1, 2): 3}, "names its parameters with str"),
    "too deep": (nested(100), "levels deep"),
    "a circle": ({"x": Cyclic()}, "levels deep"),
}


@pytest.mark.parametrize("query, cure", BAD.values(), ids=BAD)
def test_what_has_no_stable_name_is_refused_before_any_effect(query, cure):
    cache = RetrievalCache()
    for use in (
        lambda: cache.get(query),
        lambda: cache.put(query, [], memory_ids=[]),
        lambda: cache.get_or_load(query, lambda: 1 / 0),
    ):
        with pytest.raises(ConfigError, match=cure):
            use()
    assert cache.size == 0


@pytest.mark.parametrize("scope", ["", 5, b"a", ["a"], "x" * 20_000])
def test_a_bad_scope_is_refused_before_any_effect(scope):
    cache = RetrievalCache()
    for use in (
        lambda: cache.get("q", scope),
        lambda: cache.put("q", [], memory_ids=[], scope=scope),
        lambda: cache.get_or_load("q", lambda: 1 / 0, scope),
        lambda: cache.invalidate_by_scope(scope),
    ):
        with pytest.raises(ConfigError, match="scope"):
            use()
    assert cache.size == 0


def test_a_retrieval_query_is_a_mapping_that_can_be_a_key():
    query = RetrievalQuery("agents", limit=5, types=["episodic"])
    assert dict(query) == {"text": "agents", "limit": 5, "types": ["episodic"]}
    assert query == RetrievalQuery("agents", types=("episodic",), limit=5)
    assert query != RetrievalQuery("agents", limit=5.0, types=["episodic"])
    assert len({query, RetrievalQuery("agents", types=["episodic"], limit=5)}) == 1
    assert repr(query) == "RetrievalQuery('agents', limit=5, types=['episodic'])"
    with pytest.raises(ConfigError, match="no stable form"):
        RetrievalQuery("agents", limit=object())
    with pytest.raises(ConfigError, match="str"):
        RetrievalQuery(5)  # type: ignore[arg-type]


def test_a_query_asks_for_what_its_parameters_are_when_it_is_asked():
    cache = RetrievalCache()
    query = RetrievalQuery("agents", types=["episodic"])
    cache.put(query, ["an episode"], memory_ids=["1"])
    query["types"].append("semantic")
    assert cache.get(query) is None
    assert cache.get(RetrievalQuery("agents", types=["episodic"])) == ["an episode"]
