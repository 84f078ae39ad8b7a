"""``nearcache.integrations.openai``: the SDK against a provider over HTTP, sync and async."""

import asyncio
import base64
import inspect
import json
import os
from pathlib import Path

import numpy as np
import pytest

from embedders import in_threads, same, until, vector

openai = pytest.importorskip("openai")

from nearcache import ConfigError, EmbeddingCache, LoaderError  # noqa: E402
from nearcache.integrations.openai import cached  # noqa: E402
from provider import KEY, Provider  # noqa: E402
from provider import MODEL as M  # noqa: E402
from provider_rules import tokens  # noqa: E402
from provider_wire import Answer  # noqa: E402


@pytest.fixture(scope="module")
def _provider():
    with Provider(embed=vector) as one:
        one.keys |= {"sk-1", "sk-secret"}
        one.organizations.add("org-2")
        one.prefixes.add("/v1/other")
        one.models, one.lenient = None, True
        yield one


@pytest.fixture
def provider(_provider):
    """A provider that has not been asked anything yet; it answers unsorted, as nothing forbids."""
    _provider.calm()
    _provider.forget()
    _provider.twist = unsorted
    return _provider


def unsorted(body):
    return {**body, "data": body["data"][::-1], "model": f"{body['model']}-001"}


class Client:
    """A cached client, called the same way whichever kind it is."""

    def __init__(self, kind, url, cache, **options):
        make = {"sync": openai.OpenAI, "async": openai.AsyncOpenAI}[kind]
        self.bare = make(**{"api_key": "sk-1", "base_url": url, "max_retries": 0, **options})
        self.cached = cached(self.bare, cache)

    def create(self, input="a text", client=None, **given):  # noqa: A002
        given = {"input": input, "model": M, **given}

        async def run():
            answer = (client or self.cached).embeddings.create(**given)
            return await answer if inspect.isawaitable(answer) else answer

        return asyncio.run(run())

    def close(self):
        closing = self.bare.close()
        if inspect.isawaitable(closing):
            asyncio.run(_awaited(closing))


async def _awaited(promise):
    return await promise


@pytest.fixture(params=["sync", "async"])
def kind(request):
    return request.param


