"""NearCache: values of every codec are equal wherever they come from, and nobody shares them."""

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import pytest

from embedders import until
from near_fixtures import near_caches
from nearcache import MISSING
from nearcache.errors import CodecError, ConfigError, LoaderError

near = pytest.fixture(near_caches)


class Level(IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


VALUES: dict[str, list[Any]] = {
    "json": [
        None,
        True,
        False,
        0,
        -1,
        2**100,
        1.5,
        "",
        "text",
        "\ud800",
        "\x00",
        [],
        {},
        [1, [2, {"a": None}]],
        {"a": {"b": [True]}},
        (1, 2),
        Level.LOW,
        Name("name"),
        "x" * 100_000,
    ],
    "msgpack": [None, True, 2**63, b"", b"bytes", "text", [b"a", "a"], {1: b"x", None: 2}, (1,)],
    "bytes": [b"", b"bytes", b"\x00" * 10_000, bytearray(b"array"), memoryview(b"view")],
    "ndarray": [
        np.zeros((0,), np.float32),
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array(5.0),
        np.array([True, False]),
        np.arange(4, dtype=">f8"),
    ],
}
PAIRS = [(codec, value) for codec, values in VALUES.items() for value in values]


def alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and (one == other).all()
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(alike, one.values(), other.values()))
    return bool(one == other)


@pytest.mark.parametrize("codec", VALUES)
def test_near_far_and_freshly_loaded_values_are_equal_in_type(near, face, shared, codec):
    one, two = near(face, shared, codec=codec), near(face, shared, codec=codec)
    for n, value in enumerate(VALUES[codec]):
        fresh = one.get_or_load(f"loaded {n}", lambda value=value: value)
        one.put(f"put {n}", value)
        answers = [
            fresh,
            one.get(f"loaded {n}"),
            one.get(f"loaded {n}", max_staleness=0),
            two.get(f"loaded {n}"),
            two.get(f"loaded {n}"),
            one.get(f"put {n}"),
            two.get(f"put {n}"),
            two.get_batch([f"put {n}"])[0],
            two.get_or_load(f"put {n}", lambda: 1 / 0),
        ]
        assert all(alike(fresh, other) for other in answers), value


@pytest.mark.parametrize("make_value", [lambda: [1], lambda: {"a": [1]}], ids=["list", "dict"])
def test_containers_are_isolated_from_whoever_put_and_got_them(near, face, store, make_value):
    cache, value = near(face, store), make_value()
    mine = cache.get_or_load("loaded", lambda: value)
    cache.put("put", value)
    (value if isinstance(value, list) else value["a"]).append("changed by its owner")
    (mine if isinstance(mine, list) else mine["a"]).append("changed by a caller")
    for key in ("loaded", "put"):
        for _ in range(3):
            got = cache.get(key)
            assert got == make_value()
            (got if isinstance(got, list) else got["a"]).append("changed by a reader")


def test_repeats_in_a_batch_are_isolated_from_each_other(near, face, store):
    cache = near(face, store)
    cache.put("a", [1])
    one, two = cache.get_batch(["a", "a"])
    one.append(2)
    assert two == [1]
    three, four = cache.get_or_load_batch(["b", "b"], lambda keys: {key: [1] for key in keys})
    three.append(2)
    assert four == [1]


def test_two_tasks_that_share_a_load_share_no_container(near, store):
    cache = near("async", store).thing

    async def main():
        started, go = asyncio.Event(), asyncio.Event()

        async def load():
            started.set()
            await go.wait()
            return {"a": []}

        first = asyncio.create_task(cache.get_or_load("key", load))
        await started.wait()
        second = asyncio.create_task(cache.get_or_load("key", load))
        await asyncio.sleep(0)
        go.set()
        one, two = await first, await second
        one["a"].append(1)
        assert two == {"a": []}
        assert await cache.get("key") == {"a": []}

    asyncio.run(main())


def test_arrays_are_copies(near, face, store):
    cache = near(face, store, codec="ndarray")
    given = np.arange(3)
    cache.put("a", given)
    given[:] = 0
    got = cache.get("a")
    got[:] = 7
    assert (cache.get("a") == np.arange(3)).all()


# -- none, missing, default ------------------------------------------------------------------------


@pytest.mark.parametrize("codec", VALUES)
def test_none_is_a_value_of_every_codec(near, face, shared, codec):
    one, two = near(face, shared, codec=codec), near(face, shared, codec=codec)
    one.put("put", None)
    assert one.get_or_load("loaded", lambda: None) is None
    for cache in (one, two):
        for key in ("put", "loaded"):
            assert cache.get(key, MISSING) is None
            assert cache.get(key, MISSING) is None
            assert cache.contains(key)
            assert cache.get_or_load(key, lambda: 1 / 0) is None
    assert two.get_batch(["put", "absent"], MISSING) == [None, MISSING]


def test_the_default_is_returned_as_it_is_and_kept_nowhere(near, face, store):
    cache, default = near(face, store), object()
    assert cache.get("absent", default) is default
    assert cache.get_batch(["absent"], default)[0] is default
    assert cache.get("absent") is None
    assert cache.get("absent", MISSING) is MISSING
    assert not cache.contains("absent")


def test_missing_is_no_value(near, face, store):
    cache = near(face, store)
    cache.put("key", "before")
    with pytest.raises(CodecError):
        cache.put("key", MISSING)
    assert cache.get("key") == "before"


