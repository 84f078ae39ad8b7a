"""The embedding cache: every text is paid for once, in this process and in every other.

The asynchronous class is the source; the blocking one drives the same coroutines by hand.
"""

import re
import threading
from collections.abc import Callable, Iterable, Sequence, Sized
from types import EllipsisType, TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from nearcache.caches.admin import Admin
from nearcache.caches.embedder import AsyncCachedEmbeddingGenerator, CachedEmbeddingGenerator
from nearcache.caches.generators import Generator
from nearcache.caches.progress import Bar, Progress
from nearcache.clock import Clock, monotonic
from nearcache.codecs.vectors import by_name
from nearcache.coherence.forgets import Forget
from nearcache.engine.build import open_store
from nearcache.engine.engine import Engine
from nearcache.engine.io import AsyncIO, BlockingIO, run
from nearcache.engine.rows import (
    ABSENT,
    FAR,
    JOINED,
    LOADED,
    NEAR,
    RowBatch,
    RowShelf,
    as_floats,
)
from nearcache.errors import CodecError, ConfigError, LoaderError, ShapeMismatch
from nearcache.events import Subscriber
from nearcache.keys import EmbeddingModel, KeySpace, ModelKeys, content_digest, hash_content
from nearcache.near.pick import VectorTier
from nearcache.options import Options, check_count, check_ttl, effective_ttl
from nearcache.stats import Stats

__all__ = ["AsyncEmbeddingCache", "EmbeddingCache", "create_embedding_cache"]

Floats = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)
Model = str | EmbeddingModel
Ttl = float | EllipsisType | None

_ATTEMPTS = 3
_POLICIES = ("lru",)
_HASH = re.compile("[0-9a-fA-F]{32}")


