"""What tracked keys weigh on the server: a prefix that is broadcast, and a table of keys."""

from contextlib import ExitStack
from typing import Any

import redis

from bench.machine import log
from bench.report import Report, Table

__all__ = ["measure"]

_CLIENTS = 4
_BATCH = 500
_VALUE = "a value of one hundred characters " * 3


def measure(report: Report, *, quick: bool) -> None:
    """Let four clients hold the same keys near, and see what the server has grown by."""
    from servers import KINDS, Server

    count = 1000 if quick else 10_000
    keys = [f"key {number}" for number in range(count)]
    table = Table(
        f"Server memory for {count:,} keys that {_CLIENTS} clients hold near",
        ["server", "client", "bytes", "bytes per key and client", "tracked keys", "prefixes"],
    )
    for kind in KINDS:
        log(f"coherence: server memory on {kind}")
        for name, hold in _WAYS.items():
            if name.startswith("redis-py") and kind != "redis-8.2":
                continue  # it refuses every server that reports an older Redis than 7.4
            with Server(kind) as server, ExitStack() as stack:
                with server.client() as client, ExitStack() as others:
                    hold(server.url, keys, others, fill=True)
                    for _ in range(2):  # what the first client costs, whatever it holds
                        client.info("everything")
                    before = client.info("memory")["used_memory"]
                    hold(server.url, keys, stack, fill=False)
                    after = client.info("everything")
                grown = after["used_memory"] - before
                table.rows.append(
                    [
                        kind,
                        name,
                        grown,
                        grown / count / _CLIENTS,
                        after.get("tracking_total_keys", 0),
                        after.get("tracking_total_prefixes", 0),
                    ]
                )
    report.tables.append(table)
    report.notes.append(
        "Server memory: `used_memory` after four clients have read all keys, less before they "
        "connected, so connections and their buffers are in it. nearcache has a prefix broadcast, "
        "which costs the server nothing per key; the others have it remember who read what. "
        "redis-py's cache works with servers that report Redis 7.4 or later."
    )


def _nearcache(url: str, keys: list[str], stack: ExitStack, *, fill: bool) -> None:
    from nearcache import NearCache, RedisStore

    for _ in range(1 if fill else _CLIENTS):
        store = RedisStore(url)
        stack.callback(store.close)
        entries = 0 if fill else 2 * len(keys)
        cache = NearCache(store, namespace="m", ttl=None, max_entries=entries)
        stack.enter_context(cache)
        for start in range(0, len(keys), _BATCH):
            chunk = keys[start : start + _BATCH]
            if fill:
                cache.put_batch(dict.fromkeys(chunk, _VALUE))
            elif cache.get_batch(chunk) != [_VALUE] * len(chunk):
                raise ArithmeticError("not what was put")


def _table_mode(url: str, keys: list[str], stack: ExitStack, *, fill: bool) -> None:
    for _ in range(1 if fill else _CLIENTS):
        client = redis.Redis.from_url(url, protocol=3, single_connection_client=True)
        stack.enter_context(client)
        if fill:
            _set_all(client, keys)
            continue
        client.execute_command("CLIENT", "TRACKING", "ON")
        for start in range(0, len(keys), _BATCH):
            client.mget(keys[start : start + _BATCH])


def _redis_py(url: str, keys: list[str], stack: ExitStack, *, fill: bool) -> None:
    from redis.cache import CacheConfig

    for _ in range(1 if fill else _CLIENTS):
        config: Any = {"cache_config": CacheConfig(max_size=2 * len(keys))}
        client = redis.Redis.from_url(url, protocol=3, **({} if fill else config))
        stack.enter_context(client)
        if fill:
            _set_all(client, keys)
            continue
        for key in keys:
            client.get(key)


def _set_all(client: redis.Redis, keys: list[str]) -> None:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.set(key, _VALUE)
        pipe.execute()


_WAYS = {
    "nearcache (broadcast of a prefix)": _nearcache,
    "raw, default mode (MGET on tracked connections)": _table_mode,
    "redis-py's client-side cache": _redis_py,
}
