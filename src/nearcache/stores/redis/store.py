"""The Redis and Valkey store: every method is one packed request, of commands from ``wire``.

A server's connections are in ``node``. A store of one server asks for all keys of a call
together; a cluster's (``cluster``) asks for those of each slot apart, all at once.
"""

import os
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import redis

from nearcache.entry import Mark
from nearcache.errors import ConfigError, StoreTimeout, StoreUnavailable
from nearcache.stores.base import LOG_LENGTH, Changes, Fetched, Size, Start, Stream, Ttl, lives
from nearcache.stores.redis.clock import Reading, ServerClock
from nearcache.stores.redis.node import Node, UnknownScript
from nearcache.stores.redis.replies import answers, pairs, tokens, values_of, whole
from nearcache.stores.redis.stream import RedisStream
from nearcache.stores.redis.url import (
    SCHEMES,
    is_limited,
    is_scarce,
    pool_like,
    pool_of,
    without_secrets,
)
from nearcache.stores.redis.wire import (
    Command,
    Part,
    board_names,
    changes_commands,
    changes_of,
    claim_arguments,
    commit_columns,
    commit_common,
    epochs_arguments,
    forget_commands,
    forget_group_commands,
    lives_of,
    logged,
    may_evict,
    merged,
    milliseconds,
    number,
    picked,
    scan_command,
    scanned,
    script,
    size_commands,
    size_of,
    slots,
    touch_arguments,
    with_mark,
    with_text,
)

__all__ = ["SCHEMES", "RedisStore"]


