"""What a cluster says of changed keys: one stream per primary, which says what its slots saw.

A slot that moves to a node which nobody listens to would change unheard. So with every ping each
node is asked for the cluster's configuration epoch: a failover, or a node that gets its first
slots, raises it, and the stream ends; who opens the next one listens to all who are primaries then.
"""

import os
import re
import selectors
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from nearcache.errors import StoreUnavailable
from nearcache.stores.base import PONG, Message
from nearcache.stores.redis_stream import AT_ONCE, RedisStream
from nearcache.stores.redis_topology import Address, slot_of

if TYPE_CHECKING:
    from nearcache.stores.redis_cluster import ClusterStore

__all__ = ["ClusterStream"]

_INFO = ("CLUSTER", "INFO")
_EPOCH = re.compile(rb"cluster_current_epoch:(\d+)")
_IS_UP = b"cluster_state:ok"


class ClusterStream:
    """The streams of all primaries as one. A PONG comes when all have answered."""

    def __init__(self, store: "ClusterStore") -> None:
        self._store = store
        self._streams: list[RedisStream] = []
        self._pongs: list[int] = []  # answered pings that were not told yet, of each stream
        self._due: set[int] = set()  # streams to read whatever their sockets say
        self._selector = selectors.DefaultSelector()
        self._epoch = 0
        self._ended = False
        self._lock = threading.Lock()

    def open(self, prefixes: Sequence[bytes], seconds: float) -> None:
        """Listen to every primary."""
        if self._ended:
            self._fail("says nothing on a stream that was closed")
        store = self._store
        topology = store.refresh()
        epochs = [self._epoch_at(address) for address in topology.primaries]
        self._epoch = max(epochs)
        topology = store.refresh()  # not older than the epoch: what is newer ends the stream
        for address in topology.primaries:
            canary = _canary_of(topology.owners, address)
            if canary is None:
                continue  # it has no slots; when it gets some, the epoch rises
            stream = RedisStream(store.node(address), canary, also=(_INFO, self._check))
            with self._lock:
                if self._ended:
                    self._fail("was closed while it opened")
                self._streams.append(stream)
                self._pongs.append(0)
            stream.open(prefixes, seconds)
            self._due.add(len(self._streams) - 1)  # it may have heard something already
            self._selector.register(stream, selectors.EVENT_READ, len(self._streams) - 1)

    def _epoch_at(self, address: Address) -> int:
        (text,) = self._store.node(address).ask([_INFO], writes=False)
        return self._epoch_in(text)

    def _epoch_in(self, info: bytes) -> int:
        found = _EPOCH.search(info)
        if found is None or _IS_UP not in info:
            self._fail("has a node that is not whole")
        return int(found[1])

    def _check(self, info: object) -> None:
        if isinstance(info, bytes) and self._epoch_in(info) > self._epoch:
            self._fail("has been configured anew")

    def _fail(self, what: str) -> NoReturn:
        msg = f"{self._store.address} {what}"
        raise StoreUnavailable(msg)

    # -- listening ---------------------------------------------------------------------------

    def watch(self, prefix: bytes) -> None:
        """Hear of one more prefix, everywhere."""
        for stream in self._opened():
            stream.watch(prefix)

    def ping(self) -> None:
        """Ask all for a PONG."""
        for stream in self._opened():
            stream.ping()

    def read(self, seconds: float) -> list[Message]:
        """Return what has come from any of them."""
        streams = self._opened()
        due, self._due = self._due, set()
        with suppress(OSError, ValueError):  # closed by another thread: reading says so
            ready = self._selector.select(0 if due else seconds)
            due |= {key.data for key, _ in ready}
        messages: list[Message] = []
        for position in due or range(len(streams)):
            news = streams[position].read(0)
            if len(news) >= AT_ONCE:
                self._due.add(position)  # more may be here already, of which no socket tells
            pongs = news.count(PONG)
            self._pongs[position] += pongs
            messages += [message for message in news if message is not PONG] if pongs else news
        # after the news of all that came before: a stream's PONG follows its own news
        all_answered = min(self._pongs)
        if all_answered:
            self._pongs = [count - all_answered for count in self._pongs]
            messages += [PONG] * all_answered
        return messages

    def _opened(self) -> list[RedisStream]:
        if self._ended or not self._streams:
            self._fail("says nothing on a stream that is not open")
        return self._streams

    # -- ending ------------------------------------------------------------------------------

    def close(self) -> None:
        """Hear no more; a read that waits ends."""
        with self._lock:
            self._ended = True
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._selector.close()


def _canary_of(
    owners: Sequence[Address | None], address: Address
) -> Callable[[bytes], bytes] | None:
    """Return what makes a name below a prefix that lies in a slot of this node."""
    if address not in owners:
        return None

    def canary(prefix: bytes) -> bytes:
        while True:
            name = prefix + b"canary:" + os.urandom(8).hex().encode()
            if owners[slot_of(name)] == address:
                return name

    return canary
