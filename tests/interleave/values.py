"""Worlds of values that change: several processes, one store, and a link each.

Each process is a face of a NearCache with an engine, a near tier and a ``Tracked`` of its own. The
explorer does what the threads of a process do: a *wire* stands in for its link, so the delivery of
each change, of each answer to a ping, the loss of the link and its return are choices; a task runs
what the verifying thread would. A *nature* does the rest: time jumps, stores fail and hear late,
lose what they have and are flushed, calls are cancelled, waits time out.

Every value tells its version, who put it, whether it has the tag, and how many updates led to it.
Whoever changes the source raises the version first. An answer is *stale* if it is older than a
change

- whose call had returned, in this process, when the call that got the answer began;
- that had been delivered, anywhere, when a call that reads through began;
- that had been delivered and whose push this process had handled by then;
- that had been delivered T before,

a change being delivered once its call returned and it waits in no queue. Of two changes that
overlap either may be the later one, so a value put by one of them is excused. What an update
follows from was read through; one that is told that the store failed may have been made, or not.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from interleave.explorer import Cancelled, Explorer, NoThread, Op, Programs, ScriptedIO, Task, pause
from nearcache.caches.near_async import AsyncNearCache
from nearcache.caches.values import ValueTiers
from nearcache.coherence.link import Epoch, State
from nearcache.engine.held import HELD_VERSION, is_expired, value_of
from nearcache.engine.tracked import Tracked
from nearcache.entry import MISSING, Loaded
from nearcache.errors import StoreError, StoreTimeout
from nearcache.options import Options
from nearcache.stores.base import EVERYTHING, PONG, Changed, version_of
from nearcache.testing import ChaosStore, MemoryStore

__all__ = [
    "KEYS",
    "LEASE",
    "TAG",
    "Setting",
    "T",
    "World",
    "at_random",
    "exhaustively",
    "prepared",
    "scene",
]

KEYS = ("k0", "k1")
TAG = "t"
T = 30.0  # longer than a store that failed is left alone
LEASE = 10.0
BREAK = 1.0  # longer than a store that failed is left alone, too
READS = {"get", "fresh", "load", "load fresh", "load tagged", "load named", "load bad"}


class BadDay(Exception):
    """What a loader raises."""


# -- values --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """One version of a key's value; ``put`` is the number of the change that put it, -1 if none."""

    key: str
    version: int
    tagged: bool = False
    put: int = -1
    updates: int = 0

    def __str__(self) -> str:
        return f"{self.key} {self.version} {self.tagged:d} {self.put} {self.updates}"

    @staticmethod
    def read(text: str) -> "Value":
        key, version, tagged, put, updates = text.split()
        return Value(key, int(version), tagged == "1", int(put), int(updates))


@dataclass(eq=False)
class Change:
    """A put or an invalidation; ``started`` and the like are steps of the world."""

    number: int
    process: int
    op: Op
    versions: dict[str, int]
    names: Sequence[bytes]
    started: int
    returned: int | None = None
    ended: int | None = None  # the work of one that was cancelled goes on
    delivered: int | None = None
    delivered_at: float = 0.0
    heard: dict[int, int] = field(default_factory=dict)  # by process

    def concerns(self, value: Value) -> bool:
        """Whether it ends the value's version, or one like it."""
        return value.version < self.versions.get(value.key, 0) and (
            value.tagged or self.op[0] != "tag"
        )


@dataclass(eq=False)
class Call:
    process: int
    op: Op
    started: int
    at: float


# -- what stands in for threads ------------------------------------------------------------------


class ValueIO(ScriptedIO):
    """The port of a process, whose store may be told to answer late."""

    def asked(self, ask, *arguments):
        try:
            return ask(*arguments)
        except StoreTimeout:
            self.world.processes[self.process].put_off()
            raise


class CallIO(ValueIO):
    """The port of one call, which knows when all the work it began has ended."""

    def __init__(self, world: "World", process: int) -> None:
        super().__init__(world, process)
        self.busy = 1
        self.over: Callable[[], None] = lambda: None

    def completing(self) -> Callable[[], None]:
        self.busy += 1
        return self.one_ended

    def one_ended(self) -> None:
        self.busy -= 1
        if not self.busy:
            self.over()


