"""What the dashboard answers, and to whom."""

import base64
import hashlib
import json
import re

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from dashboards import TOKEN, FakeSource
from nearcache.dashboard import Access, make_app
from nearcache.errors import StoreUnavailable

HERE = "http://127.0.0.1:8090"
FORGET = {"namespace": "docs", "what": "key", "name": "a"}


def client(source=None, path="", base=HERE, **access):
    app = make_app(source or FakeSource(), Access(**access))
    if path:
        app = Starlette(routes=[Mount(path, app)])
    return TestClient(app, base_url=base + path, follow_redirects=False)


def post(one, path, body, **headers):
    """Ask as the page does."""
    csrf = one.get("/report").json().get("csrf", "")
    given = {"origin": HERE, "x-nearcache-csrf": csrf, **headers}
    return one.post(path, json=body, headers={k.replace("_", "-"): v for k, v in given.items()})


# -- looking -------------------------------------------------------------------------------------


def test_the_page_and_its_figures():
    source = FakeSource()
    one = client(source)
    assert "<h1" in one.get("/").text
    found = one.get("/report").json()
    assert found["report"] == source.document
    assert (found["trouble"], found["writes"]) == (None, False)


def test_the_page_holds_all_it_needs():
    text = client().get("/").text
    linked = re.findall(r"""(?:src|href)=["'](?!data:|#|report")""", text.partition("<script>")[0])
    assert not linked
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)


def test_its_policy_lets_in_its_own_style_and_script_alone():
    answer = client().get("/")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("path", ["/", "/report", "/nowhere", "/forget"])
def test_every_answer_may_not_be_kept_framed_or_guessed_at(path):
    headers = client().get(path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_no_secret_of_ours_is_in_what_others_may_read():
    one = client(token=TOKEN)
    told = one.get("/").text + one.get("/report").text
    assert TOKEN not in told
    assert "csrf" not in one.get("/report").json()


# -- names ---------------------------------------------------------------------------------------


def test_a_name_that_was_made_to_lead_here_is_refused():
    one = client()
    for path in ("/", "/report"):
        assert one.get(path, headers={"host": "evil.example:8090"}).status_code == 403
    assert client(names=["cache.example"]).get("/", headers={"host": "cache.example"}).is_success


def test_what_others_pass_on_needs_a_token():
    passed = {"x-forwarded-for": "192.0.2.1"}
    assert client().get("/report", headers=passed).status_code == 403
    assert client(token=TOKEN).get("/report", headers=passed).status_code == 401


def test_scripts_of_other_sites_are_refused_and_links_are_not():
    one = client()
    fetched = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert one.get("/report", headers=fetched).status_code == 403
    assert one.get("/", headers=followed).status_code == 200


# -- the token -----------------------------------------------------------------------------------


def test_without_the_token_nothing_is_shown():
    one = client(token=TOKEN)
    assert one.get("/report").status_code == 401
    page = one.get("/")
    assert page.status_code == 401
    assert "<form" in page.text
    assert "store" not in page.text.partition("</style>")[2]
    assert one.post("/forget", json=FORGET, headers={"origin": HERE}).status_code == 401


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_do_not_see():
    one = client(token=TOKEN)
    led = one.get("/", params={"token": TOKEN})
    assert (led.status_code, led.headers["location"]) == (303, "./")
    cookie = led.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert TOKEN not in cookie
    assert one.get("/report").status_code == 200
    assert "secure" in client(token=TOKEN, secure=True).get(
        "/", params={"token": TOKEN}
    ).headers["set-cookie"].lower()  # fmt: skip


@pytest.mark.parametrize("other", ["_ga=a b c", 'bar={"a":1}', 'foo[]="', "=", "\xff"])
def test_odd_cookies_of_other_programs_of_the_host_lock_nobody_out(other):
    led = client(token=TOKEN).get("/", params={"token": TOKEN})
    ours = led.headers["set-cookie"].partition(";")[0]
    for cookies in (f"{other}; {ours}", f"{ours};{other}"):
        sent = {"cookie": cookies.encode("latin-1")}
        assert client(token=TOKEN).get("/report", headers=sent).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "0"])
