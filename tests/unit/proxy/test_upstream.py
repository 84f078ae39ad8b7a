"""Where a path is at the provider's, and what becomes of it when there is no answer."""

import asyncio
import contextlib
import itertools

import httpx
import pytest

from nearcache.proxy.upstream import Refused, Target, Upstream


def url(base, path, query=b""):
    upstream = Upstream(base, 1.0)
    try:
        return str(upstream.url(path, query))
    finally:
        asyncio.run(upstream.close())


@pytest.mark.parametrize(
    "base,path,wanted",
    [
        ("https://h", b"/v1/embeddings", "https://h/v1/embeddings"),
        ("https://h/", b"/v1/embeddings", "https://h/v1/embeddings"),
        ("https://h/v1", b"/v1/embeddings", "https://h/v1/embeddings"),
        ("https://h/v1/", b"/v1/embeddings", "https://h/v1/embeddings"),
        ("https://h/v1", b"/embeddings", "https://h/v1/embeddings"),
        ("https://h/api/v1", b"/v1/embeddings", "https://h/api/v1/embeddings"),
        ("https://h/api/v1", b"/api/v1/embeddings", "https://h/api/v1/embeddings"),
        ("https://h/api", b"/v1/embeddings", "https://h/api/v1/embeddings"),
        ("https://h/v1", b"/v1beta/x", "https://h/v1/v1beta/x"),
        ("https://h/openai", b"/openai/deployments/d/embeddings",
         "https://h/openai/deployments/d/embeddings"),
        ("http://h:81", b"/a%20b%2Fc", "http://h:81/a%20b%2Fc"),
    ],
)  # fmt: skip
def test_the_base_url_is_there_once(base, path, wanted):
    assert url(base, path) == wanted


def test_the_query_is_the_callers():
    assert url("https://h", b"/x", b"api-version=1&a=%20") == "https://h/x?api-version=1&a=%20"


@pytest.mark.parametrize("path", [b"//evil/x", b"/\\evil", b"/@evil", b"/:80"])
def test_no_path_leads_to_another_host(path):
    assert url("https://h", path).startswith("https://h/")


GOOD = b"""HTTP/1.1 200 OK\r
content-length: 38\r
\r
{"data":[{"index":0,"embedding":[1]}]}"""


def ask_a_server(answers, times=2, method="embed"):
    """Ask a server so often that answers so many requests of each connection, and then hangs up.

    Returns what came, and how many requests it saw.
    """
    seen, serving = 0, []

    async def serve(reader, writer):
        nonlocal seen
        serving.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
            for number in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                if b"embeddings" in head:
                    await reader.readuntil(b"}")
                seen += 1
                if number >= answers:
                    break
                writer.write(GOOD)

    async def one(upstream):
        if method == "embed":
            target = Target(b"/v1/embeddings", b"", b"who", b'{"input":[', base64=False)
            return (await upstream.embed(target, [], [b'"a"'])).vectors
        request = httpx.Request(method, upstream.url(b"/v1/files", b""))
        async with upstream.opened(request) as response:
            await response.aread()
            return response.status_code

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}", 5.0)
        try:
            return [await one(upstream) for _ in range(times)], seen
        except (Refused, httpx.HTTPError) as error:
            return error, seen
        finally:
            await upstream.close()
            server.close()
            await asyncio.gather(*serving)

    return asyncio.run(run())


def test_a_request_that_met_a_connection_just_closed_is_sent_on_another():
    assert ask_a_server(1) == ([[b"[1]"]] * 2, 3)
    assert ask_a_server(1, method="GET") == ([200] * 2, 3)


def test_a_request_that_was_refused_a_word_on_a_new_connection_is_not_sent_twice():
    error, seen = ask_a_server(0)
    assert (error.status, seen) == (502, 1)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_nor_is_one_that_may_do_harm(method):
    error, seen = ask_a_server(1, method=method)
    assert isinstance(error, httpx.RemoteProtocolError)
    assert seen == 2


def test_who_does_not_answer_is_answered_for(caplog):
    async def ask():
        upstream = Upstream("http://127.0.0.1:1", 1.0)
        target = Target(b"/v1/embeddings", b"key=secret", b"who", b"{", base64=True)
        try:
            await upstream.embed(target, [(b"authorization", b"Bearer sk-secret")], [b'"a text"'])
        finally:
            assert not await upstream.reachable()
            await upstream.close()

    with pytest.raises(Refused) as caught:
        asyncio.run(ask())
    assert (caught.value.status, caught.value.caller) == (502, b"who")
    assert b"cannot be reached" in caught.value.body
    assert "no answer" in caplog.text
    assert "secret" not in caplog.text
    assert "a text" not in caplog.text