def test_missing_from_a_loader_is_returned_and_kept_nowhere(near, face, shared):
    one, two = near(face, shared), near(face, shared)
    asked = []
    for cache in (one, two, one):
        assert cache.get_or_load("key", lambda: asked.append(1) or MISSING) is MISSING
        assert cache.get("key", "default") == "default"
    assert len(asked) == 3


def test_what_a_batch_loader_leaves_out_is_the_default(near, face, store):
    cache = near(face, store)
    answer = cache.get_or_load_batch(["a", "b", "c"], lambda _: {"b": 2, "more": 3}, default=0)
    assert answer == [0, 2, 0]
    assert cache.get_batch(["a", "b", "more"]) == [None, 2, None]


# -- what a codec refuses --------------------------------------------------------------------------

REFUSED = [
    ("json", b"bytes"),
    ("json", {1: 2}),
    ("json", {"a": {1, 2}}),
    ("json", object()),
    ("msgpack", 2**64),
    ("msgpack", object()),
    ("bytes", "text"),
    ("ndarray", [1.0]),
    ("ndarray", np.array(["text"])),
]


@pytest.mark.parametrize("codec, value", REFUSED)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(
    near, face, shared, codec, value
):
    good = VALUES[codec][-1]
    cache = near(face, shared, codec=codec)
    cache.put("a", good)
    with pytest.raises(CodecError):
        cache.put("a", value)
    with pytest.raises(CodecError):
        cache.put_batch([("new", good), ("a", value)])
    assert alike(cache.get("a"), cache.get("a", max_staleness=0))
    assert cache.get("new", MISSING) is MISSING
    assert cache.get("a", MISSING) is not MISSING


@pytest.mark.parametrize("codec, value", REFUSED)
def test_a_loader_that_gives_what_cannot_be_kept_is_told_so(near, face, codec, value):
    cache = near(face, "memory://", codec=codec)
    with pytest.raises(LoaderError):
        cache.get_or_load("key", lambda: value)
    assert cache.get("key", MISSING) is MISSING
    assert cache.get_or_load("key", lambda: None) is None  # its lease is free again


def test_values_of_another_codec_are_misses_and_left_alone(near, face, shared):
    one, two = near(face, shared, codec="json"), near(face, shared, codec="msgpack")
    one.put("key", [1])
    assert two.get("key") is None
    assert one.get("key", max_staleness=0) == [1]
    two.put("key", [2])
    assert two.get("key") == [2]
    assert one.get("key", max_staleness=0) is None


@pytest.mark.parametrize("codec", ["pickle", "", None, 5, object()])
def test_an_unknown_codec_is_refused(near, face, codec):
    with pytest.raises(ConfigError):
        near(face, codec=codec)


# -- a user's own types ----------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: list[int] = field(default_factory=list)


def test_a_dataclass_comes_back_as_one_from_every_tier(near, face, shared):
    one, two = near(face, shared, type=Point), near(face, shared, type=Point)
    fresh = one.get_or_load("key", lambda: Point(1, [2]))
    fresh.y.append(3)
    for cache in (one, one, two, two):
        got = cache.get("key")
        assert got == Point(1, [2])
        assert type(got) is Point
        got.y.append(4)


def test_another_type_than_the_one_agreed_on_is_refused(near, face):
    cache = near(face, type=Point)
    with pytest.raises(CodecError):
        cache.put("key", {"x": "no number"})
    with pytest.raises(LoaderError):
        cache.get_or_load("key", lambda: [1, 2])


class Reverse:
    """A codec of a user's own."""

    name, kind = "reverse", 100

    def encode(self, value):
        return value.encode()[::-1]

    def decode(self, data):
        return bytes(data)[::-1].decode()

    def shares(self, value):
        return False


def test_a_codec_of_ones_own(near, face, shared):
    one, two = near(face, shared, codec=Reverse()), near(face, shared, codec=Reverse())
    one.put("key", "abc")
    assert one.get("key") == two.get("key") == two.get("key") == "abc"
    with pytest.raises(CodecError):
        one.put("key", 5)
    assert two.get("key", max_staleness=0) == "abc"


def test_what_was_stored_badly_is_a_counted_miss_and_removed(near, face, one_server):
    cache = near(face, one_server.url)
    cache.put("key", "value")
    with one_server.client() as client:
        (name,) = [name for name in client.keys("nc1:*") if name.endswith(b":k:skey.")]
        data = client.get(name)
        for damaged in (data[:-1], data[:-1] + b"x", data[:20], b"", b"x", data + b"more"):
            client.set(name, damaged)
            before = cache.get_stats().corrupt
            assert cache.get("key", max_staleness=0) is None, damaged
            assert cache.get_or_load("key", lambda: "again", max_staleness=0) == "again"
            assert cache.get("key", max_staleness=0) == "again", damaged
            assert cache.get_stats().corrupt >= before
        client.delete(name)
        client.lpush(name, "a list of somebody's")
        assert cache.get("key", max_staleness=0) is None
        until(lambda: cache.get("key") is None)  # the news of it has come
        assert cache.get_or_load("key", lambda: "loaded") == "loaded"
        cache.put("key", "put")
        assert cache.get("key") in {"put", None}


def test_an_entry_copied_under_another_key_does_not_verify(near, face, one_server):
    cache = near(face, one_server.url)
    cache.put("a", "value of a")
    cache.put("b", "value of b")
    with one_server.client() as client:
        names = {name[-2:-1]: name for name in client.keys("nc1:*:k:*")}
        client.set(names[b"b"], client.get(names[b"a"]))
    assert cache.get("b", max_staleness=0) is None
    assert cache.get("a", max_staleness=0) == "value of a"
