"""The store of a Redis or Valkey Cluster: what a RedisStore asks, asked of every node at once.

One command names keys of one slot alone, so a call is parted by slot; its commands go to the
primaries that own the slots, to all of them before the first reply is read. A slot that has moved,
or is moving, answers with a redirection, which is followed for as long as an answer may take.

The parts of a call are executed each for itself. No call needs more: what belongs together, a value
and its lease, the epochs of a namespace and its log, lies in one slot. What has to come one after
the other is asked in two requests: a log tells of what has been done.

The nodes' clocks should agree, as NTP keeps them: lives are reckoned by the clock of one of them. A
put's deadline is reckoned by the clock of the node that executes it.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal

import redis
from redis.exceptions import AskError, MovedError, NoScriptError, TryAgainError

from nearcache.errors import StoreError, StoreUnavailable
from nearcache.stores.base import TOKEN_BYTES, Fetched, Size, Start, Stream, Ttl, lives
from nearcache.stores.redis.clock import ServerClock
from nearcache.stores.redis.cluster_stream import ClusterStream
from nearcache.stores.redis.locks import Together
from nearcache.stores.redis.node import Node, Redirected, Sent
from nearcache.stores.redis.replies import text, whole
from nearcache.stores.redis.store import RedisStore
from nearcache.stores.redis.topology import Address, Topology, slot_of, topology_of
from nearcache.stores.redis.url import ManyHosts, pool_of
from nearcache.stores.redis.wire import (
    Command,
    Part,
    forget_commands,
    forget_group_commands,
    lives_of,
    logged,
    may_evict,
    name_by_name,
    number,
    picked,
    scan_command,
    scanned,
    script,
    size_commands,
    size_of,
    slots,
    with_text,
)

__all__ = ["ClusterStore"]

_NOTHING = object()
_LEAST_ROUNDS = 4  # a script's text, a redirection or two: however slow each was
_LEAST_PATIENCE = 0.05  # seconds that a slot which is moving is asked again
_PAUSE = 0.002
_BITS = 32  # of a scan's cursor: the fingerprint of the topology, and which node
_NODE_BITS = 16


class ClusterStore(RedisStore):
    """Values on a cluster, by a URL that names some of its nodes.

    timeout: seconds to wait for an answer; "auto" follows each node's measured round trips.
    least: seconds that "auto" waits at least.

    A call raises StoreUnavailable when one of the nodes it needs cannot answer. Thread-safe.
    Constructing does no I/O.
    """

    def __init__(
        self, url: str, *, timeout: float | Literal["auto"] = "auto", least: float = 0.0
    ) -> None:
        self._url = url
        self._where = ManyHosts.of(url)
        self._timeout, self._least = timeout, least
        self._owns_pool = True
        self._time = ServerClock()
        self._nodes: dict[Address, Node] = {}
        self._topology: Topology | None = None
        self._doubted: Address | None = None
        self._lock = threading.RLock()
        self._fork_lock = Together(
            self._lock, lambda: [node.fork_lock for node in self._nodes.values()]
        )
        self._node_at(self._where.nodes[0])  # refuses unknown options

    @property
    def address(self) -> str:
        """Where it is, without secrets."""
        return self._where.address

    # -- who serves what ---------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        """What is known; asked for when nothing is, or a node failed since."""
        topology = self._topology
        return topology if topology is not None else self.refresh()

    def node(self, address: Address) -> Node:
        """Return the node at an address."""
        return self._node_at(address)

    def _node_at(self, address: Address) -> Node:
        with self._lock:
            node = self._nodes.get(address)
            if node is None:
                url = self._where.of_node(address)
                shown = self._where.shown_node(address)
                node = Node(
                    pool_of(url),
                    shown,
                    ours=True,
                    keep=True,
                    timeout=self._timeout,
                    least=self._least,
                )
                self._nodes[address] = node
            return node

    def refresh(self, first: Address | None = None) -> Topology:
        """Ask one node after the other who serves what, beginning with ``first``."""
        known = self._topology.primaries if self._topology else ()
        order = dict.fromkeys(
            [*([first] if first else []), *known, *self._nodes, *self._where.nodes]
        )
        if self._doubted in order:  # last: it may let us wait
            del order[self._doubted]
            order[self._doubted] = None
        problem: StoreError | None = None
        end = time.monotonic() + 2 * self.patience()
        for address in order:
            if problem is not None and time.monotonic() > end:
                break  # where several say nothing, the others hardly know better
            try:
                topology = self.seen_by(address)
            except StoreError as error:
                problem = problem or error
                continue
            if not topology.is_whole:
                problem = problem or StoreUnavailable(f"{self.address}: slots without an owner")
                continue
            self._learn(topology)
            return topology
        raise problem or StoreUnavailable(f"{self.address} names no node")

    def seen_by(self, address: Address) -> Topology:
        """Return who serves what, as one node sees it."""
        (reply,) = self.node(address).ask([("CLUSTER", "NODES")], writes=False)
        return topology_of(text(reply), address, by_name=self._where.is_tls)

    def _learn(self, topology: Topology) -> None:
        with self._lock:
            self._topology, self._doubted = topology, None
            here = {*topology.primaries, *self._where.nodes}
            gone = [self._nodes.pop(address) for address in set(self._nodes) - here]
        for node in gone:  # calls that are under way on it end as they do
            node.close()

    def _doubt(self, address: Address) -> None:
        """A node failed: before anything else is asked, see who serves what now."""
        with self._lock:
            self._doubted, self._topology = address, None

    # -- asking ------------------------------------------------------------------------------

    @property
    def _clock(self) -> ServerClock:
        return self._time

    def _together(self, names: Sequence[bytes]) -> list[Part]:
        parts: dict[bytes, list[int]] = defaultdict(list)
        for position, name in enumerate(names):
            end = name.find(b"}")
            tagged = end > 1 and name.find(b"{", 0, end - 1) >= 0
            parts[name[: end + 1] if tagged else name].append(position)
        return list(parts.values())

    def _get(self, key: bytes) -> bytes | None:
        address = self._owner(slot_of(key))
        try:
            return self.node(address).get(key)
        except Redirected:
            found: bytes | None = self._ask([("MGET", key)])[0][0]
            return found
        except StoreUnavailable:
            self._doubt(address)
            raise

    def _owner(self, slot: int) -> Address:
        address = self.topology.owners[slot]
        assert address is not None, "a topology that is whole"
        return address

    def _ask(self, commands: Sequence[Command], *, writes: bool = False) -> list[Any]:
        wanted = [_Wanted(command) for command in commands]
        end: float | None = None
        for rounds in count(1):
            left = [one for one in wanted if one.reply is _NOTHING]
            if not left:
                return [one.reply for one in wanted]
            by_node: dict[Address, list[_Wanted]] = defaultdict(list)
            for one in left:
                by_node[one.asking or self._owner(_slot(one.command))].append(one)
            self._exchange(by_node, writes=writes)
            now = time.monotonic()
            end = end or now + max(self.patience(), _LEAST_PATIENCE)
            if now > end and rounds > _LEAST_ROUNDS:
                break
            if any(one.waits for one in left):
                time.sleep(_PAUSE)  # a slot is moving key by key, and says nothing when it has
        msg = f"{self.address} is moving slots that were asked for; ask again in a moment"
        busy = _SlotMoves(msg)
        busy.is_over = True
        raise busy

    def _exchange(self, by_node: dict[Address, list["_Wanted"]], *, writes: bool) -> None:
        """Ask every node for its part at once, and take what they answer."""
        errors: list[StoreError] = []
        under_way: list[tuple[Address, Node, Sent, list[_Wanted]]] = []
        replies: list[tuple[Node, list[_Wanted], list[Any]]] = []
        try:
            for address, theirs in by_node.items():
                node = self.node(address)
                try:
                    sent = node.send(self._packed(node, theirs), writes=writes)
                    under_way.append((address, node, sent, theirs))
                except StoreUnavailable as error:
                    errors.append(error)
                    self._doubt(address)
            while under_way:
                # whose reply is there; a node that waits for us to read can do nothing else
                at = next((i for i, (*_, sent, _) in enumerate(under_way) if sent.has_come), 0)
                address, node, sent, theirs = asked = under_way.pop(at)
                try:
                    if node.receive_next(sent):
                        replies.append((node, theirs, sent.replies))
                    else:
                        under_way.insert(at, asked)
                except StoreUnavailable as error:
                    errors.append(error)
                    self._doubt(address)
        except BaseException:  # Ctrl-C: nobody shall get the replies that are still to come
            for _, node, sent, _ in under_way:
                node.abandon(sent)
            raise
        moved: Address | None = None
        for node, theirs, answers in replies:
            rest = iter(answers)
            for one in theirs:
                if one.asking:
                    next(rest)
                moved = one.take(next(rest), node, errors) or moved
        if errors:
            first = errors[0]
            first.is_over = all(other.is_over for other in errors)
            self._topology = None  # who refuses may be no primary any more
            raise first
        for one in [one for theirs in by_node.values() for one in theirs if one.apart]:
            one.put_together(self._ask(one.apart, writes=writes))
        if moved is not None:
            self.refresh(moved)

    def _packed(self, node: Node, theirs: list["_Wanted"]) -> list[Command]:
        commands: list[Command] = []
        for one in theirs:
            if one.asking:
                commands.append(("ASKING",))
            commands.append(self._timely(node, one.command))
        return commands

    # -- what is not the same on one server ----------------------------------------------------

    def fetch(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and group epochs; with nothing to read, see that every primary answers."""
        if not keys and not groups:
            self._see_that_all_answer()
        return super().fetch(keys, groups)

    def _see_that_all_answer(self) -> None:
        """Raise unless every primary that has slots answers, and all slots have one."""
        topology = self.refresh()
        owners = {address for address in topology.owners if address is not None}
        time_at = {address: [_Wanted(("TIME",))] for address in owners}
        self._exchange(time_at, writes=False)

    def patience(self, size: int = 0) -> float:
        """How long a put may be under way, to the slowest node."""
        with self._lock:
            known = self._topology.primaries if self._topology else self._nodes
            nodes = [self._nodes[address] for address in known if address in self._nodes]
            return max(node.patience(size) for node in nodes or self._nodes.values())

    def _deadline(self, deadline: float) -> bytes:
        return _Deadline(number(int(deadline * 1000)))

    def _timely(self, node: Node, command: Command) -> Command:
        """Return a command as a node reads it, a deadline by its own clock.

        Both readings err so that the deadline comes early rather than late.
        """
        at = _argument(command)
        word = command[at] if 0 < at < len(command) else b""
        if not isinstance(word, _Deadline):
            return command
        reading = node.clock.reading
        while reading is None:
            sent = time.monotonic()
            node.clock.read(node.ask([("TIME",)], writes=False)[0], sent)
            reading = node.clock.reading
        left = int(word) / 1000 - self.now()
        theirs = number(int((reading.earliest() + left) * 1000))
        return (*command[:at], theirs, *command[at + 1 :])

    def _doubt_clocks(self) -> None:
        self._time.forget()
        with self._lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            node.clock.forget()

    def write(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        entries: Sequence[bytes],
    ) -> None:
        """Write values whatever is there, then log what changed."""
        columns = (values, lives_of(lives(ttl, len(values))), entries)
        changed = self._each("write", keys, (b"0",), *columns)
        news = [entry for entry, is_new in zip(entries, changed, strict=True) if is_new]
        if news:
            self._ask(logged(log, news), writes=True)

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, then log it."""
        if not keys:
            return 0
        found = self._delete(keys)
        self._ask(logged(log, entries), writes=True)
        return found

    def revoke(
        self, keys: Sequence[bytes], log: bytes, versions: Sequence[bytes] | None = None
    ) -> int:
        """Delete values and absence tokens; in one step, or where a slot stays half moved in two.

        A script cannot name a value and its lease then, and so no load can commit in between.
        """
        try:
            return super().revoke(keys, log, versions)
        except _SlotMoves:
            if versions is None:
                return self._delete(keys)
            self._ask([("DEL", lease) for lease in slots(keys)[1::2]], writes=True)
            one_by_one = zip(keys, versions, strict=True)
            commands = [script("revoke").call([key], wanted) for key, wanted in one_by_one]
            return sum(map(whole, self._ask(commands, writes=True)))

    def _delete(self, keys: Sequence[bytes]) -> int:
        """Delete leases, so that no load fills in between, then values; return how many of these.

        One after the other: sent together, in a slot that moves the second may be done first::

            DEL lease (TRYAGAIN)   DEL value   the slot has moved   a load fills   DEL lease
        """
        parts = [picked(keys, part) for part in self._together(keys)]
        leases, values = zip(*(forget_commands(part) for part in parts), strict=True)
        self._ask(leases, writes=True)
        return sum(map(whole, self._ask(values, writes=True)))

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, then log it: while their slot moves one may be done before."""
        epoch, *news = forget_group_commands(group, os.urandom(TOKEN_BYTES), log, entry)
        self._ask([epoch], writes=True)
        self._ask(news, writes=True)

    def _create_epochs(self, groups: Sequence[bytes]) -> list[bytes]:
        """Make absent epochs, then read them."""
        self._ask([("SET", group, os.urandom(TOKEN_BYTES), "NX") for group in groups], writes=True)
        _, found = self._read([], groups)
        epochs = [epoch for epoch in found if epoch is not None]
        if len(epochs) != len(groups):
            msg = f"{self.address}: an epoch key holds something else than a string"
            raise StoreUnavailable(msg)
        return epochs

    def scan(
        self, start: Start, cursor: int, count: int, *, leases: bool = False
    ) -> tuple[int, list[bytes]]:
        """Return the next cursor and about ``count`` names of values of one node after the other.

        The cursor knows the topology it began with: when slots have other owners it begins again,
        for what stood on a node that was yet to come may be on one that is done.
        """
        topology = self.topology
        inner, index, seen = _unpacked(cursor)
        if not cursor or seen != topology.fingerprint:
            topology = self._at_rest()
            inner, index = 0, 0
        node = self.node(topology.primaries[index])
        (reply,) = self._of(node, [scan_command(start, inner, count, leases=leases)])
        inner, names = scanned(start, inner, reply, leases=leases)
        if not inner:
            index += 1
        if index == len(topology.primaries):
            if self._at_rest().fingerprint == topology.fingerprint:
                return 0, names
            inner, index, topology = 0, 0, self.topology
        return _packed_cursor(inner, index, topology.fingerprint), names

    def _at_rest(self) -> Topology:
        """Return the topology, if no slot is moving: a name that moves may be seen nowhere."""
        topology = self.refresh()
        seen = [self.seen_by(address) for address in topology.primaries]
        if any(one.moving for one in seen):
            msg = f"{self.address} is moving slots: what stands can be listed when that has ended"
            busy = StoreError(msg)  # every node answers
            busy.is_over = True
            raise busy
        return topology

    def size(self) -> Size:
        """Return how many keys the primaries have, and the memory they have allocated."""
        nodes = [self.node(address) for address in self.topology.primaries]
        sizes = [size_of(self._of(node, size_commands())) for node in nodes]
        return Size(sum(keys for keys, _ in sizes), sum(used for _, used in sizes))

    def may_evict(self) -> bool:
        """Say whether any node has a maxmemory and a policy."""
        nodes = [self.node(address) for address in self.topology.primaries]
        return any(may_evict(self._of(node, [("INFO", "memory")])[0]) for node in nodes)

    def _of(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        try:
            return node.ask(commands, writes=False)
        except StoreUnavailable:
            self._topology = None
            raise

    def stream(self) -> Stream:
        """Return a new stream of changes: a connection to every primary."""
        return ClusterStream(self)

    # -- living ------------------------------------------------------------------------------

    @property
    def fork_lock(self) -> Any:
        """What a fork holds: ours, and those of all nodes."""
        return self._fork_lock

    def reset_after_fork(self) -> None:
        """Keep no connection of the parent's."""
        self._time.reset_after_fork()
        for node in self._nodes.values():
            node.reset_after_fork()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            node.close()


class _SlotMoves(StoreError):
    """A slot is moving key by key, and what was asked of it names several."""


class _Wanted:
    """A command until it has its reply."""

    __slots__ = ("apart", "asking", "command", "reply", "waits")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.reply: Any = _NOTHING
        self.asking: Address | None = None
        self.apart: list[Command] = []
        self.waits = False

    def take(self, reply: Any, node: Node, errors: list[StoreError]) -> Address | None:
        """Take a reply, or see where to go instead; return who says that a slot moved to him."""
        self.asking, self.waits = None, False
        if not isinstance(reply, redis.ResponseError):
            self.reply = reply
        elif isinstance(reply, NoScriptError) and self.command[0] == "EVALSHA":
            self.command = with_text(self.command)
        elif isinstance(reply, MovedError):
            self.waits = True
            return _target(reply, node)
        elif isinstance(reply, AskError):
            self.asking = _target(reply, node)
        elif isinstance(reply, TryAgainError):
            self.apart = name_by_name(self.command)
            self.waits = not self.apart
        else:
            errors.append(node.explained(reply))
        return None

    def put_together(self, replies: list[Any]) -> None:
        """Take the replies to the command for each name apart."""
        self.apart = []
        self.reply = (
            sum(replies) if self.command[0] == "DEL" else [r for reply in replies for r in reply]
        )


class _Deadline(bytes):
    """Milliseconds in the store's time, which a node reads by its own clock."""


def _argument(command: Command) -> int:
    """Return where the arguments of a script's call begin; 0 where it is none."""
    return 3 + int(command[2]) if command[0] in ("EVALSHA", "EVAL") else 0


def _slot(command: Command) -> int:
    """Return the slot of the first key of a command; of one without keys, that of the clock."""
    word = command[3 if _argument(command) else 1] if len(command) > 1 else b""
    return slot_of(word) if isinstance(word, bytes) else 0


def _target(redirection: AskError, node: Node) -> Address:
    host, port = redirection.node_addr
    return (host or str(node.pool.connection_kwargs["host"]), int(port))


def _packed_cursor(inner: int, index: int, fingerprint: int) -> int:
    return (inner << _NODE_BITS | index) << _BITS | fingerprint


def _unpacked(cursor: int) -> tuple[int, int, int]:
    rest, fingerprint = cursor >> _BITS, cursor & ((1 << _BITS) - 1)
    return rest >> _NODE_BITS, rest & ((1 << _NODE_BITS) - 1), fingerprint
