"""Many clients, several proxies: the provider sees each text once, in large batches."""

import asyncio
import json
import random

from provider import MODEL
from proxy_process import ask, ask_in_turn, counts, embeddings

TEXTS = [f"text {n}" for n in range(1000)]


async def crowd(urls, key, parts_of):
    """Let a client for each of ``parts_of`` ask for its parts; return what everybody was told."""

    async def one(number, parts):
        bodies = [{"model": MODEL, "input": part, "encoding_format": "base64"} for part in parts]
        told = {}
        answers = await ask_in_turn(urls[number % len(urls)], key, bodies)
        for part, answer in zip(parts, answers, strict=True):
            rows = [row["embedding"] for row in answer["data"]]
            told |= dict(zip(part, rows, strict=True))
        return told

    return await asyncio.gather(*(one(n, parts) for n, parts in enumerate(parts_of)))


def right(provider, key):
    asked = {"model": MODEL, "input": TEXTS, "encoding_format": "base64"}
    return dict(zip(TEXTS, embeddings(ask(provider, asked, key)), strict=True))


def test_two_hundred_clients_pay_for_a_thousand_texts_once(proxy, provider, key):
    told = asyncio.run(crowd([proxy.url], key, [[TEXTS]] * 200))
    assert set(provider.times) == set(TEXTS)
    assert set(provider.times.values()) == {1}
    assert len(TEXTS) / len(provider.batches) >= 64
    wanted = right(provider, key)
    assert all(one == wanted for one in told)


def test_two_hundred_clients_in_orders_of_their_own(proxy, provider, key):
    dice = random.Random(7)

    def parts():
        order = dice.sample(TEXTS, len(TEXTS))
        return [order[at : at + 250] for at in range(0, len(order), 250)]

    told = asyncio.run(crowd([proxy.url], key, [parts() for _ in range(200)]))
    assert set(provider.times.values()) == {1}
    assert sum(provider.batches) / len(provider.batches) >= 64
    wanted = right(provider, key)
    assert all(one == wanted for one in told)


def test_callers_of_single_texts_share_batches(proxy, provider, key):
    asyncio.run(crowd([proxy.url], key, [[[text]] for text in TEXTS[:200]]))
    assert sum(provider.batches) == 200
    assert len(provider.batches) <= 20


def test_two_proxies_on_one_redis_pay_once(serve, provider, key, one_server, tmp_path):
    """They know each other's vectors by the secret they share."""
    secret = tmp_path / "secret"
    secret.write_text("a secret of thirty-two characters, or more")
    secret.chmod(0o600)
    options = ("--store", one_server.url, "--secret-file", str(secret))
    two = [serve(*options) for _ in range(2)]
    texts = TEXTS[:200]
    shares = [[texts]] * 10
    told = asyncio.run(crowd([one.url for one in two], key, shares))
    assert set(provider.times.values()) == {1}
    assert all(one == told[0] for one in told)
    for one in two:
        asked = {"model": MODEL, "input": texts, "encoding_format": "base64"}
        assert counts(ask(one, asked, key)) == (200, 0)


def test_callers_of_two_keys_share_no_batch(proxy, provider):
    provider.keys |= {"sk-left", "sk-right"}

    async def both():
        return await asyncio.gather(
            crowd([proxy.url], "sk-left", [[[text]] for text in TEXTS[:50]]),
            crowd([proxy.url], "sk-right", [[[text]] for text in TEXTS[:50]]),
        )

    asyncio.run(both())
    for call in provider.calls:
        assert call.credential in ("sk-left", "sk-right")
        authorization = dict(call.headers)["authorization"]
        assert authorization == f"Bearer {call.credential}"
    assert set(provider.times.values()) == {2}


def test_a_batch_is_asked_for_in_the_callers_words(proxy, provider, key):
    """Nothing is added that the provider could stumble over."""
    body = {"model": MODEL, "input": ["x"], "dimensions": 4, "user": "u1"}
    ask(proxy, {**body, "encoding_format": "base64"}, key)
    (call,) = provider.calls
    assert call.body == {**body, "encoding_format": "base64"}
    assert json.loads(json.dumps(call.body)) == call.body
