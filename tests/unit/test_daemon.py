"""Background threads are there, whatever became of the one before."""

import threading

from interrupting import interrupted_at
from nearcache import daemon
from nearcache.daemon import running


def alive(thread):
    return thread is not None and thread.is_alive()


def test_a_thread_that_runs_goes_on():
    end = threading.Lock()
    with end:
        thread = running(None, "a-name", end.acquire)
        assert (thread.name, thread.daemon) == ("a-name", True)
        assert running(thread, "a-name", end.acquire) is thread
    thread.join(20)


def test_one_that_has_ended_is_replaced():
    first = running(None, "a-name", list)
    first.join(20)
    done = []
    running(first, "a-name", done.append, "ran").join(20)
    assert done == ["ran"]


def test_at_the_interpreters_exit_there_is_none(monkeypatch):
    def refuse(_):
        message = "can't create new thread at interpreter shutdown"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert running(None, "a-name", list) is None


def test_one_that_was_never_started_is_replaced():
    done = []
    running(threading.Thread(target=list), "a-name", done.append, "ran").join(20)
    assert done == ["ran"]


def test_where_a_start_was_cut_off_the_next_one_starts():
    moment = 0
    while interrupted_at(moment, lambda: running(None, "a-name", list), daemon, threading):
        done = []
        running(None, "a-name", done.append, "ran").join(20)
        assert done == ["ran"]
        moment += 1
    assert moment > 0
