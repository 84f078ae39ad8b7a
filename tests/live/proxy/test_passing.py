"""What is not about embeddings passes through as it is, streamed, both ways."""

import base64
import hashlib

import httpx
import pytest

from proxy_process import ask


@pytest.fixture
def client(proxy, key):
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=proxy.url, headers=headers, trust_env=False, verify=False, timeout=30
    ) as client:
        yield client


def test_a_stream_arrives_as_it_is_made(client, provider):
    with provider.held():
        asked = {"model": "m", "messages": [], "stream": True}
        with client.stream("POST", "/chat/completions", json=asked) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert "Hel" in next(lines)  # the provider has not made the rest yet
            provider.calm()
            assert list(lines)[-2] == "data: [DONE]"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_target_headers_and_body_are_the_clients(client, method):
    body = bytes(range(256)) * 40
    answer = client.request(
        method,
        "/echo/a%2Fb/%C3%BC?x=1&x=2&y=%20",
        content=body,
        headers={b"x-mine": "ä".encode(), b"accept": b"text/x"},
    )
    seen = answer.json()
    assert seen["method"] == method
    assert seen["target"] == "/v1/echo/a%2Fb/%C3%BC?x=1&x=2&y=%20"
    assert base64.b64decode(seen["body"]) == body
    headers = dict(seen["headers"])
    assert headers["accept"] == "text/x"
    assert headers["x-mine"] == "ä".encode().decode("latin-1")


def test_head_has_no_body(client):
    answer = client.head("/models")
    assert (answer.status_code, answer.content) == (200, b"")


def test_headers_of_one_connection_stay_on_it(client):
    answer = client.post(
        "/echo",
        content=b"x",
        headers={
            "connection": "keep-alive, x-private",
            "x-private": "1",
            "keep-alive": "timeout=5",
            "te": "trailers",
            "proxy-authorization": "Basic eDp5",
            "upgrade": "h2c",
        },
    )
    seen = dict(answer.json()["headers"])
    for name in ("x-private", "keep-alive", "te", "proxy-authorization", "upgrade"):
        assert name not in seen, name


def test_a_large_upload_is_not_held_in_memory(client, provider):
    """Sent in chunks, of no length that is told beforehand."""
    chunk = b"x" * 65536

    def chunks():
        for _ in range(320):
            yield chunk

    answer = client.post("/echo", content=chunks())
    digest = hashlib.sha256(base64.b64decode(answer.json()["body"])).digest()
    assert digest == hashlib.sha256(chunk * 320).digest()


def test_errors_of_other_paths_are_the_providers(client, provider, key):
    direct = ask(provider, {}, key, path="/nothing/here")
    answer = client.post("/nothing/here", json={})
    assert (answer.status_code, answer.content) == (direct.status_code, direct.content)


def test_models_are_the_providers_own_and_not_kept(client, provider):
    for _ in range(2):
        assert client.get("/models").json()["object"] == "list"
    assert provider.seen("/v1/models") == 2


def test_get_of_the_path_of_embeddings_is_not_ours(client, provider):
    assert client.get("/embeddings").status_code == 404
    assert provider.seen("/v1/embeddings") == 1


def test_metrics_are_there_for_prometheus(proxy, client):
    ask(proxy, {"model": "m", "input": "x"}, client.headers["authorization"][7:])
    text = httpx.get(proxy.root + "/metrics", trust_env=False, verify=False).text
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}
    assert all(name.startswith("nearcache_") for name in names if name)
    assert any("hit" in name for name in names)
    assert any("miss" in name for name in names)
