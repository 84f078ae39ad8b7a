"""NearCache: what may be a key, and that no two keys meet."""

import itertools

import pytest

from near_fixtures import near_caches
from nearcache.errors import ConfigError

near = pytest.fixture(near_caches)

ODD = [
    "a",
    b"a",
    ("a",),
    (b"a",),
    (("a",),),
    ("a", "b"),
    (("a", "b"),),
    ("a", ("b",)),
    (("a",), "b"),
    ("a,b",),
    ("a)", "b"),
    ("a", "(b"),
    ("a\\", "b"),
    ("a", "\\b"),
    "a,b",
    "t(a)",
    "a:lease",
    "a.:lease",
    "a.",
    "a:",
    "}:e:*",
    "*",
    "?[a-z]",
    " ",
    "\n",
    "\x00",
    b"\x00",
    b"\xff\xfe",
    "ä",
    "a\u0308",
    "\ud800",
    "\U0001f600",
    ("", "a"),
    ("a", ""),
    ("", ""),
    ("",),
    (b"",),
    ("a", b""),
    "x" * 60_000,
]


@pytest.mark.parametrize("tier", ["near", "far"])
def test_no_two_keys_meet_in_any_tier(near, face, shared, tier):
    cache = near(face, shared, max_entries=1000 if tier == "near" else 0)
    cache.put_batch([(key, n) for n, key in enumerate(ODD)])
    assert [cache.get(key) for key in ODD] == list(range(len(ODD)))
    assert cache.get_batch(ODD) == list(range(len(ODD)))
    other = near(face, shared, namespace="other")
    assert other.get_batch(ODD) == [None] * len(ODD)


def test_each_key_can_be_forgotten_alone(near, face, shared):
    cache = near(face, shared)
    for key in ODD:
        cache.put_batch([(other, 1) for other in ODD])
        assert cache.invalidate(key)
        assert [other for other in ODD if cache.get(other) is None] == [key]


class Text(str):
    __slots__ = ()

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0

    def __str__(self):
        return "another"


class Pair(tuple):
    __slots__ = ()

    def __iter__(self):
        return iter(("another",))


class Raw(bytes):
    __slots__ = ()

    def __bytes__(self):
        return b"another"


@pytest.mark.parametrize("given, plain", [(Text("a"), "a"), (Pair(("a", "b")), ("a", "b"))])
def test_what_a_subclass_says_of_itself_decides_nothing(near, face, store, given, plain):
    cache = near(face, store)
    cache.put(given, 1)
    assert cache.get(plain) == 1
    assert cache.get("another") is None
    assert cache.get(("another",)) is None
    assert all(type(key) is type(plain) for key in cache.admin.entries())
    assert cache.invalidate(given)
    assert cache.get(plain) is None


def test_a_subclass_of_bytes_is_its_bytes(near, face, store):
    cache = near(face, store)
    cache.put(Raw(b"a"), 1)
    assert cache.get(b"a") == 1
    assert cache.get(b"another") is None


def test_a_key_that_claims_to_be_any_other_is_no_hit(near, face, store):
    cache = near(face, store)
    cache.put("a", 1)
    assert cache.get(Text("b")) is None


BAD = [
    "",
    b"",
    (),
    None,
    1,
    1.5,
    True,
    [],
    ["a"],
    {"a"},
    {"a": 1},
    bytearray(b"a"),
    object(),
    ("a", 1),
    ("a", None),
    ("a", ["b"]),
    ("a", ()),
    (("a", {}),),
    "x" * 70_000,
    ("x" * 40_000, "y" * 40_000),
]

USES = {
    "get": lambda cache, key: cache.get(key),
    "get read through": lambda cache, key: cache.get(key, max_staleness=0),
    "get_batch": lambda cache, key: cache.get_batch(["a", key]),
    "contains": lambda cache, key: cache.contains(key),
    "put": lambda cache, key: cache.put(key, 1),
    "put_batch": lambda cache, key: cache.put_batch([("new", 1), (key, 1)]),
    "get_or_load": lambda cache, key: cache.get_or_load(key, lambda: 1 / 0),
    "get_or_load_batch": lambda cache, key: cache.get_or_load_batch(["new", key], lambda _: 1 / 0),
    "invalidate": lambda cache, key: cache.invalidate(key),
    "invalidate_batch": lambda cache, key: cache.invalidate_batch(["a", key]),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_no_key_is_refused_before_any_effect(near, face, use):
    cache = near(face, "memory://")
    cache.put("a", 1)
    cache.put(b"a", 1)
    before = cache.get_stats()
    for key in BAD:
        with pytest.raises(ConfigError, match="key"):
            use(cache, key)
    after = cache.get_stats()
    assert (after.hits, after.misses, after.loads) == (before.hits, before.misses, before.loads)
    assert cache.get("new") is None
    assert cache.get("a") == 1


@pytest.mark.parametrize("keys", ["ab", b"ab"])
def test_a_string_is_no_list_of_keys(near, face, keys):
    cache = near(face)
    with pytest.raises(ConfigError, match=r"\[key\]"):
        cache.get_batch(keys)
    with pytest.raises(ConfigError, match=r"\[key\]"):
        cache.get_or_load_batch(keys, lambda _: {})


@pytest.mark.parametrize("keys", ["ab", b"ab"])
def test_a_string_is_no_list_of_keys_to_forget_either(near, face, keys):
    cache = near(face)
    cache.put("a", 1)
    with pytest.raises(ConfigError):
        cache.invalidate_batch(keys)
    assert cache.get("a") == 1


def test_a_batch_answers_in_order_with_repeats(near, face, store):
    cache = near(face, store)
    cache.put_batch({"a": 1, "b": 2})
    assert cache.get_batch(["b", "x", "a", "b", "x"], default=0) == [2, 0, 1, 2, 0]
    assert cache.get_batch([]) == []
    assert cache.get_batch(key for key in ("a", "b")) == [1, 2]


def test_a_large_batch_of_any_keys_comes_back(near, face, shared):
    keys = ["".join(pair) for pair in itertools.product("abcdefghij", repeat=3)]
    cache = near(face, shared, max_entries=0)
    cache.put_batch({key: key for key in keys})
    assert cache.get_batch(keys) == keys


def test_the_last_value_of_a_key_given_twice_stands(near, face, store):
    cache = near(face, store)
    cache.put_batch([("a", 1), ("b", 2), ("a", 3)])
    assert cache.get_batch(["a", "b"]) == [3, 2]
    cache.put_batch([])
    cache.put_batch({})


@pytest.mark.parametrize("items", ["ab", 1, None, ["abc"], [("a",)], [("a", 1, 2)], [1]], ids=repr)
def test_what_holds_no_pairs_is_refused_before_anything_is_kept(near, items):
    cache = near()
    for call in (cache.put_batch, cache.warm):
        with pytest.raises(ConfigError, match="pair"):
            call(items)
    assert cache.size == 0
