"""Where a path is at the provider's, and what becomes of it when there is no answer."""

import asyncio

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
