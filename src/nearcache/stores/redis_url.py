"""From a URL to a pool of redis-py's connections that a cache can live with."""

from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nearcache.errors import ConfigError

__all__ = ["SCHEMES", "pool_of", "without_secrets"]

SCHEMES = {
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "unix": "unix",
}
_CONNECT_TIMEOUT = 1.0


def pool_of(url: str) -> "redis.ConnectionPool":
    """Return a pool for the server a URL names; it connects to nothing yet."""
    scheme, _, rest = url.partition("://")
    database = urlsplit(url).path.strip("/")
    if scheme.lower() != "unix" and database and not database.isdecimal():
        # redis-py would take database 0
        msg = f"the path of a Redis URL is the number of a database, not {database!r}"
        raise ConfigError(msg)
    try:
        pool: redis.ConnectionPool = redis.ConnectionPool.from_url(
            f"{SCHEMES[scheme.lower()]}://{rest}",
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_CONNECT_TIMEOUT,
            socket_connect_timeout=_CONNECT_TIMEOUT,
        )
        pool.connection_class(**pool.connection_kwargs)  # no I/O: refuses unknown options
    except (ValueError, TypeError) as error:
        msg = f"{without_secrets(url)}: {error}"
        raise ConfigError(msg) from error
    return pool


def without_secrets(url: str) -> str:
    """Return the URL without a user, a password or options."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
