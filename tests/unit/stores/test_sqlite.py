"""The SQLite store beyond the contract: its clock, its budget, its file, several processes."""

import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import nearcache.stores.sqlite_file as module
from interrupting import interrupted_at
from nearcache.errors import ConfigError, StoreError, StoreReadOnly, StoreUnavailable
from nearcache.stores import gate
from nearcache.stores.base import HELD, TAKEN
from nearcache.stores.sqlite import SQLiteStore
from nearcache.testing import stored_entry
from nearcache.testing.contracts.stores import (
    GROUPS,
    LOG,
    LONG,
    MARK,
    NEW,
    OLD,
    at_once,
    eventually,
    forked,
)

HOUR = 3600.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def opened(path):
    """Open the file once more; everything is closed, and the file whole, when the test is over."""
    stores = []

    def opened(**options):
        stores.append(SQLiteStore(path, **options))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()
    if path.exists():
        with sqlite3.connect(path) as db:
            try:
                faults = db.execute("PRAGMA integrity_check").fetchall()
            except sqlite3.DatabaseError:
                faults = None  # a test about a file that is none
        db.close()
        assert faults in ([("ok",)], None)


@pytest.fixture
def store(opened):
    return opened()


# -- the clock -----------------------------------------------------------------------------------


@pytest.fixture
def stepped(monkeypatch):
    """Step the wall clock, as an administrator or a bad time server does."""

    def step(seconds):
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return step


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_stepped_wall_clock_kills_no_live_entry(store, opened, stepped, step, reopened):
    store.write([b"a"], [OLD], 600.0, LOG, [b""])
    before = store.now()
    stepped(step)
    later = opened() if reopened else store
    assert later.fetch([b"a"], GROUPS).values == [OLD]
    assert 0 <= later.now() - before < 60


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_stepped_wall_clock_keeps_no_dead_entry(store, opened, stepped, step, reopened):
    store.write([b"a"], [OLD], 0.05, LOG, [b""])
    dead = store.now() + 0.05
    stepped(step)
    later = opened() if reopened else store
    eventually(lambda: later.now() > dead)
    assert later.fetch([b"a"], GROUPS).values == [None]


def test_after_a_new_start_of_the_machine_lives_go_on_by_the_wall_clock(store, opened, monkeypatch):
    store.write([b"short", b"long"], [OLD, OLD], [100.0, 10_000.0], LOG, [b"", b""])
    store.lease([b"leased"], b"of a dead process", 10_000.0, MARK)
    before = store.now()
    store.close()
    real = time.time
    monkeypatch.setattr(module, "_boot_id", lambda: "another boot")
    monkeypatch.setattr(module, "_steady", time.monotonic)
    monkeypatch.setattr(time, "time", lambda: real() + 1000.0)  # the machine was off meanwhile
    later = opened()
    assert 999 < later.now() - before < 1100
    assert later.fetch([b"short", b"long"], GROUPS).values == [None, OLD]
    assert later.lease([b"leased"], b"of a live one", LONG, MARK) == [TAKEN]


def test_all_handles_of_a_boot_agree_about_the_time_whatever_the_wall_clock(opened, stepped):
    one = opened()
    one.now()
    stepped(HOUR)
    two = opened()
    two.now()
    stepped(-2 * HOUR)
    three = opened()
    times = [one.now(), two.now(), three.now(), one.now()]
    assert times == sorted(times)
    assert times[-1] - times[0] < 60


# -- the byte budget -----------------------------------------------------------------------------

MEGABYTE = 2**20


def keys_of(count, start=0):
    return [b"key-%05d" % i for i in range(start, start + count)]


def put(store, keys, size=6000):
    for at in range(0, len(keys), 50):
        part = keys[at : at + 50]
        store.write(part, [stored_entry(key + bytes(size)) for key in part], None, LOG, part)


def here(path, keys):
    """Which keys are there; nothing is touched."""
    with sqlite3.connect(path) as db:
        found = {key for (key,) in db.execute("SELECT key FROM entries")}
    db.close()
    return [key for key in keys if key in found]


