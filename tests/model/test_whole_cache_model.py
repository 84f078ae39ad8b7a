"""The whole cache against a dict: two processes' caches of one store, and the store may fail.

Every step is done to a dict, too. While the store is well the caches must say what the dict says:
the one that wrote at once, the other as soon as it has heard, and whoever reads through always. A
call during which the store fails leaves a *set* of what may be there afterwards: a write that
failed is made, or what it wrote over is forgotten, but nothing old comes back. When the store is
well again both caches and the store hold the same, and that is one of the set.

Each failure is of one kind: not executed, executed but unheard, or executed after everything else.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from embedders import Face, until
from near_fixtures import near_with_clock
from nearcache import MISSING, MemoryStore, Options, SQLiteStore, StoreError
from nearcache.stores.redis.store import RedisStore
from nearcache.testing import ChaosStore, ManualClock

EXAMPLES = int(os.environ.get("NEARCACHE_EXAMPLES", "6"))
STEPS = 30
KEYS = ["a", "b", ("c", b"d")]
PLACES = [(view, key) for view in ("", "view") for key in KEYS]
TAGS = ["t", "u"]
TTLS = [..., None, 10.3, 50.7]
PATIENCE = 0.5  # seconds that a put waits which failed; and no real server takes so long
LEASE = 0.2  # seconds that a load waits for one whose claim was executed and not heard
# under a clock that jumps, what is near stays verified
OPTIONS = Options(link_timeout=1e9, lease=LEASE)

places = st.sampled_from(PLACES)
several = st.lists(places, min_size=1, max_size=4, unique=True)
tags = st.lists(st.sampled_from(TAGS), unique=True)
ttls = st.sampled_from(TTLS)
whose = st.integers(0, 1)
faults = st.sampled_from(["fail", "time_out", "late"])

# A put may be executed late, but never after its deadline, for which its caller waits; a store that
# makes a caller give up at once must not execute it later.
LATE = ["claim", "commit", "commit_and_look", "expect", "revoke", "bump", "release", "epochs"]


class Process:
    """A cache with a connection of its own, whose store can be made to fail."""

    def __init__(self, store: Any, clock: Callable[[], float], face: str) -> None:
        self.store = ChaosStore(store)
        self.root = near_with_clock(clock, self.store, face, ttl=300.0, options=OPTIONS)
        self.caches = {"": self.root, "view": self.root.view("view")}

    def of(self, place: Any) -> Face:
        return self.caches[place[0]]

    def get(self, place: Any, **how: Any) -> Any:
        return self.of(place).get(place[1], MISSING, **how)

    def all(self, **how: Any) -> dict[Any, Any]:
        """What there is, at every place."""
        found = {}
        for view, cache in self.caches.items():
            values = cache.get_batch(KEYS, MISSING, **how)
            found.update(zip([(view, key) for key in KEYS], values, strict=True))
        return found

    @property
    def is_well(self) -> bool:
        every = [cache.get_stats() for cache in self.caches.values()]
        return all(s.breaker == "closed" and not s.undelivered + s.unwritten for s in every)


class CacheMachine(RuleBasedStateMachine):
    """What all stores have in common; a machine for each says ``open``."""

    timed = False  # whether lives end by the clock of the test

    def open(self) -> tuple[Any, Any]:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.processes = [
            Process(store, self.clock, face)
            for store, face in zip(self.open(), ("sync", "async"), strict=True)
        ]
        # place → (value, end, tags); what is not in it is absent
        self.model: dict[Any, tuple[Any, float, frozenset[str]]] = {}
        self.number = self.canaries = 0
        # of a call that met a fault: what there may be afterwards, and how long with which tags
        self.may: dict[Any, list[Any]] = {}
        self.ends: dict[Any, float] = {}
        self.tags: dict[Any, frozenset[str]] = {}

    def teardown(self) -> None:
        for process in getattr(self, "processes", []):
            process.store.calm()
            process.root.close()

    # -- the dict --------------------------------------------------------------------------------

    def value(self, place: Any) -> Any:
        entry = self.model.get(place)
        return MISSING if entry is None or self.clock() >= entry[1] else entry[0]

    def new(self) -> Any:
        self.number += 1
        return None if self.number % 7 == 0 else [self.number]  # None is a value

    def keep(self, place: Any, value: Any, ttl: Any, tags: Iterable[str]) -> None:
        life = 300.0 if ttl is ... else ttl
        end = float("inf") if life is None else self.clock() + life
        self.model[place] = (value, end, frozenset(tags))

    def forget(self, gone: Callable[[Any], bool]) -> None:
        self.model = {place: entry for place, entry in self.model.items() if not gone(place)}

    def tagged(self, view: str, tag: str) -> Callable[[Any], bool]:
        return lambda place: place[0] == view and tag in self.model[place][2]

    def agree(self) -> None:
        """Both caches say what the dict says; who reads through at once, the others soon."""
        wanted = {place: self.value(place) for place in PLACES}
        for process in self.processes:
            assert process.all(max_staleness=0) == wanted
            until(lambda process=process: process.all() == wanted)
        self.all_is_heard()

    def all_is_heard(self) -> None:
        """What is written under a group that another process forgot is lost until it hears of it.

        News come in order: who has heard of the last has heard of all.
        """
        self.canaries += 1
        for process, other in (self.processes, self.processes[::-1]):
            process.root.put("canary", self.canaries)
            until(lambda other=other: other.root.get("canary") == self.canaries)

    # -- while the store is well -------------------------------------------------------------------

    @rule(who=whose, place=places, ttl=ttls, tags=tags)
    def put(self, who, place, ttl, tags):
        value, process = self.new(), self.processes[who]
        process.of(place).put(place[1], value, ttl, tags)
        self.keep(place, value, ttl, tags)
        assert process.get(place) == value
        self.agree()

    @rule(who=whose, batch=several, ttl=ttls, tags=tags)
    def put_batch(self, who, batch, ttl, tags):
        view = batch[0][0]
        items = {place: self.new() for place in batch if place[0] == view}
        process = self.processes[who]
        process.caches[view].put_batch({p[1]: v for p, v in items.items()}, ttl, tags)
        for place, value in items.items():
            self.keep(place, value, ttl, tags)
            assert process.get(place) == value
        self.agree()

    @rule(who=whose, place=places, tags=tags)
    def update(self, who, place, tags):
        there = self.value(place)
        leaves = self.number % 5 == 4
        self.number += 1
        number = self.number

        def change(value: Any) -> Any:
            return MISSING if leaves else [*(value or []), number]

        got = self.processes[who].of(place).update(place[1], change, tags=tags)
        before = None if there is MISSING else there
        if leaves:
            assert got == before
        else:
            assert got == [*(before or []), number]
            if there is MISSING:
                self.keep(place, got, ..., tags)
            else:  # it keeps its life and its tags
                self.model[place] = (got, *self.model[place][1:])
        self.agree()

    @rule(who=whose, batch=several, ttl=ttls, tags=tags, alone=st.booleans())
    def load(self, who, batch, ttl, tags, alone):
        view = batch[0][0]
        batch = [place for place in batch if place[0] == view][: 1 if alone else None]
        cache, asked = self.processes[who].caches[view], {}

        def source(keys: Iterable[Any]) -> dict[Any, Any]:
            asked.update({key: self.new() for key in keys})
            return asked

        if alone:
            key = batch[0][1]
            got = [cache.get_or_load(key, lambda: source([key])[key], ttl, tags)]
        else:
            keys = [key for _, key in batch]
            got = cache.get_or_load_batch(keys, source, ttl, tags, default=MISSING)
        assert set(asked) == {place[1] for place in batch if self.value(place) is MISSING}
        for place, answer in zip(batch, got, strict=True):
            if place[1] in asked:
                self.keep(place, asked[place[1]], ttl, tags)
            assert answer == self.value(place)
        self.agree()

    @rule(who=whose, batch=several)
    def invalidate(self, who, batch):
        view = batch[0][0]
        chosen = [place for place in batch if place[0] == view]
        cache = self.processes[who].caches[view]
        there = sum(self.value(place) is not MISSING for place in chosen)
        if len(chosen) == 1:
            assert cache.invalidate(chosen[0][1]) == bool(there)
        else:
            assert cache.invalidate_batch([key for _, key in chosen]) == there
        self.forget(lambda place: place in chosen)
        self.agree()

    @rule(who=whose, view=st.sampled_from(["", "view"]), tag=st.sampled_from(TAGS))
    def invalidate_by_tag(self, who, view, tag):
        self.processes[who].caches[view].invalidate_by_tag(tag)
        self.forget(self.tagged(view, tag))
        self.agree()

    @rule(who=whose, view=st.sampled_from(["", "view"]))
    def clear(self, who, view):
        self.processes[who].caches[view].clear()
        self.forget(lambda place: place[0] == view)
        self.agree()

    @precondition(lambda self: self.timed)
    @rule(seconds=st.sampled_from([0.5, 7.0, 30.0]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)
        self.agree()

    @rule(who=whose)
    def tidy(self, who):
        self.processes[who].root.cleanup_expired()
        self.agree()

    # -- while it fails ----------------------------------------------------------------------------

    def under(self, fault: str, who: int, act: Callable[[Process], None], *, gone: bool) -> None:
        """Let one call of one process meet a store that fails, and then everything be well.

        gone: whether what was there may not be seen any more, by who called at once.
        """
        process = self.processes[who]
        getattr(process.store, fault)(methods=LATE if fault == "late" else None)
        self.may = {place: [MISSING, self.value(place)] for place in PLACES}
        self.ends, self.tags = {}, {}
        act(process)
        self.check(process.all())
        if not gone:
            self.check(self.processes[1 - who].all())
        self.recover()

    def check(self, found: dict[Any, Any]) -> None:
        for place, got in found.items():
            assert got in self.may[place], (place, got, self.may[place])

    def recover(self) -> None:
        """All is well again: what there is now is one of what there may be, and everybody's."""
        for process in self.processes:
            process.store.calm()
            process.store.deliver()

        self.clock.advance(2 * LEASE)

        def well() -> bool:
            for process in self.processes:
                for cache in process.caches.values():
                    cache.get("who asks finds out whether the store is back")
            if all(process.is_well for process in self.processes):
                return True
            self.clock.advance(0.1)
            return False

        until(well)
        found = self.processes[0].all(max_staleness=0)
        self.check(found)
        for place, got in found.items():
            if got is MISSING:
                self.model.pop(place, None)
            else:
                _, end, tags = self.model.get(place, (None, float("inf"), frozenset()))
                self.model[place] = (got, self.ends.get(place, end), self.tags.get(place, tags))
        self.agree()

    @rule(fault=faults, who=whose, place=places, tags=tags)
    def put_meets_a_fault(self, fault, who, place, tags):
        value = self.new()
        end = self.clock() + 300.0

        def act(process: Process) -> None:
            process.of(place).put(place[1], value, tags=tags)
            self.may[place] = [MISSING, value]
            self.ends, self.tags = {place: end}, {place: frozenset(tags)}

        self.under(fault, who, act, gone=True)

    @rule(fault=faults, who=whose, place=places)
    def invalidate_meets_a_fault(self, fault, who, place):
        def act(process: Process) -> None:
            process.of(place).invalidate(place[1])
            self.may[place] = [MISSING]

        self.under(fault, who, act, gone=True)

    @rule(fault=faults, who=whose, view=st.sampled_from(["", "view"]), tag=st.sampled_from(TAGS))
    def a_tag_meets_a_fault(self, fault, who, view, tag):
        def act(process: Process) -> None:
            process.caches[view].invalidate_by_tag(tag)
            of_tag = self.tagged(view, tag)
            for place in list(self.model):
                if of_tag(place):
                    self.may[place] = [MISSING]

        self.under(fault, who, act, gone=True)

    @rule(fault=faults, who=whose, place=places, tags=tags)
    def update_meets_a_fault(self, fault, who, place, tags):
        self.number += 1
        number, there = self.number, self.value(place)
        new = [*([] if there in (MISSING, None) else there), number]

        def act(process: Process) -> None:
            if there is MISSING:
                self.ends = {place: self.clock() + 300.0}
                self.tags = {place: frozenset(tags)}
            # made or not made; and if it followed from an absence of a store that was not heard
            self.may[place] += [new, [number]]
            try:
                got = process.of(place).update(place[1], lambda v: [*(v or []), number], tags=tags)
            except StoreError:
                return
            assert got in (new, [number])

        self.under(fault, who, act, gone=False)

    @rule(fault=faults, who=whose, place=places, tags=tags)
    def load_meets_a_fault(self, fault, who, place, tags):
        value, there = self.new(), self.value(place)

        def act(process: Process) -> None:
            got = process.of(place).get_or_load(place[1], lambda: value, tags=tags)
            assert got in (value, there)
            self.may[place].append(value)
            if there is MISSING:
                self.ends = {place: self.clock() + 300.0}
                self.tags = {place: frozenset(tags)}

        self.under(fault, who, act, gone=False)

    @rule(fault=faults, who=whose)
    def reads_meet_a_fault(self, fault, who):
        def act(process: Process) -> None:
            self.check(process.all(max_staleness=0))

        self.under(fault, who, act, gone=False)

    @invariant()
    def caches_are_sound(self):
        for process in getattr(self, "processes", []):
            process.root.admin.check()


