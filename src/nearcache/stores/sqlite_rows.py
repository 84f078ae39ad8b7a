"""The statements about single rows of an SQLite file: values, epochs, leases, the log.

Each runs in the caller's transaction. What they find of another type than is ever written there was
put by somebody else, or the file is damaged.
"""

import sqlite3
from collections.abc import Sequence

from nearcache.stores.base import LOG_LENGTH, TOKEN_BYTES, version_of
from nearcache.stores.sqlite_damage import Damaged

__all__ = [
    "as_bytes",
    "delete",
    "ends_between",
    "expected",
    "held",
    "known_epochs",
    "note",
    "release",
    "set_lease",
    "value",
    "version",
]


def _marks(values: Sequence[bytes]) -> str:
    return ",".join("?" * len(values))


def value(db: sqlite3.Connection, key: bytes, now: float) -> bytes | None:
    """Return what lives under a key."""
    row = db.execute(
        "SELECT value FROM entries WHERE key = ? AND (expires IS NULL OR expires > ?)", (key, now)
    ).fetchone()
    return None if row is None else as_bytes(row[0])


def version(db: sqlite3.Connection, key: bytes, now: float) -> bytes:
    """Return the version of what lives under a key; empty without one."""
    row = db.execute(
        "SELECT substr(value, 1, 24) FROM entries WHERE key = ?"
        " AND (expires IS NULL OR expires > ?)",
        (key, now),
    ).fetchone()
    return b"" if row is None else version_of(as_bytes(row[0]))


def held(db: sqlite3.Connection, key: bytes, now: float) -> bytes:
    """Return the token under which a key is being loaded; empty if it is not."""
    row = db.execute(
        "SELECT token FROM leases WHERE key = ? AND expires > ?", (key, now)
    ).fetchone()
    if row is None or not isinstance(row[0], bytes) or len(row[0]) != TOKEN_BYTES:
        return b""
    return row[0]


def ends_between(db: sqlite3.Connection, key: bytes, first: float, last: float) -> bool:
    """Say whether a value ends between two times."""
    asked = "SELECT 1 FROM entries WHERE key = ? AND expires > ? AND expires < ?"
    return db.execute(asked, (key, first, last)).fetchone() is not None


def set_lease(db: sqlite3.Connection, key: bytes, token: bytes, expires: float) -> None:
    """Give a lease, whoever had it."""
    db.execute("INSERT OR REPLACE INTO leases VALUES(?, ?, ?)", (key, token, expires))


def expected(db: sqlite3.Connection, key: bytes, token: bytes, seconds: float, now: float) -> bytes:
    """Return what a commit will have to find: where there is nothing, a lease, if it may last."""
    there = version(db, key, now) or held(db, key, now)
    if there or not seconds:
        return there
    set_lease(db, key, token, now + seconds)
    return token


def known_epochs(db: sqlite3.Connection, groups: Sequence[bytes]) -> list[bytes]:
    """Return the epochs of groups, empty for those that have none."""
    if not groups:
        return []
    read = f"SELECT name, token FROM epochs WHERE name IN ({_marks(groups)})"  # noqa: S608
    known: dict[bytes, bytes] = dict(db.execute(read, groups).fetchall())
    for token in known.values():
        if not isinstance(token, bytes) or len(token) != TOKEN_BYTES:
            msg = "an epoch is none"
            raise Damaged(msg)
    return [known.get(group, b"") for group in groups]


def as_bytes(value: object) -> bytes:
    """Return a column's bytes; whoever put text or a number there gets it found corrupt."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def delete(db: sqlite3.Connection, names: Sequence[tuple[bytes]]) -> None:
    """Delete values."""
    db.executemany("DELETE FROM uses WHERE id = (SELECT id FROM entries WHERE key = ?)", names)
    db.executemany("DELETE FROM entries WHERE key = ?", names)


def release(db: sqlite3.Connection, keys: Sequence[bytes], token: bytes) -> None:
    """Give leases back."""
    db.executemany("DELETE FROM leases WHERE key = ? AND token = ?", [(key, token) for key in keys])


def note(db: sqlite3.Connection, log: bytes, entries: Sequence[bytes]) -> None:
    """Write to the log."""
    if entries:
        db.executemany("INSERT INTO log(name, entry) VALUES(?, ?)", [(log, e) for e in entries])
        db.execute("DELETE FROM log WHERE seq <= (SELECT max(seq) FROM log) - ?", (LOG_LENGTH,))
