"""What one worker said of its caches, as it was when it said it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from nearcache.histogram import Distribution
from nearcache.stats import Stats

__all__ = ["BREAKERS", "Curve", "Link", "Minute", "Worker", "WorkerCache", "figures", "summed"]

BREAKERS = ("closed", "half-open", "open")
"""The states of a breaker, the worst last."""


class Minute(NamedTuple):
    """What happened within a minute, which counts from the Unix epoch."""

    minute: int
    near_hits: int = 0
    far_hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    coalesced: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    saved_loads: int = 0
    saved_seconds: float = 0.0
    store_errors: int = 0

    @property
    def asked(self) -> int:
        """How much was asked for."""
        return self.hits + self.misses + self.coalesced

    @property
    def hits(self) -> int:
        """How much a tier answered."""
        return self.near_hits + self.far_hits + self.stale_hits

    @property
    def hit_rate(self) -> float | None:
        """Share of what was asked for that a tier answered, 0 to 1; None where nothing was."""
        return self.hits / self.asked if self.asked else None


@dataclass(frozen=True, slots=True)
class Link:
    """Whether a worker hears what others change.

    state: "tracking", "polling" (a look at times: vectors, which never change), "lost", "none".
    Units: ``since`` is a Unix time in seconds, None where nobody knows.
    """

    state: str = "none"
    since: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """The hit ratio that a near tier of so many entries would have had.

    Its own policy's, where the trail of what was asked for was played on small caches; else LRU's,
    from a sample. Only of the first is known what is None, or empty, by default.
    """

    points: tuple[tuple[int, float], ...]
    size: int
    """The entries it may have at present."""
    policy: str = "lru"
    really: float | None = None
    """What the tier did hit of the same requests."""
    requests: int = 0
    """As many they were."""
    others: Mapping[str, float] = field(default_factory=dict)
    """What other policies would have hit with the present size."""

    def hit_ratio(self, entries: float) -> float:
        """Return the ratio at a size; between two points on the line, beyond the last the last."""
        before = (0, 0.0)
        for point in self.points:
            if point[0] >= entries:
                span = point[0] - before[0]
                share = (entries - before[0]) / span if span else 1.0
                return before[1] + (point[1] - before[1]) * share
            before = point
        return before[1]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can carry; with the hit ratio at the present size, and at twice."""
        return {
            "points": [[size, ratio] for size, ratio in self.points],
            "size": self.size,
            "policy": self.policy,
            "others": dict(self.others),
            "hit_ratio": self.hit_ratio(self.size),
            "hit_ratio_at_twice": self.hit_ratio(2 * self.size),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCache:
    """One cache of one worker, its views included."""

    namespace: str
    kind: str
    stats: Stats
    link: Link = Link()
    policy: str = ""
    max_entries: int | None = None
    max_bytes: int | None = None
    ttl: float | None = None
    latency: Mapping[str, Distribution] = field(default_factory=dict)
    minutes: tuple[Minute, ...] = ()
    curve: Curve | None = None
    hottest: tuple[tuple[str, int], ...] = ()
    views: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can carry: what is not already in the report of all workers."""
        return {
            "namespace": self.namespace,
            "kind": self.kind,
            "link": asdict(self.link),
            "views": self.views,
            **figures(self.stats),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that reports.

    Units: ``started`` and ``at`` are Unix times by its own clock, ``age`` the seconds since its
    snapshot by the store's. ``alive``: it reported when it should have.
    """

    id: str
    host: str
    pid: int
    program: str
    version: str
    python: str
    core: str
    started: float
    at: float
    every: float
    age: float
    caches: tuple[WorkerCache, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether its last snapshot is no older than two are apart, and a second."""
        return self.age <= 2 * self.every + 1

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        names = [each.name for each in fields(self) if each.name != "caches"]
        return {
            **{name: getattr(self, name) for name in names},
            "alive": self.alive,
            "caches": [cache.to_dict() for cache in self.caches],
        }


def summed(all_stats: Iterable[Stats]) -> Stats:
    """Add up counts; the breaker is the worst."""
    sums: dict[str, Any] = dict.fromkeys((each.name for each in fields(Stats)), 0)
    sums["load_seconds"] = sums["saved_seconds"] = 0.0
    breaker = 0
    for stats in all_stats:
        for name, value in asdict(stats).items():
            if name != "breaker":
                sums[name] += value
        breaker = max(breaker, BREAKERS.index(stats.breaker))
    return Stats(**{**sums, "breaker": BREAKERS[breaker]})


def figures(stats: Stats) -> dict[str, Any]:
    """Return everything that is counted, by name, and the breaker."""
    return {**stats.to_dict(), "breaker": stats.breaker}