def test_the_file_stays_within_its_budget(opened, path):
    store = opened(max_bytes=2 * MEGABYTE)
    put(store, keys_of(1000))
    with sqlite3.connect(path) as db:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
    db.close()
    assert (pages - free) * size <= 2.2 * MEGABYTE
    assert path.stat().st_size <= 3 * MEGABYTE
    assert 150 < len(here(path, keys_of(1000))) < 350


def test_what_was_written_first_leaves_first(opened, path):
    store = opened(max_bytes=2 * MEGABYTE)
    put(store, keys_of(1000))
    left = here(path, keys_of(1000))
    assert left == keys_of(1000)[-len(left) :]


def test_what_was_read_lately_stays(opened, path):
    store = opened(max_bytes=2 * MEGABYTE)
    loved = keys_of(20)
    put(store, keys_of(200))
    for start in range(200, 1000, 50):
        assert None not in store.fetch(loved, GROUPS).values
        put(store, keys_of(50, start))
    assert here(path, loved) == loved


def test_reads_are_remembered_when_the_store_is_closed(opened, path):
    store = opened(max_bytes=2 * MEGABYTE)
    put(store, keys_of(200))
    store.fetch(keys_of(20), GROUPS)
    store.close()
    later = opened(max_bytes=2 * MEGABYTE)
    put(later, keys_of(100, 200))
    assert here(path, keys_of(20)) == keys_of(20)


def test_expired_entries_leave_before_live_ones(opened, path):
    store = opened(max_bytes=2 * MEGABYTE)
    put(store, keys_of(100))
    dying = keys_of(100, 100)
    store.write(dying, [stored_entry(key + bytes(6000)) for key in dying], 0.01, LOG, dying)
    dead = store.now() + 0.01
    eventually(lambda: store.now() > dead)
    put(store, keys_of(100, 200))
    assert here(path, keys_of(100)) == keys_of(100)


def test_a_read_writes_nothing(store, path):
    store.write([b"a"], [OLD], None, LOG, [b""])
    store.fetch([b"a"], GROUPS)
    with sqlite3.connect(path) as db:
        db.execute("BEGIN IMMEDIATE")  # nobody else can write now
        assert store.fetch([b"a"], GROUPS).values == [OLD]
        assert store.changes(LOG, store.changes(LOG, b"").cursor).entries == []
        db.execute("ROLLBACK")
    db.close()


def test_forgets_do_not_pile_up(store, path):
    for at in range(0, 30_000, 5000):
        store.forget([b"a"], LOG, [b"%d" % i for i in range(at, at + 5000)])
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM log").fetchone()[0] <= 10_000
    db.close()


# -- files that are not ours ---------------------------------------------------------------------


def test_a_file_of_another_program_is_refused_and_left_as_it_is(path, store):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs(x)")
        db.execute("INSERT INTO theirs VALUES(1)")
    db.close()
    before = path.read_bytes()
    for call in (lambda: store.fetch([b"a"], GROUPS), lambda: store.forget([b"a"], LOG, [b"x"])):
        with pytest.raises(StoreUnavailable, match="another program"):
            call()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path, store):
    path.write_bytes(b"my precious notes\n" * 1000)
    with pytest.raises(StoreUnavailable, match="no SQLite file"):
        store.fetch([b"a"], GROUPS)
    assert path.read_bytes() == b"my precious notes\n" * 1000


def test_a_layout_of_another_version_is_refused(path, store, opened):
    store.write([b"a"], [OLD], None, LOG, [b""])
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreUnavailable, match="layout 99"):
        opened().fetch([b"a"], GROUPS)


def test_a_folder_that_does_not_exist_is_an_error_at_the_first_use(tmp_path):
    store = SQLiteStore(tmp_path / "missing" / "store.db")
    with pytest.raises(StoreError, match="its folder does not exist; make it first"):
        store.fetch([b"a"], GROUPS)
    store.close()


def test_without_a_budget_nothing_leaves(opened):
    limited = opened(max_bytes=MEGABYTE)
    for store in (limited.unlimited(), opened(max_bytes=None)):
        keys = [b"%d" % n for n in range(40)]
        values = [stored_entry(b"x" * 100_000)] * len(keys)
        store.write(keys, values, None, LOG, keys)
        assert store.fetch(keys, []).values == values
        assert not store.may_evict()
        again = pickle.loads(pickle.dumps(store))
        assert not again.may_evict()
        again.close()
        store.close()
    assert limited.may_evict()
    assert opened().may_evict()


