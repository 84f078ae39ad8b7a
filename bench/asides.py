"""The peers in front of a counting model, to see what concurrency and repeats cost."""

import hashlib
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import diskcache
import numpy as np
import redis

from bench import data
from bench.others import litellm_dual, litellm_key
from bench.timing import Matrix

__all__ = ["Counting", "Embed", "embedders"]

Embed = Callable[[list[str]], object]


class Counting:
    """A model that takes 50 ms a call and counts calls and texts exactly."""

    def __init__(self, delay: float = 0.05) -> None:
        self.calls = 0
        self.texts = 0
        self._delay = delay
        self._lock = threading.Lock()

    def __call__(self, texts: list[str]) -> Matrix:
        with self._lock:
            self.calls += 1
            self.texts += len(texts)
        time.sleep(self._delay)
        return np.stack([data.fake_vector(text) for text in texts])

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Answer as LangChain asks."""
        return self(texts).tolist()


def _aside(
    find: Callable[[list[str]], list[object]],
    keep: Callable[[str, list[float]], object],
    model: Counting,
) -> Embed:
    """Return cache-aside as these caches document it: look up, ask for what is missing, put."""

    def embed(texts: list[str]) -> object:
        rows = find(texts)
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            new = model([texts[i] for i in missing]).tolist()
            for i, row in zip(missing, new, strict=True):
                keep(texts[i], row)
                rows[i] = row
        return rows

    return embed


def embedders(client: redis.Redis, folder: Path) -> dict[str, Callable[[Counting], Embed]]:
    """Return, by name, how each peer is put in front of a model."""
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_core.stores import InMemoryByteStore
    from redisvl.extensions.cache.embeddings import EmbeddingsCache

    def langchain(model: Counting) -> Embed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CacheBackedEmbeddings.from_bytes_store(
                model, InMemoryByteStore(), key_encoder="sha256"
            ).embed_documents

    def redisvl(model: Counting) -> Embed:
        client.flushall()
        cache = EmbeddingsCache(name="redisvl", redis_client=client)
        return _aside(
            lambda texts: cache.mget(texts, "m"), lambda text, row: cache.set(text, "m", row), model
        )

    def litellm(model: Counting) -> Embed:
        cache = litellm_dual()
        return _aside(
            lambda texts: cache.batch_get_cache([litellm_key(text) for text in texts]),
            lambda text, row: cache.set_cache(litellm_key(text), row),
            model,
        )

    def disk(model: Counting) -> Embed:
        cache = diskcache.Cache(str(folder / "aside"))
        cache.clear()

        def name(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        return _aside(
            lambda texts: [cache.get(name(text)) for text in texts],
            lambda text, row: cache.set(name(text), row),
            model,
        )

    def seed(model: Counting) -> Embed:
        kept: dict[str, list[float]] = {}
        return _aside(lambda texts: [kept.get(text) for text in texts], kept.__setitem__, model)

    return {
        "seed": seed,
        "LangChain": langchain,
        "RedisVL": redisvl,
        "LiteLLM DualCache": litellm,
        "diskcache": disk,
    }
