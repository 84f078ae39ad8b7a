"""``nearcache.integrations.langgraph``: compiled graphs with the cache and the store."""

import asyncio
import dataclasses
import enum
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from embedders import until, vector

pytest.importorskip("langgraph")

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore, GetOp, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Send

from nearcache import ConfigError, MemoryStore, NearCache, Options
from nearcache.integrations.langchain import CachedEmbeddings
from nearcache.integrations.langgraph import NearCacheCache, NearCacheStore, cached_index

NS = ("writes", "node")


@pytest.fixture(params=["sync", "async"])
def face(request):
    return request.param


class Cache:
    """A LangGraph cache, called the same way under either face."""

    def __init__(self, face, cache):
        self.face, self.cache = face, cache

    def __getattr__(self, name):
        if self.face == "sync":
            return getattr(self.cache, name)
        return lambda *given: asyncio.run(getattr(self.cache, f"a{name}")(*given))


@pytest.fixture
def ours(face, store):
    with NearCacheCache(store) as one:
        yield Cache(face, one)


# -- the cache's contract ------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    """A class of the user's."""

    x: int


MESSAGE = AIMessage(
    "a",
    id="1",
    tool_calls=[{"name": "f", "args": {"x": [1, {"y": None}]}, "id": "1"}],
    usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    response_metadata={"logprobs": None},
)
VALUES = [None, b"\x00", "ä", 1.5, [(1, 2), {"a": [(), deque([(3,)])]}], {1: {2}}, Point(3)]
VALUES += [MESSAGE, Document("a", metadata={"b": 1.5}), Send("node", {"a": 1}), uuid.UUID(int=1)]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_comes_back_as_it_was(ours, value):
    ours.set({(NS, "k"): (value, None)})
    got = ours.get([(NS, "k"), (NS, "other")])
    assert got == {(NS, "k"): value}
    assert type(got[NS, "k"]) is type(value)


@pytest.mark.parametrize("make", [InMemoryCache, NearCacheCache])
def test_it_does_what_langgraphs_own_does(face, make):
    cache = Cache(face, make())
    cache.set({(NS, "a"): (1, None), (("other",), "a"): (2, 60), ((), "a"): (3, None)})
    assert cache.get([]) == {}
    keys = [(NS, "a"), (("other",), "a"), ((), "a"), (NS, "b")]
    assert cache.get(keys) == {keys[0]: 1, keys[1]: 2, keys[2]: 3}
    cache.clear([NS, ("nothing",)])
    assert cache.get(keys) == {keys[1]: 2, keys[2]: 3}
    cache.set({keys[0]: (4, None)})
    assert cache.get(keys[:1]) == {keys[0]: 4}
    cache.clear([])
    assert cache.get(keys[:1]) == {keys[0]: 4}
    cache.clear()
    assert cache.get(keys) == {}
    cache.set({keys[0]: (5, 0)})
    assert cache.get(keys) == {}


def test_no_two_namespaces_share_a_key(ours):
    pairs = {(("a", "b"), "c"): 1, (("a",), "b"): 2, (("a:b",), "c"): 3, (("a",), "b,c"): 4}
    ours.set({key: (value, None) for key, value in pairs.items()})
    assert ours.get(list(pairs)) == pairs


def test_each_value_lives_its_own_time():
    with NearCacheCache(ttl=50) as cache:
        cache.set({(NS, "a"): (1, 1000), (NS, "b"): (1, None)})
        seconds = [cache._cache.admin.inspect((*NS, key))["seconds_left"] for key in "ab"]
        assert [round(one, -1) for one in seconds] == [1000, 50]


def test_what_one_process_keeps_another_has_and_forgets(shared):
    with NearCacheCache(shared) as one, NearCacheCache(shared) as two:
        one.set({(NS, "a"): ("v", None)})
        assert two.get([(NS, "a")]) == {(NS, "a"): "v"}
        one.clear([NS])
        assert until(lambda: two.get([(NS, "a")]) == {})


class Odd:
    """What no serializer takes."""


class Part(BaseModel):
    """A model of the user's whose field may hold anything."""

    x: Any


class Half(str):
    """A text of the user's own kind."""

    __slots__ = ()


class Colour(enum.Enum):
    """An enumeration of the user's."""

    RED = 1


