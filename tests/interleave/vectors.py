"""Worlds of values that never change: vectors, a log of what was forgotten, no link.

Several *processes* (each with its own engine and near tier) share one store. Time jumps, calls are
cancelled, the store fails and loses values.

The source behind the loader changes whenever somebody invalidates or puts. Every version of a
vector is a number, so a value tells when it was loaded:

    an answer is *stale* if it is older than a change whose invalidation (or put) had returned,
    here or before the last look into the log, when the call that got the answer started.

A put that overlaps the change may be ordered after it, so its value is excused.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from interleave.explorer import Explorer, NoThread, Op, Programs, ScriptedIO
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.caches.tiers import RowTiers
from nearcache.errors import StoreTimeout, StoreUnavailable
from nearcache.keys import hash_content
from nearcache.options import Options
from nearcache.testing import MemoryStore

__all__ = ["LEASE", "POLL", "TEXTS", "World", "at_random", "exhaustively", "prepared"]

MODEL = "model"
TEXTS = ("k0", "k1")
POLL = 2.0  # more than half of link_timeout: the next call looks into the log
LEASE = 10.0
LINK_TIMEOUT = 3.0


class RowIO(ScriptedIO):
    """Hears when the log is read, and fails as the world says."""

    def asked(self, ask, *arguments):
        outage = self.world.outage
        if outage == "unreachable":
            self.world.failed(self.process)
            raise StoreUnavailable("the store cannot be reached")
        answer = ask(*arguments)
        if outage == "mute":
            self.world.failed(self.process)
            raise StoreTimeout("done, but nobody heard of it")
        if ask.__name__ == "changes":
            self.world.looked(self.process)
        return answer


class Source:
    """The model behind the loader, and its versions of every text."""

    is_async, limit, max_batch, gate = False, 2, 1, nullcontext()

    def __init__(self) -> None:
        self.version = dict.fromkeys(TEXTS, 1)

    def call(self, texts):
        return np.array([vector(text, self.version[text]) for text in texts])


def vector(text: str, version: int) -> np.ndarray:
    return np.array([version, TEXTS.index(text), 7, 9], np.float32)


def version_in(row: np.ndarray, text: str) -> int:
    assert row.tolist() == vector(text, int(row[0])).tolist(), f"a row that is nobody's: {row}"
    return int(row[0])


@dataclass
class Change:
    """An invalidation or put: ``started`` and ``returned`` are steps of the world."""

    process: int
    texts: Sequence[str]
    versions: dict[str, int]
    puts: bool
    started: int
    returned: int | None = None
    delivered: bool = True


class World(Explorer):
    """Processes, one store, and what happened so far."""

    def __init__(self, *, processes: int = 2, store: MemoryStore | None = None) -> None:
        super().__init__()
        self.store = MemoryStore() if store is None else store  # an empty one is false
        self.store._clock = self.clock
        self.source = Source()
        self.changes: list[Change] = []
        self.outage = ""
        self.outages = 0
        self.failures = [0] * processes
        self.looks: list[dict[int, int]] = [{} for _ in range(processes)]
        self.caches = [self.cache(number) for number in range(processes)]

    def cache(self, process: int) -> AsyncEmbeddingCache:
        arguments = {
            "store": self.store, "namespace": "emb", "max_entries": 100, "max_bytes": 2**20,
            "ttl": None, "policy": "lru", "precision": "float32",
            "options": Options(lease=LEASE, link_timeout=LINK_TIMEOUT),
        }  # fmt: skip
        tiers = RowTiers(arguments, clock=self.clock)
        tiers.engine.sharing.keeper = NoThread()
        tiers.engine.sharing.access.delivery.wake = lambda _: None
        return AsyncEmbeddingCache._face(tiers, RowIO(self, process))

    def lose(self, text: str) -> None:
        """Let the store evict a value, as one that is full does."""
        name = hash_content(text).encode()
        self.store.edit(lambda key, value: None if key.endswith(name) else value)

    # -- what the callers do ---------------------------------------------------------------------

    async def do(self, process: int, op: Op) -> None:
        name, *texts = op
        cache = self.caches[process]
        started = self.now
        self.trace.append(f"{started}: process {process} {op}")
        with self._look_of_this_call(process) as look:
            if name == "get":
                row = await cache.get(texts[0], MODEL)
                answers = {} if row is None else {texts[0]: row}
            elif name == "load":
                rows = await cache.get_or_load_batch(texts, MODEL, self.source)
                answers = dict(zip(texts, rows, strict=True))
            else:
                await self._change(process, name, texts)
                answers = {}
        if look:
            self.looks[process][look[-1]] = self.now
        for text, row in answers.items():
            self.answered(process, text, version_in(row, text), started)

    async def _change(self, process: int, name: str, texts: Sequence[str]) -> None:
        cache = self.caches[process]
        texts = texts if name in ("put", "invalidate") else TEXTS
        for text in texts:
            self.source.version[text] += 1
        versions = {text: self.source.version[text] for text in texts}
        change = Change(process, texts, versions, name == "put", self.now)
        self.changes.append(change)
        failures = self.failures[process]
        if name == "put":
            rows = [vector(text, versions[text]) for text in texts]
            await cache.put_batch(texts, rows, MODEL)
        elif name == "invalidate":
            await cache.invalidate(texts[0], MODEL)
        elif name == "model":
            await cache.invalidate_by_model(MODEL)
        else:
            await cache.clear()
        self.now += 1
        change.returned = self.now
        change.delivered = self.failures[process] == failures
        self.trace.append(f"{self.now}: process {process} {name} {texts} returned")
        self.now += 1

    # -- what they may see -----------------------------------------------------------------------

    @contextmanager
    def _look_of_this_call(self, process: int):
        """The steps at which this call's process read the log while the call ran."""
        before = len(self._look_log(process))
        seen: list[int] = []
        yield seen
        seen += self._look_log(process)[before:]

    def _look_log(self, process: int) -> list[int]:
        return self.__dict__.setdefault(f"_log{process}", [])

    def failed(self, process: int) -> None:
        self.failures[process] += 1

    def looked(self, process: int) -> None:
        self._look_log(process).append(self.now)

    def too_old(self, text: str, version: int, change: Change) -> bool:
        """Whether a value was loaded before a change, and was not put while it happened."""
        if text not in change.versions or version >= change.versions[text]:
            return False
        return not any(
            c.puts and c.versions.get(text) == version
            and (c.returned is None or c.returned > change.started)
            for c in self.changes
        )  # fmt: skip

    def answered(self, process: int, text: str, version: int, started: int) -> None:
        for change in self.changes:
            if change.returned is None or not self.too_old(text, version, change):
                continue
            if change.process == process:
                known = change.returned < started
            else:
                known = change.delivered and any(
                    look > change.returned and ended < started
                    for look, ended in self.looks[process].items()
                )
            if known:
                self.stale.append(
                    f"process {process} was given {text} version {version} by a call that began "
                    f"at {started}, after {change}"
                )

    def settle(self) -> None:
        """When all is quiet and everybody has looked into the log: nothing stale is left."""
        self.outage = ""
        for _ in range(2):  # what is queued is delivered, then everybody hears of it
            self.clock.advance(LEASE + POLL)
            for cache in self.caches:
                self.alone(cache.get("something else", MODEL))
        for process, cache in enumerate(self.caches):
            cache._tiers.engine.check()
            assert cache.get_stats().undelivered == 0, "all that was queued has been delivered"
            self._left(f"near of process {process}", lambda text, c=cache: near_row(c, text))
        observer = self.cache(0)
        stored = {text: self.alone(observer.get(text, MODEL)) for text in TEXTS}
        self._left("the store", stored.get)
        # who had to load without the store may differ from a put it could not know of
        for process, cache in enumerate(() if self.outages else self.caches):
            for text in TEXTS:
                near = near_row(cache, text)
                if near is not None and stored[text] is not None and any(near != stored[text]):
                    self.stale.append(f"process {process} keeps {text} {near}, not {stored[text]}")
        for cache in [*self.caches, observer]:
            self.alone(cache.close())

    def _left(self, where: str, row_of: Callable[[str], np.ndarray | None]) -> None:
        for text in TEXTS:
            row = row_of(text)
            for change in self.changes if row is not None else ():
                # one that never returned (cancelled) promised nothing
                if change.returned and self.too_old(text, version_in(row, text), change):
                    self.stale.append(f"{where} keeps {text} {row}, after {change}")


