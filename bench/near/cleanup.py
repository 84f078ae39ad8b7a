"""Cleaning up: how long others stand still while 50,000 entries that have expired are dropped."""

import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

from bench import data
from bench.machine import log
from bench.near.tiers import CORES, SHELF, best_policy, fill_rows, object_tier, vector_tier
from bench.report import Judged, Report, Table
from nearcache import EmbeddingCache
from nearcache.clock import monotonic

__all__ = ["run"]

TITLE = "The longest that others wait while 50,000 expired entries are dropped"
_DIMENSION = 384
_SWITCH = 1e-5  # seconds after which CPython takes the interpreter from a thread that is asked for
Case = tuple[Callable[[], int], Callable[[], object]]


def run(*, quick: bool) -> Report:
    """Watch a thread that only reads the clock, and one that asks the tier, during clean-ups."""
    report = Report("near.cleanup", TITLE, quick)
    entries, trials = (5_000, 3) if quick else (50_000, 9)
    cases: dict[str, Callable[[], Case]] = {}
    for core in CORES:
        cases[f"rows, {core}"] = lambda core=core: _rows(core, entries)
        cases[f"objects, {core}"] = lambda core=core: _objects(core, entries)
    cases["EmbeddingCache.cleanup_expired"] = lambda: _cache(entries)
    columns = ["ms, the middle trial", "clean-up", "clock reader stood still", "else"]
    columns += ["interpreter held", "tier asker stood still", "else", "tier held"]
    table = Table(f"{entries} entries, {trials} trials", columns)
    for name, make in cases.items():
        log(f"near.cleanup: {name}")
        with _short_turns():
            seen = [_trial(make, entries) for _ in range(trials)]
        row = [statistics.median(column) * 1e3 for column in zip(*seen, strict=True)]
        table.rows.append([name, *row])
        for what, held in (("interpreter", row[3]), ("tier", row[6])):
            report.judged.append(Judged(f"{name}: longest hold of the {what}", 1, held, "ms"))
    report.tables.append(table)
    report.notes.append(
        "A second thread reads the clock without a pause, or asks the tier for one living entry, "
        "while the first cleans up: the longest that it stood still, and the longest in as much "
        "time beside a thread that does plain Python work instead (`else`). What is held is the "
        "one less the other. The clock is the process's processor time, that does not go on while "
        "the machine works for others. CPython lets a thread run for 5 ms when another waits; it "
        "is told 10 µs here, or that would be all there is to see."
    )
    return report


@contextmanager
def _short_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    gc.disable()  # a collection is nobody's clean-up
    try:
        yield
    finally:
        gc.enable()
        sys.setswitchinterval(before)


def _trial(make: Callable[[], Case], entries: int) -> list[float]:
    """Return seconds: the clean-up, then for both watchers its gap, its usual one, and the rest."""
    found: list[float] = []
    took = 0.0
    for asks in (False, True):
        clean, ask = make()
        gap, took = _watched(clean, ask if asks else None, entries)
        usual, _ = _watched(lambda took=took: _busy(took), ask if asks else None, None)
        found += [gap, usual, max(0.0, gap - usual)]
    return [took, *found]


def _busy(seconds: float) -> int:
    end, turns = perf_counter() + seconds, 0
    while perf_counter() < end:
        turns += 1
    return turns


def _watched(
    act: Callable[[], int], ask: Callable[[], object] | None, expected: int | None
) -> tuple[float, float]:
    """Run ``act``; return the longest gap that another thread saw meanwhile, and its seconds."""
    started, done = threading.Event(), threading.Event()
    longest = 0.0

    def watch() -> None:
        nonlocal longest
        is_done, seen = done.is_set, process_time()
        started.set()
        while not is_done():
            if ask is not None:
                ask()
            now = process_time()
            if now - seen > longest:
                longest = now - seen
            seen = now
        longest = max(longest, process_time() - seen)  # stopped just before it asked for the end

    thread = threading.Thread(target=watch)
    thread.start()
    started.wait()
    longest = 0.0
    start = perf_counter()
    dropped = act()
    took = perf_counter() - start
    done.set()
    thread.join()
    if expected is not None and dropped != expected:
        msg = f"{dropped} of {expected} expired entries were dropped"
        raise AssertionError(msg)
    return longest, took


def _rows(core: str, entries: int) -> Case:
    tier = vector_tier(core, "float32", entries + 1)
    texts = [f"{number:040d}" for number in range(entries)]
    fill_rows(tier, "float32", texts, data.vectors(entries, _DIMENSION), monotonic() + 1e-3)
    fill_rows(tier, "float32", ["living"], data.vectors(1, _DIMENSION))
    time.sleep(0.01)
    return tier.expire, lambda: tier.get_one(SHELF, "living")


def _objects(core: str, entries: int) -> Case:
    tier: Any = object_tier(core, best_policy(), entries + 1)
    end = monotonic() + 1e-3
    for number in range(entries):
        tier.put(f"{number:040d}", bytes(200), end, 300)
    tier.put("living", b"")
    time.sleep(0.01)
    return tier.expire, lambda: tier.get("living")


def _cache(entries: int) -> Case:
    cache = EmbeddingCache(max_entries=entries + 1, max_bytes=2**31)
    texts = [f"{number:040d}" for number in range(entries)]
    matrix = data.vectors(entries, _DIMENSION)
    for start in range(0, entries, 500):
        stop = start + 500
        cache.put_batch(texts[start:stop], matrix[start:stop], "m", ttl=1e-3)
    cache.put("living", matrix[0], "m")
    time.sleep(0.01)
    return cache.cleanup_expired, lambda: cache.get("living", "m")
