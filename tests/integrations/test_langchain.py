"""``nearcache.integrations.langchain``: LangChain's own conformance suites, and real pipelines."""

import asyncio
import json
from collections import Counter

import numpy as np
import pytest

from embedders import in_threads, vector

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import (
    FakeListLLM,
    GenericFakeChatModel,
)
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    EmbeddingsIntegrationTests,
    SyncCacheTestSuite,
)

from nearcache import (
    CodecError,
    ConfigError,
    EmbeddingModel,
    LoaderError,
    MemoryStore,
    NearCache,
    Options,
    SQLiteStore,
    StoreError,
)
from nearcache.integrations.langchain import (
    CachedEmbeddings,
    NearCacheByteStore,
    NearCacheLLMCache,
    _key,
)

M = "fake"


class Model(Embeddings):
    """Embeddings that count; a query's vector is that of "query: …"."""

    def __init__(self):
        self.documents, self.queries = [], []
        self.fails = ()

    def embed_documents(self, texts):
        self.documents.append(list(texts))
        if set(self.fails) & set(texts):
            raise ConnectionError("gone")
        return [vector(text).tolist() for text in texts]

    def embed_query(self, text):
        self.queries.append(text)
        return vector(f"query: {text}").tolist()


class AsyncModel(Model):
    """The same with asynchronous methods of its own; ``loops`` they ran on."""

    def __init__(self):
        super().__init__()
        self.loops = []

    async def aembed_documents(self, texts):
        self.loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return self.embed_documents(texts)

    async def aembed_query(self, text):
        self.loops.append(asyncio.get_running_loop())
        return self.embed_query(text)


# -- LangChain's conformance suites: all of them, nothing left out -------------------------------

# each suite has a test or two that is not asynchronous, of which pytest-asyncio warns
asynchronous = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:.*is not an async function:pytest.PytestWarning"),
]


class TestEmbeddings(EmbeddingsIntegrationTests):
    pytestmark = asynchronous

    @pytest.fixture(autouse=True, params=[Model, AsyncModel])
    def _before(self, request, cache):
        self.params = {"underlying": request.param(), "cache": cache, "model": M}

    @property
    def embeddings_class(self):
        return CachedEmbeddings

    @property
    def embedding_model_params(self):
        return self.params


class TestByteStore(BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, store):
        with NearCacheByteStore(store) as one:
            yield one

    @pytest.fixture
    def three_values(self):
        return b"foo", b"", b"\x00\xff"


class TestAsyncByteStore(BaseStoreAsyncTests[bytes]):
    pytestmark = asynchronous

    @pytest.fixture
    def kv_store(self, store):
        with NearCacheByteStore(store) as one:
            yield one

    @pytest.fixture
    def three_values(self):
        return b"foo", b"", b"\x00\xff"


class TestLLMCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, store):
        with NearCacheLLMCache(store) as one:
            yield one


class TestAsyncLLMCache(AsyncCacheTestSuite):
    pytestmark = asynchronous

    @pytest.fixture
    def cache(self, store):
        with NearCacheLLMCache(store) as one:
            yield one


# -- embeddings ----------------------------------------------------------------------------------


@pytest.fixture(params=["sync", "async"])
def face(request):
    return request.param


@pytest.fixture
def embed(face):
    """Call the face's method: ``embed(embeddings, "documents", texts)``."""

    def call(embeddings, what, given):
        if face == "sync":
            return getattr(embeddings, f"embed_{what}")(given)
        return asyncio.run(getattr(embeddings, f"aembed_{what}")(given))

    return call


@pytest.mark.parametrize("kind", [Model, AsyncModel])
def test_each_text_is_paid_for_once_in_order(kind, cache, embed):
    model = kind()
    ours = CachedEmbeddings(model, cache, model=M)
    embed(ours, "documents", ["b"])
    got = embed(ours, "documents", ["a", "b", "c", "a"])
    assert got == [vector(text).tolist() for text in "abca"]
    assert model.documents == [["b"], ["a", "c"]]
    assert got[0] is not got[3]


def test_queries_and_documents_are_told_apart(cache, embed):
    model = Model()
    ours = CachedEmbeddings(model, cache, model=M)
    for _ in range(2):
        assert embed(ours, "query", "a") == vector("query: a").tolist()
        assert embed(ours, "documents", ["a"]) == [vector("a").tolist()]
    assert (model.queries, model.documents) == (["a"], [["a"]])


def test_asynchronous_embeddings_are_awaited_where_they_are_called(cache):
    model = AsyncModel()
    ours = CachedEmbeddings(model, cache, model=M)

    async def both():
        await ours.aembed_documents(["a"])
        await ours.aembed_query("a")
        return asyncio.get_running_loop()

    loop = asyncio.run(both())
    assert model.loops == [loop, loop]


