"""An SQLite file as a store needs it: opened safely by many, its clock, its failures explained.

WAL with NORMAL synchronisation: a killed process loses nothing it committed; only a power cut may
lose the last transactions, never the file.
"""

import logging
import os
import re
import sqlite3
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from nearcache.clock import monotonic
from nearcache.errors import StoreError, StoreReadOnly, StoreTimeout, StoreUnavailable
from nearcache.stores.gate import Gate, Grip, Turn
from nearcache.stores.private_file import make_private
from nearcache.stores.sqlite_damage import (
    APPLICATION,
    Damaged,
    Journal,
    StoreDamaged,
    is_damage,
    locked,
    looks_ours,
    move_aside,
)

__all__ = ["SQLiteFile", "abandon", "close_all"]

log = logging.getLogger("nearcache")

_APPLICATION_ID = int.from_bytes(APPLICATION, "big")
_LAYOUT = 1
_MOST_LAYOUTS = 1000  # no release to come will have as many
_BUSY_TIMEOUT = 5.0
_UNKNOWN_BOOT = "process-"
_MOST_IDLE = 16  # connections kept open, whatever number of threads there was once

_READ_ONLY = re.compile("readonly|read-only|unable to open")

_TABLES = """
CREATE TABLE IF NOT EXISTS entries(
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, expires REAL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_expiry ON entries(expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS uses(id INTEGER PRIMARY KEY, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON uses(used);
CREATE TABLE IF NOT EXISTS epochs(name BLOB PRIMARY KEY, token BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases(
    key BLOB PRIMARY KEY, token BLOB NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL, entry BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class SQLiteFile:
    """Connections to one file, lent to one thread at a time. Thread-safe.

    ``identity`` is the file's random name: another file under the same path has another.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._owner: list[int] = []
        self.start_anew()
        # closing a cache is optional: whoever drops it leaves no connection open either
        weakref.finalize(self, close_all, self._idle, self._owner)

    def start_anew(self) -> None:
        """Begin without connections."""
        self.identity = b""
        self.read_only = False
        self._owner[:] = [os.getpid()]
        self._place: tuple[int, int] | None = None  # device and number of the file we opened
        self._size = 0
        # SQLite's own locks, and a transaction that is open, must not be copied by a fork
        self.gate = Gate()
        self._setup = Turn()
        self._writing = Turn()  # threads queue here, processes in SQLite
        self._clock_start: float | None = None

    @property
    def address(self) -> str:
        """Where it is."""
        return f"sqlite:///{self._path}"

    def now(self) -> float:
        """Return the file's time."""
        while (start := self._clock_start) is None:  # another thread may let go of the file again
            with self.connection():
                pass  # opening reads the clock
        return start + _steady()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection; every failure is a StoreError."""
        with self.gate.passing(), self._lent() as db:
            yield db

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        db: sqlite3.Connection | None = None
        place = None
        try:
            self._look_at_place()
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._open()
            place = self._place
            yield db
        except (sqlite3.Error, UnicodeError) as error:
            if db is not None:
                db.close()
                db = None
            # sqlite3 cannot even say what SQLite calls by a damaged name
            failed = error if isinstance(error, sqlite3.Error) else Damaged("a name is no text")
            if is_damage(failed):
                raise self._moved_aside(failed, place) from error
            raise self._explained(failed) from error
        except OSError as error:
            msg = f"{self.address}: {error}"
            raise StoreUnavailable(msg) from error
        finally:
            if db is not None:
                self._give_back(db, place)

    def _give_back(self, db: sqlite3.Connection, place: tuple[int, int] | None) -> None:
        # Ctrl-C may have cut a transaction off
        if place == self._place and not db.in_transaction and len(self._idle) < _MOST_IDLE:
            self._idle.append(db)
        else:
            db.close()

    def _look_at_place(self) -> None:
        """Let go of a file that was removed, replaced or cut while we had it open.

        A removed file would go on being ours alone; and reading a mapped file past its new end
        ends the process (SIGBUS).
        """
        if self._place is None:
            return
        before = self._size  # read first: a file that others let grow meanwhile was not cut
        place, size = self._found()
        if place == self._place and size >= before:
            self._size = size
            return
        with self._setting_up():
            self._let_go()

    def _let_go(self) -> None:
        self.close()
        self._place, self._clock_start, self.read_only = None, None, False

    def _found(self) -> tuple[tuple[int, int] | None, int]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None, 0
        return (found.st_dev, found.st_ino), found.st_size

    def place(self) -> tuple[int, int] | None:
        """Return which file lies under the path now: its device and number, None for none."""
        return self._found()[0]

    def open_listener(self, seconds: float) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        """Return a connection for a stream to keep, and the place of its file."""
        with self.gate.passing():
            return self._opened_listener(seconds)

    def _opened_listener(self, seconds: float) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        self._look_at_place()
        db = self._open()
        db.execute("PRAGMA mmap_size=0")  # it may look at a file that is just being cut
        db.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
        return db, self._place

    @contextmanager
    def writer(self, patience: float) -> Iterator[sqlite3.Connection]:
        """Lend a connection in a transaction that writes; waits ``patience`` seconds for it."""
        if self.read_only:
            msg = f"{self.address} cannot be written; check the permissions of file and folder"
            raise StoreReadOnly(msg)
        started = monotonic()
        grip = Grip()
        try:
            if not self._writing.take(grip, patience):
                msg = f"{self.address} was being written for {patience} s"
                raise StoreTimeout(msg)
            with self.connection() as db:
                place = self._place
                left = max(0.0, patience - (monotonic() - started))
                db.execute(f"PRAGMA busy_timeout={int(left * 1000)}")
                with self.transaction(db):
                    yield db
                if place is not None and self.place() != place:
                    msg = f"{self.address} was moved or removed while it was written"
                    raise StoreUnavailable(msg)
        finally:
            self._writing.give_back(grip)

    @contextmanager
    def transaction(self, db: sqlite3.Connection) -> Iterator[None]:
        """Commit what the block writes, or nothing of it."""
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @property
    def _real(self) -> Path:
        """The file itself, beside which SQLite puts what it needs, where the path is a link."""
        return Path(os.path.realpath(self._path))

    @contextmanager
    def _opening(self, *, alone: bool) -> Iterator[None]:
        """Have the file for opening or moving it; all who wait for that wait no longer than one."""
        end = monotonic() + _BUSY_TIMEOUT
        with (
            self._setting_up(),
            locked(self._real, max(0.0, end - monotonic()), alone=alone),
        ):
            yield

    @contextmanager
    def _setting_up(self) -> Iterator[None]:
        """Have to ourselves which file it is; Ctrl-C leaves nobody with it who is gone."""
        grip = Grip()
        try:
            if not self._setup.take(grip, _BUSY_TIMEOUT):
                msg = f"{self.address} was being opened for {_BUSY_TIMEOUT} s"
                raise StoreTimeout(msg)
            yield
        finally:
            self._setup.give_back(grip)

    def _open(self) -> sqlite3.Connection:
        # the first look at a file may find it damaged: nobody else opens it meanwhile
        alone = self._place is None
        with self._opening(alone=alone):
            try:
                db = self._prepared("rwc")
            except sqlite3.OperationalError as error:
                if not _READ_ONLY.search(str(error)):
                    raise
                db = self._prepared("ro")
                self.read_only = True
            return db

    def _prepared(self, mode: str) -> sqlite3.Connection:
        journal = Journal(self._real) if self._place is None and mode == "rwc" else None
        if mode == "rwc":
            make_private(self._path)
        db = sqlite3.connect(
            f"file:{quote(os.fsencode(self._path))}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        db.text_factory = _text
        try:
            db.execute("PRAGMA mmap_size=1073741824")
            db.execute("PRAGMA cache_size=-512")  # KiB, a connection; what is mapped needs none
            ours = self._is_ours(db)
            if journal is not None and (lost := journal.lost(db)) > 0:
                self._check_log(db, lost, ours=ours)
            if not ours and mode == "rwc":
                db.execute("PRAGMA page_size=8192")
                _switch_to_wal(db)
                self._make_tables(db)
            db.execute("PRAGMA synchronous=NORMAL")
            self._learn(db, writable=mode == "rwc")
            found = self._path.stat()
            self._place, self._size = (found.st_dev, found.st_ino), found.st_size
        except BaseException:
            db.close()
            raise
        return db

    @staticmethod
    def _check_log(db: sqlite3.Connection, lost: int, *, ours: bool) -> None:
        """Refuse a file whose write-ahead log was damaged, unless the machine went down."""
        read = "SELECT value FROM facts WHERE name = 'boot'"
        if not ours or db.execute(read).fetchone() == (_boot_id(),):
            msg = f"{lost} pages of its write-ahead log cannot be read"
            raise Damaged(msg)

    def _is_ours(self, db: sqlite3.Connection) -> bool:
        """Say whether the file has our tables; refuse a file that is somebody else's."""
        db.execute("BEGIN")  # one snapshot: another process may be making the tables just now
        try:
            (identity,) = db.execute("PRAGMA application_id").fetchone()
            names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        finally:
            db.execute("COMMIT")
        if identity != _APPLICATION_ID and names:
            if {"entries", "uses", "epochs", "leases", "log", "facts"} <= names:
                msg = "its head does not say what it is"
                raise Damaged(msg)
            msg = f"{self._path} is an SQLite file of another program; name another path"
            raise StoreUnavailable(msg)
        return bool(identity == _APPLICATION_ID)

    def _make_tables(self, db: sqlite3.Connection) -> None:
        with self.transaction(db):
            for statement in _TABLES.split(";")[:-1]:
                db.execute(statement)
            db.execute("INSERT OR IGNORE INTO facts VALUES('file', ?)", (os.urandom(8).hex(),))
            db.execute(f"PRAGMA user_version={_LAYOUT}")
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")

    def _learn(self, db: sqlite3.Connection, *, writable: bool) -> None:
        """Read what the file says of itself: its layout, its name, its clock."""
        (layout,) = db.execute("PRAGMA user_version").fetchone()
        if not 0 <= layout < _MOST_LAYOUTS:
            msg = f"it has layout {layout}"
            raise Damaged(msg)
        if layout != _LAYOUT:
            msg = f"{self._path} has layout {layout}, this version has {_LAYOUT}; name another path"
            raise StoreUnavailable(msg)
        facts = dict(db.execute("SELECT name, value FROM facts").fetchall())
        try:
            self.identity = bytes.fromhex(facts["file"])
            if self._clock_start is None:
                self._clock_start = self._file_clock(db, facts, writable=writable)
        except (KeyError, ValueError, TypeError) as error:
            msg = "it does not say what it is"
            raise Damaged(msg) from error

    def _file_clock(
        self, db: sqlite3.Connection, facts: dict[str, str], *, writable: bool
    ) -> float:
        """Return what to add to the steady clock to get the file's time.

        File time is the wall clock of the first process that opened the file since the machine
        started, carried on by the clock that never steps: a step of the wall clock kills no live
        entry and keeps no dead one, and all processes of a boot agree.
        """
        boot = _boot_id()
        if facts.get("boot") == boot:
            return float(facts["clock"])
        start = time.time() - _steady()
        if not writable:
            return start
        with self.transaction(db):
            now = dict(db.execute("SELECT name, value FROM facts").fetchall())
            if now.get("boot") == boot:
                return float(now["clock"])
            db.executemany(
                "INSERT OR REPLACE INTO facts VALUES(?, ?)",
                [("boot", boot), ("clock", repr(start))],
            )
            if not boot.startswith(_UNKNOWN_BOOT):
                db.execute("DELETE FROM leases")  # their holders are gone
        return start

    def _moved_aside(self, error: sqlite3.Error, place: tuple[int, int] | None) -> StoreError:
        """Move a damaged file away and let go of it; return what to tell about it."""
        text = str(error)
        if self.read_only:
            return StoreUnavailable(f"{self.address} is damaged, and cannot be moved: {text}")
        try:
            with self._opening(alone=True):
                there = self.place()
                if place is None:  # it was not even opened
                    ours = isinstance(error, Damaged) or there == self._place
                    if there is None or not (ours or looks_ours(self._real)):
                        return self._explained(error)
                    place = there
                self._let_go()
                aside = move_aside(self._real, place) if there == place else None
        except OSError as failed:
            return StoreUnavailable(f"{self.address} is damaged ({text}), and stays: {failed}")
        if aside is None:
            return StoreUnavailable(f"{self.address} was damaged, and is another file by now")
        msg = f"{self.address} was damaged ({text}); it is now {aside}, and a new one is begun"
        log.error(msg)
        return StoreDamaged(msg)

    def _explained(self, error: sqlite3.Error) -> StoreError:
        text = str(error)
        if "unable to open" in text and not self._real.parent.is_dir():
            return StoreReadOnly(f"{self.address}: its folder does not exist; make it first")
        if _READ_ONLY.search(text) or "is full" in text:
            return StoreReadOnly(f"{self.address} cannot be written: {text}")
        if "locked" in text or "busy" in text:
            return StoreTimeout(f"{self.address} is being written by another process: {text}")
        if "not a database" in text:
            return StoreUnavailable(f"{self.address} is no SQLite file; name another path")
        return StoreUnavailable(f"{self.address}: {text}")

    def unavailable(self, error: sqlite3.Error) -> StoreUnavailable:
        """Return the failure of a stream, which has nothing to write."""
        explained = self._explained(error)
        if isinstance(explained, StoreUnavailable):
            return explained
        return StoreUnavailable(str(explained))

    def reset_after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        abandon(self._idle)
        self.start_anew()

    def close(self) -> None:
        """Close every connection; one that is lent when it comes back."""
        self._place = None
        while self._idle:
            self._idle.pop().close()


_abandoned: list[sqlite3.Connection] = []


def abandon(connections: deque[sqlite3.Connection]) -> None:
    """Leave a parent's connections alone: closing them here would drop the parent's locks."""
    _abandoned.extend(connections)
    connections.clear()


def close_all(idle: deque[sqlite3.Connection], owner: list[int]) -> None:
    """Close what a store leaves, but for what a fork left it of its parent's."""
    while idle and owner == [os.getpid()]:
        idle.pop().close()


def _text(raw: bytes) -> str:
    """Return text as others may have put it there: bytes that are none are kept."""
    return raw.decode("utf-8", "surrogateescape")


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Switch the file to WAL, which SQLite refuses at once while another process is at it."""
    give_up = monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > give_up:
                raise
            time.sleep(0.005)  # SQLite calls no busy handler here: nothing to wait on
        else:
            return


def _steady() -> float:
    """Return seconds since the machine started, time asleep included where that is known."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _boot_id() -> str:
    """Return a name of this run of the machine, or of this process where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{_UNKNOWN_BOOT}{os.getpid()}-{time.time_ns()}"
