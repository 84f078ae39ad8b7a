"""Real clusters and real Sentinel groups on loopback, with what an operator does to them.

::

    with Cluster() as cluster:  # three primaries, a replica of each
        cluster.kill_primary(0)
        cluster.until_sound()
        cluster.move_slots(range(100), to=cluster.primaries[1])

Every node is a ``servers.Server`` of its own, so it can be killed, paused and restarted alone. The
kernel ends a server with the thread that started it: begin and restart them in the test's thread.
"""

import contextlib
import random
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nearcache.stores.base import PONG, Changed
from servers import Server, is_free

__all__ = ["SLOTS", "Cluster", "Node", "SentinelGroup", "heard", "slot_of"]

SLOTS = 16384
_PATIENCE = 30.0  # seconds for what takes two or three
# Seconds after which a node that says nothing is taken for dead: a busy machine stops one for as
# long as a second, and only in the place of one that was killed or paused shall another be chosen.
_CALM, _BRIEF = 10.0, 1.0
_VOTE = 7.0  # seconds for a failover that was asked for
_LOOK = 0.01
_SYNC = ("--repl-diskless-sync-delay", "0", "--rdb-del-sync-files", "yes")
_BUS = 10_000  # the cluster's own port is so much higher


def slot_of(key: bytes) -> int:
    """Return the slot of a key: of its hash tag, if it has one."""
    from redis.crc import key_slot

    return key_slot(key)