class Wire:
    """A process's link without its thread: it hears and loses what the explorer says."""

    def __init__(self, world: "World", process: int, tracked: Tracked, prefixes) -> None:
        self.world, self.process, self.tracked, self.prefixes = world, process, tracked, prefixes
        self.state = State.CLOSED
        self.stream = None
        self.linked = False  # and the process knows
        self._forget()

    def _forget(self) -> None:
        self.inbox: deque = deque()
        self.pings: deque[float] = deque()
        self.handled = 0
        self._marks: deque[tuple[int, Change]] = deque()

    # what Tracked asks of a link

    def leave(self, member) -> None:
        if self.stream is not None:
            self.stream.close()

    def has_others(self, member) -> bool:
        """Say whether there are other caches of this process: there are none."""
        return False

    def dispatch(self, names, but=None) -> None:
        """Tell the other caches of this process: there are none."""

    # what becomes of it

    def open(self) -> None:
        self._opened_at, self._opened = self.world.clock(), self.world.now
        self.stream = self.world.store.stream()
        self.stream.open(self.prefixes, 0.0)

    def link(self) -> None:
        self.epoch, self.linked = Epoch(self._opened_at), True
        self.tracked.linked(self.epoch)

    def fail(self) -> None:
        """End without anybody's noticing; nothing that happens from here on is heard."""
        self.stream.close()
        self.stream = None
        self._forget()

    def lose(self) -> None:
        self.linked = False
        self.tracked.lost("by the explorer")

    async def relink(self) -> None:
        """Fail, be found out, and come back."""
        if self.linked and self.stream is not None:
            self.fail()
            await pause()
            self.lose()
            await pause()
            self.open()
            await pause()
            self.link()

    def ping(self) -> None:
        if self.linked and self.stream is not None:
            self.stream.ping()
            self.pings.append(self.world.clock())

    # hearing

    def has_news(self) -> bool:
        return self.linked and self.stream is not None and bool(self.inbox or self.stream.queue)

    def deliver(self) -> None:
        message, count = self._next()
        self.world.note("process %d hears %s", self.process, message)
        self.handled += count
        if message is PONG:
            self.epoch.heard = self.pings.popleft()
        elif message is EVERYTHING:
            self.tracked.everything_changed()
        else:
            self.tracked.changed(message.names)
        while self._marks and self._marks[0][0] <= self.handled:
            self._marks.popleft()[1].heard[self.process] = self.world.now

    def _next(self) -> tuple[object, int]:
        """The next message, and how many it was before the server made one of them."""
        if self.stream.queue:
            self.inbox += self.stream.read(0)
        message, count = self.inbox.popleft(), 1
        if isinstance(message, Changed) and self.world.setting.coalesces:
            names = dict.fromkeys(message.names)
            while self.inbox and isinstance(self.inbox[0], Changed):
                names.update(dict.fromkeys(self.inbox.popleft().names))
                count += 1
            message = Changed(list(names))
        return message, count

    def mark(self, change: Change) -> None:
        """Note that what has been said by now includes this change."""
        if self.stream is not None and self._opened < change.started:
            behind = len(self.inbox) + len(self.stream.queue)
            if behind:
                self._marks.append((self.handled + behind, change))
            elif self.linked:
                change.heard[self.process] = self.world.now

    async def run(self) -> None:
        while True:
            await pause(self.has_news)
            self.deliver()


