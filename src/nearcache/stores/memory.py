"""A store in this process, for tests: the same contract as the real ones, nothing survives."""

import os
import threading
from collections.abc import Callable, Sequence

from nearcache.clock import Clock, monotonic
from nearcache.entry import Mark
from nearcache.stores.base import (
    HELD,
    LOG_LENGTH,
    SKIPPED,
    TAKEN,
    TOKEN_BYTES,
    WRITTEN,
    Changes,
    Fetched,
    Size,
    Start,
    Stream,
    Ttl,
    begins,
    has_version,
    is_value,
    lease_of,
    lives,
    most_scanned,
    version_of,
)
from nearcache.stores.memory_names import Names
from nearcache.stores.memory_stream import Announcer, MemoryStream

__all__ = ["MemoryStore"]


class MemoryStore:
    """Values in a dict, shared by every cache that is given this object.

    Thread-safe: one lock, and below it that of the streams. ``clock`` is the store's time.
    What changes is said first, and then done, under the lock: Ctrl-C in between leaves no change
    that nobody hears of.
    """

    def __init__(self, *, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[bytes, tuple[bytes, float | None]] = {}
        self._names = Names()  # of the values
        self._epochs: dict[bytes, tuple[bytes, float | None]] = {}
        self._leases: dict[bytes, tuple[bytes, float]] = {}
        self._logs: dict[bytes, list[bytes]] = {}
        self._boards: dict[bytes, dict[bytes, tuple[bytes, float]]] = {}
        self._announcer = Announcer()

    @property
    def address(self) -> str:
        """Where it is."""
        return "memory://"

    def __len__(self) -> int:
        return len(self._values)

    def fetch(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and group epochs."""
        with self._lock:
            sent = now = self._clock()
            epochs = [self._epoch(group, now) or self._new_epoch(group, None) for group in groups]
            return Fetched([self._value(key, now) for key in keys], epochs, now, sent)

    def _value(self, key: bytes, now: float) -> bytes | None:
        value, expiry = self._values.get(key, (None, None))
        return value if expiry is None or expiry > now else None

    def _epoch(self, group: bytes, now: float) -> bytes:
        token, expiry = self._epochs.get(group, (b"", None))
        return token if expiry is None or expiry > now else b""

    def _new_epoch(self, group: bytes, expiry: float | None, token: bytes = b"") -> bytes:
        token = token or os.urandom(16)
        self._announcer.tell([group])
        self._epochs[group] = (token, expiry)
        return token

    def look(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and epochs and create nothing."""
        with self._lock:
            sent = now = self._clock()
            epochs = [self._epoch(group, now) for group in groups]
            return Fetched([self._value(key, now) for key in keys], epochs, now, sent)

    def heads(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read epochs and the first 24 bytes of each value."""
        found = self.look(keys, groups)
        return found._replace(values=[value and value[:24] for value in found.values])

    def epochs(self, groups: Sequence[bytes], seconds: float | None) -> list[bytes]:
        """Return the epochs of groups, made or made to live on where needed."""
        with self._lock:
            now = self._clock()
            later = None if seconds is None else now + 2 * seconds
            for group in groups:
                token, expiry = self._epoch(group, now), self._epochs.get(group, (b"", None))[1]
                if not token:
                    self._new_epoch(group, later)
                elif expiry is not None and (seconds is None or expiry < now + seconds):
                    self._new_epoch(group, later, token)
            return [self._epochs[group][0] for group in groups]

    def lease(
        self, keys: Sequence[bytes], token: bytes, seconds: float, mark: Mark
    ) -> list[bool | bytes]:
        """Claim the right to load."""
        answers: list[bool | bytes] = []
        with self._lock:
            now = self._clock()
            for key in keys:
                value = self._value(key, now)
                if value is not None and mark.wins(value):
                    answers.append(value)
                elif key in self._leases and self._leases[key][1] > now:
                    answers.append(HELD)
                else:
                    self._set_lease(key, token, now + seconds)
                    answers.append(TAKEN)
        return answers

    def claim(
        self, keys: Sequence[bytes], seen: Sequence[bytes], token: bytes, seconds: float
    ) -> list[bool | bytes]:
        """Claim the right to load, unless another value came than the one that was seen."""
        answers: list[bool | bytes] = []
        with self._lock:
            now = self._clock()
            for key, version in zip(keys, seen, strict=True):
                value = self._value(key, now)
                if value is not None and is_value(value) and version_of(value) != version:
                    answers.append(value)
                elif self._absence(key, now):
                    answers.append(HELD)
                else:
                    self._set_lease(key, token, now + seconds)
                    answers.append(TAKEN)
        return answers

    def _held(self, key: bytes, now: float) -> bytes:
        held, expiry = self._leases.get(key, (b"", 0.0))
        return held if expiry > now else b""

    def _absence(self, key: bytes, now: float) -> bytes:
        held = self._held(key, now)
        return held if len(held) == TOKEN_BYTES else b""

    def _holds(self, key: bytes, token: bytes) -> bool:
        return self._held(key, self._clock()) == token

    def _set_lease(self, key: bytes, token: bytes, expiry: float) -> None:
        self._announcer.tell([lease_of(key)])
        self._leases[key] = (token, expiry)

    def _end_lease(self, key: bytes) -> None:
        if key in self._leases:
            self._announcer.tell([lease_of(key)])
            self._leases.pop(key, None)

    def renew(self, keys: Sequence[bytes], token: bytes, seconds: float) -> None:
        """Prolong leases that are still held."""
        with self._lock:
            for key in keys:
                if self._holds(key, token):
                    self._set_lease(key, token, self._clock() + seconds)

    def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give leases back."""
        with self._lock:
            for key in keys:
                if self._holds(key, token):
                    self._end_lease(key)

    def fill(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        token: bytes,
        mark: Mark,
        ttl: Ttl,
    ) -> list[bool | bytes]:
        """Write loaded values whose lease is held; the first writer wins."""
        answers: list[bool | bytes] = []
        with self._lock:
            now = self._clock()
            for key, value, life in zip(keys, values, lives(ttl, len(keys)), strict=True):
                stored = self._value(key, now)
                held = self._holds(key, token)
                if held:
                    self._end_lease(key)
                if stored is not None and mark.wins(stored):
                    answers.append(stored)
                elif held:
                    self._set_value(key, value, None if life is None else now + life)
                    answers.append(WRITTEN)
                else:
                    answers.append(SKIPPED)
        return answers

    def _set_value(self, key: bytes, value: bytes, expiry: float | None) -> None:
        self._announcer.tell([key])
        self._names.add(key)
        self._values[key] = (value, expiry)

    def _delete(self, key: bytes) -> None:
        if key in self._values:
            self._announcer.tell([key])
            self._values.pop(key, None)
            self._names.remove(key)

    def write(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        entries: Sequence[bytes],
    ) -> None:
        """Write values whatever is there."""
        with self._lock:
            now = self._clock()
            seconds = lives(ttl, len(keys))
            for key, value, entry, life in zip(keys, values, entries, seconds, strict=True):
                if self._value(key, now) != value:
                    self._append(log, entry)
                self._set_value(key, value, None if life is None else now + life)
                self._end_lease(key)

    def _append(self, log: bytes, entry: bytes) -> None:
        self._logs.setdefault(log, []).append(entry)

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, and log it."""
        with self._lock:
            now = self._clock()
            found = 0
            for entry in entries:
                self._append(log, entry)
            for key in keys:
                found += self._value(key, now) is not None
                self._delete(key)
                self._end_lease(key)
            return found

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, and log it."""
        with self._lock:
            self._append(log, entry)
            self._new_epoch(group, None)

    def drop_corrupt(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Delete keys that still hold exactly these bytes."""
        with self._lock:
            for key, value in zip(keys, values, strict=True):
                if self._values.get(key, (None, None))[0] == value:
                    self._delete(key)

    # -- values that may change ----------------------------------------------------------------

    def expect(self, keys: Sequence[bytes], token: bytes, seconds: float) -> list[bytes]:
        """Return what a commit will have to find at each key."""
        with self._lock:
            now = self._clock()
            return [self._expected(key, token, seconds, now) for key in keys]

    def _expected(self, key: bytes, token: bytes, seconds: float, now: float) -> bytes:
        there = version_of(self._value(key, now)) or self._absence(key, now)
        if there or not seconds:
            return there
        self._set_lease(key, token, now + seconds)
        return token

    def commit(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        expected: Sequence[bytes],
        ttl: Ttl,
        log: bytes,  # noqa: ARG002
        token: bytes = b"",
        seconds: float = 0.0,
    ) -> list[bool | bytes]:
        """Write each value if its key still holds what is expected, and end its lease."""
        answers: list[bool | bytes] = []
        with self._lock:
            now = self._clock()
            each = zip(keys, values, expected, lives(ttl, len(keys)), strict=True)
            for key, value, there, life in each:
                if there and there in (version_of(self._value(key, now)), self._absence(key, now)):
                    self._set_value(key, value, None if life is None else now + life)
                    self._end_lease(key)
                    answers.append(WRITTEN)
                else:
                    answers.append(self._expected(key, token, seconds, now))
        return answers

    def commit_and_look(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        expected: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        token: bytes,
        seconds: float,
        groups: Sequence[bytes],
    ) -> tuple[list[bool | bytes], list[bytes]]:
        """Commit, and return the epochs that groups have after it."""
        answers = self.commit(keys, values, expected, ttl, log, token, seconds)
        return answers, self.look([], groups).epochs

    def patience(self, size: int = 0) -> float:  # noqa: ARG002
        """How long a put may be under way: for whoever puts one off."""
        return 0.05

    def put(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,  # noqa: ARG002
        deadline: float,
        groups: Sequence[bytes],
    ) -> list[bytes] | None:
        """Write values over whatever is there, unless it is too late."""
        with self._lock:
            now = self._clock()
            if now > deadline:
                return None
            for key, value, life in zip(keys, values, lives(ttl, len(keys)), strict=True):
                self._set_value(key, value, None if life is None else now + life)
                self._end_lease(key)
            return [self._epoch(group, now) for group in groups]

    def revoke(
        self, keys: Sequence[bytes], log: bytes, versions: Sequence[bytes] | None = None
    ) -> int:
        """Delete values and absence tokens."""
        if versions is None:
            return self.forget(keys, log, ())
        with self._lock:
            now = self._clock()
            chosen = [
                has_version(self._value(key, now), theirs)
                for key, theirs in zip(keys, versions, strict=True)
            ]
            for key, gone in zip(keys, chosen, strict=True):
                if gone:
                    self._delete(key)
                self._end_lease(key)
            return sum(chosen)

    def bump(
        self,
        group: bytes,
        token: bytes,
        log: bytes,  # noqa: ARG002
        seconds: float | None = None,
    ) -> None:
        """Make ``token`` the epoch of a group."""
        with self._lock:
            self._new_epoch(group, None if seconds is None else self._clock() + seconds, token)

    def touch(self, keys: Sequence[bytes], seconds: float) -> None:
        """Let values that have a limited life live at least ``seconds`` from now."""
        with self._lock:
            now = self._clock()
            for key in keys:
                value, expiry = self._values.get(key, (b"", None))
                if expiry is not None and now < expiry < now + 0.9 * seconds:
                    self._values[key] = (value, now + seconds)
                token, expiry = self._epochs.get(key, (b"", None))
                if expiry is not None and now < expiry < now + 0.9 * seconds:
                    self._epochs[key] = (token, now + seconds)

    def scan(
        self, start: Start, cursor: int, count: int, *, leases: bool = False
    ) -> tuple[int, list[bytes]]:
        """Return the next cursor and about ``count`` names of values that begin so."""
        with self._lock:
            now = self._clock()
            found = []
            if leases and not cursor:
                found = [key for key in self._leases if begins(key, start) and self._held(key, now)]
            cursor, page = self._names.page(cursor, most_scanned(count))
            found += [key for key in page if begins(key, start) and self._value(key, now)]
            return cursor, found

    def report(self, board: bytes, name: bytes, value: bytes, seconds: float) -> None:
        """Put a value on a board for so long."""
        with self._lock:
            now = self._clock()
            stay = {**self._boards.get(board, {}), name: (value, now + seconds)}
            self._boards[board] = {name: pair for name, pair in stay.items() if pair[1] > now}

    def reports(self, board: bytes) -> dict[bytes, bytes]:
        """Return what is on a board and has not ended."""
        with self._lock:
            now = self._clock()
            said = self._boards.get(board, {}).items()
            return {name: value for name, (value, end) in said if end > now}

    def stream(self) -> Stream:
        """Return a new stream of changes."""
        return MemoryStream(self._announcer)

    def flush(self) -> None:
        """Drop everything but the logs, as a server that is flushed does."""
        with self._lock:
            self._announcer.tell_everything()
            self._values.clear()
            self._names.clear()
            self._epochs.clear()
            self._leases.clear()
            self._boards.clear()

    # -- the log, and time ---------------------------------------------------------------------

    def changes(self, log: bytes, cursor: bytes) -> Changes:
        """Read what was forgotten since ``cursor``."""
        with self._lock:
            entries = self._logs.setdefault(log, [])
            end = str(len(entries)).encode()
            if not cursor:
                return Changes(end, [])
            if not cursor.isdigit():  # no cursor of ours
                return Changes(end, None)
            behind = len(entries) - int(cursor)
            return Changes(end, entries[int(cursor) :] if behind <= LOG_LENGTH else None)

    def now(self) -> float:
        """Return the store's time."""
        return self._clock()

    least_now = least_now_at_hand = now

    def purge(self) -> int:
        """Delete what has expired."""
        with self._lock:
            now = self._clock()
            gone = [k for k, (_, expiry) in self._values.items() if expiry and expiry <= now]
            for key in gone:
                self._delete(key)
            return len(gone)

    def size(self) -> Size:
        """Return how many values it holds, and their bytes."""
        with self._lock:
            return Size(len(self._values), sum(len(value) for value, _ in self._values.values()))

    def may_evict(self) -> bool:
        """Say no: all stays."""
        return False

    def edit(self, change: Callable[[bytes, bytes], bytes | None]) -> None:
        """Rewrite stored bytes behind everybody's back, as a fault would; None deletes."""
        with self._lock:
            for key, (value, expiry) in list(self._values.items()):
                changed = change(key, value)
                if changed is None:
                    self._delete(key)
                elif changed != value:
                    self._set_value(key, changed, expiry)

    @property
    def fork_lock(self) -> threading.RLock:
        """What a fork holds: nothing of ours."""
        return threading.RLock()

    def reset_after_fork(self) -> None:
        """Start with a lock of the child's own, without the leases of the parent's threads."""
        self._lock = threading.Lock()
        self._leases.clear()
        self._announcer.reset_after_fork()

    def close(self) -> None:
        """Nothing to let go of: other caches may still use it."""
