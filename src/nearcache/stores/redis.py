"""The Redis and Valkey store: redis-py's connections, one packed request per call.

Connection set-up, TLS, AUTH and parsing are redis-py's own. What is not taken over are its
defaults that a cache cannot live with: ten retries per command (seconds for a dead server) and no
time-out.
"""

import inspect
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import redis

from nearcache.entry import Mark
from nearcache.errors import ConfigError, StoreError, StoreReadOnly, StoreTimeout, StoreUnavailable
from nearcache.stores.base import LOG_LENGTH, Changes, Fetched, Start, Stream, Ttl, lives
from nearcache.stores.redis_pool import Keeper
from nearcache.stores.redis_stream import RedisStream
from nearcache.stores.redis_url import SCHEMES, pool_of, without_secrets
from nearcache.stores.redis_wire import (
    Command,
    changes_commands,
    changes_of,
    claim_arguments,
    commit_arguments,
    epochs_arguments,
    forget_commands,
    forget_group_commands,
    may_evict,
    milliseconds,
    number,
    scan_command,
    scanned,
    script,
    slots,
    touch_arguments,
    value_and_life,
    with_mark,
)
from nearcache.stores.timer import RoundTripTimer

__all__ = ["SCHEMES", "RedisStore"]

_CLOCK_LIFE = 10.0
# redis-py 8 brought it; with older ones every answer may take as long as a connection
_TIMEOUT_PER_READ = "timeout" in inspect.signature(redis.Connection.read_response).parameters
_WRITE_TIMEOUT = 1.0  # a script that writes megabytes may take longer than a read ever does


