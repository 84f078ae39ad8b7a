"""Starlette and FastAPI for real: applications whose caches live as long as they do."""

import asyncio
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from embedders import AsyncModel, until, vector
from nearcache import (
    AsyncCacheManager,
    AsyncEmbeddingCache,
    AsyncHotMemoryCache,
    AsyncNearCache,
    AsyncRetrievalCache,
    AsyncShortTermMemory,
    ConfigError,
    EmbeddingCache,
    MemoryStore,
    NearCache,
)
from nearcache.integrations.starlette import Caches

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_app.py"


def embedding_app(store=None, model=None):
    """A FastAPI application that embeds through a cache."""
    model = model or AsyncModel()
    caches = Caches(embeddings=lambda: AsyncEmbeddingCache(store))
    cache_of = Annotated[AsyncEmbeddingCache, Depends(caches["embeddings"])]
    app = FastAPI(lifespan=caches.lifespan)
    app.add_route("/cache", caches.health)

    @app.get("/embed")
    async def embed(text: str, cache: cache_of) -> list[float]:
        return (await cache.wrap(model, "fake").generate(text)).tolist()

    @app.get("/embed-in-thread")
    def embed_in_thread(text: str, cache: cache_of) -> list[float]:
        return cache.as_sync().wrap(model, "fake").generate(text).tolist()

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, cache: cache_of):
        await websocket.accept()
        text = await websocket.receive_text()
        row = await cache.wrap(model, "fake").generate(text)
        await websocket.send_json(row.tolist())
        await websocket.close()

    app.state.caches, app.state.model = caches, model
    return app


def right(text):
    return vector(text).tolist()


# -- requests ------------------------------------------------------------------------------------


def test_every_request_finds_the_same_cache(store):
    app = embedding_app(store)
    with TestClient(app) as client:
        for _ in range(2):
            assert client.get("/embed", params={"text": "a"}).json() == right("a")
            assert client.get("/embed-in-thread", params={"text": "a"}).json() == right("a")
            with client.websocket_connect("/socket") as socket:
                socket.send_text("a")
                assert socket.receive_json() == right("a")
    assert app.state.model.times == {"a": 1}


def test_requests_at_once_pay_once():
    async def before(_texts):
        await asyncio.sleep(0.05)  # so that the others come meanwhile

    app = embedding_app(model=AsyncModel(before=before))
    with TestClient(app) as client, ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: client.get("/embed", params={"text": "a"}).json(), range(32))
        assert list(answers) == [right("a")] * 32
    assert app.state.model.times == {"a": 1}


def test_workers_share_what_the_store_has(shared):
    first, second = embedding_app(shared), embedding_app(shared)
    with TestClient(first) as one, TestClient(second) as two:
        assert one.get("/embed", params={"text": "a"}).json() == right("a")
        assert two.get("/embed", params={"text": "a"}).json() == right("a")
    assert first.state.model.times == {"a": 1}
    assert not second.state.model.times


def test_a_plain_starlette_route_asks_with_its_request():
    caches = Caches(values=lambda: AsyncNearCache(namespace="n"))

    async def count(request):
        cache = caches["values"](request)
        return PlainTextResponse(str(await cache.update("n", lambda value: (value or 0) + 1)))

    app = Starlette(routes=[Route("/", count)], lifespan=caches.lifespan)
    with TestClient(app) as client:
        assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"]


def test_a_mounted_application_finds_the_caches_of_the_whole():
    caches = Caches(values=lambda: AsyncNearCache(namespace="n"))

    async def read(request):
        return PlainTextResponse(str(await caches["values"](request).get("k")))

    inner = Starlette(routes=[Route("/", read)])
    app = Starlette(routes=[Mount("/inner", inner)], lifespan=caches.lifespan)
    with TestClient(app) as client:
        assert client.get("/inner/").text == "None"


def test_a_server_that_keeps_no_state_is_served_all_the_same():
    app = embedding_app()

    async def get():
        transport = httpx.ASGITransport(app)  # knows of no lifespan
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return (await client.get("/embed", params={"text": "a"})).json()

    assert asyncio.run(get()) == right("a")


# -- life ----------------------------------------------------------------------------------------


def closed(cache):
    return cache.as_async()._tiers.engine.closed


def test_what_a_function_makes_is_made_anew_for_every_run_and_closed_after_it():
    made = []

    def make():
        made.append(AsyncEmbeddingCache())
        return made[-1]

    caches = Caches(embeddings=make)
    app = Starlette(lifespan=caches.lifespan)
    assert not made  # nothing before the application starts
    for runs in (1, 2):
        with TestClient(app):
            assert app.state.nearcache["embeddings"] is made[-1]
            assert not closed(made[-1])
        assert closed(made[-1])
        assert len(made) == runs


def test_blocking_caches_are_closed_too():
    made = EmbeddingCache()
    with TestClient(Starlette(lifespan=Caches(embeddings=lambda: made).lifespan)):
        pass
    assert closed(made)


def test_a_cache_that_is_given_stays_open(cache):
    with TestClient(Starlette(lifespan=Caches(embeddings=cache).lifespan)):
        pass
    assert not closed(cache)


