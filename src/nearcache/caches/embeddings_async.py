"""The embedding cache for asynchronous programs: the source of both faces.

The blocking class (``caches/embeddings.py``) drives the same coroutines by hand.
"""

from collections.abc import Callable, Iterable, Sequence, Sized
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from nearcache.caches.admin import Admin
from nearcache.caches.checks import (
    Floats,
    Model,
    Ttl,
    check_texts,
    check_vectors,
    digest_of,
)
from nearcache.caches.embedder import AsyncCachedEmbeddingGenerator
from nearcache.caches.generators import Generator
from nearcache.caches.progress import Bar, Progress
from nearcache.caches.tiers import RowTiers, describe, remake, travelling
from nearcache.coherence.forgets import Forget
from nearcache.engine.io import AsyncIO, BlockingIO
from nearcache.engine.rows import ABSENT, Ends, RowBatch, RowShelf, as_floats
from nearcache.errors import LoaderError, ShapeMismatch
from nearcache.events import Subscriber
from nearcache.keys import content_digest, hash_content
from nearcache.near.policies.base import Policy
from nearcache.options import Options, effective_ttl
from nearcache.stats import Stats

if TYPE_CHECKING:
    from nearcache.caches.embeddings import EmbeddingCache

__all__ = ["AsyncEmbeddingCache"]

T = TypeVar("T", bound=np.generic)

_ATTEMPTS = 3


class _Repeats:
    """How often, and where, each of the distinct texts was asked for."""

    def __init__(self, texts: Sequence[str], distinct: Sequence[str]) -> None:
        self._inverse: NDArray[np.intp] | None = None
        self.times = np.ones(len(distinct), np.intp)
        if len(distinct) != len(texts):
            place = {text: i for i, text in enumerate(distinct)}
            self._inverse = np.array([place[text] for text in texts], np.intp)
            self.times = np.bincount(self._inverse, minlength=len(distinct))

    def spread(self, values: NDArray[T]) -> NDArray[T]:
        """Return one row per text asked for from one per distinct text."""
        return values if self._inverse is None else values.take(self._inverse, axis=0)


