"""An SQLite store whose bytes are damaged, anywhere and anyhow, and a cache that opens it then.

The files are made by a process that was killed, so that there is a write-ahead log and its index,
or by one that closed them. Each value in them was written twice: what a damaged log leaves out must
not bring the first one back.
"""

import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from embedders import M, same, vector, vectors
from nearcache import EmbeddingCache, NearCache

__all__ = ["DAMAGES", "ENDS", "Damaged", "damage", "make_file"]

TEXTS = [f"t{n}" for n in range(120)]
KEYS = [f"k{n}" for n in range(60)]
_DIMENSION = 400
_HANG = 10.0

ENDS = ("closed", "killed", "killed after a checkpoint")


def make_file(path: Path, end: str) -> None:
    """Make a file in a process of its own, which ends as is said."""
    process = os.fork()
    if not process:
        try:
            _fill(path, end)
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert status == (0 if end == "closed" else signal.SIGKILL), status


def _fill(path: Path, end: str) -> None:
    url = f"sqlite:///{path}"
    rows, values = EmbeddingCache(url), NearCache(url, namespace="values", ttl=None)
    rows.put_batch(TEXTS, vectors(TEXTS, _DIMENSION), M)
    for version in (0, 1):
        for key in KEYS:
            values.put(key, _value(key, version), tags=["even" if int(key[1:]) % 2 else "odd"])
        if version == 0 and end == "killed after a checkpoint":
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.close()
    if end != "closed":
        os.kill(os.getpid(), signal.SIGKILL)
    rows.close()
    values.close()
    os._exit(0)


def _value(key: str, version: int) -> dict[str, object]:
    return {"key": key, "version": version, "more": key * 100}


def _byte(data: bytearray, chosen: random.Random) -> None:
    data[chosen.randrange(len(data))] = chosen.randrange(256)


def _few_bytes(data: bytearray, chosen: random.Random) -> None:
    for _ in range(20):
        _byte(data, chosen)


def _page(data: bytearray, chosen: random.Random) -> None:
    at = chosen.randrange(max(1, len(data) // 8192)) * 8192
    data[at : at + 8192] = chosen.randbytes(min(8192, len(data) - at))


def _head(data: bytearray, chosen: random.Random) -> None:
    at, size = chosen.randrange(100), chosen.randrange(1, 16)
    data[at : at + size] = chosen.randbytes(size)


def _zeros(data: bytearray, chosen: random.Random) -> None:
    at = chosen.randrange(len(data))
    size = min(chosen.randrange(1, 9000), len(data) - at)
    data[at : at + size] = bytes(size)


def _cut(data: bytearray, chosen: random.Random) -> None:
    del data[chosen.randrange(len(data)) :]


DAMAGES: dict[str, Callable[[bytearray, random.Random], None]] = {
    "a byte": _byte,
    "a few bytes": _few_bytes,
    "a page": _page,
    "the head": _head,
    "zeros": _zeros,
    "the end": _cut,
}


class Damaged:
    """One copy of a file, damaged by a seed; ``use`` says what a cache made of it."""

    def __init__(self, made: Path, folder: Path, seed: int) -> None:
        self._chosen = random.Random(seed)
        shutil.copytree(made.parent, folder)
        self.path = folder / made.name
        files = sorted(file for file in folder.iterdir() if file.stat().st_size)
        file = self._chosen.choice(files)
        kind = self._chosen.choice(sorted(DAMAGES))
        self.what = f"seed {seed}: {kind} of {file.name}"
        data = bytearray(file.read_bytes())
        DAMAGES[kind](data, self._chosen)
        file.write_bytes(data)

    def use(self) -> Counter[str]:
        """Read, forget and write; count what is wrong, and how it went on."""
        counts: Counter[str] = Counter()
        url = f"sqlite:///{self.path}"
        rows = EmbeddingCache(url, max_entries=0)
        values = NearCache(url, namespace="values", ttl=None, max_entries=0)
        try:
            for text in TEXTS[::5]:
                row = rows.get(text, M)
                counts["found"] += row is not None
                counts["wrong"] += row is not None and not same(row, vector(text, _DIMENSION))
            for key in KEYS:
                value = values.get(key)
                counts["found"] += value is not None
                counts["wrong"] += value not in (None, _value(key, 1))
            values.invalidate_by_tag("odd")
            values.invalidate("k1")
            for key in KEYS:
                gone = key == "k1" or not int(key[1:]) % 2
                counts["back"] += gone and values.get(key) is not None
            counts["useless"] += not self._works_again(rows, values)
        finally:
            rows.close()
            values.close()
        counts["moved aside"] += self.path.with_name(self.path.name + ".damaged").exists()
        return counts

    @staticmethod
    def _works_again(rows: EmbeddingCache, values: NearCache) -> bool:
        end = time.monotonic() + _HANG
        while time.monotonic() < end:
            rows.put("new", vector("new", _DIMENSION), M)
            values.put("new", 1)
            if rows.get("new", M) is not None and values.get("new") == 1:
                return True
            time.sleep(0.02)  # the store is left alone for a moment after it failed
        return False


def damage(made: Path, folder: Path, seeds: range) -> tuple[Counter[str], list[str]]:
    """Damage a file in many ways; return what was counted, and where something was wrong."""
    counts: Counter[str] = Counter()
    faults = []
    for seed in seeds:
        damaged = Damaged(made, folder / str(seed), seed)
        found = damaged.use()
        if found["wrong"] or found["back"] or found["useless"]:
            faults.append(f"{damaged.what}: {dict(found)}")
        counts.update(found)
        counts["damaged"] += 1
        shutil.rmtree(folder / str(seed))
    return counts, faults
