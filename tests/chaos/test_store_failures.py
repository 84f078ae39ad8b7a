"""Stores that die, hang, fill up or cannot be written: a cache is slower, never wrong or broken."""

import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import embedding_process
from embedders import M, Model, in_threads, same, until, vector, vectors
from nearcache import EmbeddingCache, Options

QUICK = Options(store_timeout=0.2, link_timeout=0.1)
TEXTS = [f"t{n}" for n in range(20)]


def recovered(cache):
    """Poll until what is put reaches the server again."""

    def again():
        cache.put("back", vector("back"), M)
        return cache.get_stats().undelivered == 0 and cache.get("back", M) is not None

    until(again)


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_server_that_stops_in_the_middle_is_misses_then_recovery(make, face, own_server, fault):
    server = own_server()
    cache = make(face, server.url, max_entries=0, options=QUICK)
    embed = cache.wrap(Model(), M)
    embed(TEXTS)
    getattr(server, fault)()
    assert same(embed(TEXTS), vectors(TEXTS))
    cache.put("text", vector("text"), M)
    assert cache.get("text", M) is None
    assert cache.get_stats().store_errors > 0
    server.restart() if fault == "kill" else server.resume()
    recovered(cache)
    model = Model()
    embed = cache.wrap(model, M)
    assert same(embed(TEXTS), vectors(TEXTS))
    assert same(embed(TEXTS), vectors(TEXTS))
    assert set(model.times.values()) <= {1}


def test_what_was_forgotten_while_the_server_hung_is_gone_when_it_goes_on(make, face, own_server):
    server = own_server()
    cache = make(face, server.url, max_entries=0, options=QUICK)
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    server.pause()
    cache.invalidate("t3", M)
    assert cache.get_stats().undelivered == 1
    server.resume()
    until(lambda: cache.get("t4", M) is not None)
    assert cache.get("t3", M) is None
    assert make(face, server.url).get("t3", M) is None
    assert cache.get_stats().undelivered == 0


def test_a_write_that_timed_out_and_was_executed_late_revives_nothing(make, face, own_server):
    server = own_server()
    cache = make(face, server.url, max_entries=0, options=QUICK)
    cache.put("text", vector("old"), M)
    server.pause()
    cache.put("text", vector("late"), M)  # the server gets it, and does it when it goes on
    cache.invalidate("text", M)
    server.resume()
    until(lambda: cache.get_stats().undelivered == 0 or cache.get("other", M))
    assert cache.get("text", M) is None


def test_a_restarted_server_knows_no_script_and_learns_them(make, face, own_server):
    server = own_server()
    cache = make(face, server.url, options=QUICK)
    cache.wrap(Model(), M)(TEXTS)
    server.restart()
    recovered(cache)
    other = make(face, server.url, options=QUICK)
    other.wrap(Model(), M)(["x", "y"])
    assert same(make(face, server.url).get_batch(["x", "y"], M)[0], vectors(["x", "y"]))


def test_threads_under_a_dying_server_get_right_answers_only(own_server):
    server = own_server()
    cache = EmbeddingCache(server.url, max_entries=8, options=QUICK)
    embed = cache.wrap(Model(), M, max_concurrency=4)
    stop = threading.Event()

    def trouble():
        for fault in ("pause", "resume", "kill", "restart"):
            getattr(server, fault)()
            if stop.wait(0.2):
                break

    def work(number):
        for step in range(60):
            texts = [f"t{(number * 7 + step * 3 + k) % 40}" for k in range(5)]
            assert same(embed(texts), vectors(texts))
        return True

    # the server is started and killed from this thread: its life ends with its parent thread's
    results = []
    workers = threading.Thread(target=lambda: results.extend(in_threads(4, work)))
    workers.start()
    trouble()
    workers.join(60)
    stop.set()
    cache.close()
    assert results == [True] * 4