@pytest.fixture
def make_client(kind, provider, cache):
    made = []

    def make(url=provider.url, **options):
        # an asynchronous client belongs to one event loop: no connection outlives a call
        headers = {**options.pop("default_headers", {}), "connection": "close"}
        made.append(Client(kind, url, cache, default_headers=headers, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def client(make_client):
    return make_client()


def rows(response):
    return np.array([item.embedding for item in response.data], np.float32)


def test_a_text_is_paid_for_once(client, provider):
    first, second = client.create("hello"), client.create("hello")
    assert type(second) is openai.types.CreateEmbeddingResponse
    assert first.data == second.data
    assert same(rows(second)[0], vector("hello"))
    assert provider.times == {"hello": 1}


def test_the_answer_is_what_the_sdk_gives_without_a_cache(client, provider):
    bare = client.create(["a", "b b"], client=client.bare)
    ours = client.create(["a", "b b"])
    in_order = sorted(bare.data, key=lambda item: item.index)  # the provider answers unsorted
    assert [item.to_dict() for item in ours.data] == [item.to_dict() for item in in_order]
    assert {**ours.to_dict(), "data": 0} == {**bare.to_dict(), "data": 0}


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_an_encoding_that_was_asked_for_is_what_is_given(client, provider, encoding):
    cold, warm = (client.create(["a", "b"], encoding_format=encoding) for _ in range(2))
    assert cold.data == warm.data
    assert [call.body["encoding_format"] for call in provider.calls] == [encoding]
    if encoding == "base64":
        assert warm.data[1].embedding == base64.b64encode(vector("b").tobytes()).decode()
    else:
        np.testing.assert_allclose(rows(warm), [vector("a"), vector("b")], rtol=1e-5)


def test_decimals_and_base64_share_nothing_since_decimals_may_be_rounded(client, provider):
    client.create("a", encoding_format="float")
    assert same(rows(client.create("a"))[0], vector("a"))
    assert len(provider.requests) == 2


def test_only_what_is_missing_is_asked_for_in_one_request_and_each_text_once(client, provider):
    client.create("b")
    response = client.create(["a", "b", "c", "a"])
    assert same(rows(response), np.array([vector(text) for text in "abca"]))
    assert [item.index for item in response.data] == [0, 1, 2, 3]
    assert provider.calls[1].body["input"] == ["a", "c"]


def test_a_large_call_stays_one_request(client, provider):
    client.create([f"text {n}" for n in range(1000)])
    assert len(provider.requests) == 1


def test_usage_counts_what_was_spent(client):
    assert client.create("one two three").usage.total_tokens == 3
    assert client.create(["one two three", "four five"]).usage.to_dict() == {
        "prompt_tokens": 2,
        "total_tokens": 2,
    }
    assert client.create(["four five", "one two three"]).usage.total_tokens == 0


def test_token_ids_are_inputs_of_their_own(client, provider):
    client.create("1,2")
    one = client.create([1, 2])
    both = client.create([[3], [1, 2], [3]])
    assert same(rows(one)[0], provider.vector([1, 2]))
    assert same(rows(both), np.array([provider.vector(ids) for ids in ([3], [1, 2], [3])]))
    assert [call.body["input"] for call in provider.calls] == ["1,2", [1, 2], [[3]]]


def test_a_stream_of_inputs_is_read_once(client, provider):
    for _ in range(2):
        client.create(iter(["a", "b"]))
    assert provider.times == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    "other",
    [
        {"model": "text-embedding-3-large"},
        {"dimensions": 4},
        {"extra_body": {"input_type": "query"}},
        {"extra_query": {"api-version": "2"}},
        {"extra_headers": {"x-route": "b"}},
    ],
    ids=str,
)
def test_what_may_change_a_vector_is_part_of_the_key(client, provider, other):
    for _ in range(2):
        client.create("a")
        client.create("a", **other)
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"organization": "org-2"},
        {"project": "p-2"},
        {"default_headers": {"x-route": "b"}},
        {"default_query": {"api-version": "2"}},
    ],
    ids=str,
)
def test_so_is_what_the_client_was_made_with(make_client, provider, other):
    one, two = make_client(), make_client(**other)
    for _ in range(2):
        one.create("a")
        two.create("a")
    assert len(provider.requests) == 2


def test_so_is_the_endpoint(make_client, provider):
    one, two = make_client(), make_client(f"{provider.url}/other")
    for _ in range(2):
        one.create("a")
        two.create("a")
    assert [request.target for request in provider.requests] == [
        "/v1/embeddings",
        "/v1/other/embeddings",
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"user": "u2"},
        {"timeout": 7},
        {"extra_headers": {"traceparent": "00-1"}},
        {"dimensions": openai.NOT_GIVEN},
        {"encoding_format": openai.NOT_GIVEN},
    ],
    ids=str,
)
def test_what_changes_no_vector_is_not(client, provider, other):
    client.create("a")
    client.create("a", **other)
    assert len(provider.requests) == 1


def test_who_pays_and_traces_reach_the_provider(client, provider):
    client.create("a", user="u2", extra_headers={"traceparent": "00-1"})
    (call,) = provider.calls
    headers = dict(call.headers)
    assert call.body["user"] == "u2"
    assert (headers["traceparent"], headers["authorization"]) == ("00-1", "Bearer sk-1")


@pytest.mark.parametrize(
    "given",
    [
        {"input": [True]},
        {"encoding_format": "int8"},
        {"extra_body": {"input": "another text"}},
        {"extra_body": {"encoding_format": "float"}},
        {"extra_body": {"late_chunking": True}},
        {"extra_query": {"at": {1, 2}}},
    ],
    ids=str,
)
def test_the_provider_answers_each_time_what_the_cache_cannot_judge(client, provider, given):
    provider.replay = replayed(200, {"data": [{"embedding": [1.0], "index": 0}]})
    for _ in range(2):
        client.create(**given)
    assert len(provider.requests) == 2


