"""Whatever makes embeddings can be wrapped, and keeps its manners."""

import asyncio
import functools
import gc
import threading
import weakref

import numpy as np
import pytest

from embedders import AsyncModel, M, Model, in_threads, same, vector, vectors
from interrupting import interrupted_at
from nearcache import (
    CachedEmbeddingGenerator,
    ConfigError,
    EmbeddingCache,
    EmbeddingModel,
)
from nearcache.caches import generators
from nearcache.caches.generators import Generator


class WithBatch:
    def generate(self, text):
        raise AssertionError("there is a batch method")

    def generate_batch(self, texts):
        return vectors(texts)


class WithSingle:
    def generate(self, text):
        return vector(text)


class WithEncode:
    def encode(self, texts):
        return vectors(texts)


class WithDocuments:
    def embed_documents(self, texts):
        return vectors(texts).tolist()

    def embed_query(self, text):
        return vector("query: " + text).tolist()


class AsyncBatch:
    async def generate_batch(self, texts):
        await asyncio.sleep(0)
        return vectors(texts)


class AsyncSingle:
    async def generate(self, text):
        await asyncio.sleep(0)
        return vector(text)


class AsyncDocuments:
    async def embed_documents(self, texts):
        return vectors(texts)

    async def embed_query(self, text):
        return vector("query: " + text)


async def coroutine_function(texts):
    return vectors(texts)


WRAPPED = {
    "callable": vectors,
    "lambda": lambda texts: vectors(texts),
    "partial": functools.partial(vectors, size=8),
    "lists": lambda texts: vectors(texts).tolist(),
    "list of arrays": lambda texts: [vector(text) for text in texts],
    "an iterator of rows": lambda texts: (vector(text) for text in texts),
    "a lambda around a coroutine function": lambda texts: coroutine_function(texts),
    "object with __call__": Model(),
    "generate_batch": WithBatch(),
    "generate": WithSingle(),
    "encode": WithEncode(),
    "embed_documents": WithDocuments(),
    "coroutine function": coroutine_function,
    "async partial": functools.partial(coroutine_function),
    "object with async __call__": AsyncModel(),
    "async generate_batch": AsyncBatch(),
    "async generate": AsyncSingle(),
    "async embed_documents": AsyncDocuments(),
}


@pytest.mark.parametrize("generator", WRAPPED.values(), ids=WRAPPED)
def test_every_kind_of_generator_works_under_both_faces(make, face, generator):
    embed = make(face).wrap(generator, M)
    texts = ["a", "b", "a"]
    for _ in range(2):
        assert same(embed(texts), vectors(texts))
        assert same(embed.generate_batch(texts), vectors(texts))
        assert same(embed("c"), vector("c"))
        assert same(embed.generate("c"), vector("c"))
        assert same(embed.embed_documents(texts), vectors(texts))


@pytest.mark.parametrize("generator", [WithDocuments(), AsyncDocuments()], ids=["sync", "async"])
def test_queries_and_documents_are_kept_apart(make, face, generator):
    embed = make(face).wrap(generator, M)
    for _ in range(2):
        assert same(embed.embed_documents(["text"])[0], vector("text"))
        assert same(embed.embed_query("text"), vector("query: text"))


def test_a_query_and_a_document_are_two_input_types_of_one_model(make, face):
    cache = make(face)
    embed = cache.wrap(WithDocuments(), M)
    embed.embed_documents(["text"])
    embed.embed_query("text")
    as_document = EmbeddingModel(M, input_type="document")
    as_query = EmbeddingModel(M, input_type="query")
    assert same(cache.get("text", as_document), vector("text"))
    assert same(cache.get("text", as_query), vector("query: text"))
    assert cache.get("text", M) is None


def test_a_model_with_params_is_another_model(make, face, store):
    cache = make(face, store)
    prompted = EmbeddingModel(M, params={"prompt": "passage: "})
    cache.wrap(Model(), M)("text")
    embed = cache.wrap(lambda texts: vectors(["passage: " + text for text in texts]), prompted)
    assert same(embed("text"), vector("passage: text"))
    assert same(cache.get("text", M), vector("text"))


def test_equal_models_share_their_entries(make, face, store):
    cache = make(face, store)
    cache.put("text", vector("text"), EmbeddingModel("m", params={"a": 1, "b": [1, 2]}))
    twin = EmbeddingModel("m", params={"b": (1, 2), "a": 1})
    assert same(cache.get("text", twin), vector("text"))


@pytest.mark.parametrize("model", ["", None, 3, b"m", ["m"], {"name": "m"}])
def test_what_names_no_model_is_refused(make, face, model):
    cache = make(face)
    for call in (
        lambda: cache.get("text", model),
        lambda: cache.get_batch(["text"], model),
        lambda: cache.put("text", vector("text"), model),
        lambda: cache.invalidate("text", model),
        lambda: cache.invalidate_by_model(model),
        lambda: cache.wrap(Model(), model),
    ):
        with pytest.raises(ConfigError, match="model"):
            call()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "m", "dimensions": 0},
        {"name": "m", "dimensions": True},
        {"name": "m", "dimensions": 8.0},
        {"name": "m", "revision": None},
        {"name": "m", "input_type": 1},
        {"name": "m", "params": {1: "one"}},
        {"name": "m", "params": {"x": object()}},
        {"name": "m", "params": {"x": float("nan")}},
        {"name": "m", "params": None},
    ],
    ids=str,
)
def test_a_model_is_checked_when_it_is_made(fields):
    with pytest.raises(ConfigError):
        EmbeddingModel(**fields)


@pytest.mark.parametrize("generator", [None, 3, "model", object()])
def test_what_cannot_embed_is_refused(make, face, generator):
    with pytest.raises(ConfigError, match="cannot embed"):
        make(face).wrap(generator, M)


