"""The store as the engine sees it: it answers, or it does not and life goes on.

Here, and only here, is decided what a failing store means: a count, at most a log line a minute,
a pause (``engine/breaker.py``), and None instead of an answer. Invalidations that could not be
written are kept and delivered before anything else is asked; until then what they name is a miss.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from nearcache.clock import Clock
from nearcache.engine.breaker import Breaker
from nearcache.engine.io import IO
from nearcache.errors import StoreError, StoreUnavailable
from nearcache.events import Events
from nearcache.stats import Counters
from nearcache.stores.base import Store

__all__ = ["Access"]

log = logging.getLogger("nearcache")

_MOST_QUEUED = 10_000
_QUIET = 60.0  # seconds between two log lines about one kind of failure

_Call = tuple[str, tuple[Any, ...]]


class Access:
    """A store behind its breaker and its queue. Thread-safe."""

    def __init__(
        self, store: Store, counters: Counters, events: Events, clock: Clock, *, strict: bool
    ) -> None:
        self.store = store
        self.strict = strict
        self._counters = counters
        self._events = events
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._queued: deque[_Call] = deque()
        self._hidden: frozenset[bytes] = frozenset()
        self.start_anew()

    def start_anew(self) -> None:
        """Take new locks and a closed breaker: after a fork others may have held the old ones."""
        self._breaker = Breaker(self._clock)
        self._lock = threading.Lock()

    # -- asking ------------------------------------------------------------------------------

    async def ask(self, io: IO, method: str, *arguments: Any) -> Any:
        """Ask; None when the store cannot answer, or its error for who wants errors raised."""
        answer, error = await self.attempt(io, method, *arguments)
        if error is not None and self.strict:
            raise error
        return answer

    async def attempt(
        self,
        io: IO,
        method: str,
        *arguments: Any,
    ) -> tuple[Any, StoreError | None]:
        """Ask; return (answer, None) or (None, error). A call without an answer answers True."""
        if not self._breaker.allows():
            msg = f"{self.store.address} failed a moment ago and is left alone for now"
            return None, StoreUnavailable(msg)
        try:
            await self._deliver(io)
            answer = await io.store(getattr(self.store, method), *arguments)
        except StoreUnavailable as error:
            self._breaker.failed()
            return None, self._noted(method, error)
        except StoreError as error:  # it was reached, and refused
            self._breaker.succeeded()
            return None, self._noted(method, error)
        self._breaker.succeeded()
        return True if answer is None else answer, None

    def _noted(self, method: str, error: StoreError) -> StoreError:
        self._counters.add(store_errors=1)
        self._events.emit("store_error", method, error)
        self.say(type(error).__name__, "the store failed at %s: %s", method, error)
        return error

    def say(self, kind: str, text: str, *values: object) -> None:
        """Log a warning, at most one a minute of each kind."""
        now = self._clock()
        if now - self._logged.get(kind, float("-inf")) >= _QUIET:
            self._logged[kind] = now
            log.warning(text, *values)

    # -- invalidations that have to wait -------------------------------------------------------

    @property
    def undelivered(self) -> int:
        """How many invalidations have not reached the store yet."""
        return len(self._queued)

    def queue(self, method: str, arguments: tuple[Any, ...], everything: _Call) -> None:
        """Keep an invalidation; too many of them become ``everything``."""
        with self._lock:
            if len(self._queued) >= _MOST_QUEUED:
                self._queued.clear()
                method, arguments = everything
            self._queued.append((method, arguments))
            self._hide()

    def _hide(self) -> None:
        """Note the names that queued calls forget: keys, or the epoch of a group."""
        names: set[bytes] = set()
        for _, (first, *_) in self._queued:
            names.update([first] if isinstance(first, bytes) else first)
        self._hidden = frozenset(names)

    def shown(
        self, keys: Sequence[bytes], groups: Sequence[bytes], values: list[bytes | None]
    ) -> list[bytes | None]:
        """Return the values without those that this process knows to be forgotten."""
        hidden = self._hidden
        if not hidden:
            return values
        if not hidden.isdisjoint(groups):
            return [None] * len(values)
        return [None if key in hidden else v for key, v in zip(keys, values, strict=True)]

    async def _deliver(self, io: IO) -> None:
        """Do what is queued; what the store refuses, but for now only, stays queued."""
        while self._queued:
            call = self._queued[0]
            try:
                await io.store(getattr(self.store, call[0]), *call[1])
            except StoreUnavailable:
                raise
            except StoreError:  # it can be read, not written: what is queued stays hidden
                return
            with self._lock:
                if self._queued and self._queued[0] is call:
                    self._queued.popleft()
                    self._hide()

    async def finish(self, io: IO) -> None:
        """Try once more to deliver what is queued."""
        if self._queued:
            await self.attempt(io, "now")
        if self._queued:
            log.warning("%d invalidations never reached the store", len(self._queued))
