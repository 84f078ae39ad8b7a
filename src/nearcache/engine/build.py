"""From what a user names a store by to a store."""

import math
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from nearcache.errors import ConfigError
from nearcache.options import Options
from nearcache.stores.base import Store

if TYPE_CHECKING:
    from nearcache.stores.sqlite import SQLiteStore

__all__ = ["open_store", "parse_bytes"]

_PLAIN = ("redis", "rediss", "valkey", "valkeys")
_CLUSTERS = tuple(scheme + "+cluster" for scheme in _PLAIN)
_SENTINELS = tuple(scheme + "+sentinel" for scheme in _PLAIN)
_REDIS_SCHEMES = (*_PLAIN, "unix", *_CLUSTERS, *_SENTINELS)

_PATIENT = 1.0  # seconds that a store may be held up before somebody gets an error
_UNITS = {
    unit + ending: base**power
    for power, unit in enumerate(["", "K", "M", "G", "T"])
    for ending, base in (("", 1000), ("B", 1000), ("IB", 1024))
}


def open_store(where: object, options: Options) -> tuple[Store | None, bool]:
    """Return the store and whether its maker is us, who then close it. Does no I/O."""
    if where is None:
        return None, False
    if isinstance(where, (str, os.PathLike)):
        return _from_url(os.fspath(where), options), True
    missing = [name for name in ("fetch", "fill", "forget", "changes") if not hasattr(where, name)]
    if missing:
        msg = f"store is None, a URL ({_forms()}) or a store object, not {type(where).__name__}"
        raise ConfigError(msg)
    return where, False  # type: ignore[return-value]


def _from_url(url: object, options: Options) -> Store:
    if not isinstance(url, str) or "://" not in url:
        # the URL is not repeated: it may hold a password
        msg = f"a store URL looks like sqlite:///embeddings.db; known schemes: {_forms()}"
        raise ConfigError(msg)
    scheme = url.partition("://")[0].lower()
    if scheme == "sqlite":
        return _sqlite(url, options)
    if scheme == "memory":
        _take(url, ())
        from nearcache.stores.memory import MemoryStore

        return MemoryStore()
    if scheme in _REDIS_SCHEMES:
        try:
            from nearcache.stores.redis.cluster import ClusterStore
            from nearcache.stores.redis.store import RedisStore
        except ImportError as error:
            msg = f"{scheme}:// needs redis-py: pip install 'nearcache[redis]'"
            raise ConfigError(msg) from error
        kind = ClusterStore if scheme in _CLUSTERS else RedisStore
        least = _PATIENT if options.on_store_error == "raise" else 0.0
        return kind(url, timeout=options.store_timeout, least=least)
    msg = f"unknown store scheme {scheme!r}; known: {_forms()}"
    raise ConfigError(msg)


def _sqlite(url: str, options: Options) -> "SQLiteStore":
    from nearcache.stores.sqlite import SQLiteStore  # a store is imported by whoever names it

    given = _take(url, ("max_bytes",))
    # three slashes and a relative path, four for an absolute one, as everywhere in Python
    path = unquote(url.partition("://")[2].partition("?")[0])
    if not path.startswith("/") or path == "/":
        msg = "an SQLite URL is sqlite:///relative.db or sqlite:////absolute.db"
        raise ConfigError(msg)
    if "max_bytes" in given:
        size = parse_bytes(given["max_bytes"])
        return SQLiteStore(path[1:], max_bytes=size, timeout=options.store_timeout)
    return SQLiteStore(path[1:], timeout=options.store_timeout)


def _take(url: str, known: tuple[str, ...]) -> dict[str, str]:
    given = dict(parse_qsl(url.partition("?")[2].partition("#")[0], keep_blank_values=True))
    for name in given:
        if name not in known:
            msg = f"unknown option {name!r} in a store URL; known: {', '.join(known) or 'none'}"
            raise ConfigError(msg)
    return given


def _forms() -> str:
    short = ("sqlite", "memory", *_PLAIN, "unix", "redis+cluster", "redis+sentinel")
    return ", ".join(f"{scheme}://" for scheme in short)


def parse_bytes(text: str) -> int:
    """Return the bytes of "2GB", "512 MiB" or "1000"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = match and _UNITS.get(match[2].upper())
    if not match or not unit:
        msg = f"a size looks like 2GB, 512MiB or 1000, not {text!r}"
        raise ConfigError(msg)
    size = float(match[1]) * unit
    if not math.isfinite(size):
        msg = "a size looks like 2GB, 512MiB or 1000, and is not beyond all bounds"
        raise ConfigError(msg)
    return int(size)
