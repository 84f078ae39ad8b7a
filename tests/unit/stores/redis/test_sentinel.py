"""A store behind Sentinels: who is primary now is asked of them, for every new connection."""

import os
import pickle
import threading

import pytest
import redis.sentinel

from clusters import SentinelGroup, heard
from embedders import until
from nearcache.errors import ConfigError, StoreUnavailable
from nearcache.stores.redis.store import RedisStore
from nearcache.testing import stored_entry
from nearcache.testing.contracts.stores import LOG

KEY = b"nc1:{ns:00}:k:key."
VALUE = stored_entry(KEY)


@pytest.fixture(scope="module")
def group():
    with SentinelGroup() as group:
        yield group


@pytest.fixture
def store(group):
    store = RedisStore(group.url, timeout=1.0)
    until(lambda: works(store))
    yield store
    store.close()


def works(store):
    try:
        store.write([KEY], [VALUE], None, LOG, [b"e"])
        return store.fetch([KEY], []).values == [VALUE]
    except StoreUnavailable:
        return False


def test_the_primary_is_found_and_written(store, group):
    with group.primary.client() as client:
        assert client.get(KEY) == VALUE


def test_another_database_is_another_store(group, store):
    other = RedisStore(group.url + "/1", timeout=1.0)
    assert other.fetch([KEY], []).values == [None]
    other.close()


def test_when_the_primary_dies_the_next_one_is_written(store, group):
    old = group.kill_primary()
    group.until_replaced(old)
    until(lambda: works(store))
    group.rejoin(old)
    group.until_sound()


def test_a_stream_ends_when_sentinels_name_another_primary_though_the_old_one_answers(store):
    """It stood still, was replaced, and goes on: until somebody tells it, it believes itself."""
    stream = store.stream()
    stream.open([b"nc1:{ns"], 5.0)
    heard(stream)
    pool = store._node.pool
    named = pool.get_master_address()

    def another():
        pool.proxy.master_address = ("127.0.0.1", 1)

    pool.get_master_address = another
    try:
        with pytest.raises(StoreUnavailable, match="another primary"):
            until(lambda: not heard(stream) and False)
    finally:
        del pool.get_master_address
        pool.proxy.master_address = named


def test_a_sentinel_that_is_dead_is_passed_over(group):
    dead = "127.0.0.1:1," + group.url.partition("://")[2]
    store = RedisStore("redis+sentinel://" + dead, timeout=1.0)
    until(lambda: works(store))
    store.close()


def test_a_sentinel_that_hangs_holds_up_one_call_and_is_asked_last_from_then_on(group):
    first, *others = group.sentinels
    store = RedisStore(group.url, timeout=1.0)
    pool = store._node.pool
    first.pause()
    try:
        with pytest.raises(StoreUnavailable):
            store.fetch([KEY], [])
        ports = [
            s.connection_pool.connection_kwargs["port"] for s in pool.sentinel_manager.sentinels
        ]
        assert sorted(ports[:-1]) == sorted(other.port for other in others)
        assert ports[-1] == first.port
        store.fetch([KEY], [])
    finally:
        first.resume()
        store.close()


def test_a_client_that_asks_sentinels_lends_their_addresses(group):
    hosts = [("127.0.0.1", each.port) for each in group.sentinels]
    with redis.sentinel.Sentinel(hosts).master_for(group.service) as client:
        store = RedisStore(client, timeout=1.0)
        until(lambda: works(store))
        assert store._node.pool is not client.connection_pool
        for each in group.sentinels:
            each.pause()
        try:  # none is resumed before the call ends
            store._node.pool.disconnect()
            store._node._keeper.distrust()
            with pytest.raises(StoreUnavailable):
                store.fetch([KEY], [])
        finally:
            for each in group.sentinels:
                each.resume()
        store.close()


def test_threads_that_ask_at_once_lose_no_sentinel(group):
    dead = "redis+sentinel://127.0.0.1:1," + group.url.partition("://")[2]
    store = RedisStore(dead, timeout=1.0)
    manager = store._node.pool.sentinel_manager
    known = sorted(map(id, manager.sentinels))
    for _ in range(5):
        threads = [threading.Thread(target=store._node.pool.get_master_address) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(id, manager.sentinels)) == known
    store.close()


def test_without_any_sentinel_or_without_the_service_it_is_unavailable(group):
    for url in ("redis+sentinel://127.0.0.1:1/main", group.url.replace("/main", "/other")):
        store = RedisStore(url, timeout=0.5)
        with pytest.raises(StoreUnavailable):
            store.fetch([KEY], [])
        store.close()


def test_it_is_pickled_by_its_url(store):
    copy = pickle.loads(pickle.dumps(store))
    assert copy.fetch([KEY], []).values == [VALUE]
    copy.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_goes_on_with_the_store(store):
    store.fork_lock.acquire()
    child = os.fork()
    if not child:
        store.fork_lock.release()
        store.reset_after_fork()
        os._exit(0 if store.fetch([KEY], []).values == [VALUE] else 1)
    store.fork_lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert store.fetch([KEY], []).values == [VALUE]


# the last one that uses the group: Sentinels take ten seconds until all follow again
def test_when_a_replica_takes_over_the_stream_ends_and_the_next_hears_the_new_primary(store, group):
    stream = store.stream()
    stream.open([b"nc1:{ns"], 5.0)
    store.write([KEY], [stored_entry(KEY + b"1")], None, LOG, [b"e"])
    assert KEY in heard(stream)
    new = group.failover()
    with pytest.raises(StoreUnavailable):
        while True:
            heard(stream)
    again = None

    def opened():
        nonlocal again
        again = store.stream()
        try:
            again.open([b"nc1:{ns"], 5.0)
        except StoreUnavailable:
            return False
        return True

    until(opened)
    until(lambda: works(store))
    store.write([KEY], [stored_entry(KEY + b"2")], None, LOG, [b"e"])
    assert KEY in heard(again)
    again.close()
    with new.client() as client:
        assert client.get(KEY) == stored_entry(KEY + b"2")


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/",
        "redis+sentinel:///main",
        "redis+sentinel://a:1,/main",
        "redis+sentinel://a:1/main/first",
        "redis+sentinel://a:port/main",
        "redis+sentinel://a:1/main?nonsense=1",
    ],
)
def test_a_url_that_is_none_is_refused_before_any_effect(url):
    with pytest.raises(ConfigError):
        RedisStore(url)


def test_no_secret_is_shown():
    store = RedisStore("redis+sentinel://me:s3cret@a:1,b/main?sentinel_password=s3cret")
    assert "s3cret" not in repr(store)
    with pytest.raises(ConfigError) as caught:
        RedisStore("redis+sentinel://me:s3cret@a:1/main?nonsense=1")
    assert "s3cret" not in str(caught.value)
