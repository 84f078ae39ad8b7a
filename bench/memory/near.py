"""What is near, without a store: get and put of every class, and containers against json.loads."""

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from bench.machine import log, one_core
from bench.near.laps import Lap, awaits, calls, net, nothing, own, race_laps
from bench.report import Judged, Report, Table

__all__ = ["VALUES", "measure"]

_EMPTY, _EMPTY_ASYNC = "the loop alone", "the loop alone, awaiting"
_COUNT = 500
_TEXT = "a value of one hundred characters " * 3
_ORDER = {"name": "order", "tags": ["a", "b", "c"], "total": 17.5, "lines": list(range(20))}
VALUES: dict[str, Any] = {
    "str": _TEXT,
    "bytes": _TEXT.encode(),
    "dict": _ORDER,
    "list of 50 dicts": [{**_ORDER, "name": f"order {number}"} for number in range(50)],
}
_FLAT = ("str", "bytes")
_LIMITS = {"": 2.0, "async ": 4.0}  # µs: the goals of a near get and put of str and bytes


def measure(report: Report, *, quick: bool) -> None:
    """Race gets and puts of all classes in both faces, and json.loads of the same documents."""
    log("memory: near get and put")
    rounds = 7 if quick else 51
    race = _Race()
    with ExitStack() as stack, one_core():
        runner = stack.enter_context(asyncio.Runner())
        names = [f"key {number}" for number in range(_COUNT)]
        race.add(_EMPTY, nothing(), names)
        race.add(_EMPTY_ASYNC, awaits(_nothing, runner), names)
        for kind, value in VALUES.items():
            for one in _classes(kind, stack):
                race.add_class(one, kind, value, runner)
            document = json.dumps(value) if kind not in _FLAT else None
            if document is not None:
                race.add(f"json.loads, {kind}", calls(_loading(document)), names)
        plain = dict.fromkeys(names, _TEXT)
        race.add("dict.get", calls(plain.get), names)
        taken = race_laps(race.laps, rounds)
    _tell(report, race, taken, rounds)


def _loading(document: str) -> Callable[[Any], Any]:
    data = document.encode()
    return lambda _: json.loads(data)


async def _nothing(_key: Any) -> None:
    pass


class _Class:
    """One class under one kind of value: its calls, in both faces."""

    def __init__(self, name: str, cache: Any, keys: list[Any], *extra: Any) -> None:
        self.name, self.keys = name, keys
        get, put = ("retrieve", "stash") if extra else ("get", "put")
        self.ways = {}
        for face, faced in (("", cache.as_sync()), ("async ", cache.as_async())):
            self.ways[face] = (getattr(faced, get), getattr(faced, put), extra)


def _classes(kind: str, stack: ExitStack) -> list[_Class]:
    from nearcache import (
        AccessTier,
        AgentCredentials,
        HotMemoryCache,
        MemoryKey,
        NearCache,
        ShortTermMemory,
    )

    codec = "bytes" if kind == "bytes" else "json"
    names = [f"key {number}" for number in range(_COUNT)]
    memories = [MemoryKey("episodic", name, "team") for name in names]
    near: Any = stack.enter_context(NearCache(None, namespace="near", codec=codec))
    hot: Any = stack.enter_context(HotMemoryCache(None, codec=codec))
    found = [_Class("NearCache", near, names), _Class("HotMemoryCache", hot, memories)]
    if kind != "bytes":  # it takes what JSON takes
        memory = stack.enter_context(ShortTermMemory())
        me = AgentCredentials("agent", AccessTier.CONTRIBUTOR)
        found.append(_Class("ShortTermMemory", memory, names, me))
    return found


class _Race:
    def __init__(self) -> None:
        self.laps: list[Lap] = []

    def add(self, name: str, loop: Callable[[list[Any]], object], keys: list[Any]) -> None:
        """Let a loop take part."""
        self.laps.append(Lap(name, loop, lambda: keys))

    def add_class(self, one: _Class, kind: str, value: Any, runner: asyncio.Runner) -> None:
        """Let a class's get and put take part, once they were seen to be right."""
        for face, (get, put, extra) in one.ways.items():
            if not face:
                for key in one.keys:
                    put(key, value, *extra)
                if any(get(key, *extra) != value for key in one.keys):
                    raise ArithmeticError(f"{one.name}: not what was put")
                loops = _gets(get, extra), _puts(put, value, extra)
            else:
                loops = _async_gets(get, extra, runner), _async_puts(put, value, extra, runner)
            for what, loop in zip(("get", "put"), loops, strict=True):
                self.add(_name(face, what, one.name, kind), loop, one.keys)


