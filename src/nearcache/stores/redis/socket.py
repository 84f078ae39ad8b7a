"""A connection that gives up on a silent server in time, however far away it is.

redis-py waits for the next bytes, and begins anew with each that comes; a server that says a byte
now and then would hold a call for ever. Here a request has an end: what the timer
(``stores/redis/timer.py``) gives it, and more only as the answer comes::

    request          first bytes        next bytes          ...
    |-- within() ------|-- timeout --------|-- timeout --
                       |-- timeout + what has come, at the least rate --|
"""

import ssl
import time
from typing import TYPE_CHECKING, Any

from nearcache.stores.redis.timer import LONG, RoundTripTimer

if TYPE_CHECKING:
    import redis

__all__ = ["TimedSocket", "timed"]

_LEAST_RATE = 100_000  # bytes per second; a slower answer is none
_LONGEST_QUEUE = 5.0  # seconds that a request may wait behind others' long answers
_NOTHING_THERE = (BlockingIOError, ssl.SSLWantReadError)

_clock = time.monotonic


class TimedSocket:
    """A socket for requests and their answers, one after the other; for one thread at a time."""

    __slots__ = (
        "_asked",
        "_end",
        "_heard",
        "_last_end",
        "_peeks",
        "_size",
        "_sock",
        "_timer",
        "_under_way",
        "_waits",
    )

    def __init__(self, sock: Any, timer: RoundTripTimer) -> None:
        self._sock = sock
        self._timer = timer
        self._asked = 0.0
        self._waits = False  # for the first bytes of an answer
        self._size = 0  # of the request
        self._heard = 0  # bytes of the answer
        self._end = 0.0
        self._last_end = 0.0
        self._under_way = 0
        self._peeks = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Wait for nothing, or for as long as follows from what was asked.

        redis-py before version 8 sets 0 to see whether anything is there.
        """
        self._peeks = seconds == 0

    def sendall(self, data: Any) -> None:
        """Send a request, or more of it."""
        now = _clock()
        if not self._waits:
            self._waits, self._asked, self._size, self._heard = True, now, 0, 0
        self._size += len(data)
        if self._size >= LONG:
            self._sets_out(self._size)
        self._end = self._last_end = self._asked + self._timer.within(0)  # it is under way
        self._sock.settimeout(max(0.001, self._end - now))
        try:
            self._sock.sendall(data)
        except TimeoutError:
            self._timer.timed_out(self._asked, self._size)
            raise

    def recv_into(self, buffer: Any) -> int:
        """Wait for what comes next of the answer."""
        return self._came(self._received(self._sock.recv_into, buffer))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Wait for what comes next of the answer; with flags, as a socket does."""
        if flags:
            return bytes(self._sock.recv(size, flags))
        data: bytes = self._received(self._sock.recv, size)
        self._came(len(data))
        return data

    def _received(self, receive: Any, argument: Any) -> Any:
        if self._peeks:
            self._sock.settimeout(0)
            return receive(argument)
        left = self._end - _clock()
        while left > 0:
            self._sock.settimeout(left)
            try:
                return receive(argument)
            except TimeoutError:
                left = self._prolonged() - _clock()
        self._sock.settimeout(0)
        try:
            return receive(argument)  # it may have come while this process stood still
        except _NOTHING_THERE:
            self._timer.timed_out(self._asked, self._size)
            msg = f"no answer within {_clock() - self._asked:.3f} s"
            raise TimeoutError(msg) from None

    def _prolonged(self) -> float:
        """Return the end, later while a long answer comes on another connection: it is before."""
        latest = min(self._timer.heard + self._timer.timeout, self._asked + _LONGEST_QUEUE)
        return max(self._end, latest)

    def _came(self, count: int) -> int:
        now, timer = _clock(), self._timer
        if self._waits and count:
            self._waits = False
            timer.answered(now - self._asked, self._size)
            self._has_come()
            self._last_end = max(self._last_end, now + timer.timeout)
        self._heard += count
        if self._heard >= LONG:
            timer.heard = now
        self._end = min(now + timer.timeout, self._last_end + self._heard / _LEAST_RATE)
        return count

    def _sets_out(self, size: int) -> None:
        self._timer.sets_out(size - self._under_way)
        self._under_way = size

    def _has_come(self) -> None:
        if self._under_way:
            self._timer.has_come(self._under_way)
            self._under_way = 0

    def close(self) -> None:
        """Close it."""
        self._has_come()
        self._sock.close()


class _Timed:
    """What is added to a connection class of redis-py's; a connection's own time-outs win."""

    timer: RoundTripTimer

    def _connect(self) -> Any:
        connection: Any = self
        if connection.socket_timeout is not None:
            return super()._connect()  # type: ignore[misc]
        asked, seconds = _clock(), self.timer.timeout
        # while it connects; a TLS handshake is more than a round trip
        connection.socket_connect_timeout, connection.socket_timeout = seconds, 2 * seconds
        try:
            sock = super()._connect()  # type: ignore[misc]
        except TimeoutError:
            self.timer.timed_out(asked)
            raise
        finally:
            connection.socket_timeout = None
        return TimedSocket(sock, self.timer)


def timed(plain: "type[redis.Connection]", timer: RoundTripTimer) -> "type[redis.Connection]":
    """Return a class of connections whose sockets wait as long as the timer says."""
    made: type[redis.Connection] = type(plain.__name__, (_Timed, plain), {"timer": timer})
    return made
