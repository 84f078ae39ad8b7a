"""The port through which the engine waits: blocking by hand, or on an event loop."""

import asyncio
import threading
from contextlib import nullcontext

import pytest

import nearcache.engine.io as io_module
from embedders import until
from nearcache.engine.flights import ABOARD, Flight, FlightTable, Landed
from nearcache.engine.io import AsyncIO, BlockingIO, run


class Step:
    """Work that says when it started and ended."""

    def __init__(self, work, log=None, name=None):
        self.work, self.log, self.name = work, [] if log is None else log, name

    async def start(self):
        self.log.append(("start", self.name))
        result = self.work()
        return await result if asyncio.iscoroutine(result) else result

    def ended(self):
        self.log.append(("end", self.name))


class Loader:
    is_async, limit, max_batch = False, 1, None

    def __init__(self, call):
        self.call = call
        self.crowd = self

    def turn(self):
        return nullcontext()

    async_turn = turn


@pytest.fixture
def async_io():
    io = AsyncIO()
    yield io
    io.close()


# -- by hand -------------------------------------------------------------------------------------


def test_a_coroutine_that_never_suspends_is_run_to_its_end():
    async def work():
        return 42

    assert run(work()) == 42


def test_an_error_passes_through():
    async def work():
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        run(work())


def test_a_coroutine_that_suspends_is_refused_and_closed():
    closed = []

    async def work():
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="suspended"):
        run(work())
    assert closed == [True]


def test_the_blocking_port_never_suspends():
    io, flight = BlockingIO(), Flight("shelf", None)

    async def work():
        assert await io.store(lambda a, b: a + b, 1, 2) == 3
        assert await io.load(Loader(lambda texts: len(texts)), ["a", "b"], flight) == 2
        assert await io.gather([Step(lambda: 1), Step(lambda: 2)], 1) == [1, 2]
        assert await io.wait(flight, lambda: True)
        await io.sleep(0)
        return "done"

    assert run(work()) == "done"
    assert io.loop is None


# -- gather --------------------------------------------------------------------------------------


def test_blocking_steps_run_one_after_the_other():
    log = []
    steps = [Step(lambda: None, log, name) for name in "abc"]
    run(BlockingIO().gather(steps, 1))
    assert log == [(what, name) for name in "abc" for what in ("start", "end")]


def test_blocking_steps_run_in_as_many_threads_as_allowed():
    together = threading.Barrier(3)
    steps = [Step(lambda: together.wait(timeout=10)) for _ in range(3)]
    assert sorted(run(BlockingIO().gather(steps, 3))) == [0, 1, 2]


@pytest.mark.parametrize("limit", [1, 2])
def test_after_a_blocking_failure_no_further_step_starts(limit):
    log = []

    def fail():
        raise ValueError("first")

    steps = [Step(fail, log, 0), *[Step(lambda: None, log, i) for i in range(1, 50)]]
    with pytest.raises(ValueError, match="first"):
        run(BlockingIO().gather(steps, limit))
    started = [name for what, name in log if what == "start"]
    assert len(started) < 50
    assert sorted(started) == sorted(name for what, name in log if what == "end")


def test_tasks_run_as_many_at_once_as_allowed(async_io):
    async def main():
        running, most = 0, 0

        async def work():
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1
            return 1

        assert await async_io.gather([Step(work) for _ in range(20)], 4) == [1] * 20
        assert most == 4

    asyncio.run(main())


def test_after_a_failed_task_no_further_one_starts_and_the_others_are_waited_for(async_io):
    async def main():
        log, go = [], asyncio.Event()

        async def fail():
            raise ValueError("first")

        async def slow():
            await go.wait()
            return "kept"

        steps = [Step(slow, log, "slow"), Step(fail, log, "fail"), Step(slow, log, "never")]
        gathering = asyncio.create_task(async_io.gather(steps, 2))
        while ("end", "fail") not in log:
            await asyncio.sleep(0)
        assert not gathering.done()
        go.set()
        with pytest.raises(ValueError, match="first"):
            await gathering
        assert ("end", "slow") in log
        assert ("start", "never") not in log

    asyncio.run(main())


def test_a_cancelled_caller_does_not_take_its_steps_with_it(async_io):
    async def main():
        log, go = [], asyncio.Event()
        step = Step(go.wait, log, "step")
        gathering = asyncio.create_task(async_io.gather([step], 2))
        while not log:
            await asyncio.sleep(0)
        gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering
        assert log == [("start", "step")]
        go.set()
        while ("end", "step") not in log:
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_cancelled_caller_does_not_take_its_write_with_it(async_io):
    async def main():
        go, done = asyncio.Event(), []

        async def write():
            await go.wait()
            done.append(True)

        writing = asyncio.create_task(async_io.complete(write()))
        await asyncio.sleep(0)
        for _ in range(2):
            writing.cancel()
            await asyncio.sleep(0)
            assert not writing.done()  # what it does next may not be overtaken
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert done == [True]

    asyncio.run(main())


# -- load and wait -------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["blocking", "async"])
def test_a_loader_knows_the_flights_it_is_aboard_of(face, async_io):
    flight, seen = Flight("shelf", None), []
    loader = Loader(lambda _: seen.append(ABOARD.get()))
    if face == "blocking":
        run(BlockingIO().load(loader, [], flight))
    else:
        asyncio.run(_awaited(async_io.load(loader, [], flight)))
    assert set(*seen) == {flight}
    assert ABOARD.get() == ()


async def _awaited(coroutine):
    return await coroutine


