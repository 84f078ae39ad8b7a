"""Haystack for real: pipelines with a document store, their embedders behind the cache."""

import asyncio
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before it is imported

import pytest
from haystack import Document, Pipeline, component, default_to_dict
from haystack.components.embedders import MockDocumentEmbedder, MockTextEmbedder
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.serialization_security import allow_deserialization_module
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from embedders import vector
from nearcache import ConfigError, EmbeddingCache, EmbeddingModel
from nearcache.integrations.haystack import CachedDocumentEmbedder, CachedTextEmbedder

CONTENTS = [f"Haystack passage {n} about topic {n % 7}" for n in range(12)]


class Options:
    """What both fake embedders have: options, and counts of what reached them."""

    def __init__(self, model, prefix, suffix, dimensions, api_key, batch_size, timeout):
        self.model, self.prefix, self.suffix = model, prefix, suffix
        self.dimensions, self.api_key = dimensions, api_key
        self.batch_size, self.timeout = batch_size, timeout
        self.sent: Counter = Counter()
        self.calls: list[list[str]] = []
        self.seen: list[Document] = []
        self.lock = threading.Lock()
        self.warmed = self.closed = 0

    def warm_up(self):
        self.warmed += 1

    def close(self):
        self.closed += 1

    def to_dict(self):
        return default_to_dict(self, **{name: getattr(self, name) for name in OPTIONS})

    def embed(self, texts):
        with self.lock:
            self.calls.append(texts)
            self.sent.update(texts)
        return [vector(text, self.dimensions).tolist() for text in texts]

    def meta(self, texts):
        tokens = sum(map(len, texts))
        return {"model": self.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


OPTIONS = ("model", "prefix", "suffix", "dimensions", "api_key", "batch_size", "timeout")
DEFAULTS: dict[str, Any] = {
    "model": "fake",
    "prefix": "",
    "suffix": "",
    "dimensions": 8,
    "api_key": Secret.from_token("hush"),
    "batch_size": 4,
    "timeout": 1.0,
}


@component
class Texts(Options):
    """A text embedder."""

    def __init__(self, **given: Any):
        Options.__init__(self, **{**DEFAULTS, **given})

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str):
        if not isinstance(text, str):
            raise TypeError("Texts expects a string")
        whole = f"{self.prefix}{text}{self.suffix}"
        return {"embedding": self.embed([whole])[0], "meta": self.meta([whole])}


@component
class Documents(Options):
    """A document embedder; what has "broken" in its content it gives back without a vector."""

    def __init__(self, meta_fields_to_embed=(), separator="\n", **given: Any):
        Options.__init__(self, **{**DEFAULTS, **given})
        self.meta_fields_to_embed, self.separator = list(meta_fields_to_embed), separator

    def to_dict(self):
        more = {
            "meta_fields_to_embed": self.meta_fields_to_embed,
            "separator": self.separator,
        }
        return default_to_dict(self, **{name: getattr(self, name) for name in OPTIONS}, **more)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]):
        if not isinstance(documents, list):
            raise TypeError("Documents expects a list")
        self.seen += documents
        texts = [self.text(document) for document in documents]
        embedded = [
            replace(document, embedding=None if "broken" in document.content else row)
            for document, row in zip(documents, self.embed(texts), strict=True)
        ]
        return {"documents": embedded, "meta": self.meta(texts)}

    def text(self, document):
        fields = [
            str(document.meta[name])
            for name in self.meta_fields_to_embed
            if document.meta.get(name) is not None
        ]
        return self.prefix + self.separator.join([*fields, document.content or ""]) + self.suffix


@component
class AsyncTexts(Texts):
    """The same, awaited."""

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str):
        await asyncio.sleep(0)
        return self.run(text)


@component
class AsyncDocuments(Documents):
    """The same, awaited."""

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]):
        await asyncio.sleep(0)
        return self.run(documents)


@pytest.fixture(params=["blocking", "threads", "awaited"])
def call(request):
    """Call a component: blocking, on an event loop that runs it in threads, or awaited there."""

    def run(embedder, **given):
        if request.param == "blocking":
            return embedder.run(**given)
        return asyncio.run(embedder.run_async(**given))

    run.awaited = request.param == "awaited"
    return run


