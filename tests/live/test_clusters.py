"""The suite's own clusters do what tests rely on; tests/chaos kills them, and Sentinel groups."""

import threading

import pytest
import redis

from clusters import SLOTS, Cluster, slot_of
from embedders import until


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        yield made


def keys_in(cluster, slot):
    return int(cluster.owner_of(slot).ask("CLUSTER", "COUNTKEYSINSLOT", slot))


def put(cluster, key, value):
    cluster.owner_of(slot_of(key)).ask("SET", key, value)


def test_three_primaries_share_the_slots_and_each_has_a_replica(cluster):
    shares = [len(cluster.slots_of(node)) for node in cluster.primaries]
    assert sum(shares) == SLOTS
    assert max(shares) - min(shares) <= 1
    assert [len(cluster.replicas_of(node)) for node in cluster.primaries] == [1, 1, 1]
    assert cluster.url.count(",") == 2


def test_a_failover_that_was_asked_for_loses_nothing(cluster):
    put(cluster, b"kept", "value")
    slot = slot_of(b"kept")
    old = cluster.owner_of(slot)
    new = cluster.failover(cluster.primaries.index(old))
    cluster.until_sound()
    assert cluster.owner_of(slot) is new
    assert new.ask("GET", "kept") == "value"
    assert old.facts("replication")["role"] == "slave"
    assert {each.ask("CONFIG", "GET", "cluster-node-timeout")[1] for each in cluster.nodes} == {
        "10000"  # a busy machine is no reason for another
    }


def test_slots_move_with_their_keys(cluster):
    tag, other = b"{moved}", b"{moved}2"
    slot = slot_of(tag)
    for key in (tag, other):
        put(cluster, key, "value")
    source = cluster.owner_of(slot)
    target = next(node for node in cluster.primaries if node is not source)
    with cluster.half_moved(slot, target):
        answers = []
        for key in (tag, other):
            try:
                answers.append(source.ask("GET", key))
            except redis.exceptions.AskError:
                answers.append("ASK")
        assert sorted(answers) == ["ASK", "value"]
        assert not cluster.is_sound
    cluster.until_sound()
    assert cluster.owner_of(slot) is target
    assert keys_in(cluster, slot) == 2
    seen = []
    cluster.move_slots([slot], source, seen.append)
    assert seen == [slot]
    cluster.until_sound()
    assert cluster.owner_of(slot) is source
    assert keys_in(cluster, slot) == 2


def test_a_move_ends_though_a_replica_stood_still_in_the_middle_of_it(cluster):
    """Its primary refuses what it does not confirm in time; the slot would be on its way for ever,
    and every later test of the same cluster would hear that it is."""
    source, target, _ = cluster.primaries
    (replica,) = cluster.replicas_of(target)
    slot = cluster.slots_of(source)[7]

    def resume():
        try:
            until(lambda: "errorstat_NOREPLICAS" in target.ask("INFO", "errorstats"))
        finally:
            replica.resume()

    resuming = threading.Thread(target=resume)
    with cluster.half_moved(slot, target):
        target.reset_counts()
        replica.pause()
        resuming.start()
    resuming.join()
    assert cluster.owner_of(slot) is target
    assert all("[" not in node.ask("CLUSTER", "NODES") for node in cluster.nodes)
    assert cluster.is_sound


def test_the_oldest_kind_forms_one_too():
    with Cluster("redis-6.2", replicas=0) as cluster:
        assert cluster.is_sound
        assert len(cluster.primaries) == 3
    assert cluster.alive == []
