"""How long things take: what one engine measures, and where.

::

    near        a hit near, one of 2048; or a batch, one of 64, by its mean for one text
    store       one question to the store, in the thread that asks it
    load        one call of the loader, however many texts it was for
    link        a ping, until it came back: a change is heard of as late, at most
    staleness   how long ago the value of a stale answer expired
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from nearcache.histogram import Histogram

__all__ = ["Meter", "Spans"]

_HITS, _BATCHES = 2048, 64  # of so many one is timed
_NO_SPAN: AbstractContextManager[object] = nullcontext()


class Spans(Protocol):
    """Who wants to know when a question begins and when it ends: a tracer."""

    def store(self, operation: str) -> AbstractContextManager[object]:
        """Return what is entered around a question to the store."""

    def load(self, label: str, count: int) -> AbstractContextManager[object]:
        """Return what is entered around a call of the loader."""


class Meter:
    """The histograms of one engine. Thread-safe, exact."""

    __slots__ = ("link", "load", "near", "spans", "staleness", "store")

    def __init__(self) -> None:
        self.near = Histogram()
        self.store = Histogram()
        self.load = Histogram()
        self.link = Histogram()
        self.staleness = Histogram()
        self.spans: Spans | None = None

    def answered(self, cell: list[int], seconds: float, count: int = 1) -> None:
        """Record an answer from near, of so many texts; say in the thread's cell which is next."""
        self.near.record(seconds / count)
        cell[2] = cell[0] - count + max(_HITS, _BATCHES * count)

    @property
    def histograms(self) -> dict[str, Histogram]:
        """Every histogram by name."""
        return {
            "near": self.near,
            "store": self.store,
            "load": self.load,
            "link": self.link,
            "staleness": self.staleness,
        }

    def reset(self) -> None:
        """Start again from zero."""
        for histogram in self.histograms.values():
            histogram.reset()

    def start_anew(self) -> None:
        """Take new locks: after a fork another thread may have held the old ones."""
        for histogram in self.histograms.values():
            histogram.start_anew()

    def asking(self, operation: str) -> AbstractContextManager[object]:
        """Return what is entered around a question to the store."""
        return _NO_SPAN if self.spans is None else self.spans.store(operation)

    def loading(self, label: str, count: int) -> AbstractContextManager[object]:
        """Return what is entered around a call of the loader."""
        return _NO_SPAN if self.spans is None else self.spans.load(label, count)
