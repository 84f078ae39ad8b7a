"""NearCache: several caches on one store stay together, by conditions and not by waiting."""

import asyncio
import logging
import threading

import pytest

from embedders import in_threads, until
from near_fixtures import SPACE, Source, begun, linked, near_caches, settled
from nearcache import MISSING, MemoryStore, NearCache, Options, RedisStore, SQLiteStore
from nearcache.errors import ConfigError
from nearcache.testing import FaultProxy

near = pytest.fixture(near_caches)


def tag_of(cache):
    cache.invalidate_by_tag("tag")


CHANGES = {
    "put": (lambda cache: cache.put("key", "new"), "new"),
    "put of nothing": (lambda cache: cache.put("key", "new", ttl=0), None),
    "put_batch": (lambda cache: cache.put_batch({"other": 1, "key": "new"}), "new"),
    "invalidate": (lambda cache: cache.invalidate("key"), None),
    "invalidate_batch": (lambda cache: cache.invalidate_batch(["other", "key"]), None),
    "tag": (tag_of, None),
    "clear": (lambda cache: cache.clear(), None),
}


@pytest.mark.parametrize("change, value", CHANGES.values(), ids=CHANGES)
def test_a_change_in_one_cache_is_seen_in_another(near, face, shared, change, value):
    one, two = near(face, shared), near(face, shared)
    one.put("key", "old", tags=["tag"])
    one.put("untouched", "stays")
    linked(one, two)
    settled(two, "key")
    change(one)
    assert one.get("key") == value  # at once, by whoever did it
    assert two.get("key", max_staleness=0) == value  # at once, by whoever insists
    until(lambda: two.get("key") == value)
    assert two.get_batch(["key", "key"]) == [value, value]
    if "clear" not in repr(change):
        assert one.get("key", max_staleness=0) == value


@pytest.mark.parametrize("change, value", CHANGES.values(), ids=CHANGES)
def test_every_server_tells_of_every_change(near, redis_server, change, value):
    one, two = near("sync", redis_server.url), near("async", redis_server.url)
    one.put("key", "old", tags=["tag"])
    linked(one, two)
    settled(two, "key")
    change(one)
    until(lambda: two.get("key") == value)
    assert {one.link, two.link} == {"tracking"}


@pytest.mark.parametrize("change, value", CHANGES.values(), ids=CHANGES)
def test_one_reads_ones_own_writes_through_either_face(near, store, change, value):
    cache = near("sync", store).thing
    other = cache.as_async()
    for n in range(5):
        cache.put("key", f"old {n}", tags=["tag"])
        assert asyncio.run(other.get("key")) == f"old {n}"
        change(cache)
        assert asyncio.run(other.get("key")) == value
        assert cache.get("key") == value


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
@pytest.mark.parametrize("change, value", CHANGES.values(), ids=CHANGES)
def test_one_reads_ones_own_writes_through_two_caches_on_one_store_object(
    near, one_server, tmp_path, kind, change, value
):
    """ "Within one process you read your own writes": a store object is one link."""
    store = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path / "near.db"),
        "redis": lambda: RedisStore(one_server.url),
    }[kind]()
    one, two = near("sync", store), near("async", store)
    linked(one, two)
    for n in range(10):
        one.put("key", f"old {n}", tags=["tag"])
        assert two.get("key") == f"old {n}"
        assert two.get("key") == f"old {n}"
        change(one)
        assert two.get("key") == value
    one.close()
    two.close()
    store.close()


def test_read_through_asks_the_store_every_time(near, face, one_server):
    cache = begun(near, face, one_server.url)
    cache.put("key", 1)
    settled(cache, "key")
    other = NearCache(one_server.url, namespace=SPACE, options=Options(link_timeout=60.0))
    for n in range(20):
        other.put("key", n)
        assert cache.get("key", max_staleness=0) == n
        assert cache.get_batch(["key"], max_staleness=0) == [n]
        assert cache.get_or_load("key", lambda: 1 / 0, max_staleness=0) == n
    other.invalidate("key")
    assert cache.get("key", max_staleness=0) is None
    assert cache.get_or_load("key", lambda: "loaded", max_staleness=0) == "loaded"
    other.close()


