"""A log of what a cache was asked for, for ``nearcache advise``: hashes of keys, no contents.

A line of JSON says what the cache is; then follow records of a time and a hash. Only a share of the
keys is written, all requests for each: those whose hash is below a bound. Records of the key COUNT
say, in place of a time, how many requests there were since the last.
"""

import hashlib
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from nearcache.errors import ConfigError

__all__ = ["COUNT", "MAGIC", "RECORD", "SALT_BYTES", "KeyLog"]

MAGIC = b"nearcache-keys 1 "
RECORD = np.dtype([("time", "<f8"), ("key", "<u8")])
"""When a key was asked for (Unix time), and the hash that stands for it."""

COUNT = 2**64 - 1
"""The key of a record that counts."""

_AT_ONCE = 4096  # records
SALT_BYTES = 16


class KeyLog:
    """Writes a share of the keys it is told of, until ``close`` or ``most`` bytes.

    Its hashes are salted, so that nobody finds out by trying which texts were asked for. A disk
    that is full ends it, never the cache. Thread-safe.
    """

    def __init__(
        self, path: str | Path, *, share: float, most: int, salt: bytes, facts: dict[str, Any]
    ) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            msg = f"share is a fraction of the keys in (0, 1], not {share!r}"
            raise ConfigError(msg)
        self._bound = int(share * 2**64)
        self._salt = salt
        self._left = most
        self._lock = threading.Lock()
        self._records: list[tuple[float, int]] = []
        self._asked = 0
        self._file = Path(path).open("xb")  # noqa: SIM115  it is closed with the log
        self.path = Path(path)
        self.error: OSError | None = None
        """Why it ended before it was closed, if it did."""
        head = MAGIC + json.dumps({"share": share, **facts}).encode() + b"\n"
        self._file.write(head)

    def note(self, key: bytes) -> None:
        """Note that a key was asked for."""
        digest = hashlib.blake2b(key, digest_size=8, key=self._salt).digest()
        number = int.from_bytes(digest, "little")
        with self._lock:
            self._asked += 1
            if number < self._bound and number != COUNT:
                self._records.append((time.time(), number))
                if len(self._records) >= _AT_ONCE:
                    self._write()

    def _write(self) -> None:
        records, self._records = self._records, []
        if self._file.closed:
            return
        records.insert(0, (float(self._asked), COUNT))
        self._asked = 0
        data = np.array(records, RECORD).tobytes()[
            : self._left // RECORD.itemsize * RECORD.itemsize
        ]
        self._left -= len(data)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            self.error = error
            self._left = 0
        if self._left < RECORD.itemsize:
            self._end()

    def _end(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error

    def close(self) -> None:
        """Write what is left, and end. May be called again."""
        with self._lock:
            self._write()
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