def texts_of(call, **given):
    return (AsyncTexts if call.awaited else Texts)(**given)


def documents_of(call, **given):
    return (AsyncDocuments if call.awaited else Documents)(**given)


def documents(contents=CONTENTS, **meta):
    return [Document(content=content, meta=dict(meta)) for content in contents]


def rows(answer):
    return [document.embedding for document in answer["documents"]]


# -- pipelines -----------------------------------------------------------------------------------


def indexing(embedder, store):
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("embedder.documents", "writer.documents")
    return pipeline


def querying(embedder, store):
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=3))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    return pipeline


def test_pipelines_pay_for_each_text_once_and_find_what_they_find_without(cache):
    below = Documents(), Texts()

    def answer(whole, texts):
        store = InMemoryDocumentStore()
        indexing(whole, store).run({"embedder": {"documents": documents()}})
        assert store.count_documents() == len(CONTENTS)
        found = querying(texts, store).run({"embedder": {"text": "which passage?"}})
        return [(one.id, one.score) for one in found["retriever"]["documents"]]

    wanted = answer(Documents(), Texts())
    for _ in range(2):
        behind = CachedDocumentEmbedder(below[0], cache), CachedTextEmbedder(below[1], cache)
        assert answer(*behind) == wanted
    assert set(below[0].sent.values()) == {1} == set(below[1].sent.values())


def test_an_asynchronous_pipeline_finds_the_same(cache):
    store, below = InMemoryDocumentStore(), AsyncTexts()
    indexing(CachedDocumentEmbedder(Documents(), cache), store).run(
        {"embedder": {"documents": documents()}}
    )
    asked = {"embedder": {"text": "which passage?"}}
    wanted = querying(Texts(), store).run(asked)["retriever"]["documents"]
    pipeline = querying(CachedTextEmbedder(below, cache), store)
    for _ in range(2):
        found = asyncio.run(pipeline.run_async(asked))["retriever"]["documents"]
        assert [one.id for one in found] == [one.id for one in wanted]
    assert set(below.sent.values()) == {1}
    store.shutdown()


def test_haystacks_own_embedders_are_taken(cache):
    texts, whole = MockTextEmbedder(dimension=4), MockDocumentEmbedder(dimension=4)
    for _ in range(2):
        got = CachedTextEmbedder(texts, cache).run("text")["embedding"]
        assert got == pytest.approx(texts.run("text")["embedding"])
        got = rows(CachedDocumentEmbedder(whole, cache).run(documents(["text"])))
        assert got[0] == pytest.approx(rows(whole.run(documents(["text"])))[0])
    assert cache.get_stats().loads == 2


# -- texts ---------------------------------------------------------------------------------------


def test_a_text_is_embedded_once(cache, call):
    below = texts_of(call, prefix="query: ")
    embedder = CachedTextEmbedder(below, cache)
    first = call(embedder, text="text")
    assert first["embedding"] == vector("query: text").tolist()
    assert first["meta"] == below.meta(["query: text"])
    assert call(embedder, text="text") == {"embedding": first["embedding"], "meta": {}}
    assert below.sent == {"query: text": 1}


def test_what_is_no_text_is_refused_as_the_embedder_does(cache, call):
    with pytest.raises(TypeError, match="Texts expects a string"):
        call(CachedTextEmbedder(texts_of(call), cache), text=["text"])
    with pytest.raises(TypeError, match="Documents expects a list"):
        call(CachedDocumentEmbedder(documents_of(call), cache), documents="text")


# -- documents -----------------------------------------------------------------------------------


def test_documents_come_back_in_order_each_missing_text_sent_once(cache, call):
    below = documents_of(call)
    embedder = CachedDocumentEmbedder(below, cache)
    call(embedder, documents=documents(["b", "d"]))
    below.calls.clear()
    asked = ["a", "b", "a", "c", "d", "a"]
    assert rows(call(embedder, documents=documents(asked))) == [
        vector(text).tolist() for text in asked
    ]
    assert below.calls == [["a", "c"]]


