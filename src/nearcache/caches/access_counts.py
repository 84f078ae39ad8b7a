"""How often each memory was asked for and found; the counts outlive its place in the near tier."""

import threading
import weakref
from collections.abc import Iterable, Sequence
from heapq import nlargest, nsmallest
from typing import TypeVar

__all__ = ["AccessCounts"]

Key = tuple[str, ...]  # (type, id) or (type, id, scope)
P = TypeVar("P")

_MOST = 100_000
_MOST_IN_CELL = 4096
_MOST_LINES = 10_000  # of what was forgotten


class _Cell:
    """What one thread counted since it last told the others; nobody else writes to it."""

    __slots__ = ("counts", "generation")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.counts: dict[Key, int] = {}


class AccessCounts:
    """Counts by key: exact while there are no more than ``most``, then of the most counted.

    Thread-safe. Counting takes no lock: every thread has a cell of its own, and a thread folds its
    cell into the sums when that is full. Forgetting is a line in a list, whatever it forgets: it
    starts a new *generation*, and what was counted in an earlier one does not count. ::

        thread                          forgets type t
        counts t:k in generation 3
                                        t ended with 3, now is 4
        is of generation 3, now is 4:
        folds 3 (t:k falls away), counts in 4
    """

    def __init__(self, *, most: int = _MOST, most_in_cell: int = _MOST_IN_CELL) -> None:
        self._most = most
        self._most_in_cell = min(most_in_cell, most)
        self._views: dict[str, AccessCounts] = {}
        self._local = threading.local()
        self._cells: list[tuple[weakref.ref[threading.Thread], _Cell]] = []
        self._generation = 0
        self._sums: dict[Key, tuple[int, int]] = {}  # count, and the generation of its last part
        # the last generation that does not count any more
        self._everything = -1
        self._keys: dict[Key, int] = {}
        self._types: dict[str, int] = {}
        self._scopes: dict[str | None, int] = {}
        self._tidy_at = _MOST_LINES
        self.start_anew()

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.RLock()
        for view in self._views.values():
            view.start_anew()

    def inside(self, name: str) -> "AccessCounts":
        """Return the counts of a view."""
        with self._lock:
            view = self._views.get(name)
            if view is None:
                view = AccessCounts(most=self._most, most_in_cell=self._most_in_cell)
                self._views[name] = view
            return view

    # -- counting ----------------------------------------------------------------------------

    def add(self, key: Key) -> None:
        """Count one access."""
        try:
            cell: _Cell = self._local.cell
        except AttributeError:
            cell = self._local.cell = self._new_cell()
        if cell.generation != self._generation:
            self._fold(cell)
        counts = cell.counts
        counts[key] = counts.get(key, 0) + 1
        if len(counts) > self._most_in_cell:
            self._fold(cell)

    def add_all(self, keys: Iterable[Key]) -> None:
        """Count one access of each."""
        for key in keys:
            self.add(key)

    def _new_cell(self) -> _Cell:
        with self._lock:
            for thread, cell in self._cells:
                if thread() is None:
                    self._fold(cell)
            self._cells = [pair for pair in self._cells if pair[0]() is not None]
            cell = _Cell(self._generation)
            self._cells.append((weakref.ref(threading.current_thread()), cell))
            return cell

    def _fold(self, cell: _Cell) -> None:
        """Add a cell to the sums; by its own thread, or after that has ended."""
        with self._lock:
            counts, cell.counts = cell.counts, {}
            of, cell.generation = cell.generation, self._generation
            self._merge(self._sums, counts, of)
            if len(self._sums) > 2 * self._most:
                self._trim()

    def _merge(
        self, sums: dict[Key, tuple[int, int]], counts: dict[Key, int], generation: int
    ) -> None:
        for key, count in counts.items():
            ended = self._ended(key)
            if generation <= ended:
                continue
            before, of = sums.get(key, (0, -1))
            sums[key] = (count + (before if of > ended else 0), generation)

    def _ended(self, key: Key) -> int:
        """Return the last generation in which accesses of a key do not count."""
        return max(
            self._everything,
            self._keys.get(key, -1),
            self._types.get(_type_of(key), -1),
            self._scopes.get(_scope_of(key), -1),
        )

    # -- reading -----------------------------------------------------------------------------

    def most_counted(self, limit: int) -> list[tuple[Key, int]]:
        """Return the ``limit`` most counted keys, with their counts; ties in the keys' order.

        Cost: looks at every key.
        """
        with self._lock:
            sums = dict(self._sums)
            for _, cell in self._cells:
                self._merge(sums, cell.counts.copy(), cell.generation)
            found = [(-n, key) for key, (n, of) in sums.items() if of > self._ended(key)]
        return [(key, -n) for n, key in nsmallest(limit, found)]

    def keys(self) -> list[Key]:
        """Return all keys that are counted, or were lately; some of them twice."""
        with self._lock:
            found = list(self._sums)
            for _, cell in self._cells:
                found += list(cell.counts)
            return found

    # -- forgetting --------------------------------------------------------------------------

    def forget(self, keys: Sequence[Key]) -> None:
        """Count these keys from zero again."""
        with self._lock:
            open_cells = [cell for _, cell in self._cells if cell.counts]
            for key in keys:
                self._sums.pop(key, None)
                if any(key in cell.counts for cell in open_cells):
                    self._end(self._keys, key)

    def forget_type(self, memory_type: str) -> None:
        """Count the keys of a type from zero again. Cost: one line."""
        self._end(self._types, memory_type)

    def forget_scope(self, scope: str | None) -> None:
        """Count the keys of a scope, or of none, from zero again. Cost: one line."""
        self._end(self._scopes, scope)

    def clear(self) -> None:
        """Count everything from zero again."""
        with self._lock:
            self._everything = self._generation
            self._generation += 1
            self._sums.clear()
            for ended in (self._keys, self._types, self._scopes):
                ended.clear()

    def _end(self, ended: dict[P, int], part: P) -> None:
        with self._lock:
            ended[part] = self._generation
            self._generation += 1
            if len(self._keys) + len(self._types) + len(self._scopes) > self._tidy_at:
                self._tidy()

    def _tidy(self) -> None:
        """Let go of sums that do not count, and of the lines that nothing needs any more."""
        self._sums = {key: sum_ for key, sum_ in self._sums.items() if sum_[1] > self._ended(key)}
        open_ = [key for _, cell in self._cells for key in cell.counts.copy()]
        self._keys = _part_of(self._keys, open_)
        self._types = _part_of(self._types, map(_type_of, open_))
        self._scopes = _part_of(self._scopes, map(_scope_of, open_))
        left = len(self._keys) + len(self._types) + len(self._scopes)
        self._tidy_at = max(_MOST_LINES, 2 * left)

    def _trim(self) -> None:
        """Halve every count, so that new keys have a chance, and keep the most counted."""
        self._tidy()
        halves = {key: (n // 2, of) for key, (n, of) in self._sums.items() if n > 1}
        if len(halves) > self._most:
            halves = dict(nlargest(self._most, halves.items(), key=lambda pair: pair[1][0]))
        self._sums = halves


def _part_of(lines: dict[P, int], parts: Iterable[P]) -> dict[P, int]:
    return {part: lines[part] for part in parts if part in lines}


def _type_of(key: Key) -> str:
    return key[0]


def _scope_of(key: Key) -> str | None:
    return key[2] if len(key) > 2 else None
