"""LangGraph with caches: of what nodes returned, and of what a store embeds."""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from nearcache.caches.checks import Ttl
from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.caches.near import NearCache
from nearcache.errors import CodecError, ConfigError
from nearcache.integrations._shared import missing
from nearcache.integrations._values import Values
from nearcache.keys import EmbeddingModel
from nearcache.options import Options

try:
    from langgraph.cache.base import BaseCache, FullKey, Namespace
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.store.base import (
        BaseStore,
        IndexConfig,
        Op,
        PutOp,
        Result,
        ensure_embeddings,
        get_text_at_path,
        tokenize_path,
    )
    from langgraph.store.memory import InMemoryStore

    from nearcache.integrations.langchain import CachedEmbeddings  # langgraph brings what it needs
except ImportError as error:
    raise missing("langgraph", "langgraph", error) from error

__all__ = ["NearCacheCache", "NearCacheStore", "cached_index"]

# -- what nodes returned ---------------------------------------------------------------------------


class NearCacheCache(Values, BaseCache[Any]):
    """A LangGraph cache of what nodes returned, in two tiers: ``graph.compile(cache=…)``.

    store: None (near only), a URL (``sqlite:///file.db``, ``redis://…``) or a store object. One
        that fails is a miss, never an error.
    namespace: programs that share a server choose different ones.
    ttl: seconds, of nodes whose CachePolicy names none; None keeps a value until it is evicted.
    serde: how values become bytes; LangGraph's own by default, without pickle. It makes objects of
        your classes again: where others can write to the store, give
        ``options=Options(signing_key=…)``.

    A value that would not come back as it was is not kept. Thread-safe; serves several event loops.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "langgraph",
        ttl: float | None = None,
        serde: SerializerProtocol | None = None,
        max_entries: int = 10_000,
        max_bytes: int | None = 256 * 2**20,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(serde=serde)
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

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Return the values of those keys that there are."""
        return self._read(keys, self._cache.get_batch(list(map(_key, keys))))

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Return the values of those keys that there are."""
        return self._read(keys, await self._async_cache.get_batch(list(map(_key, keys))))

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep values, each for its own number of seconds."""
        for (namespace, life), written in self._written(pairs).items():
            self._cache.put_batch(written, life, [_tag(namespace)])

    async def aset(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep values, each for its own number of seconds."""
        for (namespace, life), written in self._written(pairs).items():
            await self._async_cache.put_batch(written, life, [_tag(namespace)])

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget what is in some of LangGraph's namespaces, or everything, in every process."""
        if namespaces is None:
            self._cache.clear()
        for namespace in namespaces or ():
            self._cache.invalidate_by_tag(_tag(namespace))

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget what is in some of LangGraph's namespaces, or everything, in every process."""
        if namespaces is None:
            await self._async_cache.clear()
        for namespace in namespaces or ():
            await self._async_cache.invalidate_by_tag(_tag(namespace))

    def _written(
        self, pairs: Mapping[FullKey, tuple[Any, int | None]]
    ) -> dict[tuple[Namespace, Ttl], dict[Any, bytes]]:
        """Return what is to be stored, of each namespace and life."""
        written: dict[tuple[Namespace, Ttl], dict[Any, bytes]] = defaultdict(dict)
        for key, (value, seconds) in pairs.items():
            data = self._dump(value)
            # what cannot be kept is not to leave what was there before
            life: Ttl = 0 if data is None else ... if seconds is None else max(0, seconds)
            written[tuple(key[0]), life][_key(key)] = data or b""
        return written

    def _dump(self, value: Any) -> bytes | None:
        """Return a value as bytes, with the name of their kind; None if they are not the value."""
        try:
            kind, data = self.serde.dumps_typed(_marked(value))
            loaded = self.serde.loads_typed((kind, data))
            # what has no state that we can see is as good as what it is written as
            same = self.serde.dumps_typed(loaded) == (kind, data)
            same = same and _is_same(value, _unmarked(loaded))
        except Exception as error:  # noqa: BLE001  whatever a value's class or a serializer raises
            self._say("unkept", "what a node returned is not kept: %s", error)
            return None
        if not same:
            self._say("changed", "what a node returned is not kept: it would come back changed")
            return None
        return kind.encode() + b"\n" + data

    def _read(self, keys: Sequence[FullKey], found: Sequence[bytes | None]) -> dict[FullKey, Any]:
        values: dict[FullKey, Any] = {}
        for (namespace, key), stored in zip(keys, found, strict=True):
            if stored is None:
                continue
            kind, _, data = stored.partition(b"\n")
            try:
                value = _unmarked(self.serde.loads_typed((kind.decode(), data)))
            except Exception as error:  # noqa: BLE001  likewise, of another version perhaps
                self._say("unread", "what was kept of a node cannot be read: %s", error)
                continue
            values[tuple(namespace), key] = value
        return values


_TUPLE = "nearcache:tuple"


def _marked(value: Any) -> Any:
    """Return a value with its tuples told from lists, which LangGraph's serializer does not do."""
    kind = type(value)
    if kind is tuple:
        return {_TUPLE: [_marked(part) for part in value]}
    if kind is list or kind is deque:
        return kind(map(_marked, value))
    if kind is not dict:
        return value
    if _TUPLE in value:
        msg = f"a dict with the key {_TUPLE!r} would be taken for a tuple"
        raise CodecError(msg)
    return {key: _marked(part) for key, part in value.items()}


def _unmarked(value: Any) -> Any:
    kind = type(value)
    if kind is list or kind is deque:
        return kind(map(_unmarked, value))
    if kind is not dict:
        return value
    if _TUPLE in value:
        return tuple(map(_unmarked, value[_TUPLE]))
    return {key: _unmarked(part) for key, part in value.items()}


def _is_same(one: Any, other: Any) -> bool:
    """Say whether two values are alike through and through: == takes a Counter for a dict."""
    kind = type(one)
    if type(other) is not kind:
        return False
    if isinstance(one, (list, tuple, deque)):
        ends = getattr(one, "maxlen", None) == getattr(other, "maxlen", None)
        return ends and len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict):
        return _is_same(list(one.items()), list(other.items()))
    if isinstance(one, (set, frozenset)):
        return one == other and _kinds(one) == _kinds(other)
    parts = _parts_of(one)
    if parts is not None:
        return _is_same(parts, _parts_of(other))
    compare: Any = kind.__eq__
    if compare is object.__eq__:
        return one is other or _is_same(getattr(one, "__dict__", 0), getattr(other, "__dict__", 0))
    alike = one == other
    # arrays have an idea of their own of what is equal, and NaN is equal to nothing
    return alike if isinstance(alike, bool) and one == one else True  # noqa: PLR0124


