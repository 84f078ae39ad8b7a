"""Durations in steps: exact counts, exact totals, quantiles as good as a step."""

import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearcache.histogram import BOUNDS, Distribution, Histogram

durations = st.lists(st.floats(0, 90), min_size=1, max_size=50)


def recorded(*seconds):
    histogram = Histogram()
    for one in seconds:
        histogram.record(one)
    return histogram.snapshot()


def test_the_steps_go_1_2_5_from_a_tenth_of_a_microsecond_to_a_hundred_seconds():
    assert BOUNDS[:4] == (1e-7, 2e-7, 5e-7, 1e-6)
    assert BOUNDS[-3:] == (20, 50, 100)
    assert all(1.9 < b / a < 2.6 for a, b in pairwise(BOUNDS))


def test_a_step_ends_with_its_bound_and_the_last_step_never():
    distribution = recorded(0, 1e-7, 1.5e-7, 100, 101, 1e9)
    assert distribution.counts[:2] == (2, 1)
    assert distribution.counts[-2:] == (1, 2)


def test_what_came_several_times_is_recorded_once():
    histogram = Histogram()
    histogram.record(0.5, 3)
    assert histogram.snapshot() == recorded(0.5, 0.5, 0.5)


def test_a_snapshot_never_changes():
    histogram = Histogram()
    before = histogram.snapshot()
    histogram.record(1)
    assert before.count == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.total = 1


def test_counts_are_exact_under_threads():
    histogram = Histogram()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for i in range(8):
                pool.submit(lambda i=i: [histogram.record(2.0**-i) for _ in range(2000)])
    finally:
        sys.setswitchinterval(switch)
    assert histogram.snapshot().count == 16_000
    assert histogram.snapshot().total == 2000 * sum(2.0**-i for i in range(8))


def test_a_reset_starts_from_zero():
    histogram = Histogram()
    histogram.record(1)
    histogram.reset()
    assert histogram.snapshot() == Distribution()


def test_a_new_lock_keeps_what_was_recorded():
    histogram = Histogram()
    histogram.record(1)
    with histogram._lock:
        histogram.start_anew()
        histogram.record(1)
    assert histogram.snapshot().count == 2


def test_before_the_first_there_is_no_mean_and_no_quantile():
    assert Distribution().count == 0
    assert Distribution().mean is None
    assert Distribution().quantile(0.5) is None


def test_the_mean_is_exact():
    assert recorded(1, 2, 6).mean == 3


def test_a_quantile_lies_evenly_within_its_step():
    evenly = recorded(*[1.5] * 100)  # in the step from 1 to 2
    assert evenly.quantile(0.5) == pytest.approx(1.5)
    assert evenly.quantile(0.99) == pytest.approx(1.99)
    assert evenly.quantile(1) == 2


def test_what_is_longer_than_all_steps_is_as_long_as_the_last():
    assert recorded(1e6).quantile(0.5) == 100


@given(durations, st.floats(0, 1))
def test_a_quantile_is_in_the_step_of_the_one_it_is_about(seconds, share):
    ordered = sorted(seconds)
    at = min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))
    counts = recorded(ordered[at]).counts
    step = counts.index(1)
    low, high = (BOUNDS[step - 1] if step else 0), BOUNDS[step]
    assert low <= recorded(*seconds).quantile(share) <= high


@given(durations)
def test_quantiles_never_fall(seconds):
    distribution = recorded(*seconds)
    quantiles = [distribution.quantile(i / 20) for i in range(21)]
    assert quantiles == sorted(quantiles)


@given(durations, durations)
def test_two_are_added_up_and_taken_apart(one, two):
    both = recorded(*one) + recorded(*two)
    assert both.counts == recorded(*one, *two).counts
    assert both.total == pytest.approx(sum(one) + sum(two))
    assert (both - recorded(*one)).counts == recorded(*two).counts


def test_after_a_reset_all_of_it_came_since():
    assert recorded(1) - recorded(1, 1) == recorded(1)


@given(durations)
def test_a_list_of_numbers_carries_it(seconds):
    distribution = recorded(*seconds)
    assert Distribution.from_list(json.loads(json.dumps(distribution.to_list()))) == distribution


@pytest.mark.parametrize(
    "figures",
    [
        [],
        [0] * 5,
        [*Distribution().to_list(), 0],
        [-1, *Distribution().to_list()[1:]],
        [0.5, *Distribution().to_list()[1:]],
        [True, *Distribution().to_list()[1:]],
        ["1", *Distribution().to_list()[1:]],
        [None] * (len(BOUNDS) + 2),
        [*Distribution().to_list()[:-1], "much"],
        [*Distribution().to_list()[:-1], None],
        [*Distribution().to_list()[:-1], float("nan")],
        [*Distribution().to_list()[:-1], float("inf")],
        [*Distribution().to_list()[:-1], 10**400],
        [10**400, *Distribution().to_list()[1:]],
        [*Distribution().to_list()[:-1], -1.0],
        None,
        7,
        {},
        "text",
    ],
)
def test_what_is_no_distribution_is_refused(figures):
    with pytest.raises(ValueError, match="a distribution is"):
        Distribution.from_list(figures)
