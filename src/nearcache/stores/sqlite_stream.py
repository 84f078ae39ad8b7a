"""What changes in an SQLite file, as its log names it: looked for, since nobody pushes.

Ten looks a second cost a stat and a pragma each: the file counts the commits of other connections
(``PRAGMA data_version``), and only when that count moved is the log read.
"""

import os
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nearcache.clock import monotonic
from nearcache.errors import StoreUnavailable
from nearcache.flag import Flag
from nearcache.stores.base import EVERYTHING, PONG, Changed, Message
from nearcache.stores.sqlite_file import SQLiteFile, abandon, close_all

__all__ = ["SQLiteStream"]

_STEP = 0.1
_PATIENCE = 1.0


class SQLiteStream:
    """Names from the log of one file, read on a connection of its own."""

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._prefixes: tuple[bytes, ...] = ()
        self._connection: deque[sqlite3.Connection] = deque()  # one, or none
        self._owner: list[int] = []
        self._lock = threading.Lock()  # the connection's: close() may come from another thread
        self._woken = Flag()
        self._place: tuple[int, int] | None = None
        self._seen = 0  # the last entry of the log that was told
        self._version = -1
        self._pings = 0
        weakref.finalize(self, _close_at_end, self._connection, self._owner, self._lock)

    def open(self, prefixes: Sequence[bytes], seconds: float) -> None:
        """Open the file and stand at the end of its log."""
        self._prefixes = tuple(prefixes)
        self._owner[:] = [os.getpid()]
        try:
            db, self._place = self._file.open_listener(seconds)
            with (
                self._file.gate.passing(),
                self._lock,
            ):  # who closes it from another thread waits, or came before
                self._connection.append(db)
                if self._woken.is_set():
                    close_all(self._connection, self._owner)
                    msg = f"{self._file.address} was closed while it was opened"
                    raise StoreUnavailable(msg)
                _, self._seen = _ends(db)
        except sqlite3.Error as error:
            self.close()
            raise self._file.unavailable(error) from error
        except OSError as error:
            self.close()
            msg = f"{self._file.address}: {error}"
            raise StoreUnavailable(msg) from error

    def watch(self, prefix: bytes) -> None:
        """Hear of one more prefix."""
        with self._reading():
            self._prefixes = (*self._prefixes, prefix)

    def ping(self) -> None:
        """Ask for a PONG, which the next look at the file gives."""
        with self._reading():
            self._pings += 1

    def read(self, seconds: float) -> list[Message]:
        """Return what has come."""
        end = monotonic() + seconds
        while True:
            with self._reading() as db:
                if messages := self._look(db):
                    return messages
            left = end - monotonic()
            if left <= 0:
                return []
            self._woken.wait(min(_STEP, left))

    def _look(self, db: sqlite3.Connection) -> list[Message]:
        if self._file.place() != self._place:
            msg = f"{self._file.address} was removed or replaced"
            raise StoreUnavailable(msg)
        messages: list[Message] = []
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            messages += self._news(db)
            self._version = version
        messages += [PONG] * self._pings
        self._pings = 0
        return messages

    def _news(self, db: sqlite3.Connection) -> list[Message]:
        db.execute("BEGIN")  # one snapshot: the log's ends and what lies between
        try:
            _, last = _ends(db)
            rows = db.execute(
                "SELECT CAST(entry AS BLOB) FROM log WHERE seq > ? ORDER BY seq", (self._seen,)
            )
            entries = [entry for (entry,) in rows]
        finally:
            db.execute("COMMIT")
        # all have numbers of their own: where some are missing, they were pruned or cannot be read
        gap = last < self._seen or len(entries) < last - self._seen
        self._seen = last
        if gap:
            return [EVERYTHING]
        names = [entry for entry in entries if entry.startswith(self._prefixes)]
        return [Changed(names)] if names else []

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Have the connection to ourselves; whatever fails ends the stream."""
        try:
            with self._file.gate.passing(), self._lock:
                if not self._connection or self._owner != [os.getpid()]:
                    msg = f"{self._file.address} says nothing on a stream that is not open"
                    raise StoreUnavailable(msg)
                yield self._connection[0]
        except sqlite3.Error as error:
            self.close()
            raise self._file.unavailable(error) from error
        except OSError as error:
            self.close()
            msg = f"{self._file.address}: {error}"
            raise StoreUnavailable(msg) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hear no more."""
        self._woken.set()
        if self._owner != [os.getpid()]:
            self.abandon()
            return
        with self._file.gate.passing(), self._lock:
            close_all(self._connection, self._owner)

    def abandon(self) -> None:
        """Leave the connection alone: after a fork it is the parent's."""
        abandon(self._connection)


def _close_at_end(
    connection: deque[sqlite3.Connection], owner: list[int], lock: threading.Lock
) -> None:
    """Close what is left at the interpreter's exit, when the link's thread may be reading on it.

    SQLite crashes where one thread closes a connection on which another executes.
    """
    if lock.acquire(timeout=_PATIENCE):
        try:
            close_all(connection, owner)
        finally:
            lock.release()


def _ends(db: sqlite3.Connection) -> tuple[int, int]:
    first, last = db.execute(
        "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM log"
    ).fetchone()
    return first, last
