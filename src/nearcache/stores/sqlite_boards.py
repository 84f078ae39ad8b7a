"""The boards of an SQLite file: what processes say of themselves, each for a while.

Their table is made when something is first said: files of older releases have none.
"""

import sqlite3

from nearcache.stores.sqlite_rows import as_bytes

__all__ = ["living", "put"]

_TABLE = (
    "CREATE TABLE IF NOT EXISTS reports(board BLOB NOT NULL, name BLOB NOT NULL,"
    " expires REAL NOT NULL, value BLOB NOT NULL, PRIMARY KEY(board, name)) WITHOUT ROWID"
)


def put(
    db: sqlite3.Connection, board: bytes, name: bytes, value: bytes, now: float, seconds: float
) -> None:
    """Put a value on a board for so long, and take down what has ended there."""
    db.execute(_TABLE)
    db.execute(
        "INSERT OR REPLACE INTO reports VALUES(?, ?, ?, ?)", (board, name, now + seconds, value)
    )
    db.execute("DELETE FROM reports WHERE board = ? AND expires <= ?", (board, now))


def living(db: sqlite3.Connection, board: bytes, now: float) -> dict[bytes, bytes]:
    """Return what is on a board and has not ended."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'reports'"
    if db.execute(there).fetchone() is None:
        return {}
    found = db.execute(
        "SELECT name, value FROM reports WHERE board = ? AND expires > ?", (board, now)
    )
    return {as_bytes(name): as_bytes(value) for name, value in found}
