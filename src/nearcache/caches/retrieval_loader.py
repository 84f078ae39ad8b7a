"""A loader of result lists, seen as one that names the memories it found as tags."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from nearcache.caches.retrieval_query import check_ids
from nearcache.entry import MISSING, Loaded
from nearcache.errors import ConfigError, LoaderError

__all__ = ["with_ids"]

Ids = Callable[[Any], Iterable[Any]]


def with_ids(loader: Callable[[], Any], ids: Ids | None) -> Callable[[], Any]:
    """Return a loader of the same kind, sync or async, whose answers carry their memories."""
    for what, given in (("loader", loader), ("ids", ids)):
        if not callable(given) and given is not None:
            msg = f"{what} is callable, not {given!r}"
            raise ConfigError(msg)
    if loader is None:
        msg = "a loader is callable, not None"
        raise ConfigError(msg)

    async def awaited(answer: Awaitable[Any]) -> Any:
        return _tagged(await answer, ids)

    async def load_async() -> Any:
        return _tagged(await loader(), ids)

    def load() -> Any:
        answer = loader()
        return awaited(answer) if inspect.isawaitable(answer) else _tagged(answer, ids)

    is_async = inspect.iscoroutinefunction(loader) or inspect.iscoroutinefunction(
        getattr(type(loader), "__call__", None)  # noqa: B004
    )
    return load_async if is_async else load


def _tagged(answer: Any, ids: Ids | None) -> Any:
    if answer is MISSING:
        return MISSING
    value, ttl, tags = answer if isinstance(answer, Loaded) else Loaded(answer)
    if tags:
        msg = "Loaded(…, tags=…) has no meaning here: return (results, memory ids)"
        raise LoaderError(msg)
    if ids is not None:
        results, memory_ids = value, ids(value)
    elif isinstance(value, tuple) and len(value) == 2:
        results, memory_ids = value
    else:
        msg = "a loader returns (results, memory ids); or give ids=, which reads them off results"
        raise LoaderError(msg)
    try:
        return Loaded(results, ttl, check_ids(memory_ids))
    except ConfigError as error:
        raise LoaderError(str(error)) from error