class MemoryMachine(CacheMachine):
    timed = True

    def open(self) -> tuple[Any, Any]:
        store = MemoryStore(clock=self.clock)
        return store, store


MODEL = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a step that fails waits for long
    suppress_health_check=list(HealthCheck),
)


def played(machine: type[CacheMachine], examples: int = EXAMPLES) -> None:
    run_state_machine_as_test(machine, settings=settings(MODEL, max_examples=examples))


def test_one_process_and_another_with_a_store_in_memory():
    played(MemoryMachine)


def test_with_an_sqlite_file(tmp_path):
    class SQLiteMachine(CacheMachine):
        count = 0

        def open(self) -> tuple[Any, Any]:
            SQLiteMachine.count += 1
            path = tmp_path / f"{SQLiteMachine.count}.db"
            return SQLiteStore(path, timeout=PATIENCE), SQLiteStore(path, timeout=PATIENCE)

    played(SQLiteMachine, max(2, EXAMPLES // 4))


def test_with_a_server(one_server):
    class ServerMachine(CacheMachine):
        def open(self) -> tuple[Any, Any]:
            one_server.flush()
            return tuple(RedisStore(one_server.url, timeout=PATIENCE) for _ in range(2))

    played(ServerMachine, max(2, EXAMPLES // 4))
