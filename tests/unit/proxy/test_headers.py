"""Which headers travel on, and which of them say who asks."""

import pytest

from nearcache.proxy.headers import end_to_end, of_an_answer, sort

NOTHING = frozenset()


def test_hop_by_hop_headers_stay_behind():
    given = [
        (b"Connection", b"keep-alive, X-Mine"), (b"x-mine", b"1"), (b"TE", b"trailers"),
        (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"proxy-authorization", b"x"),
        (b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b"),
    ]  # fmt: skip
    assert end_to_end(given) == [
        (b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        b"authorization", b"api-key", b"x-api-key", b"openai-organization", b"openai-project",
        b"cookie", b"cf-aig-authorization", b"x-goog-api-key", b"x-forwarded-user",
    ],
)  # fmt: skip
def test_credentials(name):
    assert sort([(name, b"x")], NOTHING).credentials == ((name, b"x"),)


@pytest.mark.parametrize(
    "name",
    [
        b"user-agent", b"accept", b"accept-encoding", b"content-length", b"host", b"connection",
        b"x-stainless-retry-count", b"traceparent", b"x-request-id", b"x-forwarded-for",
    ],
)  # fmt: skip
def test_what_no_vector_is_made_of(name):
    assert sort([(name, b"x")], NOTHING) == ((), ())


def test_what_we_do_not_know_may_decide_a_vector_unless_we_are_told():
    header = (b"x-portkey-provider", b"a")
    assert sort([header], NOTHING).others == (header,)
    assert sort([header], frozenset((b"x-portkey-provider",))) == ((), ())


def test_the_order_of_headers_decides_nothing():
    one = [(b"authorization", b"a"), (b"x-a", b"1"), (b"api-key", b"k"), (b"x-b", b"2")]
    assert sort(one, NOTHING) == sort(one[::-1], NOTHING)


def test_what_is_told_to_all_of_a_batch_is_nobodys_own():
    given = [
        (b"x-ratelimit-remaining-requests", b"3"), (b"Retry-After", b"7"), (b"x-request-id", b"r"),
        (b"set-cookie", b"session"), (b"content-length", b"9"), (b"content-encoding", b"gzip"),
        (b"alt-svc", b"h3"), (b"date", b"now"),
    ]  # fmt: skip
    assert of_an_answer(given) == [
        (b"x-ratelimit-remaining-requests", b"3"), (b"retry-after", b"7"), (b"x-request-id", b"r"),
    ]  # fmt: skip


def test_a_balancers_cookie_may_be_ignored_but_not_where_it_alone_says_who_asks():
    cookie, key = (b"cookie", b"AWSALB=1"), (b"authorization", b"Bearer sk")
    ignored = frozenset([b"cookie"])
    assert sort([cookie, key], ignored) == sort([key], NOTHING)
    assert sort([cookie, key], NOTHING).credentials == (key, cookie)
    assert sort([cookie], ignored) == sort([cookie], NOTHING)
