"""LangChain with caches: embeddings, a byte store, and a cache of what language models said."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.caches.inner import ask_store
from nearcache.caches.near import NearCache
from nearcache.caches.short_term_parts import _store_of_record
from nearcache.caches.values import ValueTiers
from nearcache.codecs.json import JsonCodec
from nearcache.errors import CodecError, ConfigError
from nearcache.integrations._shared import Embedding, missing
from nearcache.integrations._values import Values
from nearcache.keys import EmbeddingModel
from nearcache.options import Options

try:
    from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
    from langchain_core.embeddings import Embeddings
    from langchain_core.messages import message_to_dict, messages_from_dict
    from langchain_core.outputs import (
        ChatGeneration,
        ChatGenerationChunk,
        Generation,
        GenerationChunk,
    )
    from langchain_core.stores import BaseStore
except ImportError as error:
    raise missing("langchain-core", "langchain", error) from error

__all__ = ["CachedEmbeddings", "NearCacheByteStore", "NearCacheLLMCache"]


class CachedEmbeddings(Embeddings):
    """Embeddings that are paid for once; queries and documents are told apart.

    underlying: any LangChain embeddings.
    cache: either face of an embedding cache.
    model: names the embeddings, with everything that they were made with (dimensions, endpoint …):
        two that differ need two names.
    max_batch: texts per call of the underlying embeddings; what is embedded before a failure is
        kept. By default the cache's option.
    max_concurrency: calls under way at once. By default one of those that block, since local models
        are not thread-safe, and the cache's option of those that are awaited.

    Thread-safe. ``aembed_documents`` and ``aembed_query`` await the underlying ones, if these have
    any of their own.
    """

    def __init__(
        self,
        underlying: Embeddings,
        cache: EmbeddingCache | AsyncEmbeddingCache,
        *,
        model: str | EmbeddingModel,
        max_batch: int | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        self.underlying = underlying
        named = EmbeddingModel.of(model)
        self._documents = named.with_input_type("document")
        self._queries = named.with_input_type("query")
        self._way = Embedding(cache, max_batch=max_batch, max_concurrency=max_concurrency)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents, those that no tier has by the underlying embeddings."""
        rows: list[list[float]] = self._way.rows(
            texts, self._documents, self.underlying.embed_documents
        ).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """Embed a query, by the underlying embeddings if no tier has it."""
        row: list[float] = self._way.rows([text], self._queries, self._embed_queries)[0].tolist()
        return row

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents, those that no tier has by the underlying embeddings."""
        own = self._has_own("aembed_documents")
        call: Any = self.underlying.aembed_documents if own else self.underlying.embed_documents
        rows: list[list[float]] = (await self._way.arows(texts, self._documents, call)).tolist()
        return rows

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query, by the underlying embeddings if no tier has it."""
        own = self._has_own("aembed_query")
        call: Any = self._aembed_queries if own else self._embed_queries
        row: list[float] = (await self._way.arows([text], self._queries, call))[0].tolist()
        return row

    def _has_own(self, method: str) -> bool:
        return getattr(type(self.underlying), method) is not getattr(Embeddings, method)

    def _embed_queries(self, texts: list[str]) -> list[list[float]]:
        return [self.underlying.embed_query(text) for text in texts]

    async def _aembed_queries(self, texts: list[str]) -> list[list[float]]:
        return [await self.underlying.aembed_query(text) for text in texts]


# -- bytes -----------------------------------------------------------------------------------------

_MARK = "b"  # the first part of every key: a key of the user's may be empty then
_PAGE = 1000  # names looked at by one question to the store