def test_a_staleness_as_long_as_the_bound_is_a_near_hit(near, face, shared):
    near(face, shared).put("key", 1)
    cache = near(face, shared)
    linked(cache)
    settled(cache, "key")
    hits = cache.get_stats().near_hits
    until(lambda: cache.get("key", max_staleness=1.0) == 1 and cache.get_stats().near_hits > hits)


@pytest.mark.parametrize("staleness", [-1, "0", float("nan"), float("inf"), True, []])
def test_a_bad_staleness_is_refused(near, face, store, staleness):
    cache = near(face, store)
    cache.put("key", 1)
    for use in (
        lambda: cache.get("key", max_staleness=staleness),
        lambda: cache.get_batch(["key"], max_staleness=staleness),
        lambda: cache.get_or_load("key", lambda: 1 / 0, max_staleness=staleness),
    ):
        with pytest.raises(ConfigError, match="max_staleness"):
            use()


def test_a_link_timeout_of_nothing_serves_no_near_copy_of_a_shared_store(near, face, shared):
    options = Options(link_timeout=0.0)
    one, two = near(face, shared, options=options), near(face, shared, options=options)
    for n in range(10):
        one.put("key", n)
        assert two.get("key") == n
    assert two.get_stats().near_hits == 0


def test_a_hit_asks_nobody(near, face, one_server):
    near(face, one_server.url).put_batch({f"k{n}": n for n in range(10)}, tags=["tag"])
    cache = begun(near, face, one_server.url)
    keys = [f"k{n}" for n in range(10)]
    for key in keys:
        settled(cache, key)
    one_server.reset_counts()
    hits = cache.get_stats().near_hits
    for _ in range(20):
        assert cache.get_batch(keys) == list(range(10))
        assert cache.get("k3") == 3
    assert cache.get_stats().near_hits == hits + 20 * 11
    counts = one_server.command_counts()
    assert set(counts) <= {"time"}, counts


def test_a_batch_of_misses_is_one_question(near, face, one_server):
    near(face, one_server.url).put_batch({f"k{n}": n for n in range(1000)})
    cache = begun(near, face, one_server.url)
    one_server.reset_counts()
    assert cache.get_batch([f"k{n}" for n in range(1000)]) == list(range(1000))
    counts = one_server.command_counts()
    counts.pop("time", None)
    assert sum(counts.values()) <= 4, counts


def test_the_store_is_written_once_for_a_batch(near, face, one_server):
    cache = begun(near, face, one_server.url)
    one_server.reset_counts()
    cache.put_batch({f"k{n}": n for n in range(100)})
    counts = one_server.command_counts()
    scripts = sum(calls for name, calls in counts.items() if name.startswith("eval"))
    assert scripts <= 200, counts  # a script per slot at most, twice


# -- the link --------------------------------------------------------------------------------------


def test_what_the_link_does_is_told(near, face, one_server):
    cache, heard = near(face, one_server.url), []
    assert cache.link == "closed"
    cache.subscribe(lambda name, subject, detail: heard.append(subject) if name == "link" else None)
    linked(cache)
    assert cache.link == "tracking"
    assert heard == ["tracking"]
    cache.close()
    assert cache.link == "closed"


def test_without_a_store_there_is_no_link(near, face):
    before = set(threading.enumerate())
    cache = near(face)
    cache.put("key", 1)
    assert cache.get("key") == 1
    assert cache.link == "none"
    assert not {
        thread.name for thread in set(threading.enumerate()) - before if "link" in thread.name
    }


@pytest.fixture
def poor_url(one_server):
    """A server that does not tell this user what changes: without the right to CLIENT."""
    with one_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-client"
        )
        yield one_server.url.replace("redis://", "redis://poor:secret@")
        client.execute_command("ACL", "DELUSER", "poor")


@pytest.fixture
def old_url(one_server):
    """A server that knows no RESP3, as some proxies."""
    with one_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "old", "on", ">secret", "~*", "&*", "+@all", "-hello", "-client"
        )
        yield one_server.url.replace("redis://", "redis://old:secret@")
        client.execute_command("ACL", "DELUSER", "old")