def test_what_one_face_paid_for_the_other_has(cache):
    model = AsyncModel()
    ours = CachedEmbeddings(model, cache.as_async(), model=M)
    ours.embed_documents(["a"])
    asyncio.run(ours.aembed_documents(["a", "b"]))
    ours.embed_documents(["a", "b"])
    assert model.documents == [["a"], ["b"]]


def test_another_name_or_option_is_another_model(cache):
    model = Model()
    for name in (M, "other", EmbeddingModel(M, dimensions=8), EmbeddingModel(M, revision="2")):
        for _ in range(2):
            CachedEmbeddings(model, cache, model=name).embed_documents(["a"])
    assert len(model.documents) == 4
    with pytest.raises(ConfigError, match="model"):
        CachedEmbeddings(model, cache, model="")


def test_what_was_embedded_before_a_failure_is_kept(cache, embed):
    model = Model()
    model.fails = ["bad"]
    ours = CachedEmbeddings(model, cache, model=M, max_batch=2, max_concurrency=1)
    with pytest.raises(ConnectionError):
        embed(ours, "documents", ["a", "b", "c", "d", "bad"])
    embed(ours, "documents", ["a", "b", "c", "d"])
    assert model.documents == [["a", "b"], ["c", "d"], ["bad"]]


def test_many_at_once_pay_once(cache):
    model = Model()
    ours = CachedEmbeddings(model, cache, model=M)
    in_threads(8, lambda n: ours.embed_documents(["a", "b", f"{n}"]))

    async def gathered():
        await asyncio.gather(*(ours.aembed_query("q") for _ in range(20)))

    asyncio.run(gathered())
    assert max(Counter(text for call in model.documents for text in call).values()) == 1
    assert model.queries == ["q"]


def test_a_vector_that_is_none_is_an_error_and_not_kept(cache, embed):
    model = Model()
    ours = CachedEmbeddings(model, cache, model=M)
    model.embed_documents = lambda texts: [[float("nan")] * 8 for _ in texts]
    with pytest.raises(LoaderError):
        embed(ours, "documents", ["a"])
    del model.embed_documents
    assert np.isfinite(embed(ours, "documents", ["a"])).all()


def test_retrieval_over_a_real_vector_store_embeds_nothing_twice(cache):
    """Index, ask, index again as after a restart: the second time nothing is paid."""
    documents = [Document(f"passage {n}", metadata={"n": n}) for n in range(20)]
    model = AsyncModel()
    for _ in range(2):
        store = InMemoryVectorStore(CachedEmbeddings(model, cache, model=M))
        store.add_documents(documents)
        retriever = store.as_retriever(search_kwargs={"k": 3})
        chain = (
            {"context": retriever, "question": RunnablePassthrough()}
            | ChatPromptTemplate.from_template("{context} {question}")
            | GenericFakeChatModel(messages=iter([AIMessage("an answer")] * 2))
            | StrOutputParser()
        )
        assert chain.invoke("where?") == "an answer"
        found = asyncio.run(retriever.ainvoke("where?"))
        assert found == retriever.invoke("where?")
    assert (model.queries, len(model.documents)) == (["where?"], 1)
    wanted = np.array([vector(document.page_content) for document in documents])
    cosine = wanted @ vector("query: where?") / np.linalg.norm(wanted, axis=1)
    assert [hit.metadata["n"] for hit in found] == np.argsort(-cosine)[:3].tolist()


# -- bytes ---------------------------------------------------------------------------------------


def test_keys_may_hold_any_character(store):
    keys = ["", "a:b", "a*", "ä\n", "t(s", "\\,", "x" * 5000]
    with NearCacheByteStore(store) as ours:
        ours.mset([(key, key.encode()) for key in keys])
        assert ours.mget(keys) == [key.encode() for key in keys]
        assert sorted(ours.yield_keys()) == sorted(keys)
        assert list(ours.yield_keys(prefix="a*")) == ["a*"]
        assert sorted(ours.yield_keys(prefix="a")) == ["a*", "a:b"]
        assert list(ours.yield_keys(prefix="\\")) == ["\\,"]


def test_many_keys_are_yielded_once_each(store):
    with NearCacheByteStore(store) as ours:
        ours.mset([(f"key {n}", b"") for n in range(2500)])
        keys = list(ours.yield_keys())
    assert len(keys) == 2500
    assert set(keys) == {f"key {n}" for n in range(2500)}


