"""The clean-up's schedule: it starts, goes on whatever happens, stops, and holds nobody back."""

import gc
import logging
import os
import subprocess
import sys
import threading
import weakref

import pytest

from embedders import in_threads, until
from nearcache import ConfigError
from nearcache.caches.schedule import Schedule


class Work:
    """What is done again and again; ``before`` is called each time."""

    def __init__(self, before=lambda: None):
        self.before = before
        self.times = 0

    def do(self):
        self.times += 1
        self.before()


def threads():
    return [one for one in threading.enumerate() if one.name == "nearcache-cleanup"]


def test_it_works_again_and_again_until_it_is_stopped():
    work = Work()
    schedule = Schedule(0.001, work.do)
    assert not schedule.running
    schedule.start()
    until(lambda: work.times >= 3)
    assert schedule.running
    schedule.stop()
    done = work.times
    assert not schedule.running
    assert not threads()
    assert work.times == done
    schedule.start()  # and once more
    until(lambda: work.times > done)
    schedule.stop()


def test_starting_and_stopping_at_once_is_no_error():
    schedule = Schedule(0.001, Work().do)

    def start_or_stop(number):
        for _ in range(500):
            schedule.start() if number % 2 else schedule.stop()

    in_threads(8, start_or_stop)
    schedule.stop()
    assert not schedule.running
    assert not threads()


def test_once_is_enough():
    work = Work()
    schedule = Schedule(60.0, work.do)
    schedule.stop()
    in_threads(8, lambda _: schedule.start())
    assert len(threads()) == 1
    in_threads(8, lambda _: schedule.stop())
    assert not threads()
    assert work.times == 0  # the first is due an interval after the start


def test_stop_waits_for_what_is_under_way():
    inside, go = threading.Event(), threading.Event()
    ended = []

    def slow():
        inside.set()
        assert go.wait(30)
        ended.append(True)

    work = Work(slow)
    schedule = Schedule(0.001, work.do)
    schedule.start()
    assert inside.wait(30)
    threading.Timer(0.02, go.set).start()
    schedule.stop()
    assert ended


def test_an_error_is_logged_and_tried_again(caplog):
    def fail():
        raise OSError("the disk")

    work = Work(fail)
    schedule = Schedule(0.001, work.do)
    with caplog.at_level(logging.ERROR, "nearcache"):
        schedule.start()
        until(lambda: work.times >= 3)
        schedule.stop()
    assert len(caplog.records) >= 3
    assert "the disk" in caplog.text


def test_what_it_calls_may_stop_it():
    work = Work()
    schedule = Schedule(0.001, work.do)
    work.before = schedule.stop
    schedule.start()
    until(lambda: work.times == 1 and not threads())


@pytest.mark.parametrize("interval", [0.001, 60.0])
def test_it_ends_with_the_owner_of_what_it_calls(interval):
    """At once, however long it would have waited; and what it called does not stay for it."""
    called = threading.Event()
    work = Work(called.set)
    gone = weakref.ref(work)
    schedule = Schedule(interval, work.do)
    schedule.start()
    assert interval == 60.0 or called.wait(30)
    del work
    until(lambda: gc.collect() >= 0 and gone() is None)
    until(lambda: not threads())


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), "60", None, True, 1e300])
def test_an_interval_is_a_positive_number_of_seconds(interval):
    with pytest.raises(ConfigError, match="cleanup_interval"):
        Schedule(interval, Work().do)


def test_the_interpreter_ends_although_nobody_stopped_it():
    code = """if True:
        from nearcache.caches.schedule import Schedule
        class Work:
            def do(self): pass
        work = Work()
        schedule = Schedule(0.0001, work.do)
        schedule.start()
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_starts_its_own():
    work = Work()
    schedule = Schedule(0.001, work.do)
    schedule.start()
    until(lambda: work.times)
    child = os.fork()
    if not child:
        try:
            assert not schedule.running
            before = work.times
            schedule.start()
            until(lambda: work.times > before)
            schedule.stop()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert schedule.running
    schedule.stop()
