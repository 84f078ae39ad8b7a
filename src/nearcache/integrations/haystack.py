"""Haystack: text and document embedders behind a cache."""

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.errors import ConfigError
from nearcache.integrations._shared import Embedding, Identity, missing
from nearcache.keys import EmbeddingModel

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret
except ImportError as error:
    raise missing("haystack-ai", "haystack", error) from error

__all__ = ["CachedDocumentEmbedder", "CachedTextEmbedder"]

Cache: TypeAlias = EmbeddingCache | AsyncEmbeddingCache | Secret | str

_UNSET = Secret.from_env_var("NEARCACHE_NO_SECRET", strict=False)


class _Cached:
    """What both embedders share: the embedder, the cache, and the name of the model in keys.

    ``@component`` makes a new class of each of them: ``super()`` would look for the old one.
    """

    def __init__(
        self,
        embedder: Any,
        cache: Cache,
        namespace: str,
        model: str | EmbeddingModel | None,
        ignore: Collection[str],
    ) -> None:
        if not callable(getattr(embedder, "run", None)):
            msg = f"embedder is a Haystack component with run(), not {type(embedder).__name__}"
            raise ConfigError(msg)
        self.embedder = embedder
        self.cache = cache
        self.namespace = namespace
        self.model = model
        self.ignore = list(ignore)
        self._ours = isinstance(cache, (str, Secret))
        url = cache.resolve_value() if isinstance(cache, Secret) else cache
        kept = EmbeddingCache(url, namespace=namespace) if self._ours else url
        self._embedding = Embedding(kept, max_batch=getattr(embedder, "batch_size", None))
        self._identity = Identity(_named, model, self.ignore)
        self._identity.of(embedder)
        self._awaits = inspect.iscoroutinefunction(getattr(embedder, "run_async", None))

    def warm_up(self) -> None:
        """Load the model, if the embedder does so before its first run."""
        self._pass_on("warm_up")

    async def warm_up_async(self) -> None:
        """Load the model, as the embedder does for an event loop."""
        if not await self._pass_on_async("warm_up_async"):
            self._pass_on("warm_up")

    def close(self) -> None:
        """End: the embedder, and the cache if it was given as a URL."""
        self._pass_on("close")
        if self._ours:
            self._embedding.blocking.close()

    async def close_async(self) -> None:
        """End: the embedder, and the cache if it was given as a URL."""
        await self._pass_on_async("close_async")
        if self._ours:
            await self._embedding.awaiting.close()

    def _pass_on(self, method: str) -> None:
        call = getattr(self.embedder, method, None)
        if call is not None:
            call()

    async def _pass_on_async(self, method: str) -> bool:
        call = getattr(self.embedder, method, None)
        if call is not None:
            await call()
        return call is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the component as Haystack saves it; the cache is a URL or a Secret then."""
        cache = self.cache
        if isinstance(cache, str) and _holds_password(cache):
            msg = "a URL with a password is not saved: give cache=Secret.from_env_var('…')"
            raise ConfigError(msg)
        if not self._ours:
            msg = "a cache object cannot be saved: give its URL, or Secret.from_env_var('…')"
            raise ConfigError(msg)
        if isinstance(self.model, EmbeddingModel):
            msg = "an EmbeddingModel cannot be saved: give its name as model="
            raise ConfigError(msg)
        saved: dict[str, Any] = default_to_dict(
            self,
            embedder=self.embedder,
            cache=cache,
            namespace=self.namespace,
            model=self.model,
            ignore=self.ignore,
            **self._more(),
        )
        return saved

    def _more(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the component of what ``to_dict`` returned."""
        made: Self = default_from_dict(cls, data)
        return made


def _holds_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "@" in parts.query or "password" in parts.query.lower()


def _named(embedder: Any) -> tuple[str, Mapping[str, object]]:
    """Return an embedder's model, and its options, secrets left out."""
    bare = copy(embedder)
    for name, value in vars(embedder).items():
        if isinstance(value, Secret):  # one that is a token would refuse to be saved
            setattr(bare, name, _UNSET)
    if callable(getattr(bare, "to_dict", None)):
        options = dict(bare.to_dict().get("init_parameters", {}))
    else:
        names = inspect.signature(type(embedder).__init__).parameters
        options = {name: getattr(bare, name) for name in names if hasattr(bare, name)}
    secrets = [name for name, value in options.items() if value == _UNSET.to_dict()]
    for name in secrets:
        del options[name]
    model = options.get("model") or options.get("model_name") or type(embedder).__name__
    return str(model), options