class Process:
    """One process: cache, wire, and the task that verifies."""

    def __init__(self, world: "World", number: int, setting: "Setting") -> None:
        self.number = number
        self.chaos = ChaosStore(world.store, seed=number)
        arguments = {
            "store": self.chaos, "namespace": "n", "codec": "json", "type": None,
            "max_entries": 100, "max_bytes": None, "ttl": setting.ttl, "policy": "lru",
            "options": Options(
                lease=LEASE, link_timeout=T, max_batch=setting.max_batch,
                stale_while_revalidate=setting.stale, fail_safe=setting.fail_safe,
                early_refresh=setting.early,
            ),
        }  # fmt: skip
        self.tiers = ValueTiers(arguments, clock=world.clock)
        self.shelf, self.engine = self.tiers.shelf, self.tiers.engine
        self.tracked = self.shelf.tracked
        self.tracked.keeper = NoThread()
        self.wire = Wire(world, number, self.tracked, self.shelf.keys.prefixes)
        self.tracked._link = self.wire
        self.tracked.lookout.verify = self._verify_later
        self.tracked.access.delivery.wake = lambda _: None
        hurry = self.tracked.access.hurry
        self.tracked.access.hurry = lambda _: hurry(self.io)  # not in a thread
        self.io = ValueIO(world, number)
        self._world, self._verifying, self._late = world, False, 0
        self._hearing = world.start(self.wire.run(), daemon=True)

    def face(self, io: ScriptedIO) -> AsyncNearCache:
        return AsyncNearCache._face(self.tiers, io)

    def _verify_later(self, names: Sequence[bytes]) -> None:
        """Do what the thread does that looks again at near copies."""
        self.tracked.lookout.waiting.update(dict.fromkeys(names))
        if names and not self._verifying:
            self._verifying = True
            self._world.start(self._verify(), daemon=True)

    async def _verify(self) -> None:
        waiting = self.tracked.lookout.waiting
        await pause()
        while waiting:
            names = list(waiting)
            waiting.clear()
            await self.tracked.lookout.look_again(self.io, names)
        self._verifying = False

    def put_off(self) -> None:
        """Let be executed late what the store was asked and its caller has given up."""
        if self.chaos.pending > self._late:
            self._late += 1
            self._world.start(self._execute(), daemon=True, late=True)

    async def _execute(self) -> None:
        await pause()
        self._late -= 1
        self.chaos.deliver(1)

    def end(self) -> None:
        """Close, and hear no more."""
        self._world.alone(self.tiers.close(self.io))
        self._hearing.coroutine.close()
        self._hearing.done = True

    def near(self, key: str) -> tuple[str, bytes] | None:
        """The value and version of a near copy that would be served now, and not to stand in."""
        held = self.shelf.near.tier.get(self.shelf.near_key(key))
        since = self.engine.clock() - self.shelf.bound
        if held is None or not self.shelf.servable(held, since):
            return None
        if is_expired(held, self.engine.clock()):
            return None
        return value_of(held), held[HELD_VERSION]

    def check(self) -> None:
        """Nothing is left over."""
        self.engine.check()
        tracked = self.tracked
        assert not tracked.access.undelivered, "all that was queued has been delivered"
        assert not len(tracked.bells), "nobody waits for a bell any more"
        assert not tracked.lookout.echoes, "every echo was heard"
        assert not tracked.lookout.loading, "no load is under way"
        assert not tracked.lookout.waiting, "all has been looked at"


# -- the world -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all processes of a world are like."""

    processes: int = 2
    ttl: float | None = None
    stale: float = 0.0  # seconds that what has expired is the answer while it is loaded
    fail_safe: float = 0.0  # seconds that it is when that fails
    early: float = 0.0  # fraction of the ttl
    max_batch: int = 256
    linked: bool = True  # from the start
    coalesces: bool = False  # several changes of one name, heard late, are told once


