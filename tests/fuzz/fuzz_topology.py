"""What a cluster's node says of it: a topology of 16,384 slots, or StoreUnavailable."""

from fuzz.harness import Choices
from nearcache.errors import StoreUnavailable
from nearcache.stores.redis.topology import slot_of, topology_of

__all__ = ["SEEDS", "one"]

_ID = b"07c37dfeb235213a872192d90877d0cd55635b91"
_WELL = (
    _ID + b" 127.0.0.1:30001@31001,one.example myself,master - 0 0 1 connected 0-5460 [5461->-x]\n"
    b"a 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922 10924\n"
    b"b :0@0 slave,fail " + _ID + b" 0 0 3 connected\n"
    b"c [::1]:30003 master,noaddr - 0 0 x connected 10923\n"
)

SEEDS = [
    b"\x00" + _WELL,
    b"\x01" + _WELL,
    b"\x00" + _WELL.replace(b"30001", b"port"),
    b"\x00" + _WELL.replace(b"5460", b"99999999999"),
    b"\x00" + _WELL.replace(b"0-5460", b"-5-3"),
    b"\x00" + _WELL.replace(b" 1 ", b" " + b"9" * 5000 + b" "),
    b"\x00",
]


def one(data: bytes) -> None:
    choices = Choices(data)
    by_name, text = choices.flag(), choices.rest()
    assert 0 <= slot_of(text) < 16384
    try:
        found = topology_of(text, ("asked", 1), by_name=by_name)
    except StoreUnavailable:
        return
    assert len(found.owners) == 16384
    assert found.is_whole == (None not in found.owners)
    assert set(found.owners) - {None} <= set(found.primaries)
    assert all(type(host) is str and type(port) is int for host, port in found.primaries)
    assert found.epoch >= 0
