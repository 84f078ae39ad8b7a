"""What is no request for embeddings, and what the proxy says of itself."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provider import MODEL

ONE = {"model": MODEL, "input": "a"}


def test_other_paths_are_passed_on(proxy, provider):
    client = proxy()
    found = client.ask(b"any bytes", path="/v1/echo/x?a=%20b")
    assert found.json()["target"] == "/v1/echo/x?a=%20b"
    assert client.get("/v1/models").json()["data"]
    assert client.get("/nowhere").status_code == 404


def test_streams_are_passed_on(proxy):
    client = proxy()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
    found = client.ask(body, path="/v1/chat/completions")
    assert found.headers["content-type"].startswith("text/event-stream")
    assert found.text.rstrip().endswith("[DONE]")


def test_nothing_but_embeddings_where_that_is_wanted(proxy, provider):
    client = proxy(only_embeddings=True)
    assert client.ask(ONE).status_code == client.get("/v1/models").status_code == 200
    refused = client.get("/v1/files")
    assert (refused.status_code, "error" in refused.json()) == (404, True)
    assert provider.seen("/v1/files") == 0


@pytest.mark.parametrize("path", ["/v1/x/%2E%2e/embeddings", "/v1/%2e/embeddings", "/..%2fx"])
def test_a_path_with_steps_up_is_refused(proxy, provider, path):
    client = proxy()
    assert client.ask(ONE, path=path).status_code == 400
    assert not provider.requests


def test_a_path_that_would_not_arrive_as_it_is_is_refused(proxy, provider):
    client = proxy()

    async def ask(path):
        status = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            status.append(message.get("status"))

        scope = {"type": "http", "method": "GET", "headers": [], "path": "/", "raw_path": path}
        await client.proxy({**scope, "query_string": b""}, receive, send)
        return status[0]

    for path in (b"/\xff", b"/a b", b"/a\nb", b"*", b"/" + b"a" * 40_000):
        assert client.run(ask(path)) == 400
    assert not provider.requests


def test_it_lives_and_is_ready_while_the_provider_answers(proxy, provider):
    client = proxy()
    assert client.get("/healthz").text == "ok\n"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["upstream"]) == (200, "reachable")
    provider.down()
    try:
        assert client.ask(ONE).status_code == 502
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert client.get("/healthz").status_code == 200
    finally:
        provider.up()


def test_it_says_what_the_store_does(proxy):
    assert proxy().get("/readyz").json()["store"] == "none"
    assert proxy(store="memory://").get("/readyz").json()["store"] == "ok"


def test_it_counts(proxy):
    client = proxy()
    for _ in range(2):
        client.ask(ONE)
    lines = client.get("/metrics").text.splitlines()
    for wanted in (
        "nearcache_hits_total 1",
        "nearcache_misses_total 1",
        'nearcache_answers_total{route="embeddings",status="200"} 2',
        'nearcache_upstream_requests_total{status="200"} 1',
        "nearcache_upstream_batch_inputs_count 1",
    ):
        assert wanted in lines


def test_it_says_what_its_cache_does_by_the_names_that_any_cache_has(proxy):
    client = proxy()
    for _ in range(2):
        client.ask(ONE)
    text = client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) == text.count("# TYPE"), "no name is there twice"
    (entries,) = families["nearcache_entries"].samples
    (same,) = families["nearcache_near_entries"].samples
    assert (entries.value, entries.labels["kind"]) == (same.value, "NearCache")
    assert "nearcache_store_seconds" in families
    assert "sk-" not in text
