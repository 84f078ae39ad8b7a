"""Telling those who look what the caches of this process do: one thread, a round trip now and then.

It begins when a cache with a store first asks it, says something every ``Options.report`` seconds
for each namespace of each store, and ends when no such cache is left. What it says lives three
times as long and five seconds, so that of a process that was killed nothing is left then. Nobody
waits for it, and of its failures nobody hears: a store that callers leave alone is not asked.
"""

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

from nearcache.daemon import running
from nearcache.engine import fork
from nearcache.engine.snapshot import History, Identity, by_cache
from nearcache.errors import StoreError
from nearcache.flag import Flag
from nearcache.keys import DIRECTORY, KeySpace, board_of

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine
    from nearcache.engine.io import IO
    from nearcache.stores.base import Store

__all__ = ["begin", "farewell", "is_told_of"]

log = logging.getLogger("nearcache")

_DIRECTORY_EVERY, _DIRECTORY_LIFE = 30.0, 120.0  # seconds
_LONGEST_PAUSE = 60.0
_SAID_AT = 3  # failures in a row
_DEAR, _SHARE = 0.02, 0.01  # seconds of the processor; the part of it that may be taken
_LONGEST_SLEEP = 5.0
_MOST_BYTES = 512 * 1024

_Place = tuple[int, str]  # a store object, and the stored name of a namespace


class _Post:
    """What is said of one namespace on one store object, and when next."""

    def __init__(self, store: "Store", root: str, name: str, due: float) -> None:
        self.lock = threading.Lock()  # over everything that is said
        self.store, self.root, self.board, self.name = ref(store), root, board_of(root), name
        self.due = due
        self.listed_until = 0.0
        self.unlisted = self.spoken = False
        self.failures = 0  # in a row
        self.cost = 0.0  # seconds of the processor, the last time
        self.histories: dict[tuple[str, str], History] = {}
        self.speechless: set[tuple[str, str]] = set()

    def speak(self, engines: "Sequence[Engine]", identity: Identity, every: float) -> None:
        """Say how these engines are; whatever fails is for the next time."""
        with self.lock:
            engines = [engine for engine in engines if not engine.leaves and not engine.closed]
            if not engines:
                return
            if any(_left_alone(engine) for engine in engines):
                self.failures = 0  # callers find out when it answers again, and then so may we
                return
            store = engines[0].store
            assert store is not None, "only engines that have one are asked for"
            caches = self._caches(engines, time.time())
            said = identity.snapshot(caches, every, store.least_now_at_hand())
            if len(said) > _MOST_BYTES:
                return
            try:
                store.report(self.board, self.name.encode(), said, 3 * every + 5)
            except StoreError as error:
                self._failed(error, every)
            else:
                self.spoken, self.failures = True, 0
                self._list(store, every)

    def _caches(self, engines: "Sequence[Engine]", now: float) -> list[dict[str, Any]]:
        """Return what is to be said; of a cache that cannot say it, nothing."""
        said = []
        for cache, theirs in by_cache(engines).items():
            try:
                said.append(self.histories.setdefault(cache, History(*cache)).says(theirs, now))
            except Exception as error:  # noqa: BLE001  as of a near tier of the user's own
                if cache not in self.speechless:
                    self.speechless.add(cache)
                    _complain(error)
        return said

    def _list(self, store: "Store", every: float) -> None:
        """Have it found by who names no namespace; a user may be refused that, and it only."""
        now = time.monotonic()
        if now < self.listed_until:
            return
        try:
            store.report(DIRECTORY, self.root.encode(), b"", max(_DIRECTORY_LIFE, 3 * every + 5))
        except StoreError as error:
            if self.unlisted:  # twice
                self.listed_until = now + _LONGEST_PAUSE
                log.debug("%s is not listed in %s: %s", self.root, DIRECTORY.decode(), error)
            self.unlisted = True
        else:
            self.unlisted = False
            self.listed_until = now + max(_DIRECTORY_EVERY, every)

    def _failed(self, error: StoreError, every: float) -> None:
        """Try again with the next report, then less often: it may refuse for good."""
        self.failures += 1
        self.listed_until = 0.0  # it may come back empty
        self.due += min(_LONGEST_PAUSE, every * (2 ** min(self.failures - 1, 20) - 1))
        if self.failures == _SAID_AT:
            log.info("workers do not report their statistics to %s: %s", self.board.decode(), error)

    def let_finish(self, _store: "Store | None" = None) -> None:
        """Wait for who speaks just now, perhaps on connections that are about to be closed."""
        with self.lock:
            pass

    def take_down(self, store: "Store") -> None:
        """Say no more of it, and let go of what was said."""
        with self.lock:
            if self.spoken:
                self.spoken = False
                with suppress(StoreError):
                    store.report(self.board, self.name.encode(), b"", 0.0)


