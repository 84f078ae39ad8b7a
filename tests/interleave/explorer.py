"""An explorer of interleavings: it owns every point at which the engine may wait.

The real engine runs on a scripted ``io``: whenever it would ask the store, call the loader, wait
for a flight or sleep, it yields to the explorer, which decides which coroutine goes on. Requests
and replies are separate steps, so anything may happen while either is on its way.

What the processes are, what happens to them and what they may see is the matter of a *world*:
``vectors.py`` for values that never change, ``values.py`` for those that do.
"""

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from nearcache.errors import StoreError
from nearcache.testing import ManualClock

__all__ = ["Cancelled", "Explorer", "NoThread", "Op", "Programs", "ScriptedIO", "Task", "pause"]

_MOST_STEPS = 5000
Op = tuple  # (name, *arguments)
Programs = Sequence[tuple[int, Sequence[Op]]]
"""What each caller does, and in which process."""


class Cancelled(BaseException):
    """What the explorer throws into a call that it cancels."""


@types.coroutine
def pause(ready: Callable[[], bool] | None = None, *, asleep: float = 0.0, patience: float = 0.0):
    """Let the explorer choose; the coroutine may go on once ``ready`` says so.

    One with ``patience`` goes on as well when nobody else can, or when it is hurried: time is up.
    """
    yield ready, asleep, patience


@dataclass(eq=False)
class Task:
    coroutine: object
    caller: bool = False  # may be cancelled
    daemon: bool = False  # need not end; what it has to do is done before the run ends
    late: bool = False  # nobody waits for it: it may come long after
    ready: Callable[[], bool] | None = None
    asleep: float = 0.0
    patience: float = 0.0
    hurried: bool = False
    slept_at: int = 0
    steps: int = 0
    done: bool = False
    result: object = None
    error: BaseException | None = None
    ended: Callable[[], None] = lambda: None

    def may_go_on(self) -> bool:
        return self.ready is None or self.hurried or self.ready()


@dataclass(frozen=True)
class Aside:
    """What goes on beside a call."""

    task: Task

    def result(self) -> None:
        if self.task.error is not None:
            raise self.task.error

    def add_done_callback(self, call):
        assert not self.task.done, "a task begins in a later step"
        before = self.task.ended

        def ended():
            before()
            call(self)

        self.task.ended = ended


class ScriptedIO:
    """The engine's port: every wait is a choice of the explorer's."""

    loop = None

    def __init__(self, world: "Explorer", process: int) -> None:
        self.world, self.process = world, process

    async def store(self, ask, *arguments):
        await pause()
        try:
            answer = self.asked(ask, *arguments)
        except StoreError:
            await pause()
            raise
        await pause()
        return answer

    def asked(self, ask, *arguments):
        """Ask the store, in whatever state it is."""
        return ask(*arguments)

    async def load(self, loader, inputs, flight):
        await pause()
        output = loader.call(inputs)
        await pause()
        return output

    async def gather(self, steps, limit):
        tasks: list[Task] = []
        for step in steps:
            if sum(not task.done for task in tasks) >= limit:
                await pause(lambda: sum(not task.done for task in tasks) < limit)
            if any(task.error for task in tasks):
                break
            tasks.append(self.world.start(step.start(), ended=step.ended))
        await pause(lambda: all(task.done for task in tasks))
        for task in tasks:
            if task.error is not None:
                raise task.error
        return [task.result for task in tasks]

    async def complete(self, work):
        task = self.world.start(work, ended=self.completing())
        await pause(lambda: task.done)
        if task.error is not None:
            raise task.error
        return task.result

    def completing(self) -> Callable[[], None]:
        """Hear that work begins that goes on whatever its caller does; return what ends it."""
        return lambda: None

    def background(self, work):
        self.world.start(work(self))

    def aside(self, work, loader):
        return Aside(self.world.start(work(self)))

    async def ended(self, work, seconds):
        await pause(lambda: work.task.done, patience=seconds or 0.0)
        return work.task.done

    def leave(self, work):
        """It goes on."""

    async def wait(self, flight, ready, seconds=None):
        await pause(ready, patience=seconds or 0.0)
        return True

    async def sleep(self, seconds):
        await pause(asleep=seconds)


class NoThread:
    """A lease keeper without its thread: that a lease ends is the explorer's choice."""

    def holding(self, keys, token):
        return nullcontext()

    def start_anew(self):
        pass


