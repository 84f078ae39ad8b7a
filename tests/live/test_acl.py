"""The access list that docs/operations.md gives is enough for everything, and for nothing more.

A user with exactly those commands, on keys that begin with ``nc1:`` and no channels.
"""

from dataclasses import replace

import pytest

from acl import COMMANDS, ON_A_CLUSTER, denied, grant
from clusters import Cluster
from embedders import M, Model, same, until, vectors
from nearcache import (
    AccessTier,
    AgentCredentials,
    EmbeddingCache,
    NearCache,
    Options,
    ShortTermMemory,
    StoreError,
)
from nearcache.entry import Mark
from nearcache.keys import board_of
from nearcache.stores.base import HELD, TAKEN
from nearcache.stores.redis.store import RedisStore

STRICT = Options(on_store_error="raise", store_timeout=30.0)
HEARS = replace(STRICT, link_timeout=0.0)  # looks into the log with every call
SLIDES = replace(STRICT, sliding=True)
TEXTS = [f"t{n}" for n in range(50)]

BOARD = board_of("acl")
KEY, GROUP, MARK = b"nc1:{acl:00}:k:sx.", b"nc1:{acl}:e:x", Mark(3, 4, b"current.")

# INFO, which the count leaves out; and PING, which redis-py sends where a pool checks its
# connections, as with Sentinel.
UNCOUNTED = {"info", "ping"}

both_makes = pytest.mark.parametrize("kind", ["valkey-9.1", "redis-7.0"])


def use_everything(url, touched=lambda: True):
    with EmbeddingCache(url, options=STRICT) as cache, EmbeddingCache(url, options=HEARS) as other:
        model = Model()
        assert same(cache.wrap(model, M)(TEXTS), vectors(TEXTS))
        assert other.get_batch(TEXTS, M)[1].all()
        cache.put("a", vectors(["a"])[0], M, ttl=60)
        cache.invalidate("t1", M)
        cache.invalidate_by_model(M)
        assert other.get("t2", M) is None or not same(other.get("t2", M), vectors(["t3"])[0])
        cache.clear()
    with (
        NearCache(url, namespace="acl", options=STRICT) as cache,
        NearCache(url, namespace="acl", options=STRICT) as other,
        NearCache(url, namespace="sliding", ttl=1.0, options=SLIDES) as slides,
    ):
        assert cache.get("a") is None
        until(lambda: cache.link == "tracking")
        cache.put("a", 1, tags=["t"])
        assert other.get("a") == 1
        cache.update("a", lambda n: n + 1)
        until(lambda: other.get("a") == 2)
        assert cache.get_or_load_batch(["b", "c"], lambda keys: {key: key for key in keys})
        cache.invalidate("b")
        cache.invalidate_by_tag("t")
        until(lambda: other.get("a") is None)
        slides.put("a", 1)
        until(lambda: slides.get("a") == 1 and touched())
        cache.clear()
    with ShortTermMemory(url, options=STRICT) as memory:
        agent = AgentCredentials("agent", AccessTier.CONTRIBUTOR)
        memory.stash("plan", [1], agent)
        memory.stash_batch({"a": 1, "b": 2}, agent)
        assert memory.retrieve("plan", agent) == [1]
        assert len(memory.scan_keys(agent).items) == 3
        memory.clear_working_memory(agent)


def use_rare_commands(url):
    store = RedisStore(url, timeout=30.0)
    assert store.lease([KEY], b"token", 60.0, MARK) == [TAKEN]
    assert store.lease([KEY], b"other", 60.0, MARK) == [HELD]
    store.renew([KEY], b"token", 60.0)
    store.release([KEY], b"token")
    store.epochs([GROUP], 1.0)
    store.epochs([GROUP], None)
    assert not store.may_evict()
    store.report(BOARD, b"me", b"well", 60.0)
    assert store.reports(BOARD) == {b"me": b"well"}
    store.report(BOARD, b"me", b"", 0.0)
    store.close()


@both_makes
def test_everything_works_for_the_documented_user_and_it_needs_every_command(own_server, kind):
    server = own_server(kind)
    url = grant(server).replace("/0", "/1")  # another database, which takes a SELECT
    server.reset_counts()
    use_everything(url, touched=lambda: "pexpire" in server.command_counts())
    use_rare_commands(url)
    used = {*server.command_counts(), *UNCOUNTED}
    assert denied(server) == set()
    assert set(COMMANDS) <= used


def test_everything_works_for_it_on_a_cluster():
    with Cluster(replicas=0) as cluster:
        (login,) = {grant(node, *ON_A_CLUSTER).partition("@")[0] for node in cluster.nodes}
        use_everything(
            cluster.url.replace("redis+cluster://", login.replace("redis:", "redis+cluster:") + "@")
        )
        assert [denied(node) for node in cluster.nodes] == [set()] * 3


@both_makes
def test_the_user_can_do_nothing_else(own_server, kind):
    server = own_server(kind)
    store = RedisStore(grant(server), timeout=30.0)
    with pytest.raises(StoreError):
        store.fetch([b"another program's key"], [])
    with pytest.raises(StoreError):
        store.write([b"another program's key"], [b"x"], None, b"nc1:{a}:log", [b"e"])
    for words in (("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("PUBLISH", "a", "b")):
        with pytest.raises(StoreError):
            store._ask([words])
    assert {"flushall", "keys", "config|get", "publish"} <= denied(server)
    store.close()
