"""SQLite files: whatever is in the file, a method returns what it says, or raises StoreError."""

import logging
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from fuzz.fuzz_replies import _ACTS, _GROUPS, _KEYS, _LOG, _TOKEN, _V
from fuzz.harness import Choices
from nearcache.errors import StoreError
from nearcache.stores.sqlite import SQLiteStore

__all__ = ["SEEDS", "one"]


def _whole() -> bytes:
    """A file with something in every table, in one piece."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        store = SQLiteStore(path)
        store.epochs(_GROUPS, None)
        store.write(_KEYS, [_V, _V * 300], None, _LOG, [b"x", b"y"])
        store.put(_KEYS[:1], [_V], 1e6, _LOG, 1e12, [])
        store.expect([b"absent"], _TOKEN, 1e6)
        store.fetch(_KEYS, _GROUPS)
        store.close()
        db = sqlite3.connect(path)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode=DELETE")
        db.close()
        return path.read_bytes()


_FILE = _whole()
_log = logging.getLogger("nearcache")

SEEDS = [
    b"\x00" + bytes(40),
    b"\x01\x02" + bytes(range(60)),
    b"\x02\x05\x03\x01\x00\x10\x00\x00\xff\xff",
    b"\x03" + b"SQLite format 3\0" + bytes(100),
    b"\x03",
    b"\x03" + b"not a database\n" * 20,
    *(bytes((0, act)) + bytes(range(act, act + 30)) for act in range(len(_ACTS))),
]


def one(data: bytes) -> None:
    choices = Choices(data)
    folder = Path(tempfile.mkdtemp(dir=_SHM))
    level = _log.level
    _log.setLevel(logging.CRITICAL)  # it says aloud that a file is damaged
    try:
        path = folder / "x.db"
        path.write_bytes(_content(choices))
        if not choices.number(8):
            path.with_name("x.db-wal").write_bytes(choices.some(200))
        store = SQLiteStore(path, timeout=0.01)
        try:
            for _ in range(4):
                _try(store, *_ACTS[choices.number(len(_ACTS))][:2])
            _try(store, lambda s: s.fetch(_KEYS, _GROUPS), _ACTS[0][1])
            _try(store, lambda s: s.purge(), lambda found: type(found) is int)
        finally:
            store.close()
    finally:
        _log.setLevel(level)
        shutil.rmtree(folder)


_SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None  # memory, if it can be had


def _content(choices: Choices) -> bytes:
    kind = choices.number(4)
    if kind == 3:
        return choices.rest()
    content = bytearray(_FILE)
    for _ in range(1 + choices.number(8)):
        # headers of pages decide most
        page, at = choices.number(len(content) // 4096 + 1) * 4096, choices.number(256)
        if kind == 1:
            at = choices.number(4096)
        part = choices.some(8)
        content[page + at : page + at + len(part)] = part
    if kind == 2:
        del content[choices.number(len(content)) :]
    return bytes(content)


def _try(store: SQLiteStore, ask: Any, is_right: Any) -> None:
    try:
        found = ask(store)
    except StoreError:
        return
    assert is_right(found), found
