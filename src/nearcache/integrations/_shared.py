"""What the integrations of embedding models share: one way through the cache, one name for a model.

The frameworks hand over an object of theirs that embeds. What of it decides a vector goes into the
key; what it is called with on a miss is what the key was made of, and nothing else.
"""

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from nearcache.caches.checks import Floats, check_texts
from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.caches.generators import BatchCall, Generator
from nearcache.errors import CacheError, ConfigError
from nearcache.keys import EmbeddingModel
from nearcache.options import Options, check_count

__all__ = [
    "HARMLESS",
    "TOGETHER",
    "Embedding",
    "Identity",
    "faces",
    "identity",
    "missing",
    "store_answers",
]

HARMLESS = frozenset(
    """
    access_token api_key api_key_env_var azure_ad_token batch_size callback_manager
    embed_batch_size embeddings_cache max_retries num_workers progress_bar rate_limiter
    request_timeout reuse_client show_progress show_progress_bar timeout token
    """.split()
)
"""Options of embedders that change no vector: how they get there, and how fast."""
TOGETHER = frozenset(("late_chunking",))
"""Options that make a vector depend on the other texts of its call (Jina's): none is like another
then, and nothing can be kept under a text alone."""


def missing(package: str, extra: str, error: ImportError) -> ImportError:
    """Return the error that names the extra to install, and what was not found."""
    msg = (
        f"nearcache.integrations.{extra} needs {package}: pip install 'nearcache[{extra}]'"
        f" ({error})"
    )
    return ImportError(msg, name=error.name)


def faces(cache: object) -> tuple[EmbeddingCache, AsyncEmbeddingCache]:
    """Return both faces of an embedding cache, whichever is given."""
    if isinstance(cache, (EmbeddingCache, AsyncEmbeddingCache)):
        return cache.as_sync(), cache.as_async()
    msg = f"cache is an EmbeddingCache or AsyncEmbeddingCache, not {type(cache).__name__}"
    raise ConfigError(msg)


def identity(
    embedder: object,
    name: str,
    options: Mapping[str, object],
    model: str | EmbeddingModel | None = None,
    ignore: Collection[str] = (),
) -> EmbeddingModel:
    """Return the model that an embedder is: its name, its class and its options.

    model: another name, or a model of the user's; the embedder's own options are added to it.
    ignore: options that change no vector, beside those that are known.
    Raises: ConfigError for an option that cannot be part of a key.
    """
    for key in TOGETHER:
        if options.get(key) and key not in ignore:
            msg = (
                f"{type(embedder).__name__}'s {key}={options[key]!r} makes a vector depend on the "
                f"other texts of its call, so it cannot be cached by its text: leave {key} out"
            )
            raise ConfigError(msg)
    given = None if model is None else EmbeddingModel.of(model)
    kept = {key: value for key, value in options.items() if key not in {*HARMLESS, *ignore}}
    for key, value in kept.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            msg = (
                f"{type(embedder).__name__}'s option {key!r} cannot be part of a key: it is a "
                f"{type(value).__name__}; if it changes no vector, give ignore=[{key!r}]; else "
                "name what it does in model=EmbeddingModel(…, params=…), too"
            )
            raise ConfigError(msg) from None
    kind = type(embedder)
    params = {"embedder": f"{kind.__module__}.{kind.__qualname__}", **kept}
    if given is None:
        return EmbeddingModel(name, params=params)
    return EmbeddingModel(
        given.name,
        dimensions=given.dimensions,
        revision=given.revision,
        input_type=given.input_type,
        params={**params, **given.params},
    )


class Identity:
    """The models that an embedder is, one for each kind of text, as of now.

    describe: says an embedder's name and options; asked at every call, since both may be changed
        between two, and a vector of before is wrong then.
    model, ignore: as of ``identity``.
    """

    def __init__(
        self,
        describe: Callable[[Any], tuple[str, Mapping[str, object]]],
        model: str | EmbeddingModel | None = None,
        ignore: Collection[str] = (),
    ) -> None:
        self._describe = describe
        self._given = model, tuple(ignore)
        self._last: tuple[object, dict[str, EmbeddingModel]] = None, {}

    def of(self, embedder: object, input_type: str = "") -> EmbeddingModel:
        """Return the model that an embedder is for a kind of text.

        Raises: ConfigError for an option that cannot be part of a key.
        """
        name, options = self._describe(embedder)
        options = {key: value for key, value in options.items() if key not in HARMLESS}
        now = type(embedder), name, repr(options)  # what is inside an option may change as well
        before, models = self._last
        if before != now:
            models = {"": identity(embedder, name, options, *self._given)}
            self._last = now, models
        if input_type not in models:
            models[input_type] = models[""].with_input_type(input_type)
        return models[input_type]


_ASKER = "_nearcache_asker"


