"""The tracked link: one thread per store that hears what other processes changed.

It listens on a stream of the store's (a RESP3 connection that tracks prefixes, a change counter of
a file). Reads go another way, so a push may overtake the reply of a read, or be overtaken by it::

    reader                          link
    claims k, asks for k
                                    "k changed": takes k from whoever reads it, drops k near
    the reply, the value before:
    k is not its own any more,
    so it is not kept near

Whoever keeps a value near notes the *epoch* of the link, the link's connection so to speak, as it
was before the value was asked for. Such a copy is as good as the epoch's ``heard``: the time at
which the newest answered ping was sent on the stream that carries the news. What changed before
that has been heard of. So a half-open connection, or one whose news is late, ends hits by itself:
a copy may be served while ``now - heard`` is less than the bound, T.
"""

import logging
import os
import random
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Protocol

from nearcache.clock import Clock, monotonic
from nearcache.daemon import running
from nearcache.errors import StoreCannotTell, StoreError, StoreUnavailable
from nearcache.flag import Flag

__all__ = ["ALWAYS", "DEAD", "Epoch", "Link", "Member", "State", "Stream"]

log = logging.getLogger("nearcache")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25  # between attempts: what heals is to be found soon
_OPENING = 0.5  # seconds that a connection may take to say that it tracks
_LISTENING = 0.1  # seconds of one read: so long until a new member is seen
_CANNOT_TELL_PAUSE, _LONGEST_SILENCE = 0.5, 60.0  # between looks whether a store can tell now
_PINGS = 6  # per bound
_MOST_PINGS = 0.05  # seconds between two of them at least


class Epoch:
    """One life of the link. ``heard``: what changed before that time has been heard of."""

    __slots__ = ("heard",)

    def __init__(self, heard: float) -> None:
        self.heard = heard


DEAD = Epoch(float("-inf"))
"""For copies that nobody would hear a change of."""
ALWAYS = Epoch(float("inf"))
"""For copies that only this process can change."""


class State(Enum):
    """What a link is doing."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    TRACKING = "tracking"
    CANNOT_TELL = "cannot tell"


class Stream(Protocol):
    """``nearcache.stores.base.Stream``, as far as a link needs it."""

    def open(self, prefixes: Sequence[bytes], seconds: float) -> None:
        """Begin to hear of changes."""

    def watch(self, prefix: bytes) -> None:
        """Hear of one more prefix."""

    def ping(self) -> None:
        """Send something that will be answered."""

    def read(self, seconds: float) -> Sequence[Any]:
        """Return what has come."""

    def close(self) -> None:
        """End."""


class Member(Protocol):
    """Who is told: one namespace of one cache. Called by the link's thread."""

    space: bytes
    bound: float

    def changed(self, names: Sequence[bytes]) -> None:
        """Hear that these keys changed."""

    def everything_changed(self) -> None:
        """Hear that any key may have changed."""

    def linked(self, epoch: Epoch) -> None:
        """Hear that changes will be heard from now on."""

    def lost(self, reason: str) -> None:
        """Hear that changes are not heard any more."""

    def answered(self, seconds: float) -> None:
        """Hear how long a ping took to come back, behind whatever changed meanwhile."""