@pytest.mark.parametrize("given", [[], ["a", 1], None, "", 7, {"a": 1}], ids=str)
def test_the_provider_refuses_what_it_refuses_without_a_cache(client, provider, given):
    provider.fail(400, "as you wished")
    with pytest.raises(openai.BadRequestError, match="as you wished"):
        client.create(given)


def test_an_argument_that_there_is_not_is_refused_by_the_sdk(client):
    client.create("a")
    with pytest.raises(TypeError, match="nonsense"):
        client.create("a", nonsense=1)
    with pytest.raises(TypeError, match="input"):
        asyncio.run(_maybe(client.cached.embeddings.create(model=M)))


async def _maybe(answer):
    return await answer if inspect.isawaitable(answer) else answer


def test_errors_of_the_provider_pass_unchanged_and_nothing_of_them_is_kept(client, provider):
    provider.limit("7")
    with pytest.raises(openai.RateLimitError) as raised:
        client.create(["a", "b"])
    assert raised.value.response.headers["retry-after"] == "7"
    provider.calm()
    assert same(rows(client.create(["a", "b"])), np.array([vector("a"), vector("b")]))


def test_a_server_that_numbers_nothing_is_taken_by_position(client, provider):

    def unnumbered(body):
        return {**body, "data": [{**row, "index": 0} for row in body["data"]]}

    provider.twist = unnumbered
    assert same(rows(client.create(["a", "b"])), np.array([vector("a"), vector("b")]))


def test_too_few_vectors_are_an_error_and_not_somebody_elses(client, provider):
    provider.twist = lambda body: {**body, "data": body["data"][:-1]}
    with pytest.raises(LoaderError, match="1 vectors"):
        client.create(["a", "b"])


def test_raw_responses_come_from_the_provider(client, provider):
    for _ in range(2):
        for name in ("with_raw_response", "with_streaming_response"):
            create = getattr(client.cached.embeddings, name).create(input="a", model=M)
            if name == "with_raw_response":
                assert asyncio.run(_maybe(create)).headers["content-type"] == "application/json"
            else:
                asyncio.run(_entered(create))
    assert provider.times == {"a": 4}


async def _entered(manager):
    if hasattr(manager, "__aenter__"):
        async with manager as response:
            assert response.status_code == 200
    else:
        with manager as response:
            assert response.status_code == 200


def test_an_answer_has_the_id_of_the_request_that_was_made(client, provider):
    assert client.create("a")._request_id == "req_1"
    assert client.create("a")._request_id is None


def test_with_options_keeps_the_cache_and_its_options(client, provider):
    client.create("a")
    assert client.create("a", client=client.cached.with_options(timeout=3)).usage.total_tokens == 0
    other = client.cached.with_options(organization="org-2")
    client.create("a", client=other)
    assert len(provider.requests) == 2


def test_a_key_that_is_refused_is_refused_to_its_own_client_only(kind, cache, monkeypatch):
    """Two customers' clients want the same text at once; the one with the bad key asked first."""
    flights, admit = cache._tiers.engine.flights._flights, Provider._admit

    def slowly(self, request, **given):
        if request.header("authorization") == "Bearer sk-bad":
            until(lambda: any(flight._waiters for flight in list(flights.values())))
        return admit(self, request, **given)

    monkeypatch.setattr(Provider, "_admit", slowly)
    with Provider() as server:

        def ask(number):
            key, headers = KEY if number else "sk-bad", {"connection": "close"}
            client = Client(kind, server.url, cache, api_key=key, default_headers=headers)
            if number:
                until(lambda: flights)
            try:
                return client.create("a")
            finally:
                client.close()

        refused, given = in_threads(2, ask)
        assert isinstance(refused, openai.AuthenticationError)
        assert same(rows(given)[0], server.vector("a"))


def test_the_client_it_was_made_from_stays_as_it_is(client, provider):
    for _ in range(2):
        client.create("a", client=client.bare)
    assert provider.times == {"a": 2}
    assert isinstance(client.cached, type(client.bare))
    assert type(client.cached).__name__ == type(client.bare).__name__
    assert client.cached.chat is not None


