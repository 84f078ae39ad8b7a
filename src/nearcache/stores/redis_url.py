"""From a URL to a pool of redis-py's connections that a cache can live with."""

from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from nearcache.errors import ConfigError

__all__ = ["CLUSTER", "SCHEMES", "SENTINEL", "ManyHosts", "pool_of", "without_secrets"]

SCHEMES = {
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "unix": "unix",
}
CLUSTER, SENTINEL = "+cluster", "+sentinel"
_PORTS = {CLUSTER: 6379, SENTINEL: 26379}
_OF_SENTINELS = "sentinel_"  # options of the connections to sentinels begin so
_SENTINEL_TIMEOUT = 0.2  # sentinels are asked one after the other, and each knows the answer

Address = tuple[str, int]


def pool_of(url: str) -> "redis.ConnectionPool":
    """Return a pool for the server, or the sentinels' service, a URL names; it connects to nothing.

    A connection waits for ever, but for what the URL says itself: how long to wait is a node's
    business (``redis_node``).
    """
    if url.partition("://")[0].lower().endswith(SENTINEL):
        return _sentinel_pool(ManyHosts.of(url))
    scheme, _, rest = url.partition("://")
    database = _split(url).path.strip("/")
    if scheme.lower() != "unix" and database and not database.isdecimal():
        # redis-py would take database 0; what is there may be half a password
        msg = "the path of a Redis URL is the number of a database; in a password / is written %2F"
        raise ConfigError(msg)
    try:
        pool: redis.ConnectionPool = redis.ConnectionPool.from_url(
            f"{SCHEMES[scheme.lower()]}://{rest}", **_settings()
        )
        pool.connection_class(**pool.connection_kwargs)  # no I/O: refuses unknown options
    except (ValueError, TypeError, redis.RedisError) as error:
        raise _refused(url, error) from None
    return pool


def _split(url: str) -> SplitResult:
    """Split a URL; what the standard library says of one that is none may hold the password."""
    try:
        return urlsplit(url)
    except ValueError:
        msg = f"{without_secrets(url)} is no URL: is there a bracket, or a letter like a slash?"
        raise ConfigError(msg) from None


def _settings() -> dict[str, object]:
    return {
        "protocol": 2,
        "socket_read_size": 262_144,
        "max_connections": 2**31,  # redis-py 8 would refuse the hundred and first thread
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": None,
    }


def _refused(url: str, error: Exception) -> ConfigError:
    """Return the error for a URL; what is said of it may repeat the password in it."""
    shown = without_secrets(url)
    said = str(error)
    secret = url.partition("://")[2].rpartition("@")[0]
    if secret and any(part in said for part in secret.split(":") if part):
        said = "it is no URL"
    return ConfigError(f"{shown}: {said}")


def without_secrets(url: str) -> str:
    """Return the URL without a user, a password or options."""
    scheme, _, rest = url.partition("://")
    where, _, options = rest.partition("?")
    if "@" in options:  # a password with a ? in it, or one among the options: who knows
        return f"{scheme}://…"
    return f"{scheme}://{where.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class ManyHosts:
    """A URL with several hosts: ``redis+cluster://user:password@h1:p1,h2:p2?option=…``.

    kind: CLUSTER or SENTINEL. path: without the slash before it.
    """

    scheme: str
    kind: str
    login: str
    nodes: tuple[Address, ...]
    path: str
    query: str

    @classmethod
    def of(cls, url: str) -> "ManyHosts":
        """Read a URL; ConfigError if it is none."""
        name, _, rest = url.partition("://")
        kind = CLUSTER if name.lower().endswith(CLUSTER) else SENTINEL
        scheme = SCHEMES.get(name.lower().removesuffix(kind), "")
        rest, _, query = rest.partition("?")
        where, _, path = rest.partition("/")
        login, at, hosts = where.rpartition("@")
        try:
            nodes = tuple(_address(host, _PORTS[kind]) for host in hosts.split(","))
        except ValueError as error:
            raise _refused(url, error) from None
        made = cls(scheme, kind, login + at, nodes, path.strip("/"), query)
        if kind == CLUSTER and made.path not in ("", "0"):
            msg = f"{without_secrets(url)}: a cluster has database 0 alone; leave out the path"
            raise ConfigError(msg)
        return made

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme == "rediss"

    @property
    def address(self) -> str:
        """The URL without secrets."""
        hosts = ",".join(_shown(node) for node in self.nodes)
        return f"{self.scheme}{self.kind}://{hosts}" + (f"/{self.path}" if self.path else "")

    def of_node(self, node: Address) -> str:
        """Return the URL of one server, reached as all of them are."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.login}{_shown(node)}/0{query}"

    def shown_node(self, node: Address) -> str:
        """Return the URL of one server without secrets."""
        return f"{self.scheme}://{_shown(node)}"


def _shown(node: Address) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str, port: int) -> Address:
    split = urlsplit(f"//{text}")
    if not split.hostname or split.path:
        msg = "hosts look like h1:6379,h2:6379"
        raise ValueError(msg)
    return unquote(split.hostname), split.port or port


def _sentinel_pool(where: ManyHosts) -> SentinelConnectionPool:
    if "@" in where.path:
        msg = f"{where.scheme}{where.kind}://…: in a password / is written %2F"
        raise ConfigError(msg)
    service, _, database = where.path.partition("/")
    if not service or (database and not database.isdecimal()):
        msg = f"{where.address}: a sentinel URL ends with /service or /service/database"
        raise ConfigError(msg)
    options = parse_qsl(where.query, keep_blank_values=True)
    mine = [(name, value) for name, value in options if not name.startswith(_OF_SENTINELS)]
    theirs = [
        (name.removeprefix(_OF_SENTINELS), value)
        for name, value in options
        if name.startswith(_OF_SENTINELS)
    ]
    try:
        settings = _parsed(f"{where.scheme}://{where.login}x/{database or 0}", mine)
        sentinel = {
            **_settings(),
            "socket_timeout": _SENTINEL_TIMEOUT,
            "socket_connect_timeout": _SENTINEL_TIMEOUT,
            **_parsed("redis://x", theirs),
        }
        for name in ("host", "connection_class"):
            settings.pop(name, None)
            sentinel.pop(name, None)
        sentinels = _Sentinels(where.nodes, sentinel_kwargs=sentinel)  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            unquote(service), sentinels, ssl=where.is_tls, **{**_settings(), **settings}
        )
        pool.connection_class(**pool.connection_kwargs)  # no I/O: refuses unknown options
    except (ValueError, TypeError, redis.RedisError) as error:
        raise _refused(f"{where.scheme}{where.kind}://{where.login}x", error) from None
    return pool


class _Sentinels(Sentinel):
    """Sentinels that several threads may ask at once.

    redis-py puts the one that answered first by swapping two items of a list: of two threads that
    do it at once one may lose an item, and that Sentinel is never asked again.
    """

    def discover_master(self, service_name: str) -> Any:
        """Return the primary's address; work on a list of our own."""
        alone: Any = copy(self)
        alone.sentinels = list(self.sentinels)
        try:
            return Sentinel.discover_master(alone, service_name)  # type: ignore[no-untyped-call]
        finally:
            self.sentinels = alone.sentinels


def _parsed(url: str, options: list[tuple[str, str]]) -> dict[str, object]:
    parse: Any = parse_url
    settings: dict[str, object] = parse(f"{url}?{urlencode(options)}" if options else url)
    return settings
