"""LiteLLM for real: calls to a provider of our own, answered from the cache."""

import asyncio
import os
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the internet at import

import litellm
import pytest
from litellm.litellm_core_utils.thread_pool_executor import executor
from litellm.types.utils import Embedding, Usage

from embedders import vector
from nearcache import CodecError
from nearcache.integrations.litellm import NearCacheBackend, NearCacheLiteLLM

pytestmark = [  # what LiteLLM and what it imports say of each other
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning"),
]

MODEL = "ours/model"
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "litellm.md"


class Provider(litellm.CustomLLM):
    """A provider that counts what it is asked for, and may answer in any order."""

    def __init__(self):
        super().__init__()
        self.sent: Counter = Counter()
        self.calls: list = []
        self.lock = threading.Lock()
        self.backwards = False
        self.row = lambda text: [float(x) for x in vector(text)]

    def _embed(self, model_response, texts):
        with self.lock:
            self.calls.append(list(texts))
            self.sent.update(texts)
        rows = [
            Embedding(embedding=self.row(text), index=place, object="embedding")
            for place, text in enumerate(texts)
        ]
        model_response.data = rows[::-1] if self.backwards else rows
        model_response.model = "model"
        tokens = sum(map(len, texts))
        model_response.usage = Usage(prompt_tokens=tokens, total_tokens=tokens)
        return model_response

    def embedding(self, model_response, **given):
        return self._embed(model_response, given["input"])

    async def aembedding(self, model_response, **given):
        return self._embed(model_response, given["input"])

    def _complete(self, messages, model_response):
        text = messages[-1]["content"]
        with self.lock:
            self.sent[text] += 1
        model_response.choices[0].message.content = f"answer {self.sent[text]} to {text}"
        return model_response

    def completion(self, messages, model_response, **given):
        return self._complete(messages, model_response)

    async def acompletion(self, messages, model_response, **given):
        return self._complete(messages, model_response)


@pytest.fixture(autouse=True)
def _threads_end_with_their_test(monkeypatch):
    """LiteLLM's own threads never do."""
    with ThreadPoolExecutor(4) as pool:
        monkeypatch.setattr(executor, "submit", pool.submit)
        yield


@pytest.fixture
def provider(monkeypatch):
    provider = Provider()
    monkeypatch.setattr(
        litellm, "custom_provider_map", [{"provider": "ours", "custom_handler": provider}]
    )
    monkeypatch.setattr(litellm, "drop_params", True)  # it takes any, and looks at none
    litellm.utils.custom_llm_setup()
    return provider


@pytest.fixture
def using(monkeypatch):
    """Have LiteLLM use a cache: ``with using(store) as cache``."""

    @contextmanager
    def use(store=None, **options):
        cache = NearCacheLiteLLM(store, **options)
        monkeypatch.setattr(litellm, "cache", cache)
        yield cache
        monkeypatch.setattr(litellm, "cache", None)
        cache.close()

    return use


def embed(texts, **given):
    """Embed on an event loop, until what was embedded is kept: LiteLLM does so aside."""

    async def work():
        answer = await litellm.aembedding(model=MODEL, input=texts, **given)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            keeping = [task for task in others if "cache_write" in repr(task)]
            if not keeping:
                break
            await asyncio.wait(keeping)
        return answer

    return asyncio.run(work())


def rows(answer):
    assert [one["index"] for one in answer.data] == list(range(len(answer.data)))
    return [one["embedding"] for one in answer.data]


def right(texts):
    return [[float(x) for x in vector(text)] for text in texts]


def ask(text, **given):
    messages = [{"role": "user", "content": text}]
    return litellm.completion(model=MODEL, messages=messages, **given).choices[0].message.content


# -- embeddings ----------------------------------------------------------------------------------


def test_each_text_is_an_entry_and_only_missing_ones_are_sent(provider, using, store):
    with using(store):
        assert rows(embed(["a", "b", "c"])) == right(["a", "b", "c"])
        provider.calls.clear()
        asked = ["x", "b", "y", "a", "z", "c"]
        assert rows(embed(asked)) == right(asked)
        assert provider.calls == [["x", "y", "z"]]
        assert rows(embed(asked)) == right(asked)
        assert rows(embed("y")) == right(["y"])
        assert set(provider.sent.values()) == {1}


def test_a_provider_that_answers_in_another_order_poisons_nothing(provider, using):
    provider.backwards = True
    with using():
        embed(["a", "b", "c"])
        for text in "abc":
            assert rows(embed([text])) == right([text])
        assert set(provider.sent.values()) == {1}


