"""A report to look at: many workers, an hour of minutes, figures that are different everywhere."""

from math import exp, sin

from nearcache.histogram import BOUNDS, Distribution
from nearcache.metrics.report import Curve, Link, Minute, Report, Worker, WorkerCache
from nearcache.stats import Stats

AT = 1_764_400_000.0

KINDS = (("docs", "EmbeddingCache"), ("agents", "HotMemoryCache"), ("search", "RetrievalCache"))


def report(workers: int = 20, *, at: float = AT) -> Report:
    """A report of so many workers, every one with three caches; one is late, one lost its link."""
    return Report(
        at=at,
        address="redis://cache.internal:6379/0",
        entries=48_211,
        bytes=163_840_000,
        workers=tuple(worker(number, at=at) for number in range(workers)),
    )


def worker(number: int, *, at: float = AT) -> Worker:
    """One worker; number 3 is late, number 5 has lost its link, number 7 an open breaker."""
    return Worker(
        id=f"{number:016x}",
        host=f"web-{number % 4}",
        pid=4000 + number,
        program="app:main",
        version="0.1.0",
        python="3.11.9",
        core="pure" if number == 9 else "native",
        started=at - 7200 + 60 * number,
        at=at - number % 5,
        every=5.0,
        age=17.0 if number == 3 else float(number % 5),
        caches=tuple(cache(number, *kind, at=at) for kind in KINDS),
    )


def cache(number: int, namespace: str, kind: str, *, at: float = AT) -> WorkerCache:
    """One cache of a worker."""
    lost = number == 5
    minutes = tuple(minute(int(at // 60) - 59 + i, number) for i in range(60))
    near, far = sum(m.near_hits for m in minutes), sum(m.far_hits for m in minutes)
    stats = Stats(
        near_hits=near,
        far_hits=far,
        stale_hits=number,
        misses=sum(m.misses for m in minutes),
        loads=sum(m.loads for m in minutes),
        load_seconds=sum(m.load_seconds for m in minutes),
        coalesced=sum(m.coalesced for m in minutes),
        evictions=10 * number,
        bytes_near=4_000_000 + number,
        entries_near=1000 + number,
        saved_loads=near + far,
        saved_seconds=0.05 * (near + far),
        store_errors=12 if number == 7 else 0,
        undelivered=3 if number == 7 else 0,
        breaker="open" if number == 7 else "closed",
    )
    embeddings = kind == "EmbeddingCache"
    return WorkerCache(
        namespace=namespace,
        kind=kind,
        stats=stats,
        link=Link("lost" if lost else "polling" if embeddings else "tracking", at - 600)
        if not lost
        else Link("lost", at - 30, "the server closed the connection"),
        policy="adaptive",
        max_entries=50_000 if embeddings else 10_000,
        max_bytes=256 * 2**20 if embeddings else None,
        ttl=None if embeddings else 300.0,
        latency={
            "near": around(6e-7, near),
            "store": around(4e-4, far),
            "load": around(0.05, stats.loads),
            "link": around(2e-4, 600),
        },
        minutes=minutes,
        curve=Curve(
            tuple((size, 0.9 * (1 - exp(-size / 9000))) for size in range(0, 32_000, 1000)),
            50_000 if embeddings else 10_000,
        ),
        hottest=()
        if kind != "HotMemoryCache"
        else tuple((f"fact:{i}", 1000 - 10 * i - number) for i in range(10)),
        views=2 if kind == "HotMemoryCache" else 0,
    )


def minute(number: int, salt: int = 0) -> Minute:
    """One minute, unlike those beside it."""
    wave = sin(number / 9)
    near, far, misses = 400 + int(200 * wave) + salt, 90 + salt % 7, 60 - int(30 * wave)
    return Minute(
        number,
        near_hits=near,
        far_hits=far,
        misses=misses,
        coalesced=5,
        loads=misses,
        load_seconds=0.05 * misses,
        saved_loads=near + far,
        saved_seconds=0.05 * (near + far),
    )


def around(seconds: float, count: int) -> Distribution:
    """Durations around one."""
    counts = [0] * (len(BOUNDS) + 1)
    middle = next(i for i, bound in enumerate(BOUNDS) if bound >= seconds)
    for offset, share in ((-1, 0.3), (0, 0.5), (1, 0.18), (3, 0.02)):
        counts[middle + offset] += int(count * share)
    return Distribution(tuple(counts), seconds * sum(counts))
