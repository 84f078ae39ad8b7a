"""Partitions that are shared, keys that may do less than others, and keys of the proxy's own."""

import hashlib

import pytest

from embedders import until
from provider import KEY, MODEL
from proxy_process import Proxy, ask, counts, embeddings

BODY = {"model": MODEL, "input": ["a text that was paid for"], "encoding_format": "base64"}


def test_what_one_key_paid_for_is_there_for_all(shared, provider):
    asked = {**BODY, "input": ["shared"]}
    assert counts(ask(shared, asked, KEY)) == (0, 1)
    provider.keys.add("sk-second")
    for _ in range(2):
        assert embeddings(ask(shared, asked, "sk-second")) == embeddings(ask(shared, asked, KEY))
    assert counts(ask(shared, asked, "sk-second")) == (1, 0)
    for stranger in ("sk-wrong", None):
        direct, answer = ask(provider, asked, stranger), ask(shared, asked, stranger)
        assert (answer.status_code, answer.content) == (direct.status_code, direct.content)


def test_a_shared_partition_is_for_keys_that_may_embed(shared, provider):
    """To be known to the provider, and to see its list of models, is not enough."""
    assert ask(shared, BODY, KEY).status_code == 200
    provider.keys.add("sk-looks-only")
    provider.restricted["sk-looks-only"] = set()
    for _ in range(2):
        direct = ask(provider, BODY, "sk-looks-only")
        answer = ask(shared, BODY, "sk-looks-only")
        assert (answer.status_code, answer.content) == (direct.status_code, direct.content)


def test_a_key_for_one_model_opens_no_other(shared, provider):
    assert ask(shared, BODY, KEY).status_code == 200
    provider.keys.add("sk-one-model")
    provider.restricted["sk-one-model"] = {"m"}
    assert ask(shared, {**BODY, "model": "m"}, "sk-one-model").status_code == 200
    direct, answer = ask(provider, BODY, "sk-one-model"), ask(shared, BODY, "sk-one-model")
    assert (answer.status_code, answer.content) == (direct.status_code, direct.content)


@pytest.fixture(scope="module")
def own(_provider, tmp_path_factory):
    """A proxy with two keys of its own, and the file of their hashes."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("\n".join(hashlib.sha256(key).hexdigest() for key in (b"own-a", b"own-b")))
    with Proxy(
        _provider.url, "--api-keys", str(file), NEARCACHE_UPSTREAM_KEY="sk-of-the-firm"
    ) as proxy:
        yield proxy, file


def test_keys_of_the_proxys_own_pay_with_the_firms(own, provider):
    proxy, _ = own
    provider.keys.add("sk-of-the-firm")
    first = ask(proxy, BODY, "own-a")
    assert counts(first) == (0, 1)
    assert provider.calls[-1].credential == "sk-of-the-firm"
    assert embeddings(ask(proxy, BODY, "own-b")) == embeddings(first)
    for stranger in ("sk-of-the-firm", KEY, "own-c", None):
        answer = ask(proxy, BODY, stranger)
        assert answer.status_code == 401, stranger
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_neither_own_keys_nor_the_firms_are_told_to_the_wrong_side(own, provider):
    proxy, _ = own
    provider.keys.add("sk-of-the-firm")
    for headers in ({}, {"api-key": "own-a"}, {"cookie": "own-a"}):
        ask(proxy, {**BODY, "input": ["x"]}, "own-a", **headers)
    assert provider.requests
    for request in provider.requests:
        assert all("own-a" not in value for _, value in request.headers)
    refused = ask(proxy, {**BODY, "model": "nonexistent"}, "own-a")
    assert "sk-of-the-firm" not in refused.text + str(refused.headers)


def test_an_own_key_that_is_taken_out_of_the_file_is_let_in_no_more(own, provider):
    proxy, file = own
    provider.keys.add("sk-of-the-firm")
    file.write_text(file.read_text().splitlines()[1])
    until(lambda: ask(proxy, BODY, "own-a").status_code == 401)
    assert ask(proxy, BODY, "own-b").status_code == 200
