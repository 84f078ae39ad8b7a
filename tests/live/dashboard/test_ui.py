"""The dashboard within ``nearcache serve``, and the command by itself."""

import socket

import httpx
import pytest

from dashboards import TOKEN
from embedders import until
from provider import KEY, MODEL, Provider
from proxy_process import Proxy, ask


@pytest.fixture(scope="module")
def provider():
    with Provider() as running:
        yield running


def get(url, **headers):
    with httpx.Client(timeout=30, trust_env=False, verify=False) as client:
        return client.get(url, headers=headers)


def test_a_proxy_shows_its_own_figures(look, provider):
    with Proxy(provider.url, "--ui") as proxy:
        for _ in range(2):
            assert ask(proxy, {"model": MODEL, "input": ["a", "b"]}, KEY).status_code == 200
        page = look(proxy.root + "/ui")
        assert page.url == proxy.root + "/ui/"
        assert page.locator("#caches tbody th").inner_text().split() == ["proxy", "NearCache"]
        near = page.locator('[data-figure=\'["sum","near_hits"]\']').get_attribute("data-value")
        (cache,) = get(proxy.root + "/ui/report").json()["report"]["caches"]
        assert int(near) == cache["near_hits"] > 0
        assert not page.locator("#forgetting").is_visible()


@pytest.mark.parametrize("kept", ["here", "in a store"])
def test_a_proxy_says_what_it_saved_in_money(provider, tmp_path, kept):
    prices = tmp_path / "prices.toml"
    prices.write_text("[price]\nproxy = 0.25\n")
    store = [] if kept == "here" else ["--store", f"sqlite:///{tmp_path / 'v.db'}"]
    asked = {"NEARCACHE_PRICES": str(prices), "NEARCACHE_REPORT": "0.1"}
    with Proxy(provider.url, "--ui", *store, **asked) as proxy:
        for _ in range(2):
            assert ask(proxy, {"model": MODEL, "input": ["a", "b"]}, KEY).status_code == 200

        def saved():
            caches = get(proxy.root + "/ui/report").json()["report"]["caches"]
            return caches and caches[0]["saved_money"] == 0.25 * caches[0]["saved_loads"] > 0

        until(saved)


def test_a_proxy_has_none_without_a_token_unless_it_is_asked_for(provider):
    for arguments, token in (([], ""), (["--no-ui"], TOKEN)):
        with Proxy(provider.url, *arguments, NEARCACHE_UI_TOKEN=token) as proxy:
            assert "x-frame-options" not in get(proxy.root + "/ui/").headers  # the provider answers
    with Proxy(provider.url, NEARCACHE_UI_TOKEN=TOKEN) as proxy:
        assert get(proxy.root + "/ui/report").status_code == 401
        assert get(proxy.root + "/ui/report", authorization=f"Bearer {TOKEN}").status_code == 200
        assert get(proxy.root + "/ui/report", host="evil.example").status_code == 403
        assert get(proxy.root + "/healthz").status_code == 200


def test_garbage_ends_a_connection_and_nothing_else(served):
    for garbage in (
        b"\x16\x03\x01\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\r\n" * 99,
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:
            line.sendall(garbage)
            line.shutdown(socket.SHUT_WR)
            line.recv(1000)
    assert get(served.url + "report").status_code == 200
