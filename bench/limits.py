"""Limits: the least work that gives the same matrix, without any cache around it."""

import hashlib
import sqlite3
from pathlib import Path

import numpy as np
import redis

from bench.timing import Contestant, Matrix, Sample

__all__ = ["gather", "mget", "select_each", "select_in", "sqlite_file"]


def gather(matrix: Matrix) -> Contestant:
    """Return the limit in memory: copy random rows and hash every text once."""
    arena = matrix.copy()

    def get(sample: Sample) -> Matrix:
        list(map(hash, sample.texts))
        return arena.take(sample.index, axis=0)

    return Contestant("limit: rows copied + one hash pass", get)


def mget(client: redis.Redis, matrix: Matrix) -> Contestant:
    """Return the limit of Redis: redis-py's MGET of the bare rows, keys known beforehand."""
    keys = [
        f"limit:{hashlib.sha256(number.to_bytes(8, 'little')).hexdigest()}".encode()
        for number in range(len(matrix))
    ]
    client.mset({key: row.tobytes() for key, row in zip(keys, matrix, strict=True)})
    dimension = matrix.shape[1]

    def get(sample: Sample) -> Matrix:
        rows = client.mget([keys[i] for i in sample.index])
        return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(-1, dimension)

    return Contestant("limit: redis-py MGET", get)


def sqlite_file(path: Path, matrix: Matrix) -> tuple[sqlite3.Connection, list[bytes]]:
    """Write the bare rows to a file of their own; gives a connection and the keys."""
    keys = [
        hashlib.sha256(number.to_bytes(8, "little")).digest()[:16] for number in range(len(matrix))
    ]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA mmap_size = {2**31}")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, key BLOB, value BLOB)")
    connection.execute("CREATE UNIQUE INDEX by_key ON rows (key)")
    connection.execute("BEGIN")
    pairs = ((key, row.tobytes()) for key, row in zip(keys, matrix, strict=True))
    connection.executemany("INSERT INTO rows (key, value) VALUES (?, ?)", pairs)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return connection, keys


def select_each(connection: sqlite3.Connection, keys: list[bytes], dimension: int) -> Contestant:
    """Return the hand-written SELECT, one prepared statement per key in one transaction."""

    def get(sample: Sample) -> Matrix:
        cursor = connection.cursor()
        cursor.execute("BEGIN")
        select = "SELECT value FROM rows WHERE key = ?"
        rows = [cursor.execute(select, (keys[i],)).fetchone()[0] for i in sample.index]
        cursor.execute("COMMIT")
        return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(-1, dimension)

    return Contestant("limit: SELECT per key", get)


def select_in(connection: sqlite3.Connection, keys: list[bytes], dimension: int) -> Contestant:
    """Return the hand-written SELECT, one query with IN."""

    def get(sample: Sample) -> Matrix:
        wanted = [keys[i] for i in sample.index]
        marks = ",".join("?" * len(wanted))
        select = f"SELECT key, value FROM rows WHERE key IN ({marks})"
        found = dict(connection.execute(select, wanted))
        rows = [found[key] for key in wanted]
        return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(-1, dimension)

    return Contestant("limit: SELECT … IN (…)", get)
