"""The seed's own benchmark with a real server: 100 writes, 2 × 100 reads, local cache on and off.

Its headline, 37,000 times faster, was computed for a mock. Here a server answers, as near as it can
be and behind a proxy that holds every answer back for the seed's 37 ms.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

from bench.machine import log, one_core, other_core
from bench.near.laps import Lap, calls, net, nothing, race_laps
from bench.report import Judged, Report, Table

__all__ = ["measure"]

FAR = 0.037  # seconds
_NEVER_LATE = 30.0  # seconds: no answer of this store is late, however far it is
_VALUE = {"result": "a value of one hundred characters " * 3, "score": 0.5}
_EMPTY = "the loop alone"
_PHASES = ("writes", "first reads", "second reads")
_OWN = ("hello", "client", "ping", "info", "config", "select")  # what a connection costs once


@dataclass
class _Run:
    """One way to run the seed's benchmark: what every phase took, and its commands."""

    batch: bool
    near: bool
    seconds: dict[str, list[float]] = field(default_factory=lambda: {p: [] for p in _PHASES})
    commands: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        writes = "writes at once (stash_batch)" if self.batch else "writes one by one"
        return f"{writes}, local cache {'on' if self.near else 'off'}"

    def median(self, *phases: str) -> float:
        """Return the middle time of phases together."""
        return statistics.median(map(sum, zip(*(self.seconds[p] for p in phases), strict=True)))


def measure(report: Report, *, quick: bool) -> None:
    """Run it at loopback and 37 ms away; then set a near hit against a read of the store."""
    from nearcache.testing import FaultProxy
    from servers import Server

    count, rounds = (10, 1) if quick else (100, 7)
    for where, late in (("at loopback", 0.0), (f"{1000 * FAR:g} ms away", FAR)):
        log(f"memory: the seed's benchmark, {where}")
        runs = [_Run(batch, near) for batch in (False, True) for near in (True, False)]
        with Server() as server, FaultProxy.of(server.url) as proxy:
            other_core(server.pid)
            for turn in range(rounds):
                for one in (*runs[turn % 4 :], *runs[: turn % 4]):
                    _play(one, server, proxy, late, count)
            report.tables.append(_table(runs, where, late, count, rounds))
            if late:
                _judge(report, runs)
                _near_against_far(report, proxy, late, quick=quick)
    report.notes.append(
        "The seed's benchmark: one agent stashes, then retrieves everything twice; the first reads "
        "with the local cache on find what the agent itself wrote near. A write waits for the "
        "server whatever is near: of single writes no near tier spares anything, and they bound "
        "what the whole benchmark can save. Round trips are the time over the delay of the proxy; "
        "commands are the server's own count (INFO commandstats), those of new connections left "
        "out, those inside a script counted."
    )


def _play(run: _Run, server: Any, proxy: Any, late: float, count: int) -> None:
    from nearcache import AccessTier, AgentCredentials, Options, RedisStore, ShortTermMemory
    from nearcache.caches.listening import hearing

    me = AgentCredentials("agent", AccessTier.CONTRIBUTOR)
    keys = [f"key {number}" for number in range(count)]
    proxy.heal()
    server.flush()
    options = Options(link_timeout=_NEVER_LATE)
    with (
        closing(RedisStore(proxy.url, timeout=_NEVER_LATE)) as store,
        ShortTermMemory(store, local_cache_enabled=run.near, options=options) as memory,
    ):
        memory.stash("begun", 1, me)  # connected, and the scripts are known
        memory.retrieve("begun", me)
        hearing(memory._cache)  # a program that begins does not wait, and loses a few copies
        proxy.delay(to_client=late)
        for phase in _PHASES:
            server.reset_counts()
            start = time.perf_counter()
            if phase != "writes":
                found = [memory.retrieve(key, me) for key in keys]
            elif run.batch:
                memory.stash_batch(dict.fromkeys(keys, _VALUE), me)
            else:
                for key in keys:
                    memory.stash(key, _VALUE, me)
            run.seconds[phase].append(time.perf_counter() - start)
            run.commands[phase] = _told(server.command_counts())
            if phase != "writes" and found != [_VALUE] * count:
                raise ArithmeticError(f"{phase}: not what was stashed")
        proxy.heal()


def _told(counts: dict[str, int]) -> str:
    counts = {name: n for name, n in counts.items() if not name.startswith(_OWN)}
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"


