"""Requests that are made to confuse: two that look like one, one that never ends, a bomb."""

import contextlib
import gzip
import json
import socket

import pytest

from provider import KEY, MODEL
from proxy_process import ask, counts, embeddings

BODY = json.dumps({"model": MODEL, "input": "x", "encoding_format": "base64"}).encode()
SECRET = {"model": MODEL, "input": ["a text of another tenant"], "encoding_format": "base64"}


def raw(proxy, *parts, timeout=10.0):
    """Send bytes as they are; return all that comes until nothing more does."""
    got = b""
    with (
        contextlib.suppress(TimeoutError, ConnectionError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout) as wire,
    ):
        for part in parts:
            wire.sendall(part)
        while chunk := wire.recv(65536):
            got += chunk
            wire.settimeout(0.3)
    return got


def head(*lines, key=KEY, last=True):
    given = [*lines, f"authorization: Bearer {key}", "content-type: application/json", "host: x"]
    if last:
        given.append("connection: close")
    return "\r\n".join([*given, "", ""]).encode("latin-1")


def alive(proxy, key=KEY):
    assert ask(proxy, {"model": "m", "input": "still there"}, key).status_code == 200


SMUGGLED = (
    b"GET /v1/echo/smuggled HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-good\r\n"
    b"connection: close\r\n\r\n"
)
TWO_LENGTHS = {
    "length and chunks": [
        "POST /v1/embeddings HTTP/1.1",
        f"content-length: {len(BODY)}",
        "transfer-encoding: chunked",
    ],
    "two lengths": ["POST /v1/embeddings HTTP/1.1", "content-length: 5", "content-length: 6"],
    "a length with a sign": ["POST /v1/embeddings HTTP/1.1", "content-length: +5"],
    "a negative length": ["POST /v1/embeddings HTTP/1.1", "content-length: -1"],
    "chunks in an odd coding": [
        "POST /v1/embeddings HTTP/1.1",
        "transfer-encoding: xchunked",
        f"content-length: {len(BODY)}",
    ],
    "chunked twice": [
        "POST /v1/embeddings HTTP/1.1",
        "transfer-encoding: chunked",
        "transfer-encoding: chunked",
    ],
    "a space before the colon": ["POST /v1/embeddings HTTP/1.1", "content-length : 5"],
}


def test_of_a_length_and_chunks_the_chunks_are_passed_on(proxy, provider):
    lines = ["POST /v1/echo HTTP/1.1", "content-length: 5", "transfer-encoding: chunked"]
    answer = raw(proxy, head(*lines), b"3\r\nabc\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert provider.requests[-1].body == b"abc"
    assert provider.requests[-1].header("content-length") is None


@pytest.mark.parametrize("lines", TWO_LENGTHS.values(), ids=TWO_LENGTHS)
def test_no_request_is_hidden_in_another(proxy, provider, lines):
    """Whatever it is taken for, the provider sees no request that the proxy did not see as one."""
    raw(proxy, head(*lines, last=False), BODY, SMUGGLED, timeout=0.5)
    raw(proxy, head(*lines, last=False), b"0\r\n\r\n", SMUGGLED, timeout=0.5)
    hidden = [request for request in provider.requests if "smuggled" in request.target]
    for request in hidden:  # then it was a request of its own to the proxy, too
        assert request.header("host") != "x"
        assert request.body == b""
    alive(proxy)


@pytest.mark.parametrize(
    "line",
    [
        "x-a: b\r\nx-injected: 1",
        "x-a: b\nx-injected: 1",
        "x-a: b\rx-injected: 1",
        "x-a: b\x00x-injected: 1",
    ],
)
def test_a_header_brings_no_other(proxy, provider, line):
    raw(proxy, head("GET /v1/echo HTTP/1.1", line))
    for request in provider.requests:
        if request.all("x-injected"):
            assert "\n" in line  # two headers that the client really sent
    alive(proxy)


@pytest.mark.parametrize(
    "path",
    [
        "//v1/embeddings",
        "/v1/embeddings/",
        "/v1//embeddings",
        "/v1/./embeddings",
        "/v1/x/../embeddings",
        "/v1/%65mbeddings",
        "/v1/embeddings%2f",
        "/v1/embeddings;x=1",
        "/V1/EMBEDDINGS",
        "http://elsewhere.example/v1/embeddings",
        "/v1/embeddings#x",
        "/../healthz",
        "/v1/embeddings%00",
    ],
)
def test_a_path_reaches_the_provider_as_it_was_sent_or_not_at_all(proxy, provider, key, path):
    """Nothing is served from the cache that the provider would have refused by its path."""
    assert ask(proxy, BODY, key).status_code == 200
    provider.forget()
    got = raw(
        proxy,
        head(f"POST {path} HTTP/1.1", f"content-length: {len(BODY)}", key=key),
        BODY,
    )
    assert not got or got.startswith(b"HTTP/1.1 ")
    if got.startswith(b"HTTP/1.1 200"):
        plain = path.removeprefix("http://elsewhere.example").partition("#")[0]
        assert plain == "/v1/embeddings" or [r.target for r in provider.requests] == [path]
    for request in provider.requests:
        assert request.header("host") == f"127.0.0.1:{provider.port}"
    alive(proxy)


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer sk-thief"), ("api-key", KEY)],
        [("authorization", f"bearer  {KEY}")],
        [("authorization", f"Bearer {KEY}, Bearer sk-thief")],
        [("authorization", "Bearer sk-thief"), ("authorization", f"Bearer {KEY}")],
        [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer sk-thief")],
        [("authorization", f"Bearer {KEY}"), ("x-api-key", "sk-thief")],
        [("authorization", f"Bearer {KEY}\t")],
        [("AUTHORIZATION", "Bearer sk-thief")],
        [("authorization", "Bearer")],
        [("authorization", "")],
        [("cookie", f"authorization=Bearer {KEY}")],
        [("proxy-authorization", f"Bearer {KEY}")],
        [("x-forwarded-authorization", f"Bearer {KEY}")],
    ],
    ids=lambda headers: "+".join(f"{name} {value}" for name, value in headers),
)
def test_credentials_in_odd_spellings_get_what_the_provider_says(proxy, provider, headers):
    """The provider decides by them; the proxy knows them apart by every byte."""
    assert ask(proxy, SECRET, KEY).status_code == 200
    data = json.dumps(SECRET).encode()
    lines = ["POST /v1/embeddings HTTP/1.1", "host: x", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"content-length: {len(data)}", "connection: close", "", ""]
    direct = raw(provider, "\r\n".join(lines).encode(), data)
    for _ in range(2):
        got = raw(proxy, "\r\n".join(lines).encode(), data)
        if direct[:12] not in (b"HTTP/1.1 200", b""):
            assert not got.startswith(b"HTTP/1.1 200"), got[:300]


