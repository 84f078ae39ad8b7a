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
    WRITTEN,
    Changes,
    Fetched,
    Ttl,
    lives,
)

__all__ = ["MemoryStore"]


class MemoryStore:
    """Values in a dict, shared by every cache that is given this object.

    Thread-safe: one lock. ``clock`` is the store's time.
    """

    def __init__(self, *, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[bytes, tuple[bytes, float | None]] = {}
        self._epochs: dict[bytes, bytes] = {}
        self._leases: dict[bytes, tuple[bytes, float]] = {}
        self._logs: dict[bytes, list[bytes]] = {}

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
            epochs = [self._epochs.setdefault(group, os.urandom(16)) for group in groups]
            return Fetched([self._value(key, now) for key in keys], epochs, now, sent)

    def _value(self, key: bytes, now: float) -> bytes | None:
        value, expiry = self._values.get(key, (None, None))
        return value if expiry is None or expiry > now else None

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
                    self._leases[key] = (token, now + seconds)
                    answers.append(TAKEN)
        return answers

    def _holds(self, key: bytes, token: bytes) -> bool:
        held, expiry = self._leases.get(key, (b"", 0.0))
        return held == token and expiry > self._clock()

    def renew(self, keys: Sequence[bytes], token: bytes, seconds: float) -> None:
        """Prolong leases that are still held."""
        with self._lock:
            for key in keys:
                if self._holds(key, token):
                    self._leases[key] = (token, self._clock() + seconds)

    def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give leases back."""
        with self._lock:
            for key in keys:
                if self._holds(key, token):
                    del self._leases[key]

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
                    del self._leases[key]
                if stored is not None and mark.wins(stored):
                    answers.append(stored)
                elif held:
                    self._values[key] = (value, None if life is None else now + life)
                    answers.append(WRITTEN)
                else:
                    answers.append(SKIPPED)
        return answers

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
                before = self._value(key, now)
                self._values[key] = (value, None if life is None else now + life)
                self._leases.pop(key, None)
                if before != value:
                    self._append(log, entry)

    def _append(self, log: bytes, entry: bytes) -> None:
        self._logs.setdefault(log, []).append(entry)

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, and log it."""
        with self._lock:
            now = self._clock()
            found = 0
            for key in keys:
                found += self._value(key, now) is not None
                self._values.pop(key, None)
                self._leases.pop(key, None)
            for entry in entries:
                self._append(log, entry)
            return found

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, and log it."""
        with self._lock:
            self._epochs[group] = os.urandom(16)
            self._append(log, entry)

    def drop_corrupt(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Delete keys that still hold exactly these bytes."""
        with self._lock:
            for key, value in zip(keys, values, strict=True):
                if self._values.get(key, (None, None))[0] == value:
                    del self._values[key]

    def changes(self, log: bytes, cursor: bytes) -> Changes:
        """Read what was forgotten since ``cursor``."""
        with self._lock:
            entries = self._logs.setdefault(log, [])
            end = str(len(entries)).encode()
            if not cursor:
                return Changes(end, [])
            behind = len(entries) - int(cursor)
            return Changes(end, entries[int(cursor) :] if behind <= LOG_LENGTH else None)

    def now(self) -> float:
        """Return the store's time."""
        return self._clock()

    def purge(self) -> int:
        """Delete what has expired."""
        with self._lock:
            now = self._clock()
            gone = [k for k, (_, expiry) in self._values.items() if expiry and expiry <= now]
            for key in gone:
                del self._values[key]
            return len(gone)

    def edit(self, change: Callable[[bytes, bytes], bytes | None]) -> None:
        """Rewrite stored bytes behind everybody's back, as a fault would; None deletes."""
        with self._lock:
            for key, (value, expiry) in list(self._values.items()):
                changed = change(key, value)
                if changed is None:
                    del self._values[key]
                else:
                    self._values[key] = (changed, expiry)

    def reset_after_fork(self) -> None:
        """Start with a lock of the child's own."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Nothing to let go of: other caches may still use it."""
