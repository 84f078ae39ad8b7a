"""Connections of a pool, kept at hand between calls.

redis-py's pool does much per call that a call of 50 µs need not pay for: it takes two locks, counts
and reports, and looks at the socket twice. A connection that comes back whole is kept here, and
lent again after one look at its socket; whatever is odd about one goes to the pool, which mends it.
"""

import inspect
import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import redis

__all__ = ["Keeper", "Lent"]

_HAS_POLL = hasattr(select, "poll")  # not on Windows: there the pool does it all


class Lent(NamedTuple):
    """A connection, its socket, and how to see whether the socket has something to read."""

    connection: "redis.Connection"
    sock: object
    look: Callable[[int], object] | None


class Keeper:
    """Lends a pool's connections to one thread at a time. Thread-safe.

    keep: whether connections stay out of the pool between calls; not those of a user's own pool,
    whose health is the user's business, nor of one with a limit, where others wait for them.
    """

    def __init__(self, pool: "redis.ConnectionPool", *, keep: bool) -> None:
        self._pool = pool
        self._keep = keep and _HAS_POLL
        # a blocking pool of redis-py 6 can only disconnect all
        can_choose = "inuse_connections" in inspect.signature(pool.disconnect).parameters
        self._idle_only = {"inuse_connections": False} if can_choose else {}
        # behind Sentinels: whom they named last; a connection to the one before is not lent again,
        # though that may live, and answer, for as long as it does not know
        manager = getattr(pool, "proxy", None)
        self._primary = (lambda: manager.master_address) if manager is not None else None
        self.start_anew()

    def start_anew(self) -> None:
        """Keep nothing: after a fork the sockets are the parent's."""
        self._pid = os.getpid()
        self._kept: deque[Lent] = deque()

    def lend(self) -> Lent:
        """Return a connection that is connected and has nothing left to read."""
        if self._pid != os.getpid():
            self.start_anew()
        kept = self._kept
        while kept:
            try:
                lent = kept.pop()
            except IndexError:  # another thread was quicker
                break
            if (
                lent.look is not None
                and lent.connection._sock is lent.sock
                and not lent.look(0)
                and (self._primary is None or self._primary() == _peer(lent.connection))
            ):
                return lent
            self._pool.release(lent.connection)  # closed, or with a reply nobody waits for
        connection = self._connected()
        return Lent(connection, *self._watched(connection))

    def _connected(self) -> "redis.Connection":
        """Return one of the pool's connections.

        One that Ctrl-C cut off while it connected goes back into redis-py's pool half made: without
        a parser it fails for ever, and the reply to its greeting is taken for the next one's.
        """
        try:
            return self._pool.get_connection()
        except (redis.RedisError, OSError):
            raise
        except BaseException:
            with suppress(redis.RedisError, OSError):
                self._pool.disconnect(**self._idle_only)  # each connects anew when it is asked for
            raise

    def _watched(
        self, connection: "redis.Connection"
    ) -> tuple[object, Callable[[int], object] | None]:
        if not self._keep:
            return None, None
        sock: Any = connection._sock
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return sock, poll.poll

    def take_back(self, lent: Lent) -> None:
        """Take back a connection all of whose replies were read."""
        if lent.look is None or self._pid != os.getpid():
            self._pool.release(lent.connection)
        else:
            self._kept.append(lent)

    def drop(self, lent: Lent) -> None:
        """Take back a connection that failed, or whose replies were not all read."""
        lent.connection.disconnect()  # type: ignore[no-untyped-call]
        self._pool.release(lent.connection)

    def distrust(self) -> None:
        """Close what is kept: a connection was silent, and those that lay idle may be so, too.

        A firewall that dropped them says nothing. Each would cost its caller a time-out of its own.
        """
        kept = self._kept
        while kept:
            try:
                connection = kept.pop().connection
            except IndexError:  # another thread was quicker
                return
            connection.disconnect()  # type: ignore[no-untyped-call]
            self._pool.release(connection)

    def close(self) -> None:
        """Close what is kept and what the pool has."""
        while self._kept:
            self._pool.release(self._kept.pop().connection)
        self._pool.disconnect()


def _peer(connection: Any) -> tuple[str, int]:
    return connection.host, connection.port
