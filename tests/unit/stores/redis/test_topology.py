"""Slots, and what CLUSTER NODES says."""

import pytest
from redis.crc import key_slot

from nearcache.keys import KeySpace, ValueKeys
from nearcache.stores.redis.topology import slot_of, topology_of

ASKED = ("10.0.0.9", 7009)
NODES = b"""\
aa 10.0.0.1:7001@17001,one.example myself,master - 0 0 3 connected 0-5460
bb 10.0.0.2:7002@17002,two.example master - 0 1700000000000 5 connected 5461-10922 16383
cc 10.0.0.3:7003@17003 slave aa 0 1700000000000 3 connected
dd [2001:db8::4]:7004@17004 master - 0 1700000000000 4 connected 10923-16382
ee 10.0.0.5:7005@17005 master - 0 1700000000000 0 connected
ff 10.0.0.6:7006@17006 master,fail - 1700000000000 1700000000000 2 disconnected
"""


@pytest.mark.parametrize(
    "name",
    [b"", b"a", b"{", b"}", b"{}a", b"a{b}c", b"a{b}{c}", b"{{a}}", b"}{a}", b"{a", b"\xff{\x00}"],
)
def test_a_slot_is_that_of_what_stands_in_the_first_braces(name):
    assert slot_of(name) == key_slot(name)


def test_a_value_its_lease_and_its_bucket_share_a_slot():
    keys = ValueKeys(KeySpace("name space"))
    names = [keys.name(str(number)) for number in range(300)]
    assert all(slot_of(name) == slot_of(name + b":lease") == key_slot(name) for name in names)
    assert len({slot_of(name) for name in names}) > 32
    space = KeySpace("name space")
    assert slot_of(space.log) == slot_of(space.everything)


def test_every_slot_has_the_owner_that_nodes_says():
    topology = topology_of(NODES, ASKED, by_name=False)
    assert topology.is_whole
    assert not topology.moving
    assert topology.epoch == 5
    owners = [topology.owners[slot] for slot in (0, 5460, 5461, 10922, 10923, 16382, 16383)]
    one, two, four = ("10.0.0.1", 7001), ("10.0.0.2", 7002), ("2001:db8::4", 7004)
    assert owners == [one, one, two, two, four, four, two]


def test_primaries_are_all_that_live_with_or_without_slots():
    topology = topology_of(NODES, ASKED, by_name=False)
    assert set(topology.primaries) == {
        ("10.0.0.1", 7001),
        ("10.0.0.2", 7002),
        ("2001:db8::4", 7004),
        ("10.0.0.5", 7005),
    }


def test_with_certificates_nodes_are_reached_by_the_names_they_announce():
    topology = topology_of(NODES, ASKED, by_name=True)
    assert topology.owners[0] == ("one.example", 7001)
    assert topology.owners[10923] == ("2001:db8::4", 7004)


def test_a_node_that_does_not_know_its_address_is_the_one_that_was_asked():
    topology = topology_of(
        b"aa :7001@17001 myself,master - 0 0 1 connected 0-16383", ASKED, by_name=False
    )
    assert topology.owners[7] == ("10.0.0.9", 7001)


def test_slots_on_their_way_are_seen_and_are_still_their_owners():
    text = b"aa 10.0.0.1:7001@1 myself,master - 0 0 1 connected 0-16383 [7->-bb] [9-<-cc]"
    topology = topology_of(text, ASKED, by_name=False)
    assert topology.moving
    assert topology.is_whole


def test_a_slot_without_an_owner_is_no_whole_cluster():
    text = b"aa 10.0.0.1:7001@1 myself,master - 0 0 1 connected 0-16382"
    assert not topology_of(text, ASKED, by_name=False).is_whole


def test_the_fingerprint_changes_with_the_owners_alone():
    before = topology_of(NODES, ASKED, by_name=False)
    later = topology_of(NODES.replace(b"1700000000000", b"1700000009999"), ASKED, by_name=False)
    moved = topology_of(
        NODES.replace(b"0-5460", b"0-5459").replace(b"16383", b"16383 5460"), ASKED, by_name=False
    )
    assert before.fingerprint == later.fingerprint != moved.fingerprint


@pytest.mark.parametrize("text", [b"", b"\n", b"garbage", b"a b c d e f g h", b"\xff\xfe"])
def test_garbage_is_no_whole_cluster(text):
    assert not topology_of(text, ASKED, by_name=False).is_whole
