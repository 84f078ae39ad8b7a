"""Memories of one type, as a hot cache is warmed with them."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from nearcache.caches.memory_key import MemoryKey
from nearcache.errors import ConfigError

__all__ = ["Warming"]

Pairs = Iterator[tuple[MemoryKey, Any]]


class Warming:
    """Gives (MemoryKey, memory) for (id, memory), and remembers which there were.

    ``items``: what ``HotMemoryCache.warm`` takes, of the same kind as what it was made from: pairs,
    or a function that returns them, plain or asynchronous.
    """

    def __init__(self, memory_type: str, source: Any, scope: str | None) -> None:
        MemoryKey(memory_type, "any", scope)  # refuses what cannot be part of a key
        self._type, self._scope = memory_type, scope
        self.keys: set[MemoryKey] = set()
        self.items: Any = self._loading(source) if callable(source) else self._keyed(source)

    def _loading(self, loader: Callable[[], Any]) -> Callable[[], Any]:
        async def awaited(answer: Awaitable[Any]) -> Any:
            return self._keyed(await answer)

        async def load_async() -> Any:
            return self._keyed(await loader())

        def load() -> Any:
            answer = loader()
            return awaited(answer) if inspect.isawaitable(answer) else self._keyed(answer)

        is_async = inspect.iscoroutinefunction(loader) or inspect.iscoroutinefunction(
            getattr(type(loader), "__call__", None)  # noqa: B004
        )
        return load_async if is_async else load

    def _keyed(self, items: Any) -> Pairs:
        if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
            kind = type(items).__name__
            msg = f"memories to warm with are a mapping by id, or (id, memory) pairs, not {kind}"
            raise ConfigError(msg)
        return self._pairs(items.items() if isinstance(items, Mapping) else items)

    def _pairs(self, pairs: Iterable[Any]) -> Pairs:
        for pair in pairs:
            if not isinstance(pair, tuple) or len(pair) != 2:
                msg = f"a memory to warm with is a pair (id, memory), not {type(pair).__name__}"
                raise ConfigError(msg)
            key = self._key(pair[0])
            self.keys.add(key)
            yield key, pair[1]

    def _key(self, given: Any) -> MemoryKey:
        if not isinstance(given, MemoryKey):
            return MemoryKey(self._type, given, self._scope)
        if (given.memory_type, given.scope) == (self._type, self._scope):
            return given
        msg = f"a MemoryKey here is of type {self._type!r} and scope {self._scope!r}"
        raise ConfigError(msg)