def test_a_key_that_the_store_tells_twice_is_yielded_once():
    class Twice(MemoryStore):
        def scan(self, *asked, **given):
            cursor, names = super().scan(*asked, **given)
            return cursor, [*names, *names]

    with NearCacheByteStore(Twice()) as ours:
        ours.mset([("a", b""), ("b", b"")])
        assert sorted(ours.yield_keys()) == ["a", "b"]


def test_one_namespace_sees_nothing_of_another(shared):
    with NearCacheByteStore(shared) as one, NearCacheByteStore(shared, namespace="other") as two:
        one.mset([("k", b"1")])
        assert two.mget(["k"]) == [None]
        assert list(two.yield_keys()) == []


def test_nothing_is_evicted_from_a_store_of_this_process():
    with NearCacheByteStore(max_entries=2) as ours:
        ours.mset([(f"{n}", b"v") for n in range(100)])
        assert ours.mget([f"{n}" for n in range(100)]) == [b"v"] * 100


def test_what_one_process_writes_another_reads(shared):
    with NearCacheByteStore(shared) as one, NearCacheByteStore(shared) as two:
        one.mset([("k", b"1")])
        assert two.mget(["k"]) == [b"1"]


def test_what_is_no_bytes_is_refused_and_nothing_is_written():
    with NearCacheByteStore() as ours:
        with pytest.raises(CodecError):
            ours.mset([("a", b"1"), ("b", "text")])
        assert ours.mget(["a"]) == [None]


@pytest.mark.impatient
def test_a_store_that_fails_says_so(own_server):
    server = own_server()
    with NearCacheByteStore(server.url, options=Options(store_timeout=0.2)) as ours:
        ours.mset([("a", b"1")])
        server.stop()
        with pytest.raises(StoreError):
            ours.mget(["b"])
        with pytest.raises(StoreError):
            ours.mset([("b", b"1")])
        with pytest.raises(StoreError):
            list(ours.yield_keys())


def test_a_life_ends(tmp_path):
    with NearCacheByteStore(SQLiteStore(tmp_path / "b.db"), ttl=1000.0) as ours:
        ours.mset([("a", b"1")])
        seconds = ours._cache.admin.inspect(("b", "a"))["seconds_left"]
        assert 900 < seconds <= 1000


# -- what language models said -------------------------------------------------------------------


ANSWERS = {
    "text": [Generation(text="é\ud800", generation_info={"logprobs": [-0.1, None]})],
    "chunk": [GenerationChunk(text="a")],
    "message": [
        ChatGeneration(
            message=AIMessage(
                content=[{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {}}],
                tool_calls=[{"name": "f", "args": {"x": 1}, "id": "1", "type": "tool_call"}],
                usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
                response_metadata={"model_name": "m", "logprobs": None},
                additional_kwargs={"refusal": None},
                id="run-1",
            ),
            generation_info={"finish_reason": "stop"},
        )
    ],
    "message chunk": [ChatGenerationChunk(message=AIMessageChunk(content="a", id="2"))],
    "other messages": [
        ChatGeneration(message=message)
        for message in (
            HumanMessage("h"),
            SystemMessage("s"),
            ToolMessage("t", tool_call_id="1", artifact={"a": 1}),
        )
    ],
    "nothing": [],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_comes_back_as_it_was(answer):
    with NearCacheLLMCache(MemoryStore(), max_entries=0) as ours:
        ours.update("p", "m", answer)
        got = ours.lookup("p", "m")
        assert got == answer
        assert [type(one) for one in got] == [type(one) for one in answer]
        for one, wanted in zip(got, answer, strict=True):
            assert one.model_dump() == wanted.model_dump()


class Special(AIMessage):
    """A message of a provider's own."""


@pytest.mark.parametrize(
    "info",
    [
        {"pair": (1, 2)},
        {"keys": {1: "a"}},
        {"object": object()},
        {"number": float("nan")},
        {"b": b"\x00"},
    ],
    ids=lambda info: next(iter(info)),
)
def test_an_answer_that_json_would_change_is_not_kept(info):
    with NearCacheLLMCache() as ours:
        ours.update("p", "m", [Generation(text="before")])
        ours.update("p", "m", [Generation(text="after", generation_info=info)])
        assert ours.lookup("p", "m") is None


def test_nor_is_a_class_of_somebody_elses():
    with NearCacheLLMCache() as ours:
        ours.update("p", "m", [ChatGeneration(message=Special("a"))])
        assert ours.lookup("p", "m") is None


def test_an_answer_is_the_callers_own():
    with NearCacheLLMCache() as ours:
        ours.update("p", "m", [Generation(text="a", generation_info={"x": [1]})])
        ours.lookup("p", "m")[0].generation_info["x"].append(2)
        assert ours.lookup("p", "m")[0].generation_info == {"x": [1]}


def test_prompt_and_model_are_two_parts_of_the_key_and_may_be_long():
    with NearCacheLLMCache(MemoryStore()) as ours:
        ours.update("a" * 200_000, "b", [Generation(text="1")])
        assert ours.lookup("a" * 200_000, "b") == [Generation(text="1")]
        assert ours.lookup("a" * 199_999 + "b", "b") is None
        ours.update("x", "yz", [Generation(text="2")])
        assert ours.lookup("xy", "z") is None


def test_a_store_holds_no_prompt(tmp_path):
    path = tmp_path / "llm.db"
    with NearCacheLLMCache(f"sqlite:///{path}") as ours:
        ours.update("my secret prompt", "my secret model", [Generation(text="an answer")])
    assert b"secret" not in path.read_bytes()


EVIL = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain_core", "prompts", "prompt", "PromptTemplate"],
    "kwargs": {"template": "{x}"},
}