def test_caches_are_open_around_a_lifespan_of_ones_own():
    seen = []

    @asynccontextmanager
    async def mine(app):
        cache = app.state.nearcache["values"]
        await cache.put("k", "value")
        yield {"mine": "state"}
        seen.append(await cache.get("k"))

    caches = Caches(values=lambda: AsyncNearCache(namespace="n"))

    async def read(request):
        assert request.state.mine == "state"
        return PlainTextResponse(await caches["values"](request).get("k"))

    app = Starlette(routes=[Route("/", read)], lifespan=caches.around(mine))
    with TestClient(app) as client:
        assert client.get("/").text == "value"
    assert seen == ["value"]


def test_an_application_that_does_not_start_leaves_nothing_open():
    made = []

    def make():
        made.append(AsyncEmbeddingCache())
        return made[-1]

    def fail():
        raise OSError("no such thing")

    with (
        pytest.raises(OSError, match="no such thing"),
        TestClient(Starlette(lifespan=Caches(first=make, second=fail).lifespan)),
    ):
        pass
    assert closed(made[0])


def test_bad_input_is_refused_with_the_cure():
    with pytest.raises(ConfigError, match="embeddings is a cache, or a function"):
        Caches(embeddings="redis://localhost")
    caches = Caches(embeddings=AsyncEmbeddingCache)
    with pytest.raises(ConfigError, match=r"no cache 'other'; there are embeddings"):
        caches["other"]

    async def read(request):
        return PlainTextResponse(str(caches["embeddings"](request)))

    client = TestClient(Starlette(routes=[Route("/", read)]))
    with pytest.raises(ConfigError, match=r"give lifespan=caches\.lifespan"):
        client.get("/")


# -- health --------------------------------------------------------------------------------------


def health(**made):
    caches = Caches(**made)
    app = Starlette(routes=[Route("/cache", caches.health)], lifespan=caches.lifespan)
    with TestClient(app) as client:
        answer = client.get("/cache")
        assert answer.status_code == 200
        return answer.json()


def test_health_says_how_every_kind_of_cache_is():
    store = MemoryStore()

    def manager():
        hot = AsyncHotMemoryCache(store, namespace="managed")
        return AsyncCacheManager(hot=hot, embeddings=AsyncEmbeddingCache())

    report = health(
        embeddings=AsyncEmbeddingCache,
        blocking=lambda: EmbeddingCache(store, namespace="b"),
        near=lambda: NearCache(store, namespace="n"),
        hot=lambda: AsyncHotMemoryCache(store),
        retrieval=lambda: AsyncRetrievalCache(store),
        memory=lambda: AsyncShortTermMemory(store),
        manager=manager,
    )
    assert report["status"] == "ok"
    stores = {name: one["store"] for name, one in report["caches"].items()}
    assert stores == {
        "embeddings": "none",
        "blocking": "ok",
        "near": "ok",
        "hot": "ok",
        "retrieval": "ok",
        "memory": "ok",
        "manager": "ok",
    }
    assert report["caches"]["near"]["hit_rate"] == 0.0
    assert report["caches"]["near"]["entries"] == 0


@pytest.mark.impatient
def test_health_sees_a_store_that_is_down_and_the_application_answers_all_the_same(own_server):
    server = own_server()
    app = embedding_app(server.url)
    with TestClient(app) as client:
        assert client.get("/cache").json()["caches"]["embeddings"]["store"] == "ok"
        server.kill()
        until(lambda: client.get("/cache").json()["status"] == "degraded")
        answer = client.get("/cache")
        assert answer.status_code == 200
        assert answer.json()["caches"]["embeddings"]["store"] == "unavailable"
        assert client.get("/embed", params={"text": "a"}).json() == right("a")
        server.restart()
        until(lambda: client.get("/cache").json()["status"] == "ok")


# -- the example ---------------------------------------------------------------------------------


@contextmanager
def serving(store, *options):
    """The example under uvicorn; gives its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    port, number = listening.getsockname()[1], listening.fileno()
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--fd", str(number), *options]
    process = subprocess.Popen(
        [*command, "--app-dir", str(EXAMPLE.parent), "--log-level", "warning"],
        env={**os.environ, "NEARCACHE_STORE": store},
        pass_fds=[number],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
        listening.close()
        print(output)


def up(url, process):
    assert process.poll() is None, "the example ended"
    try:
        return httpx.get(f"{url}/cache", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def test_the_example_runs_in_two_workers_that_pay_once_and_ends_when_it_is_told_to(one_server):
    asked = {"texts": ["a cat", "a kitten", "the stock exchange"], "query": "cats"}
    with serving(one_server.url, "--workers", "2") as (url, process):
        until(lambda: up(url, process), 60)
        answers = []
        for _ in range(20):
            answer = httpx.post(f"{url}/search", json=asked, timeout=60)
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
        assert httpx.get(f"{url}/cache", timeout=10).json()["status"] == "ok"
    assert all(answer == answers[0] for answer in answers)
    assert [text for text, _ in answers[0]][-1] == "the stock exchange"
    assert process.returncode in (0, -15)
    with one_server.client() as client:
        assert len(client.keys("nc1:{emb*:v:*")) == 4  # three texts and a query
