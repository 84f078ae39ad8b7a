"""Values that grow old, against a model: a dict of values with two ends each, step by step.

Two caches with options of their own, of one store and under one clock that stands still, do one
thing after the other; after each, what goes on behind the answers is waited for. So the model knows
each value, whether it is young, expired or gone, and what a loader was asked for.

What is drawn at random in the cache itself may happen or not: a load behind an answer within the
window of ``early_refresh``, or soon after one that failed.
"""

import asyncio
import math
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from embedders import until
from near_fixtures import near_with_clock
from nearcache import MISSING, Loaded, MemoryStore, Options
from nearcache.engine.held import HELD_VERSION, READ_AT
from nearcache.stores.base import version_of
from nearcache.testing import ManualClock

KEYS = ["a", "b", "c", ("d", "e")]
TAGS = ["t", "u"]
STEPS = 700
SEEDS = int(os.environ.get("NEARCACHE_SEEDS", "6"))
TTL = 10.0
_REST = 1.0  # seconds without another try after a load behind an answer failed
_MARGIN = 1.0  # seconds after the end of a tag in which a load that names it need not be kept

# In none of them does anything end in the same instant as something else.
OPTIONS = [
    Options(),
    Options(stale_while_revalidate=7.3),
    Options(fail_safe=31.7),
    Options(stale_while_revalidate=3.1, fail_safe=17.9, negative_ttl=2.3),
    Options(early_refresh=0.5),
    Options(early_refresh=0.9, stale_while_revalidate=5.7, negative_ttl=4.1),
    Options(negative_ttl=6.7),
    Options(fail_safe=23.3, loader_soft_timeout=60.0),
    Options(loader_timeout=60.0, stale_while_revalidate=11.9),
    Options(fail_safe=1e6, max_batch=1),
]


class Broken(Exception):
    """What a loader raises."""


@dataclass
class Entry:
    """A value, or that there is none; ``end`` is that of its ttl, ``last`` when it is gone."""

    value: Any
    end: float = math.inf
    last: float = math.inf
    tags: frozenset[str] = frozenset()
    early: float = 0.0  # the longest time before its end at which it may be loaded anew