class Link:
    """The one link of a store, for all its caches in this process. Thread-safe.

    open_stream: makes a new stream.
    names: a message's names of changed keys, None where anything may have changed.
    pong: the message that answers a ping.
    """

    def __init__(
        self,
        address: str,
        open_stream: Callable[[], Stream],
        *,
        names: Callable[[Any], Sequence[bytes] | None],
        pong: object,
        clock: Clock = monotonic,
    ) -> None:
        self.address = address
        self.clock = clock
        self.names = names
        self.pong = pong
        self._open_stream = open_stream
        self._members: dict[bytes, weakref.WeakSet[Any]] = {}
        self._prefixes: list[bytes] = []
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ended = Flag()
        self._thread: threading.Thread | None = None
        self._stream: Stream | None = None
        self._new: list[weakref.ref[Any]] = []
        self.state = State.CLOSED
        self.problem = ""  # why it hears nothing
        self._silence = _CANNOT_TELL_PAUSE / 2

    def start_anew(self) -> None:
        """Let go, in a forked child, of the parent's thread and connection; listen anew."""
        if self._pid == os.getpid():
            return  # another member of it was here before
        stream = self._stream
        self._begin()
        if stream is not None:
            stream.close()
        if self.members():
            self._start()

    # -- members -----------------------------------------------------------------------------

    def join(self, member: Member, prefixes: Sequence[bytes]) -> None:
        """Tell ``member`` of changes of keys of its space, which begin with these prefixes."""
        with self._lock:
            self._members.setdefault(member.space, weakref.WeakSet()).add(member)
            self._prefixes += [prefix for prefix in prefixes if prefix not in self._prefixes]
            self._new.append(weakref.ref(member))
        self._start()

    def leave(self, member: Member) -> None:
        """Tell ``member`` no more; the last one ends the link."""
        with self._lock:
            members = self._members.get(member.space)
            if members is not None:
                members.discard(member)
                if not members:
                    del self._members[member.space]
            if any(self._members.values()):
                return
            self._prefixes.clear()
            thread, stream = self._thread, self._stream
            self._thread, self.state = None, State.CLOSED  # who joins now starts another
            self._ended.set()
        if stream is not None:
            stream.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * _OPENING)

    def has_others(self, member: Member) -> bool:
        """Say whether anybody else is told of this member's space."""
        return len(self._members.get(member.space, ())) > 1

    def members(self) -> list[Any]:
        """Return who is told."""
        with self._lock:
            return [member for members in self._members.values() for member in members]

    def newcomers(self) -> tuple[list[Any], list[bytes]]:
        """Return who joined since the last look, and every prefix."""
        if not self._new:
            return [], []
        with self._lock:
            new, self._new = self._new, []
            return [m for m in (one() for one in new) if m is not None], list(self._prefixes)

    # -- the thread --------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._ended.set()  # for one whose start was cut off, and which runs all the same
                ended = self._ended = Flag()
                self._thread = running(None, "nearcache-link", self._run, ended)

    def _run(self, ended: Flag) -> None:
        pause = _FIRST_PAUSE
        while not ended.is_set():
            session: _Session | None = None
            error: Exception | None
            try:
                session = self._connected(ended)
                pause = _FIRST_PAUSE
                while not self._is_over(ended):
                    session.turn()
            except StoreError as failed:
                error = failed
            except Exception as failed:  # whatever a client library raises: nobody else would see
                log.exception("the link to %s failed", self.address)
                error = failed
            else:
                return
            finally:
                if session is not None:
                    session.close()
            if self._is_over(ended):
                return
            until = self.clock() + self._lost(session, error, pause)
            error = session = None  # its traceback holds the members, who may be let go meanwhile
            pause = min(_LONGEST_PAUSE, 2 * pause)
            while (left := until - self.clock()) > 0 and not self._is_over(ended):
                ended.wait(min(left, _LONGEST_PAUSE))

    def _is_over(self, ended: Flag) -> bool:
        """Say whether nobody listens any more: all have left, or were let go unclosed."""
        if ended.is_set():
            return True
        with self._lock:
            if any(self._members.values()):
                return False
            if self._ended is ended:
                self._thread, self.state = None, State.CLOSED
            ended.set()
            return True

    def _connected(self, ended: Flag) -> "_Session":
        if self.state is not State.CANNOT_TELL:
            self.state = State.CONNECTING
        started = self.clock()
        stream = self._open_stream()
        with self._lock:  # who joins from here on is a newcomer: its prefixes may not be watched
            self._new.clear()
            prefixes, self._stream = list(self._prefixes), stream
            members = [member for members in self._members.values() for member in members]
        try:
            stream.open(prefixes, _OPENING)
            if ended.is_set():
                msg = f"the link to {self.address} was closed"
                raise StoreUnavailable(msg)
        except BaseException:
            stream.close()
            raise
        session = _Session(self, stream, Epoch(started), prefixes)
        self.state = State.TRACKING
        self._silence = _CANNOT_TELL_PAUSE / 2
        for member in members:
            member.linked(session.epoch)
        return session

    def _lost(self, session: "_Session | None", error: Exception, pause: float) -> float:
        """Tell that nothing is heard now; return the seconds to wait before the next attempt."""
        with self._lock:
            self._stream = None
        self.problem = str(error)  # the error itself would keep the members
        if session is not None:
            for member in self.members():
                member.lost(str(error))
        if not isinstance(error, StoreCannotTell):
            self.state = State.CONNECTING
            return pause * random.uniform(0.75, 1.25)  # noqa: S311  spreads who comes back
        if self.state is not State.CANNOT_TELL:
            told = str(error)  # a log record that kept the error would keep the members
            log.warning("%s. Near copies of what may change live for link_timeout at most", told)
        self.state = State.CANNOT_TELL
        self._silence = min(_LONGEST_SILENCE, 2 * self._silence)
        return self._silence

    def dispatch(self, names: Iterable[bytes] | None, but: Member | None = None) -> None:
        """Tell the members, ``but`` one, what changed; None for everything."""
        if names is None:
            for member in self.members():
                member.everything_changed()
            return
        by_space: dict[bytes, list[bytes]] = {}
        for name in names:
            by_space.setdefault(_space_of(name), []).append(name)
        for space, theirs in by_space.items():
            with self._lock:
                members = list(self._members.get(space, ()))
            for member in members:
                if member is not but:
                    member.changed(theirs)


