"""The caches that can be checked, each behind the same faces, so that the checker knows none.

A cache is named ``module:function``, or by a key of ``KNOWN``. The function gets a :class:`Setting`
and returns a :class:`Held`, in every worker anew.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KNOWN", "Face", "Held", "Setting", "find", "nearcache", "none"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a cache is told: its server, and the bound that it will be judged by."""

    url: str
    namespace: str = "history"
    bound: float = 3.0
    lease: float = 2.0
    protection: str = ""


@dataclass(slots=True)
class Face:
    """What is called, as plain functions: what they return is to be awaited for all, or none.

    ``load(name, loader, tags)``; ``put(name, value, ttl, tags)``; ``through`` and ``load_through``
    read what the store holds now, whatever is near. None: the cache has no such thing.
    """

    get: Callable[..., Any]
    load: Callable[..., Any]
    put: Callable[..., Any]
    invalidate: Callable[..., Any]
    many: Callable[..., Any] | None = None
    through: Callable[..., Any] | None = None
    load_through: Callable[..., Any] | None = None
    bump: Callable[..., Any] | None = None
    clear: Callable[..., Any] | None = None


@dataclass(slots=True)
class Held:
    """One process's cache: for threads, for event loops, or both.

    ``own``: faces whose writes raise when they fail, and whose reads must see them at once.
    ``other``: faces of the cache that is cleared as a whole. ``plain(name)`` asks the store and
    nothing near. ``hits()``: reads answered near, reads answered otherwise. ``inspect(name)``: what
    to say of a near copy that is wrong. ``open_tasks``: for faces that live in one loop.
    """

    threads: Face | None = None
    tasks: Face | None = None
    own_threads: Face | None = None
    own_tasks: Face | None = None
    other_threads: Face | None = None
    other_tasks: Face | None = None
    plain: Callable[[str], Any] | None = None
    other_plain: Callable[[str], Any] | None = None
    open_tasks: Callable[[], Any] | None = None
    close_tasks: Callable[[], Any] | None = None
    close: Callable[[], Any] = lambda: None
    hits: Callable[[], tuple[int, int]] = lambda: (0, 0)
    errors: tuple[type[Exception], ...] = (Exception,)
    inspect: Callable[[str], object] = lambda _name: ""
    notes: list[str] = field(default_factory=list)


def nearcache(setting: Setting) -> Held:
    """nearcache: one store, three caches on it, both faces of each."""
    from live.history.unprotected import switch_off
    from nearcache import NearCache, Options, StoreError
    from nearcache.engine.build import open_store

    if setting.protection:
        switch_off(setting.protection)

    def opened() -> Any:
        return open_store(setting.url, Options())[0]

    store, bare = opened(), opened()

    def cache(on: Any = store, namespace: str = setting.namespace, **options: Any) -> Any:
        entries = options.pop("max_entries", 10_000)
        return NearCache(
            on,
            namespace=namespace,
            ttl=None,
            max_entries=entries,
            options=Options(link_timeout=setting.bound, lease=setting.lease, **options),
        )

    readers, own = cache(), cache(on_store_error="raise")
    other = cache(namespace=setting.namespace + "-other", on_store_error="raise")
    plain = cache(bare, max_entries=0, on_store_error="raise")
    other_plain = cache(bare, setting.namespace + "-other", max_entries=0, on_store_error="raise")
    caches = (readers, own, other, plain, other_plain)
    twins = [each.as_async() for each in (readers, own, other)]

    def close() -> None:
        for each in caches:
            each.close()
        store.close()
        bare.close()

    def hits() -> tuple[int, int]:
        found = [each.get_stats() for each in (readers, own, other)]
        near = sum(stats.near_hits for stats in found)
        return near, sum(stats.far_hits + stats.misses for stats in found)

    pairs = zip((readers, own, other), twins, strict=True)
    return Held(
        *(_nearcache_face(face) for pair in pairs for face in pair),
        plain=lambda name: plain.get(name, max_staleness=0),
        other_plain=lambda name: other_plain.get(name, max_staleness=0),
        close=close,
        hits=hits,
        inspect=lambda name: f"link {twins[0].link}, {readers.admin.inspect(name)}",
        errors=(StoreError,),
    )


def _nearcache_face(cache: Any) -> Face:
    """Either face's: what an asynchronous one returns is awaited by the caller."""
    return Face(
        get=cache.get,
        load=lambda name, loader, tags: (
            cache.get_or_load(name, loader, tags=tags) if tags else cache.get_or_load(name, loader)
        ),
        put=lambda name, value, ttl, tags: cache.put(name, value, ttl=ttl, tags=tags),
        invalidate=cache.invalidate,
        many=cache.get_batch,
        through=lambda name: cache.get(name, max_staleness=0),
        load_through=lambda name, loader, tags: cache.get_or_load(
            name, loader, tags=tags, max_staleness=0
        ),
        bump=cache.invalidate_by_tag,
        clear=cache.clear,
    )


# Stand-ins, to check the checker: no near tier (never stale), and a dictionary in front (always)


def none(setting: Setting) -> Held:
    """redis-py and nothing near. A load that an invalidation overtakes is stored by nobody."""
    return _plain(setting, near=0.0)


def naive(setting: Setting) -> Held:
    """redis-py behind a dictionary whose entries live 10 seconds, as people write it by hand."""
    return _plain(setting, near=10.0)


def _plain(setting: Setting, near: float) -> Held:
    import json

    import redis
    import redis.backoff
    import redis.retry

    def client(timeout: float) -> Any:
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return redis.Redis.from_url(
            setting.url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=never
        )

    wire, patient = client(0.5), client(5.0)
    held: dict[str, tuple[Any, float]] = {}
    counts = [0, 0]

    def ask(name: str, *, patiently: bool = False) -> Any:
        data = (patient if patiently else wire).get(f"plain:{name}")
        return None if data is None else json.loads(data)

    def through(name: str) -> Any:
        try:
            return ask(name)
        except redis.RedisError:
            return None

    def get(name: str) -> Any:
        value, until = held.get(name, (None, 0.0))
        if until > time.monotonic():
            counts[0] += 1
            return list(value) if isinstance(value, list) else value
        counts[1] += 1
        value = through(name)
        if near and value is not None:
            held[name] = value, time.monotonic() + near
            return list(value) if isinstance(value, list) else value
        return value

    def load(name: str, loader: Callable[[], Any], _tags: tuple[str, ...]) -> Any:
        value = get(name) if near else None
        if value is None:
            value = loader()
            if near:
                held[name] = value, time.monotonic() + near
                return list(value) if isinstance(value, list) else value
        return value

    def put(name: str, value: Any, ttl: float | None, _tags: tuple[str, ...]) -> None:
        held.pop(name, None)
        px = None if ttl is None else int(ttl * 1000)
        patient.set(f"plain:{name}", json.dumps(value), px=px)
        held.pop(name, None)

    def invalidate(name: str) -> None:
        patient.delete(f"plain:{name}")
        held.pop(name, None)

    def close() -> None:
        wire.close()
        patient.close()

    face = Face(get=get, load=load, put=put, invalidate=invalidate)
    return Held(
        threads=face,
        own_threads=face,
        plain=lambda name: ask(name, patiently=True),
        close=close,
        hits=lambda: (counts[0], counts[1]),
        errors=(redis.RedisError,),
    )


KNOWN: dict[str, Callable[[Setting], Held]] = {
    "nearcache": nearcache,
    "none": none,
    "naive": naive,
}


def find(name: str) -> Callable[[Setting], Held]:
    """Return the function that makes the cache of this name."""
    if name in KNOWN:
        return KNOWN[name]
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
