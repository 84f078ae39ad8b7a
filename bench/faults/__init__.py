"""Stores that are far, and stores that do not answer: what it costs the callers."""

from bench.faults.down import judge_down
from bench.faults.far import judge_far
from bench.report import Report

__all__ = ["run"]


def run(*, quick: bool) -> Report:
    """Measure false time-outs of healthy stores, and calls while a store is away."""
    report = Report("faults", "Time-outs and outages", quick)
    judge_far(report, quick=quick)
    judge_down(report, quick=quick)
    report.notes.append(
        "A Valkey server behind nearcache.testing.FaultProxy. Far: every byte is late, and all "
        "connections share the lane. Away: 200 tasks and 4 threads call all the time; the model "
        "takes no time, so that a call's time is what the cache adds; the same crowd without a "
        "store says what the machine and the event loop take. At first: the calls that were under "
        "way when the fault began, or began before the breaker was open."
    )
    return report
