"""Chroma for real: collections whose embedding function is behind the cache."""
# ruff: noqa: A002  Chroma looks at the name "input"

import threading
from collections import Counter
from uuid import uuid4

import chromadb
import numpy as np
import pytest
from chromadb.api.types import EmbeddingFunction
from chromadb.config import Settings
from chromadb.utils.embedding_functions import register_embedding_function

from embedders import same, vector, vectors
from nearcache import AsyncEmbeddingCache, ConfigError, EmbeddingCache, EmbeddingModel
from nearcache.integrations.chroma import CachedEmbeddingFunction

DOCUMENTS = [f"Chroma passage {n} about topic {n % 7}" for n in range(12)]
IDS = [str(n) for n in range(12)]

sent: Counter = Counter()
calls: list[list[str]] = []
lock = threading.Lock()


@register_embedding_function
class Fake(EmbeddingFunction):
    """An embedding function that counts what reaches it; queries are embedded otherwise."""

    def __init__(self, model_name="fake", prompt="", batch_size=32):
        self.config = {"model_name": model_name, "prompt": prompt, "batch_size": batch_size}

    def _embed(self, kind, texts):
        with lock:
            calls.append(list(texts))
            sent.update((kind, text) for text in texts)
        prompt = self.config["prompt"]
        return [vector(f"{prompt}{kind}: {text}") for text in texts]

    def __call__(self, input):
        return self._embed("document", input)

    def embed_query(self, input):
        return self._embed("query", input)

    @staticmethod
    def name():
        return "nearcache-tests-fake"

    def get_config(self):
        return self.config

    @staticmethod
    def build_from_config(config):
        return Fake(**config)

    def default_space(self):
        return "cosine"


@pytest.fixture(autouse=True)
def _nothing_counted():
    sent.clear()
    calls.clear()


@pytest.fixture(scope="module")
def _chroma():
    return chromadb.EphemeralClient(Settings(anonymized_telemetry=False))


@pytest.fixture
def client(_chroma):
    """A client whose collections are gone afterwards: Chroma keeps them in the process."""
    yield _chroma
    for collection in _chroma.list_collections():
        _chroma.delete_collection(collection.name)


def collection(client, function, name=None):
    return client.create_collection(name or f"c{uuid4().hex}", embedding_function=function)


def document(text, prompt=""):
    return vector(f"{prompt}document: {text}")


# -- collections ---------------------------------------------------------------------------------


def test_collections_pay_for_each_text_once_and_find_what_they_find_without(client, cache):
    def answer(function):
        filled = collection(client, function)
        filled.add(ids=IDS, documents=DOCUMENTS)
        found = filled.query(query_texts=["which?", "what?", "which?"], n_results=3)
        return found["ids"], found["distances"], filled.get(["3"], include=["embeddings"])

    ids, distances, got = answer(Fake())
    sent.clear()
    for _ in range(2):
        again = answer(CachedEmbeddingFunction(Fake(), cache))
        assert again[:2] == (ids, distances)
        assert same(again[2]["embeddings"], got["embeddings"])
    assert set(sent.values()) == {1}
    assert len(sent) == len(DOCUMENTS) + 2


def test_an_existing_collection_is_opened_with_the_cache_and_without(client, cache):
    function = CachedEmbeddingFunction(Fake(), cache)
    collection(client, Fake(), "plain").add(ids=IDS, documents=DOCUMENTS)
    opened = client.get_collection("plain", embedding_function=function)
    assert opened.query(query_texts=["which?"])["ids"]
    collection(client, function, "behind").add(ids=IDS, documents=DOCUMENTS)
    for given in ({"embedding_function": Fake()}, {}):
        opened = client.get_collection("behind", **given)
        assert opened.query(query_texts=["which?"])["ids"]
    assert opened.configuration["embedding_function"].name() == Fake.name()


def test_upserts_and_updates_go_through_the_cache(client, cache):
    filled = collection(client, CachedEmbeddingFunction(Fake(), cache))
    filled.add(ids=["1", "2"], documents=["a", "b"])
    filled.upsert(ids=["1", "3"], documents=["b", "a"])
    filled.update(ids=["2"], documents=["a"])
    assert sent == {("document", "a"): 1, ("document", "b"): 1}
    got = filled.get(["1", "2", "3"], include=["embeddings", "documents"])
    for text, row in zip(got["documents"], got["embeddings"], strict=True):
        assert np.allclose(row, document(text), atol=1e-6)  # Chroma normalises it


def test_the_space_is_the_functions_own(client, cache):
    filled = collection(client, CachedEmbeddingFunction(Fake(), cache))
    assert filled.configuration["hnsw"]["space"] == "cosine"


# -- the function --------------------------------------------------------------------------------


def test_texts_come_back_in_order_each_missing_one_sent_once(cache):
    function = CachedEmbeddingFunction(Fake(), cache)
    function(["b", "d"])
    calls.clear()
    asked = ["a", "b", "a", "c", "d", "a"]
    rows = function(asked)
    assert isinstance(rows, list)
    assert same(rows, vectors([f"document: {text}" for text in asked]))
    assert calls == [["a", "c"]]


def test_queries_and_documents_are_apart(cache):
    function = CachedEmbeddingFunction(Fake(), cache)
    for _ in range(2):
        assert same(function(["x"])[0], document("x"))
        assert same(function.embed_query(["x"])[0], vector("query: x"))
    assert sent == {("document", "x"): 1, ("query", "x"): 1}


