"""Peers with a tracked near tier, set up as their documentation shows, behind the checker's faces.

None of them has a load that an invalidation cancels: ``load`` is what people write around them,
get, load, set. A reader's error is a miss, as in a program that goes on without its cache.
"""

import contextlib
import json
import pickle
from collections.abc import Callable
from typing import Any

from live.history.caches import Face, Held, Setting

__all__ = ["cashews", "cashews_resp2", "coredis", "redis_py"]

_TIMEOUT = 0.5
_PATIENT = 5.0


def _wire(setting: Setting, **options: Any) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options = {"socket_timeout": _PATIENT, "socket_connect_timeout": _PATIENT} | options
    return redis.Redis.from_url(setting.url, retry=Retry(NoBackoff(), 0), **options)


def redis_py(setting: Setting) -> Held:
    """redis-py's own client-side cache: RESP3, default-mode tracking."""
    import redis
    from redis.cache import CacheConfig, CacheEntry, CacheEntryStatus, CacheFactory, CacheProxy

    class Counting(CacheProxy):
        """The usual cache; a value that is kept was a miss."""

        def set(self, entry: CacheEntry) -> bool:
            counts[1] += entry.status == CacheEntryStatus.VALID
            return super().set(entry)

    counts = [0, 0]
    cache = Counting(CacheFactory(CacheConfig()).get_cache())
    client = _wire(setting, protocol=3, cache=cache, socket_timeout=_TIMEOUT)
    bare = _wire(setting)

    def read(name: str) -> Any:
        data = client.get(name)
        return None if data is None else json.loads(data)

    def get(name: str) -> Any:
        counts[0] += 1
        try:
            return read(name)
        except redis.RedisError:
            return None

    def load(name: str, loader: Callable[[], Any], _tags: tuple[str, ...]) -> Any:
        value = get(name)
        if value is None:
            value = loader()
            with contextlib.suppress(redis.RedisError):
                client.set(name, json.dumps(value))
        return value

    def put(name: str, value: Any, ttl: float | None, _tags: tuple[str, ...]) -> None:
        client.set(name, json.dumps(value), px=None if ttl is None else int(ttl * 1000))

    def plain(name: str) -> Any:
        data = bare.get(name)
        return None if data is None else json.loads(data)

    def close() -> None:
        client.close()
        bare.close()

    face = Face(get=get, load=load, put=put, invalidate=client.delete)
    return Held(
        threads=face,
        own_threads=face,
        plain=plain,
        close=close,
        hits=lambda: (max(0, counts[0] - counts[1]), counts[1]),
        errors=(redis.RedisError,),
    )


def cashews(setting: Setting) -> Held:
    """cashews with its client-side cache (BCAST), and redis-py's defaults of today."""
    return _cashews(setting)


def cashews_resp2(setting: Setting) -> Held:
    """The same, told to speak RESP2: the pushes it waits for come in that protocol only."""
    return _cashews(setting, protocol=2)


def _cashews(setting: Setting, **options: Any) -> Held:
    import redis
    from cashews import Cache

    prefix = "cashews:"
    cache = Cache()
    cache.setup(
        setting.url,
        client_side=True,
        client_side_prefix=prefix,
        client_side_listen_timeout=_PATIENT,
        socket_timeout=_TIMEOUT,
        suppress=False,
        **options,
    )
    bare = _wire(setting)

    async def get(name: str) -> Any:
        try:
            return await cache.get(name)
        except redis.RedisError:
            return None

    async def load(name: str, loader: Callable[[], Any], _tags: tuple[str, ...]) -> Any:
        value = await get(name)
        if value is None:
            value = await loader()
            with contextlib.suppress(redis.RedisError):
                await cache.set(name, value)
        return value

    async def put(name: str, value: Any, ttl: float | None, _tags: tuple[str, ...]) -> None:
        await cache.set(name, value, expire=ttl)

    def plain(name: str) -> Any:
        data = bare.get(prefix + name)
        return None if data is None else pickle.loads(data)

    face = Face(get=get, load=load, put=put, invalidate=cache.delete)
    return Held(
        tasks=face,
        own_tasks=face,
        plain=plain,
        open_tasks=cache.init,
        close_tasks=cache.close,
        close=bare.close,
        errors=(redis.RedisError, TimeoutError),
    )


def coredis(setting: Setting) -> Held:
    """coredis with its tracking cache (RESP3, a listener of its own per connection pool)."""
    import coredis as peer
    from coredis.patterns.cache import LRUCache

    cache = LRUCache()
    client = peer.Redis.from_url(
        setting.url, cache=cache, stream_timeout=_TIMEOUT, connect_timeout=_PATIENT
    )
    bare = _wire(setting)
    errors = (peer.exceptions.RedisError, OSError, TimeoutError)

    async def get(name: str) -> Any:
        try:
            data = await client.get(name)
        except errors:
            return None
        return None if data is None else json.loads(data)

    async def load(name: str, loader: Callable[[], Any], _tags: tuple[str, ...]) -> Any:
        value = await get(name)
        if value is None:
            value = await loader()
            with contextlib.suppress(errors):
                await client.set(name, json.dumps(value))
        return value

    async def put(name: str, value: Any, ttl: float | None, _tags: tuple[str, ...]) -> None:
        await client.set(name, json.dumps(value), px=None if ttl is None else int(ttl * 1000))

    async def invalidate(name: str) -> None:
        await client.delete([name])

    async def close_tasks() -> None:
        await client.__aexit__(None, None, None)

    def plain(name: str) -> Any:
        data = bare.get(name)
        return None if data is None else json.loads(data)

    def hits() -> tuple[int, int]:
        summary = cache.stats.summary
        return summary["hits"], summary["misses"]

    face = Face(get=get, load=load, put=put, invalidate=invalidate)
    return Held(
        tasks=face,
        own_tasks=face,
        plain=plain,
        open_tasks=client.__aenter__,
        close_tasks=close_tasks,
        close=bare.close,
        hits=hits,
        errors=errors,
    )