class World(Explorer):
    """Processes, one store, and what happened so far."""

    expected = (Cancelled, BadDay)

    def __init__(self, setting: Setting, store: MemoryStore | None = None) -> None:
        super().__init__()
        self.store = MemoryStore() if store is None else store  # an empty one is false
        self.store._clock = self.clock
        self.setting = setting
        self.version = dict.fromkeys(KEYS, 1)
        # by key: at which step it got each of its versions, from 1 on
        self.raised = {key: [0, 0] for key in KEYS}
        self.changes: list[Change] = []
        self._undelivered: list[Change] = []
        self._read_through: list[tuple[int, Value]] = []
        self.sure = self.unsure = 0  # updates that were made; that may have been
        self.choose: Callable[[Sequence[Task]], int] = lambda _: 0
        self.processes = [Process(self, number, setting) for number in range(setting.processes)]
        first = self.processes[0].shelf
        self.names = {key: first.keys.name(key) for key in KEYS}
        self.tag, self.everything = first.tag(TAG).name, first.keys.groups[0]

    def note(self, text: str, *values: object) -> None:
        self.trace.append((self.now, text, values))

    def told(self) -> str:
        """The trace, to read."""
        return "\n".join(
            f"{line[0]}: {line[1] % line[2]}" if isinstance(line, tuple) else line
            for line in self.trace
        )

    def step(self, task: Task, *, cancel: bool = False) -> None:
        super().step(task, cancel=cancel)
        if self._undelivered:
            self._look_for_delivered()

    def _look_for_delivered(self) -> None:
        for change in list(self._undelivered):
            access = self.processes[change.process].tracked.access
            if any(name in access._texts or name in access._groups for name in change.names):
                continue
            self._undelivered.remove(change)
            change.delivered, change.delivered_at = self.now, self.clock()
            for process in self.processes:
                process.wire.mark(change)

    # -- what the callers do ---------------------------------------------------------------------

    async def do(self, process: int, op: Op) -> None:
        name, *rest = op
        if name in NATURE:
            self.note("%s", op)
            done = NATURE[name](self, *rest)
            if done is not None:
                await done
            return
        call = Call(process, op, self.now, self.clock())
        self.note("process %d %s", process, op)
        io = CallIO(self, process)
        face = self.processes[process].face(io)
        try:
            if name in READS:
                await self._read(face, call)
            else:
                await self._change(face, io, call)
        except BadDay:
            self.note("process %d %s: the loader failed", process, op)
        except (StoreError, Cancelled) as error:
            self.unsure += name == "update"
            if name != "update" or isinstance(error, Cancelled):
                raise
            self.note("process %d %s: %r", process, op, error)
        finally:
            io.one_ended()

    async def _read(self, face: AsyncNearCache, call: Call) -> None:
        name, *keys = call.op
        staleness = 0 if "fresh" in name else None
        if not name.startswith("load"):
            answers = [await face.get(keys[0], MISSING, max_staleness=staleness)]
        else:
            tags = [TAG] if "tagged" in name else []
            named = "named" in name

            def loader(wanted: Sequence[str]):
                if "bad" in name:
                    raise BadDay
                values = {k: Value(k, self.version[k], bool(tags) or named) for k in wanted}
                return {k: Loaded(str(v), tags=[TAG] if named else ()) for k, v in values.items()}

            if len(keys) == 1:
                key = keys[0]
                answers = [
                    await face.get_or_load(
                        key, lambda: loader([key])[key], tags=tags, max_staleness=staleness
                    )
                ]
            else:
                answers = await face.get_or_load_batch(
                    keys, loader, tags=tags, max_staleness=staleness, default=MISSING
                )
        for key, answer in zip(keys, answers, strict=True):
            self.note("process %d %s is answered %s", call.process, call.op, answer)
            if answer is not MISSING:
                value = Value.read(answer)
                assert value.key == key, f"{value} is not of {key}"
                self._answered(call, value)

    async def _change(self, face: AsyncNearCache, io: CallIO, call: Call) -> None:
        name, *keys = call.op
        names = {"tag": [self.tag], "clear": [self.everything]}.get(name)
        touched = keys or KEYS
        for key in touched:
            self.version[key] += 1
            self.raised[key].append(self.now)
        change = Change(
            len(self.changes), call.process, call.op, {key: self.version[key] for key in touched},
            names or [self.names[key] for key in keys], self.now,
        )  # fmt: skip
        self.changes.append(change)

        def ended() -> None:
            change.ended = self.now

        io.over = ended
        if name.startswith("put"):
            tagged = name == "put tagged"
            values = {k: str(Value(k, self.version[k], tagged, change.number)) for k in keys}
            await face.put_batch(values, tags=[TAG] if tagged else [])
        elif name == "update":
            await self._update(face, call, change)
        elif name == "invalidate":
            await face.invalidate_batch(keys)
        elif name == "tag":
            await face.invalidate_by_tag(TAG)
        else:
            await face.clear()
        self.now += 1
        change.returned = self.now
        self.note("process %d %s returned", call.process, call.op)
        self._undelivered.append(change)
        self._look_for_delivered()
        self.now += 1

    async def _update(self, face: AsyncNearCache, call: Call, change: Change) -> None:
        (key,) = change.versions
        began = [self.now, self.clock()]

        def follow(text: str | None) -> str:
            before = None if text is None else Value.read(text)
            self.note("process %d %s follows from %s", call.process, call.op, before)
            if before is not None:
                self._answered(Call(call.process, ("fresh", key), *began), before)
            began[:] = self.now, self.clock()
            tagged, updates = (before.tagged, before.updates) if before else (False, 0)
            return str(Value(key, change.versions[key], tagged, change.number, updates + 1))

        await face.update(key, follow)
        self.sure += 1

    def updates(self, key: str) -> int:
        """How many updates led to what the store has in the end."""
        value = self.stored[key]
        return 0 if value is MISSING else Value.read(value).updates

    # -- what they may see -----------------------------------------------------------------------

    def _excused(self, value: Value, step: int) -> bool:
        """Whether a value was put by a change that overlaps what happened from ``step`` on."""
        if value.put < 0:
            return False
        put = self.changes[value.put]
        return put.ended is None or put.ended > step

    def _too_old(self, value: Value, change: Change) -> bool:
        return change.concerns(value) and not self._excused(value, change.started)

    def _answered(self, call: Call, value: Value) -> None:
        fresh = "fresh" in call.op[0]
        for change in self.changes:
            if change.returned is None or not self._too_old(value, change):
                continue
            why = ""
            if change.process == call.process and change.returned < call.started:
                why = "of this process"
            elif change.delivered is None:
                continue
            elif fresh and change.delivered < call.started:
                why = "though it read through"
            elif change.heard.get(call.process, call.started) < call.started:
                why = "that this process had heard of"
            elif call.at >= change.delivered_at + T:
                why = "more than T ago"
            if why:
                self.stale.append(f"{call} was given {value}, after {change} {why}")
        if call.op[0] == "fresh":
            for step, newer in self._read_through:
                if (
                    step < call.started
                    and newer.key == value.key
                    and newer.version > value.version
                    and not self._excused(value, self.raised[value.key][newer.version])
                ):
                    self.stale.append(f"{call} was given {value} although {newer} was seen before")
            self._read_through.append((self.now, value))

    # -- when all is quiet -------------------------------------------------------------------------

    def settle(self) -> None:
        self.note("all is quiet")
        for process in self.processes:
            process.chaos.calm()
            wire = process.wire
            if wire.linked and wire.stream is None:
                wire.lose()
            if not wire.linked:
                if wire.stream is None:
                    wire.open()
                wire.link()
        self._drain()
        for _ in range(3):
            behind = [p for p in self.processes if not p.tracked.access._breaker.allows()]
            behind += [p for p in self.processes if p.tracked.access.undelivered]
            if not behind:
                break
            self.clock.advance(BREAK)
            for process in behind:
                self.alone(process.face(process.io).get("something else"))
        observer = Process(self, 0, self.setting)
        look = observer.face(observer.io)
        stored = {key: self.alone(look.get(key, MISSING)) for key in KEYS}
        self.stored = stored
        for key, answer in stored.items():
            self._left("the store", key, answer)
        for process in self.processes:
            for key in KEYS:
                near = process.near(key)
                if near is not None:
                    self._compare(process, key, near, stored[key])
        for process in self.processes:
            for key in KEYS:
                answer = self.alone(process.face(process.io).get(key, MISSING))
                if answer != stored[key]:
                    self.stale.append(
                        f"process {process.number} reads {key} as {answer}, not {stored[key]}"
                    )
        for process in [*self.processes, observer]:
            if not self.stale:
                process.check()
            process.end()

    def _drain(self) -> None:
        self.run(lambda _: 0)

    def _left(self, where: str, key: str, answer: object) -> None:
        if answer is MISSING:
            return
        value = Value.read(answer)
        for change in self.changes:
            # one that never returned (cancelled) promised nothing
            if change.returned and self._too_old(value, change):
                self.stale.append(f"{where} keeps {key} as {value}, after {change}")

    def _compare(self, process: Process, key: str, near: tuple[str, bytes], stored: object) -> None:
        text, version = near
        there = version_of(self.store.look([self.names[key]], []).values[0])
        self._left(f"near of process {process.number}", key, text)
        if text != stored or version != there:
            self.stale.append(
                f"near of process {process.number} keeps {key} as {text}, not {stored}"
            )


