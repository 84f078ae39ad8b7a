"""A generator of embeddings with a cache before it."""

import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearcache.caches.checks import check_texts
from nearcache.caches.generators import BatchCall, Generator, find_calls
from nearcache.caches.progress import Bar, Progress
from nearcache.engine.io import run
from nearcache.errors import ConfigError
from nearcache.keys import EmbeddingModel
from nearcache.options import check_count

if TYPE_CHECKING:
    from nearcache.caches.embeddings import EmbeddingCache
    from nearcache.caches.embeddings_async import AsyncEmbeddingCache

__all__ = ["AsyncCachedEmbeddingGenerator", "CachedEmbeddingGenerator"]

Floats = NDArray[np.float32]


class _Tally:
    """How many texts were asked for, and how many of them reached the generator."""

    def __init__(self) -> None:
        self.asked = self.sent = 0
        self._lock = threading.Lock()

    def ask(self, count: int) -> None:
        with self._lock:
            self.asked += count

    def send(self, count: int) -> None:
        with self._lock:
            self.sent += count

    def before(self, call: BatchCall, *, is_async: bool) -> BatchCall:
        """Return the call with its texts counted first."""

        def counted(texts: list[str]) -> Any:
            self.send(len(texts))
            return call(texts)

        async def counted_async(texts: list[str]) -> Any:
            self.send(len(texts))
            return await call(texts)

        return counted_async if is_async else counted


class AsyncCachedEmbeddingGenerator:
    """A generator that pays for each text once; made by ``AsyncEmbeddingCache.wrap``.

    generator: a callable (texts to a matrix), or an object with ``generate_batch``/``generate``,
        ``encode`` or ``embed_documents``/``embed_query``; sync or async.
    max_batch: texts per call of the generator.
    max_concurrency: calls under way at once, of an asynchronous generator on each event loop; 1
        for a synchronous generator, since local models are not thread-safe. One that calls back
        into the cache from threads of its own needs more, or waits for its own turn.
    progress: True shows a bar on stderr; a callable gets (texts done, texts in all).

    Thread-safe; one object serves several event loops.
    """

    def __init__(
        self,
        generator: object,
        cache: "AsyncEmbeddingCache",
        model: str | EmbeddingModel,
        *,
        max_batch: int | None = None,
        max_concurrency: int | None = None,
        progress: Progress = None,
    ) -> None:
        for name, count in (("max_batch", max_batch), ("max_concurrency", max_concurrency)):
            if count is not None:
                check_count(name, count, least=1)
        self.cache = cache
        self.model = EmbeddingModel.of(model)
        self._query_model = self.model.with_input_type("query")
        self._document_model = self.model.with_input_type("document")
        self._batch = max_batch or cache.options.max_batch
        self._progress = progress
        self._tally = _Tally()
        documents, queries, is_async, default_batch = find_calls(generator)

        def made(call: BatchCall) -> Generator:
            return Generator(
                self._tally.before(call, is_async=is_async),
                is_async=is_async,
                limit=max_concurrency or (cache.options.max_concurrency if is_async else 1),
                max_batch=max_batch or default_batch,
            )

        self._documents = made(documents)
        self._queries = self._documents if queries is documents else made(queries)
        self._queries.share_turns(self._documents)

    async def __call__(self, texts: str | Sequence[str]) -> Floats:
        """Embed a text to (d,), or a sequence of texts to (n, d); nothing gives (0, d)."""
        if isinstance(texts, str):
            return await self.generate(texts)
        return await self.generate_batch(texts)

    async def generate(self, text: str) -> Floats:
        """Embed one text. Shapes: (d,)."""
        return await self._embed_one(text, self.model, self._documents)

    async def generate_batch(self, texts: Sequence[str]) -> Floats:
        """Embed texts. Shapes: (n, d)."""
        return await self._embed(texts, self.model, self._documents)

    async def embed_documents(self, texts: Sequence[str]) -> Floats:
        """Embed texts under the input type "document". Shapes: (n, d)."""
        return await self._embed(texts, self._document_model, self._documents)

    async def embed_query(self, text: str) -> Floats:
        """Embed one text under the input type "query". Shapes: (d,)."""
        return await self._embed_one(text, self._query_model, self._queries)

    async def iter_batches(self, texts: Iterable[str]) -> AsyncIterator[Floats]:
        """Embed a stream of texts, one matrix per ``max_batch`` of them, in constant memory."""
        if isinstance(texts, str):
            await self.generate_batch(texts)  # refuses, as it does everywhere
        stream = iter(texts)
        while part := list(islice(stream, self._batch)):
            yield await self.generate_batch(part)

    def get_stats(self) -> dict[str, object]:
        """Return how many texts reached the generator, the hits, their share, the cache's stats."""
        sent, asked = self._tally.sent, self._tally.asked
        hits = max(0, asked - sent)
        return {
            "call_count": sent,
            "cache_hit_count": hits,
            "cache_hit_rate": hits / asked if asked else 0.0,
            "cache_stats": self.cache.get_stats().to_dict(),
        }

    async def _embed_one(self, text: str, model: EmbeddingModel, loader: Generator) -> Floats:
        if not isinstance(text, str):
            msg = f"a text is a str, not {type(text).__name__}"
            raise ConfigError(msg)
        row: Floats = (await self._embed([text], model, loader))[0]
        return row

    async def _embed(
        self, texts: Sequence[str], model: EmbeddingModel, loader: Generator
    ) -> Floats:
        rows = self._near(texts, model)
        if rows is not None:
            return rows
        texts = check_texts(texts)
        self._tally.ask(len(texts))
        bar = Bar(self._progress, len(texts))
        if not bar:
            rows = await self.cache.get_or_load_batch(texts, model, loader)
        else:
            parts = []
            for at in range(0, max(1, len(texts)), self._batch):
                part = texts[at : at + self._batch]
                parts.append(await self.cache.get_or_load_batch(part, model, loader))
                bar.at(min(len(texts), at + self._batch))
            rows = np.concatenate(parts)
        return rows

    def _near(self, texts: Sequence[str], model: EmbeddingModel) -> Floats | None:
        """Return the rows of a batch that is all near: the warm path, without a coroutine."""
        rows = self.cache.near_batch(texts, model)
        if rows is not None:
            self._tally.ask(len(rows))
        return rows


