"""A mixed load at full speed on caches of vectors and of values, and what it holds meanwhile.

Threads and tasks get, put, update, forget and load, single keys and batches, over stores that are
given by URL. Some loads fail, some are given up by their callers. Every answer is looked at: a
value says whose it is.
"""

import asyncio
import ctypes
import gc
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedders import same, vectors
from nearcache import EmbeddingCache, NearCache, Options
from nearcache.errors import CacheError, StoreError

__all__ = ["Held", "Load", "held_now"]

_TAGS = 20
_DIMENSION = 768
_LONGEST = 4000  # characters of a value
_TASKS, _THREADS = 8, 2  # per cache
_MODEL = "soak"
_TURN = 200  # operations between two looks at the clock


@dataclass(frozen=True)
class Held:
    """What a process holds at one moment. Units: bytes.

    ``used`` is the memory without what the C library has free and does not give back.
    """

    memory: int
    used: int
    near: int
    threads: int
    tasks: int
    files: int
    flights: int
    operations: int


class Load:
    """Caches under load. ``counts`` has what was done, and ``wrong`` and ``raised`` among it.

    budget: bytes near, of all caches together.
    """

    def __init__(self, urls: Sequence[str], budget: int) -> None:
        each = budget // (2 * len(urls))
        options = Options(store_timeout=2.0)  # a busy machine is not what is looked for here
        room: dict[str, Any] = {"max_entries": 10**6, "max_bytes": each, "options": options}
        self.values = [NearCache[str, Any](u, namespace="soak", ttl=60.0, **room) for u in urls]
        self.rows = [EmbeddingCache(url, namespace="soak-rows", **room) for url in urls]
        self.budget = budget
        self.counts: Counter[str] = Counter()
        self._broken: list[BaseException] = []
        self._keys = 5 * each // _LONGEST  # more than may be near, so that some always leave
        self._texts = [f"text {n}" for n in range(int(1.1 * each / (4 * _DIMENSION)))]
        self._vectors = dict(zip(self._texts, vectors(self._texts, _DIMENSION), strict=True))
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def engines(self) -> list[Any]:
        """The caches' engines."""
        return [cache._tiers.engine for cache in (*self.values, *self.rows)]

    @property
    def errors(self) -> int:
        """How often a store failed."""
        return sum(cache.get_stats().store_errors for cache in (*self.values, *self.rows))

    def run(self, seconds: float, look: Callable[[float, Held], None], every: float = 5.0) -> None:
        """Load the caches, and look at what is held now and then."""
        end = time.monotonic() + seconds
        workers = [
            threading.Thread(target=self._kept, args=(self._thread, work, end, n))
            for works in (self._of_values(), self._of_rows())
            for work in works
            for n in range(_THREADS)
        ]
        workers.append(threading.Thread(target=self._kept, args=(self._on_a_loop, end)))
        for worker in workers:
            worker.start()
        started = time.monotonic()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(every, left))
            look(time.monotonic() - started, held_now(self, self._loop))
        for worker in workers:
            worker.join(120.0)
            assert not worker.is_alive(), "a worker hangs"
        if self._broken:
            raise self._broken[0]

    def fill(self) -> None:
        """Put more into every cache than it may keep."""
        chosen = random.Random(0)
        keys = [f"key {n}" for n in range(self._keys // 2)]
        for cache in self.values:
            for at in range(0, len(keys), 500):
                cache.put_batch({key: _made(key, chosen) for key in keys[at : at + 500]})
        for rows in self.rows:
            for at in range(0, len(self._texts), 500):
                part = self._texts[at : at + 500]
                rows.put_batch(part, self._right(part), _MODEL)

    def close(self) -> None:
        """Close the caches."""
        for cache in (*self.values, *self.rows):
            cache.close()

    # -- who works -----------------------------------------------------------------------------

    def _raised(self, error: CacheError) -> None:
        self.counts["raised"] += 1
        self.counts[f"raised: {type(error).__name__}"] += 1

    def _of_values(self) -> list[Any]:
        return [lambda chosen, c=cache: self._value(c, chosen) for cache in self.values]

    def _of_rows(self) -> list[Any]:
        wrapped = [cache.wrap(self._model, _MODEL) for cache in self.rows]
        return [
            lambda chosen, c=cache, e=embed: self._row(c, e, chosen)
            for cache, embed in zip(self.rows, wrapped, strict=True)
        ]

    def _thread(self, work: Callable[[random.Random], None], end: float, seed: int) -> None:
        chosen = random.Random(seed)
        while time.monotonic() < end:
            for _ in range(_TURN):
                try:
                    work(chosen)
                except _Fails:
                    self.counts["failed loads"] += 1
                except CacheError as error:
                    self._raised(error)

    def _kept(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do work; what it raises is raised when all is over."""
        try:
            work(*arguments)
        except BaseException as error:
            self._broken.append(error)
            raise

    def _on_a_loop(self, end: float) -> None:
        asyncio.run(self._tasks(end))

    async def _tasks(self, end: float) -> None:
        self._loop = asyncio.get_running_loop()
        works: list[Callable[[random.Random], Coroutine[Any, Any, None]]] = []
        for cache in self.values:
            face = cache.as_async()
            works.append(lambda chosen, c=face: self._async_value(c, chosen))
        for cache in self.rows:
            aio = cache.as_async()
            embed = aio.wrap(self._async_model, _MODEL)
            works.append(lambda chosen, c=aio, e=embed: self._async_row(c, e, chosen))

        async def task(work: Any, seed: int) -> None:
            chosen = random.Random(1000 + seed)
            while time.monotonic() < end:
                try:
                    # now and then somebody gives up
                    await asyncio.wait_for(work(chosen), 0.002 if chosen.random() < 0.01 else 30.0)
                except TimeoutError:
                    self.counts["given up"] += 1
                except _Fails:
                    self.counts["failed loads"] += 1
                except CacheError as error:
                    self._raised(error)

        async with asyncio.TaskGroup() as group:
            for work in works:
                for seed in range(_TASKS):
                    group.create_task(task(work, seed))
        self._loop = None

    # -- what is done --------------------------------------------------------------------------

    def _value(self, cache: Any, chosen: random.Random) -> None:
        self.counts["operations"] += 1
        key, what = self._key(chosen), chosen.random()
        if what < 0.45:
            self._check(key, cache.get(key))
        elif what < 0.75:
            tag = [f"tag {chosen.randrange(_TAGS)}"]
            self._check(key, cache.get_or_load(key, lambda: _load(key, chosen), tags=tag))
        elif what < 0.85:
            cache.put(key, _made(key, chosen))
        elif what < 0.90:
            with suppress(StoreError):  # nobody could say then whether it was done
                cache.update(key, lambda _: _made(key, chosen))
        elif what < 0.96:
            cache.invalidate(key)
        elif what < 0.961:
            cache.invalidate_by_tag(f"tag {chosen.randrange(_TAGS)}")
        else:
            keys = [self._key(chosen) for _ in range(20)]
            found = cache.get_or_load_batch(keys, lambda some: {k: _made(k, chosen) for k in some})
            for one, value in zip(keys, found, strict=True):
                self._check(one, value)

    async def _async_value(self, cache: Any, chosen: random.Random) -> None:
        self.counts["operations"] += 1
        key, what = self._key(chosen), chosen.random()

        async def load() -> Any:
            await asyncio.sleep(0)
            return _load(key, chosen)

        if what < 0.45:
            self._check(key, await cache.get(key))
        elif what < 0.80:
            self._check(key, await cache.get_or_load(key, load))
        elif what < 0.90:
            await cache.put(key, _made(key, chosen))
        elif what < 0.99:
            await cache.invalidate(key)
        else:
            await cache.invalidate_by_tag(f"tag {chosen.randrange(_TAGS)}")

    def _row(self, cache: Any, embed: Any, chosen: random.Random) -> None:
        self.counts["operations"] += 1
        what = chosen.random()
        if what < 0.75:
            texts = self._some(chosen)
            self.counts["wrong"] += not same(embed(texts), self._right(texts))
        elif what < 0.9:
            (text, *_) = self._some(chosen)
            cache.put(text, self._vectors[text], _MODEL)
        elif what < 0.9999:
            cache.invalidate(self._some(chosen)[0], _MODEL)
        else:
            cache.invalidate_by_model(_MODEL)

    async def _async_row(self, cache: Any, embed: Any, chosen: random.Random) -> None:
        self.counts["operations"] += 1
        texts = self._some(chosen)
        if chosen.random() < 0.9:
            self.counts["wrong"] += not same(await embed(texts), self._right(texts))
        else:
            await cache.invalidate(texts[0], _MODEL)

    def _model(self, texts: list[str]) -> Any:
        return self._right(texts)

    async def _async_model(self, texts: list[str]) -> Any:
        await asyncio.sleep(0)
        return self._right(texts)

    def _some(self, chosen: random.Random) -> list[str]:
        return [self._texts[int(len(self._texts) * chosen.random() ** 3)] for _ in range(10)]

    def _key(self, chosen: random.Random) -> str:
        return f"key {int(self._keys * chosen.random() ** 2)}"

    def _right(self, texts: list[str]) -> Any:
        return np.array([self._vectors[text] for text in texts])

    def _check(self, key: str, value: Any) -> None:
        self.counts["wrong"] += value is not None and value[0] != key


class _Fails(Exception):
    """What a loader raises now and then."""


def _made(key: str, chosen: random.Random) -> list[str]:
    return [key, "x" * chosen.randrange(50, _LONGEST)]


def _load(key: str, chosen: random.Random) -> list[str]:
    if chosen.random() < 0.005:
        raise _Fails
    return _made(key, chosen)


def held_now(load: Load | None, loop: asyncio.AbstractEventLoop | None = None) -> Held:
    """Return what this process holds."""
    engines = [] if load is None else load.engines
    tasks = 0
    if loop is not None:
        with suppress(RuntimeError):  # the set of tasks changed meanwhile
            tasks = len(asyncio.all_tasks(loop))
    memory = _memory()
    return Held(
        memory=memory,
        used=memory - _free(),
        near=sum(engine.near.used_bytes for engine in engines),
        threads=threading.active_count(),
        tasks=tasks,
        files=len(list(Path("/proc/self/fd").iterdir())),
        flights=sum(len(engine.flights) for engine in engines),
        operations=0 if load is None else load.counts["operations"],
    )


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def _free() -> int:
    """Return the bytes that the C library keeps free; 0 where it does not say."""
    try:
        ask = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return 0
    ask.restype = _Mallinfo
    return int(ask().fordblks)


def _memory() -> int:
    """Return the bytes of this process that are no file's: SQLite maps its file."""
    gc.collect()
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
