"""Counting what the cache did: exact under threads, read as a frozen snapshot."""

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["Counters", "NearHits", "Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What a cache did so far; a snapshot that never changes.

    Every text asked for is counted once, as a hit (near, far, stale), as a miss, or as coalesced
    (answered by a load that was under way, or a repeat within one batch of misses). A forked child
    counts from zero.

    Units: seconds, bytes. ``loads`` counts texts that reached the loader. ``undelivered``
    invalidations and ``unwritten`` loads wait for a store that does not answer; ``breaker`` says
    whether it is asked: "closed", "open" (left alone), "half-open" (being tried).
    """

    near_hits: int = 0
    far_hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    loads: int = 0
    load_failures: int = 0
    load_seconds: float = 0.0
    coalesced: int = 0
    evictions: int = 0
    expirations: int = 0
    invalidations: int = 0
    store_errors: int = 0
    corrupt: int = 0
    bytes_near: int = 0
    entries_near: int = 0
    saved_loads: int = 0
    saved_seconds: float = 0.0
    bytes_saved: int = 0
    undelivered: int = 0
    unwritten: int = 0
    breaker: str = "closed"

    @property
    def hits(self) -> int:
        """Texts answered from a tier."""
        return self.near_hits + self.far_hits + self.stale_hits

    @property
    def hit_rate(self) -> float:
        """Share of texts answered from a tier, 0 to 1; 0 before the first."""
        asked = self.hits + self.misses + self.coalesced
        return self.hits / asked if asked else 0.0

    def to_dict(self) -> dict[str, float]:
        """Return every number by name, hits and hit rate included."""
        figures = {**asdict(self), "hits": self.hits, "hit_rate": self.hit_rate}
        del figures["breaker"]
        return figures


class Counters:
    """The live counts behind :class:`Stats`.

    Thread-safe: one short lock per call, so that a batch costs one.
    """

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}
        self.start_anew()
        self.reset()

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    def add(self, **amounts: float) -> None:
        """Add to the named counts, all or none visible."""
        with self._lock:
            counts = self._counts
            for name, amount in amounts.items():
                counts[name] += amount

    def snapshot(self, **gauges: float) -> Stats:
        """Return the counts with ``gauges`` (sizes, savings) filled in."""
        with self._lock:
            counts = {**self._counts, **gauges}
        whole: Any = {name: _COUNTS[name](value) for name, value in counts.items()}
        return Stats(**whole)

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            self._counts = dict.fromkeys(_COUNTS, 0)


class NearHits:
    """Hits and their bytes, counted without a lock: every thread has a cell of its own."""

    def __init__(self) -> None:
        self._cells: list[tuple[weakref.ref[threading.Thread], list[int]]] = []
        self._counted = [0, 0]
        self.on_first: Callable[[], None] | None = None  # of each thread
        self.start_anew()

    def start_anew(self) -> None:
        """Take a new lock, and new cells: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()
        self._local = threading.local()

    def cell(self) -> list[int]:
        """Return this thread's [hits, bytes, the number of the hit to be timed next].

        The first two are to add to; the third is ``engine/meter.py``'s.
        """
        try:
            cell: list[int] = self._local.cell
        except AttributeError:
            cell = self._local.cell = [0, 0, 0]
            with self._lock:
                self._cells = [pair for pair in self._cells if pair[1][0] or pair[0]() is not None]
                self._cells.append((weakref.ref(threading.current_thread()), cell))
            if self.on_first is not None:
                self.on_first()
        return cell

    def total(self) -> Sequence[int]:
        """Return the hits and bytes since the last call."""
        with self._lock:
            hits = sum(cell[0] for _, cell in self._cells)
            size = sum(cell[1] for _, cell in self._cells)
            before, self._counted = self._counted, [hits, size]
        return hits - before[0], size - before[1]


_COUNTS: dict[str, type[int] | type[float]] = {
    field.name: float if field.name.endswith("seconds") else int
    for field in fields(Stats)
    if field.name != "breaker"
}
