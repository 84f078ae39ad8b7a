"""Counting operations and how long they take: exact counts, percentiles of the latest ones."""

import threading
from collections import deque
from collections.abc import Iterable
from time import perf_counter
from types import TracebackType

__all__ = ["Timed", "Timings"]

_KEPT = 512  # latencies of an operation that percentiles are taken of
_PENDING = 1000


class Operation:
    """What one operation did so far. Thread-safe, exact; a call is noted without a lock.

    What one thread appends to a deque another one takes from it once: latencies wait there until
    they are many, or somebody asks.
    """

    __slots__ = ("_count", "_errors", "_latest", "_lock", "_longest", "_pending", "_seconds")

    def __init__(self) -> None:
        self._pending: deque[float] = deque()
        self.start_anew()
        self.reset()

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Count from zero again."""
        with self._lock:
            self._pending.clear()
            self._count = self._errors = 0
            self._seconds = self._longest = 0.0
            self._latest: deque[float] = deque(maxlen=_KEPT)

    def note(self, started: float) -> None:
        """Count one call that began at ``started`` (``perf_counter``) and has just ended."""
        pending = self._pending
        pending.append(perf_counter() - started)
        if len(pending) > _PENDING:
            with self._lock:
                self._fold()

    def note_error(self, started: float) -> None:
        """Count one call that failed."""
        with self._lock:
            self._errors += 1
            self._pending.append(perf_counter() - started)

    def _fold(self) -> None:
        """Count what is pending. Under the lock: nobody else takes anything away."""
        pending = self._pending
        taken = [pending.popleft() for _ in range(len(pending))]
        self._count += len(taken)
        self._seconds += sum(taken)
        self._longest = max(self._longest, *taken, 0.0)
        self._latest.extend(taken)

    def figures(self) -> dict[str, float]:
        """Return its figures. Units: milliseconds."""
        with self._lock:
            self._fold()
            count, errors = self._count, self._errors
            seconds, longest = self._seconds, self._longest
            latest = sorted(self._latest)
        return {
            "count": count,
            "errors": errors,
            "mean_ms": 1e3 * seconds / count if count else 0.0,
            "p50_ms": 1e3 * _percentile(latest, 50),
            "p95_ms": 1e3 * _percentile(latest, 95),
            "max_ms": 1e3 * longest,
        }


def _percentile(ascending: list[float], percent: int) -> float:
    """Return the least of some numbers that so many percent of them do not exceed."""
    if not ascending:
        return 0.0
    return ascending[-(-len(ascending) * percent // 100) - 1]


class Timed:
    """Counts what happens in a ``with`` as one call; an exception makes it an error."""

    __slots__ = ("_operation", "_started")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._operation.note(self._started)
        else:
            self._operation.note_error(self._started)


class Timings:
    """The operations of one object, by name."""

    def __init__(self, names: Iterable[str]) -> None:
        self._operations = {name: Operation() for name in names}

    def of(self, name: str) -> Operation:
        """Return one operation."""
        return self._operations[name]

    def timed(self, name: str) -> Timed:
        """Return a ``with`` that counts one call."""
        return Timed(self._operations[name])

    def figures(self) -> dict[str, dict[str, float]]:
        """Return the figures of each operation."""
        return {name: operation.figures() for name, operation in self._operations.items()}

    def reset(self) -> None:
        """Count from zero again."""
        for operation in self._operations.values():
            operation.reset()

    def start_anew(self) -> None:
        """Take new locks: after a fork another thread may have held the old ones."""
        for operation in self._operations.values():
            operation.start_anew()
