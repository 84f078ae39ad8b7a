"""A store that fails when told: for tests of what must not go wrong when its store does."""

import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nearcache.errors import StoreError, StoreTimeout, StoreUnavailable

__all__ = ["ChaosCounts", "ChaosStore"]

if TYPE_CHECKING:
    _Base: Any = object  # has every attribute, so a ChaosStore is a Store wherever one is taken
else:
    _Base = object

_SAFE = frozenset(
    {"address", "close", "least_now_at_hand", "patience", "reset_after_fork", "stream"}
)
"""What always passes through: these do not ask the store anything."""
_EVERY = ("failed", "late", "timed_out", "slowed")


@dataclass(slots=True)
class ChaosCounts:
    """What became of the calls of a ChaosStore.

    ``calls`` are all of them, ``failed`` those that were not made, ``timed_out`` those that were
    made in spite of the answer, ``late`` those that were put off, of which ``delivered`` have been
    made since, ``slowed`` those that took longer.
    """

    calls: int = 0
    failed: int = 0
    timed_out: int = 0
    late: int = 0
    delivered: int = 0
    slowed: int = 0


@dataclass(frozen=True, slots=True)
class _Trouble:
    """One kind of fault that is on: how often, at which methods, and how bad."""

    rate: float
    methods: frozenset[str] | None
    error: Callable[[], BaseException] = field(default=StoreTimeout)
    seconds: float = 0.0


class ChaosStore(_Base):  # type: ignore[misc]
    """Another store, whose calls fail, time out, come late or take long at given rates.

    ::

        store = ChaosStore(RedisStore(url), seed=7)
        store.late(0.1, methods=["commit"])  # one commit in ten is executed by deliver()
        ...
        store.deliver()
        store.calm()

    It has every method of the store it wraps, and until told otherwise does what that does. The
    same seed and the same order of calls give the same faults. A fault that is set again replaces
    itself; several may be on: a call is failed, else put off, else timed out, and slowed besides.
    Thread-safe if the store is.
    """

    def __init__(
        self, store: Any, seed: int = 0, *, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._store = store
        self._sleep = sleep
        self._lock = threading.Lock()  # over all that follows
        self._dice = random.Random(seed)  # noqa: S311 - to be repeatable
        self._troubles: dict[str, _Trouble] = {}
        self._late: list[Callable[[], object]] = []
        self._counts = ChaosCounts()

    def __repr__(self) -> str:
        return f"ChaosStore({self._store!r})"

    # Faults

    def fail(
        self,
        rate: float = 1.0,
        error: Callable[[], BaseException] = StoreUnavailable,
        *,
        methods: Collection[str] | None = None,
    ) -> None:
        """Raise ``error`` (a class, or what makes one) instead of calling the store."""
        self._set("failed", _Trouble(rate, self._names(methods), error))

    def time_out(self, rate: float = 1.0, *, methods: Collection[str] | None = None) -> None:
        """Call the store and then raise StoreTimeout: it is done, but nobody heard of it."""
        self._set("timed_out", _Trouble(rate, self._names(methods)))

    def late(self, rate: float = 1.0, *, methods: Collection[str] | None = None) -> None:
        """Raise StoreTimeout; the store is called when ``deliver`` is."""
        self._set("late", _Trouble(rate, self._names(methods)))

    def slow(
        self, seconds: float, rate: float = 1.0, *, methods: Collection[str] | None = None
    ) -> None:
        """Wait before calling the store."""
        if not seconds >= 0:
            msg = f"a wait is at least 0 seconds, not {seconds}"
            raise ValueError(msg)
        self._set("slowed", _Trouble(rate, self._names(methods), seconds=seconds))

    def calm(self) -> None:
        """End every fault; what was put off still waits for ``deliver``."""
        with self._lock:
            self._troubles.clear()

    def deliver(self, count: int | None = None) -> int:
        """Make the calls that were put off, or ``count`` of them, in a random order.

        Returns how many. Nobody hears their answers, nor that the store refused one.
        """
        delivered = 0
        while count is None or delivered < count:
            with self._lock:
                if not self._late:
                    break
                call = self._late.pop(self._dice.randrange(len(self._late)))
                self._counts.delivered += 1
            delivered += 1
            try:
                call()
            except StoreError:
                continue
        return delivered

    @property
    def counts(self) -> ChaosCounts:
        """What became of the calls so far."""
        with self._lock:
            return replace(self._counts)

    @property
    def pending(self) -> int:
        """How many calls wait for ``deliver``."""
        return len(self._late)

    # The store

    def reset_after_fork(self) -> None:
        """Let go of what is the parent's: connections, and calls that were put off."""
        self._lock = threading.Lock()
        self._late = []
        self._store.reset_after_fork()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_store":  # copied or pickled: nothing is wrapped yet
            raise AttributeError(name)
        found = getattr(self._store, name)
        if name in _SAFE or name.startswith("_") or not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            return self._call(name, found, arguments, options)

        return call

    def _call(
        self, name: str, method: Callable[..., Any], arguments: Any, options: dict[str, Any]
    ) -> Any:
        with self._lock:
            self._counts.calls += 1
            # Every kind is thrown for, so that one does not change when another strikes.
            struck = {kind: self._strikes(kind, name) for kind in _EVERY}
            slow, failed = struck["slowed"], struck["failed"]
            late = None if failed else struck["late"]
            lost = None if failed or late else struck["timed_out"]
            self._counts.slowed += slow is not None
            self._counts.failed += failed is not None
            self._counts.timed_out += lost is not None
            if late:
                # Its caller may change its lists meanwhile.
                kept = [list(one) if isinstance(one, list) else one for one in arguments]
                self._counts.late += 1
                self._late.append(lambda: method(*kept, **options))
        if slow:
            self._sleep(slow.seconds)
        if trouble := failed or late:
            raise trouble.error()
        answer = method(*arguments, **options)
        if lost:
            raise lost.error()
        return answer

    def _strikes(self, kind: str, name: str) -> _Trouble | None:
        trouble = self._troubles.get(kind)
        if trouble is None or (trouble.methods is not None and name not in trouble.methods):
            return None
        return trouble if self._dice.random() < trouble.rate else None

    def _set(self, kind: str, trouble: _Trouble) -> None:
        if not 0.0 <= trouble.rate <= 1.0:
            msg = f"a rate is from 0 to 1, not {trouble.rate}"
            raise ValueError(msg)
        with self._lock:
            self._troubles[kind] = trouble

    def _names(self, methods: Collection[str] | None) -> frozenset[str] | None:
        if methods is None:
            return None
        names = {methods} if isinstance(methods, str) else set(methods)
        for name in names:
            if name in _SAFE or not callable(getattr(self._store, name, None)):
                msg = f"{name!r} is no method of {self._store!r} that can fail"
                raise ValueError(msg)
        return frozenset(names)
