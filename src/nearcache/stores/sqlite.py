"""The SQLite store: one file, no server, safe for several processes and for ``kill -9``."""

import os
import sqlite3
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nearcache.clock import monotonic
from nearcache.entry import Mark
from nearcache.errors import ConfigError, StoreError
from nearcache.stores import sqlite_boards as boards
from nearcache.stores import sqlite_rows as rows
from nearcache.stores.base import (
    HELD,
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
    lives,
    most_scanned,
    version_of,
)
from nearcache.stores.gate import Gate
from nearcache.stores.sqlite_damage import Damaged
from nearcache.stores.sqlite_file import SQLiteFile
from nearcache.stores.sqlite_stream import SQLiteStream

__all__ = ["SQLiteStore"]

_DEFAULT_MAX_BYTES = 4 * 2**30
_LEAST_MAX_BYTES = 2**20
_MOST_TOUCHES = 50_000
_PATIENCE = (0.5, 1.0, 5.0)
_LAST_ROW = 2**63 - 1
_AT_ONCE = 10_000  # names per SELECT: SQLite allows 32,766 parameters


class SQLiteStore:
    """Values in one SQLite file, shared by all processes of this machine.

    timeout: seconds to wait for other writers; "auto" waits half a second before a load, one after
        it, five to put or forget.
    max_bytes: what the file's used pages may take; beyond it the least recently used entries
        leave. Default 4 GiB; None for no limit: nothing leaves before its time.

    Thread-safe. Constructing does no I/O: the file is opened, or made, at the first use. A file
    that is found damaged is moved aside, to its name with ``.damaged``, and a new one is begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = _DEFAULT_MAX_BYTES,
        timeout: float | Literal["auto"] = "auto",
    ) -> None:
        # resolved now: a chdir later must not make two files of one store
        self._path = Path(path).absolute()
        if not str(path) or not _may_be_a_file(self._path):
            msg = f"SQLiteStore takes the path of a file, not {str(path)!r}"
            raise ConfigError(msg)
        if max_bytes is not None and (
            isinstance(max_bytes, bool)
            or not isinstance(max_bytes, int)
            or max_bytes < _LEAST_MAX_BYTES
        ):
            msg = (
                f"max_bytes is a whole number of at least {_LEAST_MAX_BYTES}, or None for no"
                f" limit, not {max_bytes!r}"
            )
            raise ConfigError(msg)
        self._max_bytes = max_bytes
        self._timeout = timeout
        lease, fill, put = _PATIENCE if timeout == "auto" else (timeout, timeout, timeout)
        self._lease_patience, self._fill_patience, self._patience = lease, fill, put
        self._file = SQLiteFile(self._path)
        self._touched: dict[int, int] = {}
        self._streams: weakref.WeakSet[SQLiteStream] = weakref.WeakSet()

    @property
    def address(self) -> str:
        """Where it is."""
        return self._file.address

    @property
    def fork_lock(self) -> Gate:
        """What a fork holds: no transaction is open meanwhile."""
        return self._file.gate

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._path)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_remake, (str(self._path), self._max_bytes, self._timeout))

    # -- reading -----------------------------------------------------------------------------

    def fetch(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and group epochs."""
        with self._file.connection() as db:
            return self._read(db, keys, self._epochs(db, groups), "value")

    def look(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and epochs and create nothing."""
        with self._file.connection() as db:
            return self._read(db, keys, rows.known_epochs(db, groups), "value")

    def heads(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read epochs and the first 24 bytes of each value."""
        with self._file.connection() as db:
            return self._read(db, keys, rows.known_epochs(db, groups), "substr(value, 1, 24)")

    def _read(
        self, db: sqlite3.Connection, keys: Sequence[bytes], epochs: list[bytes], column: str
    ) -> Fetched:
        values: list[bytes | None] = []
        sent = monotonic()
        now = self.now()
        used: list[int] = []
        for at in range(0, len(keys), _AT_ONCE):
            part = keys[at : at + _AT_ONCE]
            # joining a list is a tenth faster than IN (…), and answers in the order asked
            found = db.execute(
                f"WITH asked(key) AS (VALUES {','.join(['(?)'] * len(part))})"  # noqa: S608
                f" SELECT id, {column} FROM asked LEFT JOIN entries"
                " ON entries.key = asked.key AND (expires IS NULL OR expires > ?)",
                (*part, now),
            ).fetchall()
            values += [None if v is None else rows.as_bytes(v) for _, v in found]
            used += [identity for identity, _ in found if identity is not None]
        self._touch(used)
        return Fetched(values, epochs, now, sent)

    def epochs(self, groups: Sequence[bytes], seconds: float | None) -> list[bytes]:  # noqa: ARG002
        """Return the epochs of groups, made where needed; here all live for ever."""
        with self._file.connection() as db:
            return self._epochs(db, groups)

    def _epochs(self, db: sqlite3.Connection, groups: Sequence[bytes]) -> list[bytes]:
        known = rows.known_epochs(db, groups)
        if b"" not in known:
            return known
        with self._file.transaction(db):
            db.executemany(
                "INSERT OR IGNORE INTO epochs VALUES(?, ?)",
                [(group, os.urandom(TOKEN_BYTES)) for group in groups],
            )
        return rows.known_epochs(db, groups)

    def changes(self, log: bytes, cursor: bytes) -> Changes:
        """Read what was forgotten since ``cursor``."""
        with self._file.connection() as db:
            first, last = db.execute(
                "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM log"
            ).fetchone()
            end = self._file.identity + max(0, last).to_bytes(8, "big")
            if not cursor:
                return Changes(end, [])
            seen = int.from_bytes(cursor[-8:], "big")
            if cursor[:-8] != self._file.identity or seen > last or first > seen + 1:
                return Changes(end, None)
            if seen == last:
                return Changes(end, [])
            found = db.execute(
                "SELECT name = ?, CAST(entry AS BLOB) FROM log WHERE seq > ? AND seq <= ?"
                " ORDER BY seq",
                (log, seen, last),
            ).fetchall()
            if len(found) < last - seen:  # all have numbers of their own: some cannot be read
                return Changes(end, None)
            return Changes(end, [entry for ours, entry in found if ours])

    def now(self) -> float:
        """Return the file's time."""
        return self._file.now()

    least_now = least_now_at_hand = now

    # -- loading -----------------------------------------------------------------------------

    def lease(
        self, keys: Sequence[bytes], token: bytes, seconds: float, mark: Mark
    ) -> list[bool | bytes]:
        """Claim the right to load."""
        answers: list[bool | bytes] = []
        with self._file.writer(self._lease_patience) as db:
            now = self.now()
            for key in keys:
                value = rows.value(db, key, now)
                if value is not None and mark.wins(value):
                    answers.append(value)
                    continue
                taken = db.execute(
                    "INSERT INTO leases VALUES(?, ?, ?) ON CONFLICT(key) DO UPDATE"
                    " SET token = excluded.token, expires = excluded.expires"
                    " WHERE leases.expires <= ?",
                    (key, token, now + seconds, now),
                ).rowcount
                answers.append(TAKEN if taken else HELD)
        return answers

    def claim(
        self, keys: Sequence[bytes], seen: Sequence[bytes], token: bytes, seconds: float
    ) -> list[bool | bytes]:
        """Claim the right to load, unless another value came than the one that was seen."""
        answers: list[bool | bytes] = []
        with self._file.writer(self._lease_patience) as db:
            now = self.now()
            for key, version in zip(keys, seen, strict=True):
                value = rows.value(db, key, now)
                if value is not None and is_value(value) and version_of(value) != version:
                    answers.append(value)
                elif rows.held(db, key, now):
                    answers.append(HELD)
                else:
                    rows.set_lease(db, key, token, now + seconds)
                    answers.append(TAKEN)
        return answers

    def renew(self, keys: Sequence[bytes], token: bytes, seconds: float) -> None:
        """Prolong leases that are still held."""
        with self._file.writer(self._lease_patience) as db:
            now = self.now()
            db.executemany(
                "UPDATE leases SET expires = ? WHERE key = ? AND token = ? AND expires > ?",
                [(now + seconds, key, token, now) for key in keys],
            )

    def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give leases back."""
        with self._file.writer(self._lease_patience) as db:
            rows.release(db, keys, token)

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
        with self._file.writer(self._fill_patience) as db:
            now = self.now()
            self._make_room(db, sum(map(len, values)))
            for key, value, life in zip(keys, values, lives(ttl, len(keys)), strict=True):
                stored = rows.value(db, key, now)
                if stored is not None and mark.wins(stored):
                    answers.append(stored)
                elif db.execute(
                    "SELECT 1 FROM leases WHERE key = ? AND token = ? AND expires > ?",
                    (key, token, now),
                ).fetchone():
                    self._store(db, key, value, None if life is None else now + life)
                    answers.append(WRITTEN)
                else:
                    answers.append(SKIPPED)
            rows.release(db, keys, token)
        return answers

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
        with self._file.writer(self._patience) as db:
            now = self.now()
            self._make_room(db, sum(map(len, values)))
            changed: list[bytes] = []
            seconds = lives(ttl, len(keys))
            for key, value, entry, life in zip(keys, values, entries, seconds, strict=True):
                before = rows.value(db, key, now)
                self._store(db, key, value, None if life is None else now + life)
                if before != value:
                    changed.append(entry)
            db.executemany("DELETE FROM leases WHERE key = ?", [(key,) for key in keys])
            rows.note(db, log, changed)

    def _store(
        self, db: sqlite3.Connection, key: bytes, value: bytes, expires: float | None
    ) -> None:
        (identity,) = db.execute(
            "INSERT INTO entries(key, expires, value) VALUES(?, ?, ?) ON CONFLICT(key) DO UPDATE"
            " SET expires = excluded.expires, value = excluded.value RETURNING id",
            (key, expires, value),
        ).fetchone()
        db.execute("INSERT OR REPLACE INTO uses VALUES(?, ?)", (identity, time.monotonic_ns()))

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, and log it."""
        with self._file.writer(self._patience) as db:
            now = self.now()
            found = sum(rows.value(db, key, now) is not None for key in keys)
            names = [(key,) for key in keys]
            rows.delete(db, names)
            db.executemany("DELETE FROM leases WHERE key = ?", names)
            rows.note(db, log, entries)
            return found

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, and log it."""
        with self._file.writer(self._patience) as db:
            db.execute("INSERT OR REPLACE INTO epochs VALUES(?, ?)", (group, os.urandom(16)))
            rows.note(db, log, [entry])

    def drop_corrupt(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Delete keys that still hold exactly these bytes."""
        with self._file.writer(self._lease_patience) as db:
            gone = [
                key
                for key, value in zip(keys, values, strict=True)
                if rows.value(db, key, self.now()) == value
            ]
            rows.delete(db, [(key,) for key in gone])
            rows.note(db, b"", gone)  # in no namespace's log: for streams

    # -- values that may change ----------------------------------------------------------------

    def expect(self, keys: Sequence[bytes], token: bytes, seconds: float) -> list[bytes]:
        """Return what a commit will have to find at each key."""
        with self._file.writer(self._patience) as db:
            now = self.now()
            return [rows.expected(db, key, token, seconds, now) for key in keys]

    def commit(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        expected: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        token: bytes = b"",
        seconds: float = 0.0,
    ) -> list[bool | bytes]:
        """Write each value if its key still holds what is expected, and end its lease."""
        answers: list[bool | bytes] = []
        with self._file.writer(self._patience) as db:
            now = self.now()
            self._make_room(db, sum(map(len, values)))
            each = zip(keys, values, expected, lives(ttl, len(keys)), strict=True)
            for key, value, there, life in each:
                if there and there in (rows.version(db, key, now), rows.held(db, key, now)):
                    self._store(db, key, value, None if life is None else now + life)
                    db.execute("DELETE FROM leases WHERE key = ?", (key,))
                    answers.append(WRITTEN)
                else:
                    answers.append(rows.expected(db, key, token, seconds, now))
            rows.note(
                db, log, [key for key, answer in zip(keys, answers, strict=True) if answer is True]
            )
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
        """0: what failed is rolled back, and never executed later."""
        return 0.0

    def put(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        deadline: float,  # noqa: ARG002
        groups: Sequence[bytes],
    ) -> list[bytes] | None:
        """Write values over whatever is there; never too late, for it is done here."""
        with self._file.writer(self._patience) as db:
            now = self.now()
            self._make_room(db, sum(map(len, values)))
            for key, value, life in zip(keys, values, lives(ttl, len(keys)), strict=True):
                self._store(db, key, value, None if life is None else now + life)
            db.executemany("DELETE FROM leases WHERE key = ?", [(key,) for key in keys])
            rows.note(db, log, keys)
            return rows.known_epochs(db, groups)

    def revoke(
        self, keys: Sequence[bytes], log: bytes, versions: Sequence[bytes] | None = None
    ) -> int:
        """Delete values and absence tokens; all keys are told, whatever was there.

        What was evicted here may be near elsewhere.
        """
        if versions is None:
            return self.forget(keys, log, keys)
        with self._file.writer(self._patience) as db:
            now = self.now()
            pairs = zip(keys, versions, strict=True)
            gone = [key for key, theirs in pairs if has_version(rows.value(db, key, now), theirs)]
            rows.delete(db, [(key,) for key in gone])
            db.executemany("DELETE FROM leases WHERE key = ?", [(key,) for key in keys])
            rows.note(db, log, keys)
            return len(gone)

    def bump(
        self,
        group: bytes,
        token: bytes,
        log: bytes,
        seconds: float | None = None,  # noqa: ARG002  an epoch in a file lives for ever
    ) -> None:
        """Make ``token`` the epoch of a group."""
        with self._file.writer(self._patience) as db:
            db.execute("INSERT OR REPLACE INTO epochs VALUES(?, ?)", (group, token))
            rows.note(db, log, [group])

    def touch(self, keys: Sequence[bytes], seconds: float) -> None:
        """Let values that have a limited life live at least ``seconds`` from now."""
        now = self.now()
        enough = now + 0.9 * seconds
        with self._file.connection() as db:  # most often there is nothing to write
            short = [key for key in keys if rows.ends_between(db, key, now, enough)]
        if short:
            with self._file.writer(self._patience) as db:
                db.executemany(
                    "UPDATE entries SET expires = ? WHERE key = ? AND expires > ? AND expires < ?",
                    [(now + seconds, key, now, enough) for key in short],
                )

    def scan(
        self, start: Start, cursor: int, count: int, *, leases: bool = False
    ) -> tuple[int, list[bytes]]:
        """Return the next cursor and about ``count`` names of values, in their rows' order."""
        most = most_scanned(count)
        found: list[tuple[bytes]] = []
        with self._file.connection() as db:
            now = self.now()
            if leases and not cursor:
                found = db.execute("SELECT key FROM leases WHERE expires > ?", (now,)).fetchall()
            entries = db.execute(
                "SELECT id, key, expires IS NULL OR expires > ? FROM entries WHERE id > ?"
                " ORDER BY id LIMIT ?",
                (now, min(cursor, _LAST_ROW), most),
            ).fetchall()
        names = [key for (key,) in found] + [key for _, key, alive in entries if alive]
        following = entries[-1][0] if len(entries) == most else 0
        return following, [name for name in map(rows.as_bytes, names) if begins(name, start)]

    def report(self, board: bytes, name: bytes, value: bytes, seconds: float) -> None:
        """Put a value on a board for so long."""
        with self._file.writer(self._lease_patience) as db:
            boards.put(db, board, name, value, self.now(), seconds)

    def reports(self, board: bytes) -> dict[bytes, bytes]:
        """Return what is on a board and has not ended."""
        with self._file.connection() as db:
            return boards.living(db, board, self.now())

    def stream(self) -> Stream:
        """Return a new stream of changes, which looks for them ten times a second."""
        stream = SQLiteStream(self._file)
        self._streams.add(stream)
        return stream

    # -- room ----------------------------------------------------------------------------------

    def purge(self) -> int:
        """Delete what has expired, a slice per transaction, so that nobody waits long."""
        deleted = 0
        while True:
            with self._file.writer(self._patience) as db:
                now = self.now()
                db.execute("DELETE FROM leases WHERE expires <= ?", (now,))
                names = db.execute(
                    "SELECT key FROM entries WHERE expires <= ? LIMIT 500", (now,)
                ).fetchall()
                rows.delete(db, names)
                _check_gone(db, len(names))
            deleted += len(names)
            if not names:
                return deleted

    # -- the byte budget ---------------------------------------------------------------------

    def may_evict(self) -> bool:
        """Say whether there is a limit."""
        return self._max_bytes is not None

    def unlimited(self) -> "SQLiteStore":
        """Return a store on the same file that lets nothing leave before its time."""
        return SQLiteStore(self._path, max_bytes=None, timeout=self._timeout)

    def _touch(self, identities: Sequence[int]) -> None:
        """Remember what was read; the next write writes it down, so that a read writes nothing."""
        if len(self._touched) < _MOST_TOUCHES:
            self._touched.update(dict.fromkeys(identities, time.monotonic_ns()))

    def _flush_touches(self, db: sqlite3.Connection) -> None:
        touched, self._touched = self._touched, {}
        db.executemany(
            "UPDATE uses SET used = ? WHERE id = ?", [(at, row) for row, at in touched.items()]
        )

    def _make_room(self, db: sqlite3.Connection, needed: int) -> None:
        """Delete expired, then least recently used entries until the file's used pages fit."""
        self._flush_touches(db)
        most = self._max_bytes
        if most is None or self._used_bytes(db) + needed <= most:
            return
        expired = db.execute("SELECT key FROM entries WHERE expires <= ?", (self.now(),)).fetchall()
        rows.delete(db, expired)
        while self._used_bytes(db) + needed > most:
            oldest = db.execute(
                "SELECT key FROM uses JOIN entries USING(id) ORDER BY used LIMIT 64"
            ).fetchall()
            if not oldest:
                return
            rows.delete(db, oldest)
            _check_gone(db, len(oldest))

    def size(self) -> Size:
        """Return the bytes that are used of the file; to count entries costs reading all of it."""
        with self._file.connection() as db:
            return Size(None, self._used_bytes(db))

    @staticmethod
    def _used_bytes(db: sqlite3.Connection) -> int:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    # -- life --------------------------------------------------------------------------------

    def reset_after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        self._touched = {}
        for stream in self._streams:
            stream.abandon()
        self._streams.clear()
        self._file.reset_after_fork()

    def close(self) -> None:
        """Write down what was used, and close every connection."""
        if self._touched and not self._file.read_only:
            try:
                with self._file.writer(self._patience) as db:
                    self._flush_touches(db)
            except StoreError:
                self._touched = {}  # only the order of eviction suffers
        self._file.close()


def _may_be_a_file(path: Path) -> bool:
    try:
        return "\0" not in str(path) and not path.is_dir()
    except OSError:  # longer than a name may be
        return False


def _remake(path: str, max_bytes: int | None, timeout: float | Literal["auto"]) -> SQLiteStore:
    return SQLiteStore(path, max_bytes=max_bytes, timeout=timeout)


def _check_gone(db: sqlite3.Connection, count: int) -> None:
    """Refuse a file whose index names what its table lacks: it would be found for ever."""
    if count and not db.execute("SELECT changes()").fetchone()[0]:
        msg = "an index names entries that are not there"
        raise Damaged(msg)
