"""The life of a request for embeddings: what is asked of the provider, and what callers get."""

import asyncio
import json
from hashlib import sha256

import pytest

from nearcache.proxy.upstream import Refused
from nearcache.testing import ManualClock
from provider import KEY, MODEL, OTHER_KEY
from provider_wire import Answer
from proxy_process import counts, embeddings

ONE = {"model": MODEL, "input": ["a", "b", "a"]}


@pytest.fixture(params=["base64", "float"])
def encoding(request):
    return request.param


def test_each_text_is_paid_for_once_and_comes_back_as_it_came(proxy, provider, encoding):
    client, body = proxy(), {**ONE, "encoding_format": encoding}
    cold = client.ask(body)
    warm = client.ask(body)
    assert embeddings(warm) == embeddings(cold)
    assert (counts(cold), counts(warm)) == ((1, 2), (3, 0))
    assert provider.times == {"a": 1, "b": 1}
    assert cold.json()["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert warm.json()["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert cold.json()["model"] == warm.json()["model"]


def test_only_what_is_missing_is_asked_for(proxy, provider):
    client = proxy()
    client.ask({**ONE, "input": ["a", "b"]})
    assert counts(client.ask({**ONE, "input": ["c", "b", "a"]})) == (2, 1)
    assert provider.times == {"a": 1, "b": 1, "c": 1}


def test_the_model_is_called_as_the_provider_calls_it(proxy, provider):
    provider.twist = lambda body: {**body, "model": "its-name-v2"}
    client = proxy()
    assert client.ask(ONE).json()["model"] == client.ask(ONE).json()["model"] == "its-name-v2"


def test_rate_limits_are_told_to_whom_something_was_sent_for(proxy, provider):
    client = proxy()
    assert "x-ratelimit-remaining-requests" in client.ask(ONE).headers
    assert "x-ratelimit-remaining-requests" not in client.ask(ONE).headers


@pytest.mark.parametrize("base64", [True, False])
def test_a_provider_without_base64_or_usage(proxy, provider, base64):
    provider.base64, provider.usage = base64, False
    client, body = proxy(), {**ONE, "encoding_format": "base64"}
    cold, warm = client.ask(body), client.ask(body)
    assert embeddings(cold) == embeddings(warm)
    assert isinstance(embeddings(cold)[0], str)
    assert cold.json()["usage"]["total_tokens"] == 0


@pytest.mark.parametrize("how", ["nan", "count", "twice", "text"])
def test_an_answer_that_cannot_be_kept_is_passed_on_as_it_is(proxy, provider, how):
    def twist(body):
        row = body["data"][0]
        if how == "nan":
            return json.dumps({**body, "data": [{**row, "embedding": [float("nan")]}]}).encode()
        if how == "text":
            return b"no json"
        return {**body, "data": [] if how == "count" else [row, row]}

    provider.twist = twist
    client, body = proxy(), {"model": MODEL, "input": "a"}
    client.proxy._embeddings._opaque._clock = clock = ManualClock()
    answers = [client.ask(body) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert "x-nearcache" not in answers[0].headers
    assert client.proxy.cache.size == 0
    assert len(provider.calls) == 3 * 2 + 2  # the last two were passed on at once
    provider.twist = None
    clock.advance(61)
    assert counts(client.ask(body)) == (0, 1)


def test_an_accident_among_good_answers_is_forgotten(proxy, provider):
    client = proxy()
    for number in range(5):
        provider.twist = lambda body: b"no json"
        client.ask({"model": MODEL, "input": f"{number}"})
        provider.twist = None
        assert counts(client.ask({"model": MODEL, "input": f"{number}"})) == (0, 1)


def test_who_takes_no_json_is_passed_on(proxy):
    client = proxy()
    client.ask(ONE)
    assert "x-nearcache" not in client.ask(ONE, accept="application/octet-stream").headers
    assert "x-nearcache" in client.ask(ONE, accept="application/json").headers


@pytest.mark.parametrize(
    "header,value", [("content_md5", "x"), ("digest", "x"), ("signature", "x")]
)
def test_what_is_signed_reaches_the_provider_as_it_is(proxy, provider, header, value):
    client = proxy()
    client.ask(ONE)
    client.ask(ONE, **{header: value})
    assert provider.requests[-1].data == json.dumps(ONE).encode()


def test_a_key_of_idempotency_is_of_a_callers_own_body(proxy, provider):
    client = proxy()
    client.ask(ONE, idempotency_key="retry-1", x_idempotency_key="retry-1")
    assert {name.lower() for name, _ in provider.calls[0].headers}.isdisjoint(
        ("idempotency-key", "x-idempotency-key")
    )


def test_a_page_may_read_what_is_cached_where_it_may_read_what_is_not(proxy, provider):
    provider.pages = {"https://a.example", "https://b.example"}
    client = proxy()
    client.ask(ONE)
    for origin in ("https://a.example", "https://b.example", "https://other.example"):
        answers = [client.ask(ONE, origin=origin) for _ in range(3)]
        seen = [answer.headers.get("access-control-allow-origin") for answer in answers]
        assert seen == [origin if origin in provider.pages else None] * 3
        assert [answer.headers.get("vary") for answer in answers[:1]] * 3 == [
            answer.headers.get("vary") for answer in answers
        ]
        assert counts(answers[2]) == (3, 0)
    assert len(provider.calls) == 4  # the first, and one for what the provider says of each


def test_pages_share_no_batch_since_each_is_told_of_itself(proxy, provider):
    provider.pages = {"https://a.example", "https://b.example"}
    client = proxy(gather=0.05)

    async def together():
        return await asyncio.gather(
            *(client.post({**ONE, "input": page}, origin=page) for page in provider.pages)
        )

    for page, answer in zip(provider.pages, client.run(together()), strict=True):
        assert answer.headers["access-control-allow-origin"] == page


def test_a_proxy_before_a_proxy_speaks_for_itself_alone(proxy, provider):
    def as_a_proxy(_request):
        body = {"model": MODEL, "data": [{"index": 0, "embedding": [1.0]}]}
        return Answer(200, json.dumps(body).encode(), {"x-nearcache": "hit=0 miss=1"})

    provider.replay = as_a_proxy
    answer = proxy().ask({"model": MODEL, "input": "a"})
    assert answer.headers.get_list("x-nearcache") == ["hit=0 miss=1"]


# -- who is let in -------------------------------------------------------------------------------


def test_another_key_pays_for_itself(proxy, provider):
    client = proxy()
    client.ask(ONE)
    assert counts(client.ask(ONE, OTHER_KEY)) == (1, 2)
    assert counts(client.ask(ONE, OTHER_KEY)) == (3, 0)
    assert provider.times == {"a": 2, "b": 2}


def test_shared_is_what_the_provider_lets_both_have(proxy, provider):
    client = proxy(share=True)
    client.ask({**ONE, "input": ["a", "b"]})
    assert counts(client.ask(ONE, OTHER_KEY)) == (3, 0)
    assert sum(provider.times.values()) == 3  # one input proved what the other key may do
    assert client.ask(ONE, "sk-wrong").status_code == 401
    assert client.ask(ONE, None).status_code == 401


def test_a_key_that_is_revoked_is_refused_once_its_time_is_over(proxy, provider):
    client = proxy()
    client.proxy._gate._clock = clock = ManualClock()
    client.ask(ONE)
    provider.keys.discard(KEY)
    clock.advance(301)
    refused = client.ask(ONE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    provider.keys.add(KEY)
    clock.advance(1)
    assert client.ask(ONE).status_code == 200


@pytest.mark.parametrize("where", ["another path", "a missing text", "passed on"])
def test_a_refusal_anywhere_counts_at_once(proxy, provider, where):
    client = proxy()
    client.ask(ONE)
    provider.keys.discard(KEY)
    refused = {
        "another path": lambda: client.get("/v1/models"),
        "a missing text": lambda: client.ask({**ONE, "input": "c"}),
        "passed on": lambda: client.ask(ONE, cache_control="no-store"),
    }[where]()
    assert refused.status_code == client.ask(ONE).status_code == 401


def test_who_waits_for_the_load_of_a_wrong_key_is_not_refused_with_it(proxy, provider):
    client = proxy(share=True)
    wrong, good = client.crowd((ONE, "sk-wrong"), (ONE, KEY))
    assert (wrong.status_code, good.status_code) == (401, 200)
    assert provider.times == {"a": 1, "b": 1}


def test_a_list_of_models_that_tells_keys_apart_proves_a_key(proxy, provider):
    client = proxy()
    client.proxy._gate._clock = clock = ManualClock()
    client.ask(ONE)
    for _ in range(2):
        clock.advance(301)
        assert counts(client.ask(ONE)) == (3, 0)
    assert len(provider.calls) == 1
    assert provider.seen("/v1/models") == 3  # nobody's key once, and this one twice


def test_without_such_a_list_one_input_proves_it(proxy, provider):
    provider.lists_models = False
    client = proxy()
    client.proxy._gate._clock = clock = ManualClock()
    client.ask({**ONE, "input": ["longer", "b"]})
    clock.advance(301)
    answer = client.ask({**ONE, "input": ["longer", "b"]})
    assert counts(answer) == (2, 0)
    assert answer.json()["usage"]["total_tokens"] == 1  # what it cost is told
    assert provider.batches == [2, 1]


def test_an_acceptance_is_renewed_behind_an_answer(proxy, provider):
    client = proxy()
    client.proxy._gate._clock = clock = ManualClock()
    client.ask(ONE)
    clock.advance(250)
    client.ask(ONE)
    client.run(_at_rest(client))
    clock.advance(250)
    provider.down()
    try:
        assert counts(client.ask(ONE)) == (3, 0)
    finally:
        provider.up()


async def _at_rest(client):
    for task in list(client.proxy._embeddings._proofs.values()):
        await task


def test_keys_of_the_proxys_own(proxy, provider, tmp_path):
    path = tmp_path / "keys"
    path.write_text("".join(f"{sha256(k).hexdigest()}  -\n" for k in (b"mine", b"yours")))
    client = proxy(api_keys=path, upstream_key=KEY)
    client.proxy._gate._clock = clock = ManualClock()
    assert counts(client.ask(ONE, "mine", openai_organization="org-of-the-caller")) == (1, 2)
    assert counts(client.ask(ONE, "yours")) == (1, 2)
    assert {call.credential for call in provider.calls} == {KEY}
    assert client.ask(ONE, KEY).status_code == client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", "mine").status_code == 200
    clock.advance(1000)
    provider.down()
    try:  # who is let in is ours to say
        assert counts(client.ask(ONE, "yours")) == (3, 0)
    finally:
        provider.up()


# -- errors --------------------------------------------------------------------------------------


def test_a_failure_is_the_providers_and_nothing_of_it_is_kept(proxy, provider):
    client = proxy()
    provider.limit("7", times=1)
    refused = client.ask(ONE)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert counts(client.ask(ONE)) == (1, 2)


def test_a_wrong_input_of_one_caller_hurts_no_other(proxy, provider):
    client = proxy()
    long = "long " * 9000
    good, bad = client.crowd(({**ONE, "input": "good"},), ({**ONE, "input": ["fine", long]},))
    assert (good.status_code, bad.status_code) == (200, 400)
    assert counts(client.ask({**ONE, "input": "good"})) == (1, 0)
    assert counts(client.ask({**ONE, "input": "fine"})) == (0, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        {"model": MODEL},
        {"model": MODEL, "input": ""},
        {"model": MODEL, "input": []},
        {"model": MODEL, "input": ["x"] * 2049},
        {"model": MODEL, "input": "x", "unknown": 1},
        {"model": "nonexistent", "input": "x"},
    ],
)
def test_what_the_provider_refuses_it_refuses_itself(proxy, provider, body):
    client = proxy()
    refused = client.ask(body)
    assert refused.status_code in (400, 404)
    assert "error" in refused.json()
    assert not provider.calls


def test_a_body_beyond_the_limit_is_refused_in_openais_form(proxy, provider):
    client = proxy(max_body=2048)
    refused = client.ask({**ONE, "input": "x" * 4096})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
    assert not provider.requests


@pytest.mark.parametrize("control,times", [("no-cache", 1), ("no-store", 0)])
def test_a_caller_may_read_through(proxy, provider, control, times):
    client = proxy()
    client.ask({**ONE, "input": "a"})
    answer = client.ask({**ONE, "input": "a"}, cache_control=control)
    assert provider.times["a"] == 2
    assert answer.headers.get("x-nearcache") == ("hit=0 miss=1" if times else None)
    assert counts(client.ask({**ONE, "input": "a"})) == (1, 0)


def test_a_stranger_who_reads_through_forgets_nothing_of_others(proxy, provider):
    client = proxy(share=True)
    client.ask(ONE)
    assert client.ask(ONE, "sk-wrong", cache_control="no-cache").status_code == 401
    assert counts(client.ask(ONE)) == (3, 0)
    assert counts(client.ask(ONE, OTHER_KEY, cache_control="no-cache")) == (1, 2)
    assert counts(client.ask(ONE)) == (3, 0)


@pytest.mark.parametrize("who", ["reads through", "waits for a wrong key", "comes from a new page"])
def test_what_is_forgotten_while_the_provider_is_asked_stays_forgotten(proxy, provider, who):
    client = proxy(share=True)
    if who != "waits for a wrong key":
        client.ask(ONE)

    def twist(body):
        client.proxy.cache.as_sync().clear()
        return body

    provider.twist = twist
    if who == "waits for a wrong key":
        _, answer = client.crowd((ONE, "sk-wrong"), (ONE, KEY))
    elif who == "reads through":
        answer = client.ask(ONE, cache_control="no-cache")
    else:
        answer = client.ask(ONE, origin="https://a.example")
    assert embeddings(answer)
    provider.twist = None
    assert counts(client.ask(ONE)) == (1, 2)


def test_who_is_always_behind_others_who_are_refused_is_answered(proxy, provider, monkeypatch):
    client = proxy(share=True)

    async def refused(*_):
        raise Refused(401, [], b"", caller=b"another")

    monkeypatch.setattr(client.proxy.cache, "get_or_load_batch", refused)
    assert counts(client.ask(ONE)) == (1, 2)


def test_a_store_that_fails_is_a_miss(proxy, provider):
    client = proxy(store="redis://127.0.0.1:1")
    assert counts(client.ask(ONE)) == (1, 2)
    assert client.ask(ONE).status_code == 200


def test_an_error_of_our_own_is_passed_around(proxy, provider, monkeypatch, caplog):
    client = proxy()

    def broken(*_):
        raise ZeroDivisionError("a caller's text")

    monkeypatch.setattr("nearcache.proxy.embeddings.write_answer", broken)
    assert embeddings(client.ask(ONE))
    assert "ZeroDivisionError in broken" in caplog.text
    assert "a caller's text" not in caplog.text


# -- what is kept --------------------------------------------------------------------------------


def test_a_restart_finds_what_was_kept(proxy, provider, tmp_path, encoding):
    store = f"sqlite:///{tmp_path}/vectors.db"
    body = {**ONE, "encoding_format": encoding}
    first = proxy(store=store)
    cold = first.ask(body)
    first.run(first.proxy.close())
    warm = proxy(store=store).ask(body)
    assert (embeddings(warm), counts(warm)) == (embeddings(cold), (3, 0))
    assert warm.json()["model"] == cold.json()["model"]
    assert len(provider.calls) == 1


def test_neither_keys_nor_texts_are_kept(proxy, tmp_path):
    client = proxy(store=f"sqlite:///{tmp_path}/vectors.db")
    client.ask({"model": MODEL, "input": "a text of a caller", "user": "a user"})
    client.run(client.proxy.close())
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        for word in (KEY, "a text of a caller", "a user"):
            assert word.encode() not in content
