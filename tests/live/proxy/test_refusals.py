"""Who does not belong, and what cannot be, gets what the provider itself answers."""

import pytest

from embedders import until
from provider import KEY, MODEL
from proxy_process import ask, counts, embeddings

BODY = {"model": MODEL, "input": ["secret of somebody"], "encoding_format": "base64"}


def same(proxied, direct):
    """Whether two answers are the same to a client."""
    assert proxied.status_code == direct.status_code, proxied.text[:500]
    assert proxied.content == direct.content
    assert proxied.headers["content-type"] == direct.headers["content-type"]


CREDENTIALS = {
    "a wrong key": {"authorization": "Bearer sk-wrong"},
    "no key": {},
    "nothing but a scheme": {"authorization": "Bearer"},
    "another scheme": {"authorization": f"Basic {KEY}"},
    "the header of another service": {"api-key": KEY},
    "an organization that it does not belong to": {
        "authorization": f"Bearer {KEY}",
        "openai-organization": "org-other",
    },
}


@pytest.mark.parametrize("headers", CREDENTIALS.values(), ids=CREDENTIALS)
def test_a_credential_the_provider_refuses(proxy, provider, headers):
    """Although the vector is there, for somebody else."""
    assert ask(proxy, BODY, KEY).status_code == 200
    for _ in range(2):
        same(ask(proxy, BODY, **headers), ask(provider, BODY, **headers))


def test_a_text_of_another_key_is_asked_for_again(proxy, provider, key):
    provider.keys.add("sk-neighbour")
    assert counts(ask(proxy, BODY, key)) == (0, 1)
    assert counts(ask(proxy, BODY, "sk-neighbour")) == (0, 1)
    assert [call.credential for call in provider.calls] == [key, "sk-neighbour"]
    assert counts(ask(proxy, BODY, key)) == (1, 0)


def test_a_key_that_is_revoked_gets_no_more_than_the_provider_would_give(strict, provider, key):
    """As soon as its acceptance is no longer recent."""
    assert ask(strict, BODY, key).status_code == 200
    assert counts(ask(strict, BODY, key)) == (1, 0)
    provider.keys.remove(key)
    until(lambda: ask(strict, BODY, key).status_code == 401)
    for _ in range(2):
        same(ask(strict, BODY, key), ask(provider, BODY, key))


def test_a_key_is_known_as_revoked_from_its_first_refusal(proxy, provider, key):
    assert ask(proxy, BODY, key).status_code == 200
    provider.keys.remove(key)
    new = {**BODY, "input": ["never asked before"]}
    same(ask(proxy, new, key), ask(provider, new, key))
    same(ask(proxy, BODY, key), ask(provider, BODY, key))


def test_a_key_that_is_let_in_again_finds_what_it_had(proxy, provider, key):
    ask(proxy, BODY, key)
    provider.keys.remove(key)
    assert ask(proxy, {**BODY, "input": ["other"]}, key).status_code == 401
    provider.keys.add(key)
    assert embeddings(ask(proxy, BODY, key)) == embeddings(ask(provider, BODY, key))


def test_an_upstream_that_lists_no_models_is_asked_for_a_vector(strict, provider, key):
    provider.lists_models = False
    path = "/tenant/embeddings"  # what is known of other paths says nothing of this
    provider.prefixes.add("/v1/tenant")
    assert ask(strict, BODY, key, path=path).status_code == 200
    until(lambda: ask(strict, BODY, key, path=path).status_code == 200 and len(provider.calls) > 1)
    provider.keys.remove(key)
    until(lambda: ask(strict, BODY, key, path=path).status_code == 401)


