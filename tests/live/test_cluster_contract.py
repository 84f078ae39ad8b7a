"""The store contract on a real cluster of three primaries."""

import inspect

import pytest

from clusters import Cluster, slot_of
from nearcache.errors import ConfigError
from nearcache.stores.base import TAKEN, WRITTEN, lease_of
from nearcache.stores.redis.cluster import ClusterStore
from nearcache.testing.contracts.stores import GROUPS, LOG, LONG, MARK, NEW, OLD, StoreContract
from nearcache.testing.contracts.stores_mutable import ABSENT, ONE
from nearcache.testing.contracts.stores_scan import START, keep, name, scan
from nearcache.testing.contracts.streams import GROUP, KEY, KEY_2, commit, names


@pytest.fixture(scope="module")
def cluster():
    with Cluster(replicas=0) as made:
        yield made


def tagged(key: bytes) -> bytes:
    """A name of the contract's as names are in a cluster: a value's and its lease's have one tag,
    those of groups and their log another. What has a tag keeps it."""
    if slot_of(key) == slot_of(lease_of(key)):
        return key
    return b"{of}" + key if key == LOG or key.startswith((b"group", b"raced")) else b"{-%b}" % key


class Tagged:
    """A store whose callers name keys without tags."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        attribute = getattr(self._store, name)
        return self._with_tags(attribute) if callable(attribute) else attribute

    def _with_tags(self, method):
        def call(*args, **options):
            given = inspect.signature(method).bind(*args, **options)
            for part, value in given.arguments.items():
                if part in ("keys", "groups"):
                    given.arguments[part] = [tagged(key) for key in value]
                elif part in ("log", "group"):
                    given.arguments[part] = tagged(value)
            return method(*given.args, **given.kwargs)

        return call


class TestClusterStore(StoreContract):
    @pytest.fixture
    def handles(self, cluster):
        for node in cluster.nodes:
            node.flush()
        made = []

        def handle():
            made.append(ClusterStore(cluster.url, timeout=30.0))
            return Tagged(made[-1])

        yield handle
        for store in made:
            store.close()

    @pytest.fixture(autouse=True)
    def _flush(self, cluster):
        self.flush = lambda _: lambda: [node.flush() for node in cluster.nodes]

    def test_a_scan_of_nothing_ends_at_once(self, store, cluster):
        """After a page of each node."""
        cursor, steps = store.scan(START, 0, 10)[0], 1
        while cursor:
            cursor, found = store.scan(START, cursor, 10)
            assert found == []
            steps += 1
        assert steps == len(cluster.nodes)

    def test_what_another_changes_is_heard_in_order(self, store, handles, listen):
        """What lies on several nodes is told in any order; the answer to a ping follows it all."""
        stream, other = listen(store), handles()
        commit(other, KEY, ONE)
        other.bump(GROUP, ABSENT, LOG)
        commit(other, KEY_2, ONE)
        other.revoke([KEY], LOG)
        assert sorted(names(stream, KEY, KEY_2, GROUP)) == sorted([KEY, GROUP, KEY_2, KEY])
        assert names(stream, KEY, KEY_2, GROUP) == []

    def test_one_more_prefix_is_heard_from_the_next_pong_on(self, store, listen):
        stream, key = listen(store), b"nc1:{more:00}:k:a"
        commit(store, key, ONE)
        assert names(stream, key) == []
        stream.watch(b"nc1:{more:")
        stream.watch(b"nc1:{more:")  # again is nothing new
        assert names(stream, key) == []
        store.revoke([key], LOG)
        commit(store, KEY, ONE)
        assert sorted(names(stream, key, KEY)) == sorted([key, KEY])

    def test_keys_lie_on_every_node(self, store, cluster):
        keys = [name(b"x", bucket=b"%02x" % n) for n in range(64)]
        keep(store, keys)
        shares = [int(node.ask("DBSIZE")) for node in cluster.nodes]
        assert sum(shares) >= 64
        assert min(shares) >= 8
        assert store.look(keys, []).values.count(None) == 0
        assert sorted(scan(store)) == sorted(keys)
        assert START[0] == b"nc1:{a:"

    def test_a_batch_is_one_request_to_each_node(self, store, cluster):
        keys = [name(b"x", bucket=b"%02x" % n) for n in range(64)]
        store.look(keys, GROUPS)
        for node in cluster.nodes:
            node.reset_counts()
        store.look(keys, GROUPS)
        counts = [node.command_counts() for node in cluster.nodes]
        assert all(set(each) <= {"mget", "time"} for each in counts)

    def test_what_is_on_several_nodes_is_written_and_forgotten_as_one(self, store):
        keys = [name(b"x", bucket=b"%02x" % n) for n in range(64)]
        assert store.lease(keys, b"token", LONG, MARK) == [TAKEN] * 64
        assert store.fill(keys, [OLD] * 64, b"token", MARK, None) == [WRITTEN] * 64
        assert store.fetch(keys, GROUPS).values == [OLD] * 64
        cursor = store.changes(LOG, b"").cursor
        store.write(keys, [NEW] * 64, None, LOG, [b"%d" % n for n in range(64)])
        assert store.forget(keys, LOG, [b"forgotten"]) == 64
        assert store.fetch(keys, GROUPS).values == [None] * 64
        entries = store.changes(LOG, cursor).entries
        assert sorted(entries[:-1]) == sorted(b"%d" % n for n in range(64))
        assert entries[-1] == b"forgotten"


@pytest.mark.parametrize(
    "url", ["redis+cluster://", "redis+cluster://h:p", "redis+cluster://h:1/1"]
)
def test_a_url_that_names_no_cluster_is_refused(url):
    with pytest.raises(ConfigError):
        ClusterStore(url)