@dataclass
class Source:
    """A loader: what it is about to say, and what it was asked."""

    world: "World"
    broken: bool = False
    absent: bool = False
    ttl: Any = ...
    tags: tuple[str, ...] = ()
    asked: list[Any] = field(default_factory=list)
    said: dict[Any, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        kind = "broken" if self.broken else "absent" if self.absent else "well"
        return f"{kind} ttl={self.ttl} tags={self.tags} asked {self.asked}"

    def one(self, key: Any) -> Any:
        self.asked.append(key)
        if self.broken:
            raise Broken
        if self.absent:
            self.said[key] = MISSING
        else:
            self.world.count += 1
            self.said[key] = [self.world.count]
        if self.ttl is ... and not self.tags:
            return self.said[key]
        return Loaded(self.said[key], ttl=self.ttl, tags=self.tags)

    def many(self, keys: list[Any]) -> dict[Any, Any]:
        return {key: self.one(key) for key in keys}


class Process:
    """A cache as its face is called, and what it wants."""

    def __init__(self, world: "World", options: Options, face: str, most: int) -> None:
        self.options = options
        self.world = world
        self.face = face
        self.cache = near_with_clock(
            world.clock,
            world.store,
            face,
            ttl=TTL,
            max_entries=most,
            options=replace(options, link_timeout=1e9),
        ).thing
        self.rests: dict[Any, float] = {}  # until when a key need not be loaded behind an answer

    def call(self, name: str, *arguments: Any, **more: Any) -> Any:
        answer = getattr(self.cache, name)(*arguments, **more)
        return self.world.awaited(answer) if self.face == "async" else answer

    def loader(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        """A plain function or, sometimes, an asynchronous one."""
        if self.world.random.random() < 0.5:
            return ask

        async def load(*arguments: Any) -> Any:
            await asyncio.sleep(0)
            return ask(*arguments)

        return load

    def at_rest(self) -> bool:
        """Whether nothing goes on behind answers, and what changed has been heard."""
        tiers = self.cache._tiers
        engine, shelf, tracked = tiers.engine, tiers.shelf, tiers.shelf.tracked
        if tiers.answer._renewals or len(engine.flights):
            return False
        if tracked is None:
            return True
        lookout = tracked.lookout
        if lookout.waiting or lookout.echoes or lookout.loading or lookout.touched:
            return False
        store = self.world.store
        for group in list(shelf.groups._groups.values()):
            if group.token not in (None, store._epochs.get(group.name, (None,))[0]):
                return False
        for key in shelf.near.keys(shelf.name):
            held = lookout.held(key)
            data = store._values.get(shelf.keys.name(key), (None, None))[0]
            heard = held is None or held[READ_AT] == -math.inf  # it will be looked at again
            if not heard and version_of(data) != held[HELD_VERSION]:
                return False
        return True


class World:
    """The caches, and what they must say."""

    def __init__(self, seed: int, kind: str, choices: Sequence[Options] = OPTIONS) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock) if kind == "store" else None
        self.count = 0
        self.entries: dict[Any, Entry] = {}
        self.bumped = dict.fromkeys(TAGS, -math.inf)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        faces = ["sync", "async"]
        self.random.shuffle(faces)
        sizes = [10_000, 10_000, 2, 0] if self.store is not None else [10_000]
        self.processes = [
            Process(self, self.random.choice(choices), face, self.random.choice(sizes))
            for face in (faces if self.store is not None else faces[:1])
        ]
        self.told: list[str] = []

    def awaited(self, promise: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(promise, self.loop).result(30)

    def end(self) -> None:
        for process in self.processes:
            process.call("close")
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    # -- the model -------------------------------------------------------------------------------

    def entry(self, key: Any) -> Entry | None:
        """What is kept of a key, expired or not."""
        entry = self.entries.get(key)
        return None if entry is None or self.clock() >= entry.last else entry

    def young(self, key: Any) -> Entry | None:
        entry = self.entry(key)
        return None if entry is None or self.clock() >= entry.end else entry

    def keep(self, key: Any, value: Any, ttl: float | None, tags: Any, options: Options) -> None:
        if ttl == 0:
            self.entries.pop(key, None)
            return
        now, grace = self.clock(), max(options.stale_while_revalidate, options.fail_safe)
        if value is MISSING:
            grace = 0.0
        end = math.inf if ttl is None else now + ttl
        early = 0.0 if ttl is None else options.early_refresh * max(ttl, TTL)
        self.entries[key] = Entry(value, end, end + grace, frozenset(tags), early)

    def loaded(
        self, key: Any, source: Source, ttl: Any, tags: Any, options: Options, process: Process
    ) -> None:
        """Take what a loader said."""
        value = source.said[key]
        if value is MISSING:
            life = source.ttl if source.ttl is not ... else options.negative_ttl
            life = life or 0.0  # for ever is no answer to "how long is there nothing"
        else:
            life = source.ttl if source.ttl is not ... else ttl
        if ttl == 0:
            life = 0.0
        self.keep(key, value, life, {*tags, *source.tags}, options)
        if self.in_doubt(source):
            kept = process.call("get", key, MISSING, max_staleness=0) is not MISSING
            self.entries = {k: one for k, one in self.entries.items() if kept or k != key}

    def in_doubt(self, source: Source) -> bool:
        """Whether what a loader says need not be kept."""
        return any(self.clock() <= self.bumped[tag] + _MARGIN for tag in source.tags)

    # -- what they do ----------------------------------------------------------------------------

    def step(self) -> None:
        chosen = self.random.choices(
            [self.load, self.read, self.put, self.update, self.invalidate, self.tag, self.clear,
             self.time],
            [10, 5, 2, 3, 1, 1, 0.3, 8],
        )[0]  # fmt: skip
        chosen(self.random.choice(self.processes))
        until(lambda: all(process.at_rest() for process in self.processes))

    def tell(self, process: Process, *what: Any) -> None:
        number = self.processes.index(process)
        self.told.append(f"{self.clock() - 1000:.3f}: process {number} {' '.join(map(str, what))}")

    def some_tags(self) -> list[str]:
        return self.random.choice([[], [], ["t"], ["u"], ["t", "u"]])

    def some_ttl(self) -> Any:
        return self.random.choice([..., ..., ..., None, 3.7, 41.3])

    def time(self, process: Process) -> None:
        seconds = self.random.choice([0.1, 1.0, 3.0, 10.0, 30.0]) * self.random.uniform(0.5, 1)
        self.tell(process, "waits", seconds)
        self.clock.advance(seconds)

    def read(self, process: Process) -> None:
        staleness = self.random.choice([None, None, 0, 1.0])
        keys = self.random.sample(KEYS, self.random.randint(1, len(KEYS)))
        wanted = [entry.value if (entry := self.young(k)) else MISSING for k in keys]
        if self.random.random() < 0.5:
            keys, wanted = keys[:1], wanted[:1]
            got = [process.call("get", keys[0], MISSING, max_staleness=staleness)]
        else:
            got = process.call("get_batch", keys, MISSING, max_staleness=staleness)
        self.tell(process, "get", keys, staleness, got)
        assert got == wanted

    def put(self, process: Process) -> None:
        key, ttl, tags = self.random.choice(KEYS), self.some_ttl(), self.some_tags()
        if self.random.random() < 0.1:
            ttl = 0
        self.count += 1
        self.tell(process, "put", key, self.count, ttl, tags)
        process.call("put", key, [self.count], ttl, tags)
        self.keep(key, [self.count], TTL if ttl is ... else ttl, tags, process.options)

    def update(self, process: Process) -> None:
        key, ttl, tags = self.random.choice(KEYS), self.some_ttl(), self.some_tags()
        young = self.young(key)
        there = young is not None and young.value is not MISSING
        leaves = self.random.random() < 0.2
        seen: list[Any] = []
        self.count += 1
        number = self.count

        def change(value: Any) -> Any:
            seen.append(value)
            return MISSING if leaves else [*(value or []), number]

        got = process.call("update", key, change, ttl, tags)
        self.tell(process, "update", key, ttl, tags, "leaves" if leaves else number, got)
        before = young.value if there else None
        assert seen[-1] == before  # it may have run again
        if leaves:
            assert got == before
            return
        assert got == [*(before or []), number]
        life = TTL if ttl is ... else ttl
        if there and ttl is ...:
            life = None if young.end == math.inf else young.end - self.clock()
        self.keep(key, got, life, young.tags if there else tags, process.options)

    def invalidate(self, process: Process) -> None:
        key = self.random.choice(KEYS)
        self.tell(process, "invalidate", key)
        process.call("invalidate", key)
        self.entries.pop(key, None)

    def tag(self, process: Process) -> None:
        tag = self.random.choice(TAGS)
        self.tell(process, "tag", tag)
        process.call("invalidate_by_tag", tag)
        self.bumped[tag] = self.clock()
        self.entries = {k: entry for k, entry in self.entries.items() if tag not in entry.tags}

    def clear(self, process: Process) -> None:
        self.tell(process, "clear")
        process.call("clear")
        self.entries = {}

    def load(self, process: Process) -> None:
        """Load, one or some: each key is answered as it is, and loaded if it has to be."""
        keys = self.random.sample(KEYS, self.random.choice([1, 1, 1, 2, 4]))
        source = Source(
            self,
            broken=self.random.random() < 0.25,
            absent=self.random.random() < 0.2,
            ttl=self.random.choice([..., ..., ..., ..., None, 3.7, 2.1, 0]),
            tags=tuple(self.random.choice([[], [], [], ["t"], ["u"]])),
        )
        if source.absent and self.in_doubt(source):
            source.tags = ()  # whether it is kept could not be seen
        options, more = process.options, {}
        if self.random.random() < 0.2:
            options = self.random.choice(OPTIONS)
            more["options"] = options
        if self.random.random() < 0.1:
            more["max_staleness"] = 0
        ttl, tags = self.some_ttl(), self.some_tags()
        if self.random.random() < 0.05:
            ttl = 0
        life = TTL if ttl is ... else ttl
        must, may, stands, wanted = self.expected(keys, process, options)
        raises = source.broken and any(key not in stands for key in must)
        try:
            if len(keys) == 1 and self.random.random() < 0.8:
                loader = process.loader(lambda: source.one(keys[0]))
                got = [process.call("get_or_load", keys[0], loader, ttl, tags, **more)]
            else:
                got = process.call(
                    "get_or_load_batch", keys, process.loader(source.many), ttl, tags,
                    default=MISSING, **more,
                )  # fmt: skip
        except Broken:
            got = None
        until(process.at_rest)
        self.tell(process, "load", keys, ttl, tags, OPTIONS.index(options), more, source, got)
        behind = [key for key in source.asked if key not in must]
        assert len(source.asked) == len(set(source.asked)), "each key is loaded once"
        assert raises == (got is None)
        if not source.broken:
            assert set(must) <= set(source.asked)
            rested = {key for key, over in process.rests.items() if self.clock() < over}
            assert set(may) - {k for k, sure in may.items() if not sure} - rested <= set(behind)
        assert set(behind) <= set(may)
        if source.broken:
            process.rests.update((key, self.clock() + _REST) for key in may)
        if got is not None:
            for key, answer in zip(keys, got, strict=True):
                fresh = key in must and not source.broken
                assert answer == (source.said[key] if fresh else wanted[key])
        for key in source.said:
            self.loaded(key, source, life, tags, options, process)

    def expected(
        self, keys: list[Any], process: Process, options: Options
    ) -> tuple[list[Any], dict[Any, bool], set[Any], dict[Any, Any]]:
        """What has to be loaded; what may be, behind the answer, and whether it has to be.

        Also what is answered if a load fails, and the answers.
        """
        must: list[Any] = []
        may: dict[Any, bool] = {}
        stands: set[Any] = set()
        wanted: dict[Any, Any] = {}
        now = self.clock()
        earliest = max(p.options.early_refresh for p in self.processes)
        for key in keys:
            entry = self.entry(key)
            if entry is None:
                must.append(key)
                continue
            wanted[key] = entry.value
            if now < entry.end:
                window = max(entry.early, TTL * max(options.early_refresh, earliest), 41.3)
                if entry.value is not MISSING and now >= entry.end - window:
                    may[key] = False
            elif now < entry.end + options.stale_while_revalidate:
                may[key] = True
            else:
                must.append(key)
                if now < entry.end + options.fail_safe:
                    stands.add(key)
        return must, may, stands, wanted


def played(world: World, steps: int) -> None:
    """Do so many steps; what went wrong tells the last of them."""
    try:
        for _ in range(steps):
            world.step()
    except BaseException as error:
        error.add_note("\n".join(world.told[-40:]))
        raise
    finally:
        world.end()


@pytest.mark.parametrize("kind", ["alone", "store"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_answer_is_what_the_model_says(seed, kind):
    played(World(seed, kind), STEPS)


@dataclass
class Life:
    """A sliding value: it is there until ``sure``, and gone from ``last`` on."""

    value: Any
    ttl: float
    sure: float
    last: float
    tags: frozenset[str]


class Sliding(World):
    """Caches whose values live on while they are read, each by any process."""

    def __init__(self, seed: int, kind: str) -> None:
        super().__init__(seed, kind, [Options(sliding=True), Options(sliding=True, negative_ttl=2)])
        self.lives: dict[Any, Life] = {}

    def step(self) -> None:
        process = self.random.choice(self.processes)
        chosen = [self.time, self.use, self.write, self.follow, self.end_some]
        self.random.choices(chosen, [6, 6, 2, 2, 0.5])[0](process)
        until(lambda: all(one.at_rest() for one in self.processes))

    def lives_on(self, key: Any, process: Process) -> None:
        """Note that a key was read, and have the store told."""
        life = self.lives[key]
        life.sure, life.last = self.clock() + life.ttl, self.clock() + 1.25 * life.ttl
        if self.store is not None:
            name = process.cache._tiers.shelf.keys.name(key)
            until(lambda: self.store._values[name][1] >= life.sure)

    def found(self, key: Any, value: Any, process: Process) -> None:
        """Compare what was found with what must, may or must not be there."""
        life = self.lives.get(key)
        if life is None or value is MISSING:
            assert value is MISSING, "nobody put it"
            assert life is None or self.clock() >= life.sure, "it ended early"
            self.lives.pop(key, None)
            return
        assert value == life.value
        assert self.clock() < life.last, "it never ends"
        self.lives_on(key, process)

    def use(self, process: Process) -> None:
        key = self.random.choice(KEYS)
        got = process.call("get", key, MISSING)
        self.tell(process, "get", key, got)
        self.found(key, got, process)

    def keep_on(self, key: Any, value: Any, ttl: float, tags: Any) -> None:
        now = self.clock()
        self.lives[key] = Life(value, ttl, now + ttl, now + 1.25 * ttl, frozenset(tags))

    def write(self, process: Process) -> None:
        key, ttl, tags = self.random.choice(KEYS), self.random.choice([TTL, 3.7]), self.some_tags()
        self.count += 1
        self.tell(process, "put", key, self.count, ttl, tags)
        process.call("put", key, [self.count], ttl, tags)
        self.keep_on(key, [self.count], ttl, tags)

    def follow(self, process: Process) -> None:
        key, tags, seen = self.random.choice(KEYS), self.some_tags(), []
        process.call(
            "update", key, lambda value: seen.append(value) or [1, *(value or [])], ..., tags
        )
        self.tell(process, "update", key, tags, seen)
        self.found(key, MISSING if seen[-1] is None else seen[-1], process)
        life = self.lives.get(key)
        ttl, tags = (TTL, tags) if life is None else (life.ttl, life.tags)
        self.keep_on(key, [1, *(seen[-1] or [])], ttl, tags)

    def end_some(self, process: Process) -> None:
        tag = self.random.choice(TAGS)
        self.tell(process, "tag", tag)
        process.call("invalidate_by_tag", tag)
        self.lives = {key: life for key, life in self.lives.items() if tag not in life.tags}


@pytest.mark.parametrize("kind", ["alone", "store"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_sliding_life_ends_when_the_model_says(seed, kind):
    played(Sliding(seed, kind), STEPS // 2)
