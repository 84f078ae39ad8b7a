"""The one small port through which the engine waits: blocking, or on an event loop.

The engine is written as ``async def`` once. Under ``AsyncIO`` it really suspends; under
``BlockingIO`` every wait blocks inside, so that :func:`run` drives the same coroutine to its end in
one step.
"""

import asyncio
import inspect
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from contextvars import copy_context
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from nearcache.clock import monotonic
from nearcache.engine.flights import ABOARD, Flight
from nearcache.engine.promises import Kept, kept
from nearcache.engine.threads import Threads, Work
from nearcache.flag import Flag

__all__ = ["IO", "Aside", "AsyncIO", "BlockingIO", "Loader", "Step", "run"]

log = logging.getLogger("nearcache")

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
_STORE_THREADS = 8
_LOOK_AROUND = 1.0  # seconds between looks whether a flight is stranded
_MOST_LEFT = 100  # loads of one cache that go on although their callers have left
_MOST_BEHIND = 32  # threads of this process that do what nobody waits for


class Loader(Protocol):
    """Who is expensive. ``call`` takes a list and returns its values, or awaits them."""

    is_async: bool
    limit: int
    """How many calls may be under way at once."""
    max_batch: int | None
    """How many values one call may ask for; None leaves it to the options."""

    @property
    def crowd(self) -> object:
        """Who shares threads with it on the asynchronous face; weakly referenced."""

    def turn(self) -> AbstractContextManager[object]:
        """Return what a synchronous call holds, so that at most ``limit`` run."""

    def async_turn(self) -> AbstractAsyncContextManager[object]:
        """Return what an awaited call holds, so that at most ``limit`` run on one event loop."""

    @property
    def call(self) -> Callable[[list[Any]], Any]:
        """The call itself."""


class Step(Protocol[R_co]):
    """Work that, once started, goes on to its end; ``ended`` is called then, whatever the end."""

    def start(self) -> Coroutine[Any, Any, R_co]:
        """Return the work."""

    def ended(self) -> None:
        """Clean up."""


class Aside(Protocol):
    """Work that goes on beside the caller."""

    def result(self) -> Any:
        """Return nothing, or raise what the work raised, once it has ended."""

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        """Call this when it has ended, in whatever way."""