def test_nothing_is_made_of_a_constructor_in_what_a_model_said():
    """LangChain's own ``loads`` makes objects of such dicts; here they stay what they are."""
    message = AIMessage("a", additional_kwargs={"x": EVIL}, response_metadata=EVIL)
    with NearCacheLLMCache() as ours:
        ours.update("p", "m", [ChatGeneration(message=message, generation_info=EVIL)])
        got = ours.lookup("p", "m")[0]
    assert type(got.message.additional_kwargs["x"]) is dict
    assert got.generation_info == EVIL


HARMLESS = b'[{"kind":"Generation","info":null,"text":"theirs"}]'


@pytest.mark.parametrize(
    "stored",
    [
        b"[]x",
        b"null",
        b'"text"',
        json.dumps([EVIL]).encode(),
        json.dumps([{"kind": "PromptTemplate", "info": None, "text": "a"}]).encode(),
        json.dumps([{"kind": "Generation", "info": 1, "text": []}]).encode(),
        json.dumps(
            [{"kind": "ChatGeneration", "info": None, "message": {"type": "evil", "data": {}}}]
        ).encode(),
    ],
)
def test_what_somebody_else_wrote_into_the_store_is_a_miss(stored):
    store = MemoryStore()
    with (
        NearCacheLLMCache(store, max_entries=0) as ours,
        NearCache(store, namespace="langchain-llm", codec="bytes") as theirs,
    ):
        theirs.put(_key("p", "m"), HARMLESS)
        assert ours.lookup("p", "m") == [Generation(text="theirs")]  # it is the right place
        theirs.put(_key("p", "m"), stored)
        assert ours.lookup("p", "m") is None


@pytest.mark.impatient
def test_a_store_that_fails_is_a_miss(own_server):
    server = own_server()
    with NearCacheLLMCache(server.url, max_entries=0) as ours:
        ours.update("p", "m", [Generation(text="a")])
        server.stop()
        assert ours.lookup("p", "m") is None
        ours.update("p", "m", [Generation(text="a")])
        assert ours.get_stats().store_errors > 0


def test_clear_takes_no_part_for_the_whole():
    with NearCacheLLMCache() as ours:
        ours.update("p", "m", [Generation(text="a")])
        with pytest.raises(ConfigError, match="llm_string"):
            ours.clear(llm_string="m")
        assert ours.lookup("p", "m") is not None


@pytest.mark.parametrize("face", ["sync", "async"])
def test_models_ask_once(face, shared):
    """A language model and a chat model with the cache, as a program uses them."""

    def ask(model, prompt):
        return model.invoke(prompt) if face == "sync" else asyncio.run(model.ainvoke(prompt))

    with NearCacheLLMCache(shared) as ours:
        llm = FakeListLLM(responses=["first", "second"], cache=ours)
        chat = GenericFakeChatModel(messages=iter([AIMessage("one"), AIMessage("two")]), cache=ours)
        assert [ask(llm, "p"), ask(llm, "p"), ask(llm, "q")] == ["first", "first", "second"]
        answers = [ask(chat, "p"), ask(chat, "p"), ask(chat, "q")]
        assert [answer.content for answer in answers] == ["one", "one", "two"]


def test_answers_equal_those_of_langchains_own_cache():
    answers = []
    for cache in (InMemoryCache(), NearCacheLLMCache()):
        chat = GenericFakeChatModel(
            messages=iter([AIMessage("one", id="run-1"), AIMessage("two")]), cache=cache
        )
        answers.append([chat.invoke("p"), chat.invoke("p")])
    assert answers[0] == answers[1]
    cache.close()


def test_repr_shows_what_it_is():
    with NearCacheByteStore() as one, NearCacheLLMCache() as two:
        assert repr(one).startswith("NearCacheByteStore(")
        assert repr(two) == "NearCacheLLMCache(None, namespace='langchain-llm')"
