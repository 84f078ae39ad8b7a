"""Chroma: an embedding function behind a cache."""

import warnings
from collections.abc import Callable, Collection
from typing import Any, cast

from nearcache.errors import ConfigError
from nearcache.integrations._shared import Embedding, Identity, missing
from nearcache.keys import EmbeddingModel

try:
    from chromadb.api.types import EmbeddingFunction, Embeddings, Space
except ImportError as error:
    raise missing("chromadb", "chroma", error) from error

__all__ = ["CachedEmbeddingFunction"]

_Call = Callable[[list[str]], Any]


class CachedEmbeddingFunction(EmbeddingFunction[Any]):
    """An embedding function that pays for each text once; give it to a collection as any other.

    embedding_function: the one that embeds what no tier has.
    cache: an EmbeddingCache or AsyncEmbeddingCache.
    model: another name for the model, or an EmbeddingModel with more that decides its vectors;
        needed where the function says nothing of itself (no ``name()``, no ``get_config()``).
    ignore: options of the function that change no vector, beside the usual ones.
    max_batch: texts per call of the function; Options.max_batch by default.

    For Chroma it *is* the function it wraps: it has its name and its configuration, so existing
    collections take it, and what it made can be opened without it. The key holds the function's
    class, all of its configuration, and whether a text is a query or not. What is no text (an
    image) goes past the cache.
    """

    def __init__(
        self,
        embedding_function: Any,
        cache: Any,
        *,
        model: str | EmbeddingModel | None = None,
        ignore: Collection[str] = (),
        max_batch: int | None = None,
    ) -> None:
        if not callable(embedding_function):
            msg = f"embedding_function is callable, not {type(embedding_function).__name__}"
            raise ConfigError(msg)
        self._below = embedding_function
        self._cache = cache
        self._given = {"model": model, "ignore": tuple(ignore), "max_batch": max_batch}
        self._embedding = Embedding(cache, max_batch=max_batch)
        self._identity = Identity(self._described, model, ignore)
        self._identity.of(embedding_function)
        # of the object, not of the class: Chroma keeps them with the collection
        self.name = self._name  # type: ignore[method-assign]
        self.build_from_config = self._build  # type: ignore[method-assign]

    def _described(self, below: Any) -> tuple[str, dict[str, object]]:
        """Return a function's model, and its configuration as it is now."""
        name, config = self._name(), self.get_config()
        if name is NotImplemented or config is NotImplemented:
            if self._given["model"] is None:
                msg = (
                    f"{type(below).__name__} has no name() or no get_config(), so what its "
                    "vectors depend on is unknown: give model=…"
                )
                raise ConfigError(msg)
            name, config = type(below).__name__, {}
        called = config.get("model_name") or config.get("model") or name
        return str(called), {**config, "function": name}

    def __call__(self, input: Any) -> Embeddings:  # noqa: A002  Chroma looks at the name
        """Embed documents."""
        return self._embedded(input, "document", self._below)

    def embed_query(self, input: Any) -> Embeddings:  # noqa: A002  Chroma looks at the name
        """Embed queries, as the function does."""
        call = getattr(self._below, "embed_query", self._below)
        return self._embedded(input, "query", call)

    def _embedded(self, inputs: Any, input_type: str, call: _Call) -> Embeddings:
        if not inputs or not all(isinstance(one, str) for one in inputs):
            return cast("Embeddings", call(inputs))
        model = self._identity.of(self._below, input_type)
        return list(self._embedding.rows(list(inputs), model, call))

    # -- what Chroma keeps with a collection -------------------------------------------------

    @staticmethod
    def name() -> str:
        """The class's own name; an object has that of the function it wraps."""
        return "nearcache"

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "EmbeddingFunction[Any]":  # noqa: ARG004
        """Refuse: a cache is no part of a configuration; an object builds one like itself."""
        msg = "a cache is not saved with a collection: give CachedEmbeddingFunction(…) again"
        raise ConfigError(msg)

    def _name(self) -> Any:
        return _asked(self._below, "name")

    def _build(self, config: dict[str, Any]) -> "EmbeddingFunction[Any]":
        """Build the function below of its configuration, behind the same cache."""
        below = _asked(self._below, "build_from_config", config)
        if below is NotImplemented:
            return cast("EmbeddingFunction[Any]", below)
        given: dict[str, Any] = self._given
        return CachedEmbeddingFunction(below, self._cache, **given)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration of the function below."""
        config: dict[str, Any] = _asked(self._below, "get_config")
        return config

    def validate_config_update(
        self, old_config: dict[str, Any], new_config: dict[str, Any]
    ) -> None:
        """Refuse what the function below refuses."""
        if hasattr(self._below, "validate_config_update"):
            self._below.validate_config_update(old_config, new_config)

    def default_space(self) -> Space:
        """Return the space that the function below prefers."""
        if not hasattr(self._below, "default_space"):
            return super().default_space()
        return cast("Space", self._below.default_space())

    def supported_spaces(self) -> list[Space]:
        """Return the spaces that the function below supports."""
        if not hasattr(self._below, "supported_spaces"):
            return super().supported_spaces()
        return cast("list[Space]", self._below.supported_spaces())


def _asked(function: Any, method: str, *arguments: Any) -> Any:
    """Return what a function says of itself, or NotImplemented; Chroma's base class warns then."""
    call = getattr(function, method, None)
    if call is None:
        return NotImplemented
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return call(*arguments)
