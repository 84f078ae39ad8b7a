"""A promise kept on another thread's event loop: its value, its error, and interruptions."""

import asyncio
import concurrent.futures
import contextvars
import threading

import pytest

from interrupting import interrupted_at
from nearcache import flag
from nearcache.engine import promises
from nearcache.engine.promises import Kept

name = contextvars.ContextVar("name", default="nobody")


@pytest.fixture
def loop():
    """An event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


async def value():
    await asyncio.sleep(0)
    return name.get()


async def raising(error):
    raise error


def test_the_caller_gets_its_value_and_lends_its_context(loop):
    mine = contextvars.copy_context()
    mine.run(name.set, "somebody")
    assert mine.run(lambda: Kept(value(), loop).result()) == "somebody"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), StopAsyncIteration()])
def test_the_caller_gets_its_error_and_the_loop_goes_on(loop, error):
    with pytest.raises(type(error)) as raised:
        Kept(raising(error), loop).result()
    assert raised.value is error
    assert Kept(value(), loop).result() == "nobody"


def test_a_caller_whose_promise_was_cancelled_is_not_cancelled_itself(loop):
    with pytest.raises(concurrent.futures.CancelledError):
        Kept(raising(asyncio.CancelledError()), loop).result()


def test_a_loop_that_was_closed_before_is_an_error():
    loop = asyncio.new_event_loop()
    kept = Kept(value(), loop)  # nobody runs it
    loop.close()
    with pytest.raises(RuntimeError, match="closed before the load had ended"):
        kept.result()


@pytest.mark.filterwarnings("ignore:coroutine .value. was never awaited")
def test_who_is_interrupted_at_any_moment_leaves_a_loop_that_works(loop):
    moment = 0
    while interrupted_at(moment, lambda: Kept(value(), loop).result(), promises, flag):
        assert Kept(value(), loop).result() == "nobody"
        moment += 1
    assert moment > 3
