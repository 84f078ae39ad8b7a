"""What all integrations keep to: nothing is imported unasked, and what is missing is named."""

import asyncio
import pickle
import pkgutil
import subprocess
import sys
import threading

import numpy as np
import pytest

import nearcache.integrations
from embedders import AsyncModel, M, Model, in_threads, same, until, vectors
from nearcache import AsyncEmbeddingCache, ConfigError, EmbeddingModel, MemoryStore, NearCache
from nearcache.integrations._shared import Embedding, Identity, faces, identity, store_answers

INTEGRATIONS = sorted(
    module.name
    for module in pkgutil.iter_modules(nearcache.integrations.__path__)
    if not module.name.startswith("_")
)

WITHOUT_PACKAGES = """
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder

class Nothing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"nearcache", "numpy"}:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Nothing())
import nearcache, nearcache.integrations
for name in sys.argv[1:]:
    try:
        module = import_module(f"nearcache.integrations.{name}")
    except ImportError as error:
        print(name, "|", error)
    else:
        print(name, "| imported")
"""


def test_a_missing_package_is_named_with_what_to_install():
    command = [sys.executable, "-c", WITHOUT_PACKAGES, *INTEGRATIONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answers = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    assert sorted(answers) == INTEGRATIONS
    for name, answer in answers.items():
        if answer != "imported":  # it imports nothing before it is used
            assert "pip install 'nearcache[" in answer, (name, answer)
            assert "No module named" in answer


def test_either_face_of_a_cache_is_taken(cache):
    for given in (cache, cache.as_async()):
        blocking, awaiting = faces(given)
        assert blocking.put("text", [1.0], M)
        assert asyncio.run(awaiting.get("text", M)) == [1.0]
    for wrong in (None, "redis://localhost", MemoryStore(), NearCache(namespace="n")):
        with pytest.raises(ConfigError, match="cache is an EmbeddingCache"):
            faces(wrong)


# -- one way through the cache -------------------------------------------------------------------


MODEL = EmbeddingModel(M)


def test_every_request_brings_a_call_of_its_own(cache):
    embedding = Embedding(cache)
    first, second = Model(), Model()
    assert same(embedding.rows(["a", "b"], MODEL, first), vectors(["a", "b"]))
    assert same(embedding.rows(["b", "c", "b"], MODEL, second), vectors(["b", "c", "b"]))
    assert (first.calls, second.calls) == ([["a", "b"]], [["c"]])


def test_blocking_calls_take_turns_whoever_asks(cache):
    embedding, model = Embedding(cache, max_batch=1), Model()

    def ask(number):
        texts = [f"{number} {n}" for n in range(3)]
        if number % 2:
            return embedding.rows(texts, MODEL, lambda given: model(given))
        return asyncio.run(embedding.arows(texts, MODEL, lambda given: model(given)))

    for number, rows in enumerate(in_threads(8, ask)):
        assert same(rows, vectors([f"{number} {n}" for n in range(3)]))
    assert model.most_inside == 1  # local models are not thread-safe


def test_as_many_calls_at_once_as_one_says(cache):
    together = threading.Barrier(2)
    model = Model(before=lambda _texts: together.wait(30))
    embedding = Embedding(cache, max_batch=1, max_concurrency=2)
    assert same(embedding.rows(["a", "b"], MODEL, model), vectors(["a", "b"]))
    assert model.most_inside == 2


def test_an_awaited_call_runs_on_the_callers_loop(cache):
    loops = []

    async def before(_texts):
        loops.append(asyncio.get_running_loop())

    model = AsyncModel(before=before)

    async def call(texts):
        return await model(texts)

    async def ask():
        rows = await Embedding(cache).arows(["a"], MODEL, call)
        return rows, asyncio.get_running_loop()

    rows, loop = asyncio.run(ask())
    assert same(rows, vectors(["a"]))
    assert loops == [loop]


class Waited:
    """A call that fails when somebody waits for it; and what the others are given instead."""

    def __init__(self, cache):
        self._flights = cache._tiers.engine.flights._flights

    def __call__(self, _texts):
        until(lambda: any(flight._waiters for flight in list(self._flights.values())))
        raise PermissionError("this key is refused")

    async def awaited(self, texts):
        return await asyncio.to_thread(self, texts)


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_what_fails_for_one_is_asked_for_again_by_another_who_waited(make, face, precision):
    cache = make("sync", precision=precision).thing
    refused, model, amodel = Waited(cache), Model(), AsyncModel()

    async def awaited(texts):
        return await amodel(texts)

    def ask(number):
        embedding = Embedding(cache)  # each has its own key, as two customers' have
        if number:
            until(lambda: refused._flights)
        if face == "sync":
            return embedding.rows(["a", "b", "a"], MODEL, model if number else refused)
        call = awaited if number else refused.awaited
        return asyncio.run(embedding.arows(["a", "b", "a"], MODEL, call))

    error, rows = in_threads(2, ask)
    assert isinstance(error, PermissionError)
    assert model.times + amodel.times == {"a": 1, "b": 1}
    kept = Embedding(cache).rows(["a", "b", "a"], MODEL, lambda _texts: pytest.fail("it is there"))
    assert same(rows, kept)
    np.testing.assert_allclose(rows, vectors(["a", "b", "a"]), atol=0.01)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_what_is_forgotten_while_it_is_asked_for_again_stays_forgotten(make, face):
    cache = make("sync").thing
    refused = Waited(cache)

    def forgetting(texts):
        cache.invalidate("a", MODEL)
        return vectors(texts)

    async def awaited(texts):
        return await asyncio.to_thread(forgetting, texts)

    def ask(number):
        embedding = Embedding(cache)
        if number:
            until(lambda: refused._flights)
        if face == "sync":
            return embedding.rows(["a", "b"], MODEL, forgetting if number else refused)
        call = awaited if number else refused.awaited
        return asyncio.run(embedding.arows(["a", "b"], MODEL, call))

    error, rows = in_threads(2, ask)
    assert isinstance(error, PermissionError)
    assert same(rows, vectors(["a", "b"]))
    assert cache.get("a", MODEL) is None
    assert same(cache.get("b", MODEL), vectors(["b"])[0])


@pytest.mark.parametrize("face", ["sync", "async"])
def test_who_always_waits_for_those_who_fail_asks_apart_in_the_end(make, face, monkeypatch):
    cache, others, tries = make("sync").thing, Embedding(make("sync").thing), []

    def refused(*_):
        tries.append(1)
        return others.rows(["a"], MODEL, lambda _texts: 1 / 0)  # with an error of another's

    async def awaited(*_):
        return refused()

    embedding = Embedding(cache)
    monkeypatch.setattr(embedding.blocking, "get_or_load_batch", refused)
    monkeypatch.setattr(embedding.awaiting, "get_or_load_batch", awaited)
    if face == "sync":
        rows = embedding.rows(["a"], MODEL, Model())
    else:
        rows = asyncio.run(embedding.arows(["a"], MODEL, Model()))
    assert same(rows, vectors(["a"]))
    assert len(tries) > 1
    assert cache.get("a", MODEL) is None  # it was loaded under no lease


def test_what_fails_for_one_fails_for_those_who_would_have_asked_the_same(cache):
    refused, embedding = Waited(cache), Embedding(cache)
    calls = []

    def call(texts):
        calls.append(texts)
        return refused(texts)

    errors = in_threads(2, lambda _: embedding.rows(["a"], MODEL, call))
    assert [type(error) for error in errors] == [PermissionError] * 2
    assert calls == [["a"]]


def test_an_error_of_a_cache_before_another_cache_is_its_own(make):
    calls = []

    def fail(texts):
        calls.append(texts)
        raise PermissionError

    inner, outer = (Embedding(make().thing) for _ in range(2))
    with pytest.raises(PermissionError):
        outer.rows(["a"], MODEL, lambda texts: inner.rows(texts, MODEL, fail))
    assert calls == [["a"]]


def test_bad_limits_are_refused(cache):
    for name in ("max_batch", "max_concurrency"):
        for wrong in (0, -1, 1.5, True):
            with pytest.raises(ConfigError, match=name):
                Embedding(cache, **{name: wrong})


def test_it_travels_with_its_cache(tmp_path, make):
    cache = make("sync", f"sqlite:///{tmp_path / 'cache.db'}").thing
    embedding = Embedding(cache, max_batch=3)
    embedding.rows(["a"], MODEL, Model())
    again = pickle.loads(pickle.dumps(embedding))
    assert same(again.rows(["a"], MODEL, lambda _texts: pytest.fail("it is there")), vectors(["a"]))
    again.blocking.close()


# -- one name for a model ------------------------------------------------------------------------


class Embedder:
    """What a framework hands over."""


class Another:
    """The same options, another class."""


def test_equal_embedders_are_one_model_and_others_are_not():
    options = {"prompt": "p", "dimensions": 3, "nested": {"a": [1]}, "api_key": "hush"}
    model = identity(Embedder(), "name", options)
    assert model == identity(Embedder(), "name", dict(reversed(options.items())))
    assert model == identity(Embedder(), "name", {**options, "api_key": "another"})
    assert "hush" not in repr(model)
    for other in (
        identity(Another(), "name", options),
        identity(Embedder(), "other", options),
        identity(Embedder(), "name", {**options, "prompt": "q"}),
        identity(Embedder(), "name", {**options, "nested": {"a": [2]}}),
        identity(Embedder(), "name", options, "other"),
        identity(Embedder(), "name", options, EmbeddingModel("name", revision="2")),
        identity(Embedder(), "name", options, EmbeddingModel("name", params={"p": 1})),
        identity(Embedder(), "name", options, ignore=["prompt"]),
    ):
        assert other != model
    assert identity(Embedder(), "x", options, "name") == model


def test_texts_whose_vectors_depend_on_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"Embedder's late_chunking=True.*depend on the other"):
        identity(Embedder(), "name", {"late_chunking": True})
    assert identity(Embedder(), "name", {"late_chunking": False})
    assert identity(Embedder(), "name", {"late_chunking": True}, ignore=["late_chunking"])


