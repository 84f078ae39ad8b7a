"""What a caching proxy is told when it starts, checked before it does anything."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from nearcache.dashboard.access import Access
from nearcache.errors import ConfigError
from nearcache.metrics.prices import Prices
from nearcache.options import check_count, check_ttl
from nearcache.proxy.headers import is_credential

__all__ = ["Settings"]

_MEBIBYTE = 2**20
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one proxy works.

    upstream: the provider's base URL, with or without ``/v1``.
    store: URL of a store; None keeps vectors in this process only.
    share: all callers whose keys the provider accepts share one partition.
    api_keys: file of the proxy's own keys; callers are known by these then, and the provider is
        asked with ``upstream_key``.
    verify_ttl: seconds for which the provider's acceptance of a caller's key is good.
    secret_file: file of the secret that partitions are named with; made if it is not there.
    ttl: seconds a vector is kept; None keeps it until it is evicted.
    max_body: bytes of a request for embeddings; what is larger is refused.
    max_batch: inputs that are merged into one request to the provider. One caller's request is
        never split.
    gather: seconds within which the next caller must come for a batch to wait for it.
    timeout: seconds without a byte from the provider after which it is given up.
    ignore_headers: request headers that do not change a vector, beside those we know.
    only_embeddings: nothing but requests for embeddings, and for the list of models, is passed on.
    ui: who may look at the dashboard at ``/ui``; None for no dashboard.
    prices: what vectors cost to load, for the dashboard to show what was saved in money.

    Raises: ConfigError.
    """

    upstream: str
    store: str | None = None
    namespace: str = "proxy"
    share: bool = False
    api_keys: Path | None = None
    upstream_key: str | None = field(default=None, repr=False)
    verify_ttl: float = 300.0
    secret_file: Path | None = None
    ttl: float | None = None
    max_entries: int = 100_000
    max_bytes: int = 256 * _MEBIBYTE
    max_body: int = 64 * _MEBIBYTE
    max_batch: int = 256
    gather: float = 0.002
    timeout: float = 600.0
    ignore_headers: Sequence[str] = ()
    only_embeddings: bool = False
    ui: Access | None = None
    prices: Prices | None = None

    def __post_init__(self) -> None:
        _check_upstream(self.upstream)
        if check_ttl(self.ttl) == 0:
            raise ConfigError("ttl=0 would keep nothing; give seconds, or None for no limit")
        for name, least in (
            ("max_entries", 0),
            ("max_bytes", 0),
            ("max_body", 1024),
            ("max_batch", 1),
        ):
            check_count(name, getattr(self, name), least=least)
        for name, least_seconds in (("verify_ttl", 1.0), ("gather", 0.0), ("timeout", 0.1)):
            _check_seconds(name, getattr(self, name), least_seconds)
        for header in self.ignore_headers:
            if not _HEADER.fullmatch(header):
                raise ConfigError(f"{header!r} is no name of a header")
            if header.lower() != "cookie" and is_credential(header.lower().encode("ascii")):
                raise ConfigError(f"{header} says who asks, so it is never ignored")
        if self.upstream_key is not None and not self.upstream_key.strip().isprintable():
            raise ConfigError("the upstream's key holds characters that no header may hold")
        if self.upstream_key is not None and self.api_keys is None:
            raise ConfigError(
                "with an upstream key of its own the proxy would let everybody in: give --api-keys "
                "with the keys of those who may use it, or unset NEARCACHE_UPSTREAM_KEY"
            )

    @property
    def ignored(self) -> frozenset[bytes]:
        """The headers to ignore, as ASGI has them."""
        return frozenset(header.lower().encode("ascii") for header in self.ignore_headers)


def _check_upstream(url: str) -> None:
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    if not port_is_good or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "upstream is the provider's base URL, as https://api.openai.com/v1; "
            f"{_without_login(url)!r} is none"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError("upstream holds a user name: callers bring their own keys")
    if parts.query or parts.fragment:
        raise ConfigError("upstream has no query: callers bring theirs")


def _without_login(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _check_seconds(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{name} is seconds, at least {least:g}, not {value!r}")
    if not math.isfinite(value) or value < least:
        raise ConfigError(f"{name} is seconds, at least {least:g}, not {value!r}")
