"""The store as the engine sees it: it answers, or it does not and life goes on.

Here, and only here, is decided what a failing store means: a count, at most a log line a minute,
a pause (``engine/breaker.py``), and None instead of an answer. A store that was only held up for
a moment is found again at once: whoever got no answer in time lets it be tried. Invalidations that
could not be written are kept, and delivered before anything else is asked, or by a thread
(``engine/delivery.py``); until then what they name is a miss.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, Protocol
from weakref import ref

from nearcache.clock import Clock
from nearcache.engine.breaker import Breaker, State
from nearcache.engine.delivery import Delivery
from nearcache.engine.io import IO
from nearcache.engine.meter import Meter
from nearcache.engine.warn import Warnings
from nearcache.errors import ClosedError, StoreError, StoreTimeout, StoreUnavailable
from nearcache.events import Events
from nearcache.stats import Counters
from nearcache.stores.base import Store
from nearcache.stores.gate import Grip, Turn

__all__ = ["Access", "Courier"]


_MOST_QUEUED = 10_000
_AT_ONCE = 1000
_MOST_LEASES = 1000  # calls
_LAST_WAIT, _LOOK = 1.0, 0.002  # seconds
_REST = 0.2  # seconds that a store which refuses is not asked again, but by the thread
_TOKEN_AT = {"lease": 1, "claim": 2}  # among the arguments

_Queue = dict[bytes, tuple[bytes]]
Values = list[bytes | None]
Show = Callable[[Sequence[bytes], Sequence[bytes], Values], Values]


class _Queued(_Queue):
    """What waited before one write: as long as this lives, it is being written."""

    __slots__ = ("__weakref__",)


class _LeftAlone(StoreUnavailable):
    """The store was not asked, because it failed a moment ago."""

    is_over = True


class Courier(Protocol):
    """How a namespace forgets in its store: what is queued is delivered this way, later."""

    def forget_stored(self, keys: Sequence[bytes], entries: Sequence[bytes]) -> None:
        """Forget values in the store."""

    def forget_stored_group(self, group: bytes, entry: bytes) -> None:
        """Forget a group in the store."""

    def joined(self, before: bytes, entry: bytes) -> bytes:
        """Return the entry of a value that is forgotten once more before it was delivered."""

    def everything(self) -> tuple[bytes, bytes]:
        """Return the group of everything, and its entry."""

    def store_is_back(self) -> None:
        """Hear that the store answers again."""


class Access:
    """A store behind its breaker and its queue. Thread-safe."""

    def __init__(
        self,
        store: Store,
        courier: Courier,
        counters: Counters,
        events: Events,
        clock: Clock,
        *,
        strict: bool,
        meter: Meter | None = None,
    ) -> None:
        self.store = store
        self.strict = strict
        self.closed = False
        self._counters = counters
        self._events = events
        self._meter = Meter() if meter is None else meter
        self._clock = clock
        self.say = Warnings(clock).say
        self._courier = courier
        # by key and by epoch key; an entry is a tuple of its own, so that identity tells it apart
        self._texts: _Queue = {}
        self._groups: _Queue = {}
        # of which there was no answer: taken late by a server that was held up, or in part by a
        # cluster, others would wait for them
        self._leases: deque[tuple[Sequence[bytes], bytes]] = deque(maxlen=_MOST_LEASES)
        self._rests_until = 0.0
        self.on_first_use: Callable[[], None] | None = None
        self.delivery = Delivery.to(store)
        self.start_anew()

    def start_anew(self) -> None:
        """Take new locks and a closed breaker: after a fork others may have held the old ones."""
        self._breaker = Breaker(self._clock)
        self._told: State = "closed"
        self._lock = threading.Lock()
        self._delivering = Turn()
        self._writing: list[ref[_Queued]] = []
        self.used = False
        if self.undelivered:  # of the parent's, which may end before it has delivered it
            self.delivery.wake(self)

    # -- asking ------------------------------------------------------------------------------

    async def ask(self, io: IO, method: str, *arguments: Any, **options: Any) -> Any:
        """Ask; None when the store cannot answer, or its error for who wants errors raised."""
        answer, error = await self.attempt(io, method, *arguments, **options)
        if error is not None and self.strict:
            raise error
        return answer

    async def attempt(
        self,
        io: IO,
        method: str,
        *arguments: Any,
        **options: Any,
    ) -> tuple[Any, StoreError | None]:
        """Ask; return (answer, None) or (None, error). A call without an answer answers True.

        Who wants errors raised has nothing else to go by: a store that has just failed is asked.
        """
        if self.closed:  # a load that outlived its cache must not open a connection again
            if self.strict:
                msg = "this cache was closed meanwhile"
                raise ClosedError(msg)
            return None, _LeftAlone(f"{self.store.address} is not asked by a closed cache")
        if not self.used:
            self.used = True
            if self.on_first_use is not None:
                self.on_first_use()
        if not self._breaker.allows() and not self.strict:
            self._try_aside(io)
            return None, self._left_alone()
        failures = self._breaker.failures

        def now() -> Any:
            if self._breaker.failures != failures and not self.strict:
                raise self._left_alone()
            began = time.perf_counter()
            try:
                return getattr(self.store, method)(*arguments, **options)
            except StoreUnavailable as error:
                # here, in the store's thread: a busy event loop would let others ask meanwhile
                self._fails(error, failures)
                raise
            finally:
                self._meter.store.record(time.perf_counter() - began)

        try:
            if (self._texts or self._groups or self._leases) and (
                time.monotonic() >= self._rests_until
            ):
                await self._deliver(io)
            with self._meter.asking(method):
                answer = await io.store(now)
        except _LeftAlone as error:
            return None, error
        except StoreUnavailable as error:
            self._unsure(method, arguments)
            self._fails(error, failures)
            self._try_aside(io)
            return None, self._noted(method, error)
        except StoreError as error:  # it was reached, and refused
            self._unsure(method, arguments)
            self._answers()
            return None, self._noted(method, error)
        self._answers()
        return True if answer is None else answer, None

    def _unsure(self, method: str, arguments: Sequence[Any]) -> None:
        """Note leases that perhaps were taken, to give them back."""
        if method in _TOKEN_AT:
            self._leases.append((arguments[0], arguments[_TOKEN_AT[method]]))

    async def glance(self, io: IO, method: str, *arguments: Any) -> Any:
        """Ask in the background; None without an answer, which does not mean that all must wait."""
        if self.closed or not self._breaker.allows():
            return None
        try:
            return await io.store(getattr(self.store, method), *arguments)
        except StoreError as error:
            self._noted(method, error)
            return None

    async def retry(self, io: IO) -> None:
        """Bring the store what is queued, unless it has just failed."""
        if not self.closed and (self._breaker.allows() or self._tries()):
            await self._try(io)

    def hurry(self, io: IO) -> None:
        """Try a store at once, there is a sign that it answers again; bring it what is queued."""
        if self.undelivered or not self._breaker.allows():
            io.background(self._try)

    async def _try(self, io: IO) -> None:
        """Find out whether the store answers again, and bring it what is queued."""
        failures = self._breaker.failures
        try:
            await self._deliver(io)
            await io.store(self.store.fetch, [], [])
        except StoreUnavailable as error:
            if not self.closed:  # else it was closed under this question
                self._fails(error, failures)
                self._noted("fetch", error)
        except StoreError:  # it was reached, and refused
            self._answers()
        else:
            self._answers()

    def _try_aside(self, io: IO) -> None:
        if self._tries():
            io.background(self._try)

    def _tries(self) -> bool:
        """Say whether it is for this caller to try the store."""
        tries = not self.closed and self._breaker.tries()
        if tries:
            self._tell()
        return tries

    def _fails(self, error: StoreUnavailable, failures: int) -> None:
        """Note that a question asked after so many failures has failed, too."""
        self._breaker.failed(failures, silent=isinstance(error, StoreTimeout))
        self._tell()

    def _answers(self) -> None:
        """Note that the store answers; if it did not, there is something to make good."""
        if self._breaker.succeeded():
            self._tell()
            self._courier.store_is_back()

    def _tell(self) -> None:
        """Tell subscribers of another state of the breaker, once."""
        state = self._breaker.state
        if state != self._told:
            self._told = state
            self._events.emit("breaker", self.store.address, state)

    @property
    def state(self) -> State:
        """Whether the store is asked (closed), left alone (open), or being tried (half-open)."""
        return self._breaker.state

    def _left_alone(self) -> "_LeftAlone":
        return _LeftAlone(f"{self.store.address} failed a moment ago and is left alone for now")

    def _noted(self, method: str, error: StoreError) -> StoreError:
        self._counters.add(store_errors=1)
        self._events.emit("store_error", method, error)
        # a log record that kept the error would keep the cache, by its traceback
        self.say(type(error).__name__, "the store failed at %s: %s", method, str(error))
        return error

    # -- invalidations that have to wait -------------------------------------------------------

    @property
    def undelivered(self) -> int:
        """How many invalidations have not reached the store yet."""
        return len(self._texts) + len(self._groups)

    def queue_texts(self, keys: Sequence[bytes], entries: Sequence[bytes]) -> None:
        """Keep the forgetting of texts; too many of them become everything."""
        with self._lock:
            for key, entry in zip(keys, entries, strict=True):
                (before,) = self._texts.get(key, (b"",))
                self._texts[key] = (self._courier.joined(before, entry),)
            if len(self._texts) > _MOST_QUEUED:
                group, entry = self._courier.everything()
                self._groups[group] = (entry,)  # first: who looks takes no lock
                self._texts.clear()
        self.delivery.wake(self)

    def queue_group(self, group: bytes, entry: bytes) -> None:
        """Keep the forgetting of a group."""
        with self._lock:
            self._groups[group] = (entry,)
        self.delivery.wake(self)

    async def before_write(self, io: IO, keys: Sequence[bytes]) -> _Queued:
        """Return what waits to be told of these: a write that begins now makes it needless.

        Until it is over it is not delivered, and what is being delivered comes before it::

            us                              another thread, delivering
                                            takes "forget k"
            put k, done
                                            forget k, done: what was put is gone
        """
        queued = _Queued()
        if not self._texts and not self._groups:
            return queued
        with self._lock:
            queued.update((key, self._texts[key]) for key in keys if key in self._texts)
            self._writing = [one for one in self._writing if one() is not None]
            self._writing.append(ref(queued))
        try:
            if (queued or self._groups) and (self.strict or self._breaker.allows()):
                await self._let_deliver(io)
        except BaseException:  # Ctrl-C: there will be no write
            self.after_write(queued, done=False)
            raise
        return queued

    def after_write(self, queued: _Queued, *, done: bool) -> None:
        """Drop what waited before a write that has been done; deliver it if it has not.

        Not what was queued since: it may be of what was written::

            us: put v                   another process     us, another thread
            (done in the store)
                                        reads v
                                                            forget it: no answer, queued
            have our answer
        """
        if queued:
            with self._lock:
                # by identity: another write of the same keys goes on
                left = [one for one in self._writing if one() is not queued]
                self._writing = left
                for key, entry in queued.items():
                    if done and self._texts.get(key) is entry:
                        del self._texts[key]

    def is_queued(self, group: bytes) -> bool:
        """Say whether the forgetting of a group has not reached the store yet."""
        return group in self._groups

    def hides(self, keys: Sequence[bytes]) -> bool:
        """Say whether the store may still have, of these, what was forgotten."""
        return bool(self._groups) or (bool(self._texts) and any(k in self._texts for k in keys))

    def shown(self, keys: Sequence[bytes], groups: Sequence[bytes], values: Values) -> Values:
        """Return the values without those that this process knows to be forgotten."""
        return _without(self._texts, self._groups, keys, groups, values)

    def hiding(self) -> Show:
        """Return what ``shown`` does, for a question that is about to be asked.

        It also hides what is queued now: it may have been delivered when the answer, of before,
        is looked at.
        """
        if not self._texts and not self._groups:
            return self.shown
        texts, every = set(self._texts), set(self._groups)

        def show(keys: Sequence[bytes], groups: Sequence[bytes], values: Values) -> Values:
            return self.shown(keys, groups, _without(texts, every, keys, groups, values))

        return show

    async def _deliver(self, io: IO) -> None:
        """Bring the store what is queued: one caller does, the others go on; it hides till then."""
        if not (self.undelivered or self._leases):
            return
        grip = Grip()
        try:
            if not self._delivering.take(grip, 0.0):
                return
            while self._leases:
                await io.store(self.store.release, *self._leases[0])
                self._leases.popleft()
            for group, entry in list(self._groups.items()):
                if self.closed or self._groups.get(group) is not entry:
                    continue
                await io.store(self._courier.forget_stored_group, group, *entry)
                self._delivered(self._groups, [(group, entry)])
            while not self.closed:
                with self._lock:  # anew each time: what was written meanwhile is not forgotten
                    written = {key for one in self._writing for key in one() or ()}
                    due = (item for item in self._texts.items() if item[0] not in written)
                    part = list(islice(due, _AT_ONCE))
                if not part:
                    break
                keys, entries = [key for key, _ in part], [entry for _, (entry,) in part]
                await io.store(self._courier.forget_stored, keys, entries)
                self._delivered(self._texts, part)
        except StoreUnavailable:
            raise
        except StoreError:  # it can be read, not written: what is queued stays hidden
            self._rests_until = time.monotonic() + _REST
        finally:
            self._delivering.give_back(grip)

    def _delivered(self, queue: _Queue, done: Sequence[tuple[bytes, tuple[bytes]]]) -> None:
        with self._lock:
            for name, entry in done:
                if queue.get(name) is entry:  # not queued anew meanwhile
                    del queue[name]

    async def finish(self, io: IO) -> None:
        """Try once more to deliver what is queued."""
        if self.undelivered:
            await self._let_deliver(io)
            await self._try(io)
        if self.undelivered:
            self.say("undelivered", "invalidations never delivered: %d", self.undelivered)

    async def _let_deliver(self, io: IO) -> None:
        """Let who delivers just now come to an end, if it is near."""
        end = time.monotonic() + _LAST_WAIT
        while self._delivering.taken and time.monotonic() < end:
            await io.sleep(_LOOK)

    def close(self) -> None:
        """Ask nothing more."""
        self.closed = True
        self.delivery.leave(self)


def _without(
    texts: Collection[bytes],
    every: Collection[bytes],
    keys: Sequence[bytes],
    groups: Sequence[bytes],
    values: Values,
) -> Values:
    if not texts and not every:
        return values
    if any(group in every for group in groups):
        return [None] * len(values)
    return [None if k in texts else v for k, v in zip(keys, values, strict=True)]