class _Reporter:
    """The thread, and what it has to say where. Thread-safe."""

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Begin without a thread and as somebody else: in a forked child that stayed behind."""
        self._lock = threading.Lock()
        self._over = Flag()
        self._thread: threading.Thread | None = None
        self._posts: dict[_Place, _Post] = {}
        self._identity: Identity | None = None
        self._numbers = 0
        self._cost = 0.0  # seconds of the processor for all there is to say

    def begin(self) -> None:
        """Have a thread that speaks."""
        with self._lock:
            self._thread = running(self._thread, "nearcache-report", self._run)

    def post_of(self, engine: "Engine") -> _Post | None:
        """Return what is said of the engine's namespace, if anything is."""
        with self._lock:
            return self._posts.get(_place_of(engine))

    def look_around(self) -> None:
        """See at once whether anything is left to speak of."""
        self._over.set()

    def _run(self) -> None:
        while True:
            over = self._over
            over.clear()
            try:
                pause = self._turn()
            except Exception as error:  # noqa: BLE001  a bug; the statistics are not worth more
                _complain(error)
                pause = _LONGEST_PAUSE
            if pause is None:
                return
            over.wait(pause)

    def _turn(self) -> float | None:
        """Say what is due; return the seconds to the next time, None where nobody is left."""
        with self._lock:
            engines: dict[_Place, list[Engine]] = defaultdict(list)
            for engine in told_of():
                engines[_place_of(engine)].append(engine)
            if not engines:
                self._thread = None
                self._posts.clear()
                return None
            if self._identity is None:
                self._identity = Identity()
            now = time.monotonic()
            self._posts = {
                place: self._known(place, theirs, now) for place, theirs in engines.items()
            }
            due = [(post, engines[place]) for place, post in self._posts.items() if post.due <= now]
        for post, theirs in due:
            every = self._every(theirs)
            post.due = now + every
            began = time.thread_time()
            try:
                post.speak(theirs, self._identity, every)
            except Exception as error:  # noqa: BLE001  the others have their say all the same
                post.due = now + _LONGEST_PAUSE
                _complain(error)
            post.cost = time.thread_time() - began
        self._cost = sum(post.cost for post in self._posts.values())
        soonest = min(post.due for post in self._posts.values())
        return min(_LONGEST_SLEEP, max(0.0, soonest - time.monotonic()))

    def _every(self, engines: "Sequence[Engine]") -> float:
        """Return the seconds between two reports: longer where thousands are to be told of."""
        wanted = float(min(engine.options.report for engine in engines))
        return max(wanted, self._cost / _SHARE) if self._cost > _DEAR else wanted

    def _known(self, place: _Place, engines: "list[Engine]", now: float) -> _Post:
        store = engines[0].store
        assert store is not None, "only engines that have one are asked for"
        every = self._every(engines)
        post = self._posts.get(place)
        if post is None or post.store() is not store:
            assert self._identity is not None, "made before"
            self._numbers += 1
            name = f"{self._identity.name}.{self._numbers}"
            post = _Post(store, place[1], name, now + every)
        elif not post.failures:
            post.due = min(post.due, now + every)
        return post


def is_told_of(engine: "Engine") -> bool:
    """Say whether anybody is told of an engine: it has a store that others see, and wants it."""
    store = engine.store
    return (
        store is not None
        and engine.options.report > 0
        and hasattr(store, "report")
        and getattr(store, "reportable", True)
        and not store.address.startswith("memory:")
    )


def told_of() -> "list[Engine]":
    """Return the engines in use that others are told of."""
    members: list[Any] = fork.members()  # those that have a meter are engines
    return [
        member
        for member in members
        if getattr(member, "meter", None) is not None
        and not member.closed
        and not member.leaves
        and is_told_of(member)
        and member.used
    ]


async def farewell(io: "IO", engine: "Engine") -> None:
    """Say no more of an engine that is about to close."""
    engine.leaves = True
    if engine.sharing is None or engine.view or not is_told_of(engine):
        return
    post = _reporter.post_of(engine)
    if post is None:
        return
    place = _place_of(engine)
    if any(_place_of(other) == place and not other.view for other in told_of()):
        await io.store(post.let_finish)
        return
    speaks = not _left_alone(engine)
    await io.store(post.take_down if speaks else post.let_finish, engine.store)
    _reporter.look_around()


def _complain(error: Exception) -> None:
    log.warning("reporting statistics failed: %s: %s", type(error).__name__, error)


def _left_alone(engine: "Engine") -> bool:
    return engine.sharing is None or engine.sharing.access.state != "closed"


def _place_of(engine: "Engine") -> _Place:
    return id(engine.store), KeySpace(engine.namespace).name


_reporter = _Reporter()
begin: Callable[[], None] = _reporter.begin

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reporter.start_anew)