class Tiers:
    """What both faces of a cache share: near tier, store, engine, and the models seen so far."""

    def __init__(self, arguments: dict[str, Any], *, clock: Clock = monotonic) -> None:
        self.arguments = arguments
        options = arguments["options"]
        if not isinstance(options, Options):
            msg = f"options is an Options object, not {options!r}"
            raise ConfigError(msg)
        if arguments["policy"] not in _POLICIES:
            msg = f"unknown policy {arguments['policy']!r}; known: {', '.join(_POLICIES)}"
            raise ConfigError(msg)
        self.precision = by_name(arguments["precision"])
        near = VectorTier(
            dtype=self.precision.dtype,
            scaled=self.precision.scaled,
            max_entries=check_count("max_entries", arguments["max_entries"], least=0),
            max_bytes=check_count("max_bytes", arguments["max_bytes"], least=0),
            clock=clock,
        )
        self.ttl = check_ttl(arguments["ttl"])
        if self.ttl == 0:
            msg = "ttl=0 would store nothing; give seconds, or None for no limit"
            raise ConfigError(msg)
        self.space = KeySpace(arguments["namespace"])
        store, self.owns_store = open_store(arguments["store"], options)
        self._set(near, store, options, clock)

    def _set(self, near: Any, store: Any, options: Options, clock: Clock) -> None:
        self._models: dict[Model, RowShelf] = {}
        self._shelves: dict[bytes, RowShelf] = {}
        self._lock = threading.Lock()
        self.engine = Engine(
            near,
            store,
            self.space,
            shelves=lambda: list(self._shelves.values()),
            options=options,
            clock=clock,
        )
        self.async_io = AsyncIO()
        self.views: dict[str, Tiers] = {}

    def view(self, part: str) -> "Tiers":
        """Return the same tiers under a sub-namespace."""
        with self._lock:
            inner = self.views.get(part)
            if inner is None:
                inner = self.views[part] = self._view(part)
            return inner

    def _view(self, part: str) -> "Tiers":
        inner = Tiers.__new__(Tiers)
        inner.arguments = {**self.arguments, "views": (*self.arguments.get("views", ()), part)}
        inner.precision, inner.ttl = self.precision, self.ttl
        inner.space, inner.owns_store = self.space.inside(part), False
        engine = self.engine
        inner._set(engine.near, engine.store, engine.options, engine.clock)
        return inner

    def count(self, batch: RowBatch, times: NDArray[np.intp], *, near: int = 0) -> None:
        """Count every text asked for once: ``times`` each of the batch, ``near`` others."""
        origins = np.bincount(batch.origin, times, minlength=5).astype(np.intp).tolist()
        loaded = int((batch.origin == LOADED).sum())
        # a repeat of a text that was loaded is answered by that load
        coalesced = origins[JOINED] + origins[LOADED] - loaded
        near += origins[NEAR]
        saved, absent = near + origins[FAR] + coalesced, origins[ABSENT] + loaded
        for name, subject, amount in (
            ("hit", "near", near),
            ("hit", "store", origins[FAR]),
            ("miss", batch.shelf.label, absent),
        ):
            if amount:
                self.engine.events.emit(name, subject, amount)
        self.engine.counters.add(
            near_hits=near,
            far_hits=origins[FAR],
            misses=absent,
            coalesced=coalesced,
            saved_loads=saved,
            bytes_saved=saved * 4 * (batch.shelf.size or 0),
        )

    def shelf(self, model: Model) -> RowShelf:
        """Return the shelf of a model; refuses what names none."""
        try:
            return self._models[model]
        except (KeyError, TypeError):
            given = EmbeddingModel.of(model)
        with self._lock:
            shelf = self._shelves.get(given.identity)
            if shelf is None:
                keys = ModelKeys(self.space, given.identity)
                shelf = RowShelf(self.space.name, keys, given.dimensions, given.name)
                self._shelves[given.identity] = shelf
            self._models[model] = shelf
            return shelf


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
        policy: str = "lru",
        precision: str = "float32",
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        self._tiers = Tiers(
            {
                "store": store,
                "namespace": namespace,
                "max_entries": max_entries,
                "max_bytes": max_bytes,
                "ttl": ttl,
                "policy": policy,
                "precision": precision,
                "options": options,
            }
        )
        self._io: AsyncIO | BlockingIO = self._tiers.async_io

    @classmethod
    def _face(cls, tiers: Tiers, io: AsyncIO | BlockingIO) -> "AsyncEmbeddingCache":
        face = cls.__new__(cls)
        face._tiers, face._io = tiers, io
        return face

    def as_sync(self) -> "EmbeddingCache":
        """Return the blocking face of this same cache."""
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
            self.check_texts([text]),
            self._tiers.engine.near,
            self._tiers.precision,
        )
        return await self._resolve_one(batch)

    async def get_by_hash(self, content_hash: str, model: Model) -> Floats | None:
        """Return the vector of a content hash, or None. Shapes: (d,), read-only."""
        shelf, near = self._tiers.shelf(model), self._tiers.engine.near
        digest = _digest_of(content_hash)
        if self._tiers.engine.current() and not self._tiers.engine.closed:
            row = near.get_digest(shelf.name, digest)
            if row is not None:
                return self._hit(row)
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
        texts = self.check_texts(texts)
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
        try:
            shelf = tiers._models[model]
            if engine.closed or not engine.current():
                return None
            row = engine.near.get_one(shelf.name, text)
        except (KeyError, TypeError):  # a new model, or nothing that could be near
            return None
        return None if row is None else self._hit(row)

    def _hit(self, row: Floats) -> Floats:
        row.flags.writeable = False
        self._tiers.engine.counters.add(near_hits=1, saved_loads=1, bytes_saved=row.nbytes)
        self._tiers.engine.events.emit("hit", "near", 1)
        return row

    def near_batch(self, texts: Sequence[str], model: Model) -> Floats | None:
        """Return the vectors of a batch that is all near, or None. Shapes: (n, d)."""
        tiers = self._tiers
        engine = tiers.engine
        if not isinstance(texts, (list, tuple)) or not texts:
            return None
        if engine.closed or not engine.current():
            return None
        try:
            shelf = tiers._models[model]
        except (KeyError, TypeError):
            return None
        rows = engine.near.get_all(shelf.name, texts)
        if rows is None:
            return None
        count = len(rows)
        size = count * rows.shape[1] * 4
        engine.counters.add(near_hits=count, saved_loads=count, bytes_saved=size)
        engine.events.emit("hit", "near", count)
        return rows

    # -- put ---------------------------------------------------------------------------------

    async def put(self, text: str, vector: object, model: Model, ttl: Ttl = ...) -> str:
        """Keep a vector in both tiers; return the text's content hash.

        Raises: CodecError for what is no vector of finite numbers, ShapeMismatch for one of
        another dimension than the model's; nothing is written then.
        """
        matrix = _checked_vectors(vector, 1)[None]
        return (await self._put(self.check_texts([text]), matrix, model, ttl))[0]

    async def put_batch(
        self, texts: Sequence[str], vectors: object, model: Model, ttl: Ttl = ...
    ) -> list[str]:
        """Keep vectors in both tiers, all or none of them; return the content hashes.

        Shapes: vectors (n, d). Of a text given twice the last vector stands.
        """
        texts = self.check_texts(texts)
        matrix = as_floats(vectors)
        if not len(texts) and not matrix.size:
            return []
        return await self._put(texts, _checked_vectors(matrix, 2), model, ttl)

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
            await tiers.engine.write(self._io, batch, batch.given(rows), life)
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
        (text,) = self.check_texts([text])
        return await self._forget(content_digest(text), model)

    async def invalidate_by_hash(self, content_hash: str, model: Model) -> bool:
        """Forget a text by its content hash."""
        return await self._forget(_digest_of(content_hash), model)

    async def _forget(self, digest: bytes, model: Model) -> bool:
        shelf = self._tiers.shelf(model)
        return bool(await self._tiers.engine.forget(self._io, shelf, [digest]))

    async def invalidate_by_model(self, model: Model) -> int:
        """Forget all of a model, its dimension too, in both tiers and every process.

        Returns the near entries dropped here. Cost: one write, however many entries there are.
        """
        shelf = self._tiers.shelf(model)
        gone = Forget(shelf.keys.identity)
        return await self._tiers.engine.forget_group(
            self._io, shelf.keys.group, shelf.keys.log, gone, [shelf]
        )

    async def clear(self) -> int:
        """Forget everything in this namespace, in both tiers and every process.

        Returns the near entries dropped here.
        """
        tiers = self._tiers
        return await tiers.engine.forget_group(
            self._io, tiers.space.everything, tiers.space.log, Forget(), tiers.engine.shelves()
        )

    async def cleanup_expired(self) -> int:
        """Drop what has expired, from near and from a store that does not do so itself.

        Returns the near entries dropped. No lock is held longer than about a millisecond.
        """
        self._tiers.engine.check_open()
        dropped = self._tiers.engine.near.expire()
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

    def check_texts(self, texts: Sequence[str]) -> Sequence[str]:
        """Return ``texts`` if it is a list (or another sequence) of str."""
        if isinstance(texts, (str, bytes)):
            msg = "texts is a list of str, not one string; give [text]"
            raise ConfigError(msg)
        if not isinstance(texts, (list, tuple)):
            try:
                texts = list(texts)
            except TypeError:
                msg = f"texts is a list of str, not {type(texts).__name__}"
                raise ConfigError(msg) from None
        if set(map(type, texts)) <= {str}:
            return texts
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                msg = f"a text is a str, not {type(text).__name__} (position {position})"
                raise ConfigError(msg)
        # the plain text of a subclass: its own __eq__ and __hash__ decide nothing here
        return [str.__str__(text) for text in texts]

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
        return self._tiers.engine.near.max_entries

    @property
    def admin(self) -> Admin:
        """The corner for rare things."""
        return Admin(self._tiers.engine, self._tiers.shelf)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(event, subject, detail)`` at every event; returns how to stop.

        Events: hit, miss, load, evict, invalidate, store_error. A callback that raises is logged,
        never felt.
        """
        return self._tiers.engine.events.subscribe(callback)

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._tiers.engine.stats()

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._tiers.engine.reset_stats()

    async def close(self) -> None:
        """End: close the store if this cache made it. May be called again."""
        tiers = self._tiers
        for child in tiers.views.values():
            await AsyncEmbeddingCache._face(child, self._io).close()
        await tiers.engine.close(self._io)
        if tiers.owns_store and tiers.engine.store is not None:
            await self._io.store(tiers.engine.store.close)
        tiers.async_io.close()

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
        return _repr(self, self._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return _remake, (type(self), self._tiers.arguments)


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
        policy: str = "lru",
        precision: str = "float32",
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
            options=options,
        )
        self._tiers = cache._tiers
        self.blocking_twin = AsyncEmbeddingCache._face(self._tiers, BlockingIO())

    @classmethod
    def _face(cls, tiers: Tiers) -> "EmbeddingCache":
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

        Events: hit, miss, load, evict, invalidate, store_error. A callback that raises is logged,
        never felt.
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
        return _repr(self, self._tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return _remake, (type(self), self._tiers.arguments)


create_embedding_cache = EmbeddingCache
"""The seed's factory: takes what ``EmbeddingCache`` takes."""