class RedisStore:
    """Values on a Redis or Valkey server, by URL or as a ``redis.Redis`` client of yours has it.

    Of a client the settings are taken as they are now, for connections of our own, no more than
    its pool may have, that wait no longer than a cache may. A pool of a kind we do not know is used
    as it is.

    timeout: seconds to wait for an answer; "auto" follows measured round trips.
    least: seconds that "auto" waits at least, where a moment's stall would be an error to somebody.

    Thread-safe. Constructing does no I/O.
    """

    def __init__(
        self,
        url_or_client: "str | redis.Redis",
        *,
        timeout: float | Literal["auto"] = "auto",
        least: float = 0.0,
    ) -> None:
        self._url: str | None = None
        ours: redis.ConnectionPool | None
        if isinstance(url_or_client, str):
            ours = pool = pool_of(url_or_client)
            self._url = url_or_client
            address = without_secrets(url_or_client)
        elif isinstance(url_or_client, redis.Redis):
            pool = url_or_client.connection_pool
            ours = pool_like(pool)
            where = pool.connection_kwargs
            address = f"redis://{where.get('host', where.get('path', ''))}:{where.get('port', '')}"
        else:
            msg = (
                "RedisStore takes a URL or a redis.Redis client, not "
                f"{type(url_or_client).__name__}; the async face uses the same client in a thread"
            )
            raise ConfigError(msg)
        self._owns_pool = ours is not None
        self._timeout, self._least = timeout, least
        keep = ours is not None and not is_limited(ours)
        # a report must not take the connection that a caller would have had
        self.reportable = not is_scarce(ours or pool)
        self._node = Node(
            ours or pool,
            address,
            ours=self._owns_pool,
            keep=keep,
            timeout=timeout,
            least=least,
        )

    @property
    def address(self) -> str:
        """Where it is, without secrets."""
        return self._node.address

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if self._url is None:
            msg = "a RedisStore around a client cannot be pickled; make it from a URL"
            raise TypeError(msg)
        return _remake, (type(self), self._url, self._timeout, self._least)

    # -- reading -----------------------------------------------------------------------------

    def fetch(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and group epochs: TIME and one MGET in one round trip."""
        sent = time.monotonic()
        (reply,), found = self._read([("TIME",)], (*groups, *keys))
        now = self._clock.read(reply, sent)
        epochs = [epoch for epoch in found[: len(groups)] if epoch is not None]
        if len(epochs) != len(groups):
            epochs = self._create_epochs(groups)
        return Fetched(found[len(groups) :], epochs, now, sent)

    def _create_epochs(self, groups: Sequence[bytes]) -> list[bytes]:
        """Make absent epochs, once for all processes. No entry can carry them yet."""
        make: list[Command] = [("SET", group, os.urandom(16), "NX") for group in groups]
        _, found = self._read(make, groups, writes=True)
        epochs = [epoch for epoch in found if epoch is not None]
        if len(epochs) != len(groups):
            msg = f"{self.address}: an epoch key holds something else than a string"
            raise StoreUnavailable(msg)
        return epochs

    def look(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and epochs and create nothing; one key alone is a plain GET."""
        sent = time.monotonic()
        reading = self._clock.reading
        if reading is not None and len(keys) == 1 and not groups:
            return Fetched([self._get(keys[0])], [], reading.time + sent - reading.sent, sent)
        first: list[Command] = [("TIME",)] if reading is None else []
        replies, found = self._read(first, (*groups, *keys))
        return self._seen(found, len(groups), reading, replies, sent)

    def heads(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read epochs and the first 24 bytes of each value."""
        sent = time.monotonic()
        reading = self._clock.reading
        first: list[Command] = [("TIME",)] if reading is None else []
        names = (*groups, *keys)
        parts = self._together(names)
        heads = script("heads")
        count = len(groups)
        for part in parts:
            groups_in_it = number(sum(1 for i in part if i < count) if count else 0)
            first.append(heads.call(picked(names, part), groups_in_it))
        replies = self._ask(first)
        values = values_of(merged(parts, replies[len(replies) - len(parts) :], len(names)))
        return self._seen(values, count, reading, replies, sent)

    def _seen(
        self,
        found: list[bytes | None],
        groups: int,
        reading: Reading | None,
        replies: list[Any],
        sent: float,
    ) -> Fetched:
        """Return what was found; without a reading of the clock the first reply is one."""
        if reading is None:
            now = self._clock.read(replies[0], sent)
        else:
            now = reading.time + sent - reading.sent
        return Fetched(found[groups:], [epoch or b"" for epoch in found[:groups]], now, sent)

    def epochs(self, groups: Sequence[bytes], seconds: float | None) -> list[bytes]:
        """Return the epochs of groups, made or made to live on where needed."""
        common, new = epochs_arguments(len(groups), seconds)
        return tokens(self._each("epochs", groups, common, new, leases=False))

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

    @property
    def _clock(self) -> ServerClock:
        return self._node.clock

    def now(self) -> float:
        """Return the server's time, from an answer at most ten seconds old."""
        return self._reading().latest()

    def least_now(self) -> float:
        """Return the server's time if the answer took no time to come back."""
        return self._reading().earliest()

    def least_now_at_hand(self) -> float | None:
        """Return what ``least_now`` would, if the last reading is young."""
        reading = self._clock.reading
        return None if reading is None else reading.earliest()

    def _reading(self) -> Reading:
        clock = self._clock
        reading = clock.reading
        while reading is None:
            sent = time.monotonic()
            clock.read(self._ask([("TIME",)])[0], sent)
            reading = clock.reading
        return reading

    # -- loading -----------------------------------------------------------------------------

    def lease(
        self, keys: Sequence[bytes], token: bytes, seconds: float, mark: Mark
    ) -> list[bool | bytes]:
        """Claim the right to load."""
        return self._answers("lease", keys, (token, milliseconds(seconds), *with_mark(mark)))

    def claim(
        self, keys: Sequence[bytes], seen: Sequence[bytes], token: bytes, seconds: float
    ) -> list[bool | bytes]:
        """Claim the right to load, unless another value came than the one that was seen."""
        return self._answers("claim", keys, claim_arguments(token, seconds), seen)

    def renew(self, keys: Sequence[bytes], token: bytes, seconds: float) -> None:
        """Prolong leases that are still held."""
        leases = slots(keys)[1::2]
        self._run("extend", leases, (token, milliseconds(seconds)), leases=False)

    def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give leases back."""
        self._run("extend", slots(keys)[1::2], (token, b"0"), leases=False)

    def fill(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        token: bytes,
        mark: Mark,
        ttl: Ttl,
    ) -> list[bool | bytes]:
        """Write loaded values whose lease is held; the first writer wins."""
        common = (token, *with_mark(mark))
        return self._answers("fill", keys, common, values, lives_of(lives(ttl, len(values))))

    # -- writing what may change ---------------------------------------------------------------

    def expect(self, keys: Sequence[bytes], token: bytes, seconds: float) -> list[bytes]:
        """Return what a commit will have to find at each key."""
        return tokens(self._each("expect", keys, (token, milliseconds(seconds))))

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
        columns = commit_columns(values, lives(ttl, len(values)), expected)
        return self._answers("commit", keys, commit_common(token, seconds), *columns)

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
        columns = commit_columns(values, lives(ttl, len(values)), expected)
        parts, calls = self._calls("commit", keys, commit_common(token, seconds), *columns)
        replies, epochs = self._read(calls, groups, writes=True)
        return answers(merged(parts, replies, len(keys))), [epoch or b"" for epoch in epochs]

    def patience(self, size: int = 0) -> float:
        """How long a put may be under way."""
        return self._node.patience(size)

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
        columns = (values, lives_of(lives(ttl, len(values))))
        _, calls = self._calls("put", keys, (self._deadline(deadline),), *columns)
        replies, epochs = self._read(calls, groups, writes=True)
        done = [whole(reply) for reply in replies]
        if all(done):
            return [epoch or b"" for epoch in epochs]
        self._doubt_clocks()
        if any(done):
            msg = f"{self.address}: it was too late for some of the values when others were written"
            raise StoreTimeout(msg)
        return None

    def _doubt_clocks(self) -> None:
        self._clock.forget()  # perhaps it was set: read it anew

    def _deadline(self, deadline: float) -> bytes:
        return number(int(deadline * 1000))

    def revoke(
        self,
        keys: Sequence[bytes],
        log: bytes,  # noqa: ARG002  pushes tell
        versions: Sequence[bytes] | None = None,
    ) -> int:
        """Delete values and absence tokens, in one step."""
        columns = () if versions is None else (versions,)
        return sum(map(whole, self._run("revoke", keys, (), *columns)))

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
        self._run("touch", keys, touch_arguments(seconds), leases=False)

    def scan(
        self, start: Start, cursor: int, count: int, *, leases: bool = False
    ) -> tuple[int, list[bytes]]:
        """Return the next cursor and about ``count`` names of values: one SCAN."""
        command = scan_command(start, cursor, count, leases=leases)
        return scanned(start, cursor, self._ask([command])[0], leases=leases)

    def report(self, board: bytes, name: bytes, value: bytes, seconds: float) -> None:
        """Put a value on a board for so long: one script."""
        life = number(int(1000 * max(0.0, seconds)))
        self._ask([script("report").call(board_names(board), name, value, life)], writes=True)

    def reports(self, board: bytes) -> dict[bytes, bytes]:
        """Return what is on a board and has not ended: one script."""
        return pairs(self._ask([script("reports").call(board_names(board))])[0])

    def stream(self) -> Stream:
        """Return a new stream of changes: a connection of its own, beside the pool."""
        return RedisStream(self._node)

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
        columns = (values, lives_of(lives(ttl, len(values))), entries)
        rows = chain.from_iterable(zip(*columns, strict=True))
        self._ask(
            [script("write").call([*slots(keys), log], number(LOG_LENGTH), *rows)], writes=True
        )

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, and log it."""
        if not keys:
            return 0
        replies = self._ask([*forget_commands(keys), *logged(log, entries)], writes=True)
        return whole(replies[1])

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, and log it."""
        self._ask(forget_group_commands(group, os.urandom(16), log, entry), writes=True)

    def drop_corrupt(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Delete keys that still hold exactly these bytes."""
        self._run("drop", keys, (), values, leases=False)

    def purge(self) -> int:
        """Return 0: the server deletes what has expired."""
        return 0

    def size(self) -> Size:
        """Return how many keys the server has, and the memory it has allocated."""
        return Size(*size_of(self._ask(size_commands())))

    def may_evict(self) -> bool:
        """Say whether the server has a maxmemory and a policy; one that does not say has none."""
        return may_evict(self._ask([("INFO", "memory")])[0])

    # -- asking ------------------------------------------------------------------------------

    def _together(self, names: Sequence[bytes]) -> list[Part]:
        """Return the positions of names that one command may have: all of them."""
        return [range(len(names))] if names else []

    def _ask(self, commands: Sequence[Command], *, writes: bool = False) -> list[Any]:
        """Send commands in one go and return their replies; every failure is a StoreError."""
        try:
            return self._node.ask(commands, writes=writes)
        except UnknownScript:
            return self._node.ask([with_text(command) for command in commands], writes=writes)

    def _get(self, key: bytes) -> bytes | None:
        return self._node.get(key)

    def _read(
        self, first: Sequence[Command], names: Sequence[bytes], *, writes: bool = False
    ) -> tuple[list[Any], list[bytes | None]]:
        """Ask, then MGET names, in one request; return the replies and what was found."""
        parts = self._together(names)
        reads: list[Command] = [("MGET", *picked(names, part)) for part in parts]
        commands = [*first, *reads]
        replies = self._ask(commands, writes=writes) if commands else []
        count = len(first)
        return replies[:count], values_of(merged(parts, replies[count:], len(names)))

    def _calls(
        self,
        name: str,
        keys: Sequence[bytes],
        common: Sequence[bytes],
        *columns: Sequence[bytes],
        leases: bool = True,
    ) -> tuple[list[Part], list[Command]]:
        """Return a call of a script for each part of the keys, with their part of each column."""
        known, parts = script(name), self._together(keys)
        calls = []
        for part in parts:
            names = picked(keys, part)
            rows = zip(*(picked(column, part) for column in columns), strict=True)
            arguments = (*common, *chain.from_iterable(rows))
            calls.append(known.call(slots(names) if leases else names, *arguments))
        return parts, calls

    def _run(
        self,
        name: str,
        keys: Sequence[bytes],
        common: Sequence[bytes],
        *columns: Sequence[bytes],
        leases: bool = True,
    ) -> list[Any]:
        """Call a script; return a reply for each part of the keys."""
        _, calls = self._calls(name, keys, common, *columns, leases=leases)
        return self._ask(calls, writes=True) if calls else []

    def _each(
        self,
        name: str,
        keys: Sequence[bytes],
        common: Sequence[bytes],
        *columns: Sequence[bytes],
        leases: bool = True,
    ) -> list[Any]:
        """Call a script; return its answer for each key."""
        parts, calls = self._calls(name, keys, common, *columns, leases=leases)
        return merged(parts, self._ask(calls, writes=True) if calls else [], len(keys))

    def _answers(
        self,
        name: str,
        keys: Sequence[bytes],
        common: Sequence[bytes],
        *columns: Sequence[bytes],
    ) -> list[bool | bytes]:
        return answers(self._each(name, keys, common, *columns))

    # -- living ------------------------------------------------------------------------------

    @property
    def fork_lock(self) -> Any:
        """What a fork holds."""
        return self._node.fork_lock

    def reset_after_fork(self) -> None:
        """Keep no connection of the parent's."""
        self._node.reset_after_fork()

    def close(self) -> None:
        """Close all connections, but those of a client's pool of a kind we do not know."""
        if self._owns_pool:
            self._node.close()


def _remake(
    kind: type[RedisStore], url: str, timeout: float | Literal["auto"], least: float
) -> RedisStore:
    return kind(url, timeout=timeout, least=least)
