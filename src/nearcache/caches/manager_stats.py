"""What the caches of a manager did so far."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nearcache.stats import Stats

__all__ = ["ManagerStats"]


@dataclass(frozen=True, slots=True)
class ManagerStats:
    """The counts of each cache of a manager; a snapshot that never changes.

    A cache that the manager has not is None.
    Units: ``last_cleanup`` is a Unix time in seconds; None before the first clean-up.
    """

    hot: Stats | None = None
    embeddings: Stats | None = None
    retrieval: Stats | None = None
    last_cleanup: float | None = None

    @property
    def caches(self) -> dict[str, Stats]:
        """The counts by name, of the caches there are."""
        return dict(self._named())

    @property
    def overall_hit_rate(self) -> float:
        """Share of all that was asked for that a tier answered, 0 to 1; 0 before the first."""
        hits = asked = 0
        for _, stats in self._named():
            hits += stats.hits
            asked += stats.hits + stats.misses + stats.coalesced
        return hits / asked if asked else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return every figure by name."""
        return {
            "caches": {name: stats.to_dict() for name, stats in self._named()},
            "overall_hit_rate": self.overall_hit_rate,
            "last_cleanup": self.last_cleanup,
        }

    def _named(self) -> Iterator[tuple[str, Stats]]:
        for name in ("hot", "embeddings", "retrieval"):
            stats = getattr(self, name)
            if stats is not None:
                yield name, stats