@pytest.mark.parametrize(
    "row", [[], [0.5, float("nan")], [0.5, float("inf")], [None, 0.5]], ids=str
)
def test_what_nobody_should_get_is_not_kept(provider, using, row):
    with using() as cache:
        good, provider.row = provider.row, lambda text: row
        embed(["a"])
        assert cache.cache.near.size == 0
        provider.row = good
        assert rows(embed(["a"])) == right(["a"])


def test_two_processes_pay_once(provider, using, shared):
    for _ in range(2):
        with using(shared):
            assert rows(embed(["a", "b"])) == right(["a", "b"])
    assert provider.sent == {"a": 1, "b": 1}


def test_a_blocking_call_is_kept_whole(provider, using, store):
    with using(store):
        for _ in range(2):
            answer = litellm.embedding(model=MODEL, input=["a", "b"])
            assert rows(answer) == right(["a", "b"])
    assert provider.sent == {"a": 1, "b": 1}


def test_texts_that_are_asked_for_together_are_one_round_trip(provider, using, one_server):
    texts = [f"text {n}" for n in range(200)]
    with using(one_server.url):
        embed(texts)
    with using(one_server.url) as cache, one_server.client() as client:
        before = client.info("commandstats")
        assert rows(embed(texts)) == right(texts)
        after = client.info("commandstats")
        assert cache.cache.near.get_stats().far_hits == 200
    assert set(provider.sent.values()) == {1}
    reads = {
        name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
        for name in after
        if name in ("cmdstat_get", "cmdstat_mget", "cmdstat_evalsha", "cmdstat_fcall")
    }
    assert sum(reads.values()) < 20, reads


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"dimensions": 4},
        {"input_type": "query"},
        {"task": "retrieval"},
        {"extra_body": {"truncate": True}},
        {"api_base": "http://elsewhere"},
        {"api_version": "2"},
        {"encoding_format": "float"},
    ],
    ids=str,
)
def test_what_changes_a_vector_is_part_of_the_key(provider, using, other):
    with using():
        for given in ({}, other, {}, other):
            embed(["a"], **given)
            litellm.embedding(model=MODEL, input=["b"], **given)
    assert provider.sent == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    "together", [{"late_chunking": True}, {"extra_body": {"late_chunking": True}}], ids=str
)
def test_texts_whose_vectors_depend_on_each_other_are_not_cached(provider, using, together):
    with using():
        for _ in range(2):
            embed(["a", "b"], **together)
            litellm.embedding(model=MODEL, input=["c"], **together)
    assert provider.sent == {"a": 2, "b": 2, "c": 2}


def test_how_a_provider_is_reached_is_no_part_of_the_key(provider, using):
    with using():
        for given in ({}, {"api_key": "sk-other"}, {"timeout": 3}, {"max_retries": 1}):
            embed(["a"], **given)
    assert provider.sent == {"a": 1}


def test_keys_are_the_same_in_every_process(using):
    with using() as cache:
        first = cache.get_cache_key(model="m", input="x", task="t", extra_body={"b": 1, "a": 2})
        again = cache.get_cache_key(model="m", input="x", extra_body={"a": 2, "b": 1}, task="t")
        assert first == again
        odd = {"model": "m", "input": "x", "thing": object()}
        assert cache.get_cache_key(**odd) != cache.get_cache_key(**odd)  # rather never than wrong


# -- completions ---------------------------------------------------------------------------------


def test_a_completion_is_answered_once(provider, using, store):
    with using(store):
        assert ask("why?") == "answer 1 to why?" == ask("why?")
        assert ask("why?", temperature=0.5) == "answer 2 to why?"
        assert ask("how?") == "answer 1 to how?"


def test_an_awaited_completion_is_answered_once(provider, using):
    async def work():
        messages = [{"role": "user", "content": "why?"}]
        first = await litellm.acompletion(model=MODEL, messages=messages)
        key_is_kept = litellm.cache.cache.near
        while not key_is_kept.size:  # LiteLLM keeps it aside
            await asyncio.sleep(0.001)
        return first, await litellm.acompletion(model=MODEL, messages=messages)

    with using():
        first, second = asyncio.run(work())
    assert first.choices[0].message.content == second.choices[0].message.content
    assert provider.sent == {"why?": 1}


def test_a_call_may_decide_for_itself(provider, using):
    with using():
        ask("why?", cache={"no-store": True})
        ask("why?")
        assert ask("why?") == "answer 2 to why?"
        assert ask("why?", cache={"no-cache": True}) == "answer 3 to why?"
    with using(mode="default_off"):
        ask("how?")
        assert ask("how?") == "answer 2 to how?"
        ask("how?", cache={"use-cache": True})
        assert ask("how?", cache={"use-cache": True}) == "answer 3 to how?"


