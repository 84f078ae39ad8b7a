"""The embedding cache: every text is paid for once, in this process and in every other."""

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nearcache.caches.admin import Admin
from nearcache.caches.checks import Floats, Model, Ttl
from nearcache.caches.embedder import CachedEmbeddingGenerator
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.caches.generators import Generator
from nearcache.caches.progress import Progress
from nearcache.caches.tiers import RowTiers, describe, remake, travelling
from nearcache.engine.io import BlockingIO, run
from nearcache.events import Subscriber
from nearcache.keys import hash_content
from nearcache.near.policies.base import Policy
from nearcache.options import Options
from nearcache.stats import Stats

__all__ = ["EmbeddingCache", "create_embedding_cache"]


class EmbeddingCache:
    """Embeddings in two tiers: near (this process) and a store (SQLite, Redis, Valkey).

    store: None (near only), a URL (``sqlite:///file.db``, ``redis://…``, ``valkey://…``), or a
        store object. Constructing does no I/O.
    namespace: programs that share a server choose different ones.
    max_entries: most entries near; 0 switches the near tier off.
    max_bytes: most bytes near: rows, texts (near finds a row by its text) and index.
    ttl: seconds an entry lives; None keeps it until it is evicted.
    precision: what is kept of a vector: "float32" (every bit), "float16", "int8" (off by at most
        1/254 of the row's largest component). Hit or miss, a caller gets the same bits.
    codec: an object with name, kind, encode and decode that the bytes of every stored entry pass
        through, one by one; for encryption (docs/operations.md).

    Thread-safe. A failing store is a counted miss, never an error.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "emb",
        max_entries: int = 50_000,
        max_bytes: int = 256 * 2**20,
        ttl: float | None = None,
        policy: str | Policy = "adaptive",
        precision: str = "float32",
        codec: object = None,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        cache = AsyncEmbeddingCache(
            store,
            namespace=namespace,
            max_entries=max_entries,
            max_bytes=max_bytes,
            ttl=ttl,
            policy=policy,
            precision=precision,
            codec=codec,
            options=options,
        )
        self._tiers = cache._tiers
        self.blocking_twin = AsyncEmbeddingCache._face(self._tiers, BlockingIO())

    @classmethod
    def _face(cls, tiers: RowTiers) -> "EmbeddingCache":
        face = cls.__new__(cls)
        face._tiers = tiers
        face.blocking_twin = AsyncEmbeddingCache._face(tiers, BlockingIO())
        return face

    def as_async(self) -> AsyncEmbeddingCache:
        """Return the asynchronous face of this same cache."""
        return AsyncEmbeddingCache._face(self._tiers, self._tiers.async_io)

    def as_sync(self) -> "EmbeddingCache":
        """Return this cache."""
        return self

    def view(self, name: str) -> "EmbeddingCache":
        """Return the same cache under a sub-namespace that nothing outside can name."""
        return EmbeddingCache._face(self._tiers.view(name))

    def get(self, text: str, model: Model) -> Floats | None:
        """Return the vector of a text, or None. Shapes: (d,), read-only."""
        row = self.blocking_twin.near_row(text, model)
        return run(self.blocking_twin.get(text, model)) if row is None else row

    def get_by_hash(self, content_hash: str, model: Model) -> Floats | None:
        """Return the vector of a content hash, or None. Shapes: (d,), read-only."""
        return run(self.blocking_twin.get_by_hash(content_hash, model))

    def get_batch(self, texts: Sequence[str], model: Model) -> tuple[Floats, NDArray[np.bool_]]:
        """Return (vectors, found); rows not found are NaN. Shapes: (n, d) float32, (n,) bool."""
        return run(self.blocking_twin.get_batch(texts, model))

    def get_or_load_batch(
        self, texts: Sequence[str], model: Model, loader: Generator, ttl: Ttl = ...
    ) -> Floats:
        """Return the vectors of texts, those that no tier has from the loader. Shapes: (n, d)."""
        return run(self.blocking_twin.get_or_load_batch(texts, model, loader, ttl))

    def put(self, text: str, vector: object, model: Model, ttl: Ttl = ...) -> str:
        """Keep a vector in both tiers; return the text's content hash.

        Raises: CodecError for what is no vector of finite numbers, ShapeMismatch for one of
        another dimension than the model's; nothing is written then.
        """
        return run(self.blocking_twin.put(text, vector, model, ttl))

    def put_batch(
        self, texts: Sequence[str], vectors: object, model: Model, ttl: Ttl = ...
    ) -> list[str]:
        """Keep vectors in both tiers, all or none of them; return the content hashes.

        Shapes: vectors (n, d). Of a text given twice the last vector stands.
        """
        return run(self.blocking_twin.put_batch(texts, vectors, model, ttl))

    def warm(
        self,
        rows: Iterable[tuple[str, object]],
        model: Model,
        ttl: Ttl = ...,
        progress: Progress = None,
    ) -> int:
        """Keep (text, vector) pairs, e.g. read from an existing vector database; return how many.

        Cost: constant memory; one write per ``max_batch`` pairs.
        """
        return run(self.blocking_twin.warm(rows, model, ttl, progress))

    def invalidate(self, text: str, model: Model) -> bool:
        """Forget a text, in both tiers and every process; say whether any tier here had it."""
        return run(self.blocking_twin.invalidate(text, model))

    def invalidate_by_hash(self, content_hash: str, model: Model) -> bool:
        """Forget a text by its content hash."""
        return run(self.blocking_twin.invalidate_by_hash(content_hash, model))

    def invalidate_by_model(self, model: Model) -> int:
        """Forget all of a model, its dimension too, in both tiers and every process.

        Returns the near entries dropped here. Cost: one write, however many entries there are.
        """
        return run(self.blocking_twin.invalidate_by_model(model))

    def clear(self) -> int:
        """Forget everything in this namespace, in both tiers and every process.

        Returns the near entries dropped here.
        """
        return run(self.blocking_twin.clear())

    def cleanup_expired(self) -> int:
        """Drop what has expired, from near and from a store that does not do so itself.

        Returns the near entries dropped. No lock is held longer than about a millisecond.
        """
        return run(self.blocking_twin.cleanup_expired())

    @staticmethod
    def hash_content(text: str) -> str:
        """Return the first 32 hex digits of SHA-256 of the UTF-8 text."""
        return hash_content(text)

    def wrap(
        self,
        embedder: object,
        model: Model,
        *,
        max_batch: int | None = None,
        max_concurrency: int | None = None,
        progress: Progress = None,
    ) -> CachedEmbeddingGenerator:
        """Put this cache before a generator; see :class:`CachedEmbeddingGenerator`."""
        return CachedEmbeddingGenerator(
            embedder,
            self,
            model,
            max_batch=max_batch,
            max_concurrency=max_concurrency,
            progress=progress,
        )

    @property
    def options(self) -> Options:
        """The options this cache was made with."""
        return self.blocking_twin.options

    @property
    def size(self) -> int:
        """Entries near, views included."""
        return self.blocking_twin.size

    @property
    def max_size(self) -> int:
        """The most entries near."""
        return self.blocking_twin.max_size

    @property
    def admin(self) -> Admin:
        """The corner for rare things."""
        return self.blocking_twin.admin

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(event, subject, detail)`` at every event; returns how to stop.

        The events are hit, miss, load, evict, invalidate, store_error, breaker. A callback that
        raises is logged, never felt.
        """
        return self.blocking_twin.subscribe(callback)

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self.blocking_twin.get_stats()

    def reset_stats(self) -> None:
        """Count from zero again."""
        self.blocking_twin.reset_stats()

    def close(self) -> None:
        """End: close the store if this cache made it. May be called again."""
        run(self.blocking_twin.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return describe(self, self._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), travelling(self._tiers))


create_embedding_cache = EmbeddingCache
"""The seed's factory: takes what ``EmbeddingCache`` takes."""
