"""What can happen to an SQLite file under a cache: kills, damage, hands, a full disk."""

import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress

import pytest

from embedders import M, Model, same, until, vector, vectors
from nearcache import EmbeddingCache, NearCache, Options
from nearcache.errors import StoreUnavailable
from nearcache.stores.sqlite import SQLiteStore
from nearcache.stores.sqlite_damage import StoreDamaged, locked
from nearcache.testing.contracts.stores import GROUPS, LOG, NEW, OLD, at_once
from soak.damage import ENDS, damage, make_file
from soak.kills import kill_writers

PAGE = 8192
TEXTS = [f"t{n}" for n in range(20)]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "x.db"


@pytest.fixture
def opened(path):
    """Open the file once more; all are closed when the test is over."""
    stores = []

    def opened(**options):
        stores.append(SQLiteStore(path, **options))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


def aside(path, part=""):
    return path.with_name(path.name + ".damaged" + part)


def overwrite(path, at, data):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def in_a_process_that_is_killed(work):
    """Do work in another process, which leaves its write-ahead log behind."""
    process = os.fork()
    if not process:
        with suppress(BaseException):
            _store = work()  # open to the end
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    _, status = os.waitpid(process, 0)
    assert status == signal.SIGKILL


def checkpoint(path):
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


# -- killed writers; the long form is `make soak` --------------------------------------------------


def test_writers_that_are_killed_lose_nothing_they_were_told_was_written(path):
    outcome = kill_writers(path, 6, seed=6)
    assert outcome.faults == []
    assert outcome.kills >= 6
    assert outcome.openings == outcome.kills
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


# -- damage; the long form is `make soak` ----------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_whatever_is_damaged_no_value_is_wrong_and_the_cache_goes_on(tmp_path, path, end):
    make_file(path, end)
    counts, faults = damage(path, tmp_path / "copies", range(8))
    assert faults == []
    assert counts["found"] > 0  # what is left is used


def test_a_damaged_page_is_moved_aside_and_said_loudly(path, opened, caplog):
    store = opened()
    keys = [b"key-%d" % n for n in range(100)]
    store.write(keys, [OLD * 100] * 100, None, LOG, keys)
    store.close()
    size = path.stat().st_size
    overwrite(path, PAGE, random.Random(1).randbytes(size - PAGE))
    damaged = path.read_bytes()
    with caplog.at_level(logging.ERROR, "nearcache"):
        with pytest.raises(StoreDamaged, match="damaged") as raised:
            opened().fetch(keys, GROUPS)
        assert str(aside(path)) in str(raised.value)
        assert [record.getMessage() for record in caplog.records] == [str(raised.value)]
    assert aside(path).read_bytes() == damaged
    again = opened()
    assert again.fetch(keys, GROUPS).values == [None] * 100
    again.write(keys, [NEW] * 100, None, LOG, keys)
    assert opened().fetch(keys, GROUPS).values == [NEW] * 100


def test_a_cache_over_a_damaged_file_loads_and_counts_it(make, face, path):
    url = f"sqlite:///{path}"
    first = make(face, url)
    first.put_batch(TEXTS, vectors(TEXTS), M)
    first.close()
    overwrite(path, 0, b"\xff" * 100)
    cache = make(face, url, max_entries=0)
    embed = cache.wrap(Model(), M)
    assert same(embed(TEXTS), vectors(TEXTS))
    assert cache.get_stats().store_errors > 0
    assert aside(path).exists()

    def again():
        cache.put("back", vector("back"), M)
        return cache.get("back", M) is not None

    until(again)


def test_of_several_damaged_files_the_last_is_kept(path, opened):
    for number in range(3):
        store = opened()
        store.write([b"a"], [OLD], None, LOG, [b""])
        store.close()
        overwrite(path, 0, bytes([number]) * 16)
        with pytest.raises(StoreDamaged):
            opened().fetch([b"a"], GROUPS)
        assert aside(path).read_bytes()[:16] == bytes([number]) * 16
    assert len(list(path.parent.glob("*.damaged"))) == 1


def test_what_a_damaged_log_leaves_out_brings_no_old_value_back(path, opened):
    """SQLite says nothing of it: the file has the old value, and is whole."""

    def work():
        store = SQLiteStore(path)
        store.write([b"a"], [OLD], None, LOG, [b""])
        checkpoint(path)
        store.write([b"a"], [NEW], None, LOG, [b""])
        return store

    in_a_process_that_is_killed(work)
    overwrite(path.with_name("x.db-wal"), 100, b"\xff" * 50)
    with pytest.raises(StoreDamaged, match="write-ahead log"):
        opened().fetch([b"a"], GROUPS)
    assert aside(path).exists()
    assert opened().fetch([b"a"], GROUPS).values == [None]