def _kinds(values: Iterable[Any]) -> Counter[type]:
    return Counter(map(type, values))


def _parts_of(value: Any) -> dict[str, Any] | None:
    """Return what a pydantic model or a dataclass holds; None for anything else."""
    if isinstance(value, type):
        return None
    if hasattr(value, "__pydantic_private__"):
        more = {"extra": value.__pydantic_extra__, "private": value.__pydantic_private__}
        return {name: getattr(value, name) for name in type(value).model_fields} | more
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    return None


def _key(key: FullKey) -> tuple[str, ...]:
    namespace, name = key
    return (*namespace, name)  # the last part is the name, however many there are


def _tag(namespace: Namespace) -> str:
    return json.dumps(list(namespace))


# -- what a store embeds ---------------------------------------------------------------------------


def cached_index(
    index: IndexConfig,
    cache: EmbeddingCache | AsyncEmbeddingCache,
    *,
    model: str | EmbeddingModel,
    max_batch: int | None = None,
    max_concurrency: int | None = None,
) -> IndexConfig:
    """Return the same index of a store, whose texts are embedded once: ``Store(index=…)``.

    model, max_batch, max_concurrency: as of ``CachedEmbeddings``.
    """
    if "embed" not in index:
        msg = "index is the configuration of a store's index, with embed and dims"
        raise ConfigError(msg)
    embeddings = CachedEmbeddings(
        ensure_embeddings(index["embed"]),
        cache,
        model=model,
        max_batch=max_batch,
        max_concurrency=max_concurrency,
    )
    return {**index, "embed": embeddings}


