"""Epochs, the log of what was forgotten, and leases that are kept alive."""

import threading

import pytest

from nearcache.coherence.epochs import stamp
from nearcache.coherence.forgets import Forget, LogReader
from nearcache.coherence.leases import LeaseKeeper
from nearcache.errors import StoreUnavailable
from nearcache.testing.contracts.stores import forked

ORIGIN, OTHER = b"12345678", b"abcdefgh"
MODEL, DIGEST = bytes(range(16)), bytes(range(16, 32))


# -- epochs --------------------------------------------------------------------------------------


def test_a_stamp_is_eight_bytes_that_depend_on_every_epoch_and_their_order():
    stamps = {stamp(e) for e in ([b"a", b"b"], [b"b", b"a"], [b"a"], [b"ab"], [b"", b"ab"], [])}
    assert len(stamps) == 6
    assert {len(s) for s in stamps} == {8}


def test_epochs_that_join_to_the_same_bytes_have_different_stamps():
    assert stamp([b"ab", b"c"]) != stamp([b"a", b"bc"])


def test_the_same_epochs_have_the_same_stamp():
    assert stamp([b"x" * 16, b"y" * 16]) == stamp([b"x" * 16, b"y" * 16])


# -- the log's entries ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gone", [Forget(), Forget(MODEL), Forget(MODEL, DIGEST), Forget(bytes(16), bytes(16))]
)
def test_an_entry_says_to_others_what_was_forgotten(gone):
    assert Forget.unpack(gone.pack(ORIGIN), OTHER) == gone


@pytest.mark.parametrize("gone", [Forget(), Forget(MODEL), Forget(MODEL, DIGEST)])
def test_an_entry_of_our_own_says_nothing(gone):
    assert Forget.unpack(gone.pack(ORIGIN), ORIGIN) is None


def test_an_empty_entry_says_nothing():
    assert Forget.unpack(b"", ORIGIN) is None


@pytest.mark.parametrize(
    "entry",
    [
        b"?",
        b"x" + OTHER,
        b"t" + OTHER + MODEL,
        b"t" + OTHER + MODEL + DIGEST + b"more",
        b"m" + OTHER + MODEL[:-1],
        b"m" + OTHER,
        b"z" + OTHER + MODEL + DIGEST,
        b"t",
    ],
)
def test_an_entry_that_cannot_be_read_means_everything(entry):
    assert Forget.unpack(entry, ORIGIN) == Forget()


# -- when to look --------------------------------------------------------------------------------


def test_it_is_time_to_look_at_once_and_then_once_per_interval():
    reader = LogReader(b"log", 1.5)
    assert reader.due(0.0)
    assert reader.claim(0.0)
    assert not reader.due(1.4)
    assert not reader.claim(1.4)
    assert reader.due(1.5)
    assert reader.claim(1.5)


def test_one_thread_takes_the_turn():
    reader = LogReader(b"log", 1.0)
    assert [reader.claim(5.0) for _ in range(5)] == [True] + [False] * 4


def test_an_interval_of_nothing_looks_every_time():
    reader = LogReader(b"log", 0.0)
    assert [reader.claim(5.0) for _ in range(3)] == [True] * 3


def test_after_a_fork_the_reader_is_somebody_else_and_knows_no_place():
    reader = LogReader(b"log", 1.0)
    reader.claim(5.0)
    reader.cursor = b"somewhere"
    before = reader.origin
    reader.start_anew()
    assert reader.origin != before
    assert reader.cursor == b""
    assert reader.due(5.0)


def test_readers_have_different_names():
    assert LogReader(b"log", 1.0).origin != LogReader(b"log", 1.0).origin


# -- leases --------------------------------------------------------------------------------------


class Store:
    """Counts renewals; ``renewed`` lets a test wait for one."""

    def __init__(self, error=None):
        self.calls, self.error = [], error
        self.changed = threading.Condition()

    def renew(self, keys, token, seconds):
        with self.changed:
            self.calls.append((tuple(keys), token, seconds))
            self.changed.notify_all()
        if self.error:
            raise self.error

    def wait_for(self, count, wanted=None):
        with self.changed:
            assert self.changed.wait_for(
                lambda: sum(wanted is None or c[0] == wanted for c in self.calls) >= count, 20
            )


SECONDS = 0.03


def ended(thread):
    thread.join(20)
    return not thread.is_alive()


def test_a_lease_is_renewed_while_the_load_runs():
    store = Store()
    keeper = LeaseKeeper(store.renew, SECONDS)
    with keeper.holding([b"a", b"b"], b"token"):
        store.wait_for(3)
    assert set(store.calls) == {((b"a", b"b"), b"token", SECONDS)}


def test_the_thread_ends_when_nothing_is_held_and_comes_back_when_something_is():
    store = Store()
    keeper = LeaseKeeper(store.renew, SECONDS)
    for _ in range(3):
        with keeper.holding([b"a"], b"token"):
            thread = keeper._thread
            store.wait_for(len(store.calls) + 1)
        assert ended(thread)
        assert keeper._thread is None


def test_a_short_load_needs_no_renewal():
    store = Store()
    keeper = LeaseKeeper(store.renew, 0.3)
    with keeper.holding([b"a"], b"token"):
        thread = keeper._thread
    assert ended(thread)
    assert store.calls == []


def test_one_thread_renews_for_all_and_stops_for_who_has_ended():
    store = Store()
    keeper = LeaseKeeper(store.renew, SECONDS)
    with keeper.holding([b"long"], b"1"):
        thread = keeper._thread
        with keeper.holding([b"short"], b"2"):
            assert keeper._thread is thread
            store.wait_for(2, (b"short",))
        store.wait_for(sum(c[0] == (b"long",) for c in store.calls) + 2, (b"long",))
        before = sum(c[0] == (b"short",) for c in store.calls)
        store.wait_for(sum(c[0] == (b"long",) for c in store.calls) + 2, (b"long",))
        assert sum(c[0] == (b"short",) for c in store.calls) == before


def test_a_store_that_fails_does_not_end_the_renewing():
    store = Store(StoreUnavailable("down"))
    keeper = LeaseKeeper(store.renew, SECONDS)
    with keeper.holding([b"a"], b"token"):
        store.wait_for(3)


def test_a_load_that_raises_lets_its_lease_go():
    store = Store()
    keeper = LeaseKeeper(store.renew, SECONDS)
    with pytest.raises(ValueError, match="load"), keeper.holding([b"a"], b"token"):
        thread = keeper._thread
        raise ValueError("load")
    assert ended(thread)


def test_after_a_fork_the_child_renews_what_it_holds_itself():
    store = Store()
    keeper = LeaseKeeper(store.renew, SECONDS)

    def child():
        store.changed, store.calls = threading.Condition(), []
        keeper.start_anew()
        with keeper.holding([b"childs"], b"token"):
            store.wait_for(3)
        assert {keys for keys, *_ in store.calls} == {(b"childs",)}

    with keeper.holding([b"parents"], b"token"):
        store.wait_for(1)
        with forked(child):
            pass
        store.wait_for(len(store.calls) + 1)
    assert {keys for keys, *_ in store.calls} == {(b"parents",)}