def test_what_is_returned_is_new_and_whole(cache, call):
    given = [
        Document(id=str(n), content=text, meta={"n": n}, score=0.5)
        for n, text in enumerate(["a", "a"])
    ]
    for _ in range(2):
        answer = call(CachedDocumentEmbedder(documents_of(call), cache), documents=given)
        first, second = answer["documents"]
        assert (first.id, first.meta, first.score) == ("0", {"n": 0}, 0.5)
        assert (second.id, second.meta) == ("1", {"n": 1})
        first.embedding.append(0.0)
        assert second.embedding == vector("a").tolist()
        assert given[0].embedding is None
    assert call(CachedDocumentEmbedder(documents_of(call), cache), documents=[]) == {
        "documents": [],
        "meta": {},
    }


def test_calls_are_as_large_as_the_embedder_says_and_their_usage_is_summed_up(cache, call):
    below = documents_of(call, batch_size=5)
    answer = call(CachedDocumentEmbedder(below, cache), documents=documents())
    assert sorted(map(len, below.calls)) == [2, 5, 5]
    assert answer["meta"] == below.meta(CONTENTS)
    answer = call(CachedDocumentEmbedder(below, cache), documents=documents([*CONTENTS, "new"]))
    assert answer["meta"] == below.meta(["new"])


def test_the_fields_to_embed_are_part_of_the_key_and_no_others(cache, call):
    below = documents_of(call, meta_fields_to_embed=["title", "year"])
    embedder = CachedDocumentEmbedder(below, cache)

    def embed(content, **meta):
        return rows(call(embedder, documents=[Document(content=content, meta=meta)]))[0]

    assert embed("a", title="T", year=1999) == vector("T\n1999\na").tolist()
    assert embed("a", title="T", year=1999, page=7) == vector("T\n1999\na").tolist()
    assert embed("a", title="U", year=1999) == vector("U\n1999\na").tolist()
    assert embed("a", title=None) == embed("a") == vector("a").tolist()
    assert set(below.sent.values()) == {1}
    assert all(set(one.meta) <= {"title", "year"} for one in below.seen)


def test_neighbouring_fields_do_not_run_into_each_other(cache, call):
    below = documents_of(call, meta_fields_to_embed=["x", "y"], separator="")
    embedder = CachedDocumentEmbedder(below, cache)
    pairs = [{"x": "ab", "y": "c"}, {"x": "a", "y": "bc"}, {"y": "abc"}]
    for meta in pairs:
        (row,) = rows(call(embedder, documents=[Document(content="!", meta=meta)]))
        assert row == vector("abc!").tolist()


def test_a_field_may_hold_anything(cache, call):
    below = documents_of(call, meta_fields_to_embed=["x"])
    embedder = CachedDocumentEmbedder(below, cache)
    for value in (1, 1.0, True, "1", [1, 2], {"a": (1, 2)}, float("nan"), "\ud800", b"bytes"):
        (row,) = rows(call(embedder, documents=[Document(content="c", meta={"x": value})]))
        assert row == vector(f"{value}\nc").tolist(), value


def test_an_embedder_that_does_not_name_its_fields_is_told_them(cache, call):
    below = documents_of(call, meta_fields_to_embed=["title"])
    fields, below.meta_fields_to_embed = below.meta_fields_to_embed, None
    embedder = CachedDocumentEmbedder(below, cache, meta_fields_to_embed=fields)
    below.meta_fields_to_embed = fields
    for title in ("T", "U"):
        (row,) = rows(call(embedder, documents=documents(["a"], title=title)))
        assert row == vector(f"{title}\na").tolist()


def test_a_document_that_was_not_embedded_comes_back_without_and_is_not_kept(cache, call):
    below = documents_of(call, batch_size=3)
    embedder = CachedDocumentEmbedder(below, cache)
    asked = ["a", "broken", "b", "c", "d", "broken too"]
    for _ in range(2):
        below.sent.clear()
        assert rows(call(embedder, documents=documents(asked))) == [
            None if "broken" in text else vector(text).tolist() for text in asked
        ]
    assert set(below.sent) == {"broken", "broken too"}
    assert rows(call(embedder, documents=documents(["broken"]))) == [None]