@pytest.mark.parametrize("server", ["poor_url", "old_url"])
def test_a_server_that_cannot_tell_bounds_copies_and_warns_once(
    near, face, one_server, request, caplog, server
):
    url = request.getfixturevalue(server)
    caplog.set_level(logging.WARNING, "nearcache")
    cache = near(face, url, options=Options(link_timeout=0.3))
    other = near(face, one_server.url)
    other.put("key", 1, tags=["tag"])
    assert cache.get("key") == 1
    until(lambda: cache.link == "cannot tell")
    for value, change in (
        (2, lambda: other.put("key", 2, tags=["tag"])),
        (None, lambda: other.invalidate_by_tag("tag")),
        (3, lambda: other.put("key", 3)),
        (None, lambda: other.clear()),
        (4, lambda: other.put("key", 4)),
        (None, lambda: other.invalidate("key")),
    ):
        cache.get("key")
        change()
        until(lambda value=value: cache.get("key") == value, 0.3 + 0.5)
    near(face, url).get("key")
    cache.put("own", 1)
    hits = cache.get_stats().near_hits
    until(lambda: cache.get("own") == 1 and cache.get_stats().near_hits > hits)  # still a cache
    warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    told = [text for text in warnings if "link_timeout" in text]
    assert 1 <= len(told) <= 2, warnings  # once per store object
    assert "secret" not in caplog.text
    assert len(warnings) == len(told), warnings


def test_a_link_is_one_connection_whatever_uses_it(near, one_server):
    store = RedisStore(one_server.url)
    caches = [near("sync", store, namespace=f"n{n}") for n in range(5)]
    linked(*caches)
    linked(*(cache.view("inner") for cache in caches))
    with one_server.client() as client:
        tracking = [one for one in client.client_list() if "t" in one["flags"]]
        assert len(tracking) == 1
    for cache in caches:
        cache.close()
    with one_server.client() as client:
        until(lambda: not [one for one in client.client_list() if "t" in one["flags"]])
    store.close()


def test_a_cache_that_comes_later_to_a_link_hears_its_own_namespace(near, one_server):
    store, writer = RedisStore(one_server.url), near("sync", one_server.url, namespace="late")
    first = near("sync", store, namespace="early")
    linked(first)
    writer.put("key", 1)
    late = near("sync", store, namespace="late")
    linked(late)
    settled(late, "key")
    writer.put("key", 2)
    until(lambda: late.get("key") == 2)
    first.close()
    assert late.link == "tracking"
    writer.put("key", 3)
    until(lambda: late.get("key") == 3)
    late.close()
    store.close()


# -- at once ---------------------------------------------------------------------------------------


def test_after_writers_stop_all_caches_hold_what_the_store_holds(near, shared):
    caches = [near("sync", shared) for _ in range(4)]
    linked(*caches)
    keys = [f"k{n}" for n in range(5)]

    def work(number):
        cache = caches[number % 4]
        for n in range(40):
            key = keys[(n + number) % 5]
            match (n + number) % 4:
                case 0:
                    cache.put(key, f"{number}-{n}", tags=["tag"])
                case 1:
                    cache.get(key)
                case 2:
                    cache.get_or_load(key, lambda n=n: f"loaded {number}-{n}")
                case _ if n % 8 == 3:
                    cache.invalidate(key)
                case _ if n % 20 == 7:
                    cache.invalidate_by_tag("tag")
                case _:
                    cache.get_batch(keys)

    assert in_threads(8, work) == [None] * 8
    truth = caches[0].get_batch(keys, MISSING, max_staleness=0)
    for cache in caches:
        until(lambda cache=cache: cache.get_batch(keys, MISSING) == truth)


def test_a_reader_never_sees_an_older_value_after_a_newer_one(near, shared):
    """One writer, one key: what each reader sees only rises."""
    writer, readers = near("sync", shared), [near("sync", shared) for _ in range(3)]
    linked(writer, *readers)
    done = threading.Event()

    def work(number):
        if number == 0:
            for n in range(30):  # the readers never pause: each switch takes 5 ms
                writer.put("key", n)
                assert writer.get("key") == n
            done.set()
            return
        seen = -1
        while not done.is_set():
            value = readers[number - 1].get("key", -1)
            assert value >= seen
            seen = value
        return

    assert in_threads(4, work) == [None] * 4
    for reader in readers:
        until(lambda reader=reader: reader.get("key") == 29)


