"""Reading what was asked for: a key log of ``cache.admin.record``, or a trace file.

Trace files, as they are or packed as .gz, .xz or .bz2:

* a key a line, whatever it is; or one column of lines (``column``, from 1; tabs, else commas)
* lines of JSON: ``{"key": …, "time": …}`` (also "text", "query", "id"; "timestamp", "ts" in seconds
  or milliseconds), or ``{"hash_ids": […]}``
* binary numbers of a numpy type (``dtype``, e.g. ">i4")
* ``.lis``: first block, count (the traces of ARC)
"""

import bz2
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nearcache.caches.key_log import COUNT, MAGIC, RECORD
from nearcache.errors import ConfigError
from nearcache.metrics.advice.keys import Hashes, Keys, mixed

__all__ = ["read_keys"]

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_KEY_NAMES = ("key", "text", "query", "id", "prompt", "input")
_TIME_NAMES = ("time", "timestamp", "ts")
_MOST_BLOCKS = 1_000_000_000  # that memory may hold
_MILLISECONDS = 1e11  # a Unix time beyond it is not in seconds


def read_keys(path: Path, *, column: int | None = None, dtype: str | None = None) -> Keys:
    """Read a key log or a trace. Raises: ConfigError for what is neither or empty, OSError."""
    keys = _read(path, column, dtype)
    if not len(keys.hashes):
        msg = f"{path} holds no keys"
        raise ConfigError(msg)
    return keys


def _read(path: Path, column: int | None, dtype: str | None) -> Keys:
    data = _bytes(path)
    if data.startswith(MAGIC):
        return _log(path, data)
    if dtype is not None:
        return Keys(_binary(data, dtype), name=path.name)
    if column is not None and column < 1:
        msg = f"columns are counted from 1, not {column}"
        raise ConfigError(msg)
    name = path.name
    lines = [line for line in data.splitlines() if line.strip() and line.strip() != b"*"]
    if not lines:
        msg = f"{path} holds no keys"
        raise ConfigError(msg)
    try:
        if ".lis" in name:
            return Keys(_blocks(lines), name=name)
        if lines[0].lstrip().startswith(b"{"):
            return _json(path, lines)
        if column is not None:
            found = _hashed(_column(lines, column))
            if not len(found):
                msg = f"no line has a column {column}"
                raise ValueError(msg)
            return Keys(found, name=name)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        msg = f"{path} is not what it looks like: {error}"
        raise ConfigError(msg) from None
    return Keys(_hashed(lines), name=name)


def _bytes(path: Path) -> bytes:
    if path.suffix == ".zst":
        msg = f"{path}: unpack it first (zstd -d)"
        raise ConfigError(msg)
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        return path.read_bytes()
    try:
        with opener(path, "rb") as packed:
            data: bytes = packed.read()
            return data
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{path} cannot be unpacked: {error}"
        raise ConfigError(msg) from None


def _log(path: Path, data: bytes) -> Keys:
    head, newline, body = data.partition(b"\n")
    try:
        facts = json.loads(head[len(MAGIC) :])
        share, size = float(facts["share"]), facts["max_entries"]
        policy, ttl = facts["policy"], facts["ttl"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} is a key log of another release, or is damaged"
        raise ConfigError(msg) from error
    if not newline or not 0 < share <= 1:
        msg = f"{path} is a damaged key log"
        raise ConfigError(msg)
    # the last record may be half written
    records = np.frombuffer(body[: len(body) // RECORD.itemsize * RECORD.itemsize], RECORD)
    counts = records["key"] == COUNT
    asked = int(records["time"][counts].sum()) if counts.any() else None
    records = records[~counts]
    records = records[np.argsort(records["time"], kind="stable")]  # several threads wrote
    return Keys(
        np.ascontiguousarray(records["key"]),
        np.ascontiguousarray(records["time"]),
        share,
        path.name,
        size,
        policy,
        ttl,
        asked,
    )


def _json(path: Path, lines: list[bytes]) -> Keys:
    rows = [json.loads(line) for line in lines]
    if "hash_ids" in rows[0]:
        return Keys(
            _hashed_numbers(block for row in rows for block in row["hash_ids"]), name=path.name
        )
    named = next((name for name in _KEY_NAMES if name in rows[0]), None)
    if named is None:
        msg = f"{path}: a line has none of {', '.join(_KEY_NAMES)}"
        raise ConfigError(msg)
    keys = (json.dumps(row[named], sort_keys=True).encode() for row in rows)
    when = next((name for name in _TIME_NAMES if name in rows[0]), None)
    times = None if when is None else np.array([float(row[when]) for row in rows])
    if times is not None and len(times) and times.max() > _MILLISECONDS:
        times /= 1000
    return Keys(_hashed(keys), times, name=path.name)


def _blocks(lines: list[bytes]) -> Hashes:
    pairs = [tuple(map(int, line.split(None, 2)[:2])) for line in lines]
    if sum(max(0, count) for _, count in pairs) > _MOST_BLOCKS:
        msg = f"it asks for more than {_MOST_BLOCKS:,} blocks"
        raise ValueError(msg)
    runs = [np.arange(first, first + count, dtype=np.int64) for first, count in pairs]
    return mixed(np.concatenate(runs).view(np.uint64))


def _binary(data: bytes, dtype: str) -> Hashes:
    try:
        kind = np.dtype(dtype)
        numbers = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        msg = f"a dtype is one of numpy's for whole numbers, as '>i4', not {dtype!r}"
        raise ConfigError(msg) from error
    if kind.kind not in "iu" or not len(numbers):
        msg = f"a dtype is one of numpy's for whole numbers, as '>i4', not {dtype!r}"
        raise ConfigError(msg)
    return mixed(numbers.astype(np.int64).view(np.uint64))


def _column(lines: list[bytes], column: int) -> Iterator[bytes]:
    separator = b"\t" if b"\t" in lines[0] else b"," if b"," in lines[0] else None
    for line in lines:
        fields = line.split(separator)
        if len(fields) >= column:
            yield fields[column - 1].strip()


def _hashed(names: Iterable[bytes]) -> Hashes:
    known: dict[bytes, int] = {}
    return np.array([known.get(name) or _note(known, name) for name in names], np.uint64)


def _note(known: dict[bytes, int], name: bytes) -> int:
    digest = hashlib.blake2b(name, digest_size=8).digest()
    known[name] = number = int.from_bytes(digest, "little") or 1
    return number


def _hashed_numbers(numbers: Iterable[int]) -> Hashes:
    return mixed(np.array(list(numbers), np.int64).view(np.uint64))
