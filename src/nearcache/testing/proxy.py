"""A TCP proxy that does what networks do to connections: for tests with a real server behind it."""

import contextlib
import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from nearcache.testing.pipes import CHUNK, End, Lane, Link, Pipe, Tally, hang_up

__all__ = ["FaultProxy", "Only"]

Only = Literal["tracked", "untracked"] | None
"""Which connections a fault is for: those whose client sent CLIENT TRACKING, the others, or all."""

_LOOPBACK = "127.0.0.1"
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_Answer = TypeVar("_Answer")
_Address = tuple[socket.AddressFamily, Any]


@dataclass
class _Weather:
    """What connections of one class suffer."""

    late_to_client: float = 0.0
    late_to_server: float = 0.0
    hole_to_client: bool = False
    hole_to_server: bool = False
    drop: bool = False
    refused: bool = False

    @property
    def drops(self) -> bool:
        return self.drop and (self.hole_to_client or self.hole_to_server)


class FaultProxy:
    """A TCP proxy on a free loopback port, whose faults are switched while traffic flows.

    ::

        with FaultProxy.of(server.url) as proxy, redis.Redis.from_url(proxy.url) as client:
            client.ping()
            proxy.black_hole(only="tracked")
            ...
            proxy.heal()

    Every method is thread-safe and returns when the fault is in force; bytes that had reached the
    proxy before are passed on first. A connection is *tracked* once its client has sent CLIENT
    TRACKING (it cannot be seen through TLS), and *untracked* until then. One thread does all the
    work; a process that forks keeps the proxy, its child has none.
    """

    def __init__(self, host: str, port: int) -> None:
        self._url = f"redis://{_LOOPBACK}"
        self._target = _resolve(host, port)
        self._weather = {True: _Weather(), False: _Weather()}
        self._links: set[Link] = set()
        self._late: set[Link] = set()  # with something that waits for its time
        self._to_client, self._to_server = Tally(), Tally()
        self._lanes = Lane(), Lane()
        self._accepted = 0
        self._buffer = memoryview(bytearray(CHUNK))
        self._selector = selectors.DefaultSelector()
        self._door = _bound(0)
        self._open = False
        self.port: int = self._door.getsockname()[1]
        """Where it listens, also while it refuses."""
        self._orders: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._bell, self._ear = socket.socketpair()
        self._lock = threading.Lock()  # over _closed and _orders: no order after the last
        self._closed = False
        self._pid = os.getpid()
        self._ear.setblocking(False)
        self._selector.register(self._ear, _READ, self._hear)
        self._open_door()
        self._thread = threading.Thread(
            target=self._run, name=f"fault-proxy-{self.port}", daemon=True
        )
        self._thread.start()
        _proxies.add(self)

    @classmethod
    def of(cls, url: str) -> Self:
        """Return a proxy for the server at ``url``."""
        parts = urlsplit(url)
        if not parts.scheme or parts.scheme.startswith("unix") or not parts.hostname:
            msg = f"a fault proxy needs a URL with a host, as redis://127.0.0.1:6379, not {url!r}"
            raise ValueError(msg)
        proxy = cls(parts.hostname, parts.port or 6379)
        proxy._url = url
        return proxy

    @property
    def url(self) -> str:
        """The server's URL, with the proxy's host and port in place of the server's."""
        parts = urlsplit(self._url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{_LOOPBACK}:{self.port}"))

    def __repr__(self) -> str:
        return f"<FaultProxy port {self.port}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Counts

    @property
    def connections(self) -> int:
        """How many are open now."""
        return self._ask(lambda: len(self._links))

    @property
    def accepted(self) -> int:
        """How many there ever were."""
        return self._ask(lambda: self._accepted)

    @property
    def bytes_to_server(self) -> int:
        """Bytes delivered to servers."""
        return self._ask(lambda: self._to_server.bytes)

    @property
    def bytes_to_client(self) -> int:
        """Bytes delivered to clients."""
        return self._ask(lambda: self._to_client.bytes)

    # Faults

    def delay(self, to_client: float = 0.0, to_server: float = 0.0, *, only: Only = None) -> None:
        """Deliver every byte so many seconds later; order and throughput stay as they are.

        A new delay is for what comes from now on. It still waits behind what came before.
        """
        if not (to_client >= 0 and to_server >= 0):
            msg = f"a delay is at least 0 seconds, not {min(to_client, to_server)}"
            raise ValueError(msg)

        def order() -> None:
            for weather in self._weathers(only):
                weather.late_to_client, weather.late_to_server = to_client, to_server
            self._settle_all()

        self._do(order)

    def narrow(self, to_client: float = 0.0, to_server: float = 0.0) -> None:
        """Deliver at most so many bytes a second, of all connections together; 0 for any number.

        100 Mbit/s are ``12.5e6``. A delay comes on top.
        """
        if not (to_client >= 0 and to_server >= 0):
            msg = f"a rate is at least 0 bytes a second, not {min(to_client, to_server)}"
            raise ValueError(msg)

        def order() -> None:
            self._lanes[0].rate, self._lanes[1].rate = to_client, to_server

        self._do(order)

    def black_hole(
        self,
        to_client: bool = True,
        to_server: bool = True,
        *,
        drop: bool = False,
        only: Only = None,
    ) -> None:
        """Deliver nothing, and tell nobody: the bytes, and the ends of connections, are held.

        They are delivered, in order, on ``heal`` (as TCP sends again what was lost); with
        ``drop`` they are lost for good, and connections that went through the hole are reset
        then. New connections are accepted and hear nothing.
        """

        def order() -> None:
            for weather in self._weathers(only):
                weather.hole_to_client, weather.hole_to_server = to_client, to_server
                weather.drop = drop
            self._settle_all()

        self._do(order)

    def reset(self, *, only: Only = None) -> None:
        """Reset the connections there are (RST), towards clients and servers."""
        self._do(lambda: self._reset_all(only))

    def half_open(self, *, only: Only = None) -> None:
        """Close the connections there are towards the server; clients are not told.

        They hear nothing more, and what they say is lost, until ``heal`` resets them.
        """

        def order() -> None:
            for link in self._chosen(only):
                if link.orphan:
                    continue
                link.orphan = True
                self._unwatch(link, link.server)
                hang_up(link.server, reset=False)
                link.to_client.clear()
                link.to_client.ended = True
                link.to_server.clear()
                self._watch(link)

        self._do(order)

    def refuse(self, *, only: Only = None) -> None:
        """Refuse new connections; those there are stay.

        With ``only="tracked"`` they are accepted, and reset when they ask for tracking.
        """
        if only == "untracked":
            msg = 'every connection begins untracked: refuse all, or only="tracked"'
            raise ValueError(msg)

        def order() -> None:
            if only is None:
                self._close_door()
            else:
                for weather in self._weathers(only):
                    weather.refused = True

        self._do(order)

    def retarget(self, host: str, port: int, *, only: Only = None) -> None:
        """Send new connections elsewhere and reset those there are, as a failover does.

        ``heal`` does not take this back. ``only`` chooses whom to reset.
        """
        target = _resolve(host, port)

        def order() -> None:
            self._target = target
            self._reset_all(only)

        self._do(order)

    def heal(self) -> None:
        """End every fault: deliver what was late or held, reset what cannot go on."""

        def order() -> None:
            self._weather = {True: _Weather(), False: _Weather()}
            self._lanes[0].rate = self._lanes[1].rate = 0.0
            for link in list(self._links):
                if link.orphan:
                    self._drop(link, reset=True)
                link.to_client.hurry()
                link.to_server.hurry()
            self._settle_all()
            self._open_door()

        self._do(order)

    def close(self) -> None:
        """End every connection, the thread and the listening; any number of times."""
        if self._pid != os.getpid():  # the parent's; this process has let go of it already
            return
        with contextlib.suppress(_ClosedProxyError):
            self._do(self._stop)
        self._thread.join()

    # Orders: whatever is asked is done by the thread that owns the connections

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        try:
            return self._do(question)
        except _ClosedProxyError:  # nothing changes any more
            return question()

    def _do(self, work: Callable[[], _Answer]) -> _Answer:
        done: Future[_Answer] = Future()
        with self._lock:
            if self._closed:
                raise _ClosedProxyError(f"{self!r} cannot do this any more")
            self._orders.append((work, done))
            with contextlib.suppress(BlockingIOError):  # full of bells that were not heard yet
                self._bell.send(b"!")
        return done.result()

    def _hear(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def _stop(self) -> None:
        with self._lock:
            self._closed = True

    # The thread

    def _run(self) -> None:
        try:
            while not self._closed:
                self._pass(self._patience())
                while self._orders:
                    orders = [self._orders.popleft() for _ in range(len(self._orders))]
                    self._pass(0)  # what had come before the order comes first
                    for work, done in orders:
                        _obey(work, done)
        finally:
            self._stop()
            for link in list(self._links):
                self._drop(link, reset=False)
            self._let_go()
            for _, done in self._orders:
                done.set_exception(_ClosedProxyError(f"{self!r} cannot do this any more"))

    def _patience(self) -> float | None:
        if not self._late:
            return None
        dues = [due for link in self._late for due in _dues(link)]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _pass(self, seconds: float | None) -> None:
        for key, events in self._selector.select(seconds):
            key.data(events)
        if self._late:
            for link in list(self._late):
                self._flush(link)

    def _accept(self, _: int) -> None:
        while True:
            try:
                client, _address = self._door.accept()
            except OSError:  # no more, or gone again
                return
            family, address = self._target
            server = socket.socket(family, socket.SOCK_STREAM)
            for wire in (client, server):
                wire.setblocking(False)
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, server, (self._to_client, self._to_server), self._lanes)
            self._links.add(link)
            self._accepted += 1
            try:
                server.connect(address)
            except BlockingIOError:
                self._settle(link)
            except OSError:
                link.connected = True  # as far as it ever will be
                self._settle(link)
                self._lost_server(link)
                self._flush(link)
            else:
                self._settle(link)

    def _lost_server(self, link: Link) -> None:
        # The client's connection stands already; a reset is as near to a refusal as it gets. It
        # is news that travels to the client like any other: late, or not at all in a black hole.
        link.to_server.broken = True
        link.to_server.clear()
        self._put(link, link.to_client, End.RESET)

    def _client_event(self, link: Link, events: int) -> None:
        if link.closed:
            return
        if events & _WRITE:
            link.to_client.blocked = False
        if events & _READ:
            self._read(link, link.client)
        if events != _READ or not link.calm:
            self._flush(link)

    def _server_event(self, link: Link, events: int) -> None:
        if link.closed or link.orphan:
            return
        if not link.connected:
            link.connected = True
            if link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._lost_server(link)
                self._flush(link)
                return
        if events & _WRITE:
            link.to_server.blocked = False
        if events & _READ:
            self._read(link, link.server)
        if events != _READ or not link.calm:
            self._flush(link)

    def _read(self, link: Link, source: socket.socket) -> None:
        ahead, back = link.to_server, link.to_client
        if source is link.server:
            ahead, back = back, ahead
        if not ahead.reads:
            return
        what: memoryview | End
        try:
            count = source.recv_into(self._buffer)
            what = self._buffer[:count] if count else End.FINISHED
        except BlockingIOError:
            return
        except OSError:
            what = End.RESET
        if isinstance(what, End):
            if back.broken:  # it took no more: it is gone, not silent
                what = End.RESET
            if link.orphan:
                self._drop(link, reset=False)
                return
        elif ahead is link.to_server and link.says_tracking(what):
            if self._weather[True].refused:
                self._drop(link, reset=True)
                return
            self._settle(link)
        if not (link.closed or link.orphan):
            self._put(link, ahead, what)

    def _put(self, link: Link, pipe: Pipe, what: memoryview | End) -> None:
        self._ended(link, pipe.put(what))

    def _flush(self, link: Link) -> None:
        if link.closed:
            return
        for pipe in (link.to_client, link.to_server):
            if pipe.queue:
                self._ended(link, pipe.flush())
        self._watch(link)

    def _ended(self, link: Link, how: End | None) -> None:
        if link.closed:
            return
        ahead, back = link.to_server, link.to_client
        if how is End.RESET:
            self._drop(link, reset=True)
        elif link.over:
            self._drop(link, reset=False)
        elif (ahead.broken and back.finished) or (back.broken and ahead.finished):
            # One side has said all and takes nothing: the other learns it by a reset.
            self._drop(link, reset=True)

    # Connections

    def _weathers(self, only: Only) -> list[_Weather]:
        return [self._weather[tracked] for tracked in _classes(only)]

    def _chosen(self, only: Only) -> list[Link]:
        classes = _classes(only)
        return [link for link in self._links if link.tracked in classes]

    def _reset_all(self, only: Only) -> None:
        for link in self._chosen(only):
            self._drop(link, reset=True)

    def _settle_all(self) -> None:
        for link in list(self._links):
            self._settle(link)

    def _settle(self, link: Link) -> None:
        # Give a connection the weather of its class.
        if link.closed or link.orphan:
            return
        weather = self._weather[link.tracked]
        link.doomed |= weather.drops
        if link.doomed and not weather.drops:
            self._drop(link, reset=True)
            return
        for pipe, late, hole in (
            (link.to_client, weather.late_to_client, weather.hole_to_client),
            (link.to_server, weather.late_to_server, weather.hole_to_server),
        ):
            pipe.delay = late
            pipe.held = hole and not weather.drop
            pipe.dropping = hole and weather.drop
            if pipe.dropping:
                pipe.clear()
        self._flush(link)

    def _watch(self, link: Link) -> None:
        # Wait for what matters now, and for nothing else: a socket that has ended is always ready.
        if link.closed:
            return
        to_client, to_server = link.to_client, link.to_server
        events = _READ if link.orphan or to_server.reads else 0
        self._wait(link, link.client, events | (_WRITE if to_client.writes else 0))
        if not link.orphan:
            if link.connected:
                events = _READ if to_client.reads else 0
                self._wait(link, link.server, events | (_WRITE if to_server.writes else 0))
            else:
                self._wait(link, link.server, _WRITE)
        if to_client.queue or to_server.queue:
            self._late.add(link)
        else:
            self._late.discard(link)

    def _wait(self, link: Link, wire: socket.socket, events: int) -> None:
        before = link.watched[wire]
        if events == before:
            return
        link.watched[wire] = events
        if not events:
            self._selector.unregister(wire)
        elif before:
            self._selector.modify(wire, events, self._handler(link, wire))
        else:
            self._selector.register(wire, events, self._handler(link, wire))

    def _handler(self, link: Link, wire: socket.socket) -> Callable[[int], None]:
        return partial(self._client_event if wire is link.client else self._server_event, link)

    def _unwatch(self, link: Link, wire: socket.socket) -> None:
        if link.watched[wire]:
            link.watched[wire] = 0
            self._selector.unregister(wire)

    def _drop(self, link: Link, *, reset: bool) -> None:
        link.closed = True
        self._links.discard(link)
        self._late.discard(link)
        for wire in (link.client, link.server):
            self._unwatch(link, wire)
            hang_up(wire, reset=reset)

    # The door

    def _open_door(self) -> None:
        if not self._open:
            self._open = True
            self._door.listen(512)
            self._door.setblocking(False)
            self._selector.register(self._door, _READ, self._accept)

    def _close_door(self) -> None:
        if self._open:
            self._open = False
            self._selector.unregister(self._door)
            self._door.close()
            # Bound but deaf: nobody else can have the port, not even a client that looks for one.
            self._door = _bound(self.port)

    def _let_go(self) -> None:
        wires = [wire for link in list(self._links) for wire in (link.client, link.server)]
        for wire in (*wires, self._door, self._bell, self._ear):
            wire.close()
        self._selector.close()


class _ClosedProxyError(RuntimeError):
    """The proxy was closed."""


def _obey(work: Callable[[], Any], done: "Future[Any]") -> None:
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 - whoever asked gets it
        done.set_exception(error)


def _classes(only: Only) -> tuple[bool, ...]:
    try:
        return {None: (True, False), "tracked": (True,), "untracked": (False,)}[only]
    except (KeyError, TypeError):
        msg = f'only= is "tracked", "untracked" or None, not {only!r}'
        raise ValueError(msg) from None


def _dues(link: Link) -> Iterator[float]:
    for pipe in (link.to_client, link.to_server):
        if (due := pipe.due) is not None:
            yield due


def _bound(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind((_LOOPBACK, port))
    return door


def _resolve(host: str, port: int) -> _Address:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return family, address


_proxies: "weakref.WeakSet[FaultProxy]" = weakref.WeakSet()


def _after_fork() -> None:
    # A copy of a socket in the child would keep connections open that the parent has closed.
    for proxy in list(_proxies):
        proxy._lock = threading.Lock()
        proxy._closed = True
        proxy._let_go()
    _proxies.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
