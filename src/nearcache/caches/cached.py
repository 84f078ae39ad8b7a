"""The decorator that keeps what a function returns."""

import hashlib
import inspect
from collections.abc import Callable, Coroutine, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from nearcache.errors import ConfigError
from nearcache.options import check_ttl

if TYPE_CHECKING:
    from nearcache.caches.checks import Ttl

__all__ = ["AsyncCachedFunction", "CachedFunction", "Decorator", "decorate", "tuple_key"]

P = ParamSpec("P")
R = TypeVar("R")

Tags = Sequence[str] | Callable[..., Sequence[str]]

_PLAIN = frozenset((str, bytes, int, float, bool, type(None)))
_LONGEST = 1000  # characters; longer arguments are kept under their hash


def decorate(
    cache: Any,
    key: Callable[..., Any] | None,
    ttl: "Ttl",
    tags: Tags,
    *,
    derive: Callable[[str, str], Any] | None = None,
) -> "Decorator":
    """Return a decorator that keeps what functions return in ``cache``.

    derive: makes a key of a function's name and its arguments, where no ``key`` is given.
    Raises: ConfigError for a ``key``, ``ttl`` or ``tags`` that can be none.
    """
    if key is not None and not callable(key):
        msg = f"key is a function of the same arguments that returns a key, not {key!r}"
        raise ConfigError(msg)
    if not callable(tags) and (isinstance(tags, (str, bytes)) or not isinstance(tags, Sequence)):
        msg = f"tags is a list of str or a function that returns one, not {tags!r}; give [tag]"
        raise ConfigError(msg)
    if ttl is not ...:
        check_ttl(ttl)
    return Decorator(cache, key, ttl, tags, derive or tuple_key)


def tuple_key(name: str, arguments: str) -> tuple[str, str]:
    """Return the key of a call in a cache whose keys are tuples."""
    return name, arguments


class Decorator:
    """What ``@cache.cached(…)`` applies to a function."""

    def __init__(
        self,
        cache: Any,
        key: Callable[..., Any] | None,
        ttl: "Ttl",
        tags: Tags,
        derive: Callable[[str, str], Any],
    ) -> None:
        self._cache = cache
        self._key = key
        self._ttl = ttl
        self._tags = tags
        self._derive = derive

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an asynchronous one is also a function
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> "AsyncCachedFunction[P, R]": ...
    @overload
    def __call__(self, function: Callable[P, R]) -> "CachedFunction[P, R]": ...
    def __call__(self, function: Any) -> Any:
        """Return the function behind the cache, of the same kind."""
        if not callable(function):
            msg = f"cached() decorates a function, not {function!r}"
            raise ConfigError(msg)
        key = self._key or _Derived(function, self._derive)
        if inspect.iscoroutinefunction(function):
            return AsyncCachedFunction(function, self._cache.as_async(), key, self._ttl, self._tags)
        return CachedFunction(function, self._cache.as_sync(), key, self._ttl, self._tags)


class _Cached(Generic[P, R]):
    """A function whose results are kept. On a class, it is a method."""

    def __init__(
        self,
        function: Callable[..., Any],
        cache: Any,
        key: Callable[..., Any],
        ttl: "Ttl",
        tags: Tags,
    ) -> None:
        wrapper: Any = self
        update_wrapper(wrapper, function)
        self.cache = cache
        """The cache, in the function's own face."""
        self._function = function
        self._key = key
        self._ttl = ttl
        self._tags = tags
        self._bound: tuple[Any, ...] = ()

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return what a call's result is kept under."""
        return self._key(*self._bound, *args, **kwargs)

    def _tags_of(self, args: Any, kwargs: Any) -> Sequence[str]:
        return self._tags(*self._bound, *args, **kwargs) if callable(self._tags) else self._tags

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        if instance is None:
            return self
        bound = type(self).__new__(type(self))
        bound.__dict__.update(self.__dict__, _bound=(instance,))
        return bound

    def __repr__(self) -> str:
        return f"<cached {self._function!r}>"

    def __reduce__(self) -> Any:  # by name, as any function
        if self._bound:
            return getattr, (*self._bound, self._function.__name__)
        return self._function.__qualname__


class CachedFunction(_Cached[P, R]):
    """A function whose results are kept; ``cache.cached()`` makes it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function returns, or returned before. What it raises passes."""

        def load() -> Any:
            return self._function(*self._bound, *args, **kwargs)

        found: R = self.cache.get_or_load(
            self.key(*args, **kwargs), load, self._ttl, self._tags_of(args, kwargs)
        )
        return found

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of a call; say whether any tier here had it."""
        forgotten: bool = self.cache.invalidate(self.key(*args, **kwargs))
        return forgotten


class AsyncCachedFunction(_Cached[P, R]):
    """An asynchronous function whose results are kept; ``cache.cached()`` makes it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        mark = getattr(inspect, "markcoroutinefunction", None)  # from Python 3.12 on
        if mark is not None:
            mark(self)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function returns, or returned before. What it raises passes."""

        async def load() -> Any:
            return await self._function(*self._bound, *args, **kwargs)

        found: R = await self.cache.get_or_load(
            self.key(*args, **kwargs), load, self._ttl, self._tags_of(args, kwargs)
        )
        return found

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of a call; say whether any tier here had it."""
        forgotten: bool = await self.cache.invalidate(self.key(*args, **kwargs))
        return forgotten


class _Derived:
    """A key made of a function's qualified name and the arguments of a call.

    However they are passed, equal arguments of one type give one key; 1, 1.0 and True give three.
    It is the same in every process and under every version of Python. What a function takes from
    around it is no part of it: closures that differ in that alone need a key of their own.
    """

    def __init__(self, function: Any, derive: Callable[[str, str], Any]) -> None:
        name = getattr(function, "__qualname__", "<lambda>")
        if "<lambda>" in name:
            msg = f"{function!r} has no name of its own: give key="
            raise ConfigError(msg)
        self._name = f"{function.__module__}.{name}"
        self._derive = derive
        try:
            self._signature = inspect.signature(function)
        except ValueError as error:  # some that are written in C
            msg = f"{self._name} does not say what its arguments are: give key="
            raise ConfigError(msg) from error
        self._named = [
            name
            for name, parameter in self._signature.parameters.items()
            if parameter.kind is parameter.VAR_KEYWORD
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        for name in self._named:
            given[name] = tuple(sorted(given[name].items()))
        for name, value in given.items():
            self._check(name, value)
        text = ascii(tuple(given.values()))
        if len(text) > _LONGEST:
            text = hashlib.sha256(text.encode()).hexdigest()
        return self._derive(self._name, text)

    def _check(self, name: str, value: Any) -> None:
        if type(value) is tuple:
            for part in value:
                self._check(name, part)
        elif type(value) not in _PLAIN:
            msg = (
                f"{self._name}: its argument {name} is of type {type(value).__name__}, which has no"
                " stable name; give key=, a function of the arguments that returns a key"
            )
            raise ConfigError(msg)