class NearCacheStore(BaseStore):
    """A LangGraph store whose texts are embedded once: ``graph.compile(store=…)``.

    store: any store with an index; its embeddings are replaced by cached ones. One call to
        InMemoryStore may hold the same text twice then, where it fails by itself.
    cache, model: as of ``CachedEmbeddings``.

    All else that the store can do is its own.
    """

    def __init__(
        self,
        store: BaseStore,
        cache: EmbeddingCache | AsyncEmbeddingCache,
        *,
        model: str | EmbeddingModel,
        max_batch: int | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        embeddings = getattr(store, "embeddings", None)
        if embeddings is None:
            msg = f"this {type(store).__name__} embeds nothing: make it with index={{'embed': …}}"
            raise ConfigError(msg)
        self.wrapped = store
        self.embeddings = CachedEmbeddings(
            embeddings, cache, model=model, max_batch=max_batch, max_concurrency=max_concurrency
        )
        store.embeddings = self.embeddings  # type: ignore[attr-defined]
        self.supports_ttl = store.supports_ttl
        self.ttl_config = store.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do what is asked, in order."""
        ops = list(ops)
        parts, texts = self._parts(ops)
        if len(parts) > 1:  # all at once, and before anything is written
            self.embeddings.embed_documents(texts)
        results: list[Result] = [None] * len(ops)
        for part in parts:
            answers = self.wrapped.batch(part.values())
            for place, answer in zip(part, answers, strict=True):
                results[place] = answer
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do what is asked, in order."""
        ops = list(ops)
        parts, texts = self._parts(ops)
        if len(parts) > 1:  # all at once, and before anything is written
            await self.embeddings.aembed_documents(texts)
        results: list[Result] = [None] * len(ops)
        for part in parts:
            answers = await self.wrapped.abatch(part.values())
            for place, answer in zip(part, answers, strict=True):
                results[place] = answer
        return results

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # not made yet
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def _parts(self, ops: Sequence[Op]) -> tuple[list[dict[int, Op]], list[str]]:
        """Return which operations go into which call, by their places; and the texts of them.

        All go into one, but for a text that is there twice: InMemoryStore asks for each distinct
        text once, and then wants a vector per item. Of several writes to one key it takes the last;
        so do we, before they come into different calls.
        """
        if not isinstance(self.wrapped, InMemoryStore):
            return [dict(enumerate(ops))], []
        last = {(op.namespace, op.key): at for at, op in enumerate(ops) if isinstance(op, PutOp)}
        parts: list[dict[int, Op]] = [{}]
        texts: list[set[str]] = [set()]
        for place, op in enumerate(ops):
            if not isinstance(op, PutOp):
                parts[0][place] = op  # what is read in a call is read before it writes
            elif last[op.namespace, op.key] == place:
                single, mine = self._without_repeats(op)
                at = next((at for at, there in enumerate(texts) if not there & mine), len(parts))
                if at == len(parts):
                    parts.append({})
                    texts.append(set())
                parts[at][place] = single
                texts[at] |= mine
        return parts, sorted(set().union(*texts))

    def _without_repeats(self, op: PutOp) -> tuple[PutOp, set[str]]:
        """Return an item without the fields that repeat another one's text, and its texts.

        A search finds an item by its best vector, so that a second one like it changes nothing.
        """
        index = self.wrapped.index_config  # type: ignore[attr-defined]
        if op.value is None or op.index is False or not index:
            return op, set()
        paths = index.get("fields") or ["$"] if op.index is None else op.index
        kept, texts = [], set[str]()
        for path in paths:
            whole = path == "$" and op.index is None
            found = get_text_at_path(op.value, path if whole else tokenize_path(path))
            if not texts >= set(found) or not found:
                kept.append(path)
            texts.update(found)
        return (op if len(kept) == len(paths) or "$" in kept else op._replace(index=kept)), texts
