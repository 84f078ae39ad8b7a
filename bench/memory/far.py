"""One value through Redis at loopback: get and put of each class beside redis-py's GET and SET."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import redis

from bench.machine import log, one_core, other_core
from bench.report import Judged, Report, Table

__all__ = ["in_turns", "measure"]

_VALUE = "a value of one hundred characters " * 3
_GET, _SET = "redis-py GET", "redis-py SET"


def measure(report: Report, *, quick: bool) -> None:
    """Race reads of what is not near and single writes with redis-py's own."""
    from servers import Server

    log("memory: get and put through Redis")
    count = 400 if quick else 6000
    numbers = list(range(count))
    with ExitStack() as stack, one_core():
        server = stack.enter_context(Server())
        other_core(server.pid)
        ways = _ways(server, numbers, stack)
        for way in ways.values():
            way(0)  # connected, and whatever is found out once is known
        taken = in_turns(ways, numbers[1:])
    table = Table(
        f"One value through Redis at loopback, {count} calls each, in turns, µs",
        ["", "median", "p90", "× redis-py"],
    )
    middle = {name: statistics.median(seconds) for name, seconds in taken.items()}
    for name, seconds in taken.items():
        ordered = sorted(seconds)
        ratio = middle[name] / middle[_SET if "put" in name or name == _SET else _GET]
        p90 = ordered[int(0.9 * (len(ordered) - 1))]
        table.rows.append([name, 1e6 * middle[name], 1e6 * p90, ratio])
        if name not in (_GET, _SET):
            report.judged.append(Judged(f"through Redis at loopback: {name}", 1.5, ratio))
    report.tables.append(table)
    report.notes.append(
        "Through Redis: each get reads what another cache wrote and what is not near here. A put "
        "is one script, which writes, and sees to it that no other process keeps the old value "
        "near and no load under way brings it back; redis-py's SET only writes."
    )


def _ways(server: Any, numbers: list[int], stack: ExitStack) -> dict[str, Callable[[int], Any]]:
    from nearcache import (
        AccessTier,
        AgentCredentials,
        HotMemoryCache,
        MemoryKey,
        NearCache,
        RedisStore,
        ShortTermMemory,
    )
    from nearcache.caches.listening import hearing

    me = AgentCredentials("agent", AccessTier.CONTRIBUTOR)
    client = stack.enter_context(redis.Redis(port=server.port))
    store = stack.enter_context(closing(RedisStore(server.url)))
    elsewhere = stack.enter_context(closing(RedisStore(server.url)))
    names = [f"key {number}" for number in numbers]
    memories = [MemoryKey("episodic", name, "team") for name in names]

    def made(kind: Any, namespace: str, at: Any = store, **arguments: Any) -> Any:
        return stack.enter_context(kind(at, namespace=namespace, **arguments))

    made(NearCache, "read", elsewhere).put_batch(dict.fromkeys(names, _VALUE), None)
    made(HotMemoryCache, "hot", elsewhere).put_batch(dict.fromkeys(memories, _VALUE), None)
    made(ShortTermMemory, "stm", elsewhere).stash_batch(dict.fromkeys(names, _VALUE), me)
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.set(name, _VALUE)
        pipe.execute()
    near, hot, stm = (
        made(NearCache, "read"),
        made(HotMemoryCache, "hot"),
        made(ShortTermMemory, "stm"),
    )
    to_near = made(NearCache, "write", ttl=None)
    to_hot = made(HotMemoryCache, "write hot", ttl=None)
    to_stm = made(ShortTermMemory, "write stm")
    for cache in (near, to_near, hot._cache, to_hot._cache, stm._cache, to_stm._cache):
        hearing(cache)
    return {
        _GET: lambda n: client.get(names[n]),
        "NearCache get": lambda n: near.get(names[n]),
        "HotMemoryCache get": lambda n: hot.get(memories[n]),
        "ShortTermMemory get (retrieve)": lambda n: stm.retrieve(names[n], me),
        _SET: lambda n: client.set(names[n], _VALUE),
        "NearCache put": lambda n: to_near.put(names[n], _VALUE),
        "HotMemoryCache put": lambda n: to_hot.put(memories[n], _VALUE),
        "ShortTermMemory put (stash)": lambda n: to_stm.stash(names[n], _VALUE, me),
    }


def in_turns(ways: dict[str, Callable[[Any], Any]], keys: list[Any]) -> dict[str, list[float]]:
    """Time every way once for each key; each key begins with another way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names, now = list(ways), time.perf_counter
    for number, key in enumerate(keys):
        at = number % len(names)
        for name in (*names[at:], *names[:at]):
            way = ways[name]
            start = now()
            way(key)
            taken[name].append(now() - start)
    return taken