@component
class CachedTextEmbedder(_Cached):
    """A text embedder that pays for each text once; takes the place of the one it wraps.

    embedder: a component with ``run(text)`` (and ``run_async``), which gives ``embedding``.
    cache: an EmbeddingCache, or a URL or Secret to make one of; only these two can be saved.
    namespace: of a cache that is made here; programs that share a server choose different ones.
    model: another name for the model, or an EmbeddingModel with more that decides its vectors.
    ignore: options of the embedder that change no vector, beside the usual ones.

    The key holds the embedder's class and all its options (prefix, suffix, dimensions …). ``meta``
    is that of the call to the embedder, and empty where there was none.
    """

    def __init__(
        self,
        embedder: Any,
        cache: Cache,
        namespace: str = "emb",
        model: str | EmbeddingModel | None = None,
        ignore: Collection[str] = (),
    ) -> None:
        _Cached.__init__(self, embedder, cache, namespace, model, ignore)

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a text."""
        if not isinstance(text, str):
            return dict(self.embedder.run(text=text))  # it refuses in its own words
        meta: dict[str, Any] = {}

        def call(texts: list[str]) -> list[Any]:
            return [_embedding_of(self.embedder.run(text=text), meta) for text in texts]

        rows = self._embedding.rows([text], self._identity.of(self.embedder), call)
        return {"embedding": rows[0].tolist(), "meta": meta}

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Embed a text."""
        if not isinstance(text, str):
            return dict(self.embedder.run(text=text))
        meta: dict[str, Any] = {}

        def call(texts: list[str]) -> list[Any]:
            return [_embedding_of(self.embedder.run(text=text), meta) for text in texts]

        async def acall(texts: list[str]) -> list[Any]:
            return [_embedding_of(await self.embedder.run_async(text=text), meta) for text in texts]

        chosen: Callable[[list[str]], Any] = acall if self._awaits else call
        model = self._identity.of(self.embedder)
        rows = await self._embedding.arows([text], model, chosen)
        return {"embedding": rows[0].tolist(), "meta": meta}


def _embedding_of(answer: Mapping[str, Any], meta: dict[str, Any]) -> Any:
    _add(meta, answer.get("meta") or {})
    if "embedding" not in answer:
        msg = f"the embedder gave {', '.join(answer)} and no embedding: sparse ones are not cached"
        raise ConfigError(msg)
    return answer["embedding"]