@pytest.mark.parametrize("bad", [0, 1000, -1, 1.5e9, True, "2GB"])
def test_a_budget_that_holds_nothing_is_refused(path, bad):
    with pytest.raises(ConfigError, match="max_bytes"):
        SQLiteStore(path, max_bytes=bad)


def test_a_path_that_no_file_can_have_is_refused():
    with pytest.raises(ConfigError):
        SQLiteStore("a\0b")


def test_a_path_that_is_no_text_is_a_path(tmp_path):
    store = SQLiteStore(tmp_path / os.fsdecode(b"\xff.db"))
    assert store.fetch([b"a"], []).values == [None]
    store.close()
    assert os.fsdecode(b"\xff.db") in [file.name for file in tmp_path.iterdir()]


def test_a_folder_is_refused_as_a_file(tmp_path):
    with pytest.raises(ConfigError, match="file"):
        SQLiteStore(tmp_path)


def test_making_a_store_touches_nothing(path):
    SQLiteStore(path)
    assert not path.exists()


def test_a_pickled_store_names_the_same_file(store, opened):
    store.write([b"a"], [OLD], None, LOG, [b""])
    copy = pickle.loads(pickle.dumps(store))
    assert copy.fetch([b"a"], GROUPS).values == [OLD]
    assert copy.address == store.address
    copy.close()


@pytest.mark.parametrize("name", ["a b.db", "ü.db", "50%.db", "a?b=c#d.db", "'quoted'.db"])
def test_a_path_may_hold_any_character(tmp_path, name):
    store = SQLiteStore(tmp_path / name)
    store.write([b"a"], [OLD], None, LOG, [b""])
    assert store.fetch([b"a"], GROUPS).values == [OLD]
    store.close()
    assert (tmp_path / name).exists()


# -- a file that cannot be written ---------------------------------------------------------------


def as_nobody(work):
    """Run ``work`` in a process to which permissions apply (root may write anything)."""

    def child():
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        work()

    with forked(child):
        pass


@pytest.fixture
def open_to_all(tmp_path):
    """A folder that every user may enter and list, but only its owner may write."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path(folder.anchor) and folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    tmp_path.chmod(0o555)
    yield tmp_path
    tmp_path.chmod(0o755)


def test_a_file_without_write_permission_is_read_while_its_owner_has_it_open(
    tmp_path, path, store, open_to_all
):
    tmp_path.chmod(0o755)
    store.write([b"a"], [OLD], None, LOG, [b""])
    epochs = store.fetch([], GROUPS).epochs
    for file in tmp_path.iterdir():
        file.chmod(0o444)
    tmp_path.chmod(0o555)

    def work():
        reader = SQLiteStore(path)
        got = reader.fetch([b"a"], GROUPS)
        assert got.values == [OLD]
        assert got.epochs == epochs
        for write in (
            lambda: reader.write([b"a"], [NEW], None, LOG, [b""]),
            lambda: reader.forget([b"a"], LOG, [b""]),
            lambda: reader.forget_group(GROUPS[0], LOG, b""),
            lambda: reader.lease([b"b"], b"token", LONG, MARK),
            lambda: reader.purge(),
        ):
            with pytest.raises(StoreReadOnly, match="written"):
                write()
        reader.close()

    as_nobody(work)


def test_a_file_without_write_permission_that_nobody_has_open_is_read_or_a_clear_error(
    tmp_path, path, store, open_to_all
):
    tmp_path.chmod(0o755)
    store.write([b"a"], [OLD], None, LOG, [b""])
    store.close()
    path.chmod(0o444)
    tmp_path.chmod(0o555)

    def work():
        reader = SQLiteStore(path)
        with suppress(StoreError):  # SQLite needs files beside it that it may not make here
            assert reader.fetch([b"a"], GROUPS[:0]).values == [OLD]
        with pytest.raises(StoreError):
            reader.write([b"a"], [NEW], None, LOG, [b""])

    as_nobody(work)


def test_a_folder_that_cannot_be_written_is_an_error(path, open_to_all):
    def work():
        with pytest.raises(StoreError):
            SQLiteStore(path).fetch([b"a"], GROUPS)

    as_nobody(work)


# -- several processes ---------------------------------------------------------------------------


def test_eight_threads_may_open_a_new_file_at_once(tmp_path):
    for round_ in range(10):
        path = tmp_path / f"{round_}.db"
        stores = [SQLiteStore(path) for _ in range(8)]
        answers = at_once(8, lambda i, s=stores: s[i].lease(keys_of(10), b"%d" % i, LONG, MARK))
        assert sorted(answer for each in answers for answer in each) == [HELD] * 70 + [TAKEN] * 10
        assert len({tuple(s.fetch([], GROUPS).epochs) for s in stores}) == 1
        for store in stores:
            store.close()


OPENER = """
import sys, time
from nearcache.entry import Mark
from nearcache.stores.sqlite import SQLiteStore
path, number = sys.argv[1:]
store = SQLiteStore(path)
print("ready", flush=True)
sys.stdin.readline()
keys = [b"key-%d" % i for i in range(20)]
epochs = store.fetch([], [b"group"]).epochs
taken = sum(a is True for a in store.lease(keys, number.encode(), 60.0, Mark(3, 4, b"current.")))
print(taken, epochs[0].hex(), flush=True)
store.close()
"""


def test_eight_processes_may_open_a_new_file_at_once(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, str(path), str(i)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(8)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, results
    taken, epochs = zip(*[out.split() for out, _ in results], strict=True)
    assert sum(map(int, taken)) == 20
    assert len(set(epochs)) == 1


WRITER = """
import sys
from nearcache.stores.sqlite import SQLiteStore
from nearcache.testing import stored_entry
path, number = sys.argv[1:]
store = SQLiteStore(path)
for i in range(60):
    key = b"%s-%d" % (number.encode(), i)
    store.write([key, b"shared"], [stored_entry(key)] * 2, None, b"log", [key, key])
    assert store.fetch([key], [b"group"]).values == [stored_entry(key)]
