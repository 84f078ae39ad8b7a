"""A client gets the same from a cold proxy, a warm one, and the provider."""

import base64
import json

import numpy as np
import pytest

from provider import MODEL
from proxy_process import ask, counts, embeddings

INPUTS = {
    "a text": "hello wörld",
    "texts": ["one", "two", "three"],
    "duplicates": ["a", "b", "a", "a"],
    "token ids": [1, 2, 3],
    "lists of token ids": [[1, 2, 3], [4], [1, 2, 3]],
    "every kind of character": ["😀", "\x00", '"\\', " ", "é", "e\u0301", "a" * 5000],
}


@pytest.mark.parametrize("given", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_cold_and_warm_are_what_the_provider_gives(proxy, provider, key, given, encoding):
    body = {"model": MODEL, "input": given}
    if encoding is not None:
        body["encoding_format"] = encoding
    direct = ask(provider, body, key)
    provider.forget()
    cold, warm = ask(proxy, body, key), ask(proxy, body, key)
    assert embeddings(cold) == embeddings(direct)
    assert embeddings(warm) == embeddings(direct)
    for answer in (cold, warm):
        assert answer.headers["content-type"] == direct.headers["content-type"]
        assert answer.json()["model"] == MODEL
        assert answer.json()["object"] == "list"
    assert set(provider.times.values()) == {1}  # each input once, and never again
    asked = len(embeddings(direct))
    assert counts(warm) == (asked, 0)
    assert warm.json()["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_half_a_character_is_a_text_as_well(proxy, provider, key):
    body = {"model": MODEL, "input": ["\ud83d", "\ude00"], "encoding_format": "base64"}
    for _ in range(2):
        assert embeddings(ask(proxy, body, key)) == embeddings(ask(provider, body, key))


@pytest.mark.parametrize("first, then", [("float", "base64"), ("base64", "float")])
def test_each_encoding_is_the_providers_own_whichever_was_asked_for_first(
    proxy, provider, key, first, then
):
    """Decimals say more than float32 does: none are made up from it."""
    body = {"model": MODEL, "input": ["a", "b"]}
    for encoding in (first, then, first, then):
        asked = {**body, "encoding_format": encoding}
        assert embeddings(ask(proxy, asked, key)) == embeddings(ask(provider, asked, key))


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_provider_that_ignores_base64(proxy, provider, key, encoding):
    provider.base64 = False
    body = {"model": MODEL, "input": ["a", "b"], "encoding_format": encoding}
    direct, cold, warm = ask(provider, body, key), ask(proxy, body, key), ask(proxy, body, key)
    rows = [provider.vector(one) for one in body["input"]]
    for answer in (direct, cold, warm):
        for row, given in zip(rows, embeddings(answer), strict=True):
            bits = (
                np.frombuffer(base64.b64decode(given), "<f4")
                if isinstance(given, str)
                else np.array([float(x) for x in given], np.float32)
            )
            assert bits.tobytes() == row.tobytes()
    assert embeddings(warm) == embeddings(cold)


def test_an_answer_out_of_order_is_put_in_order_by_its_indices(proxy, provider, key):
    def turn(whole):
        return {**whole, "data": whole["data"][::-1]}

    provider.twist = turn
    body = {"model": MODEL, "input": ["a", "b", "c"], "encoding_format": "float"}
    for _ in range(2):
        assert embeddings(ask(proxy, body, key)) == [provider.decimals(t) for t in "abc"]


def test_part_of_a_request_is_cached(proxy, provider, key):
    body = {"model": MODEL, "input": ["b", "d"], "encoding_format": "float"}
    ask(proxy, body, key)
    provider.forget()
    more = ask(proxy, {**body, "input": ["a", "b", "c", "d", "e"]}, key)
    assert embeddings(more) == [provider.decimals(t) for t in "abcde"]
    assert counts(more) == (2, 3)
    assert provider.times == {"a": 1, "c": 1, "e": 1}
    assert more.json()["usage"]["prompt_tokens"] == 3


KEPT_APART = {
    "the model": {"model": "text-embedding-3-large"},
    "the dimensions": {"dimensions": 4},
    "a field we do not know": {"input_type": "query"},
    "another value of it": {"input_type": "document"},
    "a nested one": {"options": {"a": [1, {"b": None}]}},
}


def test_what_changes_a_vector_is_part_of_its_key(proxy, provider, key):
    provider.lenient = True
    body = {"model": MODEL, "input": ["x"], "encoding_format": "float"}
    for _ in range(2):
        for change in ({}, *KEPT_APART.values()):
            asked = {**body, **change}
            assert embeddings(ask(proxy, asked, key)) == embeddings(ask(provider, asked, key))


def test_neither_the_user_nor_the_order_of_fields_nor_the_client_is_part_of_its_key(
    proxy, provider, key
):
    bodies = (
        b'{"model":"m","input":"x","encoding_format":"base64"}',
        b'{"encoding_format":"base64","user":"u1","input":["x"],"model":"m"}',
        b' {"input" : [ "\\u0078" ],\n "user":"u2", "model":"m","encoding_format": "base64"}',
    )
    answers = [
        ask(proxy, body, key, user_agent=f"OpenAI/{n}", x_stainless_lang="js")
        for n, body in enumerate(bodies)
    ]
    assert len({embeddings(answer)[0] for answer in answers}) == 1
    assert provider.times == {"x": 1}


def test_a_text_and_token_ids_that_look_alike_are_not_the_same(proxy, provider, key):
    for given in ("[1, 2]", [1, 2], ["1", "2"], [[1], [2]], [[12]], ["12"], ["[12]"]):
        body = {"model": MODEL, "input": given, "encoding_format": "float"}
        for _ in range(2):
            assert embeddings(ask(proxy, body, key)) == embeddings(ask(provider, body, key))


def test_azures_path_names_the_model(proxy, provider, key):
    provider.models = None
    try:
        for _ in range(2):
            for deployment in ("mine", "other"):
                answer = ask(
                    proxy.root,
                    {"input": "x", "model": "ignored", "encoding_format": "float"},
                    path=f"/openai/deployments/{deployment}/embeddings?api-version=2024-10-21",
                    api_key=key,
                )
                assert embeddings(answer) == [provider.decimals("x", deployment)]
    finally:
        provider.models = {MODEL, "text-embedding-3-large", "text-embedding-ada-002", "m"}


def test_a_compressed_answer_of_the_provider_is_unpacked(proxy, provider, key):
    provider.compress = True
    body = {"model": MODEL, "input": ["a"], "encoding_format": "float"}
    for _ in range(2):
        assert embeddings(ask(proxy, body, key)) == [provider.decimals("a")]


def test_a_compressed_request_is_understood(proxy, provider, key):
    import gzip

    body = gzip.compress(json.dumps({"model": MODEL, "input": "z"}).encode())
    for _ in range(2):
        answer = ask(proxy, body, key, content_encoding="gzip")
        assert embeddings(answer) == [provider.decimals("z")]
    assert provider.times == {"z": 1}


def test_usage_that_the_provider_does_not_tell_is_not_made_up(proxy, provider, key):
    provider.usage = False
    answer = ask(proxy, {"model": MODEL, "input": ["no usage"]}, key)
    assert answer.json().get("usage", {}).get("prompt_tokens", 0) == 0
