"""What people use today, filled with the same rows and asked the way their documentation shows."""

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import redis

from bench.timing import Contestant, Matrix, Sample

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no download when imported
os.environ.setdefault("LITELLM_LOG", "ERROR")

__all__ = [
    "disk_cache",
    "langchain_file",
    "langchain_memory",
    "langchain_redis",
    "litellm_dual",
    "litellm_memory",
    "litellm_redis",
    "redisvl_cache",
]

_DAY = 86_400


class _NoModel:
    """The model of a warm run: to be asked is an error."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        msg = f"{len(texts)} warm texts reached the model"
        raise AssertionError(msg)

    embed_query = embed_documents


def _langchain(name: str, store: Any, texts: list[str], matrix: Matrix) -> Contestant:
    from langchain_classic.embeddings import CacheBackedEmbeddings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cached = CacheBackedEmbeddings.from_bytes_store(
            _NoModel(), store, namespace="m", key_encoder="sha256"
        )
    for start in range(0, len(texts), 500):
        stop = start + 500
        pairs = zip(texts[start:stop], matrix[start:stop].tolist(), strict=True)
        cached.document_embedding_store.mset(list(pairs))

    def get(sample: Sample) -> Matrix:
        return np.array(cached.embed_documents(sample.texts), dtype=np.float32)

    return Contestant(name, get)


def langchain_memory(texts: list[str], matrix: Matrix) -> Contestant:
    """Return LangChain's CacheBackedEmbeddings over its in-memory byte store."""
    from langchain_core.stores import InMemoryByteStore

    return _langchain("LangChain, in memory", InMemoryByteStore(), texts, matrix)


def langchain_file(folder: Path, texts: list[str], matrix: Matrix) -> Contestant:
    """Return LangChain's CacheBackedEmbeddings over one file per text."""
    from langchain_classic.storage import LocalFileStore

    return _langchain("LangChain, files", LocalFileStore(folder / "langchain"), texts, matrix)


def langchain_redis(client: redis.Redis, texts: list[str], matrix: Matrix) -> Contestant:
    """Return LangChain's CacheBackedEmbeddings over its Redis store."""
    from langchain_community.storage import RedisStore

    store = RedisStore(client=client, namespace="langchain")
    return _langchain("LangChain, Redis", store, texts, matrix)


def redisvl_cache(client: redis.Redis, texts: list[str], matrix: Matrix) -> Contestant:
    """Return RedisVL's EmbeddingsCache, without a time to live (its faster mode)."""
    from redisvl.extensions.cache.embeddings import EmbeddingsCache

    cache = EmbeddingsCache(name="redisvl", redis_client=client)
    for text, row in zip(texts, matrix, strict=True):
        cache.set(text, "m", row.tolist())

    def get(sample: Sample) -> Matrix:
        found = cache.mget(sample.texts, "m")
        return np.array([entry["embedding"] for entry in found], dtype=np.float32)

    return Contestant("RedisVL EmbeddingsCache", get)


def litellm_dual(port: int | None = None) -> Any:
    """Return LiteLLM's DualCache, over Redis if there is a port."""
    from litellm.caching.dual_cache import DualCache
    from litellm.caching.in_memory_cache import InMemoryCache
    from litellm.caching.redis_cache import RedisCache

    over = None if port is None else RedisCache(host="127.0.0.1", port=port)
    near = InMemoryCache(max_size_in_memory=10**6, default_ttl=_DAY)
    return DualCache(near, over, default_in_memory_ttl=_DAY, default_redis_ttl=_DAY)


def litellm_key(text: str) -> str:
    """Return the key that LiteLLM's Cache makes of an embedding call."""
    return hashlib.sha256(f"model: minput: {text}".encode()).hexdigest()


def _litellm(
    name: str, cache: Any, texts: list[str], matrix: Matrix, before: Callable[[], object]
) -> Contestant:
    for text, row in zip(texts, matrix, strict=True):
        cache.set_cache(litellm_key(text), row.tolist(), ttl=_DAY)

    def get(sample: Sample) -> Matrix:
        found = cache.batch_get_cache([litellm_key(text) for text in sample.texts])
        return np.array(found, dtype=np.float32)

    return Contestant(name, get, before)


def litellm_memory(texts: list[str], matrix: Matrix) -> Contestant:
    """Return LiteLLM's DualCache answering from its own memory."""
    return _litellm("LiteLLM DualCache, in memory", litellm_dual(), texts, matrix, lambda: None)


def litellm_redis(port: int, texts: list[str], matrix: Matrix) -> Contestant:
    """Return LiteLLM's DualCache answering through Redis (its memory emptied before each call)."""
    cache = litellm_dual(port)

    def forget() -> None:
        cache.in_memory_cache.flush_cache()
        cache.last_redis_batch_access_time.clear()  # else keys asked 10 s ago are not fetched

    return _litellm("LiteLLM DualCache, Redis", cache, texts, matrix, forget)


def disk_cache(folder: Path, texts: list[str], matrix: Matrix) -> Contestant:
    """Return diskcache with raw bytes under digests, the best its users can do by hand."""
    cache = diskcache.Cache(str(folder / "diskcache"), eviction_policy="none")
    dimension = matrix.shape[1]
    with cache.transact():
        for text, row in zip(texts, matrix, strict=True):
            cache.set(hashlib.sha256(text.encode()).hexdigest(), row.tobytes())

    def get(sample: Sample) -> Matrix:
        rows = [cache[hashlib.sha256(text.encode()).hexdigest()] for text in sample.texts]
        return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(-1, dimension)

    return Contestant("diskcache, raw bytes by hand", get)