class CachedEmbeddingGenerator:
    """The blocking face of a cached generator; made by ``EmbeddingCache.wrap``.

    Takes what :class:`AsyncCachedEmbeddingGenerator` takes, an asynchronous generator included: it
    runs on one private loop thread. Thread-safe.
    """

    def __init__(
        self,
        generator: object,
        cache: "EmbeddingCache",
        model: str | EmbeddingModel,
        *,
        max_batch: int | None = None,
        max_concurrency: int | None = None,
        progress: Progress = None,
    ) -> None:
        self.cache = cache
        self._twin = AsyncCachedEmbeddingGenerator(
            generator,
            cache.blocking_twin,
            model,
            max_batch=max_batch,
            max_concurrency=max_concurrency,
            progress=progress,
        )
        self.model = self._twin.model

    def __call__(self, texts: str | Sequence[str]) -> Floats:
        """Embed a text to (d,), or a sequence of texts to (n, d); nothing gives (0, d)."""
        if isinstance(texts, str):
            return self.generate(texts)
        return self.generate_batch(texts)

    def generate(self, text: str) -> Floats:
        """Embed one text. Shapes: (d,)."""
        return run(self._twin.generate(text))

    def generate_batch(self, texts: Sequence[str]) -> Floats:
        """Embed texts. Shapes: (n, d)."""
        rows = self._twin._near(texts, self.model)
        return run(self._twin.generate_batch(texts)) if rows is None else rows

    def embed_documents(self, texts: Sequence[str]) -> Floats:
        """Embed texts under the input type "document". Shapes: (n, d)."""
        return run(self._twin.embed_documents(texts))

    def embed_query(self, text: str) -> Floats:
        """Embed one text under the input type "query". Shapes: (d,)."""
        return run(self._twin.embed_query(text))

    def iter_batches(self, texts: Iterable[str]) -> Iterator[Floats]:
        """Embed a stream of texts, one matrix per ``max_batch`` of them, in constant memory."""
        batches = self._twin.iter_batches(texts)
        while True:
            try:
                yield run(anext(batches))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def get_stats(self) -> dict[str, object]:
        """Return how many texts reached the generator, the hits, their share, the cache's stats."""
        return self._twin.get_stats()
