"""Where a dashboard has its figures from, where there is no store."""

import pytest

from nearcache import NearCache
from nearcache.dashboard import ProcessSource
from nearcache.engine import snapshot
from nearcache.metrics import report


@pytest.fixture
def clock(monkeypatch):
    """The time of day, which the test moves."""

    class Clock:
        now = 1_764_400_000.0

    for module in (report, snapshot):
        monkeypatch.setattr(module.time, "time", lambda: Clock.now)
    return Clock


def minutes_of(source):
    (found,) = [each for each in source.report()["caches"] if each["namespace"] == "alone"]
    return [(minute, misses) for minute, _near, _far, _stale, misses, *_ in found["minutes"]]


def test_what_was_done_is_shown_in_the_minute_in_which_it_was(clock):
    source, first = ProcessSource(), int(clock.now // 60)
    with NearCache(namespace="alone") as cache:
        cache.get_or_load("a", lambda: 1)
        assert minutes_of(source) == minutes_of(source) == [(first, 1)]
        clock.now += 60
        cache.get_or_load("b", lambda: 1)
        source.note()  # nobody looks at the page
        clock.now += 60
        assert minutes_of(source) == [(first, 1), (first + 1, 1), (first + 2, 0)]


def test_a_cache_that_is_closed_is_not_shown(clock):
    source = ProcessSource()
    with NearCache(namespace="alone"):
        assert minutes_of(source) == [(int(clock.now // 60), 0)]
    assert [each for each in source.report()["caches"] if each["namespace"] == "alone"] == []


def test_one_look_alone_says_nothing_of_minutes():
    with NearCache(namespace="alone") as cache:
        cache.get_or_load("a", lambda: 1)
        (found,) = [each for each in report.of_process().caches if each.namespace == "alone"]
        assert (found.stats.misses, found.minutes) == (1, ())