# -- the backend ---------------------------------------------------------------------------------


@pytest.fixture
def backend(store):
    backend = NearCacheBackend(store)
    yield backend
    backend.close()


VALUES = [
    {"timestamp": 1.5, "response": '{"id": "chatcmpl"}'},
    {"timestamp": 1.5, "response": {"embedding": [0.1, -2.5e-300, 1.0], "index": 0, "ü": None}},
    {"timestamp": 1.5, "response": {"embedding": [1, 2.5], "index": 0}},
    {"timestamp": 1.5, "response": {"embedding": "AACAPw==", "index": 0}},
    "text \ud800",
    [1, None, True],
    7,
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_values_come_back_as_they_were(backend, store, value):
    backend.set_cache("k", value)
    assert backend.get_cache("k") == value
    if store is not None:
        other = NearCacheBackend(store)
        assert other.get_cache("k") == value
        assert list(map(type, _leaves(other.get_cache("k")))) == list(map(type, _leaves(value)))
        other.close()


def _leaves(value):
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value]


def test_the_methods_of_the_interface(backend):
    async def work():
        await backend.async_set_cache("a", 1)
        await backend.async_set_cache_pipeline([("b", 2), ("c", 3)], ttl=100)
        assert await asyncio.gather(*map(backend.async_get_cache, "abca")) == [1, 2, 3, 1]
        assert await backend.async_batch_get_cache(["c", "x", "a"]) == [3, None, 1]
        await backend.async_delete_cache("a")
        await backend.delete_cache_keys(["b", "x"])
        assert await asyncio.gather(*map(backend.async_get_cache, "abc")) == [None, None, 3]
        await backend.batch_cache_write("d", 4)
        assert await backend.ping()
        assert (await backend.test_connection())["status"] == "success"

    asyncio.run(work())
    assert backend.batch_get_cache(["d", "c", "b"]) == [4, 3, None]
    backend.delete_cache("d")
    assert backend.get_cache("d") is None
    backend.set_cache("e", 5, ttl=0)
    assert backend.get_cache("e") is None
    backend.flush_cache()
    assert backend.get_cache("c") is None
    asyncio.run(backend.disconnect())


def test_a_reader_that_leaves_takes_nobody_with_it(one_server):
    backend = NearCacheBackend(one_server.url)
    backend.set_cache("a", 1)
    reader = NearCacheBackend(one_server.url)

    async def work():
        first = asyncio.create_task(reader.async_get_cache("a"))
        second = asyncio.create_task(reader.async_get_cache("a"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(work()) == 1
    backend.close()
    reader.close()


def test_event_loops_in_threads_do_not_disturb_each_other(one_server):
    writer = NearCacheBackend(one_server.url)
    keys = [str(n) for n in range(50)]
    for key in keys:
        writer.set_cache(key, key)
    reader = NearCacheBackend(one_server.url, max_entries=0)

    async def read():
        return await asyncio.gather(*map(reader.async_get_cache, keys))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: asyncio.run(read()), range(16))) == [keys] * 16
    writer.close()
    reader.close()


@pytest.mark.impatient
def test_a_store_that_is_down_is_a_miss(provider, using):
    with using("redis://127.0.0.1:1") as cache:
        for _ in range(2):
            assert rows(embed(["a", "b"])) == right(["a", "b"])
            assert ask("why?").endswith("why?")
        assert not asyncio.run(cache.cache.ping())
        assert asyncio.run(cache.cache.test_connection())["status"] == "failed"


def test_bytes_that_are_no_response_are_refused():
    codec = NearCacheBackend().near._tiers.codec
    good = codec.encode({"response": {"embedding": [0.5, 1.5]}})
    assert codec.decode(good) == {"response": {"embedding": [0.5, 1.5]}}
    for data in (b"", b"x", b"5\n{}", b"-1\n", good[:-1], b"2\n{}12345678", b"2\n[", b"1\n7"):
        with pytest.raises(CodecError):
            codec.decode(data + b"\0" if data == b"1\n7" else data)


# -- the page ------------------------------------------------------------------------------------


def test_the_code_of_the_documentation_runs(one_server, monkeypatch, tmp_path):
    """Here and not with the other pages (its blocks are marked ``py``): LiteLLM needs the fixtures
    of this module, which end its threads and leave its warnings alone."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```py\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    variables = {}
    for block in blocks:
        exec(block.replace("redis://localhost", one_server.url), variables)
    assert variables["answer"].choices[0].message.content == "Rayleigh."
    with one_server.client() as client:
        assert len(client.keys("nc1:{litellm*:k:*")) == 1
