"""``nearcache advise``: how far its predictions are from what then really happens."""

import statistics
from time import perf_counter, thread_time

import numpy as np

from bench.machine import log
from bench.near.tiers import CORES, object_tier
from bench.report import Judged, Report, Table
from bench.sim.grid import PERCENT
from bench.sim.players import hit_ratio as truth
from bench.sim.traces import found, load
from nearcache.metrics.advice.advise import moved
from nearcache.metrics.advice.keys import Keys
from nearcache.metrics.advice.simulate import hit_ratio
from nearcache.metrics.workers import Curve
from nearcache.near.miniature import Miniature
from nearcache.near.replay import mixed
from nearcache.near.trail import Steps

__all__ = ["run"]

TITLE = "Advice: predicted hit ratios beside real ones"
_POLICIES = ("adaptive", "lru", "s3fifo", "sieve")
_SHARE = 0.25  # of the keys, in a key log
_SALTS = tuple(number * 0x5BD1E995F00D for number in range(9))
_LEAST = 1000  # entries of a cache that a sampled log can tell about


def run(*, quick: bool) -> Report:
    """Predict for every trace, size and policy, then play the whole trace on a real near tier."""
    report = Report("advise", TITLE, quick)
    whole, sampled, seconds, took = [], [], [], []
    live: dict[str, list[tuple[float, str]]] = {policy: [] for policy in _POLICIES}
    columns = ["trace, share of its keys", "entries"]
    for policy in _POLICIES:
        columns += [f"{policy}: predicted", "really"]
    others = Table("From a running cache of a tenth of the keys, %", columns)
    columns = [*columns, f"adaptive, from {_SHARE:.0%} of the keys"]
    table = Table("Predicted and real hit ratios, %", columns)
    for name in found():
        trace = load(name, 20_000 if quick else 1_300_000)
        log(f"advise: {trace.name}")
        keys = Keys(mixed(np.array(trace.keys, np.uint64)))
        bound = np.uint64(int(_SHARE * 2**64))
        part = Keys(keys.hashes[keys.hashes < bound], share=_SHARE, asked=len(trace.keys))
        running = {}
        for policy in _POLICIES:
            running[policy], each = _running(trace.keys, policy, trace.size(10))
            took.append(each)
        for percent in PERCENT:
            size = trace.size(percent)
            row: list = [size]
            other: list = [size]
            for policy in _POLICIES:
                began = perf_counter()
                guess = hit_ratio(keys, policy, size)
                seconds.append(perf_counter() - began)
                real = _really(policy, trace.keys, size)
                row += [100 * guess, 100 * real]
                whole.append((abs(guess - real), f"{trace.name}, {size:,} entries, {policy}"))
                guess = running[policy](size)
                other += [100 * guess, 100 * real]
                live[policy].append((abs(guess - real), f"{trace.name}, {size:,} entries"))
            real = row[2] / 100
            guess = hit_ratio(part, "adaptive", size)
            row.append(100 * guess)
            if size >= _LEAST:
                sampled.append((abs(guess - real), f"{trace.name}, {size:,} entries"))
            table.rows.append([f"{trace.name}, {percent} %", *row])
            others.rows.append([f"{trace.name}, {percent} %", *other])
    report.tables.append(table)
    _live(report, live, others)
    _judge(report, "from the whole trace or log", whole)
    _judge(
        report, f"from a key log of {_SHARE:.0%} of the keys, {_LEAST:,} entries or more", sampled
    )
    report.notes.append(
        "From a running cache, nothing is recorded: it keeps a trail of what it is asked for "
        f"(384 KB at most), and plays it on miniatures now and then. All sizes and policies take "
        f"{1000 * statistics.mean(took):.0f} ms of the processor on average, "
        f"{1000 * max(took):.0f} at most, without the interpreter's lock, a run at a time, and no "
        "more than a thousandth of the time."
    )
    report.notes.append(
        f"A choice takes {statistics.mean(seconds):.2f} s on average. Beyond 600,000 requests a "
        "share of the keys is played, on a cache as much smaller, of 10,000 entries at least."
    )
    return report


def _really(policy: str, keys: list[int], size: int) -> float:
    """What happens; the median of nine runs where chance has a say, as it has in predictions."""
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


def _running(keys: list[int], policy: str, size: int):
    """What ``advise --store`` makes of a cache that runs: what it hits, moved along its curve."""
    tier = object_tier(CORES[0], policy, size)
    get, put = tier.get, tier.put
    hits = 0
    for key in keys:
        if get(key) is None:
            put(key, True)
        else:
            hits += 1
    miniature = Miniature(Steps(*tier.trail()), policy, size, hits / len(keys))
    began = thread_time()
    miniature.play()
    played, took = miniature.found, thread_time() - began
    base, curve = hits / len(keys), Curve(played.points, size)
    return lambda other: moved(base, curve.hit_ratio(size), curve.hit_ratio(other)), took


def _live(report: Report, live: dict[str, list[tuple[float, str]]], table: Table) -> None:
    report.tables.append(table)
    summary = Table(
        "From a running cache: how far off, points",
        ["policy", "predictions", "mean", "within 2 points, %", "worst", "where"],
    )
    for policy, errors in live.items():
        off, where = max(errors)
        mean = statistics.mean(each for each, _ in errors)
        within = sum(each <= 0.02 for each, _ in errors) / len(errors)
        summary.rows.append([policy, len(errors), 100 * mean, 100 * within, 100 * off, where])
        report.judged.append(
            Judged(f"from a running cache, {policy}: most that it was off", 2, 100 * off, "points")
        )
    report.tables.append(summary)
