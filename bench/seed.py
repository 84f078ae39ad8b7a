"""The seed's way: a Python list per row under the hex digest of its text, JSON in Redis.

What is judged against is the least that way can cost (no lock, no statistics, no LRU), so the
ratios are modest; ``with_its_entries`` adds what the seed did per text.
"""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import redis

from bench.timing import Contestant, Matrix, Sample

__all__ = ["in_memory", "in_redis", "with_its_entries"]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_memory(texts: list[str], matrix: Matrix) -> Contestant:
    """Return the seed's dictionary of lists, made a matrix as its users must."""
    kept = {_digest(text): row.tolist() for text, row in zip(texts, matrix, strict=True)}

    def get(sample: Sample) -> Matrix:
        return np.array([kept[_digest(text)] for text in sample.texts], dtype=np.float32)

    return Contestant("seed, in memory", get)


@dataclass
class _Entry:
    embedding: list[float]
    expires: float
    count: int = 0


def with_its_entries(texts: list[str], matrix: Matrix) -> Contestant:
    """Return the same with the lock, LRU order, life and counts of the seed, but no await."""
    kept: OrderedDict[str, _Entry] = OrderedDict()
    lock, hits = threading.RLock(), 0
    for text, row in zip(texts, matrix, strict=True):
        kept[f"m:{_digest(text)[:32]}"] = _Entry(row.tolist(), time.time() + 86_400)

    def find(text: str) -> list[float]:
        nonlocal hits
        key = f"m:{_digest(text)[:32]}"
        with lock:
            entry = kept[key]
            if entry.expires < time.time():
                raise KeyError(key)
            kept.move_to_end(key)
            entry.count += 1
            hits += 1
            return entry.embedding

    def get(sample: Sample) -> Matrix:
        return np.array([find(text) for text in sample.texts], dtype=np.float32)

    return Contestant("seed, in memory, with its lock, LRU, TTL, counts", get)


def in_redis(client: redis.Redis, texts: list[str], matrix: Matrix) -> Contestant:
    """Return the seed's Redis path: one GET of JSON per text."""
    pipe = client.pipeline(transaction=False)
    for text, row in zip(texts, matrix, strict=True):
        pipe.set(f"seed:m:{_digest(text)}", json.dumps(row.tolist()))
    pipe.execute()

    def get(sample: Sample) -> Matrix:
        rows = [json.loads(client.get(f"seed:m:{_digest(text)}")) for text in sample.texts]
        return np.array(rows, dtype=np.float32)

    return Contestant("seed, Redis", get)
