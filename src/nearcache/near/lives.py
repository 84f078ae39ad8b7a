"""When entries with a limited life end, in buckets of a quarter second.

Nothing is ever scanned to find out what has expired, and nothing is searched when an entry leaves
early or gets another life: its old end stays, and who takes it out compares it with the end that
the entry has by then. When there are more than ``2 * living + 256`` ends, most are stale, and the
caller starts again with ``clear`` and ``add_many``.

Adding is an append. A bucket is a list of runs that are sorted when they are full, and merged when
the bucket's time has come: ends are taken out in order, and no step takes longer than sorting one
run, however many end at once.

Native twin: a heap of (end, id), ``near/native/lives.h``.
"""

from array import array
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lives"]

_PER_SECOND = 4
_LAST = 2**62  # the bucket of ends too far away for one of their own
_RUN = 4096

Ends = NDArray[np.float64]
Ids = NDArray[np.signedinteger[Any]]


class _Run:
    """Some ends in the order in which they came; sorted: the earliest is the last."""

    __slots__ = ("ends", "ids")

    def __init__(self) -> None:
        self.ids = array("q")
        self.ends = array("d")

    def extend(self, ids: Ids, ends: Ends) -> None:
        self.ids.frombytes(ids.tobytes())
        self.ends.frombytes(ends.tobytes())

    def sort(self) -> None:
        ids, ends = np.array(self.ids, np.int64), np.array(self.ends, np.float64)
        order = np.argsort(ends)[::-1]
        self.ids, self.ends = array("q"), array("d")
        self.extend(ids[order], ends[order])


class _Bucket:
    """All but the last run are sorted."""

    __slots__ = ("earliest", "runs")

    def __init__(self) -> None:
        self.earliest = inf
        self.runs = [_Run()]

    def add(self, id_: int, end: float) -> None:
        run = self.runs[-1]
        if len(run.ids) >= _RUN:
            run = self._next_run()
        run.ids.append(id_)
        run.ends.append(end)
        self.earliest = min(self.earliest, end)

    def add_many(self, ids: Ids, ends: Ends) -> None:
        self.earliest = min(self.earliest, float(ends.min()))
        at = 0
        while at < len(ids):
            run = self.runs[-1]
            if len(run.ids) >= _RUN:
                run = self._next_run()
            to = at + _RUN - len(run.ids)
            run.extend(ids[at:to], ends[at:to])
            at = to

    def _next_run(self) -> _Run:
        self.runs[-1].sort()
        self.runs.append(_Run())
        return self.runs[-1]


class Lives:
    """The ends of lives of numbered entries.

    Thread-safe: no. Interrupted: ``clear``, and add what is living.
    """

    __slots__ = ("_buckets", "_heads", "_numbers", "_present", "_serial", "count", "next")

    count: int
    """How many ends there are, stale ones included."""
    next: float
    """The earliest end, possibly a stale one; inf when there is none."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget every end."""
        self._buckets: dict[int, _Bucket] = {}
        self._numbers: list[int] = []  # a heap
        # a heap of (end, tiebreaker, id, the run it was in): what comes next of the present bucket,
        # whose other ends are still in their runs; None for an end that came late
        self._heads: list[tuple[float, int, int, _Run | None]] = []
        self._present = -1
        self._serial = count()
        self.count = 0
        self.next = inf

    def add(self, id: int, end: float) -> None:  # noqa: A002
        """Note that the life of ``id`` ends at ``end``, which is above 0."""
        number = int(min(end * _PER_SECOND, _LAST))
        if number <= self._present:
            heappush(self._heads, (end, next(self._serial), id, None))
        else:
            bucket = self._buckets.get(number)
            if bucket is None:
                bucket = self._bucket(number)
            bucket.add(id, end)
        self.count += 1
        self.next = min(self.next, end)

    def add_many(self, ids: Ids, ends: Ends) -> None:
        """Note several ends. Shapes: (n,) each."""
        ids, ends = ids.astype(np.int64), ends.astype(np.float64)
        numbers = np.minimum(ends * _PER_SECOND, _LAST).astype(np.int64)
        for number in sorted(set(numbers.tolist())):
            here = numbers == number
            if number <= self._present:
                for id_, end in zip(ids[here].tolist(), ends[here].tolist(), strict=True):
                    self.add(id_, end)
            else:
                self._bucket(number).add_many(ids[here], ends[here])
                self.count += int(np.count_nonzero(here))
        self.next = min(self.next, float(ends.min(initial=inf)))

    def _bucket(self, number: int) -> _Bucket:
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = _Bucket()
            heappush(self._numbers, number)
        return bucket

    def due(self, now: float, most: int) -> list[tuple[int, float]]:
        """Take out up to ``most`` (id, end) with an end up to ``now``, the earliest first."""
        found: list[tuple[int, float]] = []
        while self.count and self.next <= now and len(found) < most:
            if not self._heads:
                self._open_next()
            end, serial, id_, run = self._heads[0]
            found.append((id_, end))
            if run is not None and run.ids:
                heapreplace(self._heads, (run.ends.pop(), serial, run.ids.pop(), run))
            else:
                heappop(self._heads)
            self.count -= 1
            self._look_ahead()
        return found

    def _open_next(self) -> None:
        self._present = heappop(self._numbers)
        runs = self._buckets.pop(self._present).runs
        runs[-1].sort()
        self._heads = [(run.ends.pop(), next(self._serial), run.ids.pop(), run) for run in runs]
        heapify(self._heads)

    def _look_ahead(self) -> None:
        if self._heads:
            self.next = self._heads[0][0]
        elif self._numbers:
            self.next = self._buckets[self._numbers[0]].earliest
        else:
            self.next = inf

    def check(self) -> None:
        """Raise AssertionError where something is inconsistent; for tests."""
        assert sorted(self._numbers) == sorted(self._buckets), "every bucket is in the heap"
        total, earliest = len(self._heads), [head[0] for head in self._heads]
        for end, _, _, run in self._heads:
            assert int(min(end * _PER_SECOND, _LAST)) <= self._present, "later ones wait"
            if run is not None:
                assert list(run.ends) == sorted(run.ends, reverse=True), "a run is in order"
                assert len(run.ids) == len(run.ends), "every end has an id"
                assert end <= min(run.ends, default=inf), "its earliest is taken out first"
                total += len(run.ids)
        for number, bucket in self._buckets.items():
            assert number > self._present, "earlier ones are not in buckets"
            ends = [end for run in bucket.runs for end in run.ends]
            ids = [id_ for run in bucket.runs for id_ in run.ids]
            assert len(ids) == len(ends) > 0, "every end has an id, and no bucket is empty"
            assert bucket.earliest == min(ends), "a bucket knows its earliest end"
            assert {int(min(end * _PER_SECOND, _LAST)) for end in ends} == {number}, "its own"
            earliest.append(bucket.earliest)
            total += len(ids)
        assert total == self.count, "every end is counted"
        assert min(earliest, default=inf) == self.next, "next is the earliest"