def test_a_bomb_does_not_go_off(proxy, provider, key):
    """Kilobytes that unpack to many megabytes."""
    bomb = gzip.compress(b" " * 2**24, 9)
    answer = ask(proxy, bomb * 4, key, content_encoding="gzip")
    assert answer.status_code in (400, 413)
    alive(proxy)


def test_chunks_of_one_byte(proxy, provider, key):
    data = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    got = raw(
        proxy, head("POST /v1/embeddings HTTP/1.1", "transfer-encoding: chunked", key=key), data
    )
    assert got.startswith(b"HTTP/1.1 200")


def test_who_waits_to_be_told_to_go_on_is_told(proxy, key):
    lines = ["POST /v1/embeddings HTTP/1.1", f"content-length: {len(BODY)}"]
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as wire:
        wire.sendall(head(*lines, "expect: 100-continue", key=key))
        assert wire.recv(25).startswith(b"HTTP/1.1 100")
        wire.sendall(BODY)
        got = b""
        while b"HTTP/1.1 200" not in got:
            more = wire.recv(4096)
            assert more, got
            got += more


def test_many_that_send_slowly_keep_nobody_out(proxy, key):
    """Each holds a connection and says one byte of its body."""
    slow = []
    try:
        for _ in range(200):
            wire = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
            wire.sendall(head("POST /v1/embeddings HTTP/1.1", "content-length: 1000", key=key))
            wire.sendall(b"{")
            slow.append(wire)
        alive(proxy, key)
    finally:
        for wire in slow:
            wire.close()
    alive(proxy, key)


def test_thousands_of_models_make_no_thousands_of_metrics(proxy, provider, key):
    import httpx

    provider.models = None
    try:
        url = proxy.root + "/metrics"
        before = len(httpx.get(url, trust_env=False, verify=False).content)
        with httpx.Client(trust_env=False, verify=False) as client:
            for number in range(60):
                client.post(
                    proxy.url + "/embeddings",
                    json={"model": f"model {number}", "input": "x"},
                    headers={"authorization": f"Bearer {key}"},
                )
                client.get(
                    f"{proxy.url}/echo/path {number}", headers={"authorization": f"Bearer {key}"}
                )
        assert len(httpx.get(url, trust_env=False, verify=False).content) < before + 3000
    finally:
        provider.models = {MODEL, "text-embedding-3-large", "text-embedding-ada-002", "m"}


def test_a_tenant_poisons_nobody(proxy, provider, key):
    """What one caller makes the provider say is no other caller's answer."""
    provider.keys.add("sk-poisoner")
    body = {"model": MODEL, "input": ["bait"], "encoding_format": "float"}
    provider.twist = lambda whole: {
        **whole,
        "data": [{"object": "embedding", "index": 0, "embedding": [6.66] * 8}],
    }
    assert ask(proxy, body, "sk-poisoner").status_code == 200
    provider.calm()
    answer = ask(proxy, body, key)
    assert counts(answer) == (0, 1)
    assert embeddings(answer) == [provider.decimals("bait")]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","model":"text-embedding-3-large","input":"x","encoding_format":"base64"}',
        b'{"input":"x","input":"y","model":"m","encoding_format":"base64"}',
        b'{"model":"m","input":"x","encoding_format":"float","encoding_format":"base64"}',
        b'\xef\xbb\xbf{"model":"m","input":"x"}',
        '{"model":"m","input":"x"}'.encode("utf-16"),
        b'{"model":"m","input":"\\ud800"}',
        b'{"model":"m","input":["\\ud83d\\ude00","\xf0\x9f\x98\x80"],"encoding_format":"base64"}',
        b'{"model":"m","input":[1e0]}',
        b'{"model":"m","input":[1.0,2]}',
        b'{"model":"m","input":[18446744073709551616]}',
        b'{"model":"m","input":[-0]}',
        b'{"model":"m","input":"x","dimensions":8.0}',
        b'{"model":"m","input":"x","dimensions":null}',
        b'{"model":"m","input":"x","encoding_format":null}',
        b'{"model":"m","input":"x","user":null}',
    ],
    ids=lambda body: repr(body)[:60],
)
def test_json_that_two_readers_read_differently(proxy, provider, key, body):
    """The proxy and the provider may disagree; then the provider is right."""
    direct = ask(provider, body, key)
    for _ in range(2):
        answer = ask(proxy, body, key)
        assert answer.status_code == direct.status_code
        if direct.status_code == 200:
            assert embeddings(answer) == embeddings(direct)
