"""The miss-ratio curve: what it costs a warm batch, and how far it is from an exact simulation."""

import itertools
import statistics
from collections import OrderedDict
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import data
from bench.machine import log, one_core
from bench.near.batch import tier_rows
from bench.near.tiers import CORES
from bench.report import Judged, Report, Table
from bench.sim.grid import PERCENT
from bench.sim.players import LRU, hit_ratio
from bench.sim.traces import found, load
from bench.timing import Contestant, race
from nearcache.near import pick

__all__ = ["run"]

TITLE = "The miss-ratio curve: cost and error"
_SIZE, _DIMENSION = 1000, 384
Hashes = NDArray[np.uint64]


def run(*, quick: bool) -> Report:
    """Time the curve's part of a batch on both cores, then compare curves with exact ones."""
    report = Report("near.curve", TITLE, quick)
    kinds = _kinds()
    if not kinds:
        report.notes.append("This nearcache has no miss-ratio curve: nothing was measured.")
        return report
    _cost(report, kinds, quick=quick)
    _error(report, kinds, quick=quick)
    return report


def _kinds() -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    if hasattr(pick.native, "Curve"):
        kinds["native"] = pick.native.Curve
    if find_spec("nearcache.near.curve"):
        kinds["pure"] = import_module("nearcache.near.curve").Curve
    return kinds


# -- cost ------------------------------------------------------------------------------------


def _cost(report: Report, kinds: dict[str, Any], *, quick: bool) -> None:
    rows, rounds, turns = (5_000, 9, 3_000) if quick else (50_000, 31, 12_000)
    texts, matrix = list(data.passages(rows)), data.vectors(rows, _DIMENSION)
    contestants: list[Contestant] = []
    for core in CORES:
        for name, options in _switches(core):
            log(f"near.curve: {name}")
            contestants.append(tier_rows(name, core, "float32", texts, matrix, **options))
    with one_core():
        batches = race(contestants, data.sampler(texts, matrix, _SIZE), rounds)
        parts = {core: _part(kind(), rows, turns) for core, kind in kinds.items()}
    table = Table(f"A warm batch of {_SIZE} out of {rows} rows, {rounds} rounds", ["µs", "median"])
    table.rows += [[name, timing.median * 1e6] for name, timing in batches.items()]
    table.rows += [[f"the curve's part, {core}", part * 1e6] for core, part in parts.items()]
    report.tables.append(table)
    for core, part in parts.items():
        whole = min(timing.median for name, timing in batches.items() if core in name)
        report.judged.append(
            Judged(f"the curve's part of a batch, {core}", 1, 100 * part / whole, "%")
        )
    report.notes.append(
        f"The curve's part is the mean over {turns:,} batches of {_SIZE} hits, counted by a curve "
        "alone: one per cent of a batch is less than two runs of the batch differ by."
    )


def _switches(core: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tier with and without the curve, where it can be switched off."""
    from bench.near.tiers import vector_tier

    try:
        vector_tier(core, "float32", 1, curve=False)
    except TypeError:
        yield f"tier, {core}", {}
    else:
        yield f"tier, {core}, with the curve", {"curve": True}
        yield f"tier, {core}, without", {"curve": False}


def _part(curve: Any, rows: int, turns: int) -> float:
    """Return the seconds that a batch of hits takes, over bursts and pauses."""
    hashes = _mixed(np.arange(rows))
    for value in hashes.tolist():
        curve.miss(value)
    rng = np.random.default_rng(5)
    drawn = [hashes[rng.permutation(rows)[:_SIZE]] for _ in range(200)]
    batches = list(itertools.islice(itertools.cycle(drawn), turns))
    start = perf_counter()
    for batch in batches:
        curve.hit_many(batch)
    return (perf_counter() - start) / turns


def _mixed(numbers: NDArray[Any]) -> Hashes:
    """Return 64 well-mixed bits of each number (splitmix64)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


# -- error -----------------------------------------------------------------------------------


def _error(report: Report, kinds: dict[str, Any], *, quick: bool) -> None:
    from nearcache.near.curve import Histogram, measured

    core = next(iter(kinds))
    at = [f"{percent} %: curve / exact" for percent in PERCENT]
    columns = ["hit ratio, %", *at, "mean error, points", "sampled keys"]
    table = Table(f"Estimated beside exact LRU ({core} curve)", columns)
    errors = []
    for name in found():
        trace = load(name, 20_000 if quick else 1_300_000)
        log(f"near.curve: {trace.name}")
        curve = kinds[core]()
        _play(curve, trace.keys, trace.size(10))
        estimate = measured(Histogram(*curve.histogram()))
        sizes = [trace.size(percent) for percent in PERCENT]
        exact = [hit_ratio(LRU, trace.keys, size) for size in sizes]
        pairs = [(estimate.hit_ratio(size), true) for size, true in zip(sizes, exact, strict=True)]
        off = [100 * abs(guess - true) for guess, true in pairs]
        errors += off
        cells = [f"{100 * guess:.1f} / {100 * true:.1f}" for guess, true in pairs]
        table.rows.append([trace.name, *cells, statistics.mean(off), estimate.sampled])
    report.tables.append(table)
    report.notes.append(
        f"Mean error over all traces and sizes: {statistics.mean(errors):.2f} points, most "
        f"{max(errors):.1f}. The curve sees what an LRU cache of 10 % of the keys hits and misses, "
        "and lets old requests fade; the exact figures are of the whole trace."
    )


def _play(curve: Any, keys: list[int], size: int) -> None:
    hashes = _mixed(np.arange(max(keys) + 1)).tolist()
    kept: OrderedDict[int, None] = OrderedDict()
    for key in keys:
        if key in kept:
            kept.move_to_end(key)
            curve.hit(hashes[key])
        else:
            if len(kept) >= size:
                kept.popitem(last=False)
            kept[key] = None
            curve.miss(hashes[key])