def test_azure_s_deployment_and_version_are_part_of_the_key(kind, provider, cache):
    make = {"sync": openai.AzureOpenAI, "async": openai.AsyncAzureOpenAI}[kind]
    root = provider.root

    def ask(**options):
        bare = make(
            azure_endpoint=root,
            api_key=KEY,
            default_headers={"connection": "close"},
            **{"api_version": "2024-06-01", **options},
        )

        async def run():
            answer = cached(bare, cache).embeddings.create(input="a", model=M)
            response = await answer if inspect.isawaitable(answer) else answer
            closing = bare.close()
            if inspect.isawaitable(closing):
                await closing
            return response

        return asyncio.run(run())

    for _ in range(2):
        ask()
        ask(api_version="2024-10-21")
        ask(azure_deployment="mine")
    assert [request.target for request in provider.requests] == [
        f"/openai/deployments/{M}/embeddings?api-version=2024-06-01",
        f"/openai/deployments/{M}/embeddings?api-version=2024-10-21",
        "/openai/deployments/mine/embeddings?api-version=2024-06-01",
    ]


def test_what_was_paid_for_is_there_in_another_cache_on_the_store(kind, provider, make, shared):
    for _ in range(2):
        cache = make("sync", shared).thing
        client = Client(kind, provider.url, cache, default_headers={"connection": "close"})
        assert same(rows(client.create("a"))[0], vector("a"))
        client.close()
        cache.close()
    assert provider.times == {"a": 1}


def test_threads_that_ask_for_the_same_pay_once_and_are_told_what_they_spent(provider, cache):
    client = cached(openai.OpenAI(api_key=KEY, base_url=provider.url), cache)
    answers = in_threads(8, lambda n: client.embeddings.create(input=["x y z", f"t{n}"], model=M))
    client.close()
    assert provider.times["x y z"] == 1
    spent = sum(answer.usage.total_tokens for answer in answers)
    assert spent == sum(tokens(text) * n for text, n in provider.times.items())


DATA = Path(os.environ.get("NEARCACHE_DATA") or Path(__file__).parents[3] / "shared" / "data")
CASSETTES = sorted((DATA / "cassettes").glob("pydantic-ai.*.yaml"))


@pytest.mark.parametrize("path", CASSETTES, ids=lambda path: path.stem)
def test_what_openai_really_answered_comes_back_to_the_bit(client, provider, path):
    """Recorded traffic, replayed: twice from the cache what the SDK makes of it without one."""
    yaml = pytest.importorskip("yaml")
    for exchange in yaml.safe_load(path.read_text("utf-8"))["interactions"]:
        asked, response = exchange["request"]["parsed_body"], exchange["response"]
        provider.replay = replayed(response["status"]["code"], response["parsed_body"])
        del asked["encoding_format"]  # the SDK's own choice
        before = len(provider.requests)
        if response["status"]["code"] != 200:
            with pytest.raises(openai.APIStatusError) as raised:
                client.create(**asked)
            assert raised.value.body == response["parsed_body"]["error"]
            continue
        cold, warm = client.create(**asked), client.create(**asked)
        assert len(provider.requests) == before + 1
        bare = client.create(client=client.bare, **asked)
        assert cold.to_dict() == bare.to_dict()
        assert [item.to_dict() for item in warm.data] == [item.to_dict() for item in bare.data]


def replayed(status, body):
    """What answers this, whatever is asked."""
    data = json.dumps(body).encode()
    return lambda _request: Answer(status, data, {"content-type": "application/json"})


def test_what_is_no_client_or_no_cache_is_refused(cache):
    with pytest.raises(ConfigError, match="client is an OpenAI"):
        cached(object(), cache)
    with pytest.raises(ConfigError, match="EmbeddingCache"):
        cached(openai.OpenAI(api_key="k"), object())


def test_a_key_shows_no_header(provider, tmp_path):
    path = tmp_path / "embeddings.db"
    with EmbeddingCache(f"sqlite:///{path}") as cache:
        client = cached(openai.OpenAI(api_key="sk-secret", base_url=provider.url), cache)
        client.embeddings.create(input="a", model=M, extra_headers={"x-key": "another secret"})
        client.close()
    assert b"secret" not in path.read_bytes()