@pytest.mark.parametrize("option", ["max_batch", "max_concurrency"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8"])
def test_limits_are_whole_numbers_of_at_least_one(make, face, option, value):
    with pytest.raises(ConfigError, match=option):
        make(face).wrap(Model(), M, **{option: value})


def test_nothing_to_embed_is_an_empty_matrix(make, face, store):
    model = Model()
    embed = make(face, store).wrap(model, M)
    assert embed([]).shape == (0, 0)
    embed("text")
    assert embed([]).shape == (0, 8)
    assert embed([]).dtype == np.float32
    assert len(model.calls) == 1


def test_a_known_dimension_is_known_before_the_first_vector(make, face):
    assert make(face).wrap(Model(), EmbeddingModel(M, dimensions=8))([]).shape == (0, 8)


def test_a_tuple_an_array_and_an_iterator_of_texts_are_texts(make, face):
    embed = make(face).wrap(Model(), M)
    for texts in (("a", "b"), np.array(["a", "b"]), {"a": 1, "b": 2}, iter(["a", "b"])):
        assert same(embed(texts), vectors(["a", "b"]))


def test_progress_hears_how_many_of_how_many(make, face):
    heard = []
    embed = make(face).wrap(
        Model(), M, max_batch=4, progress=lambda done, total: heard.append((done, total))
    )
    texts = [f"t{n}" for n in range(10)]
    assert same(embed(texts), vectors(texts))
    assert heard[-1] == (10, 10)
    assert heard == sorted(heard)
    assert len(heard) >= 3


def test_progress_true_draws_on_stderr_and_nowhere_else(make, face, capsys):
    make(face).wrap(Model(), M, progress=True)(["a", "b"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    assert err.endswith("\n")


def test_iter_batches_gives_all_rows_in_order(make, face, store):
    embed = make(face, store).wrap(Model(), M, max_batch=4)
    texts = [f"t{n % 7}" for n in range(18)]
    parts = embed.batches(iter(texts))
    assert [len(part) for part in parts] == [4, 4, 4, 4, 2]
    assert same(np.concatenate(parts), vectors(texts))


def test_iter_batches_of_nothing_is_nothing(make, face):
    assert make(face).wrap(Model(), M).batches([]) == []


def test_iter_batches_refuses_one_string(make, face):
    with pytest.raises(ConfigError, match="list of str"):
        make(face).wrap(Model(), M).batches("text")


def test_iter_batches_reads_no_further_than_the_batch_it_gives():
    taken = []

    def stream():
        for n in range(1000):
            taken.append(n)
            yield f"t{n}"

    batches = EmbeddingCache().wrap(Model(), M, max_batch=10).iter_batches(stream())
    for number in range(1, 6):
        next(batches)
        assert len(taken) == 10 * number


def test_iter_batches_holds_no_batch_that_was_given():
    class Text(str):
        __slots__ = ("__weakref__",)

    alive = weakref.WeakSet()

    def stream():
        for n in range(100):
            text = Text(f"t{n}")
            alive.add(text)
            yield text

    most = 0
    cache = EmbeddingCache(max_entries=0)
    for _ in cache.wrap(Model(), M, max_batch=5).iter_batches(stream()):
        gc.collect(0)
        most = max(most, len(alive))
    assert most <= 15


def test_a_generators_stats_are_the_seeds(make, face, store):
    embed = make(face, store).wrap(Model(), M)
    embed(["a", "b", "a"])
    embed(["a", "c"])
    stats = embed.get_stats()
    assert stats["call_count"] == 3
    assert stats["cache_hit_count"] == 2
    assert stats["cache_hit_rate"] == pytest.approx(2 / 5)
    assert stats["cache_stats"]["loads"] == 3


def test_the_class_may_be_used_without_wrap():
    embed = CachedEmbeddingGenerator(Model(), EmbeddingCache(), M)
    assert same(embed(["a"]), vectors(["a"]))


def test_warm_reads_pairs(make, face, shared):
    cache = make(face, shared)
    texts = [f"t{n}" for n in range(600)]
    assert cache.warm(((text, vector(text)) for text in texts), M) == 600
    assert same(make(face, shared).get_batch(texts, M)[0], vectors(texts))


def test_warm_says_how_far_it_is(make, face):
    heard = []
    pairs = [(f"t{n}", vector(f"t{n}")) for n in range(600)]
    make(face).warm(pairs, M, progress=lambda *at: heard.append(at))
    assert heard[-1] == (600, 600)
    assert len(heard) >= 2


def test_warm_with_nothing_does_nothing(make, face):
    assert make(face).warm([], M) == 0


@pytest.mark.parametrize("limit", [1, 2])
def test_ctrl_c_leaves_all_turns_to_whoever_comes(limit):
    def one_call():
        with generator.turn():
            pass

    def all_at_once(_):
        with generator.turn():
            everybody.wait(20)

    for moment in range(1000):
        generator = Generator(list, is_async=False, limit=limit, max_batch=None)
        if not interrupted_at(moment, one_call, generators, threading):
            break
        everybody = threading.Barrier(limit)
        assert in_threads(limit, all_at_once) == [None] * limit
        one_call()  # the interrupted thread, too, takes turns
        assert not generator._turns._is_inside()
    assert 20 < moment < 999


def test_no_turn_that_was_given_back_is_missed():
    generator = Generator(list, is_async=False, limit=2, max_batch=None)
    inside, most = set(), []

    def calls(number):
        for _ in range(300):
            with generator.turn():
                inside.add(number)
                most.append(len(inside))
                inside.discard(number)

    assert in_threads(6, calls) == [None] * 6
    assert len(most) == 1800
    assert max(most) <= 2