def _table(runs: list[_Run], where: str, late: float, count: int, rounds: int) -> Table:
    title = f"The seed's benchmark {where}: {count} writes, 2 × {count} reads, {rounds} rounds, ms"
    columns = ["", *_PHASES, "reads", "all"]
    columns += ["round trips: writes, reads, reads"] if late else []
    table = Table(title, [*columns, "commands: writes", "second reads"])
    for run in runs:
        times = [run.median(phase) for phase in _PHASES]
        times += [run.median(*_PHASES[1:]), run.median(*_PHASES)]
        row: list[Any] = [run.name, *(1000 * seconds for seconds in times)]
        row += [", ".join(f"{int(t / late)}" for t in times[:3])] if late else []
        table.rows.append([*row, run.commands["writes"], run.commands["second reads"]])
    return table


def _judge(report: Report, runs: list[_Run]) -> None:
    singly, singly_off, at_once, at_once_off = runs
    for what, on, off, phases in (
        ("as the seed wrote it", singly, singly_off, _PHASES),
        ("its writes at once", at_once, at_once_off, _PHASES),
        ("its reads alone", singly, singly_off, _PHASES[1:]),
    ):
        saved = 100 * (1 - on.median(*phases) / off.median(*phases))
        goal = f"the seed's benchmark 37 ms away, {what}: less time than without a near tier"
        report.judged.append(Judged(goal, 95, saved, "%", at_least=True))


@dataclass(frozen=True)
class _Way:
    """A class's read of what is near, and of what only the store has."""

    get: Callable[[Any], Any]
    read: Callable[[Any], Any]
    keys: list[Any]
    far: list[Any]


def _near_against_far(report: Report, proxy: Any, late: float, *, quick: bool) -> None:
    """Read a str from near and from the store, by each class that may have it near."""
    from nearcache import (
        AccessTier,
        AgentCredentials,
        HotMemoryCache,
        NearCache,
        Options,
        RedisStore,
        ShortTermMemory,
    )

    log("memory: near hits against reads of a store 37 ms away")
    rounds, reads = (11, 3) if quick else (101, 25)
    proxy.heal()
    text, me = _VALUE["result"], AgentCredentials("agent", AccessTier.CONTRIBUTOR)
    options = Options(link_timeout=_NEVER_LATE)
    names, others = ([f"{what} {number}" for number in range(500)] for what in ("near", "far"))
    with ExitStack() as stack:
        store = stack.enter_context(closing(RedisStore(proxy.url, timeout=_NEVER_LATE)))

        def made(kind: Any, **arguments: Any) -> Any:
            return stack.enter_context(kind(store, options=options, **arguments))

        near, hot, memory = (
            made(NearCache, namespace="near"),
            made(HotMemoryCache),
            made(ShortTermMemory),
        )
        bare = made(ShortTermMemory, local_cache_enabled=False)
        near.put_batch(dict.fromkeys(names, text), None)
        hot.put_batch(dict.fromkeys(_memories(names), text), None)
        memory.stash_batch(dict.fromkeys(names, text), me)
        # what is far was put by somebody else
        elsewhere = made(NearCache, namespace="near", max_entries=0)
        elsewhere.put_batch(dict.fromkeys(others, text), None)
        made(HotMemoryCache, max_entries=0).put_batch(dict.fromkeys(_memories(others), text), None)
        ways: dict[str, _Way] = {
            "NearCache": _Way(near.get, near.get, names, others),
            "HotMemoryCache": _Way(hot.get, hot.get, _memories(names), _memories(others)),
            "ShortTermMemory": _Way(
                lambda key: memory.retrieve(key, me),
                lambda key: bare.retrieve(key, me),
                names,
                names,
            ),
        }
        for way in ways.values():
            for _ in range(3):  # connected, linked, and near
                if [way.get(key) for key in way.keys] != [text] * len(names):
                    raise ArithmeticError("not what was put")
        laps = [Lap(_EMPTY, nothing(), lambda: names)]
        for name, way in ways.items():
            laps.append(Lap(name, calls(way.get), lambda way=way: way.keys))
        with one_core():
            taken = race_laps(laps, rounds)
        proxy.delay(to_client=late)
        read = {
            name: statistics.median(_timed(way.read, key) for key in way.far[:reads])
            for name, way in ways.items()
        }
        proxy.heal()
    table = Table(
        f"A str of {len(text)} characters, near and {1000 * late:g} ms away",
        ["", "near hit, µs of processor time", "read of the store, ms", "×"],
    )
    for name in ways:
        hit = net(taken, name, _EMPTY)
        table.rows.append([name, 1e6 * hit, 1000 * read[name], read[name] / hit])
        goal = f"near hit of a str against a store {1000 * late:g} ms away, {name}"
        report.judged.append(Judged(goal, 37_000, read[name] / hit, at_least=True))
    report.tables.append(table)


def _memories(names: list[str]) -> list[Any]:
    from nearcache import MemoryKey

    return [MemoryKey("episodic", name, "team") for name in names]


def _timed(way: Any, key: Any) -> float:
    start = time.perf_counter()
    way(key)
    return time.perf_counter() - start
