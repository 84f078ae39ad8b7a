"""nearcache as its users call it."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from bench.timing import Contestant, Matrix, Sample
from nearcache import EmbeddingCache

__all__ = ["MODEL", "filled", "from_store", "get_batch", "no_model", "wrapped", "wrapped_async"]

MODEL = "m"
_ROOM = 2**31


def no_model(texts: list[str]) -> Matrix:
    """The model of a warm run: to be asked is an error."""
    msg = f"{len(texts)} warm texts reached the model"
    raise AssertionError(msg)


def filled(texts: list[str], matrix: Matrix, store: Any = None, **settings: Any) -> EmbeddingCache:
    """Return a cache that holds the rows, with room for all of them."""
    cache = EmbeddingCache(store, **{"max_bytes": _ROOM, **settings})
    for start in range(0, len(texts), 500):
        cache.put_batch(texts[start : start + 500], matrix[start : start + 500], MODEL)
    return cache


def wrapped(cache: EmbeddingCache, name: str) -> Contestant:
    """Return the call that users make: ``embed(texts)``."""
    embed = cache.wrap(no_model, model=MODEL)

    def get(sample: Sample) -> Matrix:
        return embed(sample.texts)

    return Contestant(name, get)


def get_batch(cache: EmbeddingCache, name: str) -> Contestant:
    """Return the plain look-up: ``cache.get_batch(texts, model)``."""

    def get(sample: Sample) -> Matrix:
        vectors, found = cache.get_batch(sample.texts, MODEL)
        if not np.all(found):
            msg = f"{np.count_nonzero(~found)} warm texts were not found"
            raise AssertionError(msg)
        return vectors

    return Contestant(name, get)


def wrapped_async(cache: EmbeddingCache, name: str, runner: asyncio.Runner) -> Contestant:
    """Return the async face of the cache, on the event loop of ``runner``."""
    embed = cache.as_async().wrap(no_model, model=MODEL)

    async def once(texts: list[str]) -> Matrix:
        return await embed(texts)

    def get(sample: Sample) -> Matrix:
        return runner.run(once(sample.texts))

    return Contestant(name, get)


def from_store(
    stack: ExitStack, texts: list[str], matrix: Matrix, url: Callable[[str], str]
) -> list[Contestant]:
    """Return the three calls with the near tier off, each with a store (or part) of its own."""

    def cache(name: str) -> EmbeddingCache:
        held = filled(texts, matrix, url(name), namespace=name, max_entries=0)
        return stack.enter_context(held)

    runner = stack.enter_context(asyncio.Runner())
    return [
        wrapped(cache("call"), "nearcache, embed(texts)"),
        get_batch(cache("batch"), "nearcache, get_batch"),
        wrapped_async(cache("async"), "nearcache, await embed(texts)", runner),
    ]
