"""What the proxy counts, as Prometheus reads it; before that, what its cache does."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from nearcache.metrics.exposition import Family, buckets, exposed
from nearcache.stats import Stats

__all__ = ["Histogram", "Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_BREAKER = ("closed", "half-open", "open")


class Histogram:
    """Counts of what is at most so large."""

    def __init__(self, name: str, about: str, bounds: Sequence[float]) -> None:
        self._name, self._about, self._bounds = name, about, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self) -> Family:
        """Return it as Prometheus has it."""
        samples = buckets(self._bounds, self._counts, self._sum, {})
        return Family(self._name, "histogram", self._about, samples)


class Metrics:
    """The counts of one proxy. None of them has a label that callers choose."""

    def __init__(self) -> None:
        self.hits = self.misses = self.bypassed = self.tokens = 0
        self.answers: Counter[tuple[str, int]] = Counter()
        self.calls: Counter[int] = Counter()
        self.seconds = Histogram(
            "nearcache_request_seconds", "Time to answer a request for embeddings.", _SECONDS
        )
        self.batches = Histogram(
            "nearcache_upstream_batch_inputs", "Inputs of a request to the provider.", _INPUTS
        )
        self.upstream_seconds = Histogram(
            "nearcache_upstream_seconds", "Time the provider took for a batch.", _SECONDS
        )

    def text(self, stats: Stats, *, has_store: bool, cache: Iterable[Family] = ()) -> str:
        """Return all of them in Prometheus' text form, behind the families of the cache."""
        store = _BREAKER.index(stats.breaker) if stats.breaker in _BREAKER else 0
        answers = Family("nearcache_answers_total", "counter", "Answers to callers.")
        for (route, status), count in sorted(self.answers.items()):
            answers.add(count, {"route": route, "status": str(status)})
        calls = Family(
            "nearcache_upstream_requests_total", "counter", "Batches sent to the provider."
        )
        for status, count in sorted(self.calls.items()):
            calls.add(count, {"status": str(status)})
        return exposed(
            [
                *cache,
                _counter("hits", "Inputs answered from the cache.", self.hits),
                _counter("misses", "Inputs sent to the provider.", self.misses),
                _counter("bypassed", "Requests for embeddings passed on uncached.", self.bypassed),
                _counter("tokens", "Tokens the provider counted.", self.tokens),
                answers,
                calls,
                self.seconds.family(),
                self.batches.family(),
                self.upstream_seconds.family(),
                _gauge("near_entries", "Vectors in this process.", stats.entries_near),
                _gauge("near_bytes", "Bytes of vectors in this process.", stats.bytes_near),
                _gauge("store_configured", "Whether there is a store.", int(has_store)),
                _gauge("store_breaker", "The store: 0 asked, 1 being tried, 2 left alone.", store),
                _gauge("store_unwritten", "Vectors that wait for the store.", stats.unwritten),
            ]
        )


def _counter(name: str, about: str, value: int) -> Family:
    family = Family(f"nearcache_{name}_total", "counter", about)
    family.add(value)
    return family


def _gauge(name: str, about: str, value: int) -> Family:
    family = Family(f"nearcache_{name}", "gauge", about)
    family.add(value)
    return family
