"""What the proxy counts, as Prometheus reads it."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

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

    def lines(self) -> list[str]:
        """Return it in Prometheus' text form."""
        name, running = self._name, 0
        lines = [f"# HELP {name} {self._about}", f"# TYPE {name} histogram"]
        for bound, count in zip(self._bounds, self._counts, strict=False):
            running += count
            lines.append(f'{name}_bucket{{le="{bound:g}"}} {running}')
        running += self._counts[-1]
        lines.append(f'{name}_bucket{{le="+Inf"}} {running}')
        return [*lines, f"{name}_sum {self._sum:.6f}", f"{name}_count {running}"]


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

    def text(self, stats: Stats, *, has_store: bool) -> str:
        """Return all of them in Prometheus' text form."""
        store = _BREAKER.index(stats.breaker) if stats.breaker in _BREAKER else 0
        lines = [
            *_counter("hits", "Inputs answered from the cache.", self.hits),
            *_counter("misses", "Inputs sent to the provider.", self.misses),
            *_counter("bypassed", "Requests for embeddings passed on uncached.", self.bypassed),
            *_counter("tokens", "Tokens the provider counted.", self.tokens),
            "# HELP nearcache_answers_total Answers to callers.",
            "# TYPE nearcache_answers_total counter",
            *(
                f'nearcache_answers_total{{route="{route}",status="{status}"}} {count}'
                for (route, status), count in sorted(self.answers.items())
            ),
            "# HELP nearcache_upstream_requests_total Batches sent to the provider.",
            "# TYPE nearcache_upstream_requests_total counter",
            *(
                f'nearcache_upstream_requests_total{{status="{status}"}} {count}'
                for status, count in sorted(self.calls.items())
            ),
            *self.seconds.lines(),
            *self.batches.lines(),
            *self.upstream_seconds.lines(),
            *_gauge("near_entries", "Vectors in this process.", stats.entries_near),
            *_gauge("near_bytes", "Bytes of vectors in this process.", stats.bytes_near),
            *_gauge("store_configured", "Whether there is a store.", int(has_store)),
            *_gauge("store_breaker", "The store: 0 asked, 1 being tried, 2 left alone.", store),
            *_counter("store_errors", "Failed operations of the store.", stats.store_errors),
            *_gauge("store_unwritten", "Vectors that wait for the store.", stats.unwritten),
        ]
        return "\n".join(lines) + "\n"


def _counter(name: str, about: str, value: int) -> list[str]:
    full = f"nearcache_{name}_total"
    return [f"# HELP {full} {about}", f"# TYPE {full} counter", f"{full} {value}"]


def _gauge(name: str, about: str, value: int) -> list[str]:
    full = f"nearcache_{name}"
    return [f"# HELP {full} {about}", f"# TYPE {full} gauge", f"{full} {value}"]
