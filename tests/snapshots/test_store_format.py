"""A store as the first version left it, with something of every kind of cache in it, is read.

``format-1-store.json`` (names, entries and epochs) and ``format-1.sql`` (an SQLite file) were
written once. They are never written again: a format that changes gets a file of its own beside
them. That the names are found says that they are made as they always were.
"""

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from embedders import same, vector
from nearcache import (
    MISSING,
    AccessTier,
    AgentCredentials,
    EmbeddingCache,
    EmbeddingModel,
    HotMemoryCache,
    MemoryKey,
    MemoryStore,
    NearCache,
    Options,
    RetrievalCache,
    ShortTermMemory,
    SQLiteStore,
)
from nearcache.coherence.groups import bump_token, bumped_since, digest_of_group
from nearcache.stores.base import TOKEN_BYTES, lease_of
from nearcache.testing import ManualClock

HERE = Path(__file__).parent
ONE = json.loads((HERE / "format-1-store.json").read_text("ascii"))
MODEL = EmbeddingModel("model", dimensions=8, revision="r1", params={"normalize": True})
ANN = AgentCredentials("ann", AccessTier.CONTRIBUTOR)
WORK = MemoryKey("episodic", "a:b", "alice/ü")
QUERY = {"text": "what", "k": 3, "filters": {"a": [1, 2.5, None, True]}}


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Kind(NamedTuple):
    """How a value was written, and how it is read."""

    open: Callable[[Any], Any]
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    right: Any


def rows(precision: str) -> Kind:
    one = EmbeddingCache(None, precision=precision)
    one.put("grüße", vector("grüße"), MODEL)
    right = one.get("grüße", MODEL)
    one.close()
    return Kind(
        lambda store: EmbeddingCache(store, namespace=f"of {precision}", precision=precision),
        lambda cache: cache.put("grüße", vector("grüße"), MODEL),
        lambda cache: cache.get("grüße", MODEL),
        right,
    )


def value(name: str, right: Any, ttl: Any = None, tags: Any = (), **given: Any) -> Kind:
    key = ("key", b"\0,()\\", (name, "ü"))
    return Kind(
        lambda store: NearCache(store, namespace=f"n {name}", **given).view("view/1"),
        lambda cache: cache.put(key, right, ttl, tags),
        lambda cache: cache.get(key, MISSING),
        right,
    )


def never() -> Any:
    raise AssertionError("what is there need not be loaded")


KINDS = {
    "float32": rows("float32"),
    "float16": rows("float16"),
    "int8": rows("int8"),
    "json": value("json", {"a": [1, None, 2.5, "ü"], "b": True}),
    "msgpack": value("msgpack", {"a": b"x", 1: [-1, 2**63]}, codec="msgpack"),
    "bytes": value("bytes", bytes(range(256)), codec="bytes"),
    "array": value("array", np.arange(6, dtype="<i2").reshape(2, 3), codec="ndarray"),
    "dataclass": value("dataclass", [Point(1), Point(2, 3.5)], type=list[Point]),
    "dataclass as msgpack": value("msgpack dc", Point(1), type=Point, codec="msgpack"),
    "None": value("None", None),
    "tags": value("tags", "v", tags=["one", "zwölf", "a,b"]),
    "ttl": value("ttl", "v", ttl=3600.0, tags=["one"]),
    "stale": value("stale", "v", 3600.0, options=Options(stale_while_revalidate=60.0)),
    "sliding": value("sliding", "v", 3600.0, options=Options(sliding=True)),
    "absence": Kind(
        lambda store: NearCache(store, namespace="gone", options=Options(negative_ttl=3600.0)),
        lambda cache: cache.get_or_load("key", lambda: MISSING),
        lambda cache: cache.get_or_load("key", never),
        MISSING,
    ),
    "hot memory": Kind(
        HotMemoryCache,
        lambda cache: cache.put(WORK, {"text": "hello"}, None, ["one"]),
        lambda cache: cache.get(WORK, MISSING),
        {"text": "hello"},
    ),
    "short-term memory": Kind(
        ShortTermMemory,
        lambda memory: memory.stash("plan/ü", {"step": 1}, ANN, None),
        lambda memory: memory.retrieve("plan/ü", ANN),
        {"step": 1},
    ),
    "results": Kind(
        RetrievalCache,
        lambda cache: cache.put(QUERY, ["a:b"], scope="alice/ü", memory_ids=[WORK], ttl=None),
        lambda cache: cache.get(QUERY, "alice/ü", default=MISSING),
        ["a:b"],
    ),
}
FOR_EVER = [name for name in KINDS if name not in ("ttl", "stale", "sliding", "absence")]


def is_right(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray):
        return isinstance(got, np.ndarray) and same(got, wanted)
    return repr(got) == repr(wanted)


def left_by_version_1() -> MemoryStore:
    store = MemoryStore(clock=ManualClock(ONE["clock"]))
    for name, entry, expiry in ONE["values"]:
        store._set_value(bytes.fromhex(name), bytes.fromhex(entry), expiry)
    for name, token, expiry in ONE["epochs"]:
        store._epochs[bytes.fromhex(name)] = (bytes.fromhex(token), expiry)
    return store


@pytest.mark.parametrize("name", KINDS)
def test_what_version_1_stored_is_read(name):
    kind = KINDS[name]
    with kind.open(left_by_version_1()) as cache:
        assert is_right(kind.read(cache), kind.right)


@pytest.mark.parametrize("name", KINDS)
def test_names_are_what_they_always_were(name):
    """What is written now lies under the names that version 1 gave it."""
    store = MemoryStore()
    with KINDS[name].open(store) as cache:
        KINDS[name].write(cache)
    assert set(store._values) <= {bytes.fromhex(key) for key, _, _ in ONE["values"]}
    assert set(store._epochs) <= {bytes.fromhex(key) for key, _, _ in ONE["epochs"]}


def test_a_file_of_version_1_is_read(tmp_path):
    path = tmp_path / "x.db"
    db = sqlite3.connect(path)
    db.executescript((HERE / "format-1.sql").read_text("utf-8"))
    db.close()
    store = SQLiteStore(path)
    for kind in (KINDS[name] for name in FOR_EVER):
        with kind.open(store) as cache:
            assert is_right(kind.read(cache), kind.right)
            kind.write(cache)
            assert is_right(kind.read(cache), kind.right)
    store.close()


def test_leases_and_tokens_are_laid_out_as_they_always_were():
    """Two releases that load one key meet at its lease."""
    assert lease_of(b"nc1:{app:00}:k:skey.") == b"nc1:{app:00}:k:skey.:lease"
    assert TOKEN_BYTES == 16
    token = bump_token(1_700_000_000.25)
    assert len(token) == 16
    assert token[:10] == b"bump" + (1_700_000_000_250).to_bytes(6, "big")
    assert bumped_since(token, 1_700_000_000.0)
    assert digest_of_group("zwölf".encode()).hex() == "054fc8448017254fa3749bfe430becba"
