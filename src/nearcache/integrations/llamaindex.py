"""LlamaIndex: an embedding model behind a cache, and a key-value store for documents and nodes."""

from collections.abc import Mapping, Sequence
from typing import Any

from nearcache.caches.agents import AccessTier, AgentCredentials
from nearcache.caches.checks import Floats
from nearcache.caches.generators import BatchCall
from nearcache.caches.short_term import ShortTermMemory
from nearcache.integrations._shared import Embedding, Identity, missing
from nearcache.keys import EmbeddingModel
from nearcache.options import Options

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import (
        ConfigDict,
        Field,
        PrivateAttr,
        SerializeAsAny,
        field_validator,
    )
    from llama_index.core.embeddings.loading import load_embed_model
    from llama_index.core.storage.kvstore.types import (
        DEFAULT_BATCH_SIZE,
        DEFAULT_COLLECTION,
        BaseKVStore,
    )
except ImportError as error:
    raise missing("llama-index-core", "llamaindex", error) from error

__all__ = ["CachedEmbedding", "NearCacheKVStore"]

_PAGE = 1000  # keys looked for by one question to the store


class CachedEmbedding(BaseEmbedding):
    """An embedding model that pays for each text once; use it wherever LlamaIndex takes one.

    underlying: the model that embeds what no tier has, ``embed_batch_size`` texts a call.
    cache: an EmbeddingCache or AsyncEmbeddingCache. It is no part of what is serialised: give it
        again, ``CachedEmbedding.from_dict(data, cache=cache)``.
    model: another name for the model, or an EmbeddingModel with more that decides its vectors.
    ignore: options of the model that change no vector, beside the usual ones.

    The key holds the model's class and all its options, and whether a text is a query or not.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # a model may hold an API key

    underlying: SerializeAsAny[BaseEmbedding] = Field(
        repr=False, description="The model behind the cache."
    )
    cache: Any = Field(exclude=True, repr=False, description="The cache before the model.")
    model: Any = Field(default=None, exclude=True, description="A name for the model in keys.")
    ignore: tuple[str, ...] = Field(default=(), description="Options that are no part of keys.")

    _embedding: Embedding = PrivateAttr()
    _identity: Identity = PrivateAttr()
    _awaits: bool = PrivateAttr()

    def __init__(self, underlying: Any, cache: Any = None, **options: Any) -> None:
        super().__init__(**{"underlying": underlying, "cache": cache, **options})
        below = self.underlying
        for name in ("model_name", "embed_batch_size", "num_workers", "callback_manager"):
            if name not in self.model_fields_set:
                setattr(self, name, getattr(below, name))
        self._embedding = Embedding(self.cache, max_batch=below.embed_batch_size)
        self._identity = Identity(_described, self.model, self.ignore)
        self._identity.of(below)
        self._awaits = any(
            getattr(type(below), name) is not getattr(BaseEmbedding, name)
            for name in ("_aget_text_embedding", "_aget_text_embeddings")
        )

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex knows the class by."""
        return "NearCacheCachedEmbedding"

    @field_validator("underlying", mode="before")
    @classmethod
    def _load(cls, underlying: Any) -> Any:
        """Make the model of what it was serialised to."""
        return load_embed_model(underlying) if isinstance(underlying, dict) else underlying

    # -- what LlamaIndex calls ---------------------------------------------------------------

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._blocking([query], self._named("query"), self._below_queries)[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._awaiting([query], self._named("query"), self._abelow_queries))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._blocking(texts, self._named("document"), self._below_texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        # a model that only blocks runs in a thread: LlamaIndex would stop the event loop for it
        call = self._abelow_texts if self._awaits else self._below_texts
        return await self._awaiting(texts, self._named("document"), call)

    def _named(self, input_type: str) -> EmbeddingModel:
        return self._identity.of(self.underlying, input_type)

    def _blocking(
        self, texts: Sequence[str], model: EmbeddingModel, call: BatchCall
    ) -> list[list[float]]:
        return _listed(self._embedding.rows(texts, model, call))

    async def _awaiting(
        self, texts: Sequence[str], model: EmbeddingModel, call: BatchCall
    ) -> list[list[float]]:
        return _listed(await self._embedding.arows(texts, model, call))

    # -- what is called on a miss ------------------------------------------------------------

    def _below_texts(self, texts: list[str]) -> list[list[float]]:
        self._wait_for_rate()
        return self.underlying._get_text_embeddings(texts)

    async def _abelow_texts(self, texts: list[str]) -> list[list[float]]:
        await self._await_rate()
        return await self.underlying._aget_text_embeddings(texts)

    def _below_queries(self, queries: list[str]) -> list[list[float]]:
        self._wait_for_rate()
        return [self.underlying._get_query_embedding(query) for query in queries]

    async def _abelow_queries(self, queries: list[str]) -> list[list[float]]:
        await self._await_rate()
        return [await self.underlying._aget_query_embedding(query) for query in queries]

    def _wait_for_rate(self) -> None:
        """Wait for the model's own rate limiter: only what reaches the model counts."""
        limiter: Any = getattr(self.underlying, "rate_limiter", None)  # new in 0.14
        if limiter is not None:
            limiter.acquire()

    async def _await_rate(self) -> None:
        limiter: Any = getattr(self.underlying, "rate_limiter", None)
        if limiter is not None:
            await limiter.async_acquire()


_NOT_THE_MODEL = frozenset({"class_name", "model_name"})  # named by the class, and by its name


def _described(below: BaseEmbedding) -> tuple[str, dict[str, object]]:
    """Return a model's name, and its options."""
    given = below.to_dict()
    options = {name: value for name, value in given.items() if name not in _NOT_THE_MODEL}
    return below.model_name, options


def _listed(rows: Floats) -> list[list[float]]:
    lists: list[list[float]] = rows.tolist()
    return lists


class NearCacheKVStore(BaseKVStore):
    """A key-value store for docstores, index stores and ingestion caches, near and far.

    A *system of record*: what is put stays until it is deleted, and a store that fails raises
    StoreError. What is read again comes from copies in this process, which other processes' writes
    reach (docs/concepts/coherence.md).

    store: None keeps all in this process; a URL (``sqlite:///file.db``, ``redis://…``), or a store
        object. A Redis server should have the policy noeviction.
    namespace: programs that share a server choose different ones.
    local_cache_size: most copies near.

    Collections are apart, whatever characters their names and keys hold. Values are what JSON
    takes. Thread-safe; serves several event loops.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "llamaindex",
        local_cache_size: int = 2000,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        self._memory = ShortTermMemory(
            store, namespace=namespace, local_cache_size=local_cache_size, options=options
        )
        self._amemory = self._memory.as_async()

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Keep a value."""
        self._memory.stash(key, val, _owner(collection), ttl=None)

    async def aput(
        self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION
    ) -> None:
        """Keep a value."""
        await self._amemory.stash(key, val, _owner(collection), ttl=None)

    def put_all(
        self,
        kv_pairs: list[tuple[str, dict[str, Any]]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,  # noqa: ARG002  LlamaIndex gives it
    ) -> None:
        """Keep values, all in one round trip; ``batch_size`` is taken and not needed."""
        self._memory.stash_batch(kv_pairs, _owner(collection), ttl=None)

    async def aput_all(
        self,
        kv_pairs: list[tuple[str, dict[str, Any]]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,  # noqa: ARG002  LlamaIndex gives it
    ) -> None:
        """Keep values, all in one round trip; ``batch_size`` is taken and not needed."""
        await self._amemory.stash_batch(kv_pairs, _owner(collection), ttl=None)

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """Return the value of a key, or None: a new object every time."""
        value: dict[str, Any] | None = self._memory.retrieve(key, _owner(collection))
        return value

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """Return the value of a key, or None: a new object every time."""
        value: dict[str, Any] | None = await self._amemory.retrieve(key, _owner(collection))
        return value

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """Return every key and value of a collection. Cost: the store is looked through once."""
        owner, found, cursor = _owner(collection), dict[str, dict[str, Any]](), 0
        while True:
            keys, cursor, more, _ = self._memory.scan_keys(owner, cursor=cursor, count=_PAGE)
            found.update(self._memory.retrieve_batch(keys, owner))
            if not more:
                return found

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """Return every key and value of a collection. Cost: the store is looked through once."""
        owner, found, cursor = _owner(collection), dict[str, dict[str, Any]](), 0
        while True:
            keys, cursor, more, _ = await self._amemory.scan_keys(owner, cursor=cursor, count=_PAGE)
            found.update(await self._amemory.retrieve_batch(keys, owner))
            if not more:
                return found

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Delete a key; say whether there was one."""
        return self._memory.delete(key, _owner(collection))

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Delete a key; say whether there was one."""
        return await self._amemory.delete(key, _owner(collection))

    def get_stats(self) -> Mapping[str, Any]:
        """Return what happened so far, as a mapping."""
        return self._memory.get_stats().to_dict()

    def close(self) -> None:
        """End: close the store if it was given as a URL. May be called again."""
        self._memory.close()


def _owner(collection: str) -> AgentCredentials:
    """Return who may do everything with a collection's keys, and nothing with another's."""
    return AgentCredentials(collection, AccessTier.STEWARD)
