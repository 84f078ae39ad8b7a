"""Fill one cache in this process and print how much memory it took, as JSON.

Run by :mod:`bench.memory`: ``python -m bench.resident float32|float16|int8|seed|langchain D N``.
"""

import contextlib
import ctypes
import gc
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import data
from bench.timing import Matrix

Put = Callable[[list[str], Matrix], object]


def _resident() -> int:
    """Return the resident bytes once free memory is given back."""
    gc.collect()
    with contextlib.suppress(OSError):  # another C library: its slack counts
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _seed() -> Put:
    kept: dict[str, list[float]] = {}

    def put(texts: list[str], rows: Matrix) -> None:
        for text, row in zip(texts, rows, strict=True):
            kept[hashlib.sha256(text.encode()).hexdigest()] = row.tolist()

    return put


def _langchain() -> Put:
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_core.stores import InMemoryByteStore

    cached = CacheBackedEmbeddings.from_bytes_store(
        None, InMemoryByteStore(), namespace="m", key_encoder="sha256"
    )

    def put(texts: list[str], rows: Matrix) -> None:
        cached.document_embedding_store.mset(list(zip(texts, rows.tolist(), strict=True)))

    return put


def _nearcache(precision: str, entries: int) -> tuple[Put, Any]:
    from nearcache import EmbeddingCache

    cache = EmbeddingCache(None, max_entries=entries, max_bytes=2**32, precision=precision)

    def put(texts: list[str], rows: Matrix) -> None:
        cache.put_batch(texts, rows, "m")

    return put, cache


def main(kind: str, dimension: int, entries: int) -> dict[str, Any]:
    """Return the growth of the resident set and the bytes of the texts within it."""
    cache = None
    if kind == "seed":
        put = _seed()
    elif kind == "langchain":
        put = _langchain()
    else:
        put, cache = _nearcache(kind, entries)
    source = data.passages(entries)
    text_bytes, done, before = 0, 0, 0
    while done < entries:
        if done == 100:  # what the first entries cost once (imports, tables) is nobody's row
            before = _resident()
        texts = [next(source) for _ in range(min(100 if done < 100 else 500, entries - done))]
        if done >= 100:
            text_bytes += sum(map(sys.getsizeof, texts))
        put(texts, data.vectors(len(texts), dimension, seed=done))
        done += len(texts)
        del texts
    grown = _resident() - before
    scale = entries / (entries - 100)
    counted = 0
    if cache is not None:
        stats = cache.get_stats()
        if stats.entries_near != entries:
            msg = f"near holds {stats.entries_near} of {entries} entries"
            raise AssertionError(msg)
        counted = stats.bytes_near
    return {
        "grown": grown * scale,
        "text": text_bytes * scale,
        "keeps_text": cache is not None,
        "counted": counted,
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.stdout)
