"""The provider is slow, limits, fails, breaks off or is gone: its callers hear what it says."""

import concurrent.futures
import json
import math

import pytest

from embedders import until
from provider import MODEL
from proxy_process import ask, counts, embeddings

FAULTS = {
    "429": lambda provider: provider.limit("7"),
    "500": lambda provider: provider.fail(500),
    "503": lambda provider: provider.fail(503, "Overloaded", headers={"retry-after": "1"}),
    "403": lambda provider: provider.fail(403, "Country not supported", "unsupported_country"),
}


def body(*texts):
    return {"model": MODEL, "input": list(texts), "encoding_format": "base64"}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_error_is_the_providers_own_and_is_not_kept(proxy, provider, key, fault):
    fault(provider)
    direct, through = ask(provider, body("a"), key), ask(proxy, body("a"), key)
    assert through.status_code == direct.status_code
    assert through.content == direct.content
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-limit-requests", "x-request-id"):
        assert (name in through.headers) == (name in direct.headers), name
    assert through.headers.get("retry-after") == direct.headers.get("retry-after")
    provider.calm()
    assert counts(ask(proxy, body("a"), key)) == (0, 1)


def test_what_is_cached_is_answered_while_the_provider_fails(proxy, provider, key):
    before = ask(proxy, body("a"), key)
    provider.fail(500)
    assert embeddings(ask(proxy, body("a"), key)) == embeddings(before)
    assert ask(proxy, body("a", "b"), key).status_code == 500


def test_what_is_cached_is_answered_while_the_provider_is_gone(proxy, provider, key):
    before = ask(proxy, body("a"), key)
    provider.down()
    try:
        assert embeddings(ask(proxy, body("a"), key)) == embeddings(before)
        gone = ask(proxy, body("b"), key)
        assert gone.status_code in (502, 503)
        assert set(gone.json()["error"]) == {"message", "type", "param", "code"}
    finally:
        provider.up()
    assert ask(proxy, body("b"), key).status_code == 200


@pytest.mark.parametrize("at", [-1, 0, 1, 40, 300])
def test_an_answer_that_breaks_off_is_no_answer(proxy, provider, key, at):
    provider.cut(at)
    answer = ask(proxy, body("a", "b"), key)
    assert answer.status_code in (502, 503, 504)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    provider.calm()
    provider.forget()
    answer = ask(proxy, body("a", "b"), key)
    assert embeddings(answer) == embeddings(ask(provider, body("a", "b"), key))


def change(**fields):
    return lambda whole: {**whole, **fields}


def each(**fields):
    return lambda whole: {**whole, "data": [{**one, **fields} for one in whole["data"]]}


def odd(number, value):
    def twist(whole):
        rows = [[0.5] * 8 for _ in whole["data"]]
        rows[number][3] = value
        return {
            **whole,
            "data": [
                {"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(rows)
            ],
        }

    return twist


NONSENSE = {
    "one vector too few": lambda whole: {**whole, "data": whole["data"][:-1]},
    "one vector too many": lambda whole: {
        **whole,
        "data": [*whole["data"], {**whole["data"][0], "index": len(whole["data"])}],
    },
    "no vectors": change(data=[]),
    "an index twice": each(index=0),
    "an index out of range": each(index=99),
    "a negative index": each(index=-1),
    "an index that is no number": each(index="0"),
    "NaN": odd(1, math.nan),
    "infinity": odd(0, math.inf),
    "null for a number": odd(1, None),
    "a text for a number": odd(1, "0.5"),
    "null for a vector": each(embedding=None),
    "an empty vector": each(embedding=[]),
    "an empty text": each(embedding=""),
    "base64 that is none": each(embedding="!!!!"),
    "base64 of half a number": each(embedding="AAAAAAA="),
    "NaN in base64": each(embedding="AADAfwAAwH8="),
    "no data": lambda whole: {name: whole[name] for name in whole if name != "data"},
    "no JSON": lambda _: b"<html>welcome to the hotel</html>",
    "half of it": lambda whole: json.dumps(whole).encode()[:200],
    "a list": lambda _: b"[]",
    "nothing": lambda _: b"",
    "data that is no list": change(data={"0": 1}),
}


@pytest.mark.parametrize("twist", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_nonsense_is_never_kept(proxy, provider, key, twist, encoding):
    """What the caller gets then is the provider's business; what the next gets is ours."""
    asked = {**body("a", "b"), "encoding_format": encoding}
    provider.twist = lambda whole: twist(json.loads(json.dumps(whole, default=list_of)))
    ask(proxy, asked, key)
    provider.calm()
    after = ask(proxy, asked, key)
    assert embeddings(after) == embeddings(ask(provider, asked, key))


def list_of(row):
    return [float(value) for value in row]


def test_one_callers_bad_text_is_no_other_callers_failure(proxy, provider, key):
    """They wait for the same batch when the bad one comes."""
    texts = [f"good {n}" for n in range(20)]
    with concurrent.futures.ThreadPoolExecutor(22) as pool:
        with provider.held():
            first = pool.submit(ask, proxy, body("first"), key)
            until(lambda: provider.inside)
            bad = pool.submit(ask, proxy, body("bad", "long" * 8193), key)
            good = [pool.submit(ask, proxy, body(text), key) for text in texts]
        assert first.result().status_code == 200
        assert bad.result().status_code == 400
        assert "maximum context length" in bad.result().json()["error"]["message"]
        assert [one.result().status_code for one in good] == [200] * 20
    answer = ask(proxy, body(*texts), key)
    assert counts(answer) == (20, 0)
    assert embeddings(answer) == embeddings(ask(provider, body(*texts), key))


def test_a_slow_provider_is_waited_for_and_others_are_served_meanwhile(proxy, provider, key):
    ask(proxy, body("warm"), key)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with provider.held():
            waiting = pool.submit(ask, proxy, body("cold"), key)
            until(lambda: provider.inside)
            assert counts(ask(proxy, body("warm"), key)) == (1, 0)
            assert not waiting.done()
        assert waiting.result().status_code == 200


def test_a_client_that_leaves_takes_nothing_from_others(proxy, provider, key):
    import httpx

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with provider.held():
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            with (
                pytest.raises(httpx.ReadTimeout),
                httpx.Client(trust_env=False, verify=False) as client,
            ):
                client.post(
                    proxy.url + "/embeddings",
                    json=body("shared"),
                    headers=headers,
                    timeout=httpx.Timeout(10, read=0.2),
                )
            until(lambda: provider.inside)
            staying = pool.submit(ask, proxy, body("shared"), key)
        assert staying.result().status_code == 200
    assert counts(ask(proxy, body("shared"), key)) == (1, 0)
    assert provider.times == {"shared": 1}


def test_what_was_spent_is_told_once_in_all(proxy, provider, key):
    """Callers that share a batch share its price."""
    texts = ["x" * 40, "y" * 80, "z" * 120]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        with provider.held():
            asked = [pool.submit(ask, proxy, body(text), key) for text in texts * 2]
            until(lambda: provider.inside)
        told = sum(one.result().json()["usage"]["prompt_tokens"] for one in asked)
    assert told == 10 + 20 + 30