class AsyncEmbeddingCache:
    """Embeddings in two tiers for asynchronous programs; the same names as ``EmbeddingCache``.

    What may touch the store or a generator is awaited. Thread-safe; serves several event loops.
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
        self._tiers = RowTiers(
            {
                "store": store,
                "namespace": namespace,
                "max_entries": max_entries,
                "max_bytes": max_bytes,
                "ttl": ttl,
                "policy": policy,
                "precision": precision,
                "codec": codec,
                "options": options,
            }
        )
        self._io: AsyncIO | BlockingIO = self._tiers.async_io

    @classmethod
    def _face(cls, tiers: RowTiers, io: AsyncIO | BlockingIO) -> "AsyncEmbeddingCache":
        face = cls.__new__(cls)
        face._tiers, face._io = tiers, io
        return face

    def as_sync(self) -> "EmbeddingCache":
        """Return the blocking face of this same cache."""
        from nearcache.caches.embeddings import EmbeddingCache

        return EmbeddingCache._face(self._tiers)

    def as_async(self) -> "AsyncEmbeddingCache":
        """Return this cache."""
        return self

    def view(self, name: str) -> "AsyncEmbeddingCache":
        """Return the same cache under a sub-namespace that nothing outside can name."""
        tiers = self._tiers.view(name)
        return AsyncEmbeddingCache._face(
            tiers, tiers.async_io if isinstance(self._io, AsyncIO) else self._io
        )

    # -- get ---------------------------------------------------------------------------------

    async def get(self, text: str, model: Model) -> Floats | None:
        """Return the vector of a text, or None. Shapes: (d,), read-only."""
        row = self.near_row(text, model)
        if row is not None:
            return row
        batch = RowBatch(
            self._tiers.shelf(model),
            check_texts([text]),
            self._tiers.engine.near,
            self._tiers.precision,
        )
        return await self._resolve_one(batch)

    async def get_by_hash(self, content_hash: str, model: Model) -> Floats | None:
        """Return the vector of a content hash, or None. Shapes: (d,), read-only."""
        shelf, near = self._tiers.shelf(model), self._tiers.engine.near
        digest = digest_of(content_hash)
        if self._tiers.engine.current() and not self._tiers.engine.closed:
            row = near.get_digest(shelf.name, digest)
            if row is not None:
                return self._hit(row, self._tiers.engine.hits.cell())
        return await self._resolve_one(RowBatch(shelf, [], near, self._tiers.precision, [digest]))

    async def _resolve_one(self, batch: RowBatch) -> Floats | None:
        await self._tiers.engine.listen(self._io)
        await self._tiers.engine.resolve(self._io, batch, None)
        self._tiers.count(batch, np.ones(1, np.intp))
        if batch.rows is None:
            return None
        row: Floats = batch.rows[0]
        row.flags.writeable = False
        return row

    async def get_batch(
        self, texts: Sequence[str], model: Model
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return (vectors, found); rows not found are NaN. Shapes: (n, d) float32, (n,) bool."""
        rows = self.near_batch(texts, model)
        if rows is not None:
            return rows, np.ones(len(rows), np.bool_)
        return await self._answer(texts, model, None, None)

    async def get_or_load_batch(
        self, texts: Sequence[str], model: Model, loader: Generator, ttl: Ttl = ...
    ) -> Floats:
        """Return the vectors of texts, those that no tier has from the loader. Shapes: (n, d)."""
        life = effective_ttl(ttl, self._tiers.ttl)
        return (await self._answer(texts, model, loader, life))[0]

    async def _answer(
        self, texts: Sequence[str], model: Model, loader: Generator | None, life: float | None
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return (vectors, found) of any texts; each distinct one is looked up once."""
        texts = check_texts(texts)
        distinct = list(dict.fromkeys(texts))
        repeats = _Repeats(texts, distinct)
        for _ in range(_ATTEMPTS):
            try:
                answer, found = await self._answer_distinct(distinct, repeats, model, loader, life)
            except ShapeMismatch:
                # the model was forgotten during this call and came back with another dimension:
                # what we had before is gone from everywhere, so begin again
                continue
            return repeats.spread(answer), repeats.spread(found)
        msg = "the model keeps changing its dimension; give each kind of vector a model of its own"
        raise LoaderError(msg)

    async def _answer_distinct(
        self,
        texts: list[str],
        repeats: "_Repeats",
        model: Model,
        loader: Generator | None,
        life: float | None,
    ) -> tuple[Floats, NDArray[np.bool_]]:
        tiers, shelf = self._tiers, self._tiers.shelf(model)
        engine = tiers.engine
        await engine.listen(self._io)
        here, rows = engine.near.get_some(shelf.name, texts)
        left, missing, times = list(range(len(texts))), texts, repeats.times
        if here:  # only what is not near is hashed
            gone = set(here)
            left = [i for i in left if i not in gone]
            missing, times = [texts[i] for i in left], times[left]
        batch = RowBatch(shelf, missing, engine.near, tiers.precision)
        try:
            if missing:
                await engine.resolve(self._io, batch, loader, life)
        finally:  # what was answered before a failure counts
            tiers.count(batch, times, near=int(repeats.times[here].sum()))
        if not here and batch.rows is not None:
            answer, found = (
                batch.rows.copy() if batch.shared else batch.rows,
                batch.origin != ABSENT,
            )
        else:
            found = np.ones(len(texts), np.bool_)
            found[left] = batch.origin != ABSENT
            size = (shelf.size or 0) if rows is None else rows.shape[1]
            answer = np.empty((len(texts), size), np.float32)
            if rows is not None:
                answer[here] = rows
            if batch.rows is not None:
                if batch.rows.shape[1] != size:
                    raise ShapeMismatch
                answer[left] = batch.rows
        if not found.all():
            answer[~found] = np.nan
        return answer, found

    # -- the warm path -----------------------------------------------------------------------

    def near_row(self, text: str, model: Model) -> Floats | None:
        """Return the vector of a text that is near and may be served as it is, or None."""
        tiers = self._tiers
        engine = tiers.engine
        shelf = tiers.known(model)
        if shelf is None or engine.closed or not engine.current():
            return None
        cell = engine.hits.cell()
        if cell[0] >= cell[2]:
            return self._timed_row(shelf, text, cell)
        row: Floats | None = engine.near.get_one(shelf.name, text)
        return None if row is None else self._hit(row, cell)

    def _timed_row(self, shelf: RowShelf, text: str, cell: list[int]) -> Floats | None:
        """Do what ``near_row`` does for most, and record how long it takes."""
        engine, began = self._tiers.engine, perf_counter()
        row: Floats | None = engine.near.get_one(shelf.name, text)
        if row is None:
            return None
        self._hit(row, cell)
        engine.meter.answered(cell, perf_counter() - began)
        return row

    def _hit(self, row: Floats, cell: list[int]) -> Floats:
        row.flags.writeable = False
        cell[0] += 1
        cell[1] += row.nbytes
        events = self._tiers.engine.events
        if events.hear_hits:
            events.emit("hit", "near", 1)
        return row

    def near_batch(self, texts: Sequence[str], model: Model) -> Floats | None:
        """Return the vectors of a batch that is all near, or None. Shapes: (n, d)."""
        tiers = self._tiers
        engine = tiers.engine
        if not isinstance(texts, (list, tuple)) or not texts:
            return None
        if engine.closed or not engine.current():
            return None
        shelf = tiers.known(model)
        if shelf is None:
            return None
        cell = engine.hits.cell()
        began = None if cell[0] < cell[2] else perf_counter()
        rows: Floats | None = engine.near.get_all(shelf.name, texts)
        if rows is None:
            return None
        count = len(rows)
        cell[0] += count
        cell[1] += rows.nbytes
        if engine.events.hear_hits:
            engine.events.emit("hit", "near", count)
        if began is not None:
            engine.meter.answered(cell, perf_counter() - began, count)
        return rows

    # -- put ---------------------------------------------------------------------------------

    async def put(self, text: str, vector: object, model: Model, ttl: Ttl = ...) -> str:
        """Keep a vector in both tiers; return the text's content hash.

        Raises: CodecError for what is no vector of finite numbers, ShapeMismatch for one of
        another dimension than the model's; nothing is written then.
        """
        matrix = check_vectors(vector, 1)[None]
        return (await self._put(check_texts([text]), matrix, model, ttl))[0]

    async def put_batch(
        self, texts: Sequence[str], vectors: object, model: Model, ttl: Ttl = ...
    ) -> list[str]:
        """Keep vectors in both tiers, all or none of them; return the content hashes.

        Shapes: vectors (n, d). Of a text given twice the last vector stands.
        """
        texts = check_texts(texts)
        matrix = as_floats(vectors)
        if not len(texts) and not matrix.size:
            return []
        return await self._put(texts, check_vectors(matrix, 2), model, ttl)

    async def _put(self, texts: Sequence[str], matrix: Floats, model: Model, ttl: Ttl) -> list[str]:
        tiers = self._tiers
        tiers.engine.check_open()
        shelf = tiers.shelf(model)
        if len(texts) != len(matrix):
            msg = f"{len(texts)} texts and {len(matrix)} vectors; one vector per text is expected"
            raise ShapeMismatch(msg)
        life = effective_ttl(ttl, tiers.ttl)
        last = {text: row for row, text in enumerate(texts)}
        index = np.fromiter(last.values(), np.intp, len(last))
        rows = tiers.precision.pack(matrix.take(index, axis=0))
        ends = Ends(life, tiers.engine.options.jitter)
        if not shelf.learn(matrix.shape[1]):
            msg = (
                f"{shelf.label} has vectors of {shelf.size} dimensions, not {matrix.shape[1]}; "
                "another model needs another name, or invalidate_by_model first"
            )
            raise ShapeMismatch(msg)
        batch = RowBatch(shelf, list(last), tiers.engine.near, tiers.precision)
        if life == 0:  # "do not store": nor may an older vector be served after this put
            await tiers.engine.forget(self._io, shelf, batch.digests)
        else:
            landing = batch.given(rows, tiers.engine.clock(), ends)
            await tiers.engine.write(self._io, batch, landing)
        names = dict(zip(last, batch.digests, strict=True))
        return [names[text].hex() for text in texts]

    async def warm(
        self,
        rows: Iterable[tuple[str, object]],
        model: Model,
        ttl: Ttl = ...,
        progress: Progress = None,
    ) -> int:
        """Keep (text, vector) pairs, e.g. read from an existing vector database; return how many.

        Cost: constant memory; one write per ``max_batch`` pairs.
        """
        bar = Bar(progress, len(rows) if isinstance(rows, Sized) else 0)
        size, done = self.options.max_batch, 0
        part: list[tuple[str, object]] = []

        async def keep() -> int:
            texts, vectors = [text for text, _ in part], [vector for _, vector in part]
            await self.put_batch(texts, vectors, model, ttl)
            return len(part)

        for pair in rows:
            part.append(pair)
            if len(part) == size:
                done += await keep()
                part.clear()
                if bar:
                    bar.at(done)
        done += await keep()
        if bar:
            bar.at(done)
        return done

    # -- forget ------------------------------------------------------------------------------

    async def invalidate(self, text: str, model: Model) -> bool:
        """Forget a text, in both tiers and every process; say whether any tier here had it."""
        (text,) = check_texts([text])
        return await self._forget(content_digest(text), model)

    async def invalidate_by_hash(self, content_hash: str, model: Model) -> bool:
        """Forget a text by its content hash."""
        return await self._forget(digest_of(content_hash), model)

    async def _forget(self, digest: bytes, model: Model) -> bool:
        shelf = self._tiers.shelf(model)
        return bool(await self._tiers.engine.forget(self._io, shelf, [digest]))

    async def invalidate_by_model(self, model: Model) -> int:
        """Forget all of a model, its dimension too, in both tiers and every process.

        Returns the near entries dropped here. Cost: one write, however many entries there are.
        """
        shelf = self._tiers.shelf(model)
        gone = Forget(shelf.keys.identity)
        return await self._tiers.engine.forget_group(self._io, (shelf.keys.group, gone), [shelf])

    async def clear(self) -> int:
        """Forget everything in this namespace, in both tiers and every process.

        Returns the near entries dropped here.
        """
        tiers = self._tiers
        return await tiers.engine.forget_group(
            self._io, (tiers.space.everything, Forget()), tiers.engine.shelves()
        )

    async def cleanup_expired(self) -> int:
        """Drop what has expired, from near and from a store that does not do so itself.

        Returns the near entries dropped. No lock is held longer than about a millisecond.
        """
        self._tiers.engine.check_open()
        dropped: int = self._tiers.engine.near.expire()
        await self._tiers.engine.purge(self._io)
        return dropped

    # -- the rest ----------------------------------------------------------------------------

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
    ) -> AsyncCachedEmbeddingGenerator:
        """Put this cache before a generator; see :class:`AsyncCachedEmbeddingGenerator`."""
        return AsyncCachedEmbeddingGenerator(
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
        return self._tiers.engine.options

    @property
    def size(self) -> int:
        """Entries near, views included."""
        return len(self._tiers.engine.near)

    @property
    def max_size(self) -> int:
        """The most entries near."""
        most: int = self._tiers.engine.near.max_entries
        return most

    @property
    def admin(self) -> Admin:
        """The corner for rare things."""
        return Admin(self._tiers.engine, self._tiers.shelf)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(event, subject, detail)`` at every event; returns how to stop.

        The events are hit, miss, load, evict, invalidate, store_error, breaker. A callback that
        raises is logged, never felt.
        """
        return self._tiers.engine.events.subscribe(callback)

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._tiers.engine.stats()

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._tiers.engine.reset_stats()

    async def close(self) -> None:
        """End: close the store if this cache made it. May be called again.

        Closing a view does nothing: it lives as long as the cache it is a view of.
        """
        await self._tiers.close(self._io)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return describe(self, self._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), travelling(self._tiers))