class Node(Server):
    """One server of a cluster or a group; redis-py's errors at once, nothing is tried again."""

    def client(self, **options: Any) -> Any:
        """A redis-py client for this node alone; close it, or use it in a ``with``."""
        quick = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 5.0, "protocol": 2}
        return super().client(**quick | options)

    def ask(self, *words: Any) -> Any:
        """Run one command on this node; texts in the answer are decoded."""
        with self.client(decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def facts(self, section: str) -> dict[str, str]:
        """A section of INFO, or CLUSTER INFO, as words."""
        lines = self.ask("CLUSTER", "INFO") if section == "cluster" else self.ask("INFO", section)
        return dict(line.split(":", 1) for line in lines.splitlines() if ":" in line)

    def restart(self) -> None:
        """End it (if it runs) and start it on the same port, empty; a cluster still knows it."""
        self._forget_snapshots()
        super().restart()

    def _forget_snapshots(self) -> None:
        for snapshot in self.dir.glob("*.rdb"):  # what it once got as a replica
            snapshot.unlink()


class _ClusterNode(Node):
    """A node whose port and bus are none of the kernel's clients, nor of other servers: while it is
    down nobody else gets them."""

    def _start_somewhere(self) -> None:
        for last in (*[False] * 20, True):
            self.port = random.randrange(10_000, 16_000)
            if not (is_free(self.port) and is_free(self.port + _BUS)):
                continue
            try:
                self._start()
            except RuntimeError:
                if last:
                    raise
            else:
                return


class _Group:
    """Several nodes that live and die together."""

    nodes: list[Node]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every node; at once, for a server that is asked to end waits for its replicas."""
        for node in self.nodes:
            node.kill()
            node.stop()

    def by_port(self, port: int) -> Node:
        """The node that listens there."""
        return next(node for node in self.nodes if node.port == port)

    @property
    def alive(self) -> list[Node]:
        """The nodes whose process runs, paused or not."""
        return [node for node in self.nodes if node.alive]

    def restart(self) -> None:
        """Start again what is dead, empty; let go on what is paused."""
        for node in self.nodes:
            if not node.alive:
                node.restart()
            elif node._paused:
                node.resume()


class Cluster(_Group):
    """A cluster with all slots served; ``args`` go to every node."""

    def __init__(
        self,
        kind: str = "valkey-9.1",
        *args: str,
        primaries: int = 3,
        replicas: int = 1,
    ) -> None:
        self.kind = kind
        self.nodes: list[Node] = []
        self._wires: dict[int, Any] = {}
        self._ids: dict[int, str] = {}
        self._is_calm = True
        options = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(int(_CALM * 1000)),
            "--cluster-replica-validity-factor", "0", *_SYNC, *args,
        )  # fmt: skip
        try:
            for _ in range(primaries * (1 + replicas)):
                self.nodes.append(_ClusterNode(kind, *options))
            self._options = options
            self._form(primaries)
        except BaseException:
            self.stop()
            raise

    def __repr__(self) -> str:
        return f"<Cluster {self.kind} {self.nodes}>"

    def _form(self, primaries: int) -> None:
        first, others = self.nodes[:primaries], self.nodes[primaries:]
        for number, node in enumerate(first):
            start, end = (SLOTS * n // primaries for n in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTS", *range(start, end))
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes:
            for other in self.nodes:
                if node is not other:
                    node.ask("CLUSTER", "MEET", "127.0.0.1", other.port)
        wait_until(lambda: all(len(_table(node)) == len(self.nodes) for node in self.nodes))
        for number, node in enumerate(others):
            node.ask("CLUSTER", "REPLICATE", self.id_of(first[number % primaries]))
        self.until_sound()

    # What it is

    @property
    def url(self) -> str:
        """``redis+cluster://`` and the primaries, as they were at first."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        return f"redis+cluster://{hosts}"

    def id_of(self, node: Node) -> str:
        """The name the cluster knows a node by."""
        if node.port not in self._ids:
            self._ids[node.port] = str(node.ask("CLUSTER", "MYID"))
        return self._ids[node.port]

    @property
    def primaries(self) -> list[Node]:
        """The primaries that live and serve slots, in the order of their first slots."""
        rows = [row for row in self._look() if "master" in row.flags and row.slots]
        rows = [row for row in rows if "fail" not in row.flags and self.by_port(row.port).alive]
        return [self.by_port(row.port) for row in sorted(rows, key=lambda row: min(row.slots))]

    def replicas_of(self, primary: Node) -> list[Node]:
        """The replicas of a primary that live."""
        name = self.id_of(primary)
        found = [self.by_port(row.port) for row in self._look() if row.of == name]
        return [node for node in found if node.alive]

    def owner_of(self, slot: int) -> Node:
        """The primary that serves a slot."""
        return next(self.by_port(row.port) for row in self._look() if slot in row.slots)

    def slots_of(self, node: Node) -> list[int]:
        """The slots that a node serves."""
        return next((sorted(row.slots) for row in self._look() if row.port == node.port), [])

    def _look(self) -> "list[_Row]":
        for node in self.nodes:
            if node.alive and not node._paused:
                return _table(node)
        message = f"{self!r}: nobody is left to ask"
        raise RuntimeError(message)

    @property
    def is_sound(self) -> bool:
        """Whether every node that runs agrees on who serves what since when, no slot is on its
        way, and every replica is in touch."""
        views = []
        for node in self.alive:
            with contextlib.suppress(redis.RedisError):
                if node.facts("cluster")["cluster_state"] != "ok":
                    return False
                table = _table(node)
                if any(row.moving for row in table):
                    return False
                views.append({slot: (row.port, row.epoch) for row in table for slot in row.slots})
                facts = node.facts("replication")
                if facts["role"] == "slave" and facts["master_link_status"] != "up":
                    return False
                continue
            return False
        return len(views[0]) == SLOTS and all(view == views[0] for view in views)

    def until_sound(self) -> None:
        """Wait for ``is_sound``."""
        self._miss_nodes_after(_CALM)
        wait_until(lambda: self.is_sound, self)

    def _miss_nodes_after(self, seconds: float) -> None:
        if self._is_calm == (seconds == _CALM):
            return
        for node in self.alive:
            if not node._paused:
                node.ask("CONFIG", "SET", "cluster-node-timeout", int(seconds * 1000))
        self._is_calm = seconds == _CALM

    # What happens to it

    def kill_primary(self, number: int) -> Node:
        """SIGKILL a primary; return it. Its replica follows after a second and a vote."""
        node = self.primaries[number]
        node.kill()
        self._miss_nodes_after(_BRIEF)
        return node

    def failover(self, number: int) -> Node:
        """Have a replica take over from its living primary, losing nothing; return the new one."""
        (new, *_) = self.replicas_of(self.primaries[number])
        # no node votes twice about one primary within two such times
        self._miss_nodes_after(_BRIEF)
        for last in (*[False] * 3, True):
            new.ask("CLUSTER", "FAILOVER")
            try:
                wait_until(lambda: new.facts("replication")["role"] == "master", self, _VOTE)
                break
            except TimeoutError:  # a machine that stood still: the nodes gave it up after five
                if last:
                    raise
        self._miss_nodes_after(_CALM)
        return new

    def until_replicated(self) -> None:
        """Wait until every replica has what its primary has: it would lose what it has not."""

        def is_replicated() -> bool:
            for primary in self.primaries:
                said = primary.facts("replication")["master_repl_offset"]
                for replica in self.replicas_of(primary):
                    if int(replica.facts("replication")["slave_repl_offset"]) < int(said):
                        return False
            return True

        wait_until(is_replicated, self)

    def until_replaced(self, old: Node) -> None:
        """Wait until others serve what a dead or paused primary did."""

        def is_replaced() -> bool:
            with contextlib.suppress(redis.RedisError):
                served = {
                    slot for row in self._look() if row.port != old.port for slot in row.slots
                }
                return len(served) == SLOTS
            return False

        self._miss_nodes_after(_BRIEF)
        wait_until(is_replaced, self)
        self._miss_nodes_after(_CALM)

    def join(self) -> Node:
        """Let another primary in, without slots."""
        node = _ClusterNode(self.kind, *self._options)
        self.nodes.append(node)
        for other in self.nodes[:-1]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", other.port)
        wait_until(lambda: all(len(_table(each)) == len(self.nodes) for each in self.alive), self)
        return node

    def move_slots(
        self, slots: Iterable[int], to: Node, watch: Callable[[int], object] = lambda _: None
    ) -> None:
        """Move slots with their keys, one after another, while all goes on.

        ``watch`` is called with each slot before its last step: its keys have moved, and who asks
        the old owner is told to ask the new one.
        """
        owners = {slot: self.by_port(row.port) for row in self._look() for slot in row.slots}
        everybody = self.primaries
        for slot in slots:
            if owners[slot] is not to:
                with _Move(self, slot, owners[slot], to, everybody) as move:
                    move.keys()
                    watch(slot)

    @contextlib.contextmanager
    def half_moved(self, slot: int, to: Node) -> Iterator[None]:
        """Within, a slot is on its way and half of its keys have moved; after, it has moved."""
        with _Move(self, slot, self.owner_of(slot), to, self.primaries) as move:
            move.keys(most=int(move.source.ask("CLUSTER", "COUNTKEYSINSLOT", slot)) // 2)
            try:
                yield
            finally:
                move.keys()

    def wires(self) -> dict[int, Any]:
        """A client for each node that lives, by port; kept open until ``stop``."""
        for node in self.alive:
            if node.port not in self._wires:
                self._wires[node.port] = wire = node.client()
                wire.response_callbacks.clear()
        return self._wires

    def stop(self) -> None:
        """End every node."""
        for wire in self._wires.values():
            wire.close()
        super().stop()


class _Move:
    """One slot on its way from a primary to another."""

    def __init__(
        self, cluster: Cluster, slot: int, source: Node, target: Node, everybody: list[Node]
    ) -> None:
        self.source = source
        self._cluster, self._slot, self._target = cluster, slot, target
        self._others = [node for node in everybody if node is not source and node is not target]
        self._wires = cluster.wires()

    def __enter__(self) -> Self:
        self._say(self._target, "IMPORTING", self._cluster.id_of(self.source))
        self._say(self.source, "MIGRATING", self._cluster.id_of(self._target))
        return self

    def keys(self, most: int = 1 << 30) -> None:
        """Move so many of the keys that are still at the source, and are there by then."""
        source = self._wires[self.source.port]
        while most > 0 and (
            keys := source.execute_command("CLUSTER GETKEYSINSLOT", self._slot, min(most, 100))
        ):
            where = ("127.0.0.1", self._target.port, "", 0, 5000, "KEYS")
            source.execute_command("MIGRATE", *where, *keys)
            most -= len(keys)

    def __exit__(self, *_: object) -> None:
        name = self._cluster.id_of(self._target)
        for node in (self._target, self.source, *self._others):
            self._say(node, "NODE", name)
        wait_until(self._is_over, self._cluster)

    def _say(self, node: Node, *words: str) -> None:
        """Say it until it is done: a primary refuses when a replica did not confirm it in time.

        A move that ended there would leave the slot on its way for ever.
        """

        def is_done() -> bool:
            try:
                self._wires[node.port].execute_command("CLUSTER SETSLOT", self._slot, *words)
            except redis.ResponseError as error:
                if not str(error).startswith("NOREPLICAS"):
                    raise
                return False
            return True

        wait_until(is_done, self._cluster)

    def _is_over(self) -> bool:
        """Whether all know who serves the slot, and since which epoch.

        An owner to come that had not heard of it would take the slot back in the same epoch, and
        others believe the one or the other::

            A -> B, epoch 7        B -> A, epoch 7: A has not heard of B's
        """
        views = set()
        wires = self._cluster.wires()
        for node in self._cluster.alive:
            if not node._paused:
                rows = _rows(wires[node.port].execute_command("CLUSTER NODES").decode())
                if any(self._slot in row.moving for row in rows):
                    return False
                views |= {(row.port, row.epoch) for row in rows if self._slot in row.slots}
        return len(views) == 1 and {port for port, _ in views} == {self._target.port}


class _Row:
    """A line of CLUSTER NODES."""

    def __init__(self, line: str) -> None:
        name, address, flags, of, _, _, epoch, link, *slots = line.split()
        self.name, self.of, self.epoch, self.link = name, of, int(epoch), link
        self.port = int(address.partition("@")[0].rpartition(":")[2])
        self.flags = set(flags.split(","))
        self.slots: set[int] = set()
        self.moving: set[int] = set()  # as the node that was asked says of itself
        for part in slots:
            if part.startswith("["):  # [slot->-to, [slot-<-from
                self.moving.add(int(part[1:].partition("-")[0]))
            else:
                first, _, last = part.partition("-")
                self.slots.update(range(int(first), int(last or first) + 1))


def _table(node: Node) -> list[_Row]:
    return _rows(node.ask("CLUSTER", "NODES"))


def _rows(table: str) -> list[_Row]:
    rows = [_Row(line) for line in table.splitlines()]
    return [row for row in rows if not row.flags & {"handshake", "noaddr"}]


class _Sentinel(Node):
    """A Sentinel: the same program, with a file of its own that says whom to watch."""

    def __init__(self, kind: str, settings: Sequence[str]) -> None:
        self._settings = settings
        super().__init__(kind)

    def _start(self) -> None:  # a restarted one knows what it knew: it writes its file itself
        file, script = self.dir / "sentinel.conf", self.dir / "run"
        if not script.exists():
            file.write_text("\n".join(self._settings) + "\n")
            script.write_text(f'#!/bin/sh\nexec {self._binary} {file} "$@" --sentinel\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
            self._binary = script
        super()._start()


class SentinelGroup(_Group):
    """A primary, its replicas, Sentinels that agree on whom to follow; ``args`` go to servers."""

    def __init__(
        self,
        kind: str = "valkey-9.1",
        *args: str,
        replicas: int = 2,
        sentinels: int = 3,
        service: str = "main",
    ) -> None:
        self.kind = kind
        self.service = service
        self.servers: list[Node] = []
        self.sentinels: list[_Sentinel] = []
        self._is_calm = True
        try:
            self.servers.append(Node(kind, *_SYNC, *args))
            first = self.servers[0]
            for _ in range(replicas):
                self.servers.append(Node(kind, *_SYNC, *args))
                # by command: one that was promoted and is restarted is a primary still
                self.servers[-1].ask("REPLICAOF", "127.0.0.1", first.port)
            settings = (
                f"sentinel monitor {service} 127.0.0.1 {first.port} {sentinels // 2 + 1}",
                f"sentinel down-after-milliseconds {service} {int(_CALM * 1000)}",
                f"sentinel failover-timeout {service} 3000",
            )
            for _ in range(sentinels):
                self.sentinels.append(_Sentinel(kind, settings))
            self.until_sound()
        except BaseException:
            self.stop()
            raise

    def __repr__(self) -> str:
        return f"<SentinelGroup {self.kind} {self.nodes}>"

    @property
    def nodes(self) -> list[Node]:
        """Servers and Sentinels."""
        return [*self.servers, *self.sentinels]

    @property
    def url(self) -> str:
        """``redis+sentinel://``, the Sentinels, and the service."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}"

    def told(self) -> list[int]:
        """The port of the primary, as each Sentinel tells it."""
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return [int(each.ask(*words)[1]) for each in self.sentinels if each.alive]

    @property
    def primary(self) -> Node:
        """The primary, as most Sentinels tell it."""
        ports = self.told()
        return self.by_port(max(ports, key=ports.count))

    @property
    def replicas(self) -> list[Node]:
        """The servers that live and follow another."""
        alive = [node for node in self.servers if node.alive and not node._paused]
        return [node for node in alive if node.facts("replication")["role"] == "slave"]

    @property
    def is_sound(self) -> bool:
        """Whether one primary is known to all, every server is known, and replicas are in touch."""
        try:
            if len(set(self.told())) != 1:
                return False
            for sentinel in self.sentinels:
                facts = _pairs(sentinel.ask("SENTINEL", "MASTER", self.service))
                known = (int(facts["num-slaves"]), int(facts["num-other-sentinels"]))
                if known < (len(self.servers) - 1, len(self.sentinels) - 1):
                    return False
                if facts["flags"] != "master":
                    return False
            port = str(self.primary.port)
            facts = [node.facts("replication") for node in self.servers]
            followers = [each for each in facts if each["role"] == "slave"]
            return len(followers) == len(facts) - 1 and all(
                (each["master_link_status"], each["master_port"]) == ("up", port)
                for each in followers
            )
        except (redis.RedisError, RuntimeError):
            return False

    def until_sound(self) -> None:
        """Wait for ``is_sound``."""
        self._miss_servers_after(_CALM)
        wait_until(lambda: self.is_sound, self)

    def _miss_servers_after(self, seconds: float) -> None:
        if self._is_calm == (seconds == _CALM):
            return
        for sentinel in self.sentinels:
            if sentinel.alive and not sentinel._paused:
                setting = ("down-after-milliseconds", int(seconds * 1000))
                sentinel.ask("SENTINEL", "SET", self.service, *setting)
        self._is_calm = seconds == _CALM

    @property
    def failovers(self) -> int:
        """How often the Sentinels have followed another primary."""
        return max(each.log.count("+switch-master") for each in self.sentinels)

    def kill_primary(self) -> Node:
        """SIGKILL the primary; return it."""
        node = self.primary
        node.kill()
        self._miss_servers_after(_BRIEF)
        return node

    def until_replaced(self, old: Node) -> Node:
        """Wait until others took the place of a dead or paused primary; return the new one."""
        self._miss_servers_after(_BRIEF)
        new = self._until_told_another(old)
        self._miss_servers_after(_CALM)
        return new

    def _until_told_another(self, old: Node) -> Node:
        """Wait until all Sentinels tell another primary, and it is one; return it."""

        def new() -> Node | None:
            ports = set(self.told())
            if len(ports) != 1 or ports == {old.port}:
                return None
            node = self.primary
            return node if node.facts("replication")["role"] == "master" else None

        return wait_until(new, self)

    def failover(self) -> Node:
        """Have the Sentinels choose another primary while the old one lives; return the new one."""
        old = self.primary

        def begun() -> bool:
            try:  # no good replica is known yet, or the last failover is not over
                return self.sentinels[0].ask("SENTINEL", "FAILOVER", self.service) == "OK"
            except redis.ResponseError:
                return False

        wait_until(begun, self)
        return self._until_told_another(old)

    def rejoin(self, old: Node) -> None:
        """Bring back a server that was primary, as a replica; Sentinels would wait ten seconds."""
        if not old.alive:
            old.restart()
        if old._paused:
            old.resume()
        old.ask("REPLICAOF", "127.0.0.1", self.primary.port)
        wait_until(lambda: old.facts("replication")["master_link_status"] == "up", self)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def heard(stream: Any) -> set[bytes]:
    """The names of what changed before now, as a store's stream tells them."""
    names: set[bytes] = set()
    stream.ping()
    while True:
        for news in stream.read(5.0):
            if news is PONG:
                return names
            names |= set(news.names) if isinstance(news, Changed) else set()


def wait_until(
    condition: Callable[[], Any], about: object = None, seconds: float = _PATIENCE
) -> Any:
    """Poll until ``condition`` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            message = f"{about!r}: not within {seconds:g} s"
            raise TimeoutError(message)
        time.sleep(_LOOK)  # between two looks at the condition
    return answer
