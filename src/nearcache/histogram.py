"""Durations, counted in steps: how often something took how long, for little memory and time."""

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

__all__ = ["BOUNDS", "Distribution", "Histogram"]

log = logging.getLogger("nearcache")

BOUNDS: tuple[float, ...] = (
    *(float(f"{digit}e{power}") for power in range(-7, 2) for digit in (1, 2, 5)),
    100.0,
)
"""The upper ends of the steps, in seconds, each inclusive; what is longer has a step of its own."""

_STEPS = len(BOUNDS) + 1
_MOST = 10**18  # of anything that is read


@dataclass(frozen=True, slots=True)
class Distribution:
    """How often something took how long; a snapshot that never changes.

    Units: seconds. ``counts`` are by step, the last of all that was longer than the last of
    ``BOUNDS``; ``total`` is the exact sum.
    """

    counts: tuple[int, ...] = (0,) * _STEPS
    total: float = 0.0

    @property
    def count(self) -> int:
        """How many were recorded."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The exact mean, in seconds; None before the first."""
        count = self.count
        return self.total / count if count else None

    def quantile(self, share: float) -> float | None:
        """Return the seconds that ``share`` (0 to 1) of all did not exceed; None before the first.

        Within a step they are taken to lie evenly; what is longer than all steps is as long as
        the last of them.
        """
        rank = share * self.count
        for i, (reached, count) in enumerate(
            zip(accumulate(self.counts), self.counts, strict=True)
        ):
            if count and reached >= rank:
                if i == len(BOUNDS):
                    return BOUNDS[-1]
                low = BOUNDS[i - 1] if i else 0.0
                return low + (BOUNDS[i] - low) * (rank - (reached - count)) / count
        return None

    def __add__(self, other: "Distribution") -> "Distribution":
        counts = (a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Distribution(tuple(counts), self.total + other.total)

    def __sub__(self, other: "Distribution") -> "Distribution":
        """Return what came after ``other``; all of it where that is no earlier part of this one."""
        counts = tuple(a - b for a, b in zip(self.counts, other.counts, strict=True))
        if min(counts) < 0:  # it was reset between the two
            return self
        return Distribution(counts, max(0.0, self.total - other.total))

    def to_list(self) -> list[float]:
        """Return the counts, and the total last: what JSON can carry."""
        return [*self.counts, self.total]

    @classmethod
    def from_list(cls, figures: object) -> "Distribution":
        """Return what :meth:`to_list` made a list of.

        Raises: ValueError where it did not.
        """
        if not isinstance(figures, list) or not _are_sound(figures):
            msg = f"a distribution is {_STEPS} counts and their total"
            raise ValueError(msg)
        return cls(tuple(figures[:-1]), float(figures[-1]))


def _are_sound(figures: list[Any]) -> bool:
    *counts, total = figures or [None]
    return (
        len(counts) == _STEPS
        and all(type(n) is int and 0 <= n <= _MOST for n in counts)
        and type(total) in (int, float)
        and 0 <= total <= _MOST
    )


class Histogram:
    """Durations as they come in.

    Thread-safe and exact. Cost: about half a microsecond a call.
    """

    __slots__ = ("_counts", "_listeners", "_lock", "_total")

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[float], object], ...] = ()
        self.start_anew()
        self.reset()

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            self._counts = [0] * _STEPS
            self._total = 0.0

    def record(self, seconds: float, count: int = 1) -> None:
        """Count something that took ``seconds``, ``count`` times."""
        step = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._counts[step] += count
            self._total += seconds * count
        if self._listeners:
            self._tell(seconds, count)

    def subscribe(self, listener: Callable[[float], object]) -> Callable[[], None]:
        """Call ``listener(seconds)`` at every record; the function returned ends that."""
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

        return unsubscribe

    def _tell(self, seconds: float, count: int) -> None:
        for listener in self._listeners:
            try:
                for _ in range(count):
                    listener(seconds)
            except Exception:  # never felt by whoever is measured
                log.exception("a listener of a histogram raised")

    def snapshot(self) -> Distribution:
        """Return what was recorded so far."""
        with self._lock:
            return Distribution(tuple(self._counts), self._total)
