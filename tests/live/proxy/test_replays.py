"""Recorded traffic, played again through the proxy: OpenAI's answers, and eight clients' requests.

The recordings lie in the folder that NEARCACHE_DATA names, by default ``../shared/data`` beside the
repository; without it, recordings of our own provider take their place.
"""

import base64
import gzip
import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from provider import MODEL, Provider
from provider_wire import Answer
from proxy_process import ask

DATA = Path(os.environ.get("NEARCACHE_DATA") or Path(__file__).parents[4] / "shared" / "data")
HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


# -- Cassettes: what the real service answered


@dataclass
class Recorded:
    """One exchange."""

    target: str
    body: dict
    status: int
    headers: dict
    answer: bytes


def recorded(path):
    for one in yaml.safe_load(path.read_text("utf-8"))["interactions"]:
        asked, got = one["request"], one["response"]
        body = asked["parsed_body"] if "parsed_body" in asked else json.loads(asked["body"])
        if "parsed_body" in got:
            answer = json.dumps(got["parsed_body"]).encode()
        else:
            string = got["body"]["string"]
            answer = string if isinstance(string, bytes) else string.encode()
        headers = {name.lower(): values[0] for name, values in got["headers"].items()}
        headers = {name: value for name, value in headers.items() if name not in HOP}
        target = asked["uri"].partition("api.openai.com")[2]
        yield Recorded(target, body, got["status"]["code"], headers, answer)


def of_our_own():
    with Provider() as provider:
        for body in (
            {"model": MODEL, "input": ["hello", "world"], "encoding_format": "base64"},
            {"model": "nonexistent", "input": ["hello"], "encoding_format": "base64"},
        ):
            got = ask(provider, body, "sk-good")
            yield Recorded("/v1/embeddings", body, got.status_code, {}, got.content)


def cassettes():
    folder = DATA / "cassettes"
    if not folder.is_dir():
        return [pytest.param(one, id="our own") for one in of_our_own()]
    found = []
    for path in sorted(folder.glob("*.yaml")):
        for number, one in enumerate(recorded(path)):
            found.append(pytest.param(one, id=f"{path.stem}-{number}"))
    return found


@pytest.mark.parametrize("one", cassettes())
def test_what_the_service_answered_is_what_the_proxy_answers(proxy, provider, key, one):
    def replay(request):
        if request.path != "/v1/embeddings":
            return None
        return Answer(one.status, one.answer, one.headers)

    provider.replay = replay
    packed = one.headers.get("content-encoding") == "gzip"
    right = json.loads(gzip.decompress(one.answer) if packed else one.answer)
    for _ in range(2):
        answer = ask(proxy.root, one.body, key, path=one.target)
        assert answer.status_code == one.status
        got = answer.json()
        assert got.get("data") == right.get("data")
        assert got.get("model") == right.get("model")
        assert got.get("error") == right.get("error")
        for name in ("content-type", "openai-organization"):
            assert _same_header(answer, one, name), name
    asked = [r for r in provider.requests if r.path == "/v1/embeddings"]
    assert len(asked) == (1 if one.status == 200 else 2)


def _same_header(answer, one, name):
    # A warm answer may know nothing of what only a real one says.
    return answer.headers.get(name) in (one.headers.get(name), None)


# -- The wire: what real clients send


@dataclass
class Exchange:
    """One captured request, byte for byte, and its answer (None: the connection was closed)."""

    head: bytes
    body: bytes
    status: int | None
    headers: dict
    answer: bytes

    @property
    def key(self):
        found = re.search(rb"(?:authorization: bearer|api-key:) (\S+)", self.head, re.IGNORECASE)
        return None if found is None else found[1].decode()

    @property
    def question(self):
        """What is asked, however it is written."""
        body = json.loads(self.body) if self.body else {}
        body.pop("user", None)
        if isinstance(body.get("input"), str):
            body["input"] = [body["input"]]
        target = self.head.split(b" ", 2)[1].decode()
        return json.dumps([target, self.key, body], sort_keys=True)


def captured():
    path = DATA / "openai_clients_wire_capture.txt"
    if not path.exists():
        body = b'{"model":"m","input":["a","b"],"encoding_format":"base64"}'
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:1\r\nauthorization: Bearer sk-x\r\n"
            b"content-type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        row = base64.b64encode(bytes(32)).decode()
        data = [{"object": "embedding", "index": n, "embedding": row} for n in range(2)]
        answer = json.dumps({"object": "list", "data": data, "model": "m"}).encode()
        return [Exchange(head, body, 200, {"content-type": "application/json"}, answer)]
    found = []
    for part in re.split(rb"(?:^|\n)>>> ", path.read_bytes())[1:]:
        if re.search(rb" \.\.\.\[\d+ bytes total\]", part):  # the capture itself is cut there
            continue
        asked, _, got = part.partition(b"\n<<< ")
        head, _, body = asked.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1.1 (\d+)", got)
        first, _, answer = got.replace(b"\r\n", b"\n").partition(b"\n\n")
        headers = dict(
            line.decode().lower().split(": ", 1) for line in first.split(b"\n")[1:] if line
        )
        if status:
            answer = answer[: int(headers["content-length"])]
        found.append(
            Exchange(
                head + b"\r\n\r\n",
                body.strip(),
                int(status[1]) if status else None,
                {name: value for name, value in headers.items() if name not in HOP},
                answer,
            )
        )
    return found


