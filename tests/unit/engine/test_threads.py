"""Threads for work beside its caller."""

import threading

import pytest

from embedders import until
from nearcache.engine.threads import Threads


@pytest.fixture
def gate():
    """What work may wait for; open when the test is over."""
    gate = threading.Event()
    yield gate
    gate.set()


def names():
    return [thread.name for thread in threading.enumerate()].count("test-threads")


def test_work_is_done_and_its_error_kept():
    threads = Threads(2, "test-threads")
    threads.run(lambda: None).result(10)

    def fail():
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        threads.run(fail).result(10)


def test_what_somebody_waits_for_begins_at_once_and_what_was_left_is_bounded(gate):
    threads, done = Threads(2, "test-threads"), []
    first = [threads.run(lambda: gate.wait(10)) for _ in range(5)]
    assert names() == 5
    for one in first[:2]:
        one.leave()
    rest = [threads.run(lambda n=n: done.append(n)) for n in range(100)]
    assert names() == 5
    assert not any(one.done() for one in [*first, *rest])
    gate.set()
    for one in [*first, *rest]:
        one.result(10)
    assert sorted(done) == list(range(100))


def test_what_is_left_before_it_begins_is_gone_from_the_queue(gate):
    threads, done = Threads(1, "test-threads"), []
    first = threads.run(lambda: gate.wait(10))
    first.leave()
    for _ in range(1000):
        threads.run(lambda: done.append(1)).leave()
    assert len(threads) == 1
    last = threads.run(lambda: done.append(2))
    gate.set()
    last.result(10)
    assert done == [2]
    assert first.result(10) is None


def test_what_has_ended_is_not_counted_among_what_was_left():
    threads = Threads(1, "test-threads")
    for _ in range(3):
        one = threads.run(lambda: None)
        one.result(10)
        one.leave()
    threads.run(lambda: None).result(10)


def test_what_may_be_left_undone_does_not_wait(gate):
    threads = Threads(1, "test-threads")
    assert threads.run_now(lambda: gate.wait(10))
    assert not threads.run_now(lambda: None)
    gate.set()
    until(lambda: threads.run_now(lambda: None))


def test_threads_end_when_there_is_nothing_to_do():
    threads = Threads(8, "test-threads")
    for one in [threads.run(lambda: None) for _ in range(50)]:
        one.result(10)
    until(lambda: not len(threads) and not names())