def test_an_embedder_that_is_changed_is_another_model_from_then_on():
    options = {"prefix": "", "more": {"dimensions": 8}, "api_key": "sk-1"}
    known, embedder = Identity(lambda _: ("name", options)), Embedder()

    def right():
        return identity(embedder, "name", options).with_input_type("query")

    first = known.of(embedder, "query")
    assert first == right()
    assert known.of(embedder, "query") is first
    assert known.of(Another(), "query") != first
    options["api_key"] = "sk-2"
    assert known.of(embedder, "query") == first
    options["more"]["dimensions"] = 4
    assert known.of(embedder, "query") == right() != first
    assert "sk-" not in repr(known._last)


@pytest.mark.parametrize("wrong", [object(), {1, 2}, b"bytes", float("nan")], ids=str)
def test_what_cannot_be_part_of_a_key_is_refused_with_the_cure(wrong):
    with pytest.raises(ConfigError, match=r"Embedder's option 'odd'.*ignore=\['odd'\]"):
        identity(Embedder(), "name", {"odd": wrong})
    assert identity(Embedder(), "name", {"odd": wrong}, ignore=["odd"])


# -- stores --------------------------------------------------------------------------------------


@pytest.mark.impatient
def test_whether_a_store_answers():
    async def ask(store):
        async with AsyncEmbeddingCache(store) as cache:
            answer = await store_answers(cache)
        if store is not None:
            assert await store_answers(cache) is False  # closed
        return answer

    assert asyncio.run(ask(None)) is None
    assert asyncio.run(ask(MemoryStore())) is True
    assert asyncio.run(ask("redis://127.0.0.1:1")) is False
