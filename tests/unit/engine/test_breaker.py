"""The breaker: a store that does not answer is left alone, and tried again by one at a time."""

import pytest

from nearcache.engine.breaker import Breaker
from nearcache.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def breaker(clock):
    return Breaker(clock)


def pause_of(breaker, clock) -> float:
    """How long the breaker keeps everybody from trying, to a hundredth of a second."""
    waited = 0.0
    while not breaker.tries():
        clock.advance(0.01)
        waited += 0.01
    return waited


def test_a_store_that_answers_is_always_asked(breaker):
    assert all(breaker.allows() for _ in range(100))
    breaker.succeeded()
    assert all(breaker.allows() for _ in range(100))


def test_a_store_that_answers_needs_no_try(breaker):
    assert not breaker.tries()


def test_after_a_failure_nobody_asks_until_a_try_has_succeeded(breaker, clock):
    breaker.failed()
    assert not breaker.allows()
    clock.advance(1000)
    assert not breaker.allows()
    breaker.succeeded()
    assert breaker.allows()


def test_after_a_failure_nobody_tries_for_a_moment(breaker, clock):
    breaker.failed()
    assert not breaker.tries()
    assert 0.05 <= pause_of(breaker, clock) <= 0.15


def test_after_the_pause_one_caller_tries_and_the_others_do_not(breaker, clock):
    breaker.failed()
    clock.advance(1)
    assert breaker.tries()
    assert not any(breaker.tries() for _ in range(10))


def test_every_further_failure_makes_the_pause_longer_up_to_a_bound(breaker, clock):
    pauses = []
    for _ in range(10):
        breaker.failed()
        pauses.append(pause_of(breaker, clock))
    assert pauses[1] > pauses[0]
    assert pauses[3] > pauses[1]
    assert max(pauses) <= 0.65
    assert min(pauses[6:]) >= 0.35


def test_a_try_that_is_never_reported_does_not_end_all_tries(breaker, clock):
    breaker.failed()
    clock.advance(1)
    assert breaker.tries()
    clock.advance(1)
    assert breaker.tries()


def test_after_a_success_the_next_failure_pauses_briefly_again(breaker, clock):
    for _ in range(10):
        breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert pause_of(breaker, clock) <= 0.15


def test_who_waited_sees_that_the_store_failed_meanwhile(breaker):
    before = breaker.failures
    breaker.failed()
    assert breaker.failures != before


def test_it_is_closed_then_open_then_half_open_while_somebody_tries(breaker, clock):
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"
    clock.advance(1)
    assert breaker.state == "open"
    assert breaker.tries()
    assert breaker.state == "half-open"
    breaker.failed()
    assert breaker.state == "open"
    clock.advance(1)
    assert breaker.tries()
    breaker.succeeded()
    assert breaker.state == "closed"


def test_whoever_was_asking_when_it_opened_makes_no_pause_longer(breaker, clock):
    before = breaker.failures
    for _ in range(20):
        breaker.failed(before)
    assert pause_of(breaker, clock) <= 0.15
    assert breaker.failures == before + 20


def test_a_store_that_was_silent_once_may_be_tried_at_once(breaker):
    assert breaker.failed(silent=True)
    assert not breaker.allows()
    assert breaker.tries()


def test_a_store_that_stays_silent_is_left_alone_for_a_moment(breaker, clock):
    for _ in range(2):
        breaker.failed(silent=True)
        assert breaker.tries()
    breaker.failed(silent=True)
    assert not breaker.tries()
    assert 0.2 <= pause_of(breaker, clock) <= 0.6
