"""What this process says of its caches to whoever looks at them from outside: never contents.

A snapshot is JSON, format 1; ``nearcache.metrics.snapshot`` is who reads it.
"""

import json
import os
import platform
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from numbers import Integral
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nearcache.near.curve import Histogram, measured
from nearcache.near.miniature import Miniature, Played
from nearcache.near.pick import core
from nearcache.near.policies.base import NAMES
from nearcache.near.trail import Steps
from nearcache.stats import Stats

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine

__all__ = ["FORMAT", "MINUTE", "History", "Identity", "by_cache", "together"]

FORMAT = 1
MINUTE = (
    "near_hits",
    "far_hits",
    "stale_hits",
    "misses",
    "coalesced",
    "loads",
    "load_seconds",
    "saved_loads",
    "saved_seconds",
    "store_errors",
)
"""What is kept by the minute."""

_RISING = [name for name in MINUTE if name != "saved_seconds"]  # at the mean price of all loads
_MINUTES, _POINTS, _HOTTEST = 60, 32, 10
_LATENCIES = ("near", "store", "load", "link")
_OF_NEAR = ("bytes_near", "entries_near", "evictions", "expirations")  # which views share
_BREAKERS = ("closed", "half-open", "open")  # the worst last
_SELDOM = 30.0  # seconds between two looks at what takes a millisecond or more
_REST = 1000  # times as long as a look took, or longer, until the next
_SLICE = 0.01  # seconds of the processor for one part of a longer look
_ALL_SLICES = 0.02  # and, within a second, for those of all caches of this process
_NO_LIMIT = 2**62  # bytes
_LONGEST_KEY = 200  # characters


class Identity:
    """Who this process is."""

    def __init__(self) -> None:
        import socket

        self.name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._facts = {
            "format": FORMAT,
            "id": self.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "program": _program(),
            "version": getattr(sys.modules.get("nearcache"), "__version__", ""),
            "python": platform.python_version(),
            "core": core()[0],
            "started": round(time.time(), 3),
        }

    def snapshot(
        self, caches: Sequence[dict[str, Any]], every: float, stored_at: float | None
    ) -> bytes:
        """Return what this process says now of these caches; ``stored_at`` is the store's time."""
        now = {"at": round(time.time(), 3), "stored_at": stored_at, "every": every}
        said = {**self._facts, **now, "caches": caches}
        return json.dumps(said, separators=(",", ":"), default=_plain).encode()


