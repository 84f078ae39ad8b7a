"""The stream of changes from an SQLite file: gaps, files that go away, who is silent."""

import sqlite3
import threading
import weakref

import pytest

from nearcache.errors import StoreCannotTell, StoreReadOnly, StoreUnavailable
from nearcache.stores.base import EVERYTHING, LOG_LENGTH, PONG
from nearcache.stores.sqlite import SQLiteStore
from nearcache.testing.contracts.store_parts import LOG, eventually
from nearcache.testing.contracts.stores_mutable import ABSENT, ONE, put
from nearcache.testing.contracts.streams import KEY, OPEN_SECONDS, PREFIXES, hear, names


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def store(path):
    store = SQLiteStore(path)
    yield store
    store.close()


@pytest.fixture
def stream(store):
    stream = store.stream()
    stream.open(PREFIXES, OPEN_SECONDS)
    yield stream
    stream.close()


def test_a_file_that_is_not_there_yet_is_made(path, store, stream):
    assert path.exists()
    store.bump(KEY, ABSENT, LOG)
    assert names(stream, KEY) == [KEY]


def test_who_is_too_far_behind_is_told_that_anything_may_have_changed(store, stream):
    hear(stream)
    store.revoke([b"%d" % i for i in range(LOG_LENGTH)], LOG)
    assert hear(stream) == []  # nothing of interest, and no gap
    store.revoke([b"%d" % i for i in range(LOG_LENGTH + 1)], LOG)
    assert hear(stream) == [EVERYTHING]
    store.revoke([KEY], LOG)
    assert names(stream, KEY) == [KEY]


def test_a_log_that_was_cut_off_at_its_end_is_a_gap(path, store, stream):
    store.revoke([KEY], LOG)
    hear(stream)
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM log")
    other.close()
    assert hear(stream) == [EVERYTHING]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_went_away_ends_the_stream(path, store, stream, tmp_path, how):
    hear(stream)
    for file in tmp_path.iterdir():
        file.unlink()
    if how == "replaced":
        SQLiteStore(path).bump(KEY, ABSENT, LOG)
    for call in (lambda: stream.read(0), stream.ping, lambda: stream.read(60)):
        with pytest.raises(StoreUnavailable):
            call()
    again = store.stream()
    again.open(PREFIXES, OPEN_SECONDS)
    store.bump(KEY, ABSENT, LOG)
    assert names(again, KEY) == [KEY]
    again.close()


def test_a_file_of_another_kind_cannot_be_listened_to(path):
    path.write_bytes(b"no SQLite file " * 100)
    store = SQLiteStore(path)
    with pytest.raises(StoreUnavailable):
        store.stream().open(PREFIXES, OPEN_SECONDS)


def test_a_folder_that_is_not_there_is_unavailable(tmp_path):
    stream = SQLiteStore(tmp_path / "none" / "store.db").stream()
    with pytest.raises(StoreUnavailable) as caught:
        stream.open(PREFIXES, OPEN_SECONDS)
    assert not isinstance(caught.value, (StoreReadOnly, StoreCannotTell))


def test_what_is_noted_down_for_the_order_of_eviction_says_nothing(path, store, stream):
    put(store, KEY, ONE)
    hear(stream)
    version = stream._version
    for _ in range(3):
        store.look([KEY], [])
    store.close()  # notes down what was read
    other = SQLiteStore(path)
    other.look([KEY], [])
    other.close()
    assert hear(stream) == []
    assert stream._version != version  # the file did change


def test_fills_and_leases_say_nothing(store, stream):
    store.claim([KEY], [b""], ABSENT, 60)
    store.release([KEY], ABSENT)
    store.expect([KEY], ABSENT, 60)
    assert hear(stream) == []


def test_a_ping_is_answered_by_a_look_made_after_it(store, stream):
    hear(stream)
    store.revoke([KEY], LOG)
    stream.ping()
    heard = stream.read(0)
    assert heard[-1] is PONG
    assert heard[0].names == [KEY]
    assert stream.read(0) == []


def test_an_entry_of_the_log_that_is_no_name_is_passed_over(path, store, stream):
    hear(stream)
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO log(name, entry) VALUES('log', 'a text'), ('log', 5)")
    other.close()
    store.revoke([KEY], LOG)
    assert names(stream, KEY) == [KEY]


def test_a_stream_outlives_the_close_of_its_store(store, path, stream):
    store.close()
    other = SQLiteStore(path)
    other.revoke([KEY], LOG)
    eventually(lambda: names(stream, KEY) == [KEY])
    other.close()


def test_at_the_interpreter_s_exit_it_waits_for_who_reads(path):
    """SQLite crashes where one thread closes a connection on which another executes."""
    stream = SQLiteStore(path).stream()
    stream.open(PREFIXES, OPEN_SECONDS)
    connection, end = stream._connection, finalizer_of(stream)
    with stream._reading():
        ending = threading.Thread(target=end)
        ending.start()
        ending.join(0.05)  # it would have closed it by now
        assert len(connection) == 1
    ending.join(30)
    assert len(connection) == 0


def finalizer_of(stream):
    """What the interpreter calls at its exit for this stream."""
    (end,) = [one for one in weakref.finalize._registry if (one.peek() or (None,))[0] is stream]
    return end
