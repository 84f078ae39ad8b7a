"""A user's loader, seen as one call: a list of keys to a list of values."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any

from nearcache.entry import MISSING
from nearcache.errors import ConfigError, LoaderError
from nearcache.options import Options

__all__ = ["Crowd", "SingleLoader", "ValueLoader"]


class Crowd:
    """Loads that share threads: those of one cache."""


class ValueLoader:
    """``loader(missing keys)``, which returns a mapping; a key it leaves out is MISSING."""

    def __init__(self, loader: Callable[..., Any], options: Options, crowd: Crowd) -> None:
        if not callable(loader):
            msg = f"a loader is callable, not {loader!r}"
            raise ConfigError(msg)
        self._loader = loader
        self.crowd = crowd
        self.limit = options.max_concurrency
        self.max_batch: int | None = options.max_batch
        self.is_async = inspect.iscoroutinefunction(loader) or inspect.iscoroutinefunction(
            getattr(type(loader), "__call__", None)  # noqa: B004
        )

    def turn(self) -> AbstractContextManager[object]:
        """Return nothing to hold: whoever loads values looks after its own limits."""
        return nullcontext()

    def async_turn(self) -> AbstractAsyncContextManager[object]:
        """Return nothing to hold."""
        return nullcontext()

    def call(self, keys: list[Any]) -> Any:
        """Call the loader; an awaitable answer is awaited by whoever called."""
        answer = self._answer(keys)
        if inspect.isawaitable(answer):
            return self._awaited(answer, keys)
        return self._listed(answer, keys)

    async def _awaited(self, answer: Awaitable[Any], keys: list[Any]) -> list[Any]:
        return self._listed(await answer, keys)

    def _answer(self, keys: list[Any]) -> Any:
        return self._loader(list(keys))

    def _listed(self, answer: Any, keys: list[Any]) -> list[Any]:
        if not isinstance(answer, Mapping):
            msg = f"a batch loader returns a mapping of keys to values, not {type(answer).__name__}"
            raise LoaderError(msg)
        return [answer.get(key, MISSING) for key in keys]


class SingleLoader(ValueLoader):
    """``loader()``, which returns the one value that is wanted."""

    def __init__(self, loader: Callable[..., Any], options: Options, crowd: Crowd) -> None:
        super().__init__(loader, options, crowd)
        self.max_batch = 1

    def _answer(self, _keys: list[Any]) -> Any:
        return self._loader()

    def _listed(self, answer: Any, _keys: list[Any]) -> list[Any]:
        return [answer]
