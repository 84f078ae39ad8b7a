"""What could not be forgotten in the store is brought there by a thread, which lives no longer.

The store is one in memory that fails when told.
"""

import gc
import os
import threading
import weakref
from contextlib import contextmanager

import pytest

from embedders import M, until, vector
from interrupting import interrupted_at
from nearcache import EmbeddingCache, MemoryStore, NearCache
from nearcache.engine import access as access_module
from nearcache.engine.access import Access
from nearcache.engine.io import BlockingIO, run
from nearcache.errors import ClosedError, StoreReadOnly, StoreUnavailable
from nearcache.events import Events
from nearcache.stats import Counters
from nearcache.stores import gate
from nearcache.stores.gate import Grip
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


@contextmanager
def delivering(access):
    """Have the turn to deliver, as another thread would."""
    grip = Grip()
    assert access._delivering.take(grip, 0)
    yield
    access._delivering.give_back(grip)


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
    until(lambda: not deliverers())
    assert world.access.undelivered == 3


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


def test_many_namespaces_of_one_store_have_one_thread(deliverers):
    store = ChaosStore(MemoryStore())
    with NearCache(store, namespace="x") as cache:
        views = [cache.view(f"tenant-{n}") for n in range(20)]
        for view in views:
            view.put("k", 1)
        store.fail()
        for view in views:
            view.invalidate("k")
        assert len(deliverers()) == 1
        store.calm()
        until(lambda: not any(view.get_stats().undelivered for view in views))


@pytest.mark.parametrize("error", [KeyError, ClosedError])
def test_what_a_store_raises_that_it_should_not_is_said_once(world, deliverers, caplog, error):
    world.store.fail(1.0, error, methods=["forget"])
    world.access.queue_texts(KEYS, ENTRIES)
    if error is ClosedError:
        until(lambda: not deliverers())
        assert not caplog.records
    else:
        until(lambda: world.store.counts.failed >= 2)
        assert [record.exc_info for record in caplog.records] == [None]


def test_a_store_that_refuses_is_not_asked_to_forget_with_every_question(world):
    world.access.delivery.wake = lambda _: None
    world.store.fail(1.0, StoreReadOnly, methods=["forget"])
    world.access.queue_texts(KEYS, ENTRIES)
    for _ in range(50):
        assert world.ask() is not None
    assert world.store.counts.failed < 10


def test_a_forked_child_delivers_what_its_parent_may_take_with_it(world):
    world.store.fail()
    world.access.queue_texts(KEYS, ENTRIES)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # the parent's thread is not here
        try:
            world.store.reset_after_fork()
            world.access.start_anew()
            world.store.calm()
            world.clock.advance(5)
            until(lambda: world.access.undelivered == 0)
            os.write(write, b"delivered")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        assert told.read() == b"delivered"
    os.waitpid(pid, 0)


def test_ctrl_c_while_a_write_waits_for_a_delivery_leaves_its_key_to_be_delivered(world):
    class Interrupted(BlockingIO):
        async def sleep(self, seconds):
            raise KeyboardInterrupt

    world.access.delivery.wake = lambda _: None
    world.access.queue_texts(KEYS, ENTRIES)
    with delivering(world.access), pytest.raises(KeyboardInterrupt):
        run(world.access.before_write(Interrupted(), KEYS))
    assert world.ask() is not None
    assert world.courier.delivered == KEYS


def asks_anew(world):
    return world.ask


def writes(world):
    def write():
        queued = run(world.access.before_write(BlockingIO(), KEYS))
        world.access.after_write(queued, done=False)

    return write


# what was cut off between a call and its first step
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("does", [asks_anew, writes])
def test_ctrl_c_at_any_moment_leaves_what_is_queued_to_be_delivered(world, does):
    world.access.delivery.wake = lambda _: None
    moment, more = 0, True
    while more:
        world.access.queue_texts(KEYS, ENTRIES)
        more = interrupted_at(moment, does(world), access_module, gate)
        assert world.ask() is not None
        assert not world.access.undelivered, moment
        moment += 1
    assert moment > 20