store.close()
"""


def test_processes_that_write_at_once_lose_nothing(store, path):
    cursor = store.changes(LOG, b"").cursor
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(i)]) for i in range(3)
    ]
    for process in processes:
        assert process.wait(timeout=60) == 0
    keys = [b"%d-%d" % (n, i) for n in range(3) for i in range(60)]
    assert store.fetch(keys, GROUPS).values == [stored_entry(key) for key in keys]
    assert store.fetch([b"shared"], GROUPS).values[0] in [stored_entry(key) for key in keys]
    assert set(store.changes(LOG, cursor).entries) == set(keys)


def test_a_killed_process_loses_nothing_it_had_written_and_blocks_nobody(path, opened):
    code = WRITER.replace("range(60)", "range(10**9)").replace(
        "    assert store", "    print(i, flush=True)\n    assert store"
    )
    for number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(number)], stdout=subprocess.PIPE, text=True
        )
        while int(last := process.stdout.readline()) < 20:
            pass
        process.kill()
        last = (process.stdout.read().split() or [last])[-1]  # a line may be cut
        process.stdout.close()
        process.wait()
        keys = [b"%d-%d" % (number, i) for i in range(min(int(last), 20) + 1)]
        assert None not in opened().fetch(keys, GROUPS).values


def test_a_writer_that_blocks_the_file_for_ever_is_an_error_not_a_hang(store, path, monkeypatch):
    store.close()
    monkeypatch.setattr(module, "_BUSY_TIMEOUT", 0.05)
    blocked = SQLiteStore(path)
    blocked.fetch([b"a"], GROUPS)
    with sqlite3.connect(path) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            blocked.write([b"a"], [OLD], None, LOG, [b""])
        db.execute("ROLLBACK")
    db.close()
    blocked.write([b"a"], [OLD], None, LOG, [b""])
    blocked.close()


def test_ctrl_c_at_any_moment_of_opening_it_leaves_a_file_that_can_be_opened(path):
    def opens(file):
        with file.connection():
            pass

    moment, more = 0, True
    while more:
        file = module.SQLiteFile(path)
        more = interrupted_at(moment, lambda file=file: opens(file), module, gate)
        file.close()
        opens(file)
        file.close()
        moment += 1
    assert moment > 50
