"""What :mod:`bench.near.resident` fills: tiers, whole caches, the seed's way and LangChain."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.near.tiers import best_policy, fill_rows, object_tier, vector_tier
from bench.timing import Matrix

__all__ = ["Filler", "make"]


@dataclass(frozen=True, slots=True)
class Filler:
    """How one cache is filled, and what it says of itself."""

    put: Callable[[list[Any], Any], Any]
    counted: Callable[[], int] = lambda: 0
    held: Callable[[], int | None] = lambda: None
    keeps_texts: bool = False
    #: False: ``put`` takes numbers and the size of a value, and returns what it made weighs.
    takes_rows: bool = True


def make(kind: str, entries: int) -> Filler:
    """Return the filler of a kind (see :mod:`bench.near.resident`)."""
    if kind == "seed":
        return _seed()
    if kind == "langchain":
        return _langchain()
    core, _, what = kind.partition("-")
    if not what:
        return _cache(kind, entries)
    if what.startswith("objects"):
        return _objects(core, entries, limited=what.endswith("ttl"))
    tier = vector_tier(core, what, entries)
    return Filler(
        lambda texts, rows: fill_rows(tier, what, texts, rows),
        counted=lambda: tier.used_bytes,
        held=lambda: len(tier),
        keeps_texts=core == "pure",
    )


def _objects(core: str, entries: int, *, limited: bool) -> Filler:
    from nearcache.clock import monotonic

    tier = object_tier(core, best_policy(), entries)

    def put(numbers: list[int], size: int) -> int:
        total, end = 0, monotonic() + 3600 if limited else 0.0
        for number in numbers:
            key, value = f"memory:{number:041d}", number.to_bytes(size, "little")
            weight = sys.getsizeof(key) + sys.getsizeof(value)
            tier.put(key, value, end and end + number * 7919 % 3600, weight)
            total += weight
        return total

    return Filler(put, lambda: tier.used_bytes, lambda: len(tier), takes_rows=False)


def _cache(precision: str, entries: int) -> Filler:
    from nearcache import EmbeddingCache
    from nearcache.near import pick

    cache = EmbeddingCache(None, max_entries=entries, max_bytes=2**32, precision=precision)
    return Filler(
        lambda texts, rows: cache.put_batch(texts, rows, "m"),
        counted=lambda: cache.get_stats().bytes_near,
        held=lambda: cache.get_stats().entries_near,
        keeps_texts=pick.core()[0] == "pure",
    )


def _seed() -> Filler:
    kept: dict[str, list[float]] = {}

    def put(texts: list[str], rows: Matrix) -> None:
        for text, row in zip(texts, rows, strict=True):
            kept[hashlib.sha256(text.encode()).hexdigest()] = row.tolist()

    return Filler(put)


def _langchain() -> Filler:
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_core.stores import InMemoryByteStore

    cached = CacheBackedEmbeddings.from_bytes_store(
        None, InMemoryByteStore(), namespace="m", key_encoder="sha256"
    )

    def put(texts: list[str], rows: Matrix) -> None:
        cached.document_embedding_store.mset(list(zip(texts, rows.tolist(), strict=True)))

    return Filler(put)
