"""What a Redis or Valkey server says of changed keys: RESP3 pushes on a connection of their own.

The server tells of every change below a prefix to every such connection (``CLIENT TRACKING …
BCAST``) and remembers nothing per key. Without NOLOOP: a process hears of its own changes too.
Pushes and replies share one socket, so a PONG follows every change whose writer had its answer when
the ping was sent.
"""

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nearcache.errors import StoreCannotTell, StoreTimeout, StoreUnavailable
from nearcache.stores.base import EVERYTHING, PONG, Changed, Message
from nearcache.stores.redis.errors import hush
from nearcache.stores.redis.node import Node
from nearcache.stores.redis.replies import garbled, listed, tokens
from nearcache.stores.redis.wire import Command, milliseconds

__all__ = ["AT_ONCE", "RedisStream"]

AT_ONCE = 1000  # messages of one read: whoever reads has a ping to send now and then
_GATHER = 0.0003  # seconds that news waits for more
_CANARY_LIFE = 1.0
_ASK_SENTINELS = 1.0  # seconds between two questions who the primary is
_MOST_OPENING = 5.0
_OTHER_PROTOCOL = "RESP version"  # redis-py's words for a server that answers HELLO 3 with 2
_TRACK = ("CLIENT", "TRACKING", "ON", "BCAST")


def _any_canary(prefix: bytes) -> bytes:
    return prefix + b"canary:" + os.urandom(8).hex().encode()


