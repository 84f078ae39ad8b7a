"""What could not be forgotten in the store is brought there by a thread, which lives no longer.

The store is one in memory that fails when told.
"""

import gc
import threading
import weakref

import pytest

from embedders import until
from nearcache import MemoryStore
from nearcache.engine.access import Access
from nearcache.engine.io import BlockingIO, run
from nearcache.errors import StoreReadOnly, StoreUnavailable
from nearcache.events import Events
from nearcache.stats import Counters
from nearcache.testing import ChaosStore, ManualClock

KEYS, ENTRIES = [b"a", b"b"], [b"1", b"2"]


class Courier:
    """Forgets by asking the store, as a namespace does."""

    def __init__(self, store):
        self.store = store
        self.delivered = []

    def forget_stored(self, keys, entries):
        self.store.forget(keys, b"log", entries)
        self.delivered += keys

    def forget_stored_group(self, group, entry):
        self.store.forget_group(group, b"log", entry)
        self.delivered.append(group)

    def joined(self, _before, entry):
        return entry

    def everything(self):
        return b"everything", b"0"

    def store_is_back(self):
        pass


class World:
    def __init__(self):
        self.clock = ManualClock()
        self.store = ChaosStore(MemoryStore(clock=self.clock))
        self.courier = Courier(self.store)
        self.access = Access(
            self.store, self.courier, Counters(), Events(), self.clock, strict=False
        )

    def ask(self):
        return run(self.access.ask(BlockingIO(), "fetch", [b"k"], []))


@pytest.fixture
def deliverers():
    """The threads of this test's worlds."""
    before = set(threading.enumerate())

    def ours():
        new = set(threading.enumerate()) - before
        return [thread for thread in new if thread.name == "nearcache-deliver"]

    return ours


@pytest.fixture
def world(deliverers):
    world = World()
    yield world
    world.access.close()
    until(lambda: not deliverers())


def test_what_is_queued_is_delivered_and_the_thread_ends(world, deliverers):
    world.access.queue_texts(KEYS, ENTRIES)
    world.access.queue_group(b"group", b"3")
    until(lambda: not deliverers())
    assert sorted(world.courier.delivered) == [b"a", b"b", b"group"]
    assert world.access.undelivered == 0


def test_while_the_store_is_away_it_is_kept_and_delivered_when_it_is_back(world, deliverers):
    world.store.fail()
    assert world.ask() is None
    world.access.queue_texts(KEYS, ENTRIES)
    assert world.access.state == "open"
    assert world.access.undelivered == 2
    world.store.calm()
    assert len(deliverers()) == 1  # the clock stands still: it is not yet time to try
    world.clock.advance(1)
    until(lambda: world.access.undelivered == 0)
    assert world.courier.delivered == KEYS
    assert world.access.state == "closed"


@pytest.mark.parametrize("error", [StoreUnavailable, StoreReadOnly])
def test_a_store_that_refuses_is_tried_again(world, error):
    world.store.fail(1.0, error, methods=["forget"])
    world.access.queue_texts(KEYS, ENTRIES)
    until(lambda: world.store.counts.failed > 0)
    assert world.access.undelivered == 2
    world.store.calm()
    world.clock.advance(1)
    until(lambda: world.access.undelivered == 0)


def test_what_is_queued_while_the_thread_ends_is_delivered_too(world):
    for n in range(300):
        world.access.queue_texts([b"%d" % n], [b"e"])
    until(lambda: world.access.undelivered == 0)
    assert set(world.courier.delivered) == {b"%d" % n for n in range(300)}


def test_a_cache_that_is_closed_has_no_thread_left(world, deliverers):
    world.store.fail()
    world.access.queue_texts(KEYS, ENTRIES)
    assert len(deliverers()) == 1
    world.access.close()
    until(lambda: not deliverers())
    world.access.queue_texts([b"c"], [b"3"])
    assert not deliverers()


def test_a_cache_that_nobody_holds_is_not_kept_alive_by_its_thread(deliverers):
    world = World()
    world.store.fail()
    world.access.queue_texts(KEYS, ENTRIES)
    access = weakref.ref(world.access)
    del world

    def collected():
        gc.collect()
        return access() is None

    until(collected)
    until(lambda: not deliverers())


def test_who_closes_waits_for_what_is_being_delivered(world):
    began, goes_on = threading.Event(), threading.Event()
    deliver = world.courier.forget_stored

    def slowly(keys, entries):
        began.set()
        goes_on.wait(5)
        deliver(keys, entries)

    world.courier.forget_stored = slowly
    world.access.queue_texts(KEYS, ENTRIES)
    assert began.wait(5)
    threading.Timer(0.05, goes_on.set).start()
    run(world.access.finish(BlockingIO()))
    assert world.access.undelivered == 0
    assert world.courier.delivered == KEYS
