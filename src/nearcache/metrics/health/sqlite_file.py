"""An SQLite file before it is asked: whether it is there, whole, writable, and on what disk."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from nearcache.metrics.health.check import Check

__all__ = ["before"]

_LEAST_FREE = 100_000_000  # bytes
_CHECK_SECONDS = 2.0
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "lustre"}
_ASIDE = ".damaged"


def before(path: Path) -> Iterator[Check]:
    """Say what is wrong with a file and its folder; makes nothing."""
    folder = path.parent
    if not folder.is_dir():
        cure = f"Make the folder: mkdir -p {folder}"
        yield Check("file", "fail", f"there is no folder {folder}", cure)
        return
    if not path.exists():
        cure = "Nothing, if no cache has used it yet; else correct the URL."
        yield Check("store", "warn", f"there is no file {path}", cure)
    elif path.is_dir():
        yield Check("file", "fail", f"{path} is a folder", "Name a file in it.")
        return
    else:
        yield from _writable(path, folder)
        yield _whole(path)
    yield from _disk(folder)
    aside = path.with_name(path.name + _ASIDE)
    if aside.exists():
        cure = f"The cache began anew, and is sound. Look at it, or delete it: {aside}"
        yield Check("file", "warn", "a damaged file was set aside here", cure)


def _writable(path: Path, folder: Path) -> Iterator[Check]:
    closed = [each for each in (path, folder) if not os.access(each, os.W_OK)]
    if closed:
        cure = (
            f"Let this user write there: chown or chmod u+w {closed[0]} (SQLite writes beside the "
            "file, too). Until then the cache reads it, and keeps nothing new."
        )
        yield Check("file", "fail", f"{closed[0]} cannot be written by this user", cure)


def _whole(path: Path) -> Check:
    """Let SQLite look through the file, for two seconds at most."""
    cure = (
        "Nothing is lost but cached values: the next cache that opens it sets it aside as "
        f"{path.name}{_ASIDE} and begins anew. If it is another program's file, name another path."
    )
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size and not file.read(16).startswith(b"SQLite format 3\0"):
                return Check("file", "fail", f"{path} is no SQLite file, or is damaged", cure)
        db = sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True, timeout=1.0)
    except (OSError, sqlite3.Error) as error:
        return Check("file", "fail", f"{path} cannot be read: {error}", "Let this user read it.")
    end = time.monotonic() + _CHECK_SECONDS
    db.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if "interrupted" in str(error):
            return Check("file", "ok", f"{size / 1e6:,.1f} MB, too large to look through at once")
        if "locked" in str(error) or "busy" in str(error):
            busy = "Look for a process that holds it for long."
            return Check("file", "warn", f"{path} is locked", busy)
        return Check("file", "fail", f"{path} is damaged: {error}", cure)
    finally:
        db.close()
    if said != "ok":
        return Check("file", "fail", f"{path} is damaged: {said}", cure)
    return Check("file", "ok", f"{size / 1e6:,.1f} MB, sound")


def _disk(folder: Path) -> Iterator[Check]:
    kind = _kind_of_disk(folder)
    if kind in _NETWORK:
        cure = "Use a local disk, or a Redis or Valkey server to share between machines."
        detail = f"{folder} is on a network disk ({kind}), whose locks SQLite cannot rely on"
        yield Check("disk", "fail", detail, cure)
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE:
        cure = "Make room, or bound the file: sqlite:///…?max_bytes=500MB"
        detail = f"{free / 1e6:,.0f} MB are free: when it is full nothing new is kept"
        yield Check("disk", "fail", detail, cure)
    elif kind not in _NETWORK:
        yield Check("disk", "ok", f"{free / 1e9:,.1f} GB free{f', {kind}' if kind else ''}")


def _kind_of_disk(folder: Path) -> str:
    """Return the kind of file system, where the system tells (Linux); else an empty string."""
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return ""
    real = Path(os.path.realpath(folder))
    best, kind = "", ""
    for row in rows:
        if len(row) > 2 and real.is_relative_to(row[1]) and len(row[1]) >= len(best):
            best, kind = row[1], row[2]
    return kind
