"""With a codec that encrypts, a store holds nothing that could be read.

The cipher is a toy of the standard library's parts, for tests alone: the keystream and the tag are
keyed BLAKE2b. Programs take AES-GCM, as docs/operations.md shows.
"""

import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest

from embedders import M, Model, same, vector, vectors
from nearcache import (
    EmbeddingCache,
    HotMemoryCache,
    MemoryKey,
    MemoryStore,
    MemoryType,
    NearCache,
    Options,
    RetrievalCache,
)
from nearcache.errors import CodecError, ConfigError

SECRET = "nobody shall read this"
KEY, OTHER = b"k" * 32, b"o" * 32
TEXTS = [f"t{n}" for n in range(20)]
PRECISIONS = ("float32", "float16", "int8")


class Encrypting:
    """A codec as users write them; ``loads`` and ``dumps`` turn values into bytes."""

    name, kind = "toy", 64

    def __init__(self, key=KEY, dumps=bytes, loads=bytes):
        self._key, self._dumps, self._loads = key, dumps, loads

    def encode(self, value):
        plain, nonce = self._dumps(value), os.urandom(16)
        sealed = nonce + self._mixed(nonce, plain)
        return sealed + self._tag(sealed)

    def decode(self, data):
        sealed, tag = bytes(data[:-16]), bytes(data[-16:])
        if not hmac.compare_digest(tag, self._tag(sealed)):
            raise ValueError("not ours")
        return self._loads(self._mixed(sealed[:16], sealed[16:]))

    def _mixed(self, nonce, data):
        blocks = range(len(data) // 64 + 1)
        stream = b"".join(
            hashlib.blake2b(nonce + n.to_bytes(8, "big"), key=self._key).digest() for n in blocks
        )
        return bytes(a ^ b for a, b in zip(data, stream, strict=False))

    def _tag(self, data):
        return hashlib.blake2b(data, key=self._key, digest_size=16, person=b"tag").digest()


def of_json(key=KEY):
    return Encrypting(key, lambda value: json.dumps(value).encode(), json.loads)


def everything_in(store, server=None):
    """All bytes that a store holds, by URL."""
    if store.startswith("sqlite"):
        path = Path(store.removeprefix("sqlite:///"))
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    with server.client() as client:
        return b"".join(
            key + (client.get(key) if client.type(key) == b"string" else b"")
            for key in client.scan_iter()
        )


@pytest.fixture(params=["sqlite", "redis"])
def where(request, tmp_path, one_server):
    url = f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else one_server.url
    return url, lambda: everything_in(url, one_server)


def test_no_value_can_be_read_in_the_store(where):
    url, held = where
    options = Options(on_store_error="raise", store_timeout=30.0)
    key = MemoryKey(MemoryType.SEMANTIC, "1", "user")
    with (
        NearCache(url, namespace="near", codec=of_json(), options=options) as cache,
        HotMemoryCache(url, codec=of_json(), options=options) as hot,
        RetrievalCache(url, codec=of_json(), options=options) as found,
    ):
        cache.put("a", {"text": SECRET}, tags=["t"])
        hot.put(key, [SECRET])
        found.put("query", [SECRET], memory_ids=[])
        assert b"nc1:" in held()
        assert SECRET.encode() not in held()
    with NearCache(url, namespace="near", codec=of_json(), options=options) as cache:
        assert cache.get("a") == {"text": SECRET}
    with NearCache(url, namespace="near", codec=of_json(OTHER), options=options) as cache:
        assert cache.get("a") is None
    with NearCache(url, namespace="plain", options=options) as cache:
        cache.put("a", {"text": SECRET})
        assert SECRET.encode() in held()  # else nothing was looked at


@pytest.mark.parametrize("options", [Options(), Options(signing_key=KEY)], ids=["", "signed"])
def test_no_vector_can_be_read_in_the_store(where, options):
    url, held = where
    ours = [vector(text).tobytes() for text in TEXTS]
    with EmbeddingCache(url, codec=Encrypting(), options=options) as cache:
        cache.put_batch(TEXTS, vectors(TEXTS), M)
        assert not [row for row in ours if row[:12] in held()]
    with EmbeddingCache(url, codec=Encrypting(), options=options, max_entries=0) as cache:
        model = Model()
        assert same(cache.wrap(model, M)([*TEXTS, "new"]), vectors([*TEXTS, "new"]))
        assert same(cache.wrap(model, M)([*TEXTS, "new"]), vectors([*TEXTS, "new"]))
        assert model.times == {"new": 1}
        assert cache.get_stats().corrupt == 0
    with EmbeddingCache(url, namespace="plain") as cache:
        cache.put_batch(TEXTS, vectors(TEXTS), M)
        assert all(row in held() for row in ours)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_encrypted_vectors_come_back_to_the_bit(make, face, precision):
    store, texts = MemoryStore(), ["a", "b", "c"]
    given = {"precision": precision, "max_entries": 0}
    plain = make(face, MemoryStore(), **given)
    cache = make(face, store, codec=Encrypting(), **given)
    for one in (plain, cache):
        one.put_batch(texts, vectors(texts, 7), M, ttl=100)
    assert same(cache.get_batch(texts, M)[0], plain.get_batch(texts, M)[0])


@pytest.mark.parametrize(
    "theirs",
    [{}, {"codec": Encrypting(OTHER)}, {"options": Options(signing_key=KEY)}],
    ids=["plain", "another key", "signed alone"],
)
def test_what_was_not_encrypted_with_our_key_is_replaced(make, face, theirs):
    store = MemoryStore()
    make(face, store, **theirs).put_batch(TEXTS, -vectors(TEXTS), M)
    cache = make(face, store, codec=Encrypting(), max_entries=0)
    model = Model()
    for _ in range(2):
        assert same(cache.wrap(model, M)(TEXTS), vectors(TEXTS))
    assert set(model.times.values()) == {1}
    assert cache.get_stats().corrupt == len(TEXTS)


def test_nothing_reaches_the_codec_that_was_not_signed(make, face):
    class Watched(Encrypting):
        seen = 0

        def decode(self, data):
            self.seen += 1
            return super().decode(data)

    store, codec = MemoryStore(), Watched()
    make(face, store, codec=codec).put_batch(TEXTS, vectors(TEXTS), M)
    cache = make(face, store, codec=codec, options=Options(signing_key=KEY), max_entries=0)
    assert not cache.get_batch(TEXTS, M)[1].any()
    assert codec.seen == 0
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    assert cache.get_batch(TEXTS, M)[1].all()
    assert codec.seen == len(TEXTS)


@pytest.mark.parametrize("signed", [False, True], ids=["", "signed"])
def test_a_flipped_bit_anywhere_is_never_an_answer(make, face, signed):
    store = MemoryStore()
    options = Options(signing_key=KEY) if signed else Options()
    cache = make(face, store, codec=Encrypting(), options=options, max_entries=0)
    size = []
    cache.put("a", vector("a"), M)
    store.edit(lambda name, value: size.append(len(value)) or value)
    for at in range(size[0]):
        cache.put("a", vector("a"), M)
        store.edit(lambda n, v, at=at: v[:at] + bytes((v[at] ^ 1 << at % 8,)) + v[at + 1 :])
        row = cache.get("a", M)
        assert row is None or same(row, vector("a")), at
    for length in range(size[0]):
        cache.put("a", vector("a"), M)
        store.edit(lambda name, value, length=length: value[:length])
        assert cache.get("a", M) is None


def test_a_codec_that_breaks_is_an_error_when_it_writes_and_a_miss_when_it_reads(make, face):
    class Broken(Encrypting):
        def encode(self, value):
            raise OSError("no key today")

    class Odd(Encrypting):
        def decode(self, data):
            return "text"

    store = MemoryStore()
    with pytest.raises(CodecError, match="the codec toy cannot keep"):
        make(face, store, codec=Broken()).put("a", vector("a"), M)
    make(face, store, codec=Encrypting()).put("a", vector("a"), M)
    assert make(face, store, codec=Odd()).get("a", M) is None


@pytest.mark.parametrize("codec", [1, object(), "aes", Encrypting])
def test_what_is_no_codec_is_refused(make, face, codec):
    with pytest.raises(ConfigError, match="codec"):
        make(face, codec=codec)
