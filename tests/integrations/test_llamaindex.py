"""LlamaIndex for real: an index, a retriever, docstores and ingestion behind the cache."""

import asyncio
import json
import pickle
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.indices.loading import load_index_from_storage
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.index_store.keyval_index_store import KVIndexStore

from embedders import same, until, vector
from nearcache import (
    AsyncEmbeddingCache,
    ConfigError,
    EmbeddingCache,
    EmbeddingModel,
    StoreUnavailable,
)
from nearcache.integrations.llamaindex import CachedEmbedding, NearCacheKVStore

TEXTS = [f"LlamaIndex passage {n} about topic {n % 7}" for n in range(12)]


class Fake(BaseEmbedding):
    """A model that counts what reaches it; queries and texts have vectors of their own."""

    prompt: str = Field(default="")
    api_key: str = Field(default="secret")
    sent: Any = Field(default_factory=Counter, exclude=True)
    calls: Any = Field(default_factory=list, exclude=True)
    loops: Any = Field(default_factory=list, exclude=True)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def _embed(self, kind: str, text: str) -> list[float]:
        with self._lock:
            self.sent[kind, text] += 1
        return vector(f"{self.prompt}{kind}: {text}").tolist()

    def _get_query_embedding(self, query):
        return self._embed("query", query)

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text):
        return self._embed("text", text)

    def _get_text_embeddings(self, texts):
        self.calls.append(list(texts))
        return [self._embed("text", text) for text in texts]


class FakeAsync(Fake):
    """The same, with asynchronous forms of its own."""

    async def _aget_text_embedding(self, text):
        return self._get_text_embedding(text)

    async def _aget_text_embeddings(self, texts):
        self.loops.append(asyncio.get_running_loop())
        return self._get_text_embeddings(texts)


@pytest.fixture(params=[Fake, FakeAsync])
def model(request):
    return request.param(model_name="fake")


def right(kind, text, prompt=""):
    return vector(f"{prompt}{kind}: {text}").tolist()


# -- the embedding model -------------------------------------------------------------------------


def test_an_index_and_its_retriever_pay_for_each_text_once(model, cache):
    embed = CachedEmbedding(model, cache)
    nodes = [TextNode(text=text) for text in TEXTS]
    for _ in range(3):
        index = VectorStoreIndex(nodes, embed_model=embed)
        found = index.as_retriever(similarity_top_k=3).retrieve("which passage?")
        assert len(found) == 3
    assert set(model.sent.values()) == {1}
    assert len(model.sent) == len(TEXTS) + 1


def test_the_index_is_the_one_without_a_cache(model, cache):
    nodes = [TextNode(text=text) for text in TEXTS]
    plain = VectorStoreIndex(nodes, embed_model=Fake(model_name="fake"))
    behind = VectorStoreIndex(nodes, embed_model=CachedEmbedding(model, cache))
    for question in ("first", "second"):
        wanted = [
            (found.node_id, found.score)
            for found in plain.as_retriever(similarity_top_k=5).retrieve(question)
        ]
        got = [
            (found.node_id, found.score)
            for found in behind.as_retriever(similarity_top_k=5).retrieve(question)
        ]
        assert got == wanted


def test_an_asynchronous_retriever_finds_the_same(model, cache):
    embed = CachedEmbedding(model, cache)
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=embed)
    retriever = index.as_retriever()
    wanted = [found.node_id for found in retriever.retrieve("which?")]
    for _ in range(2):
        found = asyncio.run(retriever.aretrieve("which?"))
        assert [one.node_id for one in found] == wanted
    assert model.sent["query", "which?"] == 1


def test_queries_and_texts_are_apart(model, cache):
    embed = CachedEmbedding(model, cache)
    for _ in range(2):
        assert embed.get_text_embedding("the same") == right("text", "the same")
        assert embed.get_query_embedding("the same") == right("query", "the same")
    assert model.sent == {("text", "the same"): 1, ("query", "the same"): 1}


def test_both_faces_share_what_was_paid_for(model, cache):
    embed = CachedEmbedding(model, cache)

    async def read():
        return (
            await embed.aget_text_embedding_batch(TEXTS),
            await embed.aget_query_embedding("q"),
            await embed.aget_text_embedding(TEXTS[0]),
        )

    rows = embed.get_text_embedding_batch(TEXTS)
    embed.get_query_embedding("q")
    arows, aquery, aone = asyncio.run(read())
    assert arows == rows == [right("text", text) for text in TEXTS]
    assert (aquery, aone) == (right("query", "q"), rows[0])
    assert set(model.sent.values()) == {1}


