"""Who serves what in a cluster, as one of its nodes sees it.

Source: the Redis Cluster specification (slots, hash tags, CLUSTER NODES).
"""

from binascii import crc32, crc_hqx
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nearcache.stores.redis.replies import garbled

__all__ = ["Address", "Topology", "slot_of", "topology_of"]

Address = tuple[str, int]

_SLOTS = 16384


def slot_of(name: bytes) -> int:
    """Return the slot of a key: of what stands between its first braces, if something does."""
    start = name.find(b"{") + 1
    end = name.find(b"}", start)
    return _slot(name[start:end] if 0 < start < end else name)


@lru_cache(4096)  # a namespace has 65 tags
def _slot(tag: bytes) -> int:
    return crc_hqx(tag, 0) % _SLOTS


@dataclass(frozen=True, slots=True)
class Topology:
    """Which primary owns which slot.

    epoch: the newest configuration that the node which was asked has heard of.
    moving: whether that node is giving slots away or taking them.
    """

    owners: Sequence[Address | None]
    primaries: tuple[Address, ...]
    epoch: int
    moving: bool

    @property
    def fingerprint(self) -> int:
        """A number that is another when slots have other owners."""
        return crc32(repr((self.owners, self.primaries)).encode())

    @property
    def is_whole(self) -> bool:
        """Whether every slot has an owner."""
        return None not in self.owners


def topology_of(text: bytes, asked: Address, *, by_name: bool) -> Topology:
    """Read the reply to CLUSTER NODES.

    asked: the node that replied; a node that does not know its own address is that one.
    by_name: whether nodes that announce a name are connected to by it, as certificates want.
    Raises: StoreUnavailable for what is no such reply.
    """
    try:
        return _read(text, asked, by_name=by_name)
    except ValueError:
        raise garbled("the nodes of a cluster") from None


def _read(text: bytes, asked: Address, *, by_name: bool) -> Topology:
    owners: list[Address | None] = [None] * _SLOTS
    primaries: list[Address] = []
    epochs: dict[str, int] = defaultdict(int)
    moving = False
    for line in text.decode("utf-8", "replace").splitlines():
        fields = line.split()
        if len(fields) < 8:
            continue
        where, flags, epoch, ranges = fields[1], fields[2].split(","), fields[6], fields[8:]
        epochs[fields[0]] = int(epoch) if epoch.isdecimal() else 0
        if "master" not in flags or {"handshake", "noaddr"} & set(flags):
            continue
        address = _address(where, asked, by_name=by_name)
        if "fail" not in flags or any(not one.startswith("[") for one in ranges):
            primaries.append(address)
        for one in ranges:
            if one.startswith("["):
                moving = True
            else:
                first, _, last = one.partition("-")
                slots = range(int(first), int(last or first) + 1)
                if slots.start < 0 or slots.stop > _SLOTS:
                    raise ValueError("no such slots")
                owners[slots.start : slots.stop] = [address] * len(slots)
    return Topology(
        tuple(owners), tuple(sorted(primaries)), max(epochs.values(), default=0), moving
    )


def _address(where: str, asked: Address, *, by_name: bool) -> Address:
    place, *announced = where.split(",")
    host, _, port = place.partition("@")[0].rpartition(":")
    name = announced[0] if announced else ""
    if name and (by_name or not host):
        host = name
    return (host.strip("[]") or asked[0], int(port))
