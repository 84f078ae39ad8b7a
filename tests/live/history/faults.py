"""The nemesis: breaks links, servers and workers, one thing or several at once, and heals them."""

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import redis

from live.history.board import Board
from nearcache.testing.proxy import FaultProxy
from servers import Server

__all__ = ["FAULTS", "FileNemesis", "Nemesis"]

_ARGS = ("--repl-diskless-sync-delay", "0")


class Nemesis:
    """Does harm at random; everything is undone by ``heal``.

    Faults come from a shuffled deck, so that all have come before any comes again. One that needs
    what another has broken waits for its next turn.
    """

    def __init__(
        self,
        kind: str,
        board: Board,
        workers: int,
        namespace: str,
        *,
        bound: float,
        faults: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.kind = kind
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self.proxies: list[FaultProxy] = []
        self.pids: list[int] = []
        self._board, self._namespace, self._bound = board, namespace, bound
        self._random = random.Random(seed)
        self._workers = workers
        self._names = list(faults or self._usual())
        self._deck: list[str] = []
        self._active: list[tuple[float, str, Callable[[], None]]] = []
        self._busy: set[object] = set()
        self._sick = False  # the server cannot be asked now
        self._open()

    def _usual(self) -> Iterable[str]:
        return (name for name in FAULTS if name not in FILE_FAULTS[1:])

    def _open(self) -> None:
        self.server = Server(self.kind, *_ARGS)
        self.proxies = [FaultProxy.of(self.server.url) for _ in range(self._workers)]

    # The course of a storm

    @property
    def urls(self) -> list[str]:
        """Where each worker finds the store."""
        return [proxy.url for proxy in self.proxies]

    def storm(self, seconds: float, watch: Callable[[], None] = lambda: None) -> None:
        """Do harm for so long; what lasts longer than that lasts until ``heal``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            watch()
            self._strike()
            pause = self._random.uniform(0.05, 0.6) * min(1.0, self._bound / 2)
            self._sleep(min(pause, end - time.monotonic()))

    def wake_workers(self) -> None:
        """Let stopped workers go on; other faults stay."""
        for each in [each for each in self._active if each[1].startswith("stop_worker")]:
            self._active.remove(each)
            each[2]()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + max(0.0, seconds)
        while True:
            self._undo(time.monotonic())
            now = time.monotonic()
            if now >= end:
                return
            dues = [due for due, _, _ in self._active]
            time.sleep(max(0.001, min([end, *dues]) - now))

    def _undo(self, moment: float) -> None:
        for each in [each for each in self._active if each[0] <= moment]:
            self._active.remove(each)
            self.note(f"ends {each[1]}")
            each[2]()

    def heal(self) -> None:
        """End every fault."""
        self._undo(float("inf"))
        for proxy in self.proxies:
            proxy.heal()
        self._busy.clear()
        self.note("healed")

    def close(self) -> None:
        """End the proxies and the server."""
        with contextlib.suppress(Exception):
            self.heal()
        for proxy in self.proxies:
            proxy.close()
        self.server.stop()

    def note(self, what: str) -> None:
        """Write down what happens, and when."""
        self.log.append(f"t={time.monotonic():.3f} {what}")
        del self.log[:-4000]

    def _strike(self) -> None:
        if not self._deck:
            self._deck = list(self._names)
            self._random.shuffle(self._deck)
        for name in list(self._deck):
            if getattr(self, name)(name):
                self._deck.remove(name)
                self.counts[name] += 1
                return

    def _begin(self, name: str, seconds: float, undo: Callable[[], None]) -> bool:
        self._active.append((time.monotonic() + seconds, name, undo))
        return True

    def _hold(self) -> float:
        """How long a fault lasts: often shorter than the bound, sometimes well beyond."""
        most = self._bound * (2.0 if self._random.random() < 0.25 else 0.7)
        return self._random.uniform(0.05, most)

    # Links

    def _victims(self) -> list[FaultProxy]:
        free = [proxy for proxy in self.proxies if proxy not in self._busy]
        if len(free) == len(self.proxies) and self._random.random() < 0.2:
            return free
        return [self._random.choice(free)] if free else []

    def _on_links(self, name: str, harm: Callable[[FaultProxy], object]) -> bool:
        victims = self._victims()
        if not victims:
            return False
        seconds = self._hold()
        numbers = [self.proxies.index(proxy) for proxy in victims]
        self.note(f"{name} on {numbers} for {seconds:.2f} s")
        for proxy in victims:
            self._busy.add(proxy)
            harm(proxy)

        def undo() -> None:
            for proxy in victims:
                proxy.heal()
                self._busy.discard(proxy)

        return self._begin(f"{name} {numbers}", seconds, undo)

    def _late(self) -> float:
        most = self._random.choice((0.1, 0.5, self._bound, self._bound * 5 / 3))
        return self._random.uniform(0.05, max(0.06, most))

    def delay_replies(self, name: str) -> bool:
        late = self._late()
        return self._on_links(name, lambda proxy: proxy.delay(to_client=late))

    def delay_requests(self, name: str) -> bool:
        late = self._late()
        return self._on_links(name, lambda proxy: proxy.delay(to_server=late))

    def delay_tracked(self, name: str) -> bool:
        late = self._late()
        return self._on_links(name, lambda proxy: proxy.delay(to_client=late, only="tracked"))

    def delay_untracked(self, name: str) -> bool:
        late, there = self._late(), self._random.random() < 0.5
        ways = {"to_server": late} if there else {"to_client": late}
        return self._on_links(name, lambda proxy: proxy.delay(**ways, only="untracked"))

    def black_hole(self, name: str) -> bool:
        drop = self._random.random() < 0.4
        return self._on_links(name, lambda proxy: proxy.black_hole(drop=drop))

    def black_hole_tracked(self, name: str) -> bool:
        there = self._random.random() < 0.7
        return self._on_links(name, lambda proxy: proxy.black_hole(to_server=there, only="tracked"))

    def black_hole_untracked(self, name: str) -> bool:
        there = self._random.random() < 0.5
        return self._on_links(
            name, lambda proxy: proxy.black_hole(to_server=there, only="untracked")
        )

    def half_open(self, name: str) -> bool:
        only = self._random.choice((None, "tracked", "untracked"))
        return self._on_links(name, lambda proxy: proxy.half_open(only=only))

    def refuse(self, name: str) -> bool:
        def harm(proxy: FaultProxy) -> None:
            proxy.refuse()
            proxy.reset()

        return self._on_links(name, harm)

    def refuse_tracked(self, name: str) -> bool:
        """The pool works, but nobody says what changes."""

        def harm(proxy: FaultProxy) -> None:
            proxy.refuse(only="tracked")
            proxy.reset(only="tracked")

        return self._on_links(name, harm)

    def reset(self, name: str) -> bool:
        proxy = self._random.choice(self.proxies)
        only = self._random.choice((None, "tracked", "untracked"))
        self.note(f"{name} on {self.proxies.index(proxy)}, only {only}")
        proxy.reset(only=only)
        return True

    # The server

    def _client(self) -> Any:
        return self.server.client(socket_timeout=5.0)

    def _command(self, name: str, *words: Any) -> bool:
        if self._sick:
            return False
        self.note(name)
        with self._client() as client:
            client.execute_command(*words)
        return True

    def kill_server(self, name: str) -> bool:
        if self._sick:
            return False
        seconds = self._hold() if self._random.random() < 0.5 else 0.0
        self.note(f"{name} for {seconds:.2f} s")
        self._sick = True
        self._board.lost_at = float("inf")
        self.server.kill()

        def undo() -> None:
            for snapshot in self.server.dir.glob("*.rdb"):  # what it once got as a replica
                snapshot.unlink()
            self.server.restart()
            self._board.lost_at = time.monotonic()
            self._sick = False

        return self._begin(name, seconds, undo)

    def pause_server(self, name: str) -> bool:
        if self._sick:
            return False
        seconds = self._hold()
        self.note(f"{name} for {seconds:.2f} s")
        self._sick = True
        self.server.pause()

        def undo() -> None:
            self.server.resume()
            self._sick = False

        return self._begin(name, seconds, undo)

    def kill_clients(self, name: str) -> bool:
        return self._command(name, "CLIENT", "KILL", "TYPE", "normal")

    def kill_subscribers(self, name: str) -> bool:
        return self._command(name, "CLIENT", "KILL", "TYPE", "pubsub")

    def flush_all(self, name: str) -> bool:
        if self._sick:
            return False
        self._board.lost_at = float("inf")
        try:
            return self._command(name, "FLUSHALL")
        finally:
            self._board.lost_at = time.monotonic()

    def flush_other(self, name: str) -> bool:
        if self._sick:
            return False
        self.note(name)
        with self.server.client(db=1, socket_timeout=5.0) as client:
            client.set("other", "1")
            client.flushdb()
        return True

    def delete_epoch(self, name: str) -> bool:
        if self._sick:
            return False
        with self._client() as client:
            epochs = [
                epoch
                for namespace in (self._namespace, f"{self._namespace}-other")
                for epoch in client.keys(f"nc1:{{{namespace}}}:e:*")
            ]
            if epochs:
                chosen = self._random.choice(epochs)
                self.note(f"{name} {chosen!r}")
                self._board.lost_at = float("inf")
                client.delete(chosen)
                self._board.lost_at = time.monotonic()
        return True

    def failover(self, name: str) -> bool:
        """A coordinated one: no write that was acknowledged is lost."""
        if self._sick:
            return False
        old, new = self.server, Server(self.kind, *_ARGS)
        if not self._follow(new, old) or not self._promote(new, old):
            self.note(f"{name} did not come about")
            new.stop()
            return False
        self.note(f"{name} to port {new.port}")
        self.server = new
        for proxy in self.proxies:
            proxy.retarget("127.0.0.1", new.port)
        self._board.moved_at = time.monotonic()
        if self._random.random() < 0.5:
            old.stop()
        else:
            old.kill()
            old.stop()
        return True

    def _follow(self, new: Server, old: Server) -> bool:
        with new.client(socket_timeout=5.0) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", old.port)
            return self._wait(lambda: client.info("replication")["master_link_status"] == "up")

    def _promote(self, new: Server, old: Server) -> bool:
        self._board.moved_at = float("inf")
        with old.client(socket_timeout=10.0) as before, new.client(socket_timeout=5.0) as after:
            self._wait(lambda: self._in_touch(before))
            for _ in range(20):
                try:
                    before.execute_command("FAILOVER", "TIMEOUT", 3000)
                    break
                except redis.ResponseError:  # the replica has not acknowledged anything yet
                    self._sleep(0.1)
            if self._wait(lambda: after.info("replication")["role"] == "master"):
                return True
            with contextlib.suppress(redis.ResponseError):
                before.execute_command("FAILOVER", "ABORT")
        self._board.moved_at = time.monotonic()
        return False

    @staticmethod
    def _in_touch(client: Any) -> bool:
        first = client.info("replication").get("slave0")
        return bool(first) and first["state"] == "online" and int(first["offset"]) > 0

    def _wait(self, done: Callable[[], bool], seconds: float = 5.0) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            self._sleep(0.01)
        return True

    # Workers

    def stop_worker(self, name: str) -> bool:
        number = self._random.randrange(len(self.pids))
        if number in self._busy:
            return False
        seconds = self._hold()
        self.note(f"{name} {number} for {seconds:.2f} s")
        self._busy.add(number)
        os.kill(self.pids[number], signal.SIGSTOP)
        start = time.monotonic()

        def undo() -> None:
            self._board.stopped[number] += time.monotonic() - start
            os.kill(self.pids[number], signal.SIGCONT)
            self._busy.discard(number)

        return self._begin(f"{name} {number}", seconds, undo)


class FileNemesis(Nemesis):
    """The same for a store that is a file on this machine: there is no link and no server."""

    def __init__(self, *arguments: Any, path: Path, **options: Any) -> None:
        self._path = path
        super().__init__(*arguments, **options)

    def _usual(self) -> Iterable[str]:
        return FILE_FAULTS

    def _open(self) -> None:
        pass

    @property
    def urls(self) -> list[str]:
        """Where each worker finds the store."""
        return [f"sqlite:///{self._path}"] * self._workers

    def close(self) -> None:
        """Undo what lasts."""
        self.heal()

    def lock_file(self, name: str) -> bool:
        """Hold the right to write, as a long transaction of somebody else would."""
        if self._sick or not self._path.exists():
            return False
        seconds = self._hold()
        file = sqlite3.connect(self._path, timeout=5.0, isolation_level=None)
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            file.close()
            return False
        self.note(f"{name} for {seconds:.2f} s")
        self._sick = True

        def undo() -> None:
            file.execute("ROLLBACK")
            file.close()
            self._sick = False

        return self._begin(name, seconds, undo)


FILE_FAULTS = ("stop_worker", "lock_file")

FAULTS: dict[str, Callable[[Nemesis, str], bool]] = {
    name: getattr(Nemesis, name)
    for name in (
        "delay_replies",
        "delay_requests",
        "delay_tracked",
        "delay_untracked",
        "black_hole",
        "black_hole_tracked",
        "black_hole_untracked",
        "half_open",
        "refuse",
        "refuse_tracked",
        "reset",
        "kill_server",
        "pause_server",
        "kill_clients",
        "kill_subscribers",
        "flush_all",
        "flush_other",
        "delete_epoch",
        "failover",
        "stop_worker",
    )
} | {"lock_file": lambda nemesis, name: nemesis.lock_file(name)}
