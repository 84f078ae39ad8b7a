"""The store behind its breaker: it answers, or None does; who waits for it is told.

The store is one in memory that fails when told, the clock is set by hand.
"""

import pytest

from embedders import until
from nearcache import MemoryStore
from nearcache.engine.access import Access
from nearcache.engine.io import BlockingIO, run
from nearcache.errors import ClosedError, StoreReadOnly, StoreTimeout, StoreUnavailable
from nearcache.events import Events
from nearcache.stats import Counters
from nearcache.stores.base import TAKEN
from nearcache.testing import ChaosStore, ManualClock, mark_of, stored_entry


class Courier:
    """Who is told that the store is back, and whose forgets are delivered."""

    def __init__(self):
        self.heard = 0
        self.delivered = []

    def forget_stored(self, keys, _entries):
        self.delivered += keys

    def joined(self, _before, entry):
        return entry

    def store_is_back(self):
        self.heard += 1


class MemoryThatStalls(MemoryStore):
    """Does not answer in time, once."""

    stalled = False

    def fetch(self, keys, groups):
        if not self.stalled:
            self.stalled = True
            raise StoreTimeout("held up")
        return super().fetch(keys, groups)


class World:
    def __init__(self, store=MemoryStore, *, strict=False):
        self.clock = ManualClock()
        self.store = ChaosStore(store(clock=self.clock))
        self.courier = Courier()
        self.counters, self.events = Counters(), Events()
        self.states = []
        self.events.subscribe(self._hear)
        self.access = Access(
            self.store, self.courier, self.counters, self.events, self.clock, strict=strict
        )
        self.access.delivery.wake = lambda _: None  # has tests of its own

    def _hear(self, name, subject, detail):
        if name == "breaker":
            assert subject == self.store.address
            self.states.append(detail)

    def ask(self):
        return run(self.access.ask(BlockingIO(), "fetch", [b"k"], []))

    @property
    def errors(self):
        return self.counters.snapshot().store_errors


@pytest.fixture
def world():
    return World()


def test_a_store_that_answers_is_asked_and_heard(world):
    assert world.ask().values == [None]
    assert (world.access.state, world.errors, world.states) == ("closed", 0, [])


def test_a_store_that_fails_answers_none_and_is_left_alone(world):
    world.store.fail()
    assert [world.ask() for _ in range(100)] == [None] * 100
    assert world.access.state == "open"
    assert (world.errors, world.store.counts.calls) == (1, 1)


def test_after_a_pause_one_caller_has_it_tried_aside_and_all_ask_again(world):
    world.store.fail()
    world.ask()
    world.store.calm()
    world.clock.advance(1)
    assert world.ask() is None  # this one does not wait for what the try finds out
    until(lambda: world.access.state == "closed")
    assert world.ask() is not None
    assert world.courier.heard == 1


def test_subscribers_hear_of_every_state_once(world):
    world.store.fail()
    world.ask()
    world.ask()
    world.store.calm()
    world.clock.advance(1)
    world.ask()
    until(lambda: world.access.state == "closed")
    assert world.states == ["open", "half-open", "closed"]


def test_a_store_that_was_held_up_for_a_moment_is_found_again_without_a_pause():
    """Nobody asks anew and the clock stands still: whoever was not answered has it tried."""
    world = World(MemoryThatStalls)
    assert world.ask() is None
    until(lambda: world.states == ["open", "half-open", "closed"])


def test_a_store_that_refuses_is_there(world):
    """What it refuses it has heard: a full or read-only store still answers what it has."""
    world.store.fail(error=StoreReadOnly, methods=["fetch"])
    assert world.ask() is None
    assert world.access.state == "closed"
    assert world.errors == 1


def test_who_wants_errors_raised_gets_each_of_them():
    world = World(strict=True)
    world.store.fail()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            world.ask()
    assert world.errors == 3
    world.store.calm()
    assert world.ask() is not None


def test_a_closed_cache_asks_nobody(world):
    world.access.closed = True
    assert world.ask() is None
    assert world.store.counts.calls == 0


def test_a_closed_cache_that_raises_says_so():
    world = World(strict=True)
    world.access.closed = True
    with pytest.raises(ClosedError):
        world.ask()


def test_what_could_not_be_forgotten_is_delivered_before_anything_is_asked(world):
    world.access.queue_texts([b"k"], [b""])
    assert world.access.undelivered == 1
    world.ask()
    assert world.courier.delivered == [b"k"]
    assert world.access.undelivered == 0


def test_what_could_not_be_forgotten_is_hidden_until_then(world):
    world.access.queue_texts([b"k"], [b""])
    assert world.access.shown([b"k", b"l"], [], [b"1", b"2"]) == [None, b"2"]


class MemoryThatLeasesInSilence(MemoryStore):
    """Takes a lease, or a claim, whose answer never comes; once."""

    silent = True

    def lease(self, *arguments):
        return self._silently(super().lease(*arguments))

    def claim(self, *arguments):
        return self._silently(super().claim(*arguments))

    def _silently(self, answer):
        if self.silent:
            self.silent = False
            raise StoreTimeout("held up")
        return answer


@pytest.mark.parametrize("method", ["lease", "claim"])
def test_a_lease_without_an_answer_is_given_back(method):
    """Who wanted it loads without; others would wait for it until its end."""
    world = World(MemoryThatLeasesInSilence)
    mark = mark_of(stored_entry(b"key"))
    token, other = b"a" * 16, b"b" * 16
    arguments = {"lease": (token, 10.0, mark), "claim": ([b""], token, 10.0)}[method]
    again = {"lease": (other, 10.0, mark), "claim": ([b""], other, 10.0)}[method]
    assert run(world.access.ask(BlockingIO(), method, [b"key"], *arguments)) is None
    until(lambda: world.access.state == "closed")
    until(lambda: getattr(world.store, method)([b"key"], *again) == [TAKEN])