class IO(Protocol):
    """What the engine may wait for."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that this call runs on; None where it blocks."""

    async def store(self, ask: Callable[..., T], *arguments: Any) -> T:
        """Wait for a store's answer."""

    async def load(self, loader: Loader, inputs: list[Any], flight: Flight) -> Any:
        """Wait for a loader's answer."""

    async def gather(self, steps: Sequence[Step[T]], limit: int) -> list[T]:
        """Run steps, at most ``limit`` at once; they go on when the caller is cancelled.

        After the first that raises, no further one is started; those under way are waited for.
        Where too many go on already, a caller's steps are cancelled with it.
        """

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work that goes on to its end even when the caller is cancelled."""

    def background(self, work: Callable[["IO"], Coroutine[Any, Any, None]]) -> None:
        """Let work be done aside; the caller goes on at once.

        It is left undone where too much is being done: somebody asks for it again.
        """

    def aside(self, work: Callable[["IO"], Coroutine[Any, Any, None]], loader: Loader) -> Aside:
        """Let a loader work aside: in a thread, or where it is at home on the caller's loop."""

    async def ended(self, work: Aside, seconds: float | None) -> bool:
        """Wait until such work has ended, ``seconds`` at most; say whether it has."""

    def leave(self, work: Aside) -> None:
        """Wait for such work no more: it goes on, but it does not begin if it has not begun."""

    async def wait(
        self, flight: Flight, ready: Callable[[], bool], seconds: float | None = None
    ) -> bool:
        """Wait until ``ready`` says so, ``seconds`` at most; False where that could never be."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine whose every wait blocks inside; return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    msg = "a blocking call suspended: its coroutine was given the wrong io"
    raise RuntimeError(msg)


class BlockingIO:
    """Waits that block the calling thread.

    home: the event loop of whoever asked for the work, where what a loader promises is kept.
    """

    loop = None

    def __init__(self, home: asyncio.AbstractEventLoop | None = None) -> None:
        self._home = home

    async def store(self, ask: Callable[..., T], *arguments: Any) -> T:
        """Ask here."""
        return ask(*arguments)

    async def load(self, loader: Loader, inputs: list[Any], flight: Flight) -> Any:
        """Call here; an asynchronous loader runs on one private loop thread."""
        if not loader.is_async:
            output = _call(loader, inputs, flight)
            # a plain function around an asynchronous one: its promise is kept here
            return self._promised(output) if inspect.isawaitable(output) else output
        before = ABOARD.get()
        try:
            ABOARD.set((*before, flight))
            return self._promised(_awaited(loader, inputs))
        finally:
            ABOARD.set(before)

    def _promised(self, promise: Awaitable[Any]) -> Any:
        """Keep a promise on the loop where it is at home, or on the private one."""
        if self._home is not None and self._home.is_running():
            return Kept(promise, self._home).result()
        try:
            loop = _private_loop()
        except RuntimeError:  # at the interpreter's exit no thread can be started
            return asyncio.run(kept(promise))
        if asyncio._get_running_loop() is loop:  # an asynchronous model called the blocking face
            with ThreadPoolExecutor(1, "nearcache-load") as pool:
                return pool.submit(copy_context().run, asyncio.run, kept(promise)).result()
        return Kept(promise, loop).result()

    async def gather(self, steps: Sequence[Step[T]], limit: int) -> list[T]:
        """Run one after the other, or in a few threads for a loader that allows several calls."""
        if limit == 1 or len(steps) == 1:
            return [_through(step) for step in steps]
        failed = Flag()

        def take(step: Step[T]) -> list[T]:
            if failed.is_set():
                return []
            try:
                return [_through(step)]
            except BaseException:
                failed.set()
                raise

        pool = ThreadPoolExecutor(min(limit, len(steps)), "nearcache-load")
        futures: list[Future[list[T]]] = []
        try:
            with suppress(RuntimeError):  # at the interpreter's exit no thread can be started
                futures.extend(pool.submit(copy_context().run, take, step) for step in steps)
            results = [result for future in futures for result in future.result()]
        except BaseException as error:
            failed.set()
            # an error waits for the calls under way, Ctrl-C does not; neither starts another
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()
        return results + [_through(step) for step in steps[len(futures) :]]

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it here."""
        return await work

    def background(self, work: Callable[[IO], Coroutine[Any, Any, None]]) -> None:
        """Do it in a thread."""
        _aside(work)

    def aside(self, work: Callable[[IO], Coroutine[Any, Any, None]], loader: Loader) -> Aside:
        """Do it in a thread."""
        return _in_a_thread(work, BlockingIO(self._home), loader)

    async def ended(self, work: Aside, seconds: float | None) -> bool:
        """Block."""
        assert isinstance(work, Future), "it is from aside()"
        return bool(wait((work,), seconds).done)

    def leave(self, work: Aside) -> None:
        """Count it among what goes on alone."""
        assert isinstance(work, Work), "it is from aside()"
        work.leave()

    async def wait(
        self, flight: Flight, ready: Callable[[], bool], seconds: float | None = None
    ) -> bool:
        """Block until ``ready``, unless that would block what we wait for."""
        here = asyncio._get_running_loop()
        if flight in ABOARD.get() or (here is not None and flight.loop is here):
            return ready()
        changed = Flag()
        until = _until(seconds)
        flight.subscribe(changed.set)
        try:
            while not ready() and not flight.stranded and (left := until - monotonic()) > 0:
                changed.wait(min(left, _LOOK_AROUND))
                changed.clear()
        finally:
            flight.unsubscribe(changed.set)
        return True

    async def sleep(self, seconds: float) -> None:
        """Block."""
        time.sleep(seconds)  # noqa: ASYNC251  blocking is what this face does


