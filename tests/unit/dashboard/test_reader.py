"""One reading serves all pages, and no page waits for longer than it should."""

import asyncio
import threading

from nearcache.dashboard.reader import Reader
from nearcache.errors import StoreUnavailable
from nearcache.testing import ManualClock


class Store:
    def __init__(self):
        self.answers, self.reads, self.gate = {"n": 1}, 0, threading.Event()
        self.gate.set()

    def read(self):
        self.reads += 1
        assert self.gate.wait(20)
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers


def test_all_who_ask_at_once_share_a_reading():
    async def run():
        store, clock = Store(), ManualClock()
        reader = Reader(store.read, clock=clock)
        found = await asyncio.gather(*(reader.get() for _ in range(20)))
        assert {id(reading.document) for reading in found} == {id(store.answers)}
        assert store.reads == 1
        await reader.get()
        assert store.reads == 1  # as good as new
        clock.advance(1)
        await reader.get()
        assert store.reads == 2

    asyncio.run(run())


def test_a_store_that_fails_leaves_the_last_report_and_its_age():
    async def run():
        store, clock = Store(), ManualClock()
        reader = Reader(store.read, clock=clock)
        assert (await reader.get()).trouble is None
        store.answers = StoreUnavailable("it went away")
        clock.advance(10)
        reading = await reader.get()
        assert (reading.document, reading.age, reading.trouble) == ({"n": 1}, 10, "it went away")
        store.answers = {"n": 2}
        clock.advance(1)
        reading = await reader.get()
        assert (reading.document, reading.age, reading.trouble) == ({"n": 2}, 0, None)

    asyncio.run(run())


def test_a_store_that_hangs_is_waited_for_once():
    async def run():
        store = Store()
        store.gate.clear()
        reader = Reader(store.read, patience=0.05)
        try:
            for _ in range(5):
                reading = await reader.get()
                assert reading.document is None
                assert "0.05 seconds" in reading.trouble
            assert store.reads == 1
        finally:
            store.gate.set()
        async with asyncio.timeout(20):
            while (reading := await reader.get()).document is None:
                await asyncio.sleep(0.001)
        assert reading.trouble is None

    asyncio.run(run())


def test_a_mistake_of_ours_is_said_without_its_details():
    async def run():
        store = Store()
        store.answers = ZeroDivisionError("secret")
        reading = await Reader(store.read).get()
        assert "ZeroDivisionError" in reading.trouble
        assert "secret" not in reading.trouble

    asyncio.run(run())
