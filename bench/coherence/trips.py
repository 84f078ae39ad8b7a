"""What misses and writes cost beside redis-py's own GET and SET, and how often they travel."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import redis

from bench.machine import log, one_core, other_core
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_VALUE = "a value of one hundred characters " * 3
_AT_ONCE = 1000
_LATE = 0.2  # seconds that every reply is late where round trips are counted


def measure(report: Report, *, quick: bool) -> None:
    """Race single misses and writes with redis-py's, then count the trips of a thousand."""
    _race(report, 400 if quick else 6000)
    _count(report)


def _race(report: Report, count: int) -> None:
    from nearcache import NearCache, RedisStore
    from servers import Server

    log("coherence: misses and writes")
    keys = [f"key {number}" for number in range(count)]
    with ExitStack() as stack, one_core():
        server = stack.enter_context(Server())
        other_core(server.pid)
        store = stack.enter_context(_closing(RedisStore(server.url)))
        client = stack.enter_context(redis.Redis(port=server.port))
        filler = stack.enter_context(NearCache(store, namespace="m", ttl=None, max_entries=0))
        filler.put_batch(dict.fromkeys(keys, _VALUE))
        cache = stack.enter_context(NearCache(store, namespace="m", ttl=None))
        writer = stack.enter_context(NearCache(store, namespace="w", ttl=None))
        near = stack.enter_context(NearCache(None, namespace="n", ttl=None))
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.set(key, _VALUE)
            pipe.execute()
        for warm in (cache.get("none"), writer.put("warm", 1), near.get("none")):
            del warm
        ways: dict[str, Callable[[str], Any]] = {
            "redis-py GET": client.get,
            "nearcache, tracked miss": cache.get,
            "redis-py SET": lambda key: client.set(key, _VALUE),
            "nearcache put": lambda key: writer.put(key, _VALUE),
            "redis-py SET, then GET of 24 bytes": lambda key: (
                client.set(key, _VALUE),
                client.getrange(key, 0, 23),
            ),
        }
        taken = _in_turns(ways, keys)
        if cache.get_stats().far_hits < count:
            raise ArithmeticError("a miss was none")
    table = Table(
        f"One key through the store, {count} calls each, in turns, µs",
        ["", "median", "p90", "CPU (mean)"],
    )
    for name, (walls, cpu) in taken.items():
        ordered = sorted(walls)
        cells = [statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))], cpu / count]
        table.rows.append([name, *(1e6 * seconds for seconds in cells)])
    report.tables.append(table)
    at = {name: statistics.median(walls) for name, (walls, _) in taken.items()}
    ratio = at["nearcache, tracked miss"] / at["redis-py GET"]
    report.judged.append(Judged("tracked miss against redis-py's GET", 1.3, ratio))


def _in_turns(
    ways: dict[str, Callable[[str], Any]], keys: list[str]
) -> dict[str, tuple[list[float], float]]:
    """Time every way once per key; each key begins with another way."""
    walls: dict[str, list[float]] = {name: [] for name in ways}
    cpu = dict.fromkeys(ways, 0.0)
    names = list(ways)
    now, busy = time.perf_counter, time.thread_time
    for number, key in enumerate(keys):
        at = number % len(names)
        for name in (*names[at:], *names[:at]):
            way = ways[name]
            start, began = now(), busy()
            way(key)
            walls[name].append(now() - start)
            cpu[name] += busy() - began
    return {name: (walls[name], cpu[name]) for name in names}


def _count(report: Report) -> None:
    from nearcache import NearCache, Options, RedisStore
    from nearcache.testing.proxy import FaultProxy
    from servers import Server

    log("coherence: round trips")
    table = Table(
        f"{_AT_ONCE} keys at once",
        ["", "round trips", "commands the server ran", "bytes sent", "bytes received"],
    )
    trips = {}
    keys = [f"key {number}" for number in range(_AT_ONCE)]
    for what in ("get_batch, all in the store", "get_batch, none", "get_or_load_batch, none"):
        with ExitStack() as stack:
            server = stack.enter_context(Server())
            proxy = stack.enter_context(FaultProxy.of(server.url))
            store = stack.enter_context(_closing(RedisStore(proxy.url, timeout=20.0)))
            options = Options(link_timeout=20.0)
            cache = stack.enter_context(NearCache(store, namespace="t", ttl=None, options=options))
            if "all" in what:
                with NearCache(server.url, namespace="t", ttl=None, max_entries=0) as filler:
                    filler.put_batch(dict.fromkeys(keys, _VALUE))
            cache.get_batch(keys[:1] if "all" in what else ["another key"])
            cache.get_or_load_batch(["another"], lambda missing: dict.fromkeys(missing, 1))
            proxy.delay(to_client=_LATE)
            server.reset_counts()
            sent, received = proxy.bytes_to_server, proxy.bytes_to_client
            start = time.monotonic()
            if "load" in what:
                found = cache.get_or_load_batch(keys, lambda names: dict.fromkeys(names, _VALUE))
                found = list(found.values()) if isinstance(found, dict) else found
            else:
                found = cache.get_batch(keys)
            seconds = time.monotonic() - start
            counts = server.command_counts()
            cells = [proxy.bytes_to_server - sent, proxy.bytes_to_client - received]
            proxy.heal()
            if "all" in what and list(found) != [_VALUE] * _AT_ONCE:
                raise ArithmeticError(f"{what}: not what was put")
        for own in ("hello", "client", "ping"):
            counts = {name: n for name, n in counts.items() if not name.startswith(own)}
        trips[what] = int(seconds / _LATE)
        told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
        table.rows.append([what, trips[what], told, *cells])
    report.tables.append(table)
    worst = max(trips["get_batch, all in the store"], trips["get_batch, none"])
    report.judged.append(Judged("1000 misses at once", 4, worst, "round trips"))
    loads = trips["get_or_load_batch, none"]
    report.notes.append(
        f"Round trips are counted by a proxy that holds every reply back for {_LATE:g} s: a call "
        f"that takes {_LATE * 3:g} s and a little has travelled three times. Commands inside a "
        f"script are counted, too. get_or_load_batch loads all {_AT_ONCE} in chunks of `max_batch` "
        f"keys, looks, leases and commits ({loads} trips)."
    )


class _closing:
    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __enter__(self) -> Any:
        return self.thing

    def __exit__(self, *_: object) -> None:
        self.thing.close()
