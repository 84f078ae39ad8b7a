"""Which headers travel on, which say who asks, and which say nothing about the answer."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Headers", "Sorted", "end_to_end", "first", "from_the_provider", "of_an_answer", "sort"]

Headers = list[tuple[bytes, bytes]]
"""Pairs of a lower-case name and a value, as ASGI has them."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""RFC 9110, 7.6.1: what concerns one connection only."""

_CREDENTIALS = frozenset(
    (
        b"api-key",
        b"authorization",
        b"cf-aig-authorization",
        b"cookie",
        b"ocp-apim-subscription-key",
        b"openai-organization",
        b"openai-project",
        b"x-amz-security-token",
        b"x-api-key",
        b"x-forwarded-access-token",
        b"x-forwarded-email",
        b"x-forwarded-groups",
        b"x-forwarded-preferred-username",
        b"x-forwarded-user",
        b"x-goog-api-key",
        b"x-goog-iam-authorization-token",
    )
)
"""What says who asks, and who pays."""

_NOISE = frozenset(
    (
        b"accept",
        b"baggage",
        b"b3",
        b"cache-control",
        b"cf-connecting-ip",
        b"cf-ew-via",
        b"cf-ipcountry",
        b"cf-ray",
        b"cf-visitor",
        b"cf-worker",
        b"date",
        b"dnt",
        b"expect",
        b"forwarded",
        b"from",
        b"host",
        b"http-referer",
        b"idempotency-key",
        b"x-idempotency-key",
        b"newrelic",
        b"origin",
        b"pragma",
        b"priority",
        b"referer",
        b"request-id",
        b"sentry-trace",
        b"traceparent",
        b"tracestate",
        b"uber-trace-id",
        b"upgrade-insecure-requests",
        b"user-agent",
        b"via",
        b"x-amzn-trace-id",
        b"x-client-request-id",
        b"x-cloud-trace-context",
        b"x-correlation-id",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-ms-client-request-id",
        b"x-real-ip",
        b"x-request-id",
        b"x-requested-with",
        b"x-title",
    )
)
_NOISY_BEGINNINGS = (
    b"accept-",
    b"content-",
    b"sec-",
    b"x-b3-",
    b"x-datadog-",
    b"x-envoy-",
    b"x-stainless-",
)
"""What no provider makes a vector of. Whatever is not here may decide one, so it is in the key."""

_OF_THE_BODY = frozenset((b"content-encoding", b"content-length", b"content-type"))
_OF_ITS_MACHINE = frozenset((b"alt-svc", b"nel", b"report-to", b"strict-transport-security"))
_NOT_FOR_OTHERS = frozenset(
    (b"set-cookie", b"set-cookie2", b"date", b"server", b"etag", b"age", b"x-nearcache")
)


class Sorted(NamedTuple):
    """The headers of a request that may decide its answer, in an order of our own."""

    credentials: tuple[tuple[bytes, bytes], ...]
    others: tuple[tuple[bytes, bytes], ...]


def sort(headers: Iterable[tuple[bytes, bytes]], ignored: frozenset[bytes]) -> Sorted:
    """Return what says who asks, and what else may decide the answer.

    ignored: names that decide nothing. Cookies that are among them say nothing beside another
        credential (a balancer's change with every answer); alone, they are the caller's.
    """
    credentials, others, aside = [], [], []
    for name, value in headers:
        if name == b"cookie" and name in ignored:
            aside.append((name, value))
        elif name in _CREDENTIALS:
            credentials.append((name, value))
        elif not (
            name in _NOISE
            or name in _HOP_BY_HOP
            or name in ignored
            or name.startswith(_NOISY_BEGINNINGS)
        ):
            others.append((name, value))
    credentials = sorted(credentials or aside)
    others.sort()
    return Sorted(tuple(credentials), tuple(others))


def is_credential(name: bytes) -> bool:
    """Say whether a header says who asks."""
    return name in _CREDENTIALS


def end_to_end(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Return the headers that travel on to the next machine."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {
        part.strip().lower()
        for name, value in lowered
        if name == b"connection"
        for part in value.split(b",")
    }
    return [
        (name, value) for name, value in lowered if name not in _HOP_BY_HOP and name not in named
    ]


def from_the_provider(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Return the headers of an answer that are true of the proxy, too."""
    return [pair for pair in end_to_end(headers) if pair[0] not in _OF_ITS_MACHINE]


def of_an_answer(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Return what may be told to every caller of a merged batch: rate limits, request ids."""
    return [
        (name, value)
        for name, value in from_the_provider(headers)
        if name not in _OF_THE_BODY and name not in _NOT_FOR_OTHERS
    ]


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the first value of a header; b"" where there is none."""
    return next((value for found, value in headers if found == name), b"")