def test_a_batch_sends_each_missing_text_once_and_keeps_the_order(model, cache):
    embed = CachedEmbedding(model, cache)
    embed.get_text_embedding_batch(["b", "d"])
    model.calls.clear()
    asked = ["a", "b", "a", "c", "d", "a"]
    assert embed.get_text_embedding_batch(asked) == [right("text", text) for text in asked]
    assert [text for call in model.calls for text in call] == ["a", "c"]


def test_calls_are_as_large_as_the_model_says(cache):
    model = Fake(model_name="fake", embed_batch_size=5)
    embed = CachedEmbedding(model, cache, embed_batch_size=100)
    assert CachedEmbedding(model, cache).embed_batch_size == 5
    embed.get_text_embedding_batch(TEXTS)
    assert sorted(map(len, model.calls)) == [2, 5, 5]


def test_a_model_that_only_blocks_does_not_stop_the_event_loop(cache):
    inside, go = threading.Event(), threading.Event()

    class Slow(Fake):
        def _get_text_embeddings(self, texts):
            inside.set()
            assert go.wait(30)
            return super()._get_text_embeddings(texts)

    embed = CachedEmbedding(Slow(model_name="slow"), cache)

    async def both():
        task = asyncio.create_task(embed.aget_text_embedding("text"))
        while not inside.is_set():  # the loop goes on meanwhile, or this would never end
            await asyncio.sleep(0.001)
        go.set()
        return await task

    assert asyncio.run(both()) == right("text", "text")


def test_many_threads_pay_once(model, cache):
    embed = CachedEmbedding(model, cache)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: embed.get_text_embedding_batch(TEXTS), range(16)))
    assert all(each == [right("text", text) for text in TEXTS] for each in rows)
    assert set(model.sent.values()) == {1}


def test_an_asynchronous_cache_will_do():
    model = Fake(model_name="fake")
    cache = AsyncEmbeddingCache()
    embed = CachedEmbedding(model, cache)
    assert embed.get_text_embedding("text") == embed.get_text_embedding("text")
    assert model.sent["text", "text"] == 1
    asyncio.run(cache.close())


@pytest.mark.parametrize(
    "other",
    [
        {"model_name": "another"},
        {"prompt": "represent: "},
        {"dimensions": 8},
    ],
    ids=str,
)
def test_what_changes_a_vector_is_part_of_the_key(other, cache):
    class Wide(Fake):
        dimensions: int = Field(default=4)

    models = Wide(model_name="fake"), Wide(**{"model_name": "fake", **other})
    for model in models:
        embed = CachedEmbedding(model, cache)
        assert embed.get_text_embedding("text") == right("text", "text", model.prompt)
        assert model.sent["text", "text"] == 1


def test_so_is_what_is_set_on_the_model_at_any_time(cache):
    embed = CachedEmbedding(Fake(model_name="fake"), cache)
    for name, value in (("prompt", "represent: "), ("model_name", "another"), ("prompt", "")):
        setattr(embed.underlying, name, value)
        model = embed.underlying
        assert embed.get_text_embedding("text") == right("text", "text", model.prompt)
        assert embed.get_query_embedding("text") == right("query", "text", model.prompt)
        assert asyncio.run(embed.aget_text_embedding("text")) == right("text", "text", model.prompt)
    assert model.sent == {("text", "text"): 3, ("query", "text"): 3}


def test_two_classes_are_two_models(cache):
    for kind in (Fake, FakeAsync):
        model = kind(model_name="fake")
        CachedEmbedding(model, cache).get_text_embedding("text")
        assert model.sent["text", "text"] == 1


@pytest.mark.parametrize(
    "other", [{"api_key": "another"}, {"embed_batch_size": 3}, {"num_workers": 2}], ids=str
)
def test_how_a_model_is_reached_is_no_part_of_the_key(other, cache):
    CachedEmbedding(Fake(model_name="fake"), cache).get_text_embedding("text")
    model = Fake(model_name="fake", **other)
    CachedEmbedding(model, cache).get_text_embedding("text")
    assert not model.sent


