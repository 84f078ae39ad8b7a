"""Traces: what real caches were asked for, as dense numbers; made-up ones without a data folder."""

import gzip
import json
import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import data

__all__ = ["MADE_UP", "MOST", "Trace", "found", "load"]

MOST = 1_300_000
"""Requests of a trace that are played: so many made the reference figures in the data folder."""
MADE_UP = ("zipf", "drift", "scans", "loop")
_PATTERNS = ("*.trace.gz", "*.trace.xz", "*.lis", "*.lis.zst", "*_trace.jsonl.gz", "*.log")
_ORACLE_GENERAL = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trace:
    """Keys in order of time, numbered from 0 by value."""

    name: str
    keys: list[int]
    distinct: int

    def size(self, percent: float) -> int:
        """Return how many entries a cache of so many percent of the distinct keys has."""
        return max(1, int(self.distinct * percent / 100))


def found() -> list[str]:
    """Return the paths of the traces in the data folder, or the names of the made-up ones."""
    paths = {path for pattern in _PATTERNS for path in data.folder().glob(pattern)}
    return sorted(map(str, paths)) or list(MADE_UP)


@lru_cache(maxsize=2)
def load(name: str, most: int = MOST) -> Trace:
    """Read a trace file in any format of the data folder, or make one up by its name."""
    raw = _made_up(name) if name in MADE_UP else _keys(Path(name))
    _, keys = np.unique(raw[:most], return_inverse=True)
    title = name if name in MADE_UP else re.sub(r"\..*", "", Path(name).name)
    return Trace(title, keys.tolist(), int(keys.max()) + 1)


def _bytes(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        import zstandard

        with path.open("rb") as packed:
            return zstandard.ZstdDecompressor().stream_reader(packed).read()
    return path.read_bytes()


def _keys(path: Path) -> Numbers:
    name, raw = path.name, _bytes(path)
    if "orm-" in name or re.search(r"web\d\d", name):  # cache2k
        return np.frombuffer(raw, ">i4").astype(np.int64)
    if "w106" in name:  # CloudPhysics, as LIRS2 has it
        return np.frombuffer(raw, ">u4").astype(np.int64)
    if "vaultservice" in name or "scarab" in name:
        return np.frombuffer(raw[: len(raw) // 8 * 8], ">i8").astype(np.int64)
    if "oracleGeneral" in name:
        return np.frombuffer(raw, _ORACLE_GENERAL)["id"].astype(np.int64)
    lines = [line for line in raw.splitlines() if line.strip()]
    if ".lis" in name:  # ARC: a first block, and how many
        pairs = [tuple(map(int, line.split(None, 2)[:2])) for line in lines]
        return np.concatenate([np.arange(first, first + count) for first, count in pairs])
    if name.endswith(("jsonl", "jsonl.gz")):  # Mooncake: blocks of requests
        return np.array([block for line in lines for block in json.loads(line)["hash_ids"]])
    if "request" in name:  # AdaptSize: time, id, size
        return _numbered(tuple(line.split()[1:3]) for line in lines)
    if name.endswith(".log"):  # a search log: user, time, query
        rows = [line.split(b"\t") for line in lines]
        queries = [row[2] for row in sorted(rows, key=lambda row: row[1])]
        return _numbered(query for query in queries if query.strip())
    return np.array([int(line) for line in lines if line.strip() != b"*"], np.int64)  # LIRS


def _numbered(names: Iterable[object]) -> Numbers:
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _made_up(name: str, count: int = 60_000) -> Numbers:
    rng = np.random.default_rng(MADE_UP.index(name))
    at = np.arange(count)
    popular = np.minimum(rng.zipf(1.2, count), 20_000)
    if name == "zipf":
        return popular
    if name == "drift":  # other keys are popular every 3000 requests
        return popular + at // 3000 * 50
    if name == "scans":  # one request in ten belongs to a scan of keys that never come again
        return np.where(at % 1000 >= 900, 100_000 + at, popular)
    return np.where(at % 2 == 0, 50_000 + at // 2 % 3000, popular)