class History:
    """One cache of this process, its views included, and what it did within the last hour."""

    def __init__(self, namespace: str, kind: str) -> None:
        self._namespace, self._kind = namespace, kind
        self._before: WeakKeyDictionary[Engine, Stats] = WeakKeyDictionary()
        self._minutes: deque[list[Any]] = deque(maxlen=_MINUTES)
        self._link: tuple[str, float] = ("", 0.0)
        self._curve = _Seldom(_curve)
        self._miniature = _Bit()
        self._hottest = _Seldom(_hottest)

    def note(self, engines: Sequence["Engine"], now: float) -> None:
        """Count what was done since the last look to the minute of a Unix time."""
        self._note(engines, [engine.stats() for engine in engines], int(now // 60))

    def says(
        self, engines: Sequence["Engine"], now: float, *, whole: bool = False
    ) -> dict[str, Any]:
        """Return what there is to say of the engines of this cache at a Unix time.

        whole: however long it takes to find out. Else what other sizes would hit is found out
            bit by bit, one with each call.
        """
        counts = [engine.stats() for engine in engines]
        self._note(engines, counts, int(now // 60))
        first = next((engine for engine in engines if not engine.view), engines[0])
        stats = asdict(together(counts, engines.index(first)))
        settings, near = first.settings, first.near
        played = self._miniature.of(first, float("inf") if whole else _SLICE)
        return {
            "namespace": self._namespace,
            "kind": self._kind,
            "policy": _name_of(settings.get("policy")),
            "max_entries": getattr(near, "max_entries", None),  # a user's own may have none
            "max_bytes": _limit(getattr(near, "max_bytes", None)),
            "ttl": settings.get("ttl"),
            "stats": {name: _short(value) for name, value in stats.items()},
            "link": self._link_of(first, now),
            "latency": {name: _latency(engines, name) for name in _LATENCIES},
            "minutes": [list(map(_short, minute)) for minute in self._minutes],
            "curve": _points(played) if played else self._curve.of(first),
            "played": _played(played) if played else None,
            "hottest": self._hottest.of(first) or [],
            "views": sum(1 for engine in engines if engine.view),
        }

    def _note(self, engines: Sequence["Engine"], counts: Sequence[Stats], minute: int) -> None:
        """Add what was done since the last look to the present minute."""
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, *[0] * len(MINUTE)])
        row = self._minutes[-1]
        for engine, stats in zip(engines, counts, strict=True):
            before = self._before.get(engine, Stats())
            if any(getattr(stats, name) < getattr(before, name) for name in _RISING):
                before = Stats()  # counted from zero since
            self._before[engine] = stats
            price = stats.load_seconds / stats.loads if stats.loads else 0.0
            for at, name in enumerate(MINUTE, 1):
                if name == "saved_seconds":
                    row[at] += (stats.saved_loads - before.saved_loads) * price
                else:
                    row[at] += getattr(stats, name) - getattr(before, name)

    def _link_of(self, engine: "Engine", now: float) -> dict[str, Any]:
        state, reason = ("none", "") if engine.sharing is None else engine.sharing.hears()
        if state != self._link[0]:
            self._link = (state, round(now, 3))
        return {"state": state, "since": self._link[1], "reason": reason[:200]}


class _Seldom:
    """Something that takes a while to find out, and changes slowly."""

    def __init__(self, look: Callable[["Engine"], Any]) -> None:
        self._look = look
        self._found: Any = None
        self._next = 0.0

    def of(self, engine: "Engine") -> Any:
        now = time.monotonic()
        if now >= self._next:
            self._found = self._look(engine)
            took = time.monotonic() - now
            # where there was nothing yet there may be something soon
            self._next = now + max(_SELDOM if self._found else 0.0, _REST * took)
        return self._found


class _Bit:
    """What other sizes and policies would hit: takes long, so a bit is found out at a time."""

    _second, _taken = 0.0, 0.0  # of all caches: which second it is, and what was taken in it

    def __init__(self) -> None:
        self._at: Miniature | None = None
        self._found: Played | None = None
        self._took = self._next = 0.0

    def of(self, engine: "Engine", seconds: float) -> Played | None:
        """Go on for so many seconds of the processor; return what was found out last."""
        now = time.monotonic()
        if now >= _Bit._second + 1:
            _Bit._second, _Bit._taken = now, 0.0
        if _Bit._taken >= _ALL_SLICES and seconds <= _SLICE:
            return self._found  # others had their turn: of a hundred caches not all at once
        if self._at is None and now >= self._next:
            self._at, self._took = _miniature(engine), 0.0
        if self._at is not None:
            began = time.thread_time()
            over = self._at.play(seconds)
            took = time.thread_time() - began
            self._took += took
            _Bit._taken += took
            if over:
                self._found, self._at = self._at.found or self._found, None
                self._next = now + max(_SELDOM, _REST * self._took) if self._found else now
        return self._found


def together(all_stats: Sequence[Stats], root: int) -> Stats:
    """Add up a cache and its views, whose near tier is that of the one at ``root``."""
    total: Counter[str] = Counter()
    breaker = 0
    for at, stats in enumerate(all_stats):
        figures = asdict(stats)
        breaker = max(breaker, _BREAKERS.index(figures.pop("breaker")))
        for name in _OF_NEAR if at != root else ():
            figures[name] = 0
        total.update(figures)
    known: dict[str, Any] = {each.name: total[each.name] for each in fields(Stats)}
    return Stats(**{**known, "breaker": _BREAKERS[breaker]})


def by_cache(engines: Iterable["Engine"]) -> dict[tuple[str, str], list["Engine"]]:
    """Return engines by the namespace and the kind of the cache they are of."""
    found: dict[tuple[str, str], list[Engine]] = defaultdict(list)
    for engine in engines:
        found[engine.namespace, engine.kind].append(engine)
    return found


def _curve(engine: "Engine") -> list[list[float]] | None:
    try:
        curve = measured(Histogram(*engine.near.histogram()))
    except (AttributeError, TypeError, ValueError):  # a tier of the user's own keeps none
        return None
    if not curve.requests:
        return None
    step = max(1.0, (len(curve.sizes) - 1) / (_POINTS - 1))
    picked = {round(i * step) for i in range(_POINTS)}
    return [
        [size, round(1.0 - miss, 5)]
        for i, (size, miss) in enumerate(zip(curve.sizes, curve.miss_ratios, strict=True))
        if i in picked
    ]


def _points(played: Played) -> list[list[float]]:
    return [[entries, round(ratio, 5)] for entries, ratio in played.points]


def _played(played: Played) -> dict[str, Any]:
    """Return whose curve it is, and what else was found out."""
    return {
        "policy": played.policy,
        "size": played.size,
        "requests": played.requests,
        "really": round(played.really, 5),
        "others": [[policy, round(ratio, 5)] for policy, ratio in played.others],
    }


def _miniature(engine: "Engine") -> Miniature | None:
    near, policy = engine.near, _name_of(engine.settings.get("policy"))
    if policy not in NAMES:  # a user's own cannot be asked twice
        return None
    try:
        steps, counts = Steps(*near.trail()), Histogram(*near.histogram())
        size, entries = near.max_entries, len(near)
    except (AttributeError, TypeError):  # a tier of the user's own keeps none
        return None
    # where bytes are what it is full of, it has fewer entries than it may
    size = entries if near.evictions and entries < 0.9 * size else size
    return Miniature(steps, policy, size, counts.hits / max(1, counts.hits + counts.misses))


def _hottest(engine: "Engine") -> list[list[Any]]:
    if engine.hottest is None:
        return []
    return [
        [_shown(key)[:_LONGEST_KEY], count]  # as ``keys`` shows them
        for key, count in engine.hottest(_HOTTEST)
    ]


def _shown(key: object) -> str:
    return json.dumps(key, ensure_ascii=False, default=repr)


def _latency(engines: Sequence["Engine"], name: str) -> dict[str, Any]:
    found = [engine.meter.histograms[name].snapshot() for engine in engines]
    total = found[0]
    for more in found[1:]:
        total = total + more
    return {"counts": total.counts, "total": _short(total.total)}


def _short(figure: Any) -> Any:
    return round(figure, 6) if isinstance(figure, float) else figure


def _limit(size: Any) -> Any:
    return None if size is None or size >= _NO_LIMIT else size


def _plain(figure: Any) -> Any:
    """Return what JSON knows in place of a number of numpy's, or a fraction."""
    return int(figure) if isinstance(figure, Integral) else float(figure)


def _name_of(policy: object) -> str:
    return policy if isinstance(policy, str) else type(policy).__name__


def _program() -> str:
    """Return the name of what runs here; never its arguments, which may be secrets."""
    started = sys.argv[0] if getattr(sys, "argv", None) else ""
    folder, _, file = started.replace("\\", "/").rpartition("/")
    if file == "__main__.py":
        return folder.rpartition("/")[2]
    return {"-c": "python -c", "": "python", "-m": "python -m"}.get(file, file)
