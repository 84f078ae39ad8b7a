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
    """How long the breaker keeps everybody away, to a hundredth of a second."""
    waited = 0.0
    while not breaker.allows():
        clock.advance(0.01)
        waited += 0.01
    return waited


def test_a_store_that_answers_is_always_asked(breaker):
    assert all(breaker.allows() for _ in range(100))
    breaker.succeeded()
    assert all(breaker.allows() for _ in range(100))


def test_after_a_failure_nobody_asks_for_a_moment(breaker, clock):
    breaker.failed()
    assert not breaker.allows()
    assert 0.05 <= pause_of(breaker, clock) <= 0.15


def test_after_the_pause_one_caller_tries_and_the_others_wait(breaker, clock):
    breaker.failed()
    clock.advance(1)
    assert breaker.allows()
    assert not any(breaker.allows() for _ in range(10))


def test_when_the_try_succeeds_everybody_asks_again(breaker, clock):
    breaker.failed()
    clock.advance(1)
    assert breaker.allows()
    breaker.succeeded()
    assert all(breaker.allows() for _ in range(10))


def test_every_further_failure_makes_the_pause_longer_up_to_a_bound(breaker, clock):
    pauses = []
    for _ in range(10):
        breaker.failed()
        pauses.append(pause_of(breaker, clock))
    assert pauses[1] > pauses[0]
    assert pauses[3] > pauses[1]
    assert max(pauses) <= 2.6
    assert min(pauses[6:]) >= 1.4


def test_a_try_that_is_never_reported_does_not_end_all_tries(breaker, clock):
    breaker.failed()
    clock.advance(1)
    assert breaker.allows()
    clock.advance(1)
    assert breaker.allows()


def test_after_a_success_the_next_failure_pauses_briefly_again(breaker, clock):
    for _ in range(10):
        breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert pause_of(breaker, clock) <= 0.15