# -- nature --------------------------------------------------------------------------------------


def _outage(world: World, process: int, kind: str, *methods: str) -> None:
    chaos = world.processes[process].chaos
    chaos.calm()
    if kind:
        start = {"unreachable": chaos.fail, "mute": chaos.time_out, "late": chaos.late}[kind]
        start(methods=methods or None)


def _evict_epoch(world: World, which: str) -> None:
    """Let the store lose an epoch, and say so, as servers do."""
    name = world.tag if which == "tag" else world.everything
    if world.store._epochs.pop(name, None):
        world.store._announcer.tell([name])


def _evict(world: World, key: str) -> None:
    world.store.edit(lambda name, value: None if name == world.names[key] else value)


def _hurry(world: World) -> None:
    """Let a wait time out early."""
    waiting = [task for task in world.tasks if task.patience and not task.done]
    if waiting:
        waiting[world.choose(waiting)].hurried = True


def _cancel(world: World) -> None:
    world.cancel(lambda tasks: tasks[world.choose(tasks)])


NATURE: dict[str, Callable] = {
    "ping": lambda world, process: world.processes[process].wire.ping(),
    "relink": lambda world, process: world.processes[process].wire.relink(),
    "outage": _outage,
    "flush": lambda world: world.store.flush(),
    "evict": _evict,
    "evict epoch": _evict_epoch,
    "jump": lambda world, seconds: world.clock.advance(seconds),
    "hurry": _hurry,
    "cancel": _cancel,
}