def test_a_model_of_ones_own_adds_to_the_key(cache):
    def sent(**given):
        model = Fake(model_name="fake")
        CachedEmbedding(model, cache, **given).get_text_embedding("text")
        return model.sent["text", "text"]

    revised = EmbeddingModel("fake", revision="2")
    assert [sent(), sent(), sent(model=revised), sent(model=revised)] == [1, 0, 1, 0]
    assert [sent(model="name"), sent(model="name"), sent(model="fake")] == [1, 0, 0]
    assert [sent(ignore=("prompt",)), sent(ignore=("prompt",))] == [1, 0]


def test_an_option_that_cannot_be_part_of_a_key_is_refused(cache):
    class Odd(Fake):
        device: Any = Field(default=None)

    model = Odd(model_name="fake", device=object())
    with pytest.raises(ConfigError, match=r"Odd's option 'device'.*ignore=\['device'\]"):
        CachedEmbedding(model, cache)
    CachedEmbedding(model, cache, ignore=("device",))
    with pytest.raises(ConfigError, match="cache is an EmbeddingCache"):
        CachedEmbedding(model, "redis://localhost", ignore=("device",))


def test_the_models_rate_limiter_is_asked_for_misses_only(cache):
    class Limiter(BaseRateLimiter):
        asked = 0

        def acquire(self):
            self.asked += 1

        async def async_acquire(self):
            self.asked += 1

    limiter = Limiter()
    embed = CachedEmbedding(FakeAsync(model_name="fake", rate_limiter=limiter), cache)
    for _ in range(3):
        embed.get_text_embedding("text")
        embed.get_query_embedding("text")
        asyncio.run(embed.aget_text_embedding("other"))
        asyncio.run(embed.aget_query_embedding("other"))
    assert limiter.asked == 4


# -- as a component ------------------------------------------------------------------------------


def test_a_component_comes_back_from_what_it_is_serialised_to(cache):
    embed = CachedEmbedding(MockEmbedding(embed_dim=4), cache)
    data = json.loads(embed.to_json())
    assert data["class_name"] == "NearCacheCachedEmbedding"
    assert "cache" not in data
    again = CachedEmbedding.from_dict(data, cache=cache)
    assert again.to_dict() == embed.to_dict()
    assert again.get_text_embedding("text") == embed.get_text_embedding("text")
    assert cache.get_stats().loads == 1


def test_a_component_travels_to_other_processes(tmp_path):
    with EmbeddingCache(f"sqlite:///{tmp_path / 'cache.db'}") as cache:
        embed = CachedEmbedding(MockEmbedding(embed_dim=4), cache)
        row = embed.get_text_embedding("text")
        again = pickle.loads(pickle.dumps(embed))
        assert again.get_text_embedding("text") == row
        assert again.cache.get_stats().far_hits == 1
        again.cache.close()


def test_nothing_that_is_shown_holds_a_secret():
    cache = EmbeddingCache("redis://:hush@localhost:1")
    model = Fake(model_name="fake", api_key="hush")
    embed = CachedEmbedding(model, cache)
    assert "hush" not in repr(embed) + str(embed) + repr(embed._named("query"))
    assert "hush" not in json.dumps(embed.to_dict()["underlying"] | {"api_key": ""})
    with pytest.raises(ValueError, match="underlying") as error:
        CachedEmbedding({"class_name": "unknown", "api_key": "hush"}, cache)
    assert "hush" not in str(error.value)
    cache.close()


# -- the key-value store -------------------------------------------------------------------------


@pytest.fixture
def kvstore(store):
    kvstore = NearCacheKVStore(store)
    yield kvstore
    kvstore.close()


def test_values_are_kept_by_collection_and_key(kvstore):
    kvstore.put("a", {"n": 1})
    kvstore.put("a", {"n": 2}, collection="other")
    assert kvstore.get("a") == {"n": 1}
    assert kvstore.get("a", "other") == {"n": 2}
    assert kvstore.get("b") is None
    kvstore.put("a", {"n": 3})
    assert kvstore.get("a") == {"n": 3}
    assert [kvstore.delete("a"), kvstore.delete("a")] == [True, False]
    assert kvstore.get("a") is None
    assert kvstore.get_all("other") == {"a": {"n": 2}}


