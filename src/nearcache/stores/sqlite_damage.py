"""What to do about an SQLite file whose bytes were damaged: notice it, and move it aside.

Entries guard themselves by checksums; here is about what lies around them. SQLite notices most
damage itself, when it reads the page. It does not notice a damaged write-ahead log: it takes the
transactions up to there and says nothing of those it leaves out, so that old values, and forgotten
ones, would be back. But the index beside the log, which outlives a killed process, knows how many
there were.

What is moved aside stays beside the new file until the next that is moved takes its place.
"""

import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nearcache.clock import monotonic
from nearcache.errors import StoreTimeout, StoreUnavailable

try:
    import fcntl
except ImportError:  # pragma: no cover  Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "APPLICATION",
    "Damaged",
    "Journal",
    "StoreDamaged",
    "is_damage",
    "locked",
    "looks_ours",
    "move_aside",
]

APPLICATION = b"ncac"
"""What an SQLite file says of itself that is ours."""

_ASIDE = ".damaged"
_PARTS = ("", "-wal", "-shm")  # the file first: who opens the path then begins a new one
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FIRST_PAGE = 8192
_NAME = slice(68, 72)
_MARKS = (b"CREATE TABLE entries(", b"CREATE TABLE uses(", b"CREATE TABLE leases(")
_TEXTS = ("no such ", "unsupported file format")
_PAUSE = 0.005

_HEAD = 32  # bytes that begin a log, and differ from those of any other
# the index beside the log, a header of 48 bytes twice: whether it was made, how many pages the log
# has; then how many of them were copied to the file. https://www.sqlite.org/walformat.html
_INDEX = struct.Struct("=12xB3xI28x48xI")
_SOMEBODY = 128  # the byte that whoever has it open locks


class StoreDamaged(StoreUnavailable):
    """The store's file was damaged: it was moved aside, and the next use begins a new one."""


class Damaged(sqlite3.DatabaseError):
    """Something is in the file that nobody writes there."""


def is_damage(error: sqlite3.Error) -> bool:
    """Say whether an error tells of damaged bytes; our statements name only what the file has."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return (
        isinstance(error, Damaged) or code in _DAMAGE or any(text in str(error) for text in _TEXTS)
    )


def looks_ours(path: Path) -> bool:
    """Say whether a file that SQLite cannot read was made by us, by what is left of its first page.

    What does not look so may be somebody's notes.
    """
    if _in_use_here(path):
        return False
    with suppress(OSError), path.open("rb") as file:
        page = file.read(_FIRST_PAGE)
        named = page.startswith(b"SQLite format 3\0") and page[_NAME] == APPLICATION
        return named or sum(mark in page for mark in _MARKS) > 1
    return False


def _in_use_here(path: Path) -> bool:
    """Say whether this process may have a file open, be it by another's connection.

    SQLite's locks are the process's: to open such a file once more and close it would end them.
    """
    try:
        there = path.stat()
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    except OSError:
        return True
    for number in numbers:
        with suppress(OSError):
            if os.path.samestat(os.fstat(number), there):
                return True
    return False


@contextmanager
def locked(path: Path, seconds: float, *, alone: bool) -> Iterator[None]:
    """Keep others from moving the file aside; ``alone``: from opening it, too.

    It is the folder that is locked, by a lock that SQLite does not use, which needs no file of its
    own and ends with its process. Where there is none (NFS, Windows) nobody is kept.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError:  # opening the file will say it better
        yield
        return
    try:
        _lock(folder, path, seconds, alone=alone)
        yield
    finally:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_UN)  # a fork may have copied the descriptor
        os.close(folder)


def _lock(folder: int, path: Path, seconds: float, *, alone: bool) -> None:
    if fcntl is None:  # pragma: no cover  Windows
        return
    give_up = monotonic() + seconds
    while True:
        try:
            fcntl.flock(folder, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if monotonic() > give_up:
                msg = f"sqlite:///{path} is being opened by another process"
                raise StoreTimeout(msg) from error
            time.sleep(_PAUSE)  # a lock of a folder tells nobody when it is free
        except OSError:
            return
        else:
            return


def move_aside(path: Path, place: tuple[int, int]) -> Path | None:
    """Move a damaged file and its log away; None where another file lies there by now.

    The caller has the lock alone, and no connection.
    """
    found = path.stat()
    if (found.st_dev, found.st_ino) != place:
        return None
    for part in _PARTS:
        old = path.with_name(path.name + part)
        with suppress(FileNotFoundError):
            old.replace(path.with_name(path.name + _ASIDE + part))
    return path.with_name(path.name + _ASIDE)


class Journal:
    """The write-ahead log as it lay there before a file was opened.

    Who opens a file that nobody has open makes the index anew from the log: what it finds must not
    be less than what the index said before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = self._look()
        self._frames = self._uncopied()

    def lost(self, db: sqlite3.Connection) -> int:
        """Return how many pages of committed transactions were left out.

        Call it after the first read of the first connection, before anything is written.
        """
        if not self._frames or self._look() != self._log:
            return 0
        (_, frames, _) = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(self._frames - max(0, frames))

    def _look(self) -> tuple[int, bytes]:
        """Return what tells one log from another."""
        try:
            with self._beside("-wal").open("rb") as file:
                return os.fstat(file.fileno()).st_ino, file.read(_HEAD)
        except OSError:
            return 0, b""

    def _uncopied(self) -> int:
        """Return how many pages the index counted, of which the file has not all.

        0 where somebody has the file open: then the index stays as it is.
        """
        path = self._beside("-shm")
        if fcntl is None or _in_use_here(path):
            return 0
        try:
            with path.open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _SOMEBODY)
                index = file.read(_INDEX.size)
        except OSError:
            return 0
        if len(index) < _INDEX.size or index[:48] != index[48:96]:
            return 0
        made, frames, copied = _INDEX.unpack(index)
        return frames if made and frames > copied else 0

    def _beside(self, part: str) -> Path:
        return self._path.with_name(self._path.name + part)
