"""Caches in two tiers for what AI agents pay for again and again."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearcache.caches.agents import AccessTier, AgentCredentials, TTLStrategy
    from nearcache.caches.embedder import AsyncCachedEmbeddingGenerator, CachedEmbeddingGenerator
    from nearcache.caches.embeddings import EmbeddingCache, create_embedding_cache
    from nearcache.caches.embeddings_async import AsyncEmbeddingCache
    from nearcache.caches.hot import HotMemoryCache
    from nearcache.caches.hot_async import AsyncHotMemoryCache
    from nearcache.caches.manager import CacheManager
    from nearcache.caches.manager_async import AsyncCacheManager
    from nearcache.caches.manager_stats import ManagerStats
    from nearcache.caches.memory_key import MemoryKey, MemoryType
    from nearcache.caches.near import NearCache
    from nearcache.caches.near_async import AsyncNearCache
    from nearcache.caches.retrieval import RetrievalCache
    from nearcache.caches.retrieval_async import AsyncRetrievalCache
    from nearcache.caches.retrieval_query import RetrievalQuery
    from nearcache.caches.short_term import ShortTermMemory
    from nearcache.caches.short_term_async import AsyncShortTermMemory
    from nearcache.caches.short_term_parts import PaginatedResult
    from nearcache.entry import MISSING, Loaded
    from nearcache.errors import (
        CacheError,
        ClosedError,
        CodecError,
        CoherenceError,
        ConfigError,
        CorruptEntry,
        LoaderError,
        LoadTimeout,
        ShapeMismatch,
        StoreCannotTell,
        StoreError,
        StoreReadOnly,
        StoreTimeout,
        StoreUnavailable,
        UnknownFormat,
    )
    from nearcache.keys import EmbeddingModel, hash_content
    from nearcache.options import Options
    from nearcache.stats import Stats
    from nearcache.stores.memory import MemoryStore
    from nearcache.stores.redis.store import RedisStore
    from nearcache.stores.sqlite import SQLiteStore

__all__ = [
    "MISSING",
    "AccessTier",
    "AgentCredentials",
    "AsyncCacheManager",
    "AsyncCachedEmbeddingGenerator",
    "AsyncEmbeddingCache",
    "AsyncHotMemoryCache",
    "AsyncNearCache",
    "AsyncRetrievalCache",
    "AsyncShortTermMemory",
    "CacheError",
    "CacheManager",
    "CachedEmbeddingGenerator",
    "ClosedError",
    "CodecError",
    "CoherenceError",
    "ConfigError",
    "CorruptEntry",
    "EmbeddingCache",
    "EmbeddingModel",
    "HotMemoryCache",
    "LoadTimeout",
    "Loaded",
    "LoaderError",
    "ManagerStats",
    "MemoryKey",
    "MemoryStore",
    "MemoryType",
    "NearCache",
    "Options",
    "PaginatedResult",
    "RedisStore",
    "RetrievalCache",
    "RetrievalQuery",
    "SQLiteStore",
    "ShapeMismatch",
    "ShortTermMemory",
    "Stats",
    "StoreCannotTell",
    "StoreError",
    "StoreReadOnly",
    "StoreTimeout",
    "StoreUnavailable",
    "TTLStrategy",
    "UnknownFormat",
    "create_embedding_cache",
    "hash_content",
]


_MODULES = {
    "caches.agents": "AccessTier AgentCredentials TTLStrategy",
    "caches.embedder": "AsyncCachedEmbeddingGenerator CachedEmbeddingGenerator",
    "caches.embeddings": "EmbeddingCache create_embedding_cache",
    "caches.embeddings_async": "AsyncEmbeddingCache",
    "caches.hot": "HotMemoryCache",
    "caches.hot_async": "AsyncHotMemoryCache",
    "caches.manager": "CacheManager",
    "caches.manager_async": "AsyncCacheManager",
    "caches.manager_stats": "ManagerStats",
    "caches.memory_key": "MemoryKey MemoryType",
    "caches.near": "NearCache",
    "caches.near_async": "AsyncNearCache",
    "caches.retrieval": "RetrievalCache",
    "caches.retrieval_async": "AsyncRetrievalCache",
    "caches.retrieval_query": "RetrievalQuery",
    "caches.short_term": "ShortTermMemory",
    "caches.short_term_async": "AsyncShortTermMemory",
    "caches.short_term_parts": "PaginatedResult",
    "entry": "MISSING Loaded",
    "errors": "CacheError ClosedError CodecError CoherenceError ConfigError CorruptEntry"
    " LoaderError LoadTimeout ShapeMismatch StoreCannotTell StoreError StoreReadOnly StoreTimeout"
    " StoreUnavailable UnknownFormat",
    "keys": "EmbeddingModel hash_content",
    "options": "Options",
    "stats": "Stats",
    "stores.memory": "MemoryStore",
    "stores.sqlite": "SQLiteStore",
    "stores.redis.store": "RedisStore",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import what is asked for, once: a program pays for the caches that it uses."""
    if name == "__version__":
        from importlib.metadata import version

        return version("nearcache")
    if name not in _PLACES:
        msg = f"module 'nearcache' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    try:
        found: object = getattr(import_module(f"nearcache.{_PLACES[name]}"), name)
    except ImportError as error:
        if name != "RedisStore":
            raise
        msg = "RedisStore needs redis-py: pip install 'nearcache[redis]'"
        raise ImportError(msg) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