def _repr(face: object, tiers: Tiers) -> str:
    store = tiers.engine.store
    where = None if store is None else store.address
    return f"{type(face).__name__}({where!r}, namespace={tiers.space.name!r})"


def _remake(kind: Any, arguments: dict[str, Any]) -> Any:
    views = arguments.get("views", ())
    cache = kind(**{name: value for name, value in arguments.items() if name != "views"})
    for part in views:
        cache = cache.view(part)
    return cache


def _digest_of(content_hash: object) -> bytes:
    if isinstance(content_hash, str) and _HASH.fullmatch(content_hash):
        return bytes.fromhex(content_hash)
    msg = f"a content hash is 32 hex digits, as hash_content gives them, not {content_hash!r}"
    raise ConfigError(msg)


def _checked_vectors(value: object, dimensions: int) -> Floats:
    """Return finite float32 vectors; CodecError or ShapeMismatch before anything is written."""
    array = as_floats(value)
    if array.ndim != dimensions or not array.shape[-1]:
        shape = "(d,)" if dimensions == 1 else "(n, d)"
        msg = f"an array of shape {shape} is expected, not {array.shape}"
        raise ShapeMismatch(msg)
    if not np.isfinite(array).all():
        msg = "a vector holds NaN, an infinite component, or one too large for float32"
        raise CodecError(msg)
    return array