CHANGED = [  # what LangGraph's serializer takes, and gives back as something else
    "half a character \ud800",
    defaultdict(int, a=1),
    OrderedDict(a=1),
    Counter("aab"),
    deque([1, 2], maxlen=2),
    {Colour.RED: 1},
    Half("a"),
    ValueError("a"),
    Point((1, 2)),
    Part(x=(1, 2)),
    [Part(x=Point(deque([1], maxlen=1)))],
    Send("node", {"a": (1, 2)}),
    Document("a", metadata={"a": (1, 2)}),
    AIMessage("a", additional_kwargs={"a": (1, 2)}),
]


@pytest.mark.parametrize("value", CHANGED, ids=lambda value: f"{type(value).__name__} {value}"[:40])
def test_a_value_that_would_come_back_as_another_kind_is_not_kept(value, caplog):
    with NearCacheCache() as cache:
        cache.set({(NS, "a"): (value, None)})
        assert cache.get([(NS, "a")]) == {}
    assert "it would come back changed" in caplog.text


@pytest.mark.parametrize(
    "serde, value",
    [
        (None, Odd()),
        (None, lambda: 1),
        (None, {"nearcache:tuple": [1]}),
        (JsonPlusSerializer(allowed_msgpack_modules=None), Point(1)),  # would become a dict
    ],
    ids=["odd", "function", "our mark", "not allowed"],
)
def test_a_value_that_would_come_back_changed_is_not_kept(serde, value, caplog):
    with NearCacheCache(serde=serde) as cache:
        cache.set({(NS, "a"): ("before", None)})
        cache.set({(NS, "a"): (value, None), (NS, "b"): (1, None)})
        assert cache.get([(NS, "a"), (NS, "b")]) == {(NS, "b"): 1}
        assert cache._cache.admin.entries() == [(*NS, "b")]
    assert "is not kept" in caplog.text


def test_pickle_is_never_read(caplog):
    store = MemoryStore()
    with NearCacheCache(store, max_entries=0) as cache:
        theirs = NearCache(store, namespace="langgraph", codec="bytes")
        theirs.put((*NS, "a"), b'json\n{"a":1}')
        assert cache.get([(NS, "a")]) == {(NS, "a"): {"a": 1}}  # it is the right place
        for stored in (b"pickle\ncos\nsystem\n(S'true'\ntR.", b"", b"msgpack\n\xc1", b"nothing"):
            theirs.put((*NS, "a"), stored)
            assert cache.get([(NS, "a")]) == {}
        theirs.close()


def test_what_was_not_signed_is_a_miss():
    store, options = MemoryStore(), Options(signing_key=b"0123456789abcdef")
    with NearCacheCache(store) as theirs, NearCacheCache(store, options=options) as cache:
        theirs.set({(NS, "a"): (1, None)})
        assert cache.get([(NS, "a")]) == {}


@pytest.mark.impatient
def test_a_store_that_fails_is_a_miss(face, own_server):
    server = own_server()
    with NearCacheCache(server.url, max_entries=0) as one:
        cache = Cache(face, one)
        cache.set({(NS, "a"): (1, None)})
        server.stop()
        assert cache.get([(NS, "a")]) == {}
        cache.set({(NS, "a"): (1, None)})


# -- nodes of a graph ----------------------------------------------------------------------------


class State(TypedDict, total=False):
    question: str
    answer: str
    found: list


def graph_of(cache, calls, ttl=None):
    """A graph of two nodes that are cached."""

    def think(state):
        calls["think"] += 1
        return {"answer": state["question"].upper(), "found": [("a pair", 1)]}

    async def athink(state):
        return think(state)

    def shout(state):
        calls["shout"] += 1
        return {"answer": state["answer"] + "!"}

    graph = StateGraph(State)
    node = RunnableLambda(think, athink, name="think")
    graph.add_node("think", node, cache_policy=CachePolicy(ttl=ttl))
    graph.add_node("shout", shout, cache_policy=CachePolicy(ttl=ttl))
    graph.add_edge(START, "think")
    graph.add_edge("think", "shout")
    graph.add_edge("shout", END)
    return graph.compile(cache=cache)


def run(face, graph, question):
    given = {"question": question}
    state = graph.invoke(given) if face == "sync" else asyncio.run(graph.ainvoke(given))
    assert state.get("found") in (None, [("a pair", 1)])
    return state["answer"]