@pytest.mark.parametrize("face", ["blocking", "async"])
def test_nobody_waits_for_a_flight_that_waits_for_him(face, async_io):
    flight, answers = Flight("shelf", None), []

    def call(_):
        answers.append(run(BlockingIO().wait(flight, lambda: False)))

    loader = Loader(call)
    if face == "blocking":
        run(BlockingIO().load(loader, [], flight))
    else:
        asyncio.run(_awaited(async_io.load(loader, [], flight)))
    assert answers == [False]


def test_a_blocking_wait_on_the_loop_of_the_flight_is_refused():
    async def main():
        flight = Flight("shelf", asyncio.get_running_loop())
        return run(BlockingIO().wait(flight, lambda: False))

    assert asyncio.run(main()) is False


def test_a_thread_and_a_task_wait_for_one_flight(async_io):
    table, flight = FlightTable(), Flight("shelf", None)
    table.claim(flight, [b"a"], [0])
    waiting = threading.Barrier(3)

    def ready():
        return flight.settled([b"a"], reading=False)

    def block():
        waiting.wait(10)
        return run(BlockingIO().wait(flight, ready))

    async def suspend():
        await asyncio.to_thread(waiting.wait, 10)
        return await async_io.wait(flight, ready)

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(block())),
        threading.Thread(target=lambda: results.append(asyncio.run(suspend()))),
    ]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    table.land(flight, {b"a": Landed("batch")})
    for thread in threads:
        thread.join(10)
    assert results == [True, True]
    assert not flight._waiters


def test_a_wait_ends_when_the_loop_of_the_flight_is_closed(monkeypatch):
    monkeypatch.setattr(io_module, "_LOOK_AROUND", 0.005)
    loop = asyncio.new_event_loop()
    flight = Flight("shelf", loop)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(run(BlockingIO().wait(flight, lambda: False)))
    )
    thread.start()
    loop.close()
    thread.join(10)
    assert results == [True]
    assert flight.stranded


def test_a_cancelled_wait_leaves_nothing_behind(async_io):
    async def main():
        flight = Flight("shelf", asyncio.get_running_loop())
        waiting = asyncio.create_task(async_io.wait(flight, lambda: False))
        while not flight._waiters:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not flight._waiters

    asyncio.run(main())


def test_waking_somebody_whose_loop_is_closed_is_no_error(async_io):
    flight = Flight("shelf", None)

    async def main():
        task = asyncio.create_task(async_io.wait(flight, lambda: False))
        while not flight._waiters:
            await asyncio.sleep(0)
        (wake,) = flight._waiters
        task.cancel()
        return wake

    wake = asyncio.run(main())
    wake()
    flight.settle({b"a": Landed("batch")})


def test_a_port_that_was_closed_can_be_used_again(async_io):
    async def main():
        assert await async_io.store(lambda: 1) == 1
        async_io.close()
        assert await async_io.store(lambda: 2) == 2

    asyncio.run(main())


# -- bounds ----------------------------------------------------------------------------------------


def test_only_so_many_loads_go_on_when_their_callers_leave(async_io, monkeypatch):
    monkeypatch.setattr(io_module, "_MOST_LEFT", 10)

    async def main():
        log, never = [], asyncio.Event()

        async def caller(number):
            await async_io.gather([Step(never.wait, log, number)], 1)

        for number in range(30):
            task = asyncio.create_task(caller(number))
            while ("start", number) not in log:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while len(log) < 50:  # thirty began, twenty were ended with their callers
            await asyncio.sleep(0)
        assert [number for what, number in log if what == "end"] == list(range(10, 30))
        assert len(async_io._tasks) == 10
        never.set()
        while async_io._tasks:
            await asyncio.sleep(0)
        assert not async_io._left

    asyncio.run(main())


def test_of_work_aside_so_much_may_be_left_and_what_has_not_begun_then_is_not_done(async_io):
    loader, gate, begun = Loader(lambda texts: texts), threading.Event(), []

    async def work(io):
        begun.append(io)
        gate.wait(10)

    async def main():
        limit = io_module._MOST_LEFT
        works = [async_io.aside(work, loader) for _ in range(limit)]
        while len(begun) < limit:
            await asyncio.sleep(0)
        for one in works:
            async_io.leave(one)
        works += [async_io.aside(work, loader) for _ in range(400)]
        assert not await async_io.ended(works[-1], 0.0)
        for one in works[limit:]:
            async_io.leave(one)
        gate.set()
        for one in works[:limit]:
            assert await async_io.ended(one, 10)
        assert len(begun) == limit
        assert all(one.cancelled() for one in works[limit:])

    asyncio.run(main())


def test_work_aside_inside_a_load_does_not_queue_behind_it():
    loader = Loader(lambda texts: texts)
    io, gate, inner = BlockingIO(), threading.Event(), []

    async def work(io):
        token = ABOARD.set((*ABOARD.get(), Flight("shelf", None)))  # as a loader would be called
        try:

            async def more(_):
                inner.append(1)

            assert await io.ended(io.aside(more, loader), 10)
        finally:
            ABOARD.reset(token)
        gate.wait(10)

    works = [io.aside(work, loader) for _ in range(loader.limit + io_module._STORE_THREADS)]
    until(lambda: len(inner) == len(works))  # while all of them are still at it
    gate.set()
    for one in works:
        one.result(10)
    assert len(inner) == len(works)


def test_what_nobody_waits_for_is_left_undone_where_too_much_is_being_done(monkeypatch):
    monkeypatch.setattr(io_module, "_behind", io_module.Threads(2, "nearcache-aside"))
    gate, begun = threading.Event(), []

    async def work(io):
        begun.append(io)
        gate.wait(10)

    for _ in range(100):
        BlockingIO().background(work)
    until(lambda: len(begun) == 2)
    gate.set()
    until(lambda: not len(io_module._behind))
    assert len(begun) == 2
    BlockingIO().background(work)
    until(lambda: len(begun) == 3)
