"""A store that fails when told."""

import copy
import threading

import pytest

from nearcache.errors import StoreError, StoreReadOnly, StoreTimeout, StoreUnavailable
from nearcache.stores.base import Store
from nearcache.stores.redis.store import RedisStore
from nearcache.testing import ChaosStore, FaultProxy, ManualClock, MemoryStore, stored_entry

ENTRY = stored_entry()


class Recorder:
    """A store that remembers what it was asked, for calls that a test counts."""

    address = "recorder://"

    def __init__(self):
        self.seen = []

    def write(self, keys):
        self.seen.append(list(keys))
        return len(keys)

    def refuse(self):
        self.seen.append("refuse")
        raise StoreReadOnly

    def purge(self):
        return 0

    def added_later(self, *, number):
        return number

    def stream(self):
        return "a stream"

    def reset_after_fork(self):
        self.seen.append("reset")

    def close(self):
        self.seen.append("closed")


@pytest.fixture
def inner():
    return Recorder()


@pytest.fixture
def store(inner):
    return ChaosStore(inner, seed=1)


def outcomes(store, count=400):
    """For each of so many calls, the error it raised or None."""
    seen = []
    for number in range(count):
        try:
            store.write([number])
            seen.append(None)
        except StoreError as error:
            seen.append(type(error))
    return seen


# Passing through


def test_every_method_of_the_protocol_passes_through():
    inner = MemoryStore()
    store = ChaosStore(inner)
    names = [name for name in vars(Store) if not name.startswith("_")]
    assert len(names) > 20
    for name in names:
        assert hasattr(store, name) == hasattr(inner, name)
    store.write([b"a"], [ENTRY], None, b"log", [b""])
    assert store.fetch([b"a"], []).values == inner.fetch([b"a"], []).values == [ENTRY]
    assert store.address == inner.address


def test_a_method_the_wrapper_never_heard_of_passes_through_and_can_fail(store):
    assert store.added_later(number=3) == 3
    store.fail(methods=["added_later"])
    with pytest.raises(StoreUnavailable):
        store.added_later(number=3)
    with pytest.raises(AttributeError, match="no_such"):
        store.no_such


def test_what_asks_the_store_nothing_never_fails(store, inner):
    store.fail()
    assert store.address == "recorder://"
    assert store.stream() == "a stream"
    store.reset_after_fork()
    store.close()
    assert inner.seen == ["reset", "closed"]
    assert store.counts.calls == 0


def test_a_chaotic_store_can_be_copied(store):
    assert copy.copy(store).write([1, 2]) == 2


# Faults


def test_a_call_that_fails_is_not_made(store, inner):
    store.fail()
    with pytest.raises(StoreUnavailable):
        store.write([1])
    assert inner.seen == []
    assert (store.counts.calls, store.counts.failed) == (1, 1)


def test_the_error_and_the_methods_are_the_users_choice(store):
    store.fail(error=lambda: StoreReadOnly("only for reading"), methods=["write"])
    with pytest.raises(StoreReadOnly, match="only for reading"):
        store.write([1])
    assert store.purge() == 0


def test_a_call_that_times_out_is_made(store, inner):
    store.time_out()
    with pytest.raises(StoreTimeout):
        store.write([1])
    assert inner.seen == [[1]]
    assert store.counts.timed_out == 1


def test_a_late_call_is_made_when_it_is_delivered_as_it_was_asked(store, inner):
    store.late()
    keys = [1, 2]
    with pytest.raises(StoreTimeout):
        store.write(keys)
    keys.append(3)  # its caller goes on
    store.calm()
    assert inner.seen == []
    assert store.pending == store.counts.late == 1
    assert store.deliver() == 1
    assert inner.seen == [[1, 2]]
    assert (store.pending, store.counts.delivered) == (0, 1)
    assert store.deliver() == 0


def test_late_calls_come_in_another_order_the_same_for_the_same_seed():
    def order(seed):
        inner = Recorder()
        store = ChaosStore(inner, seed)
        store.late()
        outcomes(store, 20)
        assert store.deliver(5) == 5
        assert len(inner.seen) == 5
        assert store.deliver() == 15
        return [number for [number] in inner.seen]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(20)) != order(1)


def test_nobody_hears_how_a_late_call_went(store, inner):
    store.late()
    with pytest.raises(StoreTimeout):
        store.refuse()
    assert store.deliver() == 1
    assert inner.seen == ["refuse"]


def test_a_slow_call_waits_first(inner):
    clock = ManualClock(0.0)
    store = ChaosStore(inner, sleep=clock.advance)
    store.slow(0.5)
    assert store.write([1]) == 1
    assert clock() == 0.5
    store.fail()
    with pytest.raises(StoreUnavailable):
        store.write([2])  # slow and then failing, as with a time limit
    assert clock() == 1.0
    assert store.counts.slowed == 2


@pytest.mark.parametrize("fault", ["fail", "time_out", "late"])
def test_a_rate_is_kept_and_repeats_with_its_seed(fault):
    def run(seed):
        store = ChaosStore(Recorder(), seed)
        getattr(store, fault)(0.25)
        return outcomes(store)

    assert run(3) == run(3) != run(4)
    assert 60 < sum(error is not None for error in run(3)) < 140


def test_a_fault_strikes_the_same_calls_whatever_became_of_others_that_were_on():
    def slowed(fail):
        waits = []
        store = ChaosStore(Recorder(), sleep=lambda _: waits.append(len(waits)))
        store.slow(0.1, 0.5)
        store.late(0.5)
        store.fail(fail)
        outcomes(store)
        return store.counts.slowed, len(waits)

    assert slowed(0.0) == slowed(0.5) == slowed(1.0)


def test_faults_add_up_and_calm_ends_them_all(store, inner):
    store.fail(0.2)
    store.late(0.2)
    store.time_out(0.2)
    seen = outcomes(store)
    counts = store.counts
    assert counts.calls == 400
    assert counts.failed == seen.count(StoreUnavailable) > 0
    assert counts.late + counts.timed_out == seen.count(StoreTimeout)
    assert counts.late > 0 < counts.timed_out
    assert len(inner.seen) == 400 - counts.failed - counts.late
    store.calm()
    assert outcomes(store) == [None] * 400


def test_what_makes_no_sense_is_refused(store):
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            store.fail(rate)
    with pytest.raises(ValueError, match="wait"):
        store.slow(-1.0)
    for name in ("wirte", "close", "address"):
        with pytest.raises(ValueError, match=name):
            store.fail(methods=[name])


def test_calls_that_were_put_off_before_a_fork_are_the_parents(store, inner):
    store.late()
    outcomes(store, 3)
    store.reset_after_fork()
    assert store.deliver() == 0
    assert inner.seen == ["reset"]


def test_threads_may_share_it(store, inner):
    store.fail(0.5)
    threads = [threading.Thread(target=outcomes, args=(store,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts.calls == 1600
    assert store.counts.failed + len(inner.seen) == 1600


# With a real server


def test_a_write_comes_late_to_a_real_server_through_a_proxy(one_server):
    with FaultProxy.of(one_server.url) as proxy:
        store = ChaosStore(RedisStore(proxy.url))
        try:
            store.late(methods=["write"])
            with pytest.raises(StoreTimeout):
                store.write([b"k"], [ENTRY], None, b"log", [b""])
            assert store.fetch([b"k"], []).values == [None]
            store.deliver()
            assert store.fetch([b"k"], []).values == [ENTRY]
            assert proxy.connections == 1
        finally:
            store.close()
