"""What tracked keys weigh on the server: a prefix that is broadcast, and a table of keys."""

import time
from collections.abc import Callable
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
        [
            "server",
            "client",
            "bytes per key and client",
            "bytes per client that holds one key",
            "keys in the server's table",
            "prefixes",
        ],
    )
    for kind in KINDS:
        log(f"coherence: server memory on {kind}")
        for name, way in _WAYS.items():
            if name.startswith("redis-py") and kind != "redis-8.2":
                continue  # it refuses every server that reports an older Redis than 7.4
            with Server(kind) as server, ExitStack() as stack:
                client = stack.enter_context(server.client())
                fill, readers = way(server.url, len(keys), stack)
                fill(keys)
                empty = _settled(client)
                for reader in readers:
                    reader(keys[:1])
                one = _settled(client)
                for reader in readers:
                    for start in range(1, len(keys), _BATCH):
                        reader(keys[start : start + _BATCH])
                full = _settled(client)
                stats = client.info("stats")
                row = [(full - one) / (count - 1) / _CLIENTS, (one - empty) / _CLIENTS]
                row.append(stats.get("tracking_total_keys", 0))
                table.rows.append([kind, name, *row, stats.get("tracking_total_prefixes", 0)])
    report.tables.append(table)
    report.notes.append(
        "Server memory: the growth of `used_memory` from four clients that have read one key each "
        "to the same four that have read all. nearcache has a prefix broadcast, which costs the "
        "server nothing per key; the others have it remember who read what. redis-py's cache works "
        "with servers that report Redis 7.4 or later."
    )


def _settled(client: redis.Redis) -> int:
    """Return the memory in use once the server has given back the buffers of connections."""
    used = []
    for _ in range(40):
        used.append(client.info("memory")["used_memory"])
        if len(used) > 8 and max(used[-8:]) - min(used[-8:]) < 2048:
            break
        time.sleep(0.25)
    return min(used[-8:])


_Way = tuple[Callable[[list[str]], object], list[Callable[[list[str]], object]]]


def _nearcache(url: str, count: int, stack: ExitStack) -> _Way:
    from nearcache import NearCache, RedisStore

    def cache(entries: int) -> Any:
        store = RedisStore(url)
        stack.callback(store.close)
        made = NearCache(store, namespace="m", ttl=None, max_entries=entries)
        return stack.enter_context(made)

    filler = cache(0)

    def fill(keys: list[str]) -> None:
        for start in range(0, len(keys), _BATCH):
            filler.put_batch(dict.fromkeys(keys[start : start + _BATCH], _VALUE))

    return fill, [cache(2 * count).get_batch for _ in range(_CLIENTS)]


def _table_mode(url: str, _count: int, stack: ExitStack) -> _Way:
    clients = [
        redis.Redis.from_url(url, protocol=3, single_connection_client=True)
        for _ in range(_CLIENTS)
    ]
    for client in clients:
        stack.enter_context(client)
        client.execute_command("CLIENT", "TRACKING", "ON")
    return _filler(url, stack), [client.mget for client in clients]


def _redis_py(url: str, count: int, stack: ExitStack) -> _Way:
    from redis.cache import CacheConfig

    def reader() -> Callable[[list[str]], object]:
        config: Any = CacheConfig(max_size=2 * count)
        client = stack.enter_context(redis.Redis.from_url(url, protocol=3, cache_config=config))
        return lambda keys: [client.get(key) for key in keys]

    return _filler(url, stack), [reader() for _ in range(_CLIENTS)]


def _filler(url: str, stack: ExitStack) -> Callable[[list[str]], object]:
    client = stack.enter_context(redis.Redis.from_url(url))

    def fill(keys: list[str]) -> None:
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.set(key, _VALUE)
            pipe.execute()

    return fill


_WAYS = {
    "nearcache (broadcast of a prefix)": _nearcache,
    "raw, default mode (MGET on tracked connections)": _table_mode,
    "redis-py's client-side cache": _redis_py,
}
