"""sentence-transformers with a cache before it: ``model = cached(SentenceTransformer(…), cache)``.

The package itself is not imported: the model that is handed over says all that is needed.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.errors import ConfigError
from nearcache.integrations._shared import Embedding
from nearcache.keys import EmbeddingModel

__all__ = ["CachedSentenceTransformer", "cached"]

_AT_ONCE = 2048  # texts per call: enough to be sorted by length, few enough not to lose much
_SAMPLE = 64  # numbers of each tensor that stand for it
_PLAIN: dict[str, tuple[object, ...]] = {
    "output_value": ("sentence_embedding",),
    "precision": ("float32", None),
    "convert_to_numpy": (True,),
    "convert_to_tensor": (False,),
    "pool": (None,),
}
"""What has to be asked for, or left out, for the answer to be a matrix of float32."""
_OURS = frozenset(("wrapped", "_way", "_name", "_made_of"))
_HARMLESS = frozenset(("batch_size", "show_progress_bar", "device", "chunk_size", *_PLAIN))


def cached(
    model: Any,
    cache: EmbeddingCache | AsyncEmbeddingCache,
    *,
    name: str | EmbeddingModel | None = None,
    max_batch: int = _AT_ONCE,
) -> "CachedSentenceTransformer":
    """Return the model with a cache before ``encode``, ``encode_query`` and ``encode_document``.

    name: stands for the weights: choose another when they change. By default a fingerprint of the
        weights does (a sample of each tensor), so that no two models are taken for each other.
    max_batch: texts per call of the model; what is embedded before a failure is kept.
    """
    return CachedSentenceTransformer(model, cache, name=name, max_batch=max_batch)


class CachedSentenceTransformer:
    """A SentenceTransformer that embeds each text once; everything else it does is its own.

    Thread-safe: the model runs one call at a time. Wrap it anew after changing its weights or
    modules; ``max_seq_length``, ``truncate_dim``, prompts and the type of its numbers may be
    changed at any time, here or on the model. What is set here is set on the model.
    """

    wrapped: Any

    def __init__(
        self,
        model: Any,
        cache: EmbeddingCache | AsyncEmbeddingCache,
        *,
        name: str | EmbeddingModel | None = None,
        max_batch: int = _AT_ONCE,
    ) -> None:
        if not callable(getattr(model, "encode", None)):
            msg = f"model is a SentenceTransformer, not {type(model).__name__}"
            raise ConfigError(msg)
        vars(self)["wrapped"] = model
        self._way = Embedding(cache, max_batch=max_batch)
        self._name = EmbeddingModel.of(_name(model) if name is None else name)
        self._made_of = {
            **self._name.params,
            "modules": _digest(_modules(model)),
            "weights": _digest(_weights(model)) if name is None else "",
        }

    def encode(self, *inputs: Any, **options: Any) -> Any:
        """Embed a text to (d,), or a list of texts to (n, d); takes what the model's own takes."""
        return self._encode("encode", inputs, options)

    def encode_query(self, *inputs: Any, **options: Any) -> Any:
        """Embed queries, as the model's own ``encode_query`` does."""
        return self._encode("encode_query", inputs, options)

    def encode_document(self, *inputs: Any, **options: Any) -> Any:
        """Embed documents, as the model's own ``encode_document`` does."""
        return self._encode("encode_document", inputs, options)

    def _encode(self, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        call = getattr(self.wrapped, method)
        if not inputs and "sentences" in options:  # what the first argument was called before
            inputs = (options.pop("sentences"),)
        try:
            bound = inspect.signature(call).bind(*inputs, **options)
        except TypeError:
            return call(*inputs, **options)  # which says what is wrong
        first = next(iter(bound.arguments))
        given = bound.arguments[first]
        texts = [given] if isinstance(given, str) else _texts(given)
        model = None
        if texts and self._gives_rows(bound):
            model = self._model(method, _options(bound))
        if model is None or not texts:
            return call(*inputs, **options)

        def load(some: list[str]) -> Any:
            bound.arguments[first] = some
            return call(*bound.args, **bound.kwargs)

        rows = self._way.rows(texts, model, load)
        return rows[0] if isinstance(given, str) else rows

    def _model(self, method: str, options: Mapping[str, Any]) -> EmbeddingModel | None:
        """Return what decides a vector beside the text; None for what the cache does not keep."""
        if isinstance(options.get("device"), (list, tuple)):  # several processes
            return None
        own = {
            name: _plain(getattr(self.wrapped, name, None))
            for name in (
                "max_seq_length",
                "truncate_dim",
                "prompts",
                "default_prompt_name",
                "dtype",
            )
        }
        asked = {name: value for name, value in options.items() if name not in _HARMLESS}
        try:
            return EmbeddingModel(
                self._name.name,
                dimensions=self._name.dimensions,
                revision=self._name.revision,
                input_type=method.removeprefix("encode").strip("_") or self._name.input_type,
                params={**self._made_of, "model": own, "options": asked},
            )
        except ConfigError:  # an option that is no JSON
            return None

    def _gives_rows(self, bound: inspect.BoundArguments) -> bool:
        """Say whether a call answers with a matrix of float32: by what is asked, or by default."""
        known = dict(bound.signature.parameters)
        if not known.keys() >= _PLAIN.keys():  # encode_query hands the rest on to encode
            known = {**inspect.signature(self.wrapped.encode).parameters, **known}
        asked = {**bound.arguments, **bound.kwargs}
        return all(
            asked.get(name, known[name].default if name in known else plain[0]) in plain
            for name, plain in _PLAIN.items()
        )

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Run the model itself, as PyTorch does."""
        return self.wrapped(*inputs, **options)

    def __getitem__(self, place: Any) -> Any:
        return self.wrapped[place]

    def __len__(self) -> int:
        return len(self.wrapped)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # not made yet
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the model: ``model.max_seq_length = 256`` is meant for it."""
        if name in _OURS:
            vars(self)[name] = value
        else:
            setattr(self.wrapped, name, value)

    def __repr__(self) -> str:
        return f"CachedSentenceTransformer({self._name.name!r})"


def _texts(given: Any) -> list[str] | None:
    """Return a list of texts; None for any other kind of input."""
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) for one in given):
        return None
    return list(given)


