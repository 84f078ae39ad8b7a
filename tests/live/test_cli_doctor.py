"""``nearcache doctor`` finds each fault that is planted, says which it is, and names the cure."""

import re
import sqlite3
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from clusters import Cluster
from nearcache import EmbeddingCache, NearCache
from nearcache.metrics.health import redis_server, sqlite_file, store_checks, workers
from nearcache.metrics.health import store as asked
from nearcache.testing.proxy import FaultProxy
from reports import report


def found(url, namespace=None):
    """What the doctor says that is not ok, by name; and that it took no longer than it may."""
    began = time.monotonic()
    said = store_checks(url, namespace)
    assert time.monotonic() - began < 10
    assert "secret" not in repr(said)
    return {check.name: check for check in said if check.status != "ok"}


def fault(url, name, *words, namespace=None, status="fail"):
    """The check that found the fault."""
    check = found(url, namespace)[name]
    assert check.status == status, check
    for word in words:
        assert word in check.detail + " " + check.cure
    assert check.cure
    return check


def cache_of(server, *args, user="doctor"):
    """A URL for a user with all rights but some."""
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", user, "reset", "on", ">secret", "resetchannels", "+@all", *args
        )
    return f"redis://{user}:secret@127.0.0.1:{server.port}/0"


# -- nothing is wrong


def test_a_sound_server_is_told_to_be_and_nothing_is_left_there(redis_server):
    with redis_server.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert found(redis_server.url) == {}
            left = [key for key in client.scan_iter() if b"canary" not in key]  # ends by itself
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    assert left == []


def test_a_sound_file_is_told_to_be_and_nothing_is_left_there(tmp_path):
    url = f"sqlite:///{tmp_path}/sound.db"
    with NearCache(url, namespace="n") as cache:
        cache.put("key", "value")
    assert found(url) == {}
    with sqlite3.connect(tmp_path / "sound.db") as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (1,)
    db.close()


# -- 1, 2: nobody answers


def test_a_server_that_is_not_there():
    fault("redis://:secret@127.0.0.1:1", "store", "refused", "Start the server")


def test_a_host_that_has_no_name():
    fault("redis://:secret@nowhere.invalid", "store", "name")


@pytest.mark.impatient
def test_a_server_that_hangs(own_server):
    server = own_server()
    server.pause()
    fault(server.url, "store", "does not answer")


@pytest.mark.impatient
def test_a_network_that_swallows_what_is_sent(one_server):
    with FaultProxy.of(one_server.url) as proxy:
        proxy.black_hole()
        fault(proxy.url, "store", "firewall")


def test_a_name_service_that_hangs_is_not_waited_for(monkeypatch):
    let_go = threading.Event()

    def hangs(url, namespace):
        let_go.wait()
        yield from ()

    monkeypatch.setattr(asked, "_asked", hangs)
    (check,) = store_checks("redis://x", seconds=0.2)
    let_go.set()
    assert "did not answer within 0.2 s" in check.detail
    assert "name service" in check.cure


# -- 3: who asks may not


def test_a_wrong_password(own_server):
    server = own_server(password="right")
    url = server.url.replace("right", "secret")
    fault(url, "store", "Give the right login")


@pytest.mark.parametrize("command", ["evalsha", "scan", "xrevrange"])
def test_a_user_who_lacks_a_command(one_server, command):
    fault(cache_of(one_server, "~nc1:*", f"-{command}"), "permissions", f"+{command}")


def test_a_user_who_lacks_the_keys(one_server):
    fault(cache_of(one_server, "~other:*"), "permissions", "~nc1:*")


def test_a_user_of_one_namespace_is_looked_at_in_it(one_server):
    with one_server.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        keys = ("~nc1:{mine:*", "~nc1:{mine}*", "~nc1:{mine/*", "~nc1:{mine!}*", "~nc1:{!}*")
        assert found(cache_of(one_server, *keys), "mine") == {}
    finally:
        with one_server.client() as client:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")


# -- 4: changes are not told


def test_a_user_who_may_not_track(one_server):
    url = cache_of(one_server, "~nc1:*", "-client|tracking")
    fault(url, "tracking", "+client|tracking", "link_timeout")


def test_a_server_without_client_tracking(own_server):
    server = own_server("valkey-9.1", "--rename-command", "CLIENT", "")
    fault(server.url, "tracking", "Do not rename or disable CLIENT")


def test_a_proxy_that_keeps_back_what_the_server_pushes(one_server):
    with FaultProxy.of(one_server.url) as proxy:
        proxy.black_hole(only="tracked")
        fault(proxy.url, "tracking", "between here and the server")


@pytest.mark.parametrize("version", ["5.0.14", "3.2.1"])
def test_a_server_that_is_too_old(version):
    check = redis_server._version({"redis_version": version})
    assert check.status == "fail"
    assert "RESP3" in check.cure


# -- 5: memory


def test_a_server_without_a_limit(own_server):
    fault(own_server().url, "memory", "Set maxmemory", status="warn")


def test_a_server_that_is_nearly_full_and_evicts_nothing(own_server):
    server = own_server("valkey-9.1", "--maxmemory", "1200kb", "--maxmemory-policy", "noeviction")
    fault(server.url, "memory", "Raise maxmemory")


def test_a_server_that_evicts_only_what_has_an_end(own_server):
    server = own_server("valkey-9.1", "--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru")
    fault(server.url, "memory", "allkeys-lru", status="warn")


# -- 6: a replica


def test_a_replica_names_its_primary(own_server):
    primary = own_server()
    replica = own_server("valkey-9.1", "--replicaof", f"127.0.0.1 {primary.port}")
    fault(replica.url, "role", f"127.0.0.1:{primary.port}", "sentinel")