BODIES = {
    "no JSON": b"{",
    "nothing": b"",
    "not UTF-8": b'{"model":"m","input":"\xff\xfe"}',
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "an object in front of more": b'{"model":"m","input":"x"} {"model":"m"}',
    "no model": b'{"input":"x"}',
    "no input": b'{"model":"m"}',
    "a model that is no string": b'{"model":{"a":1},"input":"x"}',
    "a model that is a list": b'{"model":["m"],"input":"x"}',
    "an unknown model": b'{"model":"nonexistent","input":"Hello, world!"}',
    "an empty input": b'{"model":"m","input":""}',
    "no inputs": b'{"model":"m","input":[]}',
    "an empty text among others": b'{"model":"m","input":["a",""]}',
    "an empty list of token ids": b'{"model":"m","input":[[1],[]]}',
    "an input that is null": b'{"model":"m","input":null}',
    "an input that is an object": b'{"model":"m","input":{"a":1}}',
    "an input that is a number": b'{"model":"m","input":7}',
    "texts among token ids": b'{"model":"m","input":[1,"a"]}',
    "token ids among texts": b'{"model":"m","input":["a",[1]]}',
    "token ids that are no integers": b'{"model":"m","input":[1.5,true]}',
    "booleans": b'{"model":"m","input":[true,false]}',
    "negative token ids": b'{"model":"m","input":[[-1]]}',
    "lists within lists": b'{"model":"m","input":[[[1]]]}',
    "nested deeply": b'{"model":"m","input":' + b"[" * 900 + b"]" * 900 + b"}",
    "an unknown field": b'{"model":"m","input":"x","colour":"red"}',
    "an unknown encoding": b'{"model":"m","input":"x","encoding_format":"hex"}',
    "an encoding that is no string": b'{"model":"m","input":"x","encoding_format":["float"]}',
    "no dimensions": b'{"model":"m","input":"x","dimensions":0}',
    "dimensions that are no integer": b'{"model":"m","input":"x","dimensions":"8"}',
    "dimensions that are no number": b'{"model":"m","input":"x","dimensions":NaN}',
    "a user that is no string": b'{"model":"m","input":"x","user":7}',
    "2,049 inputs": b'{"model":"m","input":[' + b",".join([b'"x"'] * 2049) + b"]}",
    "2,049 token ids": b'{"model":"m","input":[' + b",".join([b"7"] * 2049) + b"]}",
    "a text that is too long": b'{"model":"m","input":"' + b"long" * 8193 + b'"}',
    "too many tokens in all": (
        b'{"model":"m","input":['
        + b",".join(b'"%d' % n + b"word" * 8000 + b'"' for n in range(38))
        + b"]}"
    ),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_the_provider_refuses(proxy, provider, key, body):
    direct = ask(provider, body, key)
    assert direct.status_code in (400, 404)
    for _ in range(2):
        same(ask(proxy, body, key), direct)


def test_a_bad_body_is_no_business_of_others(proxy, provider, key):
    """What is refused leaves nothing behind."""
    for body in BODIES.values():
        ask(proxy, body, key)
    good = {"model": "m", "input": ["x"], "encoding_format": "float"}
    assert embeddings(ask(proxy, good, key)) == [provider.decimals("x", "m")]


def test_the_largest_request_is_one_request(proxy, provider, key):
    body = {"model": "m", "input": [f"text {n}" for n in range(2048)], "encoding_format": "base64"}
    direct, cold, warm = ask(provider, body, key), ask(proxy, body, key), ask(proxy, body, key)
    assert embeddings(direct) == embeddings(cold) == embeddings(warm)


def test_a_text_out_of_2049_that_is_cached_does_not_make_2049_right(proxy, provider, key):
    assert ask(proxy, {"model": "m", "input": "x"}, key).status_code == 200
    same(ask(proxy, BODIES["2,049 inputs"], key), ask(provider, BODIES["2,049 inputs"], key))


def test_cached_texts_do_not_make_a_bad_one_right(proxy, provider, key):
    for bad in ("", "long" * 8193):
        body = {"model": "m", "input": ["x", bad]}
        ask(proxy, {"model": "m", "input": "x"}, key)
        same(ask(proxy, body, key), ask(provider, body, key))


def test_an_oversized_body_is_refused_in_the_providers_form(strict, key):
    answer = ask(strict, {"model": "m", "input": ["x" * 30_000] * 4}, key)
    assert answer.status_code == 413
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert ask(strict, {"model": "m", "input": "x"}, key).status_code == 200