def test_another_token_is_none(token):
    one = client(token=TOKEN)
    assert one.get("/", params={"token": token}).status_code == 401
    assert one.get("/report", headers={"authorization": f"Bearer {token}"}).status_code == 401
    signed = one.post("/sign-in", data={"token": token}, headers={"origin": HERE})
    assert signed.status_code == 401
    assert not one.cookies


def test_the_token_in_a_header_and_in_the_form():
    one = client(token=TOKEN)
    assert one.get("/report", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
    signed = one.post("/sign-in", data={"token": TOKEN}, headers={"origin": HERE})
    assert signed.status_code == 303
    assert one.get("/report").status_code == 200


# -- doing ---------------------------------------------------------------------------------------


def test_explaining():
    source = FakeSource()
    one = client(source)
    found = post(one, "/explain", {"namespace": "docs", "key": "a", "model": None})
    assert found.json()["sentences"][0] == "a is in the store."
    post(one, "/explain", {"namespace": "docs", "key": "a text", "model": "m"})
    assert source.explained == [("docs", "a", None), ("docs", "a text", "m")]
    refused = post(one, "/explain", {"namespace": "docs", "key": "bad"})
    assert (refused.status_code, refused.json()) == (400, {"error": "that is no key"})


def test_forgetting_is_off():
    source = FakeSource()
    refused = post(client(source), "/forget", FORGET)
    assert refused.status_code == 403
    assert "--allow-writes" in refused.json()["error"]
    assert source.forgotten == []


def test_forgetting_where_it_is_allowed():
    source = FakeSource()
    one = client(source, writes=True)
    assert post(one, "/forget", FORGET).json() == {"done": "a was forgotten."}
    post(one, "/forget", {"namespace": "docs", "what": "text", "name": "a", "model": "m"})
    post(one, "/forget", {"namespace": "docs", "what": "everything", "name": "ignored"})
    assert source.forgotten == [
        ("docs", "key", "a", None),
        ("docs", "text", "a", "m"),
        ("docs", "everything", None, None),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:8090.evil.example"},
        {"x_nearcache_csrf": ""},
        {"x_nearcache_csrf": "another"},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"host": "evil.example", "origin": "http://evil.example"},
    ],
)
def test_another_page_forgets_nothing(headers):
    source = FakeSource()
    assert post(client(source, writes=True), "/forget", FORGET, **headers).status_code in (403, 415)
    assert source.forgotten == []


@pytest.mark.parametrize(
    "body",
    [
        [], 1, "a", {}, {"namespace": "docs"}, {**FORGET, "what": "all"},
        {**FORGET, "what": []}, {**FORGET, "name": None}, {**FORGET, "name": ["a"]},
        {**FORGET, "namespace": ""}, {**FORGET, "what": "text"},
    ],
)  # fmt: skip
def test_what_is_no_request_forgets_nothing(body):
    source = FakeSource()
    answer = post(client(source, writes=True), "/forget", body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert source.forgotten == []


def test_bodies_that_are_none():
    one = client(writes=True)
    csrf = one.get("/report").json()["csrf"]
    headers = {"origin": HERE, "x-nearcache-csrf": csrf, "content-type": "application/json"}
    for body in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":NaN', b"9" * 5000):
        assert one.post("/forget", content=body, headers=headers).status_code == 400
    assert one.post("/forget", content=b" " * 300_000, headers=headers).status_code == 413
    for half in ({"name": "\ud800"}, {"namespace": "a\udfff"}, {"what": "text", "model": "\ud800"}):
        body = json.dumps({**FORGET, **half})
        assert one.post("/forget", content=body, headers=headers).status_code == 400
    parts = one.post("/forget", content=iter([b"{}"]), headers=headers)
    assert parts.status_code == 413  # who does not say how long it is


def test_a_store_that_fails():
    source = FakeSource()
    source.error = StoreUnavailable("nobody is there")
    found = client(source).get("/report").json()
    assert (found["report"], found["trouble"]) == (None, "nobody is there")


def test_under_a_path():
    one = client(path="/ui", token=TOKEN, base=HERE)
    led = one.get("/", params={"token": TOKEN})
    assert "Path=/ui/" in led.headers["set-cookie"]
    assert one.get("/report").status_code == 200
    assert one.get("/").status_code == 200
