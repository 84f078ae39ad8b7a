"""Many tenants at once, each with vectors of its own from the provider: nobody gets another's.

What is wrong is seen at once then, whichever way it came: a key, a batch, a flight, a store.
"""

import asyncio
import base64
import random

from provider import Provider, decimals
from proxy_process import ask_in_turn

KEYS = [f"sk-tenant-{number}" for number in range(8)]
TEXTS = [f"text {number}" for number in range(30)]
VARIANTS = (
    {},
    {"encoding_format": "base64"},
    {"encoding_format": "base64", "dimensions": 4},
    {"encoding_format": "base64", "user": "u1"},
    {"model": "text-embedding-3-large", "encoding_format": "base64"},
)


def right(provider: Provider, key, body):
    """The vectors that this tenant's question has."""
    options = {name: body[name] for name in ("model", "dimensions") if name in body}
    rows = [provider.vector(text, **options, credential=key) for text in body["input"]]
    if body.get("encoding_format") == "base64":
        return [base64.b64encode(row.tobytes()).decode() for row in rows]
    return [[float(number) for number in decimals(row)] for row in rows]


def bodies(dice, count):
    for _ in range(count):
        chosen = dice.choices(TEXTS, k=dice.randint(1, 12))
        yield {"model": "text-embedding-3-small", "input": chosen, **dice.choice(VARIANTS)}


def test_every_tenant_gets_its_own(serve, provider, one_server):
    """In memory and with a store, where what is near makes room all the time."""
    provider.personal = True
    provider.keys |= set(KEYS)
    proxy = serve("--store", one_server.url, "--max-entries", "50")
    dice = random.Random(11)

    async def tenant(number):
        key = KEYS[number % len(KEYS)]
        asked = list(bodies(random.Random(number), 12))
        return key, asked, await ask_in_turn(proxy.url, key, asked)

    async def all_of_them():
        numbers = list(range(24))
        dice.shuffle(numbers)
        return await asyncio.gather(*map(tenant, numbers))

    for key, asked, answers in asyncio.run(all_of_them()):
        for body, answer in zip(asked, answers, strict=True):
            got = [row["embedding"] for row in answer["data"]]
            assert got == right(provider, key, body), (key, body)