def test_a_source_that_changes_with_an_invalidation_is_never_read_old_for_long(near, face, shared):
    one, two, source = near(face, shared), near(face, shared), Source()
    linked(one, two)
    for _ in range(8):
        assert two.get_or_load("key", source) is not None
        source.version += 1
        one.invalidate("key")
        assert one.get_or_load("key", source) == source.value("key")
        until(lambda: two.get_or_load("key", source) == source.value("key"))


def test_through_late_replies_nothing_old_stays(near, face, one_server):
    """The push overtakes the reply of the read: what the reply brings is not kept."""
    with FaultProxy.of(one_server.url) as proxy:
        writer, reader = near("sync", one_server.url), near(face, proxy.url)
        writer.put("key", 0)
        linked(writer, reader)
        proxy.delay(to_client=0.03, only="untracked")
        for n in range(1, 15):
            threads = [
                threading.Thread(target=reader.get, args=("key",)),
                threading.Thread(target=writer.put, args=("key", n)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert reader.get("key") in (n - 1, n)
            until(lambda n=n: reader.get("key") == n)


@pytest.mark.parametrize("garbage", [b"", b"x", b"y" * 16, b"z" * 100])
def test_garbage_in_an_epoch_costs_misses_and_no_errors(near, face, one_server, garbage):
    cache = near(face, one_server.url)
    cache.put("key", 1, tags=["tag"])
    with one_server.client() as client:
        for name in client.keys("nc1:*:e:*"):
            client.set(name, garbage)
        assert cache.get("key", max_staleness=0) is None
        cache.put("new", 2, tags=["tag"])
        assert cache.get_or_load("loaded", lambda: 3, tags=["tag"]) == 3
        for name in client.keys("nc1:*:e:*"):
            client.delete(name)
            client.lpush(name, "a list")
        assert cache.get_or_load("more", lambda: 4) == 4
        cache.put("more", 5)
        for name in client.keys("nc1:*:e:*"):
            client.delete(name)
    until(lambda: cache.put("key", 6) or cache.get("key", max_staleness=0) == 6)


# -- what is remembered of what is over ------------------------------------------------------------


def test_nothing_is_remembered_of_what_is_over(near, face, shared):
    cache = begun(near, face, shared)
    for n in range(50):
        cache.put(f"k{n}", n, tags=["tag"])
        cache.get_or_load(f"l{n}", lambda n=n: n)
        cache.invalidate(f"k{n}")
    cache.put_batch({f"m{n}": n for n in range(200)})
    tracked = cache._tiers.shelf.tracked
    until(lambda: not tracked.lookout.echoes)
    until(lambda: not tracked.lookout.waiting)
    assert not len(tracked.bells)
    until(lambda: not len(cache._tiers.engine.flights))


# -- clients of one's own --------------------------------------------------------------------------

CLIENTS = {
    "plain": {},
    "decoding": {"decode_responses": True},
    "RESP2": {"protocol": 2},
    "RESP3": {"protocol": 3},
    "another database": {"db": 3},
    "named": {"client_name": "mine"},
    "one at a time": {"max_connections": 2},
    "healthy": {"health_check_interval": 1},
}


@pytest.mark.parametrize("options", CLIENTS.values(), ids=CLIENTS)
def test_a_client_of_ones_own_serves_as_it_is(near, one_server, options):
    with one_server.client(**options) as client, one_server.client(**options) as other_client:
        store, other_store = RedisStore(client), RedisStore(other_client)
        one, two = near("sync", store), near("async", other_store)
        one.put("key", {"a": "ä"}, tags=["tag"])
        linked(one, two)
        settled(two, "key")
        one.put("key", "new", tags=["tag"])
        until(lambda: two.get("key") == "new")
        two.invalidate_by_tag("tag")
        until(lambda: one.get("key") is None)
        assert {one.link, two.link} == {"tracking"}
        one.close()
        two.close()
        assert client.ping()  # it is the user's, and stays open


@pytest.mark.parametrize("kind", ["password", "unix socket"])
def test_however_the_server_is_reached_it_tells(near, own_server, kind):
    server = own_server(password="secret") if kind == "password" else own_server()
    url = server.url if kind == "password" else server.unix_url
    one, two = near("sync", url), near("async", url)
    one.put("key", 1)
    linked(one, two)
    settled(two, "key")
    one.put("key", 2)
    until(lambda: two.get("key") == 2)
    assert "secret" not in repr(one.thing)
