"""What users may give: refused with a sentence before it has any effect."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearcache.engine.rows import as_floats
from nearcache.errors import CodecError, ConfigError, ShapeMismatch
from nearcache.keys import EmbeddingModel

__all__ = ["Floats", "Model", "Ttl", "check_pairs", "check_texts", "check_vectors", "digest_of"]

Floats = NDArray[np.float32]
Model = str | EmbeddingModel
Ttl = float | EllipsisType | None

_HASH = re.compile("[0-9a-fA-F]{32}")


def check_texts(texts: Sequence[str]) -> Sequence[str]:
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


def check_pairs(items: object) -> Iterator[tuple[Any, Any]]:
    """Return the (key, value) pairs of a mapping or of a list or stream of pairs."""
    if isinstance(items, Mapping):
        return iter(items.items())
    if (
        isinstance(items, (str, bytes))
        or not isinstance(items, Iterable)
        or isinstance(items, type)
    ):
        msg = f"items is a mapping or (key, value) pairs, not {type(items).__name__}"
        raise ConfigError(msg)
    return map(_check_pair, items)


def _check_pair(pair: object) -> tuple[Any, Any]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        msg = f"items is a mapping or (key, value) pairs; {type(pair).__name__} is no pair"
        raise ConfigError(msg)
    return pair[0], pair[1]


def digest_of(content_hash: object) -> bytes:
    """Return the 16 bytes of a content hash."""
    if isinstance(content_hash, str) and _HASH.fullmatch(content_hash):
        return bytes.fromhex(content_hash)
    msg = "a content hash is 32 hex digits, as hash_content gives them"
    raise ConfigError(msg)


def check_vectors(value: object, dimensions: int) -> Floats:
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