class RedisStore:
    """Values on a Redis or Valkey server, by URL or through a ``redis.Redis`` client of yours.

    timeout: seconds to wait for an answer; "auto" follows measured round trips.

    Thread-safe. Constructing does no I/O.
    """

    def __init__(
        self, url_or_client: "str | redis.Redis", *, timeout: float | Literal["auto"] = "auto"
    ) -> None:
        if isinstance(url_or_client, str):
            self._pool = pool_of(url_or_client)
            self._url = url_or_client
            self._address = without_secrets(url_or_client)
        elif isinstance(url_or_client, redis.Redis):
            self._pool = url_or_client.connection_pool
            where = self._pool.connection_kwargs
            self._address = (
                f"redis://{where.get('host', where.get('path', ''))}:{where.get('port', '')}"
            )
        else:
            msg = (
                "RedisStore takes a URL or a redis.Redis client, not "
                f"{type(url_or_client).__name__}; the async face uses the same client in a thread"
            )
            raise ConfigError(msg)
        self._owns_pool = isinstance(url_or_client, str)
        self._keeper = Keeper(self._pool, keep=self._owns_pool)
        self._fixed_timeout = None if timeout == "auto" else timeout
        self._timer = RoundTripTimer()
        self._clock_lock = threading.Lock()
        self._own_fork_lock = threading.RLock()
        # one reading: the server's time, and when it was asked for and received (monotonic)
        self._clock: tuple[float, float, float] | None = None

    @property
    def address(self) -> str:
        """Where it is, without secrets."""
        return self._address

    def __repr__(self) -> str:
        return f"RedisStore({self._address!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if not self._owns_pool:
            msg = "a RedisStore around a client cannot be pickled; make it from a URL"
            raise TypeError(msg)
        return (
            _remake,
            (self._url, "auto" if self._fixed_timeout is None else self._fixed_timeout),
        )

    # -- reading -----------------------------------------------------------------------------

    def fetch(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and group epochs: TIME and one MGET in one round trip."""
        sent = time.monotonic()
        names = (*groups, *keys)
        reply = self._ask([("TIME",), ("MGET", *names)] if names else [("TIME",)])
        now = self._read_clock(reply[0], sent)
        found = reply[1] if names else []
        epochs = found[: len(groups)]
        if None in epochs:
            epochs = self._create_epochs(groups)
        return Fetched(found[len(groups) :], epochs, now, sent)

    def _create_epochs(self, groups: Sequence[bytes]) -> list[bytes]:
        """Make absent epochs, once for all processes. No entry can carry them yet."""
        make: list[Command] = [("SET", group, os.urandom(16), "NX") for group in groups]
        epochs: list[bytes | None] = self._ask([*make, ("MGET", *groups)], writes=True)[-1]
        if any(epoch is None for epoch in epochs):
            msg = f"{self._address}: an epoch key holds something else than a string"
            raise StoreUnavailable(msg)
        return [epoch for epoch in epochs if epoch is not None]

    def look(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and epochs and create nothing; one key alone is a plain GET."""
        sent = time.monotonic()
        clock = self._clock
        known = clock is not None and sent - clock[1] <= _CLOCK_LIFE
        if known and len(keys) == 1 and not groups:
            assert clock is not None, "known"
            return Fetched([self._get(keys[0])], [], clock[0] + sent - clock[1], sent)
        ask: list[Command] = [] if known else [("TIME",)]
        if keys or groups:
            ask.append(("MGET", *groups, *keys))
        replies = self._ask(ask) if ask else []
        found = replies[-1] if keys or groups else []
        return self._seen(found, len(groups), clock if known else replies[0], sent)

    def heads(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read epochs and the first 24 bytes of each value."""
        sent = time.monotonic()
        clock = self._clock
        known = clock is not None and sent - clock[1] <= _CLOCK_LIFE
        first: list[Command] = [] if known else [("TIME",)]
        replies = self._run_after(first, "heads", [*groups, *keys], number(len(groups)))
        return self._seen(replies[-1], len(groups), clock if known else replies[0], sent)

    def _seen(
        self,
        found: list[bytes | None],
        groups: int,
        clock: tuple[float, float, float] | list[bytes] | None,
        sent: float,
    ) -> Fetched:
        """Return what was found; ``clock`` is a reading, or the reply to TIME."""
        if isinstance(clock, tuple):
            now = clock[0] + sent - clock[1]
        else:
            assert clock is not None, "a reading that is too old is no reading"
            now = self._read_clock(clock, sent)
        return Fetched(found[groups:], [epoch or b"" for epoch in found[:groups]], now, sent)

    def epochs(self, groups: Sequence[bytes], seconds: float | None) -> list[bytes]:
        """Return the epochs of groups, made or made to live on where needed."""
        if not groups:
            return []
        tokens: list[bytes] = self._run("epochs", groups, *epochs_arguments(len(groups), seconds))
        return tokens

    def changes(self, log: bytes, cursor: bytes) -> Changes:
        """Read what was forgotten since ``cursor``."""
        changes = changes_of(cursor, self._ask([changes_commands(log, cursor)])[0])
        if changes.cursor:
            return changes
        # a log that is empty or lost starts with an entry that says nothing: a place to stand
        start, end = ("XADD", log, "*", "e", b""), changes_commands(log, b"")
        opened = changes_of(b"", self._ask([end], writes=True)[0])
        if not opened.cursor:
            opened = changes_of(b"", self._ask([start, end], writes=True)[1])
        return Changes(opened.cursor, None if cursor else [])

    def now(self) -> float:
        """Return the server's time, from an answer at most ten seconds old."""
        read, sent, _ = self._read_lately()
        return read + time.monotonic() - sent

    def least_now(self) -> float:
        """Return the server's time if the answer took no time to come back."""
        read, _, received = self._read_lately()
        return read + time.monotonic() - received

    def least_now_at_hand(self) -> float | None:
        """Return what ``least_now`` would, if the last reading is young."""
        clock, here = self._clock, time.monotonic()
        if clock is None or here - clock[1] > _CLOCK_LIFE:
            return None
        return clock[0] + here - clock[2]

    def _read_lately(self) -> tuple[float, float, float]:
        clock = self._clock
        if clock is None or time.monotonic() - clock[1] > _CLOCK_LIFE:
            sent = time.monotonic()
            self._read_clock(self._ask([("TIME",)])[0], sent)
            clock = self._clock
        assert clock is not None, "it has just been read"
        return clock

    def _read_clock(self, reply: list[bytes], sent: float) -> float:
        seconds, microseconds = reply
        now = int(seconds) + int(microseconds) / 1e6
        with self._clock_lock:
            self._clock = (now, sent, time.monotonic())
        return now

    # -- loading -----------------------------------------------------------------------------

    def lease(
        self, keys: Sequence[bytes], token: bytes, seconds: float, mark: Mark
    ) -> list[bool | bytes]:
        """Claim the right to load."""
        arguments = (token, milliseconds(seconds), *with_mark(mark))
        return _answers(self._run("lease", slots(keys), *arguments))

    def claim(
        self, keys: Sequence[bytes], seen: Sequence[bytes], token: bytes, seconds: float
    ) -> list[bool | bytes]:
        """Claim the right to load, unless another value came than the one that was seen."""
        arguments = claim_arguments(token, seconds, seen)
        return _answers(self._run("claim", slots(keys), *arguments))

    def renew(self, keys: Sequence[bytes], token: bytes, seconds: float) -> None:
        """Prolong leases that are still held."""
        self._run("extend", slots(keys)[1::2], token, milliseconds(seconds))

    def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give leases back."""
        self._run("extend", slots(keys)[1::2], token, b"0")

    def fill(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        token: bytes,
        mark: Mark,
        ttl: Ttl,
    ) -> list[bool | bytes]:
        """Write loaded values whose lease is held; the first writer wins."""
        pairs = value_and_life(values, lives(ttl, len(values)))
        return _answers(self._run("fill", slots(keys), token, *with_mark(mark), *pairs))

    # -- writing what may change ---------------------------------------------------------------

    def expect(self, keys: Sequence[bytes], token: bytes, seconds: float) -> list[bytes]:
        """Return what a commit will have to find at each key."""
        found: list[bytes] = self._run("expect", slots(keys), token, milliseconds(seconds))
        return found

    def commit(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        expected: Sequence[bytes],
        ttl: Ttl,
        log: bytes,  # noqa: ARG002  (the server pushes)
        token: bytes = b"",
        seconds: float = 0.0,
    ) -> list[bool | bytes]:
        """Write each value if its key still holds what is expected, and end its lease."""
        arguments = commit_arguments(values, lives(ttl, len(values)), expected, token, seconds)
        return _answers(self._run("commit", slots(keys), *arguments))

    def commit_and_look(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        expected: Sequence[bytes],
        ttl: Ttl,
        log: bytes,  # noqa: ARG002  (the server pushes)
        token: bytes,
        seconds: float,
        groups: Sequence[bytes],
    ) -> tuple[list[bool | bytes], list[bytes]]:
        """Commit, and return the epochs that groups have after it; in one request."""
        arguments = commit_arguments(values, lives(ttl, len(values)), expected, token, seconds)
        then: Command = ("MGET", *groups)
        replies = self._run_among((), "commit", slots(keys), arguments, (then,), writes=True)
        return _answers(replies[0]), [epoch or b"" for epoch in replies[1]]

    @property
    def patience(self) -> float:
        """How long a put may be under way."""
        return self._fixed_timeout or self._timer.timeout

    def put(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,  # noqa: ARG002  (the server pushes)
        deadline: float,
        groups: Sequence[bytes],
    ) -> list[bytes] | None:
        """Write values over whatever is there, unless it is too late; in one request."""
        pairs = value_and_life(values, lives(ttl, len(values)))
        arguments = (number(int(deadline * 1000)), *pairs)
        then: list[Command] = [("MGET", *groups)] if groups else []
        done, *found = self._run_among((), "put", slots(keys), arguments, then, writes=True)
        if not done:
            self._clock = None  # perhaps it was set: read it anew
            return None
        return [epoch or b"" for epoch in (found[0] if groups else ())]

    def revoke(
        self,
        keys: Sequence[bytes],
        log: bytes,  # noqa: ARG002  pushes tell
        versions: Sequence[bytes] | None = None,
    ) -> int:
        """Delete values and absence tokens, in one step."""
        return int(self._run("revoke", slots(keys), *(versions or ()))) if keys else 0

    def bump(
        self,
        group: bytes,
        token: bytes,
        log: bytes,  # noqa: ARG002
        seconds: float | None = None,
    ) -> None:
        """Make ``token`` the epoch of a group."""
        life = () if seconds is None else (b"PX", milliseconds(seconds))
        self._ask([("SET", group, token, *life)], writes=True)

    def touch(self, keys: Sequence[bytes], seconds: float) -> None:
        """Let values that have a limited life live at least ``seconds`` from now."""
        if keys:
            self._run("touch", keys, *touch_arguments(seconds))

    def scan(
        self, start: Start, cursor: int, count: int, *, leases: bool = False
    ) -> tuple[int, list[bytes]]:
        """Return the next cursor and about ``count`` names of values: one SCAN."""
        command = scan_command(start, cursor, count, leases=leases)
        return scanned(start, cursor, self._ask([command])[0], leases=leases)

    def stream(self) -> Stream:
        """Return a new stream of changes: a connection of its own, beside the pool."""
        return RedisStream(
            self._pool,
            self._address,
            self._write_canary,
            self._read_clock,
            lambda: self._timer.usual,
        )

    def _write_canary(self, key: bytes, seconds: float) -> None:
        self._ask([("SET", key, b"", "PX", milliseconds(seconds))], writes=True)

    # -- writing -----------------------------------------------------------------------------

    def write(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        entries: Sequence[bytes],
    ) -> None:
        """Write values whatever is there."""
        pairs = value_and_life(values, lives(ttl, len(values)))
        self._run("write", [log, *slots(keys)], number(LOG_LENGTH), *pairs, *entries)

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, and log it."""
        commands = forget_commands(keys, log, entries)
        replies = self._ask(commands, writes=True) if commands else []
        return int(replies[1]) if keys else 0

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, and log it."""
        self._ask(forget_group_commands(group, os.urandom(16), log, entry), writes=True)

    def drop_corrupt(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Delete keys that still hold exactly these bytes."""
        self._run("drop", keys, *values)

    def purge(self) -> int:
        """Return 0: the server deletes what has expired."""
        return 0

    def may_evict(self) -> bool:
        """Say whether the server has a maxmemory and a policy; one that does not say has none."""
        return may_evict(self._ask([("INFO", "memory")])[0])

    # -- the connection ----------------------------------------------------------------------

    def _run(self, name: str, keys: Sequence[bytes], *arguments: bytes | str) -> Any:
        return self._run_after((), name, keys, *arguments, writes=True)[-1]

    def _run_after(
        self,
        first: Sequence[Command],
        name: str,
        keys: Sequence[bytes],
        *arguments: bytes | str,
        writes: bool = False,
    ) -> list:  # type: ignore[type-arg]
        return self._run_among(first, name, keys, arguments, (), writes=writes)

    def _run_among(
        self,
        first: Sequence[Command],
        name: str,
        keys: Sequence[bytes],
        arguments: Command,
        then: Sequence[Command],
        *,
        writes: bool,
    ) -> list:  # type: ignore[type-arg]
        known = script(name)
        call = known.call(keys, *arguments)
        try:
            return self._ask([*first, call, *then], writes=writes)
        except _UnknownScript:
            return self._ask([*first, known.call_with_text(call), *then], writes=writes)

    def _ask(self, commands: Sequence[Command], *, writes: bool = False) -> list:  # type: ignore[type-arg]
        """Send commands in one go and return their replies; every failure is a StoreError."""
        lent = None
        try:
            lent = self._keeper.lend()
            try:
                replies = self._exchange(lent.connection, commands, writes=writes)
            except redis.ResponseError:
                self._keeper.take_back(lent)
                raise
            except BaseException:
                self._keeper.drop(lent)
                raise
            self._keeper.take_back(lent)
            return replies
        # AttributeError: Ctrl-C while it connected leaves a redis-py connection without a parser
        except (redis.RedisError, OSError, AttributeError) as error:
            explained = self._explained(error)
            explained.is_over = lent is None or isinstance(error, redis.ResponseError)
            raise explained from error

    def _get(self, key: bytes) -> bytes | None:
        """Read one value: what ``_ask`` does, with nothing that one GET can do without."""
        try:
            lent = self._keeper.lend()
            connection = lent.connection
            try:
                sent = time.monotonic()
                connection.send_packed_command(  # type: ignore[no-untyped-call]
                    (b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key),),
                    check_health=False,
                )
                limits = (
                    {"timeout": self._fixed_timeout or self._timer.timeout}
                    if _TIMEOUT_PER_READ
                    else {}
                )
                value: bytes | None = connection.read_response(disable_decoding=True, **limits)
                self._timer.answered(time.monotonic() - sent)
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
        # AttributeError: Ctrl-C while it connected leaves a redis-py connection without a parser
        except (redis.RedisError, OSError, AttributeError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> StoreError:
        if isinstance(error, redis.TimeoutError):
            self._timer.timed_out()
            return StoreTimeout(f"{self._address} did not answer in time: {error}")
        if isinstance(error, redis.exceptions.ReadOnlyError):
            return StoreReadOnly(f"{self._address} is a read-only replica; name its primary")
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return StoreReadOnly(
                f"{self._address} is full and evicts nothing: raise maxmemory or set a policy"
            )
        if isinstance(error, redis.exceptions.NoScriptError):
            return _UnknownScript(str(error))
        return StoreUnavailable(f"{self._address}: {error}")

    def _exchange(
        self, connection: "redis.Connection", commands: Sequence[Command], *, writes: bool
    ) -> list[object]:
        timeout = self._fixed_timeout
        if timeout is None:
            timeout = max(self._timer.timeout, _WRITE_TIMEOUT if writes else 0)
        limits: dict[str, Any] = {"timeout": timeout} if _TIMEOUT_PER_READ else {}
        sent = time.monotonic()
        packed = connection.pack_commands(commands)  # type: ignore[no-untyped-call]
        connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]
        replies: list[object] = []
        refused: redis.ResponseError | None = None
        for _ in commands:  # every reply is read, or the next call would get this one's
            try:
                replies.append(connection.read_response(disable_decoding=True, **limits))
            except redis.ResponseError as error:
                refused = refused or error
        self._timer.answered(time.monotonic() - sent)
        if refused is not None:
            raise refused
        return replies

    @property
    def fork_lock(self) -> Any:
        """What a fork holds: redis-py's pool takes its lock in the child, too, whoever had it."""
        return getattr(self._pool, "_lock", self._own_fork_lock)

    def reset_after_fork(self) -> None:
        """Keep no connection of the parent's; redis-py's pool sees the new process id by itself."""
        self._clock_lock = threading.Lock()
        self._keeper.start_anew()

    def close(self) -> None:
        """Close the connections of a store made from a URL."""
        if self._owns_pool:
            self._keeper.close()


def _remake(url: str, timeout: float | Literal["auto"]) -> RedisStore:
    return RedisStore(url, timeout=timeout)


class _UnknownScript(StoreError):
    """The server has not seen this script since it started."""


def _answers(reply: list[object]) -> list[bool | bytes]:
    return [bool(answer) if isinstance(answer, int) else bytes(answer) for answer in reply]  # type: ignore[call-overload]
