"""``nearcache advise``: how far its predictions are from what then really happens."""

import statistics
from time import perf_counter

import numpy as np

from bench.machine import log
from bench.report import Judged, Report, Table
from bench.sim.grid import PERCENT
from bench.sim.players import hit_ratio as truth
from bench.sim.traces import found, load
from nearcache.metrics.advice.keys import Keys, mixed
from nearcache.metrics.advice.simulate import hit_ratio
from nearcache.near.curve import Histogram, measured

__all__ = ["run"]

TITLE = "Advice: predicted hit ratios beside real ones"
_POLICIES = ("adaptive", "lru", "s3fifo", "sieve")
_SHARE = 0.25  # of the keys, in a key log
_SALTS = (0, 0x5BD1E995F00D, 0x27D4EB2F1656)
_LEAST = 1000  # entries of a cache that a sampled log can tell about


def run(*, quick: bool) -> Report:
    """Predict for every trace, size and policy, then play the whole trace on a real near tier."""
    report = Report("advise", TITLE, quick)
    whole, sampled, live, seconds = [], [], [], []
    columns = ["trace, share of its keys", "entries"]
    for policy in _POLICIES:
        columns += [f"{policy}: predicted", "really"]
    columns += [f"adaptive, from {_SHARE:.0%} of the keys", "adaptive, from the running cache"]
    table = Table("Predicted and real hit ratios, %", columns)
    for name in found():
        trace = load(name, 20_000 if quick else 1_300_000)
        log(f"advise: {trace.name}")
        keys = Keys(mixed(np.array(trace.keys, np.uint64)))
        bound = np.uint64(int(_SHARE * 2**64))
        part = Keys(keys.hashes[keys.hashes < bound], share=_SHARE, asked=len(trace.keys))
        estimate = _estimate(trace.keys, trace.size(10))
        for percent in PERCENT:
            size = trace.size(percent)
            row: list = [size]
            for policy in _POLICIES:
                began = perf_counter()
                guess = hit_ratio(keys, policy, size)
                seconds.append(perf_counter() - began)
                real = _really(policy, trace.keys, size)
                row += [100 * guess, 100 * real]
                whole.append((abs(guess - real), f"{trace.name}, {size:,} entries, {policy}"))
            real = row[2] / 100
            guess = hit_ratio(part, "adaptive", size)
            running = estimate(size)
            row += [100 * guess, 100 * running]
            if size >= _LEAST:
                sampled.append((abs(guess - real), f"{trace.name}, {size:,} entries"))
            live.append((abs(running - real), f"{trace.name}, {size:,} entries"))
            table.rows.append([f"{trace.name}, {percent} %", *row])
    report.tables.append(table)
    _judge(report, "from the whole trace or log", whole)
    _judge(
        report, f"from a key log of {_SHARE:.0%} of the keys, {_LEAST:,} entries or more", sampled
    )
    within = 100 * sum(off <= 0.02 for off, _ in live) / len(live)
    off, where = max(live)
    report.notes.append(
        f"From the sample of a running cache (adaptive, a tenth of the keys; nothing recorded): "
        f"{within:.0f} % of the pairs within 2 points, mean "
        f"{100 * statistics.mean(each for each, _ in live):.2f}, most {100 * off:.1f} ({where}). "
        "It tells of LRU, which scans and loops hurt more than adaptive; `advise` says so."
    )
    report.notes.append(
        f"A choice takes {statistics.mean(seconds):.2f} s on average. Beyond 600,000 requests a "
        "share of the keys is played, on a cache as much smaller, of 10,000 entries at least."
    )
    return report


def _really(policy: str, keys: list[int], size: int) -> float:
    """What happens; the median of three runs where chance has a say, as it has in predictions."""
    if policy != "adaptive":
        return truth(policy, keys, size)
    return statistics.median(truth(policy, [key ^ salt for key in keys], size) for salt in _SALTS)


def _judge(report: Report, name: str, errors: list[tuple[float, str]]) -> None:
    off, where = max(errors) if errors else (0.0, "none")
    mean = statistics.mean(each for each, _ in errors) if errors else 0.0
    report.judged.append(Judged(f"{name}: most that it was off", 2, 100 * off, "points"))
    report.notes.append(
        f"{name}: {len(errors)} predictions, mean error {100 * mean:.2f} points; worst: {where}."
    )


def _estimate(keys: list[int], size: int):
    """What ``advise --store`` makes of a cache that runs: what it hits, moved along its curve."""
    from bench.near.tiers import CORES, object_tier

    tier = object_tier(CORES[0], "adaptive", size)
    get, put = tier.get, tier.put
    hits = 0
    for key in keys:
        if get(key) is None:
            put(key, True)
        else:
            hits += 1
    curve = measured(Histogram(*tier.histogram()))
    base, at_size = hits / len(keys), curve.hit_ratio(size)
    return lambda other: min(1.0, max(0.0, base + curve.hit_ratio(other) - at_size))
