"""How long a store is waited for: what it takes usually, and a margin. Time passes by hand."""

import pytest

from nearcache.stores.redis import timer as timers
from nearcache.stores.redis.timer import LONG, RoundTripTimer
from nearcache.testing import ManualClock

pytestmark = pytest.mark.impatient

MEGABYTE = 1_000_000


@pytest.fixture
def clock(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(timers.time, "monotonic", clock)
    return clock


def measured(seconds, *, answers=50):
    """A timer that knows a store which answers after so many seconds."""
    timer = RoundTripTimer()
    for _ in range(answers):
        timer.answered(seconds)
    return timer


def test_a_store_nearby_is_waited_for_50_ms():
    assert measured(0.0002).timeout == 0.05


@pytest.mark.parametrize("away", [0.037, 0.3])
def test_a_store_far_away_is_waited_for_much_longer_than_usual(away):
    assert measured(away).timeout >= away + 0.2


def test_a_fixed_time_out_stays_whatever_happens(clock):
    timer = RoundTripTimer(0.02)
    timer.answered(3.0)
    timer.timed_out(clock())
    assert (timer.timeout, timer.within(100 * MEGABYTE)) == (0.02, 0.02)


# -- what is long ---------------------------------------------------------------------------------


def test_long_requests_are_waited_for_longer_before_any_was_measured():
    timer = measured(0.001)
    assert timer.within(6 * MEGABYTE) >= timer.timeout + 0.48  # at 100 Mbit/s
    assert timer.within(1000) == timer.timeout


def test_how_long_follows_the_slowest_at_once_and_the_quicker_by_and_by():
    timer = measured(0.001)
    timer.answered(10.0, MEGABYTE)  # 0.8 Mbit/s
    assert timer.within(MEGABYTE) >= 10
    timer.answered(0.01, MEGABYTE)
    assert timer.within(MEGABYTE) >= 7
    for _ in range(50):
        timer.answered(0.01, MEGABYTE)
    assert timer.within(MEGABYTE) <= timer.timeout + 0.1


def test_long_answers_say_nothing_of_short_ones():
    timer = measured(0.001)
    before = timer.timeout
    timer.answered(10.0, MEGABYTE)
    assert timer.timeout == before


def test_who_may_be_behind_a_long_request_waits_for_it_too():
    timer = measured(0.001)
    timer.sets_out(6 * MEGABYTE)
    assert timer.within(10) == pytest.approx(timer.within(LONG), rel=0.1)
    assert timer.within(10) >= timer.timeout + 0.48
    timer.has_come(6 * MEGABYTE)
    assert timer.within(10) == timer.timeout


# -- what does not come --------------------------------------------------------------------------


def test_many_that_waited_at_the_same_time_are_one_time_out(clock):
    timer = measured(0.001)
    before, asked = timer.timeout, clock()
    clock.advance(before)
    for _ in range(12):
        timer.timed_out(asked)
    assert timer.timeout == before
    asked = clock()
    clock.advance(before)
    for _ in range(12):
        timer.timed_out(asked)
    assert timer.timeout == pytest.approx(2 * before)


def test_a_try_is_never_much_longer_than_a_second_for_it_is_to_find_the_store_again(clock):
    timer = measured(0.001)
    for _ in range(20):
        asked = clock()
        clock.advance(2)
        timer.timed_out(asked)
    assert timer.timeout <= 1.0


def test_after_a_fork_nothing_is_under_way():
    timer = measured(0.001)
    timer.sets_out(6 * MEGABYTE)
    timer.start_anew()
    assert timer.within(10) == timer.timeout
    timer.has_come(6 * MEGABYTE)  # the parent's socket is closed in the child
    timer.sets_out(MEGABYTE)
    assert timer.within(10) > timer.timeout


def test_a_moments_stall_of_a_middling_request_says_nothing_of_a_long_one():
    timer = RoundTripTimer()
    for _ in range(50):
        timer.answered(0.0003)
    for _ in range(20):
        timer.answered(0.010, 6_200_000)
    timer.answered(0.045, LONG + 64)  # held up, within the time-out
    assert timer.within(6_200_000) < 1.0
