"""What all processes of a run share: a page of numbers in memory, mapped from one file.

Each number has one writer, and the machine's stores are seen in order (x86, and arm64 in practice,
where a number that is seen late makes the checker milder, never wrong). All times are
``time.monotonic()``, which is one clock for every process on Linux.
"""

import mmap
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MISSING", "RING", "Board", "Key", "keys_of", "name_of", "text_of"]

RING = 512
"""How many versions back the time of completion is known; older ones count as that old."""

MISSING = 1 << 60
"""The version of "nothing there": it is never too old."""

_NAN = float("nan")
_WINDOWS = 64
_FLOATS = 3 + 2 * _WINDOWS  # loss, failover, how many windows, the windows


@dataclass(frozen=True, slots=True)
class Key:
    """One key: who writes it, how, and what is in it.

    ``kind`` is ``"put"`` (the value goes through the cache), ``"source"`` (the value is in a
    source of truth, readers load it, the writer invalidates) or ``"cleared"`` (as source, in a
    cache of its own that the writer clears as a whole). Keys of a ``group`` are forgotten together.
    """

    number: int
    name: str
    kind: str
    owner: int
    group: str = ""
    box: bool = False
    ttl: float | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that its value is stored with."""
        return (self.group,) if self.group else ()


def keys_of(workers: int, groups: bool = True) -> list[Key]:
    """Return the keys of a run, the same in every process."""
    found: list[Key] = []

    def add(kind: str, owner: int, count: int, **more: object) -> None:
        for _ in range(count):
            number = len(found)
            found.append(Key(number, f"{kind}:{owner}:{number}", kind, owner, **more))

    for owner in range(workers):
        add("put", owner, 12)
        add("put", owner, 3, box=True)
        add("put", owner, 2, ttl=0.5)
        add("source", owner, 12)
        add("source", owner, 3, box=True)
        if groups:
            add("put", owner, 4, group=f"p{owner}")
            add("source", owner, 6, group=f"s{owner}")
    if groups:
        add("cleared", 0, 6, group="all")
    return found


def text_of(key: Key, version: int) -> object:
    """Return the value of a version: a text, or a list (which is somebody's own to spoil)."""
    if key.box:
        return [version, key.name, "…" * 20]
    return f"{version}|{key.name}|" + "." * 60


def name_of(value: object) -> str:
    """Return the name of the key that the value was made for."""
    return value[1] if isinstance(value, list) else str(value).split("|")[1]


class Board:
    """The page. ``started``, ``latest`` and so on are flat, by key; the ring is ``key * RING``.

    started: the version whose write began last.  latest: the one that completed last.
    put: the last completed version that put a value.  source: what loaders read.
    completed: when a version's write returned without error; NaN for those that did not.
    begun: when the key's last write began.
    unknown: when a write of the key last raised.  reads, stopped: by worker; how much it has read,
    and for how many seconds it was not running.
    """

    def __init__(self, path: Path, keys: int, workers: int, *, create: bool = False) -> None:
        size = 8 * (4 * keys + keys * RING + 2 * keys + 2 * workers + _FLOATS)
        if create:
            with path.open("wb") as file:
                file.truncate(size)
        with path.open("r+b") as file:
            page = memoryview(mmap.mmap(file.fileno(), size))
        at = 0

        def part(count: int, kind: str) -> memoryview:
            nonlocal at
            at += 8 * count
            return page[at - 8 * count : at].cast(kind)

        self.started = part(keys, "q")
        self.latest = part(keys, "q")
        self.put = part(keys, "q")
        self.source = part(keys, "q")
        self.completed = part(keys * RING, "d")
        self.unknown = part(keys, "d")
        self.begun = part(keys, "d")
        self.reads = part(workers, "q")
        self.stopped = part(workers, "d")
        self._marks = part(_FLOATS, "d")

    @property
    def lost_at(self) -> float:
        """When the server last lost what it had been given."""
        return self._marks[0]

    @lost_at.setter
    def lost_at(self, moment: float) -> None:
        self._marks[0] = moment

    @property
    def moved_at(self) -> float:
        """When a failover last ended; infinite while one is going on: two servers may answer."""
        return self._marks[1]

    @moved_at.setter
    def moved_at(self, moment: float) -> None:
        self._marks[1] = moment

    # Windows: what was completed within one may be lost by the server itself

    def open_window(self, start: float, end: float = float("inf")) -> int:
        """Say that what servers acknowledge from ``start`` on they may lose; return its number."""
        number = int(self._marks[2])
        if number == _WINDOWS:
            message = "more failovers than a board has room for"
            raise RuntimeError(message)
        self._marks[3 + 2 * number], self._marks[4 + 2 * number] = start, end
        self._marks[2] = number + 1
        return number

    def close_window(self, number: int) -> None:
        """Say that from now on they keep it again."""
        self._marks[4 + 2 * number] = time.monotonic()

    def may_be_lost(self, key: int) -> bool:
        """Whether the key's last completed write fell in a window, or its last write failed in one.

        Then the server may have gone back to the value before: asynchronous replication.
        """
        latest = self.latest[key]
        return self._in_window(self.completed[key * RING + latest % RING]) or self._in_window(
            self.unknown[key]
        )

    def _in_window(self, moment: float) -> bool:
        marks = self._marks
        return any(marks[3 + 2 * n] <= moment <= marks[4 + 2 * n] for n in range(int(marks[2])))

    # A write: begin, then end or fail

    def begin(self, key: int) -> int:
        """Number a new version of the key."""
        version = self.started[key] + 1
        self.completed[key * RING + version % RING] = _NAN
        self.begun[key] = time.monotonic()
        self.started[key] = version
        return version

    def end(self, key: int, version: int, *, put: bool) -> None:
        """Note that the version's write has returned."""
        self.completed[key * RING + version % RING] = time.monotonic()
        if put:
            self.put[key] = version
        self.latest[key] = version

    def fail(self, key: int) -> None:
        """Note that the version's write raised: whether it was done is unknown for ever."""
        self.unknown[key] = time.monotonic()

    # A read

    def behind(self, key: int, version: int, start: float, *, kept: bool = False) -> float:
        """Return for how long, when the read began, a newer version had been complete.

        Negative when no newer one was. ``kept``: versions that servers may have lost do not count.
        """
        while True:
            started = self.started[key]
            oldest = started - RING + 2  # the slot after next may be being overwritten
            for newer in range(max(version + 1, oldest), self.latest[key] + 1):
                moment = self.completed[key * RING + newer % RING]
                if moment == moment and not (kept and self._in_window(moment)):
                    break
            else:
                return -1.0
            if self.started[key] - started < 2:  # else the ring turned while we looked
                return start - moment
