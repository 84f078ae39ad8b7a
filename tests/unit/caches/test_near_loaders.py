"""NearCache: one load for however many want it, whatever the loader does."""

import asyncio
import functools
import threading
import time

import pytest

from embedders import Face, in_threads, until
from near_fixtures import Source, begun, linked, near_caches, settled
from nearcache import MISSING, Loaded, Options
from nearcache.errors import ConfigError, LoaderError

near = pytest.fixture(near_caches)
_HANG = 20


# -- kinds of loaders ------------------------------------------------------------------------------


class Callable:
    def __call__(self):
        return "value"


class AsyncCallable:
    async def __call__(self):
        return "value"


async def coroutine_function():
    await asyncio.sleep(0)
    return "value"


def plain_around_async():
    return coroutine_function()


LOADERS = {
    "function": lambda: "value",
    "object": Callable(),
    "coroutine function": coroutine_function,
    "object with an async call": AsyncCallable(),
    "partial": functools.partial(lambda value: value, "value"),
    "partial of a coroutine function": functools.partial(coroutine_function),
    "function that returns a coroutine": plain_around_async,
    "Loaded": lambda: Loaded("value"),
    "method": "value".lower,
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_any_callable_loads_under_either_face(near, face, store, loader):
    cache = near(face, store)
    assert cache.get_or_load("key", loader) == "value"
    assert cache.get("key") == "value"
    assert cache.get_or_load("key", lambda: 1 / 0) == "value"
    assert cache.get_stats().loads == 1


@pytest.mark.parametrize("loader", [lambda keys: dict.fromkeys(keys, 1), None])
def test_a_batch_loader_is_asked_for_what_is_missing_only(near, face, store, loader):
    cache, asked = near(face, store), []

    async def load_async(keys):
        asked.append(list(keys))
        return dict.fromkeys(keys, 1)

    def load(keys):
        asked.append(list(keys))
        return dict.fromkeys(keys, 1)

    cache.put("b", 0)
    answer = cache.get_or_load_batch(["a", "b", "c", "a"], load if loader else load_async)
    assert answer == [1, 0, 1, 1]
    assert sorted(key for keys in asked for key in keys) == ["a", "c"]
    assert cache.get_or_load_batch([], load) == []


def test_batches_are_no_larger_than_max_batch(near, face, store):
    cache, sizes = near(face, store, options=Options(max_batch=7, max_concurrency=2)), []

    def load(keys):
        sizes.append(len(keys))
        return {key: key for key in keys}

    keys = [f"k{n}" for n in range(50)]
    assert cache.get_or_load_batch(keys, load) == keys
    assert max(sizes) <= 7
    assert sum(sizes) == 50


@pytest.mark.parametrize("loader", [None, 5, "loader", {}])
def test_what_cannot_be_called_is_refused(near, face, loader):
    cache = near(face)
    with pytest.raises(ConfigError, match="loader"):
        cache.get_or_load("key", loader)
    with pytest.raises(ConfigError, match="loader"):
        cache.get_or_load_batch(["key"], loader)


# -- what goes wrong -------------------------------------------------------------------------------


class Oddity(Exception):
    pass


@pytest.mark.parametrize("error", [Oddity("x"), KeyError("k"), StopIteration(), OSError(5, "x")])
def test_an_error_of_the_loader_passes_and_leaves_nothing_behind(near, face, store, error):
    cache = near(face, store)

    def load():
        raise error

    for _ in range(2):
        with pytest.raises((type(error), RuntimeError)) as caught:
            cache.get_or_load("key", load)
        assert caught.value is error or isinstance(error, StopIteration)
    assert cache.get("key") is None
    assert cache.get_or_load("key", lambda: "good") == "good"  # at once: the lease was given back
    assert cache.get_stats().load_failures == 2


def test_a_failed_batch_keeps_nothing_of_its_chunk(near, face, store):
    cache = near(face, store, options=Options(max_batch=2, max_concurrency=1))
    calls = []

    def load(keys):
        calls.append(keys)
        if len(calls) == 2:
            raise Oddity
        return {key: key for key in keys}

    with pytest.raises(Oddity):
        cache.get_or_load_batch(["a", "b", "c", "d"], load)
    assert cache.get_batch(["a", "b", "c", "d"]) == ["a", "b", None, None]


@pytest.mark.parametrize("output", [None, 5, ["a"], "a", [("a", 1)], {"a", "b"}])
def test_a_batch_loader_that_returns_no_mapping_is_told_so(near, face, store, output):
    cache = near(face, store)
    with pytest.raises(LoaderError, match="mapping"):
        cache.get_or_load_batch(["a"], lambda _: output)
    assert cache.get("a") is None
    assert cache.get_or_load("a", lambda: 1) == 1


def test_one_value_that_cannot_be_kept_keeps_the_whole_chunk_out(near, face, store):
    cache = near(face, store)
    with pytest.raises(LoaderError):
        cache.get_or_load_batch(["a", "b"], lambda _: {"a": 1, "b": object()})
    assert cache.get_batch(["a", "b"]) == [None, None]


def test_all_who_wait_get_the_error_of_the_one_load(near, store):
    cache = near("sync", store)
    inside, go, calls = threading.Event(), threading.Event(), []

    def load():
        calls.append(1)
        inside.set()
        assert go.wait(_HANG)
        raise Oddity

    def work(number):
        if number:
            assert inside.wait(_HANG)
        else:
            threading.Thread(
                target=lambda: (until(lambda: cache.get_stats() and inside.is_set()), go.set())
            ).start()
        cache.get_or_load("key", load)

    results = in_threads(5, work)
    assert all(isinstance(result, Oddity) for result in results)
    assert cache.get("key") is None


# -- one load --------------------------------------------------------------------------------------


def test_fifty_threads_and_fifty_tasks_load_once(near, store):
    cache = near("sync", store).thing
    other = cache.as_async()
    started, source = threading.Barrier(51), None
    waiting = []

    def until_all_are_here():
        deadline = time.monotonic() + 0.3
        while len(waiting) < 100 and time.monotonic() < deadline:
            time.sleep(0.001)  # between two looks at who has arrived

    source = Source(before=until_all_are_here)

    def in_thread(_):
        started.wait(_HANG)
        waiting.append(1)
        return cache.get_or_load("key", source)

    async def in_task():
        waiting.append(1)
        return await other.get_or_load("key", source.of("async"))

    async def tasks():
        return await asyncio.gather(*(in_task() for _ in range(50)))

    def work(number):
        if number < 50:
            return in_thread(number)
        started.wait(_HANG)
        return asyncio.run(tasks())

    results = in_threads(51, work)
    assert results == ["key@1"] * 50 + [["key@1"] * 50]
    assert source.calls == {"key": 1}
    stats = cache.get_stats()
    assert stats.loads == 1
    assert stats.hits + stats.misses + stats.coalesced == 100


def test_two_caches_on_one_store_load_once(near, face, shared):
    one, two = near(face, shared), near(face, shared)
    linked(one, two)
    inside, go = threading.Event(), threading.Event()

    def load():
        inside.set()
        assert go.wait(_HANG)
        return "value"

    def work(number):
        if number == 0:
            return one.get_or_load("key", load)
        assert inside.wait(_HANG)
        if number == 1:
            return two.get_or_load("key", lambda: 1 / 0)
        until(lambda: two.get_stats().misses or two._tiers.shelf.tracked.bells)
        go.set()
        return None

    assert in_threads(3, work) == ["value", "value", None]
    assert two.get_stats().loads == 0


def test_overlapping_batches_load_each_key_once(near, store):
    cache, source = near("sync", store, options=Options(max_batch=5)), Source()
    keys = [f"k{n}" for n in range(60)]

    def work(number):
        part = keys[number * 5 : number * 5 + 25] if number % 2 else keys[::-1]
        return cache.get_or_load_batch(part, source.many) == [source.value(key) for key in part]

    assert in_threads(8, work) == [True] * 8
    assert set(source.calls.values()) == {1}


def test_who_only_reads_does_not_wait_for_a_load(near, face, store):
    cache = near(face, store)
    inside, go = threading.Event(), threading.Event()

    def load():
        inside.set()
        assert go.wait(_HANG)
        return "value"

    thread = threading.Thread(target=lambda: cache.get_or_load("key", load))
    thread.start()
    try:
        assert inside.wait(_HANG)
        assert cache.get("key", "default") == "default"
        assert cache.get_batch(["key"]) == [None]
        assert not cache.contains("key")
    finally:
        go.set()
        thread.join(_HANG)


# -- re-entrance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loads", ["sync", "async"])
def test_a_loader_may_use_the_cache_for_other_keys(near, face, store, loads):
    cache = near(face, store).thing

    def load():
        inner = cache.as_sync().get_or_load("inner", lambda: 1)
        cache.as_sync().put("by the way", 2)
        assert cache.as_sync().get("absent") is None
        return inner + 10

    async def load_async():
        other = cache.as_async()
        inner = await other.get_or_load("inner", lambda: 1)
        await other.put("by the way", 2)
        assert await other.get("absent") is None
        return inner + 10

    outer = load if loads == "sync" else load_async
    assert Face(cache).get_or_load("outer", outer) == 11
    assert Face(cache).get_batch(["outer", "inner", "by the way"]) == [11, 1, 2]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("loads", ["sync", "async"])
def test_a_loader_may_even_ask_for_its_own_key(near, face, store, loads):
    cache = near(face, store).thing
    depth = []

    def load():
        depth.append(1)
        if len(depth) < 3:
            return cache.as_sync().get_or_load("key", load)
        return "value"

    async def load_async():
        depth.append(1)
        if len(depth) < 3:
            return await cache.as_async().get_or_load("key", load_async)
        return "value"

    outer = load if loads == "sync" else load_async
    assert Face(cache).get_or_load("key", outer) == "value"
    assert len(depth) == 3
    assert Face(cache).get("key") == "value"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("forget", ["read through", "put", "invalidate", "tag", "clear"])
def test_a_loader_may_ask_for_its_own_key_after_it_was_taken_from_it(near, face, store, forget):
    cache = near(face, store)
    blocking, depth = cache.thing.as_sync(), []
    take = {
        "read through": lambda: blocking.get("key", max_staleness=0),
        "put": lambda: blocking.put("key", "put", ttl=0),
        "invalidate": lambda: blocking.invalidate("key"),
        "tag": lambda: blocking.invalidate_by_tag("tag"),
        "clear": blocking.clear,
    }[forget]

    def load():
        depth.append(1)
        if len(depth) < 3:
            take()
            return blocking.get_or_load("key", load, tags=["tag"])
        return "value"

    assert cache.get_or_load("key", load, tags=["tag"]) == "value"


def test_a_loader_may_read_put_or_forget_its_own_key(near, face, store):
    cache = near(face, store)
    blocking = cache.thing.as_sync()

    def reads():
        return "loaded" if blocking.get("read") is None else "odd"

    def puts():
        blocking.put("put", "put")
        return "loaded"

    def forgets():
        blocking.invalidate("forgotten")
        return "loaded"

    assert cache.get_or_load("read", reads) == "loaded"
    assert cache.get_or_load("put", puts) == "loaded"
    assert cache.get_or_load("forgotten", forgets) == "loaded"
    assert cache.get("read") == "loaded"
    assert cache.get("put") == cache.get("put", max_staleness=0) == "put"
    assert cache.get("forgotten") is None
    assert cache.get("forgotten", max_staleness=0) is None


def test_two_calls_that_load_each_others_keys_end(near, store):
    cache = near("sync", store)
    both = threading.Barrier(2)

    def work(number):
        mine, other = ("a", "b") if number else ("b", "a")

        def load():
            both.wait(_HANG)
            return cache.get_or_load_batch([other + other, mine + mine], dict.fromkeys)

        cache.get_or_load(mine, load)
        return True

    assert in_threads(2, work) == [True, True]


# -- cancelling ------------------------------------------------------------------------------------


def test_a_cancelled_caller_leaves_the_load_to_who_waits(near, store):
    cache, source = near("async", store).thing, Source()

    async def main():
        inside, go = asyncio.Event(), asyncio.Event()

        async def load():
            inside.set()
            await go.wait()
            return source()

        first = asyncio.create_task(cache.get_or_load("key", load))
        await inside.wait()
        second = asyncio.create_task(cache.get_or_load("key", load))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert await asyncio.wait_for(second, _HANG) == "key@1"
        assert await cache.get("key") == "key@1"

    asyncio.run(main())
    assert source.calls == {"key": 1}


def test_a_cancelled_load_without_waiters_is_not_wasted(near, store):
    cache = near("async", store).thing

    async def main():
        inside, go = asyncio.Event(), asyncio.Event()

        async def load():
            inside.set()
            await go.wait()
            return "value"

        task = asyncio.create_task(cache.get_or_load("key", load))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert await asyncio.wait_for(cache.get_or_load("key", lambda: "again"), _HANG) == "value"

    asyncio.run(main())


@pytest.mark.parametrize("rounds", [200])
def test_cancelling_at_any_moment_leaves_no_key_taken(near, store, rounds):
    """A key that stays taken would hang whoever wants it next."""
    cache, source = near("async", store).thing, Source()

    async def main():
        for n in range(rounds):
            key = f"k{n % 5}"
            task = asyncio.create_task(cache.get_or_load(key, source.of("async", key)))
            other = asyncio.create_task(cache.put(key, n))
            for _ in range(n % 17):
                await asyncio.sleep(0)
            task.cancel()
            other.cancel()
            await asyncio.gather(task, other, return_exceptions=True)
            if n % 3 == 0:
                await cache.invalidate(key)
        for n in range(5):
            value = await asyncio.wait_for(cache.get_or_load(f"k{n}", lambda: "end"), _HANG)
            assert value is not None

    asyncio.run(main())


def test_a_loop_that_ends_in_the_middle_of_a_load_takes_nobody_along(near, store):
    cache = near("async", store).thing

    async def left():
        async def load():
            await asyncio.Event().wait()

        task = asyncio.create_task(cache.get_or_load("key", load))
        for _ in range(20):
            await asyncio.sleep(0.001)
        del task

    asyncio.run(left())
    assert cache.as_sync().get_or_load("key", lambda: "value") == "value"


# -- changes during a load -------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_an_invalidation_during_a_load_wins(near, face, shared, where):
    cache, other = near(face, shared), near("sync", shared)
    linked(cache, other)
    forgetter = other if where == "elsewhere" else cache.thing.as_sync()

    def load():
        forgetter.invalidate("key")
        return "old"

    assert cache.get_or_load("key", load) == "old"  # to its own caller at most
    for each in (other, cache):
        assert each.get("key", max_staleness=0) is None
        until(lambda each=each: each.get("key") is None)
    assert cache.get_or_load("key", lambda: "new") == "new"
    assert other.get("key", max_staleness=0) == "new"


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_put_during_a_load_wins(near, face, shared, where):
    cache, other = near(face, shared), near("sync", shared)
    linked(cache, other)
    putter = other if where == "elsewhere" else cache.thing.as_sync()

    def load():
        putter.put("key", "put")
        return "loaded"

    assert cache.get_or_load("key", load) in {"loaded", "put"}
    for each in (other, cache):
        assert each.get("key", max_staleness=0) == "put"
        until(lambda each=each: each.get("key") == "put")


def test_who_comes_after_an_invalidation_does_not_get_the_load_begun_before(near, store):
    cache = near("sync", store)
    inside, go = threading.Event(), threading.Event()

    def load():
        inside.set()
        assert go.wait(_HANG)
        return "old"

    results = []
    thread = threading.Thread(target=lambda: results.append(cache.get_or_load("key", load)))
    thread.start()
    try:
        assert inside.wait(_HANG)
        cache.invalidate("key")
        assert cache.get_or_load("key", lambda: "new") == "new"
    finally:
        go.set()
        thread.join(_HANG)
    assert results == ["old"]
    assert cache.get("key") == cache.get("key", max_staleness=0) == "new"


def test_a_load_longer_than_its_lease_keeps_it(near, face, shared):
    options = Options(lease=0.3)
    one, two = near(face, shared, options=options), near("sync", shared, options=options)
    linked(one, two)
    renewed = threading.Semaphore(0)
    keeper = one._tiers.engine.sharing.keeper
    renew = keeper._renew

    def counting(*arguments):
        renew(*arguments)
        renewed.release()

    keeper._renew = counting
    inside = threading.Event()

    def load():
        inside.set()
        for _ in range(4):  # the lease would have ended by now
            assert renewed.acquire(timeout=_HANG)
        return "one"

    def work(number):
        if number == 0:
            return one.get_or_load("key", load)
        assert inside.wait(_HANG)
        return two.get_or_load("key", lambda: "two")

    assert in_threads(2, work) == ["one", "one"]


def test_a_value_of_a_slow_load_has_its_whole_life_from_when_it_came(near, face, shared):
    cache = begun(near, face, shared)
    assert cache.get_or_load("key", lambda: "value", ttl=30.0) == "value"
    settled(cache, "key")
    left = cache.admin.inspect("key")["seconds_left"]
    assert 25 < left <= 30


def test_missing_is_shared_by_who_waited(near, store):
    cache = near("sync", store)
    inside, go, calls = threading.Event(), threading.Event(), []

    def load():
        calls.append(1)
        inside.set()
        assert go.wait(_HANG)
        return MISSING

    def work(number):
        if number:
            assert inside.wait(_HANG)
            threading.Timer(0.02, go.set).start()
        return cache.get_or_load("key", load)

    assert in_threads(3, work) == [MISSING] * 3