class Explorer:
    """Tasks that wait for their turn, a clock that stands still, and what happened so far."""

    expected: tuple[type[BaseException], ...] = (Cancelled,)
    """What may end a task without being wrong."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tasks: list[Task] = []
        self.stale: list[str] = []
        self.trace: list[str] = []
        self.now = 0
        self.last: Task | None = None  # who went on last

    def start(
        self, coroutine, *, caller=False, daemon=False, late=False, ended=lambda: None
    ) -> Task:
        task = Task(coroutine, caller, daemon, late, ended=ended)
        self.tasks.append(task)
        return task

    def runnable(self) -> list[Task]:
        waiting = [t for t in self.tasks if not t.done]
        tasks = [t for t in waiting if t.ready is None or t.hurried or t.ready()]
        awake = [t for t in tasks if not t.asleep or t.slept_at < self.now]
        return awake or tasks or [t for t in waiting if t.patience]

    def step(self, task: Task, *, cancel: bool = False) -> None:
        self.now += 1
        self.last = task
        if task.asleep:
            self.clock.advance(task.asleep)
        elif task.patience and not cancel and not task.may_go_on():
            self.clock.advance(task.patience)
        task.hurried = False
        task.steps += 1
        try:
            if cancel:
                waits = task.coroutine.throw(Cancelled())
            else:
                waits = task.coroutine.send(None)
            task.ready, task.asleep, task.patience = waits
            task.slept_at = self.now
        except StopIteration as stop:
            task.done, task.result = True, stop.value
            task.ended()
        except (Exception, Cancelled) as error:
            task.done, task.error = True, error
            task.ended()

    def run(
        self,
        choose: Callable[[Sequence[Task]], int],
        upset: Callable[["Explorer"], None] | None = None,
    ) -> None:
        """Run to the end; ``choose`` picks the next task, ``upset`` may interfere before a step."""
        for _ in range(_MOST_STEPS):
            tasks = self.runnable()
            if not tasks:
                break
            if upset is not None:
                upset(self)
                tasks = self.runnable()
            if tasks:
                self.step(tasks[choose(tasks)] if len(tasks) > 1 else tasks[0])
        else:
            raise AssertionError("no end in sight: a livelock")
        for task in self.tasks:
            if task.error is not None and not isinstance(task.error, self.expected):
                raise task.error
        self.tasks = [task for task in self.tasks if not task.done]
        assert all(task.daemon for task in self.tasks), "everybody waits: a deadlock"

    def alone(self, coroutine):
        """Run one coroutine while nothing else happens."""
        task = self.start(coroutine)
        self.run(lambda _: 0)
        return task.result

    async def program(self, process: int, ops: Sequence[Op]) -> None:
        for op in ops:
            try:
                await self.do(process, op)
                await pause()  # what near answers is answered in one step: let it come when it may
            except Cancelled:
                self.trace.append(f"{self.now}: process {process} {op} cancelled")

    async def do(self, process: int, op: Op) -> None:
        """Do one thing."""
        raise NotImplementedError

    def cancel(self, choose: Callable[[Sequence[Task]], Task]) -> None:
        """Cancel one of the calls under way, if there are any."""
        under_way = [
            t for t in self.tasks if t.caller and not t.done and t.coroutine.cr_await is not None
        ]
        if under_way:
            self.step(choose(under_way), cancel=True)

    def settle(self) -> None:
        """When all is quiet: see what is left."""
        raise NotImplementedError

    @staticmethod
    def exhaustively(
        prepared: Callable[[], "Explorer"], *, most: int, detours: int | None = None
    ) -> Iterator["Explorer"]:
        """Every schedule of a world, made anew each time, depth first, at most ``most`` of them.

        detours: how often, at most, something else happens than that the last task goes on, or
            the newest that can; what goes wrong seldom needs more than two. None for any number.
        """
        prefix: list[int] = []
        for _ in range(most):
            taken: list[tuple[int, int]] = []
            world = prepared()
            choose = _Depth(world, prefix, taken, detours)
            world.run(choose)
            world.settle()
            yield world
            while taken and taken[-1][0] + 1 == taken[-1][1]:
                taken.pop()
            if not taken:
                return
            prefix = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1]


class _Depth:
    """Chooses the choices of ``prefix``, then the first each time; ``taken`` hears of all."""

    def __init__(
        self,
        world: Explorer,
        prefix: Sequence[int],
        taken: list[tuple[int, int]],
        detours: int | None,
    ) -> None:
        self._world, self._prefix, self._taken, self._detours = world, prefix, taken, detours

    def __call__(self, tasks: Sequence[Task]) -> int:
        order = range(len(tasks))
        if self._detours is not None:
            last = self._world.last
            order = sorted(order, key=lambda i: (tasks[i] is not last, -i))
            if not self._detours:
                return order[0]
        at = len(self._taken)
        choice = self._prefix[at] if at < len(self._prefix) else 0
        self._taken.append((choice, len(order)))
        if choice and self._detours is not None:
            self._detours -= 1
        return order[choice]
