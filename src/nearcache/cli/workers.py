"""What all workers did, as tables: for ``stats`` and ``top``."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from nearcache.cli.words import ago, amount, duration, long_duration, share, size
from nearcache.metrics.workers import BREAKERS

if TYPE_CHECKING:
    from nearcache.metrics.prices import Prices
    from nearcache.metrics.report import CacheReport, Report, Worker
    from nearcache.stats import Stats

__all__ = [
    "asked",
    "caches",
    "empty",
    "headline",
    "latencies",
    "money",
    "nobody",
    "trouble",
    "workers",
]

NAMED_LATENCIES = {
    "near": "near hit",
    "store": "store trip",
    "load": "loader call",
    "link": "link",
}
_GOOD = {"tracking", "polling"}
_WIDE, _NARROW = 72, 56  # columns


def asked(stats: "Stats") -> int:
    """Return how much was asked for."""
    return stats.hits + stats.misses + stats.coalesced


def headline(report: "Report") -> Text:
    """Return one line: which store, how many caches and workers, and when."""
    late = sum(not worker.alive for worker in report.workers)
    facts = [
        report.address,
        *([] if report.namespace is None else [f"namespace {report.namespace}"]),
        _many(len(report.caches), "cache"),
        _many(len(report.workers), "worker") + (f" ({late} late)" if late else ""),
        time.strftime("%H:%M:%S", time.localtime(report.at)),
    ]
    return Text(" · ".join(facts), style="bold", overflow="ellipsis", no_wrap=True)


def caches(report: "Report", *, most: int | None = None, width: int = 80) -> Table:
    """Return what each cache did, those that were asked most first."""
    grid = empty()
    _column(grid, "cache", ratio=1)
    wide, tiers = width >= _WIDE, width >= _NARROW
    for head in ("asked", "hits", *(("near", "store") if tiers else ()), "miss"):
        grid.add_column(head, justify="right", no_wrap=True)
    if wide:
        grid.add_column("calls saved", justify="right", no_wrap=True)
        grid.add_column("time saved", justify="right", no_wrap=True)
    ordered = sorted(report.caches, key=lambda cache: -asked(cache.stats))
    for cache in ordered[:most]:
        _add_cache(grid, _label(cache, kind=wide), cache.stats, wide=wide, tiers=tiers)
    if len(ordered) > 1:
        _add_cache(grid, Text("all", style="bold"), report.stats, wide=wide, tiers=tiers)
    return grid


def _add_cache(grid: Table, label: Text, stats: "Stats", *, wide: bool, tiers: bool) -> None:
    whole = asked(stats)
    row: list[Any] = [
        label,
        f"{whole:,}",
        Text(share(stats.hits, whole), style="bold"),
    ]
    if tiers:
        in_store = stats.far_hits + stats.stale_hits
        row += [share(stats.near_hits, whole), share(in_store, whole)]
    row.append(share(stats.misses + stats.coalesced, whole))
    if wide:
        saved = stats.saved_seconds
        row += [f"{stats.saved_loads:,}", duration(saved) if saved < 1 else long_duration(saved)]
    grid.add_row(*row)


def money(report: "Report", prices: "Prices | None") -> list[Text]:
    """Return a line on what was saved and spent; none where nothing has a price."""
    if prices is None:
        return []
    priced = [cache for cache in report.caches if prices.price(cache.namespace) is not None]
    if not priced:
        return [Text("money: the price file names none of these namespaces")]
    saved = sum(prices.money(cache.namespace, cache.stats.saved_loads) or 0.0 for cache in priced)
    spent = sum(prices.money(cache.namespace, cache.stats.loads) or 0.0 for cache in priced)
    known = (
        "" if len(priced) == len(report.caches) else f", of {_many(len(priced), 'priced cache')}"
    )
    currency = prices.currency
    return [Text(f"money: saved {amount(saved, currency)}, spent {amount(spent, currency)}{known}")]


def latencies(report: "Report", *, width: int = 80) -> Table:
    """Return how long each tier took, the median and, with room, what one in a hundred exceeds."""
    grid, wide = empty(), width >= _WIDE
    _column(grid, "p50 / p99" if wide else "p50", ratio=1)
    for name in NAMED_LATENCIES.values():
        grid.add_column(name, justify="right", no_wrap=True)
    for cache in sorted(report.caches, key=lambda cache: -asked(cache.stats)):
        cells = []
        for name in NAMED_LATENCIES:
            found = cache.latency[name]
            half, most = duration(found.quantile(0.5)), duration(found.quantile(0.99))
            cells.append(f"{half} / {most}" if found.count and wide else half)
        grid.add_row(_label(cache, kind=False), *cells)
    return grid


def workers(report: "Report", *, most: int | None = None, width: int = 80) -> Table:
    """Return each process that reports, the worst first."""
    grid = empty()
    _column(grid, "worker", ratio=1)
    wide, narrow = width >= _WIDE, width < _NARROW
    heads: tuple[str, ...] = ("said", "link", "breaker")
    if not narrow:
        heads = ("up", *heads, *(("near", "core") if wide else ()))
    for head in heads:
        grid.add_column(head, no_wrap=True, justify="right" if head in ("up", "near") else "left")
    shown = sorted(report.workers, key=lambda worker: (_is_well(worker), worker.host, worker.pid))
    for worker in shown[:most]:
        breaker = max((c.stats.breaker for c in worker.caches), key=BREAKERS.index, default="")
        link = _links({cache.link.state for cache in worker.caches})
        row: list[Any] = [
            Text(f"{worker.host} {worker.pid} {worker.program}"),
            *([] if narrow else [long_duration(max(0, int(report.at - worker.started)))]),
            Text(ago(worker.age), style="" if worker.alive else "red"),
            Text(link, style="" if link in _GOOD or link == "none" else "red"),
            Text(breaker or "–", style=_alarm(breaker in BREAKERS[1:])),
        ]
        if wide:
            row += [size(sum(cache.stats.bytes_near for cache in worker.caches)), worker.core]
        grid.add_row(*row)
    return grid


def trouble(report: "Report") -> list[Text]:
    """Return a line for everything that is not as it should be."""
    stats, lines = report.stats, []
    late = [worker for worker in report.workers if not worker.alive]
    if late:
        lines.append(f"{_many(len(late), 'worker')} did not report in time: ended, or held up")
    lost = [
        (worker.id, cache.namespace, cache.link.reason)
        for worker in report.workers
        for cache in worker.caches
        if cache.link.state == "lost"
    ]
    if lost:
        deaf, where, why = ({each[i] for each in lost} for i in range(3))
        reason = f" ({min(why)})" if min(why) else ""
        names = ", ".join(sorted(where))
        lines.append(f"{_many(len(deaf), 'worker')} cannot hear the store: {names}{reason}")
    if stats.breaker != "closed":
        lines.append(f"the breaker of a worker is {stats.breaker}: it leaves the store alone")
    for count, one, what in (
        (stats.undelivered, "invalidation", "not in the store yet: others may read the old value"),
        (stats.unwritten, "load", "not in the store yet"),
        (stats.store_errors, "store error", "so far"),
        (stats.load_failures, "loader failure", "so far"),
        (stats.corrupt, "damaged entry", "found, and loaded anew"),
        (report.unreadable, "snapshot", "of another release, not read"),
    ):
        if count:
            lines.append(f"{_many(count, one)} {what}")
    return [Text(f"! {line}", style="yellow") for line in lines]


def nobody(report: "Report", listed: Sequence[str] = ()) -> list[str]:
    """Return why no worker may be there to be seen, in sentences."""
    whose = "" if report.namespace is None else f" of the namespace {report.namespace!r}"
    lines = [f"No worker{whose} reports to {report.address}."]
    if report.unreadable:
        lines.append(f"{report.unreadable} reports there are of another release: use its program.")
    if listed:
        lines.append(f"Workers of other namespaces do: {', '.join(listed)}.")
    return [
        *lines,
        "- Does a program with a cache on this store run? It reports 5 seconds after it",
        "  first asks the store, and is forgotten 20 seconds after it was killed.",
        "- Is it this store? The same URL; on Redis with the same database number.",
        "- Options(report=0) turns reports off, and NEARCACHE_REPORT=0 by default.",
        "- A Redis user needs the rights in docs/operations.md, 'A user of its own'.",
    ]


def _label(cache: "CacheReport", *, kind: bool) -> Text:
    text = Text(cache.namespace, overflow="ellipsis", no_wrap=True)
    return text.append(f" {cache.kind}", style="dim") if kind else text


def _is_well(worker: "Worker") -> bool:
    return worker.alive and all(
        cache.link.state != "lost" and cache.stats.breaker == "closed" for cache in worker.caches
    )


def _links(states: set[str]) -> str:
    """Return the one that matters of several states."""
    return next(
        (state for state in ("lost", "tracking", "polling", "none") if state in states), "none"
    )


def _alarm(on: object) -> str:
    return "red" if on else ""


def _many(count: int, what: str) -> str:
    plural = what[:-1] + "ies" if what.endswith("entry") else what + "s"
    return f"{count:,} {what if count == 1 else plural}"


def empty() -> Table:
    """Return an empty table in the form of all of them."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, expand=True)


def _column(grid: Table, head: str, *, ratio: int) -> None:
    grid.add_column(head, no_wrap=True, overflow="ellipsis", ratio=ratio)