def test_what_is_forgotten_beside_one_that_was_not_embedded_stays_forgotten(cache, call):
    below = documents_of(call)
    embedder = CachedDocumentEmbedder(below, cache)
    embed = below.embed

    def forgetting(texts):
        answer = embed(texts)
        if "a" in texts:  # loaded by now, and not kept yet
            cache.clear()
        return answer

    below.embed = forgetting
    asked = documents(["a", "broken", "b"])
    for _ in range(2):
        assert rows(call(embedder, documents=asked)) == [
            vector("a").tolist(),
            None,
            vector("b").tolist(),
        ]
        assert cache.size == 0
    below.embed = embed
    call(embedder, documents=asked)
    assert cache.size == 2


def test_what_was_embedded_once_is_answered_though_the_next_call_fails(cache, call):
    below = documents_of(call)
    embedder = CachedDocumentEmbedder(below, cache)
    embed = below.embed

    def once(texts):  # all but the first call fails
        return [None] * len(texts) if below.calls else embed(texts)

    below.embed = once
    assert rows(call(embedder, documents=documents(["a", "broken", "b"]))) == [
        vector("a").tolist(),
        None,
        vector("b").tolist(),
    ]
    assert cache.size == 0


def test_many_threads_pay_once_although_some_documents_fail(cache, call):
    below = documents_of(call)
    embedder = CachedDocumentEmbedder(below, cache)
    asked = [*CONTENTS[:6], "broken", *CONTENTS[6:]]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(embedder, documents=documents(asked)), range(16)))
    wanted = [None if text == "broken" else vector(text).tolist() for text in asked]
    assert [rows(answer) for answer in answers] == [wanted] * 16
    beside = CONTENTS[4:7]  # in one call with the broken one: others may ask before they are kept
    assert {below.sent[text] for text in CONTENTS if text not in beside} == {1}


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [{"model": "b"}, {"prefix": "p"}, {"suffix": "s"}, {"dimensions": 4}], ids=str
)
def test_what_changes_a_vector_is_part_of_the_key(other, cache):
    for given in ({}, other):
        texts, whole = Texts(**given), Documents(**given)
        row = CachedTextEmbedder(texts, cache).run("text")["embedding"]
        assert row == texts.run("text")["embedding"]
        assert rows(CachedDocumentEmbedder(whole, cache).run(documents(["text"]))) == [row]
        assert set(texts.sent.values()) == {2}
        assert set(whole.sent.values()) == {1}


def test_so_is_what_is_set_on_the_embedder_at_any_time(cache, call):
    texts, whole = texts_of(call), documents_of(call)
    ours, our_documents = CachedTextEmbedder(texts, cache), CachedDocumentEmbedder(whole, cache)
    given = [Document(content="text", meta={"title": "a"})]
    for name, value in (("prefix", "p"), ("model", "b"), ("dimensions", 4)):
        setattr(texts, name, value)
        setattr(whole, name, value)
        whole.meta_fields_to_embed = ["title"] if name == "model" else []
        assert call(ours, text="text")["embedding"] == texts.run("text")["embedding"]
        assert rows(call(our_documents, documents=given)) == rows(whole.run(given))
    assert len(whole.calls) == len(texts.calls) == 6


