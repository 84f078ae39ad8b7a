"""What is no text, no vector, no model output, no option is refused clearly, before any effect."""

import numpy as np
import pytest

from embedders import M, Model, same, vector, vectors
from nearcache import (
    CacheError,
    ClosedError,
    CodecError,
    ConfigError,
    EmbeddingCache,
    LoaderError,
    Options,
    ShapeMismatch,
    create_embedding_cache,
)

# Texts


@pytest.mark.parametrize("texts", ["text", b"text", None, 3, ["a", b"b"], ["a", None], [1, 2]])
def test_what_is_no_list_of_str_is_refused(make, face, texts):
    cache, model = make(face), Model()
    cache.put("a", vector("a"), M)  # the warm path checks too
    for call in (
        lambda: cache.get_batch(texts, M),
        lambda: cache.put_batch(texts, vectors(["a", "b"]), M),
        lambda: cache.wrap(model, M).generate_batch(texts),
        lambda: cache.wrap(model, M).embed_documents(texts),
    ):
        with pytest.raises(ConfigError):
            call()
    assert model.calls == []
    assert cache.size == 1


@pytest.mark.parametrize("text", [None, b"text", 3, ["text"], ("text",)])
def test_what_is_no_str_is_no_text(make, face, text):
    cache = make(face)
    for call in (
        lambda: cache.get(text, M),
        lambda: cache.put(text, vector("x"), M),
        lambda: cache.invalidate(text, M),
        lambda: cache.wrap(Model(), M).generate(text),
        lambda: cache.wrap(Model(), M).embed_query(text),
    ):
        with pytest.raises(ConfigError, match="str"):
            call()


def test_a_text_of_ten_megabytes_is_a_text(make, face, store):
    text = "x" * 10_000_000
    cache, model = make(face, store), Model()
    embed = cache.wrap(model, M)
    for _ in range(2):
        assert same(embed([text, "short"]), vectors([text, "short"]))
    assert same(cache.get(text, M), vector(text))
    assert same(cache.get_by_hash(cache.hash_content(text), M), vector(text))
    assert cache.get_stats().bytes_near < 10_000
    assert len(model.calls) == 1
    assert cache.invalidate(text, M)
    assert cache.get(text, M) is None


def test_texts_that_differ_only_at_their_end_are_told_apart(make, face, store):
    texts = ["x" * 100_000 + end for end in "abc"] + ["x" * 100_000]
    cache = make(face, store)
    cache.put_batch(texts, vectors(texts), M)
    assert same(cache.get_batch(texts, M)[0], vectors(texts))


@pytest.mark.parametrize(
    "content_hash",
    ["", "abc", "x" * 32, None, 3, b"a" * 32, "aa " * 10 + "aa", "é" * 32, "0x" * 16],
)
def test_what_is_no_content_hash_is_refused(make, face, content_hash):
    cache = make(face)
    cache.put("text", vector("text"), M)
    for call in (cache.get_by_hash, cache.invalidate_by_hash):
        with pytest.raises(ConfigError, match="32 hex digits"):
            call(content_hash, M)


def test_the_content_hash_is_the_seeds():
    assert EmbeddingCache.hash_content("abc") == "ba7816bf8f01cfea414140de5dae2223"
    assert EmbeddingCache.hash_content("") == "e3b0c44298fc1c149afbf4c8996fb924"


# Vectors


@pytest.mark.parametrize(
    "given",
    [
        None,
        "text",
        ["a", "b"],
        [1 + 2j, 3],
        [[1.0, 2.0], [3.0]],
        np.array([object()]),
        np.array([1, "a"], dtype=object),
        np.array(["2020-01-01"], "M8[D]"),
        [True, False],
        {"a": 1},
        b"1234",
    ],
    ids=str,
)
def test_what_is_no_vector_is_a_codec_error(make, face, shared, given):
    cache = make(face, shared)
    with pytest.raises(CodecError):
        cache.put("text", given, M)
    assert cache.get("text", M) is None
    cache.put("text", vector("text"), M)  # nor was a dimension learned


@pytest.mark.parametrize("shape", [(0,), (2, 2), (1, 1, 4), ()], ids=str)
def test_a_vector_has_one_dimension_and_components(make, face, shape):
    with pytest.raises(ShapeMismatch):
        make(face).put("text", np.ones(shape), M)