def near_row(cache: AsyncEmbeddingCache, text: str) -> np.ndarray | None:
    engine = cache._tiers.engine
    return engine.near.get_one(cache._tiers.shelf(MODEL).name, text)


# -- schedules -----------------------------------------------------------------------------------


def prepared(programs: Programs, *, warm: Programs = (), store=None) -> World:
    """A world whose processes have begun to listen, did ``warm``, and are about to run."""
    world = World(store=store)
    for cache in world.caches:
        world.alone(cache.get("something else", MODEL))
    for process, ops in warm:
        world.alone(world.program(process, ops))
    world.trace.clear()
    for process, ops in programs:
        world.start(world.program(process, ops), caller=True)
    return world


def random_programs(rng: random.Random) -> Programs:
    ops: list[Op] = [
        *[("get", text) for text in TEXTS], *[("load", text) for text in TEXTS],
        ("load", *TEXTS), ("load", *TEXTS), *[("put", text) for text in TEXTS],
        *[("invalidate", text) for text in TEXTS], ("invalidate", TEXTS[0]),
        ("model",), ("clear",),
    ]  # fmt: skip
    return [
        (rng.randrange(2), [rng.choice(ops) for _ in range(rng.randint(1, 3))])
        for _ in range(rng.randint(2, 4))
    ]


def at_random(seed: int, *, store=None) -> World:
    """One random schedule of random programs: time jumps, calls are cancelled, values evicted."""
    rng = random.Random(seed)
    programs, both = random_programs(rng), [("load", *TEXTS)]
    world = prepared(
        programs, warm=rng.choice([(), [(0, both), (1, both)], [(0, both)]]), store=store
    )
    outages = rng.choice([0, 0, 0.05])
    jumps, cancels, losses = rng.choice([0, 0.05]), rng.choice([0, 0, 0.03]), rng.choice([0, 0.03])

    def upset(world: World) -> None:
        if rng.random() < jumps:
            world.clock.advance(rng.choice([POLL, POLL, LEASE]))
        if rng.random() < outages:
            world.outage = rng.choice(["", "unreachable", "mute"])
            world.outages += 1
            world.trace.append(f"{world.now}: outage {world.outage!r}")
        if rng.random() < losses:  # the store evicts a value
            lost = rng.choice(TEXTS)
            world.trace.append(f"{world.now}: the store loses {lost}")
            world.lose(lost)
        if rng.random() < cancels:
            world.cancel(rng.choice)

    world.run(lambda tasks: rng.randrange(len(tasks)), upset)
    world.settle()
    return world


def exhaustively(
    programs: Programs, *, warm: Programs = (), most: int, store=None
) -> Iterator[World]:
    """Every schedule of the programs, depth first, at most ``most`` of them."""

    def world() -> World:
        return prepared(programs, warm=warm, store=None if store is None else store())

    return Explorer.exhaustively(world, most=most)
