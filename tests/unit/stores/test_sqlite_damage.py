"""Damaged SQLite files, from the inside: what is ours, what is damage, whose locks are kept.

What a cache makes of such files: tests/chaos/test_sqlite_faults.py.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from nearcache.errors import StoreUnavailable
from nearcache.stores import sqlite_rows as rows
from nearcache.stores.base import EVERYTHING
from nearcache.stores.sqlite import SQLiteStore
from nearcache.stores.sqlite_damage import Journal, StoreDamaged, locked, looks_ours, move_aside
from nearcache.testing.contracts.stores import GROUPS, LOG, NEW, OLD, at_once


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.db"


@pytest.fixture
def store(path):
    store = SQLiteStore(path)
    store.write([b"a"], [OLD], None, LOG, [b"a"])
    yield store
    store.close()


def alter(path, statement, *values):
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


# -- whose file it is ----------------------------------------------------------------------------


def test_our_file_is_known_by_what_is_left_of_its_first_page(path, store):
    store.close()
    assert looks_ours(path)
    data = path.read_bytes()
    for kept in (data[:100], bytes(100) + data[100:], data[:5000] + bytes(3000)):
        path.write_bytes(kept)
        assert looks_ours(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"my notes",
        b"SQLite format 3\0" + bytes(8000),
        bytes(68) + b"ncac" + bytes(8000),
        b"we say CREATE TABLE entries( in our documentation" * 100,
    ],
)
def test_what_does_not_look_ours_is_not(path, text):
    path.write_bytes(text)
    assert not looks_ours(path)
    assert not looks_ours(path.with_name("nothing"))


BEGINS = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError:
    print("locked")
"""


def test_looking_at_a_file_ends_no_lock_that_this_process_has_on_it(path, store):
    """SQLite's locks are the process's, and end when any of its descriptors is closed."""
    store.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    assert not looks_ours(path)  # nobody may know, then
    Journal(path)
    done = subprocess.run(
        [sys.executable, "-c", BEGINS, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "locked\n"
    db.close()


def test_only_the_file_that_was_damaged_is_moved(path, store):
    place = store._file.place()
    store.close()
    path.rename(path.with_name("elsewhere"))
    path.write_bytes(b"new")
    assert move_aside(path, place) is None
    assert path.read_bytes() == b"new"


# -- what is damage ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE epochs SET token = 7",
        "UPDATE epochs SET token = x'00'",
        "DROP TABLE leases",
        "PRAGMA application_id=5",
        "PRAGMA user_version=-1713794559",
        "DELETE FROM facts",
        "UPDATE facts SET value = 'no clock' WHERE name = 'clock'",
    ],
)
def test_what_nobody_writes_there_is_damage(path, store, statement):
    store.fetch([], GROUPS)
    store.close()
    alter(path, statement)
    later = SQLiteStore(path)
    with pytest.raises(StoreDamaged, match="was damaged"):
        later.forget(later.fetch([b"a"], GROUPS).values and [b"a"], LOG, [b"a"])
    assert later.fetch([b"a"], GROUPS).values == [None]
    later.close()


def test_a_damaged_file_that_may_only_be_read_stays(path, store):
    store.fetch([], GROUPS)
    alter(path, "UPDATE epochs SET token = 7")
    store._file.read_only = True
    with pytest.raises(StoreUnavailable, match="cannot be moved"):
        store.fetch([], GROUPS)
    assert path.exists()


def test_a_value_of_another_type_is_found_corrupt_by_who_decodes_it(path, store):
    alter(path, "UPDATE entries SET value = CAST(x'ff00fe' AS TEXT)")
    assert store.fetch([b"a"], []).values == [b"\xff\x00\xfe"]
    alter(path, "UPDATE entries SET value = 5, expires = 'never'")
    assert store.fetch([b"a"], []).values == [b"5"]
    assert store.scan((b"", b""), 0, 10)[0] == 0


def test_a_name_that_has_become_text_and_none_is_damage(path):
    """One flipped bit in a row's type makes a text of a blob."""
    store = SQLiteStore(path)
    store.write([b"a\xff"], [OLD], 0.001, LOG, [b""])
    alter(path, "UPDATE entries SET key = CAST(key AS TEXT)")
    with pytest.raises(StoreDamaged, match="no text"):
        while True:
            store.purge()
    assert store.purge() == 0
    store.close()


def test_entries_of_the_log_that_cannot_be_read_are_a_gap(path, store):
    cursor = store.changes(LOG, b"").cursor
    stream = store.stream()
    stream.open([b""], 1.0)
    for key in (b"b", b"c", b"d"):
        store.write([key], [NEW], None, LOG, [key])
    alter(path, "DELETE FROM log WHERE entry = ?", b"c")
    assert store.changes(LOG, cursor).entries is None
    assert stream.read(1.0) == [EVERYTHING]
    stream.close()


def test_an_index_that_names_what_is_not_there_is_not_followed_for_ever(store, monkeypatch):
    store.write([b"old"], [OLD], -1.0, LOG, [b""])
    monkeypatch.setattr(rows, "delete", lambda db, names: db.execute("DELETE FROM facts WHERE 0"))
    with pytest.raises(StoreDamaged, match="index"):
        store.purge()


# -- connections ---------------------------------------------------------------------------------


def test_a_crowd_of_threads_leaves_a_few_connections_open(store):
    together = threading.Barrier(40)

    def work(_):
        with store._file.connection():
            together.wait(30)
        return True

    assert at_once(40, work) == [True] * 40
    assert len(store._file._idle) <= 16


def test_a_file_that_grows_while_it_is_looked_at_was_not_cut(store, monkeypatch):
    file, found = store._file, store._file._found

    def late():
        place, size = found()
        file._size = size + 8192  # another thread looked later, and went on first
        return place, size

    monkeypatch.setattr(file, "_found", late)
    place = file._place
    store.fetch([b"a"], [])
    assert file._place == place


def test_the_time_is_told_even_where_the_file_is_let_go_of_meanwhile(store, monkeypatch):
    file, connection, times = store._file, store._file.connection, []

    @contextmanager
    def lets_go():
        with connection() as db:
            yield db
        times.append(1)
        if len(times) == 1:
            file._let_go()

    monkeypatch.setattr(file, "connection", lets_go)
    file._let_go()
    assert store.now() > 0
    assert len(times) == 2


def test_a_file_that_another_one_took_the_place_of_is_no_damage(path, store):
    with store._file.connection() as db:
        db.execute("SELECT 1")
    path.unlink()
    other = SQLiteStore(path)
    other.write([b"b"], [NEW], None, LOG, [b"b"])
    assert store.fetch([b"a", b"b"], []).values == [None, NEW]
    other.close()
    assert not path.with_name("x.db.damaged").exists()
    with pytest.raises(StoreUnavailable, match="moved or removed"), store._file.writer(1.0):
        path.unlink()


def test_a_fork_does_not_keep_the_folder_locked(path):
    with locked(path, 1.0, alone=True):
        process = os.fork()
        if not process:
            signal.pause()
            os._exit(0)
    try:
        with locked(path, 1.0, alone=True):
            pass
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