def test_calls_are_as_large_as_one_says(cache):
    CachedEmbeddingFunction(Fake(), cache, max_batch=5)(DOCUMENTS)
    assert sorted(map(len, calls)) == [2, 5, 5]


def test_a_vector_may_be_changed_by_its_caller(cache):
    function = CachedEmbeddingFunction(Fake(), cache)
    for _ in range(3):
        row = function(["x"])[0]
        assert same(row, document("x"))
        row += 1


def test_what_is_no_text_goes_past_the_cache(cache):
    class Images(Fake):
        def __call__(self, input):
            return [np.ones(3, np.float32) * len(one) for one in input]

    image = np.zeros((2, 2), np.uint8)
    function = CachedEmbeddingFunction(Images(), cache)
    for _ in range(2):
        assert same(function([image, "text"])[0], np.float32([2, 2, 2]))
    assert cache.size == 0


def test_an_asynchronous_cache_will_do(client):
    cache = AsyncEmbeddingCache()
    function = CachedEmbeddingFunction(Fake(), cache)
    assert same(function(["x"]), function(["x"]))
    assert sent == {("document", "x"): 1}
    cache.as_sync().close()


# -- what Chroma keeps ---------------------------------------------------------------------------


def test_it_says_of_itself_what_the_function_says(cache):
    function = CachedEmbeddingFunction(Fake(prompt="p"), cache)
    assert function.name() == Fake.name()
    assert function.get_config() == Fake(prompt="p").get_config()
    assert not function.is_legacy()
    assert function.default_space() == "cosine"
    assert function.supported_spaces() == Fake().supported_spaces()


def test_one_that_is_built_of_its_configuration_is_behind_the_same_cache(cache):
    function = CachedEmbeddingFunction(Fake(prompt="p"), cache)
    again = function.build_from_config(function.get_config())
    assert same(function(["x"]), again(["x"]))
    assert sent == {("document", "x"): 1}
    with pytest.raises(ConfigError, match="again"):
        CachedEmbeddingFunction.build_from_config({})


def test_changes_of_a_configuration_are_refused_as_the_function_does(cache):
    class Strict(Fake):
        def validate_config_update(self, old_config, new_config):
            raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        CachedEmbeddingFunction(Strict(), cache).validate_config_update({}, {})


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"model_name": "b"}, {"prompt": "p: "}], ids=str)
def test_what_changes_a_vector_is_part_of_the_key(other, cache):
    for given in ({}, other):
        row = CachedEmbeddingFunction(Fake(**given), cache)(["x"])[0]
        assert same(row, document("x", given.get("prompt", "")))
    assert sent == {("document", "x"): 2}


def test_so_is_what_is_set_on_the_function_at_any_time(cache):
    function = Fake()
    ours = CachedEmbeddingFunction(function, cache)
    for prompt in ("", "p: ", ""):
        function.config["prompt"] = prompt
        assert same(ours(["x"])[0], document("x", prompt))
    assert sent == {("document", "x"): 2}


def test_two_classes_are_two_models(cache):
    class Other(Fake):
        """The same configuration, but who knows what it does."""

    CachedEmbeddingFunction(Fake(), cache)(["x"])
    CachedEmbeddingFunction(Other(), cache)(["x"])
    assert sent == {("document", "x"): 2}


def test_how_a_function_is_reached_is_no_part_of_the_key(cache):
    CachedEmbeddingFunction(Fake(), cache)(["x"])
    CachedEmbeddingFunction(Fake(batch_size=1), cache)(["x"])
    assert sent == {("document", "x"): 1}


def test_a_function_that_says_nothing_of_itself_needs_a_model(client, cache):
    def plain(input):
        return [document(text) for text in input]

    class Legacy(EmbeddingFunction):
        def __init__(self):
            pass

        def __call__(self, input):
            sent.update(input)
            return [document(text) for text in input]

    for function in (plain, Legacy()):
        with pytest.raises(ConfigError, match="give model="):
            CachedEmbeddingFunction(function, cache)
        behind = CachedEmbeddingFunction(function, cache, model=EmbeddingModel("mine"))
        assert same(behind(["x"])[0], document("x"))
        assert same(behind.embed_query(["x"])[0], document("x"))
        assert behind.is_legacy()
        filled = collection(client, behind)
        filled.add(ids=["1"], documents=["x"])
        assert filled.query(query_texts=["x"])["ids"] == [["1"]]
    assert sent == {"x": 2}  # a document and a query


def test_bad_input_is_refused(cache):
    with pytest.raises(ConfigError, match="embedding_function is callable"):
        CachedEmbeddingFunction("fake", cache)
    with pytest.raises(ConfigError, match="cache is an EmbeddingCache"):
        CachedEmbeddingFunction(Fake(), "redis://localhost")
    with pytest.raises(ConfigError, match="max_batch"):
        CachedEmbeddingFunction(Fake(), cache, max_batch=0)


def test_two_processes_pay_once(tmp_path, client):
    for _ in range(2):
        with EmbeddingCache(f"sqlite:///{tmp_path / 'cache.db'}") as cache:
            filled = collection(client, CachedEmbeddingFunction(Fake(), cache))
            filled.add(ids=IDS, documents=DOCUMENTS)
    assert set(sent.values()) == {1}