def _options(bound: inspect.BoundArguments) -> dict[str, Any]:
    """Return the options of a call that are not what they are by default."""
    known = bound.signature.parameters
    options: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        if known[name].kind is inspect.Parameter.VAR_KEYWORD:
            options.update(value)
        elif value is not known[name].default:
            options[name] = value
    return options


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value if isinstance(value, (str, int, type(None))) else str(value)


def _name(model: Any) -> str:
    """Return what a model calls itself; its weights say which one it is."""
    card = getattr(model, "model_card_data", None)
    return str(getattr(card, "base_model", None) or "sentence-transformers")


def _modules(model: Any) -> Iterator[object]:
    """Yield what a model is made of: its modules in order, each with its own settings."""
    backend: Callable[[], object] | None = getattr(model, "get_backend", None)
    yield backend() if callable(backend) else "torch"
    for module in model if isinstance(model, Iterable) else ():
        settings = getattr(module, "get_config_dict", None)
        yield type(module).__qualname__, settings() if callable(settings) else None


def _weights(model: Any) -> Iterator[object]:
    """Yield a sample of each tensor."""
    show = getattr(model, "state_dict", None)
    found = show() if callable(show) else None
    if not found:
        msg = "this model shows no weights to tell it by: give name='…', one for each model"
        raise ConfigError(msg)
    for name, tensor in sorted(found.items()):
        try:
            flat = tensor.reshape(-1)
            step = max(1, len(flat) // _SAMPLE)
            yield name, list(tensor.shape), str(tensor.dtype), flat[::step].tolist()
        except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
            msg = f"the weight {name!r} cannot be read: give name='…', one for each model"
            raise ConfigError(msg) from error


def _digest(parts: Iterator[object]) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")
    return hashed.hexdigest()
