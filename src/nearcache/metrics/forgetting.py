"""Forgetting in a store from outside of the programs that cache there, as they would do it."""

from collections.abc import Iterator
from contextlib import contextmanager

from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.hot_loaders import user_tags
from nearcache.caches.near import NearCache
from nearcache.caches.stored import key_of
from nearcache.errors import ConfigError
from nearcache.options import Options
from nearcache.stores.base import Store

__all__ = ["forget"]


def forget(
    store: Store,
    namespace: str,
    *,
    key: str | None = None,
    text: str | None = None,
    model: str | None = None,
    tag: str | None = None,
    everything: bool = False,
) -> str:
    """Forget a key, a text of a model, all of a model, all with a tag, or everything.

    Every process that uses the store hears of it. A key is written as ``nearcache keys`` shows it.
    Returns what was done, as a sentence. Raises: ConfigError, StoreError where nothing may have
    been done.
    """
    given = [name for name, value in (("key", key), ("text", text), ("tag", tag)) if value]
    whole = [*given, *(["everything"] if everything else [])]
    if len(whole) > 1 or (model and whole not in ([], ["text"])) or (text and not model):
        raise ConfigError("name one thing to forget: a key, a text and its model, a model, a tag")
    if key:
        with _values(store, namespace) as values:
            had = values.invalidate(key_of(key))
        return f"{key} was forgotten." if had else f"{key} was not there; it is forgotten all over."
    if tag:
        with _values(store, namespace) as values:
            for stored in (tag, *user_tags([tag])):  # memories have theirs under another name
                values.invalidate_by_tag(stored)
        return f"All with the tag {tag} was forgotten."
    if model or everything:
        return _of_models(store, namespace, text, model)
    raise ConfigError("name what to forget: a key, a text and its model, a model, a tag")


def _of_models(store: Store, namespace: str, text: str | None, model: str | None) -> str:
    with _vectors(store, namespace) as vectors:
        if model is None:
            vectors.clear()
            with _values(store, namespace) as values:
                values.clear()
            return f"Everything of {namespace} was forgotten."
        if text is None:
            vectors.invalidate_by_model(model)
            return f"Everything of the model {model} was forgotten."
        had = vectors.invalidate(text, model)
        return "The text was forgotten." if had else "The text was not there."


_OPTIONS = Options(on_store_error="raise", report=0.0)


@contextmanager
def _values(store: Store, namespace: str) -> Iterator[NearCache[object, object]]:
    with NearCache[object, object](
        store, namespace=namespace, max_entries=0, options=_OPTIONS
    ) as cache:
        yield cache


@contextmanager
def _vectors(store: Store, namespace: str) -> Iterator[EmbeddingCache]:
    with EmbeddingCache(
        store, namespace=namespace, max_entries=0, max_bytes=0, options=_OPTIONS
    ) as cache:
        yield cache
