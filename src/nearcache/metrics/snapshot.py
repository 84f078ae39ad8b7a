"""From the bytes on a board to a worker; anybody may have written them: everything is checked."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from nearcache.engine.snapshot import FORMAT
from nearcache.histogram import Distribution
from nearcache.metrics.workers import BREAKERS, Curve, Link, Minute, Worker, WorkerCache
from nearcache.stats import Stats

__all__ = ["Unreadable", "joined", "worker_of"]

T = TypeVar("T")

_LONGEST_TEXT = 200
_MOST_CACHES, _MOST_MINUTES, _MOST_POINTS, _MOST_HOTTEST = 100, 60, 64, 20
_MOST_POLICIES = 20
_MOST = 10**18  # of anything
_LATEST = 253_402_300_799  # the last second of the year 9999
_KINDS: tuple[Any, ...] = (
    int,
    *(type(Minute._field_defaults[name]) for name in Minute._fields[1:]),
)
_UNSOUND = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_WHOLE = {each.name for each in fields(Stats) if each.type is int}


class Unreadable(ValueError):
    """What is on the board is no snapshot, or one of another format."""


def worker_of(document: bytes, now: float, store_now: float) -> Worker:
    """Return the worker that says this; its age is by the store's clock if it knew that.

    Raises: Unreadable.
    """
    try:
        said = json.loads(document)
        if said["format"] != FORMAT:
            raise Unreadable
        at, stored_at = _time(said["at"]), said.get("stored_at")
        age = now - at if stored_at is None else store_now - _number(stored_at)
        return Worker(
            id=_text(said["id"]),
            host=_text(said["host"]),
            pid=_whole(said["pid"]),
            program=_text(said["program"]),
            version=_text(said["version"]),
            python=_text(said["python"]),
            core=_text(said["core"]),
            started=_time(said["started"]),
            at=at,
            every=_number(said["every"]),
            age=round(max(0.0, age), 3),
            caches=tuple(map(_cache, _some(said["caches"], _MOST_CACHES))),
        )
    except _UNSOUND as error:
        raise Unreadable from error


def joined(workers: Iterable[Worker]) -> tuple[Worker, ...]:
    """Return each worker once, with all its caches, the eldest first."""
    found: dict[str, Worker] = {}
    for worker in workers:
        known = found.get(worker.id)
        found[worker.id] = (
            worker
            if known is None
            else replace(
                known,
                at=max(known.at, worker.at),
                age=min(known.age, worker.age),
                started=min(known.started, worker.started),
                caches=(*known.caches, *worker.caches),
            )
        )
    return tuple(sorted(found.values(), key=lambda worker: (worker.started, worker.id)))


def _cache(said: Mapping[str, Any]) -> WorkerCache:
    link = said["link"]
    size = _optional(_whole, said["max_entries"])
    return WorkerCache(
        namespace=_text(said["namespace"]),
        kind=_text(said["kind"]),
        stats=_stats(said["stats"]),
        link=Link(_text(link["state"]), _optional(_time, link["since"]), _text(link["reason"])),
        policy=_text(said["policy"]),
        max_entries=size,
        max_bytes=_optional(_whole, said["max_bytes"]),
        ttl=_optional(_number, said["ttl"]),
        latency={
            _text(name): Distribution.from_list([*found["counts"], found["total"]])
            for name, found in said["latency"].items()
        },
        minutes=tuple(map(_minute, _some(said["minutes"], _MOST_MINUTES))),
        curve=None if said["curve"] is None else _curve(said["curve"], size, said.get("played")),
        hottest=tuple(
            (_text(key), _whole(count)) for key, count in _some(said["hottest"], _MOST_HOTTEST)
        ),
        views=_whole(said["views"]),
    )


def _stats(said: Mapping[str, Any]) -> Stats:
    """Return the counts; what another release counts besides is left out."""
    breaker = said["breaker"]
    if breaker not in BREAKERS:
        raise Unreadable
    known = {
        each.name: _whole(said[each.name]) if each.name in _WHOLE else _number(said[each.name])
        for each in fields(Stats)
        if each.name != "breaker" and each.name in said
    }
    return Stats(**known, breaker=breaker)  # type: ignore[arg-type]


def _minute(said: Sequence[Any]) -> Minute:
    figures: list[Any] = list(said[: len(_KINDS)])
    for i, kind in enumerate(_KINDS):  # of 60 each, of many
        figure = figures[i]
        if type(figure) is not kind:
            figures[i] = _number(figure) if kind is float else _whole(figure)
        elif not 0 <= figure <= _MOST:
            raise Unreadable
    return Minute._make(figures)


def _curve(points: object, size: int | None, played: Mapping[str, Any] | None) -> Curve:
    found = [(_whole(entries), _share(ratio)) for entries, ratio in _some(points, _MOST_POINTS)]
    if found != sorted(found):
        raise Unreadable
    if played is None:  # nor does an older release say anything of it
        return Curve(tuple(found), size or 0)
    return Curve(
        tuple(found),
        _whole(played["size"]),
        policy=_text(played["policy"]),
        really=_share(played["really"]),
        requests=_whole(played["requests"]),
        others={
            _text(name): _share(ratio) for name, ratio in _some(played["others"], _MOST_POLICIES)
        },
    )


def _share(said: object) -> float:
    share = _number(said)
    if share > 1:
        raise Unreadable
    return share


def _some(items: object, most: int) -> list[Any]:
    if not isinstance(items, list):
        raise Unreadable
    return items[:most]


def _optional(check: Callable[[Any], T], said: object) -> T | None:
    return None if said is None else check(said)


def _text(said: object) -> str:
    """Return a text that a terminal and a page can show: no control characters, not endless."""
    if not isinstance(said, str):
        raise Unreadable
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in said)[
        :_LONGEST_TEXT
    ]


def _number(said: object) -> float:
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        raise Unreadable
    if not 0 <= said <= _MOST:  # nor NaN
        raise Unreadable
    return float(said)


def _time(said: object) -> float:
    """Return a Unix time that a calendar has."""
    seconds = _number(said)
    if seconds > _LATEST:
        raise Unreadable
    return seconds


def _whole(said: object) -> int:
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said <= _MOST:
        raise Unreadable
    return said
