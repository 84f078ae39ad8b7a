"""Any one bit of any kind of stored value, flipped: an absence, and never another value."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from embedders import M, same, vector
from nearcache import (
    MISSING,
    AccessTier,
    AgentCredentials,
    EmbeddingCache,
    HotMemoryCache,
    MemoryKey,
    MemoryStore,
    NearCache,
    Options,
    RetrievalCache,
    ShortTermMemory,
)
from nearcache.errors import CodecError

SIGNED = Options(signing_key=b"a key of sixteen bytes or more")
ANN = AgentCredentials("ann", AccessTier.CONTRIBUTOR)
WORK = MemoryKey("episodic", "a", "alice")


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Kind(NamedTuple):
    """How a value is written to a store, and read from it past all that is near."""

    open: Callable[[MemoryStore], Any]
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    right: Any


def rows(precision: str, **given: Any) -> Kind:
    right = vector("text")
    if precision != "float32":
        one = EmbeddingCache(None, precision=precision)
        one.put("text", right, M)
        right = one.get("text", M)
        one.close()

    def read(cache: EmbeddingCache) -> Any:
        found = cache.get("text", M)
        return MISSING if found is None else found

    return Kind(
        lambda store: EmbeddingCache(store, max_entries=0, precision=precision, **given),
        lambda cache: cache.put("text", vector("text"), M),
        read,
        right,
    )


def value(what: Any, ttl: Any = None, tags: Any = (), **given: Any) -> Kind:
    return Kind(
        lambda store: NearCache(store, namespace="n", max_entries=0, **given),
        lambda cache: cache.put("key", what, ttl, tags),
        lambda cache: cache.get("key", MISSING),
        what,
    )


def absence() -> Kind:
    """That there is nothing: kept, so that the source is not asked again."""
    asked: list[int] = []
    return Kind(
        lambda store: NearCache(
            store, namespace="n", max_entries=0, options=Options(negative_ttl=60.0)
        ),
        lambda cache: cache.get_or_load("key", lambda: MISSING),
        # what is read of an absence that no longer verifies is what the source says by now
        lambda cache: "nothing" if cache.get_or_load("key", lambda: asked) is MISSING else MISSING,
        "nothing",
    )


KINDS = {
    "float32": rows("float32"),
    "float16": rows("float16"),
    "int8": rows("int8"),
    "float32 with a ttl": rows("float32", ttl=60.0),
    "float32, signed": rows("float32", options=SIGNED),
    "int8, signed": rows("int8", options=SIGNED),
    "json": value({"a": [1, None, 2.5, "x"], "b": True}),
    "json number": value(7),
    "msgpack": value({"a": b"x", "b": [1, -1]}, codec="msgpack"),
    "bytes": value(b"some bytes", codec="bytes"),
    "no bytes": value(b"", codec="bytes"),
    "array": value(np.arange(6, dtype="<i2").reshape(2, 3), codec="ndarray"),
    "dataclass": value(Point(1), type=Point),
    "dataclass as msgpack": value(Point(2), type=Point, codec="msgpack"),
    "None": value(None),
    "with a ttl": value("v", ttl=60.0),
    "with tags": value("v", tags=["one", "two"]),
    "with a ttl and tags": value("v", ttl=60.0, tags=["one"]),
    "grows stale": value("v", ttl=60.0, options=Options(stale_while_revalidate=60.0)),
    "slides": value("v", ttl=60.0, options=Options(sliding=True)),
    "signed": value({"a": 1}, ttl=60.0, tags=["one"], options=SIGNED),
    "absence": absence(),
    "hot memory": Kind(
        lambda store: HotMemoryCache(store, max_entries=0),
        lambda cache: cache.put(WORK, {"text": "hello"}, 60.0, ["one"]),
        lambda cache: cache.get(WORK, MISSING),
        {"text": "hello"},
    ),
    "short-term memory": Kind(
        lambda store: ShortTermMemory(store, local_cache_enabled=False),
        lambda memory: memory.stash("plan", {"step": 1}, ANN),
        # a record that is damaged is not passed off as one that is not there
        lambda memory: memory.retrieve("plan", ANN),
        {"step": 1},
    ),
    "results": Kind(
        lambda store: RetrievalCache(store, max_entries=0),
        lambda cache: cache.put("query", [WORK.memory_id], memory_ids=[WORK]),
        lambda cache: cache.get("query", default=MISSING),
        ["a"],
    ),
}


def is_right(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray):
        return isinstance(got, np.ndarray) and same(got, wanted)
    return type(got) is type(wanted) and got == wanted


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_is_never_another_value(name):
    kind, store = KINDS[name], MemoryStore()
    with kind.open(store) as cache:
        kind.write(cache)
        assert is_right(kind.read(cache), kind.right)
        ((key, (whole, expiry)),) = store._values.items()
        for bit in range(8 * len(whole)):
            at = bit // 8
            broken = whole[:at] + bytes((whole[at] ^ 1 << bit % 8,)) + whole[at + 1 :]
            store._set_value(key, broken, expiry)
            try:
                got = kind.read(cache)
            except CodecError:
                continue
            assert got is MISSING, f"bit {bit % 8} of byte {at}"
        store._set_value(key, whole, expiry)
        assert is_right(kind.read(cache), kind.right)
