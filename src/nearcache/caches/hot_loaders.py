"""What users give a cache of memories, as the cache below takes it: inner keys, prefixed tags."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from nearcache.caches.checks import check_pairs
from nearcache.caches.memory_key import MemoryKey, inner_key
from nearcache.caches.near import NearCache
from nearcache.caches.near_async import AsyncNearCache
from nearcache.engine.io import BlockingIO
from nearcache.entry import Loaded
from nearcache.errors import ConfigError, LoaderError
from nearcache.keys import check_tags

__all__ = [
    "batch_loader",
    "by_implied_tags",
    "implied_tags",
    "pairs_of",
    "single_loader",
    "split_tags",
    "user_tags",
]

Key = tuple[str, ...]


def implied_tags(inner: Key) -> tuple[str, str]:
    """Return the tags that stand for a memory's type and scope."""
    return f"m:{inner[0]}", f"s:{inner[2]}" if len(inner) > 2 else "n:"


def user_tags(tags: object) -> list[str]:
    """Return what the cache below calls a user's tags."""
    return [] if tags == () else [f"t:{tag}" for tag in check_tags(tags)]


def split_tags(keys: Iterable[Key]) -> tuple[list[str], dict[Key, list[str]]]:
    """Return the tags that all keys imply, and the others of each."""
    implied = {key: implied_tags(key) for key in keys}
    sets = [set(tags) for tags in implied.values()]
    common = sorted(set.intersection(*sets)) if sets else []
    return common, {key: [t for t in tags if t not in common] for key, tags in implied.items()}


def by_implied_tags(items: Any) -> dict[tuple[str, str], dict[Key, Any]]:
    """Return pairs or a mapping, its keys checked, in parts that imply the same tags."""
    parts: dict[tuple[str, str], dict[Key, Any]] = {}
    for key, value in check_pairs(items):
        inner = inner_key(key)
        parts.setdefault(implied_tags(inner), {})[inner] = value
    return parts


@overload
def pairs_of(
    cache: AsyncNearCache[Any, Any], items: Any
) -> Awaitable[Iterable[tuple[Any, Any]]]: ...
@overload
def pairs_of(cache: NearCache[Any, Any], items: Any) -> Iterable[tuple[Any, Any]]: ...
def pairs_of(cache: Any, items: Any) -> Any:
    """Return the pairs of a mapping, of pairs, or of what a function returns, sync or async."""
    if isinstance(cache, NearCache):
        given = _given(items)
        return check_pairs(BlockingIO()._promised(given) if inspect.isawaitable(given) else given)
    return _awaited_pairs(items)


async def _awaited_pairs(items: Any) -> Any:
    given = _given(items)
    return check_pairs(await given if inspect.isawaitable(given) else given)


def _given(items: Any) -> Any:
    return items() if callable(items) else items


def single_loader(loader: Any) -> Callable[..., Any]:
    """Return ``loader`` with the tags it names renamed."""
    return _translated(loader, lambda *nothing: nothing, _renamed)


def batch_loader(loader: Any, own: Mapping[Key, Sequence[str]]) -> Callable[..., Any]:
    """Return a loader of inner keys; to each value it adds the tags ``own`` of its key."""

    def inner(answer: Any) -> Any:
        if not isinstance(answer, Mapping):
            return answer  # refused elsewhere
        return {
            key.inner: _renamed(value, own.get(key.inner, ()))
            for key, value in answer.items()
            if isinstance(key, MemoryKey)
        }

    return _translated(loader, lambda keys: ([MemoryKey.of(key) for key in keys],), inner)


def _renamed(answer: Any, own: Sequence[str] = ()) -> Any:
    if isinstance(answer, Loaded):
        try:
            return answer._replace(tags=[*own, *user_tags(answer.tags)])
        except ConfigError as error:
            raise LoaderError(str(error)) from error
    return Loaded(answer, tags=own) if own else answer


def _translated(
    loader: Any, ask: Callable[..., tuple[Any, ...]], answer: Callable[[Any], Any]
) -> Callable[..., Any]:
    """Return a loader of the same kind, plain or asynchronous, behind two translations."""
    if not callable(loader):
        msg = f"a loader is callable, not {loader!r}"
        raise ConfigError(msg)

    async def awaited(promise: Awaitable[Any]) -> Any:
        return answer(await promise)

    if inspect.iscoroutinefunction(loader) or inspect.iscoroutinefunction(
        getattr(type(loader), "__call__", None)  # noqa: B004
    ):

        async def load_async(*asked: Any) -> Any:
            return answer(await loader(*ask(*asked)))

        return load_async

    def load(*asked: Any) -> Any:
        got = loader(*ask(*asked))
        # a plain function around an asynchronous one
        return awaited(got) if inspect.isawaitable(got) else answer(got)

    return load
