"""Seed defects 13 to 20: a cache answers with the model's vector of that text, or not at all."""

import numpy as np
import pytest

from embedders import M, Model, same, vector, vectors
from nearcache import (
    CodecError,
    EmbeddingModel,
    LoaderError,
    ShapeMismatch,
)


def test_13_a_model_that_drops_a_text_shifts_no_vector(make, face, store):
    cache = make(face, store)
    embed = cache.wrap(lambda texts: vectors([t for t in texts if t != "b"]), M)
    with pytest.raises(LoaderError, match=r"3 texts .* \(2, 8\)"):
        embed(["a", "b", "c"])
    assert not cache.get_batch(["a", "b", "c"], M)[1].any()


def test_14_two_models_share_no_key(make, face, store):
    cache = make(face, store)
    small, large = Model(4), Model(16)
    assert same(cache.wrap(small, "small")("text"), vector("text", 4))
    assert same(cache.wrap(large, "large")("text"), vector("text", 16))
    assert len(small.calls) == len(large.calls) == 1


def test_14_there_is_no_default_model(make, face):
    cache = make(face)
    for call in (
        lambda: cache.get("text"),
        lambda: cache.put("text", vector("text")),
        lambda: cache.wrap(Model()),
    ):
        with pytest.raises(TypeError, match="model"):
            call()


@pytest.mark.parametrize("stored", [b'"boo"', b'{"a":1}', b"[]", b"null", b"", b"[0.1, 0.2]"])
def test_15_what_is_no_entry_is_never_an_embedding(make, face, one_server, stored):
    cache = make(face, one_server.url, max_entries=0)
    cache.put("text", vector("text"), M)
    with one_server.client() as client:
        (key,) = client.keys("*:v:*")
        client.set(key, stored)
        assert cache.get("text", M) is None
        assert client.exists(key) == 0
    assert cache.get_stats().corrupt == 1


def test_16_the_callers_array_is_not_the_caches(make, face, store):
    cache = make(face, store)
    mine = vector("text")
    cache.put("text", mine, M)
    mine[:] = 0
    assert same(cache.get("text", M), vector("text"))


def test_16_a_callers_result_is_not_the_caches(make, face, store):
    cache = make(face, store)
    embed = cache.wrap(Model(), M)
    for _ in range(3):  # loaded, near, near again
        rows = embed(["a", "b"])
        assert same(rows, vectors(["a", "b"]))
        rows[:] = 0
        rows, _ = cache.get_batch(["a", "b"], M)
        assert same(rows, vectors(["a", "b"]))
        rows[:] = 0


def test_16_a_single_result_cannot_be_written(make, face, store):
    cache = make(face, store)
    cache.put("text", vector("text"), M)
    for row in (cache.get("text", M), cache.get_by_hash(cache.hash_content("text"), M)):
        with pytest.raises(ValueError, match="read-only"):
            row[0] = 1


def test_16_a_model_may_reuse_its_buffer(make, face, store):
    buffer = np.empty((1, 8), np.float32)

    def model(texts):
        buffer[:] = vectors(texts)
        return buffer

    cache = make(face, store)
    embed = cache.wrap(model, M)
    first = embed(["a"])
    embed(["b"])
    assert same(first, vectors(["a"]))
    assert same(embed(["a"]), vectors(["a"]))


@pytest.mark.parametrize(
    "bad", [np.nan, np.inf, -np.inf, 1e300], ids=["nan", "inf", "-inf", "beyond float32"]
)
def test_17_a_vector_that_is_not_finite_is_refused(make, face, store, bad):
    cache = make(face, store)
    with pytest.raises(CodecError):
        cache.put("text", [1.0, bad, 3.0], M)
    with pytest.raises(CodecError):
        cache.put_batch(["a", "text"], [[1.0, 2.0, 3.0], [1.0, bad, 3.0]], M)
    with pytest.raises(LoaderError):
        cache.wrap(lambda texts: [[1.0, bad, 3.0]], M)("text")
    assert not cache.get_batch(["a", "text"], M)[1].any()


def test_17_another_dimension_is_refused(make, face, store):
    cache = make(face, store)
    cache.put("text", vector("text", 8), M)
    with pytest.raises(ShapeMismatch, match="8 dimensions, not 9"):
        cache.put("other", vector("other", 9), M)
    with pytest.raises(LoaderError, match="9 dimensions"):
        cache.wrap(Model(9), M)("other")
    assert cache.get("other", M) is None
    assert same(cache.get("text", M), vector("text", 8))


@pytest.mark.parametrize(
    "one, other",
    [
        (("ns", "m:x"), ("ns:m", "x")),
        (("ns", "m}x"), ("ns}m", "x")),
        (("a/b", "m"), ("a", "b/m")),
        (("a%3Ab", "m"), ("a:b", "m")),
        (("a", "m"), ("A", "m")),
        (("a", "é"), ("a", "e\u0301")),
        (("a", "😀"), ("a", "\ud83d\ude00")),
        (("😀", "m"), ("\ud83d\ude00", "m")),
    ],
)
def test_18_no_character_joins_two_names(make, face, shared, one, other):
    writer = make(face, shared, namespace=one[0])
    reader = make(face, shared, namespace=other[0])
    writer.put("text", vector("text"), one[1])
    assert reader.get("text", other[1]) is None
    assert same(writer.get("text", one[1]), vector("text"))


def test_18_every_part_of_a_model_tells_it_apart(make, face, shared):
    models = [
        EmbeddingModel("m"),
        EmbeddingModel("m", dimensions=8),
        EmbeddingModel("m", revision="1"),
        EmbeddingModel("m", input_type="1"),
        EmbeddingModel("m", params={"1": "1"}),
        EmbeddingModel("m", params={"1": 1}),
        EmbeddingModel("m", params={"1": True}),
        EmbeddingModel("m", params={"1": None}),
        EmbeddingModel('m", null, "1'),
    ]
    cache = make(face, shared, max_entries=0)
    for number, model in enumerate(models):
        cache.put("text", vector(str(number)), model)
    for number, model in enumerate(models):
        assert same(cache.get("text", model), vector(str(number)))


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", "i4", "u1"])
def test_19_arrays_reach_the_store(make, face, shared, dtype):
    given = np.array([1, 2, 3], dtype)
    make(face, shared).put("text", given, M)
    assert same(make(face, shared).get("text", M), np.array([1, 2, 3], np.float32))


def test_19_arrays_of_any_layout_reach_the_store(make, face, shared):
    given = np.arange(24, dtype=np.float64).reshape(4, 6).T[::2, ::-1]
    make(face, shared).put_batch(["a", "b", "c"], given, M)
    assert same(make(face, shared).get_batch(["a", "b", "c"], M)[0], given.astype(np.float32))


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "", "\0", "\N{BYTE ORDER MARK}"])
def test_20_any_str_is_a_text(make, face, store, text):
    cache, model = make(face, store), Model()
    assert cache.get(text, M) is None
    assert same(cache.wrap(model, M)([text, "other"]), vectors([text, "other"]))
    assert same(cache.get(text, M), vector(text))
    assert same(cache.get_by_hash(cache.hash_content(text), M), vector(text))
    assert cache.invalidate(text, M)
    assert cache.get(text, M) is None
