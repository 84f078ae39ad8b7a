"""What 500 near entries of 300 bytes weigh in the process, measured and counted.

``python -m bench.memory.weight KIND URL HOW`` fills one cache in a process of its own and prints
what the process grew by: in resident memory, or in what Python allocated (tracemalloc).
"""

import json
import os
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from bench.machine import log
from bench.near.resident import _resident
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_FIRST, _ENTRIES, _BYTES = 100, 500, 300
_NEAR_ON, _NEAR_OFF, _HOT = (
    "short-term memory",
    "the same, local cache off",
    "hot memories, no store",
)
_KINDS = (_NEAR_ON, _NEAR_OFF, _HOT)
_HOW = ("resident", "allocated")
_GOAL = 0.5  # MB


def measure(report: Report, *, quick: bool) -> None:
    """Fill each kind in processes of its own, again and again; the middle counts."""
    from servers import Server

    log("memory: what near entries weigh")
    rounds = 1 if quick else 9
    grown: dict[tuple[str, str], list[float]] = {}
    counted: dict[str, float] = {}
    with Server() as server:
        for _ in range(rounds):
            for kind in _KINDS:
                for how in _HOW:
                    command = [sys.executable, "-m", "bench.memory.weight", kind, server.url, how]
                    told = subprocess.run(command, check=True, capture_output=True, text=True)
                    found = json.loads(told.stdout)
                    grown.setdefault((kind, how), []).append(found["grown"] / 1e6)
                    counted[kind] = found["counted"] / 1e6
    table = Table(
        f"{_ENTRIES} entries of {_BYTES} bytes: what the process grew by, {rounds} processes, MB",
        ["", "resident", "allocated by Python", "bytes_near says"],
    )
    middle = {at: statistics.median(values) for at, values in grown.items()}
    for kind in _KINDS:
        cells = [middle[kind, how] for how in _HOW]
        table.rows.append([kind, *cells, counted[kind]])
    near = {how: middle[_NEAR_ON, how] - middle[_NEAR_OFF, how] for how in _HOW}
    table.rows.append(["its near tier: the difference", *near.values(), counted[_NEAR_ON]])
    report.tables.append(table)
    for what, weight in (
        ("the near tier of short-term memory", max(near.values())),
        ("a hot cache without a store", max(middle[_HOT, how] for how in near)),
    ):
        goal = f"{what}, {_ENTRIES} entries of {_BYTES} bytes"
        report.judged.append(Judged(goal, _GOAL, weight, "MB"))
    report.notes.append(
        f"Weights: what a process grew by while {_ENTRIES} entries were put and read, after "
        f"{_FIRST} others (what an empty cache weighs is not counted). What the native core "
        "takes from the C library is resident, and not in what Python allocated. The larger of the "
        "two is judged."
    )


def _fill(kind: str, url: str, how: str) -> dict[str, Any]:
    cache, put, get = _made(kind, url)
    value = f"{{:0>{_BYTES}}}".format  # all of them different: nothing is shared

    def fill(numbers: range) -> None:
        for number in numbers:
            put(number, value(number))
        for _ in range(3):  # near, and they stay
            for number in numbers:
                get(number)

    fill(range(_FIRST))
    counted = cache.get_stats().bytes_near
    if how == "allocated":
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if how == "allocated" else _resident()
    fill(range(_FIRST, _FIRST + _ENTRIES))
    after = tracemalloc.get_traced_memory()[0] if how == "allocated" else _resident()
    stats = cache.get_stats()
    if stats.entries_near != (0 if kind == _NEAR_OFF else _FIRST + _ENTRIES):
        raise ArithmeticError(f"{kind} holds {stats.entries_near} entries near")
    cache.close()
    return {"grown": after - before, "counted": stats.bytes_near - counted}


def _made(kind: str, url: str) -> tuple[Any, Callable[[int, str], Any], Callable[[int], Any]]:
    from nearcache import AccessTier, AgentCredentials, HotMemoryCache, MemoryKey, ShortTermMemory

    if kind == _HOT:
        hot: HotMemoryCache[str] = HotMemoryCache(namespace="weight", ttl=None)

        def key(number: int) -> MemoryKey:
            return MemoryKey("episodic", str(number), "team")

        return hot, lambda n, value: hot.put(key(n), value), lambda n: hot.get(key(n))
    me = AgentCredentials("agent", AccessTier.CONTRIBUTOR)
    memory = ShortTermMemory(
        url,
        namespace=f"weight {os.getpid()}",
        local_cache_enabled=kind == _NEAR_ON,
        local_cache_size=_FIRST + _ENTRIES,
    )
    return (
        memory,
        lambda n, value: memory.stash(str(n), value, me),
        lambda n: memory.retrieve(str(n), me),
    )


if __name__ == "__main__":
    json.dump(_fill(*sys.argv[1:]), sys.stdout)
