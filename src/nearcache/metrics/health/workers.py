"""What the workers of a store say of themselves: their links, what waits, their releases."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from nearcache.errors import StoreError
from nearcache.metrics.health.check import Check
from nearcache.stores.base import Store

__all__ = ["of_report", "workers"]


def workers(store: Store, namespace: str | None) -> Iterator[Check]:
    """Say what is wrong with the workers that report, or that nothing is."""
    from nearcache.metrics.report import read

    try:
        report = read(store, namespace)
    except StoreError as error:
        cure = "Allow the keys of reports (docs/operations.md) if you want them."
        yield Check("workers", "warn", f"reports cannot be read: {error}", cure)
        return
    yield from of_report(report, evicts=_evicts(store))


def of_report(report: Any, *, evicts: bool = False) -> Iterator[Check]:
    """Say what a report tells of the workers' health."""
    if not report.workers:
        yield Check("workers", "ok", "none is reporting")
        return
    found = [
        *_releases(report.workers),
        *_links(report.workers),
        *_waiting(report.workers),
        *_records(report, evicts=evicts),
    ]
    yield from found
    if not found:
        yield Check("workers", "ok", f"{len(report.workers)} reporting, all as they should be")


def _releases(workers: Any) -> Iterator[Check]:
    versions = Counter(worker.version for worker in workers)
    if len(versions) > 1:
        shown = ", ".join(f"{count} × {version}" for version, count in sorted(versions.items()))
        cure = "Bring all to one release; entries of another format are misses to the others."
        yield Check("workers", "warn", f"they run different releases: {shown}", cure)
    pure = [worker for worker in workers if worker.core == "pure"]
    if pure:
        cure = "Run `nearcache doctor` there: it says why the native core is missing."
        detail = f"{len(pure)} of {len(workers)} run without the native core ({_who(pure[0])})"
        yield Check("workers", "warn", detail, cure)


def _links(workers: Any) -> Iterator[Check]:
    lost = [
        (worker, cache)
        for worker in workers
        for cache in worker.caches
        if cache.link.state == "lost"
    ]
    if lost:
        worker, cache = lost[0]
        why = f": {cache.link.reason}" if cache.link.reason else ""
        detail = f"{len(lost)} caches do not hear what others change ({_who(worker)}{why})"
        cure = (
            "Run `nearcache doctor --store …` on that machine. Until it hears again its copies of "
            "what may change are asked for anew after link_timeout."
        )
        yield Check("workers", "fail", detail, cure)


def _waiting(workers: Any) -> Iterator[Check]:
    waiting = [
        (worker, cache) for worker in workers for cache in worker.caches if cache.stats.undelivered
    ]
    if waiting:
        worker = waiting[0][0]
        count = sum(each.stats.undelivered for _, each in waiting)
        detail = f"{count} invalidations wait to be delivered ({_who(worker)})"
        cure = "Keep that process alive until it reaches the store: what waits is lost with it."
        yield Check("workers", "fail", detail, cure)
    is_open = [worker for worker in workers for c in worker.caches if c.stats.breaker != "closed"]
    if is_open:
        cure = "Run `nearcache doctor --store …` on that machine: it does not reach the store well."
        yield Check("workers", "warn", f"the breaker of {_who(is_open[0])} is open", cure)


def _records(report: Any, *, evicts: bool) -> Iterator[Check]:
    """Say where a record is kept in what may evict."""
    kinds = {cache.kind for cache in report.caches}
    if "ShortTermMemory" in kinds and evicts:
        cure = "Give ShortTermMemory a server of its own with maxmemory-policy noeviction."
        detail = "a ShortTermMemory is kept where the server may evict it"
        yield Check("records", "fail", detail, cure)


def _evicts(store: Store) -> bool:
    try:
        return store.may_evict()
    except StoreError:
        return False


def _who(worker: Any) -> str:
    return f"{worker.program} on {worker.host}, process {worker.pid}"