def test_a_write_of_what_nobody_forgot_waits_for_no_delivery(world):
    class NoWaiting(BlockingIO):
        async def sleep(self, seconds):
            raise AssertionError("it waits")

    world.access.delivery.wake = lambda _: None
    world.access.queue_texts(KEYS, ENTRIES)
    with delivering(world.access):
        assert run(world.access.before_write(NoWaiting(), [b"other"])) == {}


# -- in which order --------------------------------------------------------------------------------


class Hooked(MemoryStore):
    """Lets something happen before calls by which what is queued is delivered."""

    def __init__(self):
        super().__init__()
        self.before = {}
        self.delivering = False

    def _hook(self, method):
        if self.delivering:
            self.before.pop(method, lambda: None)()

    def heads(self, *arguments):
        self._hook("heads")
        return super().heads(*arguments)

    def revoke(self, *arguments):
        self._hook("revoke")
        found = super().revoke(*arguments)
        self._hook("after revoke")
        return found

    def forget(self, *arguments):
        self._hook("forget")
        return super().forget(*arguments)


class Two:
    """We, who could not forget, and another process on the same store."""

    def __init__(self, kind=NearCache, **options):
        self.plain = Hooked()
        self.away = ChaosStore(self.plain)
        self.us, self.other, self.third = (
            kind(store, **options) for store in (self.away, self.plain, self.plain)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for cache in (self.us, self.other, self.third):
            cache.close()

    def forget(self, key):
        self.away.fail()
        self.us.invalidate(key)
        assert self.us.get_stats().undelivered == 1
        self.plain.delivering = True

    def back(self):
        self.away.calm()
        until(lambda: self.us.get_stats().undelivered == 0)


@pytest.mark.parametrize("moment", ["revoke", "heads", "after revoke"])
def test_a_load_that_began_before_the_forgetting_does_not_outlive_it(moment):
    with Two(namespace="x") as two:
        loading, goes_on = threading.Event(), threading.Event()

        def load():
            loading.set()
            assert goes_on.wait(5)
            return "old"

        loader = threading.Thread(target=lambda: two.other.get_or_load("k", load))

        def commits():
            goes_on.set()
            loader.join()

        loader.start()
        assert loading.wait(5)
        two.plain.before[moment] = commits
        two.forget("k")
        two.back()
        commits()
        assert [cache.get("k") for cache in (two.us, two.third)] == [None, None]
        until(lambda: two.other.get("k") is None)


def test_an_update_that_followed_from_what_was_forgotten_does_not_outlive_it():
    with Two(namespace="x") as two:
        two.other.put("k", "old")
        changing, goes_on = threading.Event(), threading.Event()

        def change(value):
            changing.set()
            assert goes_on.wait(5)
            return value + "er"

        updater = threading.Thread(target=lambda: two.other.update("k", change))

        def commits():
            goes_on.set()
            updater.join()

        def then_commits():
            two.plain.before["revoke"] = commits

        updater.start()
        assert changing.wait(5)
        two.plain.before["heads"] = then_commits  # after the heads were read
        two.forget("k")
        two.back()
        assert [cache.get("k") for cache in (two.us, two.third)] == [None, None]


@pytest.mark.parametrize("kind", [NearCache, EmbeddingCache])
def test_a_put_that_succeeds_is_not_undone_by_a_forgetting_before_it(kind, deliverers):
    rows = kind is EmbeddingCache
    key, first_call = (("k", M), "forget") if rows else (("k",), "revoke")

    def put(cache, value):
        cache.put("k", *((vector(value), M) if rows else (value,)))

    with Two(kind, namespace="x") as two:
        put(two.us, "old")
        held, goes_on = threading.Event(), threading.Event()

        def hold():
            held.set()
            goes_on.wait(5)

        two.plain.before[first_call] = hold
        two.away.fail(1.0, StoreReadOnly)
        two.us.invalidate(*key)
        two.plain.delivering = True
        two.away.calm()
        assert held.wait(5)
        threading.Timer(0.1, goes_on.set).start()
        put(two.us, "new")
        until(lambda: goes_on.is_set() and not deliverers())
        assert two.us.get_stats().undelivered == 0
        assert two.third.get(*key) is not None
