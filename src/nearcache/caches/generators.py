"""Whatever makes embeddings, seen as one call: a list of texts to a matrix."""

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from os import getpid
from typing import Any

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
        # a local model is not thread-safe; the same thread may come back through its own cache
        self.gate: Any = (
            threading.RLock() if self.limit == 1 else threading.BoundedSemaphore(self.limit)
        )
        self._lock = threading.Lock()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def threads(self) -> Executor:
        """Return the threads that call a synchronous generator for event loops."""
        with self._lock:
            if self._pool is None or self._pool[0] != getpid():
                self._pool = (getpid(), ThreadPoolExecutor(self.limit, "nearcache-load"))
            return self._pool[1]


def find_calls(
    generator: object,
) -> tuple[BatchCall, BatchCall, bool]:
    """Return how to embed documents, how to embed queries, and whether both are awaited."""
    documents = _method(generator, "generate_batch", "encode", "embed_documents")
    single = _method(generator, "generate")
    query = _method(generator, "embed_query")
    if documents is None and single is not None:
        documents = _one_by_one(single)
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
    return documents, queries, awaited


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