@component
class Sparse:
    """An embedder whose embeddings are sparse."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]):
        sparse = SparseEmbedding(indices=[1], values=[1.0])
        return {"documents": [replace(one, sparse_embedding=sparse) for one in documents]}


@component
class SparseText:
    """An embedder whose embedding is sparse."""

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str):
        return {"sparse_embedding": SparseEmbedding(indices=[1], values=[1.0])}


def test_sparse_embeddings_are_refused_and_not_lost(cache):
    with pytest.raises(ConfigError, match="sparse"):
        CachedDocumentEmbedder(Sparse(), cache).run(documents(["text"]))
    with pytest.raises(ConfigError, match="sparse_embedding"):
        CachedTextEmbedder(SparseText(), cache).run("text")


@pytest.mark.parametrize(
    "other",
    [
        {"api_key": Secret.from_token("another")},
        {"api_key": Secret.from_env_var("SOME_KEY", strict=False)},
        {"batch_size": 2},
        {"timeout": 3.0},
    ],
    ids=["token", "variable", "batch_size", "timeout"],
)
def test_how_an_embedder_is_reached_is_no_part_of_the_key(other, cache):
    CachedTextEmbedder(Texts(), cache).run("text")
    again = Texts(**other)
    CachedTextEmbedder(again, cache).run("text")
    assert not again.sent


def test_a_model_of_ones_own_adds_to_the_key(cache):
    def sent(**given):
        below = Texts()
        CachedTextEmbedder(below, cache, **given).run("text")
        return below.sent["text"]

    revised = EmbeddingModel("fake", revision="2")
    assert [sent(), sent(model=revised), sent(model=revised), sent()] == [1, 1, 0, 0]
    assert [sent(ignore=["prefix"]), sent(ignore=["prefix"])] == [1, 0]


def test_an_option_that_cannot_be_part_of_a_key_is_refused(cache):
    below = Texts(dimensions=object())
    with pytest.raises(ConfigError, match=r"Texts's option 'dimensions'"):
        CachedTextEmbedder(below, cache)
    with pytest.raises(ConfigError, match=r"component with run\(\)"):
        CachedTextEmbedder("model", cache)
    with pytest.raises(ConfigError, match="cache is an EmbeddingCache"):
        CachedTextEmbedder(Texts(), None)


# -- life ----------------------------------------------------------------------------------------


def test_the_embedder_is_warmed_up_and_closed_with_its_pipeline(tmp_path):
    below = Texts()
    embedder = CachedTextEmbedder(below, f"sqlite:///{tmp_path / 'cache.db'}")
    embedder.warm_up()
    asyncio.run(embedder.warm_up_async())
    assert below.warmed == 2
    embedder.run("text")
    embedder.close()
    asyncio.run(embedder.close_async())
    assert below.closed == 1


def test_a_cache_that_was_given_stays_open(cache):
    CachedTextEmbedder(Texts(), cache).close()
    assert cache.get("text", "model") is None


@pytest.fixture
def _ours_may_be_loaded():
    allow_deserialization_module("nearcache.integrations")


@pytest.mark.usefixtures("_ours_may_be_loaded")
def test_a_pipeline_is_saved_and_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("CACHE_URL", f"sqlite:///{tmp_path / 'cache.db'}")
    pipeline = Pipeline()
    secret = Secret.from_env_var("CACHE_URL")
    below = MockTextEmbedder(dimension=4, prefix="query: ")
    pipeline.add_component("texts", CachedTextEmbedder(below, secret, ignore=["meta"]))
    url = f"sqlite:///{tmp_path / 'other.db'}"
    whole = MockDocumentEmbedder(dimension=4, meta_fields_to_embed=["title"])
    pipeline.add_component("documents", CachedDocumentEmbedder(whole, url, "mine"))
    saved = pipeline.dumps()
    again = Pipeline.loads(saved)
    assert again.dumps() == saved
    asked = {"texts": {"text": "text"}, "documents": {"documents": documents(["a"], title="T")}}
    assert pipeline.run(asked)["texts"]["meta"]
    answer = again.run(asked)
    assert answer["texts"]["meta"] == {} == answer["documents"]["meta"]  # from the first's cache
    for one in (pipeline, again):
        for name in ("texts", "documents"):
            one.get_component(name).close()


def test_what_cannot_be_saved_is_refused_with_the_cure(cache):
    with pytest.raises(ConfigError, match="give its URL, or Secret"):
        CachedTextEmbedder(Texts(), cache).to_dict()
    for url in ("redis://:hush@localhost:1", "redis://localhost:1?password=hush"):
        embedder = CachedTextEmbedder(Texts(), url)
        with pytest.raises(ConfigError, match="password") as error:
            embedder.to_dict()
        assert "hush" not in str(error.value)
        embedder.close()
    embedder = CachedTextEmbedder(Texts(), "memory://", model=EmbeddingModel("m", revision="1"))
    with pytest.raises(ConfigError, match="EmbeddingModel"):
        embedder.to_dict()
    embedder.close()


def test_two_processes_pay_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'cache.db'}"
    first, second = Documents(), Documents()
    for below in (first, second):
        with EmbeddingCache(url) as cache:
            answer = CachedDocumentEmbedder(below, cache).run(documents())
        assert rows(answer) == [vector(text).tolist() for text in CONTENTS]
    assert set(first.sent.values()) == {1}
    assert not second.sent
