"""From a URL to a pool of redis-py's connections that a cache can live with."""

from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from nearcache.errors import ConfigError

__all__ = [
    "CLUSTER",
    "SCHEMES",
    "SENTINEL",
    "ManyHosts",
    "is_limited",
    "is_scarce",
    "pool_like",
    "pool_of",
    "without_secrets",
]

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

_PLAIN = (redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection)
# of a pool's settings: what belongs to it alone, and what may not be in its place
_THEIR_OWN = (
    "maint_notifications",
    "himport_",
    "orig_",
    "retry",
    "legacy_",
    "parser_class",
    "connection_pool",
)
_POOLS = (redis.ConnectionPool, redis.BlockingConnectionPool)
_TURN = 1.0  # seconds that a caller waits for a connection of a pool that has no more


def pool_of(url: str) -> "redis.ConnectionPool":
    """Return a pool for the server, or the sentinels' service, a URL names; it connects to nothing.

    A connection waits for ever, but for what the URL says itself: how long to wait is a node's
    business (``node``).
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


def pool_like(pool: "redis.ConnectionPool") -> "redis.ConnectionPool | None":
    """Return a pool of ours for the server of a user's, as large; None for one of an unknown kind.

    redis-py tries again and again, with pauses, what failed; and waits five seconds each time, or
    for ever.
    """
    theirs = pool.connection_kwargs
    kept = {name: theirs[name] for name in theirs if not name.startswith(_THEIR_OWN)}
    settings: dict[str, Any] = {**kept, **_settings()}
    if is_limited(pool):
        settings["max_connections"] = pool.max_connections
    if type(pool) is SentinelConnectionPool and pool.is_master:
        manager = pool.sentinel_manager
        if type(manager) not in (Sentinel, _Sentinels):
            return None
        asked = [_of_sentinel(client.connection_pool) for client in manager.sentinels]
        sentinels = _Sentinels([], min_other_sentinels=manager.min_other_sentinels)  # type: ignore[no-untyped-call]
        sentinels.forced_ip = getattr(manager, "_force_master_ip", None)
        sentinels.sentinels = [redis.Redis(connection_pool=one) for one in asked]
        return SentinelConnectionPool(  # type: ignore[no-untyped-call]
            pool.service_name, sentinels, connection_class=pool.connection_class, **settings
        )
    if type(pool) not in _POOLS or pool.connection_class not in _PLAIN:
        return None
    if not is_limited(pool):
        return redis.ConnectionPool(connection_class=pool.connection_class, **settings)
    return redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
        connection_class=pool.connection_class, timeout=_TURN, **settings
    )


def _of_sentinel(pool: "redis.ConnectionPool") -> "redis.ConnectionPool":
    theirs = pool.connection_kwargs
    kept = {name: theirs[name] for name in theirs if not name.startswith(_THEIR_OWN)}
    waits = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _SENTINEL_TIMEOUT)
    settings: dict[str, Any] = {**kept, **_settings(), **waits}
    return redis.ConnectionPool(connection_class=pool.connection_class, **settings)


def is_limited(pool: "redis.ConnectionPool") -> bool:
    """Say whether a pool has fewer connections than there may be callers."""
    return pool.max_connections < redis.ConnectionPool().max_connections or isinstance(
        pool, redis.BlockingConnectionPool
    )


def is_scarce(pool: "redis.ConnectionPool") -> bool:
    """Say whether a caller may be refused a connection because somebody else has it."""
    return is_limited(pool) and not isinstance(pool, redis.BlockingConnectionPool)


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
        sentinel.pop("socket_read_size")  # redis-py knows it there since version 8 only
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
    """Sentinels that several threads may ask at once, and that may hang.

    redis-py asks one after the other however long each says nothing, and puts the one that answered
    first by swapping two items of a list: of two threads that do it at once one may lose an item,
    and that Sentinel is never asked again. Here one silence is enough, and who was silent is asked
    last from then on.
    """

    forced_ip: str | None = None

    def discover_master(self, service_name: str) -> Any:
        """Return the primary's address, as the first Sentinel that knows it says."""
        silent, end = list[Any](), monotonic() + _SENTINEL_TIMEOUT
        error: Exception = MasterNotFoundError(f"No master found for {service_name!r}")
        for sentinel in list(self.sentinels):
            try:
                masters: Any = sentinel.sentinel_masters()
            except (redis.ConnectionError, redis.TimeoutError) as failure:
                silent.append(sentinel)
                error = failure
                if monotonic() >= end:
                    break
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                self._ask_last(silent)
                return self.forced_ip or state["ip"], state["port"]
        self._ask_last(silent)
        raise error

    def _ask_last(self, silent: list[Any]) -> None:
        if silent:
            self.sentinels = [s for s in self.sentinels if s not in silent] + silent


def _parsed(url: str, options: list[tuple[str, str]]) -> dict[str, object]:
    parse: Any = parse_url
    settings: dict[str, object] = parse(f"{url}?{urlencode(options)}" if options else url)
    return settings