def test_a_node_runs_once_for_each_input(face, shared):
    calls = Counter()
    with NearCacheCache(shared) as cache:
        graph = graph_of(cache, calls)
        assert [run(face, graph, q) for q in ("a", "a", "b", "a")] == ["A!", "A!", "B!", "A!"]
        assert calls == {"think": 2, "shout": 2}


def test_a_graph_made_again_finds_what_the_first_one_kept(face, shared):
    calls = Counter()
    for _ in range(2):
        with NearCacheCache(shared) as cache:
            assert run(face, graph_of(cache, calls), "a") == "A!"
    assert calls == {"think": 1, "shout": 1}


def test_clear_cache_forgets_the_nodes_it_names(face):
    calls = Counter()
    with NearCacheCache() as cache:
        graph = graph_of(cache, calls)
        run(face, graph, "a")
        graph.clear_cache(["think"]) if face == "sync" else asyncio.run(
            graph.aclear_cache(["think"])
        )
        run(face, graph, "a")
        assert calls == {"think": 2, "shout": 1}


def test_a_node_whose_answer_cannot_be_kept_still_answers(face):
    calls = Counter()

    def node(state):
        calls["node"] += 1
        return {"answer": Odd()}

    graph = StateGraph(State)
    graph.add_node("node", node, cache_policy=CachePolicy())
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    with NearCacheCache() as cache:
        compiled = graph.compile(cache=cache)
        for _ in range(2):
            assert type(run(face, compiled, "a")) is Odd
    assert calls == {"node": 2}


# -- the store -----------------------------------------------------------------------------------


class Embed:
    """A function that embeds, and counts."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return [vector(text).tolist() for text in texts]

    @property
    def times(self):
        return Counter(text for call in self.calls for text in call)


@pytest.fixture
def embed():
    return Embed()


@pytest.fixture
def inner(embed):
    return InMemoryStore(index={"embed": embed, "dims": 8, "fields": ["text"]})


@pytest.fixture
def kept(inner, cache):
    return NearCacheStore(inner, cache, model="m")


class Calls:
    """A store's batch under either face."""

    def __init__(self, face, store):
        self.face, self.store = face, store

    def __call__(self, ops):
        if self.face == "sync":
            return self.store.batch(ops)
        return asyncio.run(self.store.abatch(ops))


@pytest.fixture
def batch(face, kept):
    return Calls(face, kept)


def put(key, text, index=None):
    return PutOp(("docs",), key, {"text": text}, index)


def keys(found):
    return [item.key for item in found]


def test_a_text_is_embedded_once_whoever_holds_it(kept, batch, embed):
    batch([put("a", "same"), put("b", "other")])
    batch([put("c", "same")])
    for _ in range(2):
        (found,) = batch([SearchOp(("docs",), query="same", limit=3)])
    assert sorted(keys(found)) == ["a", "b", "c"]
    assert embed.times == {"same": 2, "other": 1}  # as a document, and as a query


def test_one_call_may_hold_the_same_text_twice(batch, kept, embed):
    results = batch([put("a", "same"), put("b", "same"), put("c", "other"), put("d", "same")])
    assert results == [None] * 4
    assert embed.calls == [["other", "same"]]
    found = kept.search(("docs",), query="same", limit=4)
    assert sorted(keys(found)) == ["a", "b", "c", "d"]
    scores = {item.key: item.score for item in found}
    assert scores["a"] == scores["b"] == scores["d"]


def test_so_may_one_item(face, embed, cache):
    inner = InMemoryStore(index={"embed": embed, "dims": 8, "fields": ["title", "text"]})
    kept = NearCacheStore(inner, cache, model="m")
    batch = Calls(face, kept)
    batch([PutOp(("docs",), "a", {"title": "same", "text": "same"})])
    batch([PutOp(("docs",), "b", {"title": "same", "text": "two"})])
    assert sorted(keys(kept.search(("docs",), query="two"))) == ["a", "b"]
    assert embed.times == {"same": 1, "two": 2}