def test_a_full_server_still_answers_what_it_has(make, face, own_server):
    server = own_server("redis-7.0", "--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
    cache = make(face, server.url, max_entries=0)
    texts = [f"t{n}" for n in range(400)]
    embed = cache.wrap(Model(4096), M)
    for at in range(0, 400, 20):
        part = texts[at : at + 20]
        assert same(embed(part), vectors(part, 4096))
    assert cache.get_stats().store_errors > 0
    fresh, model = make(face, server.url, max_entries=0), Model(4096)
    assert same(fresh.wrap(model, M)(texts[:20]), vectors(texts[:20], 4096))
    assert model.calls == []


def test_a_server_that_evicts_is_misses(make, face, own_server):
    server = own_server("valkey-9.1", "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru")
    cache = make(face, server.url, max_entries=0)
    texts = [f"t{n}" for n in range(400)]
    for _ in range(2):
        for at in range(0, 400, 20):
            part = texts[at : at + 20]
            assert same(cache.wrap(Model(4096), M)(part), vectors(part, 4096))
    assert cache.get_stats().store_errors == 0


def test_a_server_that_wants_a_password_is_misses(make, face, own_server):
    server = own_server(password="s3cret")
    for url in (f"redis://127.0.0.1:{server.port}", f"redis://:wrong@127.0.0.1:{server.port}"):
        cache = make(face, url)
        assert same(cache.wrap(Model(), M)("text"), vector("text"))
        assert cache.get_stats().store_errors > 0
    cache = make(face, server.url)
    cache.put("text", vector("text"), M)
    assert same(make(face, server.url).get("text", M), vector("text"))


def test_a_replica_is_read_and_not_written(make, face, own_server):
    primary = own_server("valkey-9.1", "--repl-diskless-sync-delay", "0")
    replica = own_server()
    make(face, primary.url).put("text", vector("text"), M)
    with replica.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        until(lambda: client.info("replication").get("master_link_status") == "up", 20)
    cache = make(face, replica.url, max_entries=0)
    assert same(cache.get("text", M), vector("text"))
    cache.put("other", vector("other"), M)
    assert cache.get("other", M) is None
    assert same(cache.get("text", M), vector("text"))
    assert same(cache.wrap(Model(), M)("new"), vector("new"))


# SQLite


def run(task, url, folder, *arguments):
    """What ``embedding_process.py`` prints."""
    script = Path(embedding_process.__file__)
    done = subprocess.run(
        [sys.executable, str(script), task, url, str(folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_file_that_may_only_be_read_is_read():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
        folder = Path(name)
        url = f"sqlite:///{folder}/x.db"
        with EmbeddingCache(url) as cache:
            cache.put("text", vector("text"), M)
            # while a process has it open, the files beside it that reading needs are there
            for path in folder.iterdir():
                path.chmod(0o444)
            folder.chmod(0o755)
            answers = run("use_unprivileged", url, folder, 65534)
    assert answers == ["True"] * 5


def test_a_full_disk_is_misses_and_loses_nothing(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    assert run("fill_the_disk", url, tmp_path, 1_000_000) == ["True", "True"]
    with EmbeddingCache(url) as cache:
        assert same(cache.get("first", M), vector("first"))
        kept, found = cache.get_batch([f"t{n}" for n in range(300)], "large")
        right = vectors([f"t{n}" for n in range(300)], 4096)
        assert same(kept[found], right[found])
    db = sqlite3.connect(tmp_path / "x.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_folder_that_is_not_there_is_misses_until_it_is(make, face, tmp_path):
    cache, model = make(face, f"sqlite:///{tmp_path}/late/x.db"), Model()
    embed = cache.wrap(model, M)
    for _ in range(2):
        assert same(embed("text"), vector("text"))
    assert len(model.calls) == 1
    (tmp_path / "late").mkdir()
    recovered(cache)
    assert same(make(face, f"sqlite:///{tmp_path}/late/x.db").get("back", M), vector("back"))


def test_a_file_that_is_deleted_under_the_cache_is_never_felt(make, face, tmp_path):
    cache = make(face, f"sqlite:///{tmp_path}/x.db", max_entries=0)
    embed = cache.wrap(Model(), M)
    embed(TEXTS)
    for path in tmp_path.iterdir():
        path.unlink()
    assert same(embed(TEXTS), vectors(TEXTS))
    cache.put("text", vector("text"), M)


def test_a_file_that_another_process_locks_is_waited_for(tmp_path):
    path = tmp_path / "x.db"
    with EmbeddingCache(f"sqlite:///{path}", max_entries=0) as cache:
        cache.put("text", vector("text"), M)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("BEGIN IMMEDIATE")
        assert same(cache.get("text", M), vector("text"))  # readers do not wait for a writer
        writing = threading.Thread(target=cache.put, args=("other", vector("other"), M))
        writing.start()
        until(lambda: cache._tiers.engine.store._file._writing.taken)
        db.execute("COMMIT")
        writing.join(30)
        db.close()
        assert same(cache.get("other", M), vector("other"))


def test_eight_threads_that_open_a_new_file_at_once_all_write_to_it(tmp_path):
    """Turning on the write-ahead log locks the file for a moment; nobody may give up for that."""
    for attempt in range(5):
        url = f"sqlite:///{tmp_path}/{attempt}.db"
        caches = [EmbeddingCache(url) for _ in range(8)]
        in_threads(8, lambda n, caches=caches: caches[n].put(f"t{n}", vector(f"t{n}"), M))
        texts = [f"t{n}" for n in range(8)]
        with EmbeddingCache(url) as fresh:
            assert same(fresh.get_batch(texts, M)[0], vectors(texts))
        for cache in caches:
            assert cache.get_stats().store_errors == 0
            cache.close()


def test_a_byte_budget_keeps_the_file_bounded_and_drops_the_oldest(make, face, tmp_path):
    path = tmp_path / "x.db"
    cache = make(face, f"sqlite:///{path}?max_bytes=2MiB", max_entries=0)
    texts = [f"t{n}" for n in range(600)]
    for at in range(0, 600, 20):
        part = texts[at : at + 20]
        cache.put_batch(part, vectors(part, 2048), M)
    rows, found = cache.get_batch(texts, M)
    assert found[-20:].all()
    assert not found[:20].any()
    assert same(rows[-20:], vectors(texts[-20:], 2048))
    assert path.stat().st_size <= 3 * 2**20
