"""Whatever makes embeddings, seen as one call: a list of texts to a matrix."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from contextvars import ContextVar
from os import getpid
from typing import Any
from weakref import WeakKeyDictionary

from nearcache.errors import ConfigError

__all__ = ["BatchCall", "Generator", "find_calls"]

BatchCall = Callable[[list[str]], Any]


class Generator:
    """Whatever makes embeddings, as one call: a list of texts to a matrix.

    Takes a callable, or an object with ``generate_batch``/``generate``, ``encode`` or
    ``embed_documents``/``embed_query``, sync or async. An object that only has a single-text
    ``generate`` is called once per text.
    """

    def __init__(
        self,
        call: BatchCall,
        *,
        is_async: bool,
        limit: int,
        max_batch: int | None,
    ) -> None:
        self.call = call
        self.is_async = is_async
        self.limit = limit
        self.max_batch = max_batch
        self._turns = _Turns(limit)

    @property
    def crowd(self) -> object:
        """Who shares threads with it: nobody."""
        return self

    def share_turns(self, other: "Generator") -> None:
        """Take turns with another call of the same generator."""
        self._turns = other._turns

    def turn(self) -> AbstractContextManager[object]:
        """Return what a synchronous call holds, so that at most ``limit`` run."""
        return self._turns.blocking()

    def async_turn(self) -> AbstractAsyncContextManager[object]:
        """Return what an awaited call holds, so that at most ``limit`` run on one event loop."""
        return self._turns.suspending()


class _Turns:
    """Who may call a generator now. A call from inside a call of the same takes no other turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside: ContextVar[bool] = ContextVar("nearcache_inside", default=False)
        self._lock = threading.Lock()
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = getpid()
        # Ctrl-C cannot come between taking a plain lock and entering its block
        self._gate: threading.Lock | threading.Semaphore = (
            threading.Lock() if self._limit == 1 else threading.BoundedSemaphore(self._limit)
        )
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._gates = WeakKeyDictionary()

    def _check_fork(self) -> None:
        """Start anew in a forked child: whoever had a turn stayed in the parent."""
        if self._pid != getpid():
            self._lock = threading.Lock()
            self._start_anew()

    @contextmanager
    def blocking(self) -> Iterator[None]:
        self._check_fork()
        if self._inside.get():
            yield
            return
        with self._gate:
            token = self._inside.set(True)
            try:
                yield
            finally:
                self._inside.reset(token)

    @asynccontextmanager
    async def suspending(self) -> AsyncIterator[None]:
        self._check_fork()
        if self._inside.get():
            yield
            return
        loop = asyncio.get_running_loop()
        with self._lock:
            # a semaphore that was waited for holds its loop, and would keep it for ever
            for closed in [other for other in self._gates if other.is_closed()]:
                del self._gates[closed]
            gate = self._gates.setdefault(loop, asyncio.Semaphore(self._limit))
        async with gate:
            token = self._inside.set(True)
            try:
                yield
            finally:
                with suppress(ValueError):  # collected with its loop, in another context
                    self._inside.reset(token)


def find_calls(generator: object) -> tuple[BatchCall, BatchCall, bool, int | None]:
    """Return how to embed documents and queries, whether that is awaited, and its batch size.

    A generator that embeds one text at a time is asked for one text at a time, so that what it
    gave before it fails is kept.
    """
    if isinstance(generator, (str, bytes)):  # both have an encode method
        msg = f"{generator!r} cannot embed, it is only a name; give model.encode or the like"
        raise ConfigError(msg)
    documents = _method(generator, "generate_batch", "encode", "embed_documents")
    single = _method(generator, "generate")
    query = _method(generator, "embed_query")
    size = None
    if documents is None and single is not None:
        documents, size = _one_by_one(single), 1
    if documents is None:
        if not callable(generator):
            msg = (
                f"{type(generator).__name__} cannot embed: give a callable (texts to a matrix) or "
                "an object with generate_batch, generate, encode or embed_documents"
            )
            raise ConfigError(msg)
        documents = generator
    awaited = _is_async(documents)
    queries = documents if query is None or _is_async(query) != awaited else _one_by_one(query)
    return documents, queries, awaited, size


def _method(thing: object, *names: str) -> Callable[..., Any] | None:
    for name in names:
        method = getattr(thing, name, None)
        if callable(method):
            found: Callable[..., Any] = method
            return found
    return None


def _is_async(call: object) -> bool:
    if inspect.iscoroutinefunction(call):
        return True
    return inspect.iscoroutinefunction(getattr(type(call), "__call__", None))  # noqa: B004


def _one_by_one(single: Callable[[str], Any]) -> BatchCall:
    """Return a batch call made of single ones, for a generator that has no other."""
    if _is_async(single):

        async def each_awaited(texts: list[str]) -> list[Any]:
            return [await single(text) for text in texts]

        return each_awaited
    return lambda texts: [single(text) for text in texts]