def _add(meta: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add what one call to the embedder says of itself; what it counted is summed up."""
    for name, value in more.items():
        there = meta.get(name)
        if isinstance(value, Mapping) and isinstance(there, dict):
            _add(there, value)
        elif isinstance(value, Mapping):
            meta[name] = dict(value)
        elif _is_count(value) and _is_count(there):
            meta[name] = there + value
        else:
            meta[name] = value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _NotEmbedded(Exception):
    """The embedder gave some documents back without an embedding."""

    def __init__(self, texts: set[str], vectors: dict[str, Any]) -> None:
        super().__init__(f"{len(texts)} documents were not embedded")
        self.texts = texts
        self.vectors = vectors


@component
class CachedDocumentEmbedder(_Cached):
    """A document embedder that pays for each text once; takes the place of the one it wraps.

    embedder: a component with ``run(documents)`` (and ``run_async``), which gives ``documents``.
    cache: an EmbeddingCache, or a URL or Secret to make one of; only these two can be saved.
    namespace: of a cache that is made here; programs that share a server choose different ones.
    meta_fields_to_embed: the fields of ``meta`` that the embedder reads, if it does not say so
        itself with an attribute of that name.
    model: another name for the model, or an EmbeddingModel with more that decides its vectors.
    ignore: options of the embedder that change no vector, beside the usual ones.

    The key holds the content and the fields to embed, the embedder's class and all its options
    (prefix, suffix, separator, dimensions …). Nothing else of a document reaches the embedder, so
    nothing else can change its vector. Documents are returned as new ones, in order. ``meta`` is
    that of the calls to the embedder, summed up, and empty where there was none.
    """

    def __init__(
        self,
        embedder: Any,
        cache: Cache,
        namespace: str = "emb",
        meta_fields_to_embed: Sequence[str] | None = None,
        model: str | EmbeddingModel | None = None,
        ignore: Collection[str] = (),
    ) -> None:
        _Cached.__init__(self, embedder, cache, namespace, model, ignore)
        self.meta_fields_to_embed = meta_fields_to_embed

    @property
    def _fields(self) -> list[str]:
        fields = self.meta_fields_to_embed
        if fields is None:
            fields = getattr(self.embedder, "meta_fields_to_embed", None) or ()
        return list(fields)

    def _more(self) -> dict[str, Any]:
        fields = self.meta_fields_to_embed
        return {"meta_fields_to_embed": None if fields is None else list(fields)}

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed documents."""
        if not _are_documents(documents):
            return dict(self.embedder.run(documents=documents))  # it refuses in its own words
        work, model = _Work(documents, self._fields), self._identity.of(self.embedder)

        def call(texts: list[str]) -> list[Any]:
            return work.taken(texts, self.embedder.run(documents=_documents_of(texts)))

        while not work.done:
            try:
                rows = self._embedding.rows(work.left, model, call)
            except _NotEmbedded as failure:
                work.leave_out(failure)
            else:
                work.finish(rows)
        return work.answer()

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Embed documents."""
        if not _are_documents(documents):
            return dict(self.embedder.run(documents=documents))
        work, model = _Work(documents, self._fields), self._identity.of(self.embedder)

        def call(texts: list[str]) -> list[Any]:
            return work.taken(texts, self.embedder.run(documents=_documents_of(texts)))

        async def acall(texts: list[str]) -> list[Any]:
            answer = await self.embedder.run_async(documents=_documents_of(texts))
            return work.taken(texts, answer)

        chosen: Callable[[list[str]], Any] = acall if self._awaits else call
        while not work.done:
            try:
                rows = await self._embedding.arows(work.left, model, chosen)
            except _NotEmbedded as failure:
                work.leave_out(failure)
            else:
                work.finish(rows)
        return work.answer()


def _are_documents(documents: object) -> bool:
    return isinstance(documents, list) and all(isinstance(one, Document) for one in documents)


class _Work:
    """The documents of one run: those to embed, and what became of them."""

    def __init__(self, documents: list[Document], fields: Sequence[str]) -> None:
        self._documents = documents
        self._texts = [_text_of(document, fields) for document in documents]
        self._vectors: dict[str, Any] = {}
        self.meta: dict[str, Any] = {}
        self.left = list(dict.fromkeys(self._texts))
        self.done = not documents

    def taken(self, texts: list[str], answer: Mapping[str, Any]) -> list[Any]:
        """Return the vectors that the embedder gave for texts, in their order.

        Raises: _NotEmbedded where it gave none for some of them, and no error.
        """
        _add(self.meta, answer.get("meta") or {})
        vectors = [document.embedding for document in answer["documents"]]
        if any(document.sparse_embedding is not None for document in answer["documents"]):
            msg = "the embedder gave sparse embeddings: these are not cached, use it as it is"
            raise ConfigError(msg)
        pairs = dict(zip(texts, vectors, strict=False))
        failed = {text for text, vector in pairs.items() if vector is None}
        if failed and len(vectors) == len(texts):
            for text in failed:
                del pairs[text]
            raise _NotEmbedded(failed, pairs)
        return vectors

    def leave_out(self, failure: _NotEmbedded) -> None:
        """Leave out what was not embedded.

        What was embedded with it is asked for again, to be kept, and stands in where that fails.
        It cannot simply be put::

            us                              another process
            embed a (and b: failed)
                                            forget a
            put a: forgotten, and back
        """
        self._vectors.update(failure.vectors)
        self.left = [text for text in self.left if text not in failure.texts]
        self.done = not self.left

    def finish(self, rows: np.ndarray[Any, Any]) -> None:
        """Take the vectors of what was left."""
        self._vectors.update(zip(self.left, rows.tolist(), strict=True))
        self.done = True

    def answer(self) -> dict[str, Any]:
        """Return what ``run`` returns; of equal documents each has a list of its own."""
        embedded = [
            replace(document, embedding=list(self._vectors[text]))
            if text in self._vectors
            else replace(document)
            for document, text in zip(self._documents, self._texts, strict=True)
        ]
        return {"documents": embedded, "meta": self.meta}


def _text_of(document: Document, fields: Sequence[str]) -> str:
    """Return all of a document that its vector may depend on, as one text."""
    meta = {}
    for name in fields:
        value = document.meta.get(name)
        if value is not None:
            meta[name] = value if isinstance(value, (str, int, float)) else str(value)
    return json.dumps([document.content or "", meta], ensure_ascii=False)


def _documents_of(texts: list[str]) -> list[Document]:
    """Return documents that hold just what the texts are made of."""
    parts = [json.loads(text) for text in texts]
    return [Document(content=content, meta=meta) for content, meta in parts]
