"""What a cluster says of changed keys: one stream per primary, which says what its slots saw.

What changes on a node which nobody listens to would be unheard. So every primary is listened to,
with slots or without, and with every ping each is asked for the cluster's configuration epoch,
which a failover raises, for how many nodes it knows, and how many of them have slots. When one of
these is another the stream ends; who opens the next one listens to all who are primaries then.
"""

import os
import re
import selectors
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from nearcache.errors import StoreError, StoreUnavailable
from nearcache.stores.base import PONG, Message
from nearcache.stores.redis.stream import AT_ONCE, RedisStream
from nearcache.stores.redis.topology import Address, slot_of

if TYPE_CHECKING:
    from nearcache.stores.redis.cluster import ClusterStore

__all__ = ["ClusterStream"]

_INFO = ("CLUSTER", "INFO")
_EPOCH = re.compile(rb"cluster_current_epoch:(\d+)")
_NODES = re.compile(rb"cluster_known_nodes:(\d+)")
_SIZE = re.compile(rb"cluster_size:(\d+)")
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
        self._wake: tuple[socket.socket, ...] = ()
        self._unwake: Callable[[], object] = lambda: None
        self._ended = False
        self._lock = threading.Lock()
        self._selecting = threading.RLock()
        self._pid = os.getpid()

    def open(self, prefixes: Sequence[bytes], seconds: float) -> None:
        """Listen to every primary."""
        with self._lock:
            if self._ended:
                self._fail("says nothing on a stream that was closed")
            if not self._wake:
                self._wake = socket.socketpair()
                self._unwake = weakref.finalize(self, _close, self._wake)
                self._selector.register(self._wake[0], selectors.EVENT_READ)
        store = self._store
        topology = store.refresh()
        owners = sorted({address for address in topology.owners if address is not None})
        before = {address: self._view_of(address) for address in owners}
        self._epoch, first = min(view[0] for view in before.values()), owners[0]
        topology = store.refresh()  # not older than the epoch: what is newer ends the stream
        for address in topology.primaries:
            # one without slots, too: keys of a slot that is moving there change there before it
            # owns the slot
            canary = _canary_of(topology.owners, address)
            view = before[first]
            # who is still being set up takes itself for down: only owners are asked
            check = None if canary is None else (_INFO, partial(self._check, view[1:]))
            stream = RedisStream(store.node(address), canary, also=check)
            with self._lock:
                if self._ended:
                    self._fail("was closed while it opened")
                self._streams.append(stream)
                self._pongs.append(0)
            try:
                stream.open(prefixes, seconds)
            except StoreError:
                if canary is not None:
                    raise
                with self._lock:  # it is still being set up; it gets no slots unnoticed
                    self._streams.pop()
                    self._pongs.pop()
                continue
            self._due.add(len(self._streams) - 1)  # it may have heard something already
            self._selector.register(stream, selectors.EVENT_READ, len(self._streams) - 1)

    def _view_of(self, address: Address) -> tuple[int, int, int]:
        (text,) = self._store.node(address).ask([_INFO], writes=False)
        return self._view_in(text)

    def _view_in(self, info: object) -> tuple[int, int, int]:
        """Return the epoch, how many nodes a node knows, and how many of these have slots."""
        text = info if isinstance(info, bytes) else b""
        epoch, nodes, size = (found.search(text) for found in (_EPOCH, _NODES, _SIZE))
        if epoch is None or nodes is None or size is None or _IS_UP not in text:
            self._fail("has a node that is not whole")
        return int(epoch[1]), int(nodes[1]), int(size[1])

    def _check(self, before: tuple[int, int], info: object) -> None:
        epoch, *now = self._view_in(info)
        if epoch > self._epoch or tuple(now) != before:
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
        with self._selecting, suppress(OSError, ValueError, KeyError):  # closed: reading says so
            ready = self._selector.select(0 if due else seconds)
            due |= {key.data for key, _ in ready if key.data is not None}
        self._opened()
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
        self._ended = True
        # a forked child takes no lock: a thread of the parent may have held it
        with self._lock if self._pid == os.getpid() else nullcontext():
            streams = list(self._streams)
        if self._pid != os.getpid():
            self._let_go(streams)
            return
        # who waits is woken, and gone, before what he waits for is closed: a socket that is closed
        # leaves the selector, and who is woken by its last word would find nothing, and wait on
        with suppress(OSError):
            for end in self._wake[1:]:
                end.send(b"\0")
        with self._selecting:
            self._let_go(streams)

    def _let_go(self, streams: Sequence[RedisStream]) -> None:
        for stream in streams:
            stream.close()
        self._selector.close()
        self._unwake()


def _close(ends: Sequence[socket.socket]) -> None:
    for end in ends:
        end.close()


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
