"""200 tasks and 4 threads that call two caches all the time, and note how long each call took."""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from bench.timing import Matrix
from nearcache import EmbeddingCache, NearCache

__all__ = ["Call", "Crowd"]

_TASKS, _THREADS = 200, 4
_PAUSES = {"task": (0.2, 1.0), "thread": (0.005, 0.05)}  # seconds between calls
_HOT = 500


class Call(NamedTuple):
    """One call: what it was, when it began (``time.perf_counter``), how long it took."""

    kind: str
    began: float
    took: float


def _model(texts: list[str]) -> Matrix:
    return np.array([[len(text), hash(text) % 997] for text in texts], np.float32)


class Crowd:
    """Calls an embedding cache and a cache of values on one store, from both faces."""

    def __init__(self, url: str | None) -> None:
        self.vectors = EmbeddingCache(url, max_entries=100)
        self.values: NearCache[str, str] = NearCache(url, namespace="bench", max_entries=100)
        self.calls: list[Call] = []
        self.errors: list[BaseException] = []
        self.wrong = 0
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._thread) for _ in range(_THREADS)]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._tasks())))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.vectors.close()
        self.values.close()

    @property
    def states(self) -> set[str]:
        """What the breakers are."""
        return {self.vectors.get_stats().breaker, self.values.get_stats().breaker}

    def between(self, begin: float, end: float) -> list[Call]:
        """Return the calls that were under way in this time, at whatever part of it."""
        return [c for c in list(self.calls) if c.began + c.took > begin and c.began < end]

    def _note(self, kind: str, began: float) -> None:
        self.calls.append(Call(kind, began, time.perf_counter() - began))

    def _thread(self) -> None:
        embed = self.vectors.wrap(_model, "m")
        steps: list[tuple[str, Callable[[str], object]]] = [
            ("vector, blocking", lambda text: embed([text])),
            ("load, blocking", lambda key: self.values.get_or_load(key, key.upper)),
            ("put, blocking", lambda key: self.values.put(key, key.upper())),
            ("forget, blocking", lambda key: self.values.invalidate(key)),
        ]
        while not self._stop.is_set():
            kind, step = random.choice(steps)
            self._check(kind, lambda step=step: step(self._name()))  # type: ignore[misc]
            time.sleep(random.uniform(*_PAUSES["thread"]))

    def _check(self, kind: str, step: Callable[[], object]) -> None:
        began = time.perf_counter()
        try:
            step()
        except BaseException as error:
            self.errors.append(error)
        self._note(kind, began)

    async def _tasks(self) -> None:
        embed = self.vectors.as_async().wrap(_model, "m")
        values = self.values.as_async()

        async def work() -> None:
            await asyncio.sleep(random.uniform(0, _PAUSES["task"][1]))
            while not self._stop.is_set():
                kind, name = random.choice(("vector", "load", "put", "forget")), self._name()
                began = time.perf_counter()
                try:
                    if kind == "vector":
                        got = await embed([name])
                        self.wrong += int(got[0][0] != len(name))
                    elif kind == "load":
                        self.wrong += await values.get_or_load(name, name.upper) != name.upper()
                    elif kind == "put":
                        await values.put(name, name.upper())
                    else:
                        await values.invalidate(name)
                except BaseException as error:
                    self.errors.append(error)
                self._note(f"{kind}, asynchronous", began)
                await asyncio.sleep(random.uniform(*_PAUSES["task"]))

        await asyncio.gather(*(work() for _ in range(_TASKS)))

    def _name(self) -> str:
        number = next(self._numbers)
        return f"hot {number % _HOT}" if number % 2 else f"new {number}"