# -- schedules -----------------------------------------------------------------------------------


def prepared(
    programs: Programs, *, warm: Programs = (), setting: Setting = Setting(), store=None
) -> World:
    """A world whose processes know of everything, did ``warm``, and are about to run."""
    world = World(setting, store)
    world.store.epochs([world.everything], None)  # else who makes it would hear of it
    for process in world.processes:
        if setting.linked:
            process.wire.open()
            process.wire.link()
        world.alone(process.face(process.io).get("something else"))
    for process, ops in warm:
        world.alone(world.program(process, ops))
    world.trace.clear()
    for process, ops in programs:
        world.start(world.program(process, ops), caller=ops[0][0] not in NATURE)
    return world


_CALLS = {
    "get": 4, "fresh": 2, "load": 4, "load tagged": 3, "load named": 2, "load fresh": 1,
    "load bad": 1, "put": 3, "put tagged": 2, "update": 3, "invalidate": 4, "tag": 2, "clear": 1,
}  # fmt: skip


def _call(rng: random.Random, keys: Sequence[str]) -> Op:
    (name,) = rng.choices(list(_CALLS), _CALLS.values())
    if name in ("tag", "clear"):
        return (name,)
    if name not in ("get", "fresh", "update") and rng.random() < 0.2:
        return (name, *keys)
    return (name, rng.choice(keys))


_METHODS = [
    "commit",
    "commit_and_look",
    "put",
    "put",
    "revoke",
    "bump",
    "claim",
    "look",
    "heads",
    "epochs",
    "now",
]


