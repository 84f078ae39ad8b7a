"""Who may look at a dashboard, by which names it is reached, and whether they may change things."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from nearcache.errors import ConfigError

__all__ = ["Access", "is_loopback"]

_LEAST = 16  # characters of a token
_TOKEN = re.compile(r"[!-~]+")
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_HERE = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a dashboard lets in.

    host: the address it listens on.
    token: what whoever looks must show; None lets in everybody who reaches the address, which
        only a loopback address allows.
    names: further names that it is reached by, as a reverse proxy's.
    writes: whether things may be forgotten.
    secure: whether it speaks TLS, so that its cookie never travels without.

    Raises: ConfigError for what would let in more than was meant.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    names: Sequence[str] = ()
    writes: bool = False
    secure: bool = False

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"on {self.host} others than you could look: give a token of {_LEAST} characters "
                "or more, e.g. from `openssl rand -hex 16`, or listen on 127.0.0.1"
            )
        if self.token is not None and (
            len(self.token) < _LEAST or not _TOKEN.fullmatch(self.token)
        ):
            raise ConfigError(
                f"a token has {_LEAST} printable characters or more and no spaces: "
                "`openssl rand -hex 16` makes one"
            )
        for name in self.names:
            if not _NAME.fullmatch(name.lower()):
                raise ConfigError(f"{name!r} is no name of a host; give it without port or path")

    def knows(self, host: str) -> bool:
        """Say whether a request's Host header is a name of ours.

        A page elsewhere whose name was made to lead here (DNS rebinding) comes by its own name.
        """
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = found[1].strip("[]")
        if name in _HERE or name in map(str.lower, (self.host, *self.names)):
            return True
        return _is_any(self.host) and _is_address(name)

    def admits(self, token: str) -> bool:
        """Say whether a token is ours, in a time that says nothing about it."""
        return self.token is not None and hmac.compare_digest(
            _digest("token", token), _digest("token", self.token)
        )

    @property
    def cookie(self) -> tuple[str, str]:
        """The name and the value of the cookie of who has shown the token.

        The name is another for every token: dashboards on other ports of a host have others.
        """
        assert self.token is not None
        return (
            f"nearcache-ui-{_digest('name', self.token).hex()[:8]}",
            _digest("cookie", self.token).hex(),
        )

    def remembers(self, cookies: dict[str, str]) -> bool:
        """Say whether who sends these has shown the token."""
        name, value = self.cookie
        return hmac.compare_digest(cookies.get(name, "").encode(), value.encode())

    @classmethod
    def here(cls) -> Self:
        """Return the usual: whoever is on this machine may look."""
        return cls()


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_any(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def _digest(purpose: str, token: str) -> bytes:
    text = f"nearcache dashboard {purpose}".encode()
    return hmac.new(token.encode("utf-8", "surrogatepass"), text, hashlib.sha256).digest()