class _Call(Generator):
    """One request's way to the embedder; it takes turns with all others.

    asker: who asks; equal for calls that would fail alike.
    """

    def __init__(self, turns: Generator, call: BatchCall, asker: object) -> None:
        super().__init__(
            self._noting(call),
            is_async=turns.is_async,
            limit=turns.limit,
            max_batch=turns.max_batch,
        )
        self.share_turns(turns)
        self._shared = turns
        self._asker = asker
        self._raised: Exception | None = None

    @property
    def crowd(self) -> object:
        """Who shares threads with it: every request of the same embedder."""
        return self._shared

    def heard(self, error: Exception) -> bool:
        """Say whether an error is another asker's, whose call we waited for instead of our own."""
        asker = vars(error).get(_ASKER)
        return asker not in (None, self._asker) and error is not self._raised

    def _noting(self, call: BatchCall) -> BatchCall:
        """Return a call whose errors say who asked."""

        def note(error: Exception) -> None:
            self._raised = error
            vars(error)[_ASKER] = self._asker

        def noting(texts: list[str]) -> Any:
            try:
                return call(texts)
            except Exception as error:
                note(error)
                raise

        async def noting_awaited(texts: list[str]) -> Any:
            try:
                return await call(texts)
            except Exception as error:
                note(error)
                raise

        return noting_awaited if inspect.iscoroutinefunction(call) else noting


_TRIES = 2  # each may have to wait for a call of somebody else that fails


class Embedding:
    """A cache before an embedder; every request may bring a call of its own.

    max_batch: texts per call.
    max_concurrency: calls under way at once; 1 for a call that is not awaited, since local models
        are not thread-safe.
    """

    def __init__(
        self,
        cache: object,
        *,
        max_batch: int | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        self.blocking, self.awaiting = faces(cache)
        for name, count in (("max_batch", max_batch), ("max_concurrency", max_concurrency)):
            if count is not None:
                check_count(name, count, least=1)

        def turns(*, is_async: bool) -> Generator:
            limit = max_concurrency or (self.blocking.options.max_concurrency if is_async else 1)
            return Generator(list, is_async=is_async, limit=limit, max_batch=max_batch)

        self._plain, self._awaited = turns(is_async=False), turns(is_async=True)
        self._asker = object()
        self._limits = {"max_batch": max_batch, "max_concurrency": max_concurrency}

    def __reduce__(self) -> tuple[object, ...]:
        return partial(Embedding, **self._limits), (self.blocking,)

    def rows(
        self, texts: Sequence[str], model: EmbeddingModel, call: BatchCall, asker: object = None
    ) -> Floats:
        """Return the vectors of texts, those that no tier has from ``call``. Shapes: (n, d).

        asker: who asks, where that decides whether the call fails (by the key it brings); by
            default this embedder. What fails for one is asked for again by another who waited.
        """
        rows = self.blocking.blocking_twin.near_batch(texts, model)
        if rows is not None:
            return rows
        texts, loader = check_texts(texts), self._loader(call, asker)
        for _ in range(_TRIES):
            try:
                return self.blocking.get_or_load_batch(texts, model, loader)
            except Exception as error:
                if not loader.heard(error):
                    raise
        with self._apart() as apart:
            return self._as_kept(apart.get_or_load_batch(texts, model, loader))

    async def arows(
        self, texts: Sequence[str], model: EmbeddingModel, call: BatchCall, asker: object = None
    ) -> Floats:
        """Do the same for an event loop; a call that is not awaited runs in a thread."""
        rows = self.awaiting.near_batch(texts, model)
        if rows is not None:
            return rows
        texts, loader = check_texts(texts), self._loader(call, asker)
        for _ in range(_TRIES):
            try:
                return await self.awaiting.get_or_load_batch(texts, model, loader)
            except Exception as error:
                if not loader.heard(error):
                    raise
        async with self._apart().as_async() as apart:
            return self._as_kept(await apart.get_or_load_batch(texts, model, loader))

    def _apart(self) -> EmbeddingCache:
        """Return a cache that keeps nothing, and where nobody else asks.

        Nor is what it gave put into the other one afterwards::

            us                              another process
            load v, apart
                                            forget
            put v: forgotten, and back
        """
        options = Options(max_batch=self.blocking.options.max_batch)
        return EmbeddingCache(namespace="apart", max_entries=0, options=options)

    def _as_kept(self, rows: Floats) -> Floats:
        """Return vectors as the cache will give them."""
        precision = self.blocking._tiers.precision
        return precision.unpack(precision.pack(rows))

    def _loader(self, call: Callable[[list[str]], Any], asker: object) -> _Call:
        is_async = inspect.iscoroutinefunction(call)
        return _Call(self._awaited if is_async else self._plain, call, asker or self._asker)


async def store_answers(cache: Any) -> bool | None:
    """Say whether the store of a cache answers, None where there is none; takes bounded time.

    cache: the asynchronous face of a cache.
    """
    while not hasattr(cache, "_tiers"):
        cache = cache._cache  # the near cache that this one is built on
    sharing = cache._tiers.engine.sharing
    if sharing is None:
        return None
    try:
        _, error = await sharing.access.attempt(cache._io, "fetch", [], [])
    except CacheError:  # closed meanwhile
        return False
    return error is None