@pytest.mark.parametrize("left", [0, 20, 5000])
def test_a_log_that_was_cut_brings_no_old_value_back(path, opened, left):
    def work():
        store = SQLiteStore(path)
        store.write([b"a"], [OLD], None, LOG, [b""])
        checkpoint(path)
        store.write([b"a"], [NEW], None, LOG, [b""])
        return store

    in_a_process_that_is_killed(work)
    os.truncate(path.with_name("x.db-wal"), left)
    with pytest.raises(StoreDamaged, match="write-ahead log"):
        opened().fetch([b"a"], GROUPS)
    assert opened().fetch([b"a"], GROUPS).values == [None]


def test_a_log_that_a_killed_process_left_whole_is_read(path, opened):
    def work():
        store = SQLiteStore(path)
        store.write([b"a"], [NEW], None, LOG, [b""])
        return store

    in_a_process_that_is_killed(work)
    assert path.with_name("x.db-wal").stat().st_size
    assert opened().fetch([b"a"], GROUPS).values == [NEW]
    assert not aside(path).exists()


def test_a_file_that_cannot_be_moved_aside_is_an_error_and_stays(path, opened, monkeypatch):
    store = opened()
    store.write([b"a"], [OLD], None, LOG, [b""])
    store.close()
    overwrite(path, 24, b"\xff" * 60)

    def refuse(*_):
        raise PermissionError("no")

    monkeypatch.setattr("nearcache.stores.sqlite_file.move_aside", refuse)
    with pytest.raises(StoreUnavailable, match="stays"):
        opened().fetch([b"a"], GROUPS)
    assert path.exists()


def test_a_file_is_never_moved_while_another_process_opens_it(path, opened, monkeypatch):
    store = opened()
    store.write([b"a"], [OLD], None, LOG, [b""])
    store.close()
    overwrite(path, 24, b"\xff" * 60)
    monkeypatch.setattr("nearcache.stores.sqlite_file._BUSY_TIMEOUT", 0.05)
    with (
        locked(path, 1.0, alone=False),
        pytest.raises(StoreUnavailable, match="another process"),
    ):
        opened().fetch([b"a"], GROUPS)
    assert path.exists()
    with pytest.raises(StoreDamaged):
        opened().fetch([b"a"], GROUPS)


# -- two processes -------------------------------------------------------------------------------


MOVES_IT = """
import sys
from nearcache.stores.sqlite import SQLiteStore
from nearcache.stores.sqlite_damage import StoreDamaged
try:
    SQLiteStore(sys.argv[1]).fetch([b"a"], [])
except StoreDamaged:
    pass
else:
    sys.exit(1)
"""


def test_when_one_process_moves_the_file_the_other_goes_on_with_the_new_one(path, opened):
    ours = opened()
    ours.write([b"a"], [OLD], None, LOG, [b""])
    cursor = ours.changes(LOG, b"").cursor
    checkpoint(path)

    overwrite(path, 0, b"\xff" * 100)
    subprocess.run([sys.executable, "-c", MOVES_IT, str(path)], check=True, timeout=60)
    assert aside(path).exists()
    assert ours.fetch([b"a"], GROUPS).values == [None]
    assert ours.changes(LOG, cursor).entries is None  # whoever listened has missed something
    ours.write([b"a"], [NEW], None, LOG, [b""])
    assert opened().fetch([b"a"], GROUPS).values == [NEW]


def test_a_write_into_a_file_that_is_moved_meanwhile_is_not_called_done(path, opened, monkeypatch):
    store = opened()
    store.write([b"a"], [OLD], None, LOG, [b""])
    store_at = store._store

    def move_and_store(*arguments):
        for part in ("", "-wal", "-shm"):
            path.with_name(path.name + part).replace(aside(path, part))
        store_at(*arguments)

    monkeypatch.setattr(store, "_store", move_and_store)
    with pytest.raises(StoreUnavailable, match="moved or removed"):
        store.write([b"a"], [NEW], None, LOG, [b""])
    monkeypatch.undo()
    store.write([b"a"], [NEW], None, LOG, [b""])
    assert opened().fetch([b"a"], GROUPS).values == [NEW]


