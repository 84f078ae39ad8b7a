"""Counting operations and how long they take."""

import pytest

from embedders import in_threads
from nearcache.caches import timings
from nearcache.caches.timings import Timings


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until told: ``clock.now``."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(timings, "perf_counter", lambda: Clock.now)
    return Clock


@pytest.fixture
def one(clock):
    """Timings of "a" and "b", and how to spend milliseconds on one."""

    def spend(name, milliseconds, error=None):
        with made.timed(name):
            clock.now += milliseconds / 1000
            if error:
                raise error

    made = Timings(["a", "b"])
    made.spend = spend
    return made


def test_nothing_is_counted_before_the_first_call(one):
    nothing = {"count": 0, "errors": 0, "mean_ms": 0, "p50_ms": 0, "p95_ms": 0, "max_ms": 0}
    assert one.figures() == {"a": nothing, "b": nothing}


def test_figures_are_those_of_the_calls(one):
    for milliseconds in range(1, 101):
        one.spend("a", milliseconds)
    assert one.figures()["a"] == {
        "count": 100,
        "errors": 0,
        "mean_ms": pytest.approx(50.5),
        "p50_ms": pytest.approx(50),
        "p95_ms": pytest.approx(95),
        "max_ms": pytest.approx(100),
    }
    assert one.figures()["b"]["count"] == 0


def test_a_call_that_raises_is_an_error_and_takes_time_too(one):
    with pytest.raises(ValueError, match="wrong"):
        one.spend("a", 5, ValueError("wrong"))
    figures = one.figures()["a"]
    assert (figures["count"], figures["errors"]) == (1, 1)
    assert figures["max_ms"] == pytest.approx(5)


def test_percentiles_are_of_the_latest_calls_and_the_rest_of_all(one):
    one.spend("a", 1000)
    for _ in range(5000):
        one.spend("a", 1)
    figures = one.figures()["a"]
    assert figures["count"] == 5001
    assert figures["max_ms"] == pytest.approx(1000)
    assert figures["mean_ms"] == pytest.approx(6000 / 5001)
    assert figures["p95_ms"] == pytest.approx(1)


def test_a_reset_counts_from_zero(one):
    one.spend("a", 5)
    one.figures()
    one.spend("a", 5)
    one.reset()
    assert one.figures()["a"]["count"] == one.figures()["a"]["max_ms"] == 0


def test_every_call_of_every_thread_is_counted_once(one):
    def work(number):
        for n in range(5000):
            one.of("a").note(0.0) if n % 2 else one.of("a").note_error(0.0)
            if n % 500 == number:
                one.figures()

    assert in_threads(8, work) == [None] * 8
    figures = one.figures()["a"]
    assert (figures["count"], figures["errors"]) == (40_000, 20_000)