class NearCacheByteStore(Values, BaseStore[str, bytes]):
    """A LangChain ByteStore in two tiers: a *store of record*, that loses nothing unsaid.

    store: None keeps all in this process; a URL (``sqlite:///file.db``, ``redis://…``) or a store
        object. A store that fails raises StoreError, as other ByteStores do.
    namespace: programs that share a server choose different ones.
    ttl: seconds; None keeps a value until it is deleted.
    max_entries, max_bytes: of the copies near, which other processes' changes reach.

    Thread-safe; serves several event loops.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "langchain-bytes",
        ttl: float | None = None,
        max_entries: int = 10_000,
        max_bytes: int | None = 256 * 2**20,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        opened, ours = _store_of_record(store, options)
        tiers = ValueTiers(
            {
                "store": opened,
                "namespace": namespace,
                "codec": "bytes",
                "type": None,
                "max_entries": max_entries,
                "max_bytes": max_bytes,
                "ttl": ttl,
                "policy": "adaptive",
                "options": replace(options, on_store_error="raise"),
                "record": True,
            }
        )
        tiers.owns_store = ours
        self._set(NearCache._face(tiers))

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        return self._cache.get_batch([(_MARK, key) for key in keys])

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        return await self._async_cache.get_batch([(_MARK, key) for key in keys])

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Keep values. Raises: CodecError for what is no bytes, with nothing written."""
        self._cache.put_batch([((_MARK, key), value) for key, value in key_value_pairs])

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Keep values. Raises: CodecError for what is no bytes, with nothing written."""
        await self._async_cache.put_batch([((_MARK, key), value) for key, value in key_value_pairs])

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete keys; those that are not there do not matter."""
        self._cache.invalidate_batch([(_MARK, key) for key in keys])

    async def amdelete(self, keys: Sequence[str]) -> None:
        """Delete keys; those that are not there do not matter."""
        await self._async_cache.invalidate_batch([(_MARK, key) for key in keys])

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the keys that begin so. Cost: the store is looked through once."""
        start, cursor, seen = self._start(prefix), 0, set[str]()
        while True:
            cursor, names = ask_store(self._cache, "scan", start, cursor, _PAGE)
            yield from self._new(names, seen)
            if not cursor:
                return

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """Yield the keys that begin so. Cost: the store is looked through once."""
        start, cursor, seen = self._start(prefix), 0, set[str]()
        while True:
            cursor, names = await ask_store(self._async_cache, "scan", start, cursor, _PAGE)
            for key in self._new(names, seen):
                yield key
            if not cursor:
                return

    def _start(self, prefix: str | None) -> tuple[bytes, bytes]:
        """Return how the stored names of such keys begin, but for the bucket in the middle."""
        keys = self._cache._tiers.shelf.keys
        space = b"nc1:{%b:" % keys.space
        return space, keys.name((_MARK, prefix or ""))[len(space) + 2 : -1]

    def _new(self, names: Iterable[bytes], seen: set[str]) -> Iterator[str]:
        """Yield the keys of stored names that were not seen before: a name may be told twice."""
        for found in map(self._cache._tiers.shelf.keys.key, names):
            if not isinstance(found, tuple) or found[:-1] != (_MARK,):
                continue
            key = found[-1]
            if isinstance(key, str) and key not in seen:
                seen.add(key)
                yield key


# -- what language models said ---------------------------------------------------------------------

_JSON = JsonCodec()
_UNKEPT = "unkept", "what a language model said is not kept: JSON would change it"
_KINDS: Mapping[str, type[Generation]] = {
    kind.__name__: kind
    for kind in (Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk)
}


class NearCacheLLMCache(Values, BaseCache):
    """A LangChain cache of what language models said, in two tiers.

    store: None (near only), a URL (``sqlite:///file.db``, ``redis://…``) or a store object. One
        that fails is a miss, never an error.
    namespace: programs that share a server choose different ones.
    ttl: seconds; None keeps an answer until it is evicted.

    Prompts are kept as hashes only. Answers are kept as JSON, and nothing but LangChain's own
    generations and messages is ever made of them; an answer that would not come back the same is
    not kept. Thread-safe; serves several event loops.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "langchain-llm",
        ttl: float | None = None,
        max_entries: int = 10_000,
        max_bytes: int | None = 256 * 2**20,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        cache: NearCache[Any, Any] = NearCache(
            store,
            namespace=namespace,
            codec="bytes",
            ttl=ttl,
            max_entries=max_entries,
            max_bytes=max_bytes,
            options=options,
        )
        self._set(cache)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answers to a prompt, or None."""
        return _read(self._cache.get(_key(prompt, llm_string)))

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answers to a prompt, or None."""
        return _read(await self._async_cache.get(_key(prompt, llm_string)))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the answers to a prompt."""
        key, written = _key(prompt, llm_string), _written(return_val)
        if written is None:
            self._say(*_UNKEPT)
            self._cache.invalidate(key)
        else:
            self._cache.put(key, written)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the answers to a prompt."""
        key, written = _key(prompt, llm_string), _written(return_val)
        if written is None:
            self._say(*_UNKEPT)
            await self._async_cache.invalidate(key)
        else:
            await self._async_cache.put(key, written)

    def clear(self, **kwargs: Any) -> None:
        """Forget all of the namespace, in every process; there is no forgetting a part of it."""
        _check_nothing(kwargs)
        self._cache.clear()

    async def aclear(self, **kwargs: Any) -> None:
        """Forget all of the namespace, in every process; there is no forgetting a part of it."""
        _check_nothing(kwargs)
        await self._async_cache.clear()


def _check_nothing(given: Mapping[str, Any]) -> None:
    if given:
        msg = f"clear() forgets everything and takes no {', '.join(given)}; give a cache of its own"
        raise ConfigError(msg)


def _key(prompt: str, llm_string: str) -> tuple[str, ...]:
    parts = (part.encode("utf-8", "surrogatepass") for part in (prompt, llm_string))
    return tuple(hashlib.sha256(part).hexdigest() for part in parts)


def _written(generations: RETURN_VAL_TYPE) -> bytes | None:
    """Return generations as JSON; None where they would come back as something else."""
    try:
        written = _JSON.encode([_plain(one) for one in generations])
    except (CodecError, ValueError):  # pydantic's errors are ValueErrors
        written = b""
    return written if _read(written) == list(generations) else None


def _plain(one: Generation) -> dict[str, Any]:
    kept: dict[str, Any] = {"kind": type(one).__name__, "info": one.generation_info}
    if isinstance(one, ChatGeneration):
        return {**kept, "message": message_to_dict(one.message)}
    return {**kept, "text": one.text}


def _read(written: bytes | None) -> list[Generation] | None:
    """Return the generations that were written; None for what is none (somebody else's)."""
    if written is None:
        return None
    try:
        return [_generation(one) for one in _JSON.decode(written)]
    except (CodecError, KeyError, TypeError, ValueError):
        return None


def _generation(kept: Mapping[str, Any]) -> Generation:
    kind = _KINDS[kept["kind"]]
    given: dict[str, Any] = {"generation_info": kept["info"]}
    if issubclass(kind, ChatGeneration):
        return kind(message=messages_from_dict([kept["message"]])[0], **given)
    return kind(text=kept["text"], **given)