def _event(rng: random.Random, theme: str, processes: int) -> Sequence[Op]:
    process = rng.randrange(processes)
    if theme == "links":
        return [("relink", process)] if rng.random() < 0.7 else [("ping", process)]
    if theme == "outages":
        kind = rng.choice(["unreachable", "mute", "late", "late"])
        methods = [rng.choice(_METHODS)] if rng.random() < 0.6 else []
        return [("outage", process, kind, *methods), ("outage", process, ""), ("jump", BREAK)]
    if theme == "losses":
        which = [("flush",), ("evict", rng.choice(KEYS)), ("evict epoch", "tag")]
        return [rng.choice([*which, ("evict epoch", "everything")])]
    if theme == "time":
        return [("jump", rng.choice([1.0, 0.6 * T, T, LEASE + 1])), ("ping", process)]
    return [rng.choice([("hurry",), ("cancel",)])]


def random_programs(rng: random.Random, processes: int) -> Programs:
    keys = rng.choice([KEYS[:1], KEYS])
    programs = [
        (rng.randrange(processes), [_call(rng, keys) for _ in range(rng.choice([1, 1, 2, 3]))])
        for _ in range(rng.choice([2, 2, 3, 4]))
    ]
    themes = ["links", "links", "outages", "outages", "losses", "time", "calls"]
    for theme in rng.sample(themes, rng.choice([0, 1, 1, 1, 2])):
        events = [e for _ in range(rng.randint(1, 3)) for e in _event(rng, theme, processes)]
        programs.append((0, events))
    return programs


def at_random(seed: int, *, store=None) -> World:
    """One random schedule of random programs, in a random nature."""
    rng = random.Random(seed)
    setting = Setting(
        processes=rng.choice([2, 2, 2, 3]), ttl=rng.choice([None, None, 20.5, 20.5]),
        stale=rng.choice([0.0, 0.0, 15.0, 100.0]), fail_safe=rng.choice([0.0, 0.0, 50.0]),
        early=rng.choice([0.0, 0.0, 0.5]),
        max_batch=rng.choice([1, 256]), linked=rng.random() < 0.9, coalesces=rng.random() < 0.3,
    )  # fmt: skip
    programs = random_programs(rng, setting.processes)
    both = rng.choice([("load", *KEYS), ("load tagged", *KEYS), ("put", *KEYS)])
    warmed = rng.choice([0, 0, rng.randint(1, setting.processes)])
    warm = [(process, [both]) for process in range(warmed)]
    world = prepared(programs, warm=warm, setting=setting, store=store)
    return played(world, rng)


def scene(
    seed: int, programs: Programs, *, warm: Programs = (), setting: Setting = Setting(), store=None
) -> World:
    """One random schedule of these programs."""
    world = prepared(programs, warm=warm, setting=setting, store=store)
    return played(world, random.Random(seed))


def played(world: World, rng: random.Random) -> World:
    """A world at its end, after a random schedule.

    In some the threads of a process come to little; in some everybody goes on for a while.
    """
    lazy, steady = rng.choice([0.0, 0.5, 0.9]), rng.choice([0.0, 0.0, 0.7, 0.9])

    def choose(tasks: Sequence[Task]) -> int:
        if steady and rng.random() < steady and world.last in tasks:
            return tasks.index(world.last)
        choice = rng.randrange(len(tasks))
        while tasks[choice].daemon and rng.random() < (0.9 if tasks[choice].late else lazy):
            choice = rng.randrange(len(tasks))
        return choice

    world.choose = lambda tasks: rng.randrange(len(tasks))
    world.run(choose)
    world.settle()
    return world


def exhaustively(
    programs: Programs,
    *,
    warm: Programs = (),
    setting: Setting = Setting(),
    most: int,
    detours: int = 2,
    store: Callable[[], MemoryStore] | None = None,
) -> Iterator[World]:
    """Every schedule of the programs with a few detours, at most ``most`` of them."""

    def world() -> World:
        made = None if store is None else store()
        return prepared(programs, warm=warm, setting=setting, store=made)

    return Explorer.exhaustively(world, most=most, detours=detours)
