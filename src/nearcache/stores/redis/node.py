"""One Redis or Valkey server: its connections, how long it takes, and what its failures mean.

Connection set-up, TLS, AUTH and parsing are redis-py's own. What is not taken over are its
defaults that a cache cannot live with: ten retries per command (seconds for a dead server) and no
time-out.
"""

# socket imports it when it connects first; Ctrl-C in an import on the main thread leaves the
# interpreter's import lock taken, and every other thread that imports hangs
import encodings.idna  # noqa: F401
import inspect
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import redis

from nearcache.errors import StoreError, StoreReadOnly, StoreTimeout, StoreUnavailable
from nearcache.stores.redis.clock import ServerClock
from nearcache.stores.redis.errors import hush
from nearcache.stores.redis.locks import Together
from nearcache.stores.redis.pool import Keeper, Lent
from nearcache.stores.redis.replies import garbled, one_found
from nearcache.stores.redis.socket import timed
from nearcache.stores.redis.timer import RoundTripTimer
from nearcache.stores.redis.wire import Command

__all__ = ["Node", "Redirected", "Sent", "UnknownScript"]

# redis-py 8 brought it; with older ones every answer may take as long as a connection
_TIMEOUT_PER_READ = "timeout" in inspect.signature(redis.Connection.read_response).parameters
# AttributeError: Ctrl-C while it connected leaves a redis-py connection without a parser;
# _GARBAGE is what hiredis and redis-py raise for bytes that are no reply
_GARBAGE = (TypeError, ValueError, LookupError)
_FAILURES = (redis.RedisError, OSError, AttributeError, *_GARBAGE)
_WRITE_TIMEOUT = 1.0  # a script that writes megabytes may take longer; for clients of the user's


class UnknownScript(StoreError):
    """The server has not seen this script since it started."""


class Redirected(StoreUnavailable):
    """The server is a node of a cluster, and a key is not its own."""


class Sent(NamedTuple):
    """Commands that are under way to a server, and the replies read so far."""

    lent: Lent
    expected: int
    at: float
    limits: dict[str, Any]
    replies: list[Any]

    @property
    def has_come(self) -> bool:
        """Whether there is something to read; False, too, where nobody can tell."""
        return self.lent.look is not None and bool(self.lent.look(0))