def test_the_asynchronous_methods_do_the_same(kvstore):
    async def work():
        await kvstore.aput("a", {"n": 1})
        await kvstore.aput_all([("b", {"n": 2}), ("c", {"n": 3})], batch_size=100)
        assert await kvstore.aget("a") == {"n": 1}
        assert await kvstore.aget("x") is None
        assert await kvstore.adelete("a")
        assert not await kvstore.adelete("a")
        return await kvstore.aget_all()

    assert asyncio.run(work()) == {"b": {"n": 2}, "c": {"n": 3}} == kvstore.get_all()


def test_a_collection_is_listed_whole_and_no_other_with_it(kvstore):
    rows = {f"key:{n}/{'*' * (n % 3)}": {"n": n} for n in range(2500)}
    kvstore.put_all(list(rows.items()), batch_size=10)
    kvstore.put("x", {"n": -1}, collection="data:")
    assert kvstore.get_all() == rows
    assert kvstore.get_all("data:") == {"x": {"n": -1}}
    assert kvstore.get_all("nothing") == {}


def test_a_value_is_the_callers_own(kvstore):
    value = {"list": [1]}
    kvstore.put("a", value)
    value["list"].append(2)
    kvstore.get("a")["list"].append(3)
    assert kvstore.get("a") == {"list": [1]}


def test_a_docstore_is_kept_where_other_processes_find_it(shared):
    nodes = [TextNode(text=text, id_=str(n)) for n, text in enumerate(TEXTS)]
    first = NearCacheKVStore(shared)
    KVDocumentStore(first).add_documents(nodes)
    second = NearCacheKVStore(shared)
    docstore = KVDocumentStore(second)
    assert sorted(docstore.docs) == sorted(node.node_id for node in nodes)
    assert docstore.get_document("3").text == TEXTS[3]
    docstore.delete_document("3")
    until(lambda: KVDocumentStore(first).get_document("3", raise_error=False) is None)
    first.close()
    second.close()


def test_an_index_is_loaded_again_from_docstore_and_index_store(cache, shared):
    embed = CachedEmbedding(Fake(model_name="fake"), cache)
    kvstore = NearCacheKVStore(shared)
    context = StorageContext.from_defaults(
        docstore=KVDocumentStore(kvstore), index_store=KVIndexStore(kvstore)
    )
    index = VectorStoreIndex(
        [TextNode(text=text) for text in TEXTS],
        storage_context=context,
        embed_model=embed,
        store_nodes_override=True,
    )
    again = load_index_from_storage(context, index_id=index.index_id, embed_model=embed)
    assert [one.node_id for one in again.as_retriever().retrieve("q")] == [
        one.node_id for one in index.as_retriever().retrieve("q")
    ]
    kvstore.close()


def test_ingestion_does_nothing_twice(shared, cache):
    model = Fake(model_name="fake")
    documents = [Document(text=" ".join(TEXTS), id_="one")]

    def ingest():
        kvstore = NearCacheKVStore(shared)
        pipeline = IngestionPipeline(
            transformations=[SentenceSplitter(chunk_size=40, chunk_overlap=0), embed],
            cache=IngestionCache(cache=kvstore, collection="ingestion"),
        )
        nodes = pipeline.run(documents=documents)
        kvstore.close()
        return [(node.get_content(), node.embedding) for node in nodes]

    embed = CachedEmbedding(model, cache)
    first = ingest()
    asked = cache.get_stats()
    assert len(first) > 1
    assert ingest() == first
    assert cache.get_stats() == asked  # LlamaIndex's own cache answered, from our store
    assert set(model.sent.values()) == {1}


@pytest.mark.impatient
def test_a_store_that_fails_is_an_error_not_an_empty_docstore():
    kvstore = NearCacheKVStore("redis://127.0.0.1:1")
    with pytest.raises(StoreUnavailable):
        kvstore.get("a")
    with pytest.raises(StoreUnavailable):
        kvstore.get_all()
    with pytest.raises(StoreUnavailable):
        kvstore.put("a", {})
    kvstore.close()


def test_vectors_are_the_models_own_to_the_bit(model, cache):
    embed = CachedEmbedding(model, cache)
    for _ in range(2):
        assert same(embed.get_text_embedding("text"), [float(x) for x in vector("text: text")])