class _Session:
    """One open stream. Used by the link's thread alone."""

    def __init__(self, link: Link, stream: Stream, epoch: Epoch, prefixes: Sequence[bytes]) -> None:
        self.epoch = epoch
        self._link = link
        self._stream = stream
        self._prefixes = set(prefixes)
        # each ping's time, and who may use the epoch once it is answered
        self._pings: deque[tuple[float, list[Any]]] = deque()
        self._next_ping = float("-inf")
        self._bound = 0.0

    def turn(self) -> None:
        """Send what is due, and handle what has come."""
        now = self._link.clock()
        newcomers, prefixes = self._link.newcomers()
        if now >= self._next_ping or newcomers:
            for prefix in prefixes:
                if prefix not in self._prefixes:
                    self._prefixes.add(prefix)
                    self._stream.watch(prefix)
            self._bound = min((m.bound for m in self._link.members()), default=_OPENING)
            self._next_ping = now + max(_MOST_PINGS, self._bound / _PINGS)
            self._pings.append((now, newcomers))
            self._stream.ping()
        if self._pings and now - self._pings[0][0] > max(self._bound, _OPENING):
            msg = f"{self._link.address} is not heard of any more"
            raise StoreUnavailable(msg)
        for message in self._stream.read(min(_LISTENING, max(0.0, self._next_ping - now))):
            self._handle(message)

    def _handle(self, message: Any) -> None:
        if message is not self._link.pong:
            self._link.dispatch(self._link.names(message))
        elif self._pings:
            self.epoch.heard, newcomers = self._pings.popleft()
            for member in newcomers:
                member.linked(self.epoch)
            took = self._link.clock() - self.epoch.heard
            for member in self._link.members():
                member.answered(took)

    def close(self) -> None:
        """End the stream."""
        self._stream.close()


def _space_of(name: bytes) -> bytes:
    """Return the namespace in a stored name ``nc1:{space:…`` or ``nc1:{space}…``."""
    start = name.find(b"{") + 1
    ends = [end for end in (name.find(b":", start), name.find(b"}", start)) if end > 0]
    return name[start : min(ends, default=start)]