class Node:
    """A server behind a pool of redis-py's. Thread-safe; constructing does no I/O.

    ours: whether the pool is ours, and its sockets shall know how long to wait.
    keep: whether connections stay out of it between calls.
    timeout: seconds to wait for an answer; "auto" follows measured round trips, from ``least`` on.
    """

    def __init__(
        self,
        pool: "redis.ConnectionPool",
        address: str,
        *,
        ours: bool,
        keep: bool,
        timeout: float | Literal["auto"],
        least: float,
    ) -> None:
        self.pool = pool
        self.address = address
        self._fixed_timeout = None if timeout == "auto" else timeout
        self.timer = RoundTripTimer(self._fixed_timeout, least)
        self._timed = ours
        if ours:  # a pool of ours: its sockets know how long to wait
            pool.connection_class = timed(pool.connection_class, self.timer)
        self.clock = ServerClock()
        self._keeper = Keeper(pool, keep=keep)
        # what a fork holds: redis-py's pools take their locks in the child, too, whoever had them
        self.fork_lock = Together(threading.RLock(), self._pool_locks)

    def patience(self, size: int = 0) -> float:
        """Seconds to wait for the answer to a request of ``size`` bytes."""
        return self.timer.within(size)

    # -- asking ------------------------------------------------------------------------------

    def ask(self, commands: Sequence[Command], *, writes: bool) -> list[Any]:
        """Send commands in one go and return their replies; every failure is a StoreError."""
        replies = self.receive(self.send(commands, writes=writes))
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise self.explained(reply) from reply
        return replies

    def send(self, commands: Sequence[Command], *, writes: bool) -> Sent:
        """Send commands in one go; whoever does must ``receive`` or ``abandon``."""
        lent = None
        try:
            lent = self._keeper.lend()
            connection = lent.connection
            try:
                sent = time.monotonic()
                packed = connection.pack_commands(commands)  # type: ignore[no-untyped-call]
                if not writes:  # redis-py would send a few kilobytes at a time
                    packed = (b"".join(packed),)
                connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]
            except BaseException:
                self._keeper.drop(lent)
                raise
        except _FAILURES as error:
            explained = self.explained(error)
            explained.is_over = lent is None
            raise explained from error
        return Sent(lent, len(commands), sent, self._limits(writes=writes), [])

    def receive(self, sent: Sent) -> list[Any]:
        """Return the replies to what was sent; what the server refused is a ResponseError there."""
        while not self.receive_next(sent):  # each is read, or the next call would get this one's
            pass
        return sent.replies

    def receive_next(self, sent: Sent) -> bool:
        """Read one more reply; say whether it was the last."""
        lent, expected, at, limits, replies = sent
        try:
            try:
                if len(replies) < expected:
                    replies.append(self._reply(lent, limits))
            except BaseException:
                self._keeper.drop(lent)
                raise
        except _FAILURES as error:
            raise self.explained(error) from error
        if len(replies) < expected:
            return False
        if not self._timed:
            self.timer.answered(time.monotonic() - at)
        self._keeper.take_back(lent)
        return True

    def _reply(self, lent: Lent, limits: dict[str, Any]) -> object:
        try:
            return lent.connection.read_response(disable_decoding=True, **limits)
        except redis.ResponseError as error:
            return error

    def abandon(self, sent: Sent) -> None:
        """Read no replies: close the connection they would come on."""
        self._keeper.drop(sent.lent)

    def get(self, key: bytes) -> bytes | None:
        """Read one value: what ``ask`` does, with nothing that one GET can do without."""
        try:
            lent = self._keeper.lend()
            connection = lent.connection
            try:
                sent = time.monotonic()
                connection.send_packed_command(  # type: ignore[no-untyped-call]
                    (b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key),),
                    check_health=False,
                )
                limits = self._limits(writes=False)
                value = one_found(connection.read_response(disable_decoding=True, **limits))
                if not self._timed:
                    self.timer.answered(time.monotonic() - sent)
            except redis.ResponseError as error:
                self._keeper.take_back(lent)
                if str(error).startswith("WRONGTYPE"):
                    return None  # as MGET says
                raise
            except BaseException:
                self._keeper.drop(lent)
                raise
            self._keeper.take_back(lent)
            return value
        except _FAILURES as error:
            raise self.explained(error) from error

    def _limits(self, *, writes: bool) -> dict[str, Any]:
        if self._timed or not _TIMEOUT_PER_READ:
            return {}
        timeout = self._fixed_timeout
        if timeout is None:
            timeout = max(self.timer.timeout, _WRITE_TIMEOUT if writes else 0)
        return {"timeout": timeout}

    # -- failing -----------------------------------------------------------------------------

    def explained(self, error: Exception) -> StoreError:
        """Return what a failure means, as an error of ours."""
        hush(error)
        explained = self._explained(error)
        explained.is_over = isinstance(error, redis.ResponseError)
        return explained

    def _explained(self, error: Exception) -> StoreError:
        if isinstance(error, redis.TimeoutError):
            if not self._timed:
                self.timer.timed_out()
            self._keeper.distrust()
            return StoreTimeout(f"{self.address} did not answer in time: {error}")
        if isinstance(error, redis.exceptions.ReadOnlyError):
            return StoreReadOnly(f"{self.address} is a read-only replica; name its primary")
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return StoreReadOnly(
                f"{self.address} is full and evicts nothing: raise maxmemory or set a policy"
            )
        if isinstance(error, redis.exceptions.NoScriptError):
            return UnknownScript(str(error))
        if isinstance(error, (redis.exceptions.AskError, redis.exceptions.ClusterCrossSlotError)):
            return Redirected(f"{self.address} is one node of a cluster: name it redis+cluster://…")
        if isinstance(error, _GARBAGE):  # whose words may be a value's
            return garbled()
        return StoreUnavailable(f"{self.address}: {error}")

    # -- living ------------------------------------------------------------------------------

    def _pool_locks(self) -> list[Any]:
        """Return the locks of all pools."""
        return [pool._lock for pool in self._pools() if hasattr(pool, "_lock")]

    def _pools(self) -> list[Any]:
        """Return the pool and, behind Sentinels, those through which it asks them."""
        manager = getattr(self.pool, "sentinel_manager", None)
        clients = manager.sentinels if manager is not None else ()
        return [self.pool, *[client.connection_pool for client in clients]]

    def reset_after_fork(self) -> None:
        """Keep no connection of the parent's; redis-py's pool sees the new process id by itself."""
        self.clock.reset_after_fork()
        self.timer.start_anew()
        self._keeper.start_anew()

    def close(self) -> None:
        """Close all connections."""
        self._keeper.close()
        for pool in self._pools()[1:]:
            pool.disconnect()