# -- somebody's hands ----------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 100, PAGE, 5 * PAGE + 17])
def test_a_file_that_is_cut_under_us_is_misses_then_recovery(make, face, path, kept):
    cache = make(face, f"sqlite:///{path}", max_entries=0)
    embed = cache.wrap(Model(), M)
    embed(TEXTS)
    checkpoint(path)
    os.truncate(path, kept)
    assert same(embed(TEXTS), vectors(TEXTS))

    def again():
        cache.put("back", vector("back"), M)
        return cache.get("back", M) is not None

    until(again)
    assert same(embed(TEXTS), vectors(TEXTS))


@pytest.mark.parametrize("what", ["another cache's", "another program's", "notes", "a folder"])
def test_a_file_that_is_replaced_under_us_is_never_mixed_with_the_old_one(
    make, face, tmp_path, path, what
):
    cache = make(face, f"sqlite:///{path}", max_entries=0)
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    other = tmp_path / "other.db"
    if what == "another cache's":
        with EmbeddingCache(f"sqlite:///{other}") as theirs:
            theirs.put("theirs", vector("theirs"), M)
    elif what == "another program's":
        with sqlite3.connect(other) as db:
            db.execute("CREATE TABLE theirs(x)")
        db.close()
    elif what == "notes":
        other.write_text("my precious notes\n" * 1000)
    else:
        other.mkdir()
    before = None if other.is_dir() else other.read_bytes()
    for file in path.parent.iterdir():
        file.unlink()
    other.rename(path)
    assert same(cache.wrap(Model(), M)(TEXTS), vectors(TEXTS))
    if what == "another cache's":
        until(lambda: cache.get("theirs", M) is not None)
    elif before is not None:
        assert path.read_bytes() == before  # not ours to move or write


def test_a_folder_that_is_removed_under_us_is_misses_until_it_is_back(make, face, path):
    cache = make(face, f"sqlite:///{path}", max_entries=0)
    embed = cache.wrap(Model(), M)
    embed(TEXTS)
    shutil.rmtree(path.parent)
    for _ in range(2):
        assert same(embed(TEXTS), vectors(TEXTS))
    path.parent.mkdir()

    def again():
        cache.put("back", vector("back"), M)
        return cache.get("back", M) is not None

    until(again)


def test_what_was_forgotten_while_the_file_was_away_is_gone_when_it_is_back(tmp_path, path):
    cache = NearCache(f"sqlite:///{path}", namespace="n", ttl=None, max_entries=0)
    cache.put("kept", 1)
    cache.put("gone", 1)
    checkpoint(path)
    away = tmp_path / "away"
    path.parent.rename(away)
    cache.invalidate("gone")
    assert cache.get_stats().undelivered == 1
    away.rename(path.parent)
    until(lambda: cache.get("kept") == 1)
    assert cache.get("gone") is None
    cache.close()
    with NearCache(f"sqlite:///{path}", namespace="n", ttl=None) as fresh:
        assert fresh.get("gone") is None


# -- no room -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_misses_and_what_was_written_stays(tmp_path, small_disk):
    with EmbeddingCache(f"sqlite:///{small_disk}/x.db", max_entries=0) as cache:
        embed = cache.wrap(Model(4096), M)
        embed("first")
        for number in range(200):
            assert same(embed(f"t{number}"), vector(f"t{number}", 4096))
        assert cache.get_stats().store_errors > 0
        until(lambda: cache.get("first", M) is not None)
    copy = shutil.copytree(small_disk, tmp_path / "copy") / "x.db"  # reading it takes room
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def test_on_a_full_disk_a_value_that_was_forgotten_is_not_served(small_disk):
    options = Options(link_timeout=0.1)
    with NearCache(
        f"sqlite:///{small_disk}/x.db", namespace="n", ttl=None, max_entries=0, options=options
    ) as cache:
        cache.put("key", 1)
        (small_disk / "fill").write_bytes(b"")
        with suppress(OSError), (small_disk / "fill").open("ab") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        for number in range(40):
            cache.put(f"more{number}", "x" * 10_000)
        cache.invalidate("key")
        assert cache.get("key") is None
        (small_disk / "fill").unlink()
        until(lambda: cache.get_stats().undelivered == 0 or cache.get("other"))
        assert cache.get("key") is None


def test_eight_threads_meet_a_damaged_file_and_all_go_on(path):
    with EmbeddingCache(f"sqlite:///{path}") as first:
        first.put_batch(TEXTS, vectors(TEXTS), M)
    overwrite(path, 0, b"\xff" * 100)
    caches = [EmbeddingCache(f"sqlite:///{path}", max_entries=0) for _ in range(8)]
    answers = at_once(8, lambda n: same(caches[n].wrap(Model(), M)(TEXTS), vectors(TEXTS)))
    assert answers == [True] * 8
    for cache in caches:
        cache.close()
