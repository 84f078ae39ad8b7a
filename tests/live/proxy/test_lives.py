"""Killed, restarted, asked to end: a proxy loses nothing that was paid for, and nobody's answer."""

import concurrent.futures
import contextlib
import signal
import threading

import httpx
import pytest

from embedders import until
from provider import MODEL
from proxy_process import Proxy, ask, counts, embeddings


def body(*texts, encoding="base64"):
    return {"model": MODEL, "input": list(texts), "encoding_format": encoding}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where ``kept`` has its file."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def _kept(_provider, folder):
    with Proxy(_provider.url, "--store", f"sqlite:///{folder}/vectors.db") as proxy:
        yield proxy


@pytest.fixture
def kept(_kept, provider):
    """A proxy with a SQLite file."""
    return _kept


def test_killed_and_started_again_it_is_warm(kept, provider, key):
    texts = [f"text {n}" for n in range(300)]
    cold = {e: ask(kept, body(*texts, encoding=e), key) for e in ("base64", "float")}
    kept.kill()
    kept.start()
    provider.forget()
    for encoding, before in cold.items():
        answer = ask(kept, body(*texts, encoding=encoding), key)
        assert counts(answer) == (300, 0)
        assert embeddings(answer) == embeddings(before)
    assert provider.calls == []


def test_killed_in_the_middle_it_keeps_only_whole_vectors(kept, provider, key):
    """And a key that was revoked meanwhile has to be accepted anew."""
    provider.keys.add("sk-leaving")
    assert ask(kept, body("a"), "sk-leaving").status_code == 200
    stop = threading.Event()

    def load():
        number = 0
        while not stop.is_set():
            number += 1
            with contextlib.suppress(httpx.TransportError):
                ask(kept, body(*(f"{number} {n}" for n in range(50))), key)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(load)
        until(lambda: len(provider.calls) > 20)
        kept.kill()
        stop.set()
    provider.keys.remove("sk-leaving")
    kept.start()
    for number in range(1, 8):
        asked = body(*(f"{number} {n}" for n in range(50)))
        assert embeddings(ask(kept, asked, key)) == embeddings(ask(provider, asked, key))
    direct, answer = ask(provider, body("a"), "sk-leaving"), ask(kept, body("a"), "sk-leaving")
    assert (answer.status_code, answer.content) == (direct.status_code, direct.content)


def test_neither_keys_nor_texts_are_in_the_log_or_the_store(kept, folder, provider, key):
    ask(kept, body("the text of somebody"), key)
    ask(kept, body("the text of somebody"), "sk-mistyped-secret")
    ask(kept, b"{", key)
    provider.fail(500)
    ask(kept, body("another text of somebody"), key)
    provider.calm()
    httpx.get(kept.root + "/metrics", trust_env=False, verify=False)
    written = kept.log.encode() + b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file()
    )
    for secret in (key, "sk-mistyped-secret", "text of somebody"):
        assert secret.encode() not in written, secret


def test_asked_to_end_it_finishes_what_is_under_way(serve, provider, key):
    """A connection that somebody keeps, and does nothing with, does not hold it up."""
    proxy = serve()
    with (
        httpx.Client(trust_env=False, verify=False) as idle,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        assert idle.get(proxy.root + "/healthz").status_code == 200
        with provider.held():
            asked = pool.submit(ask, proxy, body("under way"), key)
            until(lambda: provider.inside)
            proxy.terminate()
            until(lambda: refuses(proxy))
        assert asked.result().status_code == 200
        assert proxy.wait() in (0, -signal.SIGTERM)


@pytest.mark.parametrize("twice", [False, True])
def test_what_outlasts_its_end_is_told_so_in_openais_form(serve, provider, key, twice):
    proxy = serve("--grace", "30" if twice else "0")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, provider.held():
        asked = pool.submit(ask, proxy, body("under way"), key)
        until(lambda: provider.inside)
        proxy.terminate()
        if twice:
            until(lambda: refuses(proxy))
            proxy.process.send_signal(signal.SIGINT)
        answer = asked.result()
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"
    assert proxy.wait() == 0
    assert "Traceback" not in proxy.log


def test_an_answer_that_its_end_cuts_off_is_no_whole_one(serve, provider, key):
    proxy = serve("--grace", "0")
    with httpx.Client(trust_env=False, verify=False) as client, provider.held():
        chat = {"model": MODEL, "messages": [], "stream": True}
        headers = {"authorization": f"Bearer {key}"}
        path = proxy.url + "/chat/completions"
        with client.stream("POST", path, json=chat, headers=headers) as answer:
            parts = answer.iter_raw()
            assert b"Hel" in next(parts)
            proxy.terminate()
            with pytest.raises(httpx.RemoteProtocolError):
                list(parts)
    assert proxy.wait() == 0
    assert "Traceback" not in proxy.log


def refuses(proxy: Proxy) -> bool:
    """Whether it takes no new work."""
    try:
        ready = httpx.get(proxy.root + "/readyz", trust_env=False, verify=False, timeout=5)
    except httpx.TransportError:
        return True
    return ready.status_code == 503


def test_it_says_that_it_lives_and_that_it_is_ready(proxy, provider):
    with httpx.Client(trust_env=False, verify=False, base_url=proxy.root) as client:
        assert client.get("/readyz").status_code == 200
        provider.down()
        try:
            assert client.get("/healthz").status_code == 200
        finally:
            provider.up()


def test_a_store_that_is_away_costs_hits_and_nothing_else(serve, provider, key, own_server):
    server = own_server()
    proxy = serve("--store", server.url, "--max-entries", "0")
    asked = body("a", "b")
    before = ask(proxy, asked, key)
    server.kill()
    assert embeddings(ask(proxy, asked, key)) == embeddings(before)
    server.restart()
    assert embeddings(ask(proxy, asked, key)) == embeddings(before)