def test_reads_come_before_writes_and_the_last_write_stands(batch, kept, embed):
    batch([put("a", "old")])
    results = batch(
        [
            put("a", "overwritten"),
            put("b", "same"),
            put("c", "same"),
            GetOp(("docs",), "a"),
            SearchOp(("docs",), limit=5),
            put("a", "new"),
        ]
    )
    assert results[3].value == {"text": "old"}
    assert keys(results[4]) == ["a"]
    assert [results[at] for at in (0, 1, 2, 5)] == [None] * 4
    assert kept.get(("docs",), "a").value == {"text": "new"}
    assert kept.get(("docs",), "c").value == {"text": "same"}
    assert "overwritten" not in embed.times


def test_a_batch_does_what_it_does_without_us(face, cache):
    """Every kind of operation, side by side with a store that has no cache."""
    ops = [
        [put("a", "one"), put("b", "two", False), put("c", "three", ["text"]), put("d", "x", [])],
        [PutOp(("docs",), "a", None), put("b", "again")],
        [SearchOp(("docs",), filter={"text": "again"}), SearchOp(("docs",), query="three")],
        [GetOp(("docs",), "a"), GetOp(("docs",), "c")],
        [],
    ]
    index = {"embed": Embed(), "dims": 8, "fields": ["text"]}
    plain = InMemoryStore(index=index)
    ours = NearCacheStore(InMemoryStore(index=index), cache, model="m")

    def told(answers):
        one = [answer if isinstance(answer, list) else [answer] for answer in answers]
        return [[item and (item.key, item.value) for item in items] for items in one]

    for some in ops:
        # without us a query's vector is that of the document: the embeddings do not tell them apart
        assert told(Calls(face, ours)(some)) == told(Calls(face, plain)(some))


def test_nothing_is_written_where_embedding_fails(batch, kept, inner):
    def fail(texts):
        raise ConnectionError

    kept.embeddings.underlying.func = fail
    with pytest.raises(ConnectionError):
        batch([put("a", "same"), put("b", "same")])
    assert kept.get(("docs",), "a") is None


def test_it_is_the_store_of_a_graph(face, embed, cache):
    """A graph that remembers what was asked and looks for what is like it, made twice."""
    graph = StateGraph(State)

    def remember(state, *, store: BaseStore):
        store.put(("asked",), state["question"], {"text": state["question"]})
        found = store.search(("asked",), query=state["question"], limit=1)
        return {"found": [item.key for item in found]}

    graph.add_node("remember", remember)
    graph.add_edge(START, "remember")
    graph.add_edge("remember", END)
    for _ in range(2):
        index = {"embed": embed, "dims": 8, "fields": ["text"]}
        store = NearCacheStore(InMemoryStore(index=index), cache, model="m")
        compiled = graph.compile(store=store)
        for question in ("where?", "who?", "where?"):
            given = {"question": question}
            if face == "sync":
                answer = compiled.invoke(given)
            else:
                answer = asyncio.run(compiled.ainvoke(given))
            assert answer["found"] == [question]
    assert embed.times == {"where?": 2, "who?": 2}


def test_an_index_for_any_store(face, embed, cache):
    given = {"embed": embed, "dims": 8, "fields": ["text"]}
    index = cached_index(given, cache, model="m")
    assert (given["embed"], index["dims"], index["fields"]) == (embed, 8, ["text"])
    for _ in range(2):
        batch = Calls(face, InMemoryStore(index=index))
        batch([put("a", "one"), put("b", "two")])
    assert embed.times == {"one": 1, "two": 1}


def test_an_asynchronous_function_embeds_too(cache, embed):
    async def aembed(texts):
        return embed(texts)

    index = cached_index({"embed": aembed, "dims": 8}, cache, model="m")
    for _ in range(2):
        asyncio.run(index["embed"].aembed_documents(["a"]))
    assert embed.times == {"a": 1}


def test_what_has_no_index_is_refused(cache):
    with pytest.raises(ConfigError, match="index="):
        NearCacheStore(InMemoryStore(), cache, model="m")
    with pytest.raises(ConfigError, match="embed"):
        cached_index({"dims": 8}, cache, model="m")


def test_all_else_is_the_stores_own(kept, inner):
    assert kept.supports_ttl is inner.supports_ttl
    assert kept.index_config is inner.index_config
    assert isinstance(inner.embeddings, CachedEmbeddings)
    with pytest.raises(AttributeError):
        kept.nothing_of_the_kind