class AsyncIO:
    """Waits that suspend the running task; what blocks goes to a few threads.

    The store is asked through its blocking client in a thread: for batches that is faster than
    an asynchronous client (bench/results), it is one implementation, and a cancelled task never
    tears a connection.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._loaders: WeakKeyDictionary[object, ThreadPoolExecutor] = WeakKeyDictionary()
        self._pid = os.getpid()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left: set[asyncio.Task[Any]] = set()  # of these, the ones nobody waits for
        self.start_anew()

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        return asyncio.get_running_loop()

    def _store_threads(self) -> ThreadPoolExecutor:
        with self._lock:
            self._check_fork()
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_STORE_THREADS, "nearcache-store")
            return self._threads

    def _loader_threads(self, loader: Loader) -> ThreadPoolExecutor:
        """Return threads for one loader: the loop's own would all be taken by waiting calls."""
        with self._lock:
            self._check_fork()
            pool = self._loaders.get(loader.crowd)
            if pool is None:
                pool = ThreadPoolExecutor(loader.limit, "nearcache-load")
                self._loaders[loader.crowd] = pool
            return pool

    def _check_fork(self) -> None:
        """Forget threads that stayed in the parent."""
        if self._pid != os.getpid():
            self._pid, self._threads = os.getpid(), None
            self._loaders = WeakKeyDictionary()

    async def store(self, ask: Callable[..., T], *arguments: Any) -> T:
        """Ask in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._store_threads(), ask, *arguments
        )

    async def load(self, loader: Loader, inputs: list[Any], flight: Flight) -> Any:
        """Await an asynchronous loader; call a synchronous one in a thread."""
        aboard = ABOARD.get()
        token = ABOARD.set((*aboard, flight))
        try:
            if loader.is_async:
                return await _awaited(loader, inputs)
            if aboard:  # a model that came back through its cache holds one of its own threads
                output = await asyncio.to_thread(_call, loader, inputs, flight)
            else:
                pool, within = self._loader_threads(loader), copy_context().run
                output = await asyncio.get_running_loop().run_in_executor(
                    pool, within, _call, loader, inputs, flight
                )
            # a plain function around an asynchronous one: its promise is kept here
            return await output if inspect.isawaitable(output) else output
        finally:
            with suppress(ValueError):  # collected with its loop, in another context
                ABOARD.reset(token)

    async def gather(self, steps: Sequence[Step[T]], limit: int) -> list[T]:
        """Run each step as a task of its own, which outlives the caller's cancellation."""
        results: list[T] = []
        running: set[asyncio.Task[T]] = set()
        error: BaseException | None = None
        try:
            for step in steps:
                if len(running) >= limit:
                    running, error = await self._some(running, results)
                if error is not None:
                    break
                running.add(self._detached(step))
            while running:
                running, latest = await self._some(running, results)
                error = error or latest
        except asyncio.CancelledError:
            self._leave(running)
            raise
        if error is not None:
            raise error
        return results

    async def _some(
        self, running: set[asyncio.Task[T]], results: list[T]
    ) -> tuple[set[asyncio.Task[T]], BaseException | None]:
        # asyncio.wait leaves the tasks alone when the caller is cancelled
        done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        error: BaseException | None = None
        for task in done:
            if task.cancelled():
                error = error or asyncio.CancelledError()
            elif (raised := task.exception()) is not None:
                error = error or raised
            else:
                results.append(task.result())
        return left, error

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in a task of its own; who is cancelled leaves when it has ended.

        What the same caller does next would be overtaken by it otherwise.
        """
        task = self._kept(asyncio.get_running_loop().create_task(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((task,))
            raise

    def background(self, work: Callable[[IO], Coroutine[Any, Any, None]]) -> None:
        """Do it in a thread: a task would end with its loop, which may live for one call only."""
        _aside(work)

    def aside(self, work: Callable[[IO], Coroutine[Any, Any, None]], loader: Loader) -> Aside:
        """Do it in a task of its own if the loader is asynchronous, for it belongs to this loop.

        Else in a thread, which outlives the loop.
        """
        if loader.is_async:
            return self._kept(asyncio.get_running_loop().create_task(work(self)))
        return _in_a_thread(work, BlockingIO(asyncio.get_running_loop()), loader)

    async def ended(self, work: Aside, seconds: float | None) -> bool:
        """Suspend; a caller that is cancelled leaves the work alone."""
        assert isinstance(work, (asyncio.Task, Future)), "it is from aside()"
        if isinstance(work, asyncio.Task):
            waited: asyncio.Future[Any] = work
        else:
            waited = asyncio.wrap_future(work)
            waited.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen
        return bool((await asyncio.wait((waited,), timeout=seconds))[0])

    def leave(self, work: Aside) -> None:
        """Let it go on alone, unless too much does."""
        assert isinstance(work, (asyncio.Task, Work)), "it is from aside()"
        if isinstance(work, asyncio.Task):
            self._leave({work})
        else:
            work.leave()

    def _leave(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Let tasks go on alone; where too many do already, end them with their caller.

        Their loads would pile up behind a loader that is slow, or hangs, and nobody wants them.
        """
        left = [task for task in tasks if not task.done()]
        if len(self._left) + len(left) > _MOST_LEFT:
            for task in left:
                task.cancel()
            return
        self._left.update(left)
        for task in left:
            task.add_done_callback(self._left.discard)

    def _kept(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)  # the loop alone keeps only a weak reference
        task.add_done_callback(self._ended)
        return task

    def _detached(self, step: Step[T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(step.start())
        # a callback, not a finally: a task cancelled before its first step never enters its body
        task.add_done_callback(lambda _: step.ended())
        return self._kept(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever still waits got it through the flight

    async def wait(
        self, flight: Flight, ready: Callable[[], bool], seconds: float | None = None
    ) -> bool:
        """Suspend until ``ready``."""
        if flight in ABOARD.get():
            return ready()
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(changed.set)
            except RuntimeError:
                return  # the loop of the waiter is closed: nobody waits there any more

        until = _until(seconds)
        flight.subscribe(wake)
        try:
            while not ready() and not flight.stranded and (left := until - monotonic()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, _LOOK_AROUND))
                changed.clear()
        finally:
            flight.unsubscribe(wake)
        return True

    async def sleep(self, seconds: float) -> None:
        """Suspend."""
        await asyncio.sleep(seconds)

    def close(self) -> None:
        """Let the threads end."""
        with self._lock:
            self._check_fork()
            pools = [*self._loaders.values(), *([] if self._threads is None else [self._threads])]
            self._threads, self._loaders = None, WeakKeyDictionary()
        for pool in pools:
            pool.shutdown(wait=False)


def _until(seconds: float | None) -> float:
    return float("inf") if seconds is None else monotonic() + seconds


_behind = Threads(_MOST_BEHIND, "nearcache-aside")
_asides: WeakKeyDictionary[object, Threads] = WeakKeyDictionary()


def _aside(work: Callable[[IO], Coroutine[Any, Any, None]]) -> None:
    def drive() -> None:
        try:
            run(work(BlockingIO()))
        except Exception:  # nobody else would see
            log.exception("work beside a call failed")

    _behind.run_now(drive)


def _in_a_thread(
    work: Callable[[IO], Coroutine[Any, Any, None]], io: BlockingIO, loader: Loader
) -> Work:
    """Do work in a thread, in the caller's context; a hundred may go on without their callers.

    Who is called by a loader, which waits for it, does not queue behind those.
    """
    within = copy_context().run
    threads = None if ABOARD.get() else _asides.get(loader.crowd)
    if threads is None:
        threads = Threads(_MOST_LEFT, "nearcache-load")
        if not ABOARD.get():
            threads = _asides.setdefault(loader.crowd, threads)
    return threads.run(lambda: within(run, work(io)))


def _through(step: Step[T]) -> T:
    try:
        return run(step.start())
    finally:
        step.ended()


def _call(loader: Loader, inputs: list[Any], flight: Flight) -> Any:
    before = ABOARD.get()
    try:
        ABOARD.set((*before, flight))
        with loader.turn():
            try:
                output = loader.call(inputs)
            except StopIteration as error:  # no future can carry it: whoever waits would for ever
                msg = "the model raised StopIteration"
                raise RuntimeError(msg) from error
            return list(output) if isinstance(output, Iterator) else output
    finally:
        ABOARD.set(before)


async def _awaited(loader: Loader, inputs: list[Any]) -> Any:
    async with loader.async_turn():
        return await loader.call(inputs)


_private: tuple[int, asyncio.AbstractEventLoop] | None = None
_private_lock = threading.Lock()


def _private_loop() -> asyncio.AbstractEventLoop:
    """Return the loop for asynchronous loaders under the blocking face; one per process."""
    global _private  # noqa: PLW0603  one loop thread per process
    with _private_lock:
        if _private is None or _private[0] != os.getpid():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="nearcache-loop", daemon=True)
            thread.start()
            _private = (os.getpid(), loop)
        return _private[1]