@pytest.mark.parametrize("shape", [(2,), (2, 0), (1, 4), (3, 4), (2, 2, 2)], ids=str)
def test_a_batch_is_one_vector_a_text(make, face, store, shape):
    cache = make(face, store)
    with pytest.raises(ShapeMismatch):
        cache.put_batch(["a", "b"], np.ones(shape), M)
    assert not cache.get_batch(["a", "b"], M)[1].any()


def test_a_batch_with_one_bad_vector_writes_none(make, face, store):
    cache = make(face, store)
    cache.put("a", vector("old"), M)
    bad = vectors(["a", "b"])
    bad[1, 3] = np.nan
    with pytest.raises(CodecError):
        cache.put_batch(["a", "b"], bad, M)
    rows, found = cache.get_batch(["a", "b"], M)
    assert found.tolist() == [True, False]
    assert same(rows[0], vector("old"))
    assert np.isnan(rows[1]).all()


def test_an_array_like_that_raises_is_a_codec_error(make, face):
    class OnADevice:
        def __array__(self, *args, **options):
            raise RuntimeError("move me to the host first")

    cache = make(face)
    with pytest.raises(CodecError, match="move me to the host"):
        cache.put("text", OnADevice(), M)
    with pytest.raises(LoaderError, match="move me to the host"):
        cache.wrap(lambda texts: OnADevice(), M)("text")


def test_double_precision_is_rounded_once(make, face, store):
    cache = make(face, store)
    given = np.array([0.1, 1 / 3, 1e-45, 1e-310, -0.0])
    cache.put("text", given, M)
    with np.errstate(under="ignore"):
        assert same(cache.get("text", M), given.astype(np.float32))


def test_of_a_text_given_twice_the_last_vector_stands(make, face, store):
    cache = make(face, store)
    cache.put_batch(["a", "b", "a"], vectors(["1", "2", "3"]), M)
    assert same(cache.get_batch(["a", "b"], M)[0], vectors(["3", "2"]))


# The model's output

