"""What the contracts of stores are written with: values, waiting, threads and forks."""

import os
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from nearcache.stores.base import Store
from nearcache.testing import mark_of, stored_entry

GROUPS = (b"group-1", b"group-2")
LOG = b"log"
OLD, NEW = stored_entry(b"old"), stored_entry(b"new")
MARK = mark_of(OLD)
LONG = 60.0
SHORT = 0.02


def store_time(store: Store) -> float:
    """The store's time, asked for now."""
    return store.fetch([], GROUPS[:1]).now


def eventually(holds: Callable[[], bool], *, within: float = 20.0) -> None:
    """Look until ``holds`` does; a failure if it does not in reasonable time."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.001)  # between two looks at a condition that a server makes true


def while_it_lives(seconds: float, work: Callable[[int], Any]) -> Any:
    """What ``work`` answers, all of it done within ``seconds``: the life of what it made.

    A machine may stand still for longer than a life that a test would wait for. Then it is done
    again: ``work`` takes the number of the try, and makes keys of its own of it.
    """
    number = 0
    while True:
        started = time.monotonic()
        answer = work(number)
        if time.monotonic() - started < seconds:
            return answer
        number += 1


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """The results of ``work(0)``, ``work(1)`` … started at the same moment in threads."""
    barrier = threading.Barrier(count)

    def start(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


@contextmanager
def forked(work: Callable[[], None]):
    """Run ``work`` in a fork while the block runs; both have to succeed."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        yield
    finally:
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the forked process failed"
