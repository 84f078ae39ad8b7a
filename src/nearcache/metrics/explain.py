"""Why a key would be a hit or a miss, asked of a store: what ``nearcache get`` prints."""

from nearcache.caches.explaining import Explanation, Tag, explain_key, explain_text
from nearcache.errors import ConfigError
from nearcache.keys import EmbeddingModel, Key
from nearcache.stores.base import Store

__all__ = ["Explanation", "Tag", "explain"]


def explain(
    store: Store,
    namespace: str,
    key: Key | None = None,
    *,
    text: str | None = None,
    model: str | EmbeddingModel | None = None,
    view: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
) -> Explanation:
    """Say what a store has of a key, or of the vector of a text, and what a get would answer.

    With a ``model`` the key is a text. ``tags`` are names by which to recognise its groups.

    Cost: two or three questions to the store; nothing is written. Raises: ConfigError.
    """
    if model is None:
        if text is not None:
            msg = "the vector of a text belongs to a model: name it"
            raise ConfigError(msg)
        if key is None:
            msg = "name a key, or a text and a model"
            raise ConfigError(msg)
        return explain_key(store, namespace, key, view=view, tags=tags)
    wanted = key if text is None else text
    if not isinstance(wanted, str):
        msg = "with a model, the key is a text"
        raise ConfigError(msg)
    return explain_text(store, namespace, wanted, model, view=view)
