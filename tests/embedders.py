"""Fakes for tests of the embedding caches: models that count, one view of both faces, a clock.

A model's vector is a function of the text alone, so that a test can say what is right for every
text; the counts are exact under threads.
"""

import asyncio
import hashlib
import inspect
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np

from nearcache import AsyncEmbeddingCache, EmbeddingCache, Options
from nearcache.caches.tiers import RowTiers
from nearcache.testing import ManualClock

__all__ = [
    "AsyncModel",
    "Face",
    "M",
    "ManualClock",
    "Model",
    "cache_with_clock",
    "face_of",
    "in_threads",
    "same",
    "until",
    "vector",
    "vectors",
]

M = "fake-model"
_HANG = 30.0  # a bound on waits that end at once unless something is broken


def vector(text: str, size: int = 8) -> np.ndarray:
    """The one right vector of a text: float32, of all signs, no zeros."""
    seed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    values = np.random.default_rng(list(seed)).uniform(0.1, 1.0, size)
    return (values * np.where(values > 0.5, 1, -1)).astype(np.float32)


def vectors(texts: Any, size: int = 8) -> np.ndarray:
    """The right matrix of a list of texts."""
    return np.array([vector(text, size) for text in texts], np.float32).reshape(-1, size)


def same(got: Any, wanted: Any) -> bool:
    """Whether two arrays are equal to the bit."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    return (
        got.dtype == wanted.dtype
        and got.shape == wanted.shape
        and got.tobytes() == wanted.tobytes()
    )


class Model:
    """A synchronous model. ``before`` is called with the texts of each call, outside the lock."""

    def __init__(self, size: int = 8, before: Callable[[list[str]], None] | None = None) -> None:
        self.size = size
        self.before = before
        self.lock = threading.Lock()
        self.calls: list[list[str]] = []
        self.inside = self.most_inside = 0

    @contextmanager
    def counted(self, texts: list[str]):
        with self.lock:
            self.calls.append(list(texts))
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1

    def __call__(self, texts: list[str]) -> np.ndarray:
        with self.counted(texts):
            if self.before is not None:
                self.before(texts)
            return vectors(texts, self.size)

    @property
    def times(self) -> Counter:
        """How often each text reached the model."""
        with self.lock:
            return Counter(text for call in self.calls for text in call)


class AsyncModel(Model):
    """The same, awaited; ``before`` is a coroutine function or None."""

    async def __call__(self, texts: list[str]) -> np.ndarray:
        with self.counted(texts):
            await asyncio.sleep(0)
            if self.before is not None:
                await self.before(texts)
            return vectors(texts, self.size)


class Face:
    """A cache or a cached generator, called the same way whichever face it has.

    Every awaited call gets an event loop of its own.
    """

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.thing, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute
        return lambda *args, **options: asyncio.run(attribute(*args, **options))

    def __call__(self, texts: Any) -> Any:
        answer = self.thing(texts)
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer

    def wrap(self, *args: Any, **options: Any) -> "Face":
        return Face(self.thing.wrap(*args, **options))

    def view(self, name: str) -> "Face":
        return Face(self.thing.view(name))

    def batches(self, texts: Any) -> list:
        """All of ``iter_batches``."""
        stream = self.thing.iter_batches(texts)
        if not hasattr(stream, "__aiter__"):
            return list(stream)

        async def collect() -> list:
            return [part async for part in stream]

        return asyncio.run(collect())

    @property
    def size(self) -> int:
        return self.thing.size


def cache_with_clock(
    clock: Callable[[], float], store: Any = None, face: str = "sync", **given: Any
) -> Any:
    """A cache whose near tier, log and breaker live by ``clock``."""
    arguments: dict[str, Any] = {
        "store": store,
        "namespace": "emb",
        "max_entries": 50_000,
        "max_bytes": 256 * 2**20,
        "ttl": None,
        "policy": "lru",
        "precision": "float32",
        "options": Options(),
    }
    tiers = RowTiers({**arguments, **given}, clock=clock)
    cache = EmbeddingCache._face(tiers)
    return cache if face == "sync" else cache.as_async()


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(0)`` … ``work(count - 1)`` at once; return what each gave or raised."""
    start = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        try:
            start.wait(_HANG)
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_HANG)
        assert not thread.is_alive(), "a thread hangs"
    return results


def until(condition: Callable[[], Any], seconds: float = _HANG) -> Any:
    """Poll until ``condition`` gives something true, and return that.

    A look that begins in time counts however long it takes: the machine may stand still in it.
    """
    deadline = time.monotonic() + seconds
    while True:
        in_time = time.monotonic() < deadline
        if answer := condition():
            return answer
        assert in_time, f"not within {seconds} s"
        time.sleep(0.002)  # between two looks at the condition


def face_of(kind: str) -> type:
    """The class of a face: "sync" or "async"."""
    return {"sync": EmbeddingCache, "async": AsyncEmbeddingCache}[kind]