class RedisStream:
    """Changes as the server pushes them; the connection is of the pool's class, with RESP3.

    Its pings are TIME, so that the store knows the server's time without asking.
    """

    def __init__(
        self,
        node: Node,
        canary: Callable[[bytes], bytes] | None = _any_canary,
        also: "tuple[Command, Callable[[object], None]] | None" = None,
    ) -> None:
        self._node = node
        self._address = node.address
        self._canary = canary
        self._also = also
        self._prefixes: list[bytes] = []
        self._connection: Any = None
        self._busy = threading.Lock()  # held while the connection is used; who ends it needs it
        self._ended = False
        self._pid = os.getpid()
        self._ask_sentinels_at = 0.0
        # replies to come: of pings their time, of what is asked with them who hears it, of others
        # None
        self._owed: deque[float | Callable[[object], None] | None] = deque()
        self._early: list[Message] = []  # heard while opening

    # -- opening -----------------------------------------------------------------------------

    def open(self, prefixes: Sequence[bytes], seconds: float) -> None:
        """Connect, ask to be told, and see that it works."""
        # connecting and seeing that it works takes six round trips
        seconds = max(seconds, min(_MOST_OPENING, 10 * self._node.timer.usual))
        end = time.monotonic() + seconds
        self._prefixes = list(prefixes)
        self._pid = os.getpid()
        self._connection = self._made(seconds)
        with self._talking():
            try:
                self._connect_and_track()
            except redis.TimeoutError as error:
                msg = f"{self._address} did not answer in time: {error}"
                raise StoreTimeout(msg) from error
            except (redis.ConnectionError, redis.ResponseError, AttributeError) as error:
                if isinstance(error, redis.ConnectionError) and _OTHER_PROTOCOL not in str(error):
                    raise
                hush(error)
                # redis-py takes the reply to HELLO for a mapping, whatever it is
                msg = f"{self._address} does not say what changes: {error}"
                raise StoreCannotTell(msg) from error
        self._see_that_it_works(end)

    def _made(self, seconds: float) -> Any:
        options = {
            name: value
            for name, value in self._node.pool.connection_kwargs.items()
            if not name.startswith(("maint", "oss_cluster"))  # they would enlist it in the pool
        }
        options |= {
            "protocol": 3,
            "decode_responses": False,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "health_check_interval": 0,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
        }
        return self._node.pool.connection_class(**options)

    def _connect_and_track(self) -> None:
        connection = self._connection
        connection.connect()
        connection._parser.set_invalidation_push_handler(_itself)
        words = [word for prefix in self._prefixes for word in ("PREFIX", prefix)]
        self._send(*_TRACK, *words)
        connection.read_response(disable_decoding=True)

    def _see_that_it_works(self, end: float) -> None:
        """Change a key and expect to be told before a ping sent afterwards is answered."""
        if self._canary is None:  # a node without slots takes no key
            return
        canary = self._canary((self._prefixes or [b""])[0])
        try:
            self._write_canary(canary, _CANARY_LIFE)
        except BaseException:  # a replica, too: after a failover it may soon be none
            self.close()
            raise
        self.ping()
        early: list[Message] = []
        while PONG not in early:  # none of ours may be left to be taken for another's
            left = end - time.monotonic()
            if left <= 0:
                self.close()
                msg = f"{self._address} did not answer in time on the connection that tells changes"
                raise StoreTimeout(msg)
            early += self.read(left)
        if not any(isinstance(news, Changed) and canary in news.names for news in early):
            self.close()
            msg = f"{self._address} tracks keys but does not tell when one changes"
            raise StoreCannotTell(msg)
        self._early = [news for news in early if news is not PONG]

    def _write_canary(self, key: bytes, seconds: float) -> None:
        self._node.ask([("SET", key, b"", "PX", milliseconds(seconds))], writes=True)

    # -- listening ---------------------------------------------------------------------------

    def watch(self, prefix: bytes) -> None:
        """Hear of one more prefix."""
        with self._talking():
            if prefix not in self._prefixes:
                self._send(*_TRACK, "PREFIX", prefix)
                self._owed.append(None)
                self._prefixes.append(prefix)

    def ping(self) -> None:
        """Ask for the time, the answer to which is a PONG."""
        with self._talking() as connection:
            if self._has_another_primary(connection):
                msg = f"{self._address} has another primary"
                raise StoreUnavailable(msg)
            sent = time.monotonic()
            if self._also is not None:
                command, hear = self._also
                self._send(*command)
                self._owed.append(hear)
            self._send("TIME")
            self._owed.append(sent)

    def _has_another_primary(self, connection: Any) -> bool:
        """Say whether Sentinels name another: the one before may go on and answer, unaware."""
        pool: Any = self._node.pool
        if not hasattr(pool, "get_master_address"):
            return False
        now = time.monotonic()
        if now >= self._ask_sentinels_at:  # where all is near nobody else asks them
            self._ask_sentinels_at = now + _ASK_SENTINELS
            with suppress(redis.RedisError):
                pool.get_master_address()
        named = pool.master_address
        return named is not None and named != (connection.host, connection.port)

    def read(self, seconds: float) -> list[Message]:
        """Return what has come."""
        messages, self._early = self._early, []
        with self._talking() as connection:
            if connection.can_read(0 if messages else seconds):
                # what comes together is handled together; and who writes has his own answer first,
                # for which he would have to wait until the interpreter's lock is his
                time.sleep(_GATHER)  # a third of a millisecond, on the link's own thread
                for _ in range(AT_ONCE):
                    reply = connection.read_response(disable_decoding=True, push_request=True)
                    self._take(reply, messages)
                    if not connection.can_read(0):
                        break
        return messages

    def _take(self, reply: object, messages: list[Message]) -> None:
        if isinstance(reply, list) and reply and reply[0] == b"invalidate":
            names = listed(reply, 2)[1]
            messages.append(EVERYTHING if names is None else Changed(tokens(names)))
            return
        if not self._owed:
            return  # a push of another kind
        owed = self._owed[0]
        if owed is None:
            if reply == b"OK":
                self._owed.popleft()
        elif callable(owed):
            if isinstance(reply, bytes):
                self._owed.popleft()
                owed(reply)
        elif isinstance(reply, list) and len(reply) == 2 and type(reply[0]) is bytes:
            self._owed.popleft()
            self._node.clock.read(reply, owed)
            messages.append(PONG)

    def _send(self, *words: object) -> None:
        self._connection.send_packed_command(
            self._connection.pack_command(*words), check_health=False
        )

    @contextmanager
    def _talking(self) -> Iterator[Any]:
        """Have the connection to ourselves; whatever fails ends the stream."""
        if self._pid != os.getpid() or self._connection is None:
            msg = f"{self._address} says nothing on a stream that is not open"
            raise StoreUnavailable(msg)
        try:
            with self._busy:
                try:
                    if self._ended:
                        msg = f"the stream of changes from {self._address} has ended"
                        raise StoreUnavailable(msg)
                    yield self._connection
                except BaseException:
                    self._ended = True
                    raise
        except (redis.RedisError, OSError) as error:
            hush(error)
            msg = f"{self._address}: {error}"
            raise StoreUnavailable(msg) from error
        except (TypeError, ValueError, LookupError) as error:  # what redis-py says to garbage
            raise garbled() from error
        finally:
            if self._ended:
                self._hang_up()

    def fileno(self) -> int:
        """Return the socket's, to wait for several streams at once; -1 when it is closed."""
        sock = None if self._connection is None else self._connection._sock
        return -1 if sock is None else int(sock.fileno())

    # -- ending ------------------------------------------------------------------------------

    def close(self) -> None:
        """Hear no more; a read that waits in another thread ends and hangs up itself."""
        self._ended = True
        connection = self._connection
        if connection is None:
            return
        if self._pid != os.getpid():
            connection.disconnect()  # which leaves the parent's socket as it is
            return
        sock = connection._sock
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._hang_up()

    def _hang_up(self) -> None:
        # who cannot have the lock now leaves it to its holder, who looks at _ended afterwards
        if self._busy.acquire(blocking=False):
            try:
                self._connection.disconnect()
            finally:
                self._busy.release()


def _itself(message: object) -> object:
    return message