OUTPUTS = {
    "one less": lambda texts: vectors(texts[1:]),
    "one more": lambda texts: vectors([*texts, "more"]),
    "none at all": lambda texts: vectors([]),
    "None": lambda texts: None,
    "an empty list": lambda texts: [],
    "one vector": lambda texts: vector("a"),
    "a scalar": lambda texts: 3.0,
    "three dimensions": lambda texts: vectors(texts)[None],
    "no components": lambda texts: np.ones((len(texts), 0)),
    "ragged": lambda texts: [[1.0] * (n + 1) for n in range(len(texts))],
    "strings": lambda texts: [["a"]] * len(texts),
    "objects": lambda texts: np.full((len(texts), 4), None),
    "complex": lambda texts: np.ones((len(texts), 4), complex),
    "booleans": lambda texts: np.ones((len(texts), 4), bool),
    "a dict": lambda texts: {text: [1.0] for text in texts},
    "NaN": lambda texts: np.full((len(texts), 4), np.nan),
    "one infinity": lambda texts: np.where(np.eye(len(texts), 4), np.inf, 1),
    "beyond float32": lambda texts: np.full((len(texts), 4), 1e300),
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_output_that_is_not_one_vector_a_text_is_a_loader_error(make, face, shared, output):
    cache = make(face, shared)
    texts = ["a", "b", "c"]
    with pytest.raises(LoaderError, match=M):
        cache.wrap(output, M)(texts)
    assert not cache.get_batch(texts, M)[1].any()
    assert same(cache.wrap(Model(), M)(texts), vectors(texts))  # nothing was learned from it


def test_a_bad_chunk_keeps_the_good_ones_before_it(make, face, store):
    cache = make(face, store)
    embed = cache.wrap(lambda t: vectors(t if "c" not in t else t[1:]), M, max_batch=2)
    with pytest.raises(LoaderError):
        embed(["a", "b", "c", "d"])
    assert cache.get_batch(["a", "b", "c", "d"], M)[1].tolist() == [True, True, False, False]


def test_a_model_that_changes_its_texts_changes_its_own_list(make, face):
    def model(texts):
        rows = vectors(texts)
        texts.clear()
        return rows

    texts = ["a", "b"]
    cache = make(face)
    assert same(cache.wrap(model, M)(texts), vectors(["a", "b"]))
    assert texts == ["a", "b"]
    assert same(cache.get_batch(["a", "b"], M)[0], vectors(["a", "b"]))


# Options


@pytest.mark.parametrize(
    "given",
    [
        {"max_entries": -1},
        {"max_entries": 1.5},
        {"max_bytes": -1},
        {"max_bytes": "1GB"},
        {"ttl": -1},
        {"ttl": 0},
        {"ttl": "60"},
        {"ttl": float("nan")},
        {"policy": "best"},
        {"precision": "float64"},
        {"precision": None},
        {"namespace": ""},
        {"namespace": None},
        {"namespace": "x" * 1000},
        {"options": {"max_batch": 1}},
        {"options": None},
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_when_the_cache_is_made(make, face, given):
    with pytest.raises(ConfigError):
        make(face, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"max_batch": 0},
        {"max_concurrency": 0},
        {"lease": 0},
        {"link_timeout": -1},
        {"link_timeout": float("inf")},
        {"store_timeout": "fast"},
        {"store_timeout": 0},
        {"on_store_error": "ignore"},
    ],
    ids=str,
)
def test_a_wrong_rare_option_is_refused(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        Options(**given)


@pytest.mark.parametrize("ttl", [-1, -0.001, float("nan"), "60", True])
def test_a_wrong_ttl_is_refused_before_anything_is_written(make, face, store, ttl):
    cache = make(face, store)
    with pytest.raises(ConfigError, match="ttl"):
        cache.put("text", vector("text"), M, ttl=ttl)
    assert cache.get("text", M) is None


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost",
        "http://localhost",
        "embeddings.db",
        "",
        "sqlite://relative.db",
        "sqlite:///",
        "sqlite:///x.db?max_byte=1",
        "sqlite:///x.db?max_bytes=much",
        "sqlite:///x.db?max_bytes=-1",
        "sqlite:///x.db?max_bytes=1KB",
        "memory://?max_bytes=1",
        "redis://localhost:port",
        "redis://localhost/0?no_such_option=1",
    ],
)
def test_an_unknown_url_or_option_is_a_config_error(make, face, url):
    with pytest.raises(ConfigError):
        make(face, url)


def test_an_unknown_scheme_lists_the_known_ones(make, face):
    with pytest.raises(ConfigError, match=r"sqlite://.*memory://.*redis://.*valkey://"):
        make(face, "mysql://localhost")


@pytest.mark.parametrize("thing", [3, [], object(), {"url": "memory://"}])
def test_what_is_no_store_is_refused(make, face, thing):
    with pytest.raises(ConfigError, match="store"):
        make(face, thing)


def test_a_refusal_never_tells_the_password(make, face):
    for url in ("redis://:s3cret@localhost:port", "redis://u:s3cret@localhost/0?no=1"):
        with pytest.raises(ConfigError) as caught:
            make(face, url)
        assert "s3cret" not in str(caught.value)


def test_constructing_does_no_io(make, face, tmp_path):
    make(face, "redis://127.0.0.1:1")
    make(face, f"sqlite:///{tmp_path}/no/such/folder/x.db")
    assert list(tmp_path.iterdir()) == []


def test_the_seeds_factory_takes_the_same_arguments():
    cache = create_embedding_cache("memory://", namespace="x", max_entries=3, ttl=60.0)
    assert (cache.max_size, cache.size) == (3, 0)


# After the end


def test_after_close_every_call_is_refused(make, face, store):
    cache = make(face, store)
    embed = cache.wrap(Model(), M)
    embed("text")
    cache.close()
    cache.close()
    for call in (
        lambda: cache.get("text", M),
        lambda: cache.get_by_hash(cache.hash_content("text"), M),
        lambda: cache.get_batch(["text"], M),
        lambda: cache.put("text", vector("text"), M),
        lambda: cache.invalidate("text", M),
        lambda: cache.invalidate_by_model(M),
        cache.clear,
        cache.cleanup_expired,
        lambda: embed("text"),
        lambda: embed(["text"]),
        lambda: embed([]),
    ):
        with pytest.raises(ClosedError):
            call()
    assert cache.get_stats().loads == 1
    assert issubclass(ClosedError, CacheError)
