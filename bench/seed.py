"""The seed's way: a Python list per row under the hex digest of its text, JSON in Redis.

Kept to the least that way can cost (no lock, no statistics, no LRU), so the ratios are modest.
"""

import hashlib
import json

import numpy as np
import redis

from bench.timing import Contestant, Matrix, Sample

__all__ = ["in_memory", "in_redis"]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_memory(texts: list[str], matrix: Matrix) -> Contestant:
    """Return the seed's dictionary of lists, made a matrix as its users must."""
    kept = {_digest(text): row.tolist() for text, row in zip(texts, matrix, strict=True)}

    def get(sample: Sample) -> Matrix:
        return np.array([kept[_digest(text)] for text in sample.texts], dtype=np.float32)

    return Contestant("seed, in memory", get)


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