def send(proxy, exchange):
    """Send the bytes as they were captured; return (status, headers, body)."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as wire:
        wire.sendall(exchange.head + exchange.body)
        with wire.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(stream.readline(), 16):
                    body += stream.read(size)
                    stream.readline()
            else:
                body = stream.read(int(headers["content-length"]))
    return status, headers, body


def test_the_bytes_of_eight_clients_get_what_they_got(proxy, provider):
    exchanges = captured()
    keys = {one.key for one in exchanges}
    now = []

    def replay(request):
        key = request.header("api-key") or (request.header("authorization") or "")[7:]
        if key not in keys:
            return Answer(401, b'{"error": {}}', {"content-type": "application/json"})
        one = now[0]
        if one.status is None:
            return Answer(cut=-1)
        if one.status != 200 or not one.body:
            return Answer(one.status, one.answer, one.headers)
        return Answer(200, rows_of(one, json.loads(request.data)), one.headers)

    provider.replay = replay
    known = {}
    for turn in ("cold", "warm"):
        for one in exchanges:
            if turn == "warm" and one.question not in known:
                continue
            now[:] = [one]
            provider.forget()
            status, headers, body = send(proxy, one)
            right = known.get(one.question)
            if right is not None:  # what was answered once is answered again
                assert (status, data(body)) == (200, right)
                assert not [r for r in provider.requests if r.body]  # at most its key
            elif one.status is None:
                assert status in (502, 503)
            else:
                assert status == one.status
                assert headers["content-type"] == one.headers["content-type"]
                assert headers.get("retry-after") == one.headers.get("retry-after")
                assert headers.get("retry-after-ms") == one.headers.get("retry-after-ms")
                assert bits(data(body)) == bits(data(one.answer))
                if status == 200 and one.body and sound(one):
                    known[one.question] = data(body)
    assert len(known) >= min(len(exchanges), 25)


def rows_of(one, asked):
    """The captured answer, cut to what the proxy asks for of it."""
    inputs = json.loads(one.body)["input"]
    if isinstance(inputs, str) or isinstance(inputs[0], int):
        inputs = [inputs]
    if not sound(one):
        return one.answer
    whole = json.loads(one.answer)
    rows = {json.dumps(inputs[row["index"]]): row["embedding"] for row in whole["data"]}
    given = asked["input"]
    if isinstance(given, str) or isinstance(given[0], int):
        given = [given]
    data = [
        {"object": "embedding", "index": n, "embedding": rows[json.dumps(text)]}
        for n, text in enumerate(given)
    ]
    return json.dumps({**whole, "data": data}).encode()


def sound(one):
    """Whether a captured answer has as many vectors as were asked for."""
    try:
        inputs, found = json.loads(one.body)["input"], json.loads(one.answer)["data"]
    except (ValueError, KeyError):
        return False
    many = isinstance(inputs, list) and not isinstance(inputs[0], int)
    return len(found) == (len(inputs) if many else 1)


def data(body):
    """The vectors of an answer in their order, or the answer itself where there are none."""
    try:
        whole = json.loads(body, parse_float=str)
    except ValueError:
        return body
    if "object" not in whole or not isinstance(whole.get("data"), list):
        return whole
    rows = sorted(whole["data"], key=lambda row: row.get("index", 0))
    return [row.get("embedding", row) for row in rows]


def bits(rows):
    """The same with every vector as float32: a provider that knows no base64 is translated."""
    if not isinstance(rows, list):
        return rows
    return [
        base64.b64decode(row)
        if isinstance(row, str)
        else np.array([float(x) for x in row], "<f4").tobytes()
        for row in rows
        if not isinstance(row, dict)
    ]


def test_the_key_of_a_real_client_reaches_the_provider_unchanged(proxy, provider, key):
    """And what the client says about itself."""
    ask(proxy, {"model": MODEL, "input": ["x"]}, key, user_agent="OpenAI/Python 3.54.0")
    (request,) = [r for r in provider.requests if r.path == "/v1/embeddings"]
    assert request.header("authorization") == f"Bearer {key}"
    assert request.header("host") == httpx.URL(provider.url).netloc.decode()