def _name(face: str, what: str, cls: str, kind: str) -> str:
    return f"{face}{what}, {cls}, {kind}"


# The loops of get and put give what each is called with, so that no lambda stands between.


def _gets(get: Any, extra: tuple[Any, ...]) -> Callable[[list[Any]], object]:
    if not extra:
        return calls(get)
    (me,) = extra

    def loop(keys: Iterable[Any]) -> None:
        for key in keys:
            get(key, me)

    return own(loop)


def _puts(put: Any, value: Any, extra: tuple[Any, ...]) -> Callable[[list[Any]], object]:
    def loop(keys: Iterable[Any]) -> None:
        for key in keys:
            put(key, value)

    def loop_of_agent(keys: Iterable[Any]) -> None:
        for key in keys:
            put(key, value, me)

    (me,) = extra or (None,)
    return own(loop_of_agent if extra else loop)


def _async_gets(
    get: Any, extra: tuple[Any, ...], runner: asyncio.Runner
) -> Callable[[list[Any]], object]:
    if not extra:
        return awaits(get, runner)
    (me,) = extra

    async def inside(keys: Iterable[Any]) -> None:
        for key in keys:
            await get(key, me)

    return lambda keys: runner.run(inside(keys))


def _async_puts(
    put: Any, value: Any, extra: tuple[Any, ...], runner: asyncio.Runner
) -> Callable[[list[Any]], object]:
    async def inside(keys: Iterable[Any]) -> None:
        for key in keys:
            await put(key, value, *extra)

    return lambda keys: runner.run(inside(keys))


# What was found


def _tell(report: Report, race: _Race, taken: dict[str, list[float]], rounds: int) -> None:
    cost = {
        lap.name: net(taken, lap.name, _EMPTY_ASYNC if lap.name.startswith("async ") else _EMPTY)
        for lap in race.laps
        if lap.name not in (_EMPTY, _EMPTY_ASYNC)
    }
    classes = ("NearCache", "HotMemoryCache", "ShortTermMemory")
    for what in ("get", "put"):
        title = f"Near {what} without a store, µs of processor time, {rounds} rounds"
        table = Table(title, ["", *VALUES])
        for face in _LIMITS:
            for cls in classes:
                names = [_name(face, what, cls, kind) for kind in VALUES]
                cells = [1e6 * cost[name] if name in cost else "" for name in names]
                table.rows.append([f"{face}{cls}", *cells])
        if what == "get":
            loads = [f"json.loads, {kind}" for kind in VALUES]
            cells = [1e6 * cost[name] if name in cost else "" for name in loads]
            table.rows.append(["json.loads", *cells])
            table.rows.append(["dict.get", 1e6 * cost["dict.get"], "", "", ""])
        report.tables.append(table)
    for what in ("get", "put"):
        for face, limit in _LIMITS.items():
            for cls in classes:
                names = [_name(face, what, cls, kind) for kind in _FLAT]
                worst = max(cost[name] for name in names if name in cost)
                goal = f"{face}{cls}, near {what} of str and bytes"
                report.judged.append(Judged(goal, limit, 1e6 * worst, "µs"))
    for kind in VALUES:
        for cls in classes:
            if kind not in _FLAT:
                ratio = cost[_name("", "get", cls, kind)] / cost[f"json.loads, {kind}"]
                goal = f"{cls}, near get of a {kind} against json.loads"
                report.judged.append(Judged(goal, 1.3, ratio))
    report.notes.append(
        "Near get and put: processor time, the middle round, less the loop (or the awaiting loop) "
        "around the calls. MemoryKeys are made beforehand. `put` of ShortTermMemory is `stash`: "
        "without a server it writes to a store in this process that evicts nothing, for it is a "
        "system of record, and a put of a container encodes it."
    )
