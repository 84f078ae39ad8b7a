"""A provider, and proxies before it that run in the test's own process."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from nearcache.proxy import Settings, make_app
from provider import KEY, OTHER_KEY, Provider


class Client:
    """A proxy, and how to ask it: ``client.ask({"model": …})``, several at once with ``crowd``."""

    def __init__(self, settings: Settings) -> None:
        self.loop = asyncio.new_event_loop()
        self.app = make_app(settings)
        self.proxy = self.app.state.proxy
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://proxy", timeout=30
        )

    def run(self, work):
        return self.loop.run_until_complete(work)

    async def post(self, body, key=KEY, path="/v1/embeddings", **headers):
        sent = {"content-type": "application/json"}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(path, content=data, headers=sent)

    def ask(self, body, key=KEY, path="/v1/embeddings", **headers):
        return self.run(self.post(body, key, path, **headers))

    def crowd(self, *questions):
        """Ask several questions at once; each is the arguments of ``ask``."""

        async def together():
            return await asyncio.gather(*(self.post(*question) for question in questions))

        return self.run(together())

    def get(self, path, key=KEY):
        return self.run(self.http.get(path, headers={"authorization": f"Bearer {key}"}))

    def close(self):
        self.run(self.http.aclose())
        self.run(self.proxy.close())
        self.loop.close()


@pytest.fixture(scope="module")
def _provider():
    with Provider() as one:
        yield one


@pytest.fixture
def provider(_provider):
    _provider.calm()
    _provider.forget()
    _provider.keys = {KEY, OTHER_KEY}
    _provider.base64 = _provider.usage = _provider.lists_models = True
    _provider.lenient, _provider.pages = False, set()
    return _provider


@pytest.fixture
def proxy(provider) -> Callable[..., Client]:
    """Make a proxy before ``provider``: ``proxy(share=True)``."""
    made = []

    def make(**options):
        made.append(Client(Settings(upstream=provider.url, **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()
