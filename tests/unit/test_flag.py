"""A flag: an event that an interrupted thread cannot break."""

import threading

import pytest

from embedders import in_threads, until
from interrupting import interrupted_at
from nearcache import flag as flags
from nearcache.flag import Flag


def waits(flag, count=1):
    """Threads that wait for a flag, once all of them do."""
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(flag.wait(20)), daemon=True)
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(flag._waiting) == count)
    return threads, answers


def test_it_is_set_until_it_is_cleared():
    flag = Flag()
    assert not flag.is_set()
    assert not flag.wait(0)
    flag.set()
    assert flag.is_set()
    assert flag.wait()
    flag.clear()
    assert not flag.is_set()
    assert not flag.wait(0.001)


def test_setting_it_wakes_all_who_wait():
    flag = Flag()
    threads, answers = waits(flag, 5)
    flag.set()
    for thread in threads:
        thread.join(20)
    assert answers == [True] * 5


def test_who_gave_up_waits_no_more():
    flag = Flag()
    for seconds in (0, 0.001, -1):
        assert not flag.wait(seconds)
    assert not flag._waiting


def test_no_setting_is_missed():
    """Two threads in turn: each waits for what the other sets."""
    flags = Flag(), Flag()

    def work(me):
        for _ in range(2000):
            if me:
                assert flags[1].wait(20)
                flags[1].clear()
            flags[1 - me].set()
            if not me:
                assert flags[0].wait(20)
                flags[0].clear()
        return "done"

    # the first gives the turn to the second, which gives it back
    assert in_threads(2, work) == ["done", "done"]


@pytest.mark.parametrize("work", ["set", "clear", "wait"])
def test_interrupted_at_any_moment_it_still_works(work):
    moment = 0
    while True:
        flag = Flag()
        threads, answers = waits(flag)
        act = {"set": flag.set, "clear": flag.clear, "wait": lambda flag=flag: flag.wait(0)}[work]
        if not interrupted_at(moment, act, flags):
            break
        flag.set()
        threads[0].join(20)
        assert answers == [True]
        assert flag.wait(0)
        flag.clear()
        assert not flag.wait(0)
        moment += 1
    flag.set()
    threads[0].join(20)
    assert moment > 0
