"""Timing: contestants run in turns within one process, so that their ratios hold."""

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from bench.machine import steady_memory

__all__ = ["Contestant", "Sample", "Timing", "race"]

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """One batch: str objects that nobody has seen before, their row numbers, the right answer."""

    texts: list[str]
    index: NDArray[np.intp]
    expected: Matrix


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to turn a warm batch into a matrix; ``before`` is done outside the clock."""

    name: str
    get: Callable[[Sample], Matrix]
    before: Callable[[], object] = lambda: None
    #: False: the figure is a bound, not an answer to compare (a memcpy of any rows).
    answers: bool = True


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one contestant's calls."""

    name: str
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    @property
    def cpu(self) -> float:
        """The processor time of the middle call: what a busy machine disturbs least."""
        return statistics.median(self.cpu_seconds)

    @property
    def median(self) -> float:
        """The middle call."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The fastest call."""
        return min(self.seconds)

    @property
    def p90(self) -> float:
        """Nine of ten calls took no longer."""
        return sorted(self.seconds)[int(0.9 * (len(self.seconds) - 1) + 0.5)]


def _once(contestant: Contestant, sample: Sample) -> tuple[float, float, Matrix]:
    contestant.before()
    gc.collect()
    start, busy = perf_counter(), process_time()
    got = contestant.get(sample)
    return perf_counter() - start, process_time() - busy, got


def race(
    contestants: Sequence[Contestant], sample: Callable[[], Sample], rounds: int
) -> dict[str, Timing]:
    """Time every contestant once per round, each round from another starter.

    Every contestant of a round gets equal texts in its own new str objects (no hash cached).
    Before the clock counts, each answers two batches that are compared bit for bit.

    Raises: ArithmeticError when a contestant returns anything else than what was put.
    """
    taken: dict[str, list[tuple[float, float]]] = {each.name: [] for each in contestants}
    steady_memory()
    gc.collect()
    gc.freeze()  # what is cached is not walked again by every collection between the calls
    try:
        for turn in range(-2, rounds):
            drawn = sample()
            order = [*contestants[turn % len(contestants) :], *contestants]
            for contestant in order[: len(contestants)]:
                elapsed, busy, got = _once(contestant, renewed(drawn))
                if turn >= 0:
                    taken[contestant.name].append((elapsed, busy))
                elif contestant.answers and not _same(got, drawn.expected):
                    msg = f"{contestant.name} returns another matrix than was put"
                    raise ArithmeticError(msg)
                del got
    finally:
        gc.unfreeze()
    return {name: Timing(name, *zip(*calls, strict=True)) for name, calls in taken.items()}


def renewed(sample: Sample) -> Sample:
    """Return the sample with equal texts in new objects."""
    texts = [text[:1] + text[1:] for text in sample.texts]
    return Sample(texts, sample.index, sample.expected)


def _same(got: Matrix, expected: Matrix) -> bool:
    return got.dtype == np.float32 and np.array_equal(got, expected)
