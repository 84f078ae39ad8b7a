"""A connection on which no request comes is closed, whatever drips in."""

import asyncio
import contextlib
import socket

import pytest
import uvicorn

from nearcache.proxy import connections
from nearcache.proxy.connections import Connection

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(_scope, _receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


async def hear(reader):
    heard = b""
    with contextlib.suppress(ConnectionResetError):  # it hung up while we spoke
        while part := await reader.read(4096):
            heard += part
    return heard


async def talk(*said):
    """Say something every millisecond until the server hangs up; return what it said."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        task = asyncio.ensure_future(server._serve([door]))
        try:
            reader, writer = await asyncio.open_connection(*door.getsockname())
            heard = asyncio.ensure_future(hear(reader))
            for part in said:
                if heard.done():
                    break
                writer.write(part)
                await asyncio.sleep(0.001)
            found = await asyncio.wait_for(heard, 10)
            writer.close()
            return found
        finally:
            server.should_exit = True
            await task


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.05)


def test_silence():
    assert asyncio.run(talk()) == b""


def test_a_head_that_drips():
    assert asyncio.run(talk(b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 5000)) == b""


def test_a_second_head_that_drips():
    found = asyncio.run(talk(REQUEST, *[b"a: b\r\n"] * 5000))
    assert found.count(b"ok") == 1


def test_a_head_without_an_end():
    assert b" 400 " in asyncio.run(talk(b"GET / HTTP/1.1\r\n", *[b"a: " + b"b" * 9000] * 50))


def test_an_offer_of_http_2_is_ignored():
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    assert b"ok" in asyncio.run(talk(REQUEST[:-2] + offer + b"\r\n"))


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET / HTTP/1.1\r\na: b\nc: d\r\nhost: x\r\n\r\n",),
        (b"GET / HTTP/1.1\r\na: b", b"\nc: d\r\nhost: x\r\n\r\n"),
        (REQUEST.replace(b"\r\n", b"\n"),),
    ],
)
def test_a_line_that_ends_otherwise(parts):
    found = asyncio.run(talk(*parts))
    assert b" 400 " in found
    assert b"ok" not in found


def test_lines_that_end_in_two_parts(monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.5)  # a busy machine speaks slowly
    assert b"ok" in asyncio.run(talk(*(bytes([each]) for each in REQUEST)))
    assert b"ok" in asyncio.run(talk(b"GET / HTTP/1.1\r", b"\nhost: x\r", b"\n\r\n"))


def test_a_body_has_lines_of_its_own():
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
    assert b"ok" in asyncio.run(talk(head + b"\n\n\n\n"))
    assert b"ok" in asyncio.run(talk(head, b"\n\n", b"\n\n"))
    assert b"ok" in asyncio.run(talk(head[:-1], b"\n\n\n", b"\n\n"))