# -- 7: clocks


def test_a_clock_that_is_off(one_server, monkeypatch):
    real = time.time
    monkeypatch.setattr(redis_server, "time", _Clock(lambda: real() - 90))
    fault(one_server.url, "clock", "+90", "NTP", status="warn")


class _Clock:
    def __init__(self, now):
        self.time = now


# -- 8: files


@contextmanager
def a_file(tmp_path):
    with NearCache(f"sqlite:///{tmp_path}/cache.db", namespace="n") as cache:
        for i in range(300):
            cache.put(str(i), "value" * 50)
    yield tmp_path / "cache.db", f"sqlite:///{tmp_path}/cache.db"


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file.os, "access", lambda path, mode: False)  # root may everything
    with a_file(tmp_path) as (path, url):
        fault(url, "file", str(path), "chmod")


def test_a_file_that_is_damaged(tmp_path):
    with a_file(tmp_path) as (path, url):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * (size // 2))
        fault(url, "file", "damaged", "sets it aside")


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "notes.db").write_text("remember the milk\n" * 100)
    fault(f"sqlite:///{tmp_path}/notes.db", "file", "no SQLite file", "name another path")
    assert (tmp_path / "notes.db").read_text().startswith("remember")


def test_a_file_of_another_program(tmp_path):
    with sqlite3.connect(tmp_path / "theirs.db") as db:
        db.execute("CREATE TABLE songs (name)")
    db.close()
    fault(f"sqlite:///{tmp_path}/theirs.db", "store", "another program")


def test_a_damaged_file_that_was_set_aside_is_told(tmp_path):
    with a_file(tmp_path) as (path, url):
        path.with_name("cache.db.damaged").touch()
        fault(url, "file", "began anew", status="warn")


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    usage = sqlite_file.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(sqlite_file.shutil, "disk_usage", lambda path: usage._replace(free=4096))
    with a_file(tmp_path) as (_, url):
        fault(url, "disk", "max_bytes=")


def test_a_disk_in_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "_kind_of_disk", lambda folder: "nfs4")
    with a_file(tmp_path) as (_, url):
        fault(url, "disk", "network disk", "Redis")


def test_a_folder_that_is_not_there(tmp_path):
    fault(f"sqlite:///{tmp_path}/no/cache.db", "file", "mkdir -p")
    assert not (tmp_path / "no").exists()


# -- 9: two of a kind in one namespace


def test_two_releases_in_one_namespace(tmp_path):
    with a_file(tmp_path) as (path, url):
        with sqlite3.connect(path) as db:
            (raw,) = db.execute("SELECT value FROM entries LIMIT 1").fetchone()
            db.execute("UPDATE entries SET value = ?", (raw[:2] + b"\x02" + raw[3:],))
        db.close()
        fault(url, "entries", "another release", "namespace n")


def test_two_codecs_in_one_namespace(one_server):
    for codec, value in (("json", [1]), ("msgpack", [1])):
        with NearCache(one_server.url, namespace="shared", codec=codec) as cache:
            cache.put(codec, value)
    fault(one_server.url, "entries", "json and as msgpack", "other namespaces")


def test_two_dimensions_of_one_model(tmp_path):
    url = f"sqlite:///{tmp_path}/v.db"
    for size in (4, 8):
        with EmbeddingCache(url) as cache:
            cache.put(str(size), np.ones(size), "model")
    fault(url, "entries", "of 4 and as", "of 8")


def test_entries_that_do_not_verify(tmp_path):
    with a_file(tmp_path) as (path, url):
        with sqlite3.connect(path) as db:
            db.execute("UPDATE entries SET value = zeroblob(80) WHERE id < 4")
        db.close()
        fault(url, "entries", "do not verify", status="warn")


# -- 11: the URL


@pytest.mark.parametrize(
    "url,words",
    [
        ("redis://:secret@h?sokcet_timeout=1", "sokcet_timeout"),
        ("mongo://:secret@h", "unknown store scheme"),
        ("sqlite:///x.db?max_bytes=many", "a size looks like"),
    ],
)
def test_a_url_that_is_wrong(url, words):
    fault(url, "store", words, "Correct the URL.")


@pytest.mark.parametrize("scheme", ["redis", "valkey", "redis+cluster"])
def test_a_password_in_the_clear(scheme):
    url = f"{scheme}://:secret@192.0.2.1:6379"
    (check,) = list(asked._of_url(url))
    assert check.status == "warn"
    assert re.search("rediss|valkeys", check.cure)


def test_a_password_that_stays_on_this_machine_is_well():
    assert not list(asked._of_url("redis://:secret@127.0.0.1:6379"))
    assert not list(asked._of_url("rediss://:secret@192.0.2.1:6379"))


# -- 12: clusters, records, workers


def test_a_cluster_that_has_lost_slots():
    with Cluster(replicas=0) as cluster:
        cluster.primaries[0].ask("CLUSTER", "DELSLOTS", 0, 1, 2)
        fault(cluster.url, "cluster", "ADDSLOTS")


@pytest.mark.parametrize("name", ["rdb_last_bgsave_status", "aof_last_write_status"])
def test_a_server_that_cannot_write_its_disk(name):
    (check,) = list(redis_server._disk({name: "err"}))
    assert check.status == "fail"
    assert "Make room" in check.cure


def test_workers_that_do_not_hear_wait_or_differ():
    said = {}
    for check in workers.of_report(report(20)):
        said.setdefault(check.status, []).append(check.detail)
    assert any("do not hear" in detail for detail in said["fail"])
    assert any("breaker" in detail for detail in said["warn"])
    assert any("without the native core" in detail for detail in said["warn"])
