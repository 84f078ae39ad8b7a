"""The nemeses of clusters and of Sentinel groups: primaries die, stall and change, slots move.

Workers find these stores by the addresses that the servers tell, so there is no proxy between.

Replication is asynchronous: what a primary acknowledged just before it died, or after another took
its place, is lost by the servers. The board keeps those windows, so that it is counted and no fault
of a cache's. A failover that is asked for and slots that move lose nothing, and open no window.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

from clusters import Cluster, Node, SentinelGroup, slot_of
from live.history.faults import Nemesis

__all__ = ["CLUSTER_FAULTS", "SENTINEL_FAULTS", "ClusterNemesis", "SentinelNemesis"]

_LAG = 0.5  # seconds that a replica may be behind its primary

CLUSTER_FAULTS = (
    "fail_over",
    "move_slots",
    "half_move",
    "kill_primary",
    "pause_primary",
    "restart_empty",
    "kill_clients",
    "kill_subscribers",
    "stop_worker",
)
SENTINEL_FAULTS = (
    "fail_over",
    "kill_primary",
    "pause_primary",
    "restart_empty",
    "kill_clients",
    "kill_subscribers",
    "stop_worker",
)


class _GroupNemesis(Nemesis):
    """What both have in common. One server at a time is dead or stalled."""

    group: Any

    @property
    def urls(self) -> list[str]:
        """Where each worker finds the store: all by the same servers."""
        return [self.group.url] * self._workers

    def close(self) -> None:
        """End the servers."""
        with contextlib.suppress(Exception):
            self.heal()
        self.group.stop()

    def heal(self) -> None:
        """End every fault, and wait until the group is whole."""
        super().heal()
        self._sick = False
        self.group.until_sound()
        self.note(f"primaries: {[node.port for node in self._primaries()]}")

    def _primaries(self) -> list[Node]:
        raise NotImplementedError

    def _until_replaced(self, old: Node) -> None:
        raise NotImplementedError

    def _bring_back(self, old: Node) -> None:
        raise NotImplementedError

    def _victim(self) -> Node:
        return self._random.choice(self._primaries())

    def _guarded(self, name: str, harm: Callable[[Node], bool]) -> bool:
        """Do what needs a whole group, if it is whole."""
        if self._sick or not self.group.is_sound:
            return False
        victim = self._victim()
        self.note(f"{name} of port {victim.port}")
        return harm(victim)

    def kill_primary(self, name: str) -> bool:
        """It stays dead until another serves what it did, and a while more."""

        def harm(victim: Node) -> bool:
            self._sick = True
            now = time.monotonic()
            self._board.open_window(now - _LAG, now + 0.01)
            victim.kill()

            def undo() -> None:
                self._until_replaced(victim)
                self.note(f"port {victim.port} is replaced")
                self._bring_back(victim)
                self._sick = False

            return self._begin(name, self._hold(), undo)

        return self._guarded(name, harm)

    def pause_primary(self, name: str) -> bool:
        """It stalls, is replaced, and goes on as if it were a primary still."""

        def harm(victim: Node) -> bool:
            self._sick = True
            window = self._board.open_window(time.monotonic() - _LAG)
            victim.pause()

            def undo() -> None:
                self._until_replaced(victim)
                self.note(f"port {victim.port} is replaced")
                self._bring_back(victim)
                self._board.close_window(window)
                self._sick = False

            return self._begin(name, self._hold(), undo)

        return self._guarded(name, harm)

    def restart_empty(self, name: str) -> bool:
        """Killed and back at once, before anybody took its place: what it held is gone."""

        def harm(victim: Node) -> bool:
            self._board.lost_at = float("inf")
            now = time.monotonic()
            victim.kill()
            victim.restart()
            self._board.open_window(now - _LAG, time.monotonic())
            self._board.lost_at = time.monotonic()
            return True

        return self._guarded(name, harm)

    def kill_clients(self, name: str) -> bool:
        """Every connection to one primary ends."""
        return self._close_connections(name, "normal")

    def kill_subscribers(self, name: str) -> bool:
        """Every link to one primary ends."""
        return self._close_connections(name, "pubsub")

    def _close_connections(self, name: str, kind: str) -> bool:
        if self._sick:
            return False
        victim = self._victim()
        self.note(f"{name} of port {victim.port}")
        with contextlib.suppress(redis.ConnectionError):
            victim.ask("CLIENT", "KILL", "TYPE", kind)
        return True


class ClusterNemesis(_GroupNemesis):
    """A cluster of three primaries, each with a replica."""

    group: Cluster

    def _usual(self) -> Iterable[str]:
        return CLUSTER_FAULTS

    def _open(self) -> None:
        self.group = Cluster(self.kind)
        self._slots = _slots_used(self._namespace)

    def _primaries(self) -> list[Node]:
        return self.group.primaries

    def _until_replaced(self, old: Node) -> None:
        self.group.until_replaced(old)

    def _bring_back(self, _: Node) -> None:
        self.group.restart()
        self.group.until_sound()

    def fail_over(self, name: str) -> bool:
        """A replica takes over from its living primary."""

        def harm(victim: Node) -> bool:
            self._board.moved_at = float("inf")
            try:
                self.group.failover(self.group.primaries.index(victim))
                self.group.until_sound()
            finally:
                self._board.moved_at = time.monotonic()
            return True

        return self._guarded(name, harm)

    def move_slots(self, name: str) -> bool:
        """A third of the slots with keys go to another primary, one by one."""

        def harm(victim: Node) -> bool:
            others = [node for node in self.group.primaries if node is not victim]
            mine = sorted(set(self.group.slots_of(victim)) & set(self._slots))
            most = len(self._slots) // 3
            self._random.shuffle(mine)
            if not mine:
                return False
            self.group.move_slots(mine[:most], self._random.choice(others))
            self.group.until_sound()
            return True

        return self._guarded(name, harm)

    def half_move(self, name: str) -> bool:
        """One slot stays between two primaries for a while, with half of its keys at each."""

        def harm(victim: Node) -> bool:
            others = [node for node in self.group.primaries if node is not victim]
            mine = sorted(set(self.group.slots_of(victim)) & set(self._slots))
            if not mine:
                return False
            slot = self._random.choice([*mine, mine[0]])
            self._sick = True
            move = self.group.half_moved(slot, self._random.choice(others))
            move.__enter__()

            def undo() -> None:
                move.__exit__(None, None, None)
                self._sick = False

            return self._begin(f"{name} of slot {slot}", self._hold() / 2, undo)

        return self._guarded(name, harm)


class SentinelNemesis(_GroupNemesis):
    """A primary with two replicas and three Sentinels."""

    group: SentinelGroup

    def _usual(self) -> Iterable[str]:
        return SENTINEL_FAULTS

    def _open(self) -> None:
        self.group = SentinelGroup(self.kind)
        self._ordered = 0

    def _primaries(self) -> list[Node]:
        return [self.group.primary]

    def heal(self) -> None:
        """End every fault, and wait until the group is whole."""
        super().heal()
        if self.group.failovers > self._ordered:
            message = "the Sentinels failed over unasked: the machine is too busy for this run"
            raise RuntimeError(message)

    def _until_replaced(self, old: Node) -> None:
        self.group.until_replaced(old)
        self._ordered += 1

    def _bring_back(self, old: Node) -> None:
        self.group.rejoin(old)
        self.group.until_sound()

    def fail_over(self, name: str) -> bool:
        """The Sentinels choose another; the old one goes on for a while and loses what it gets."""

        def harm(victim: Node) -> bool:
            window = self._board.open_window(time.monotonic() - _LAG)
            self.group.failover()
            self._ordered += 1
            self.group.rejoin(victim)
            self._board.close_window(window)
            self.group.until_sound()
            return True

        return self._guarded(name, harm)


def _slots_used(namespace: str) -> list[int]:
    """The slots that hold keys of the two namespaces of a run."""
    from nearcache.keys import BUCKETS

    spaces = (namespace, f"{namespace}-other")
    tags = [f"{space}:{bucket:02x}" for space in spaces for bucket in range(BUCKETS)]
    return sorted({slot_of(f"{{{tag}}}".encode()) for tag in (*spaces, *tags)})
