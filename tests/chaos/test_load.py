"""More work than can be done at once: nobody starves, nothing piles up, nothing is left over."""

import asyncio
import gc
import threading
from collections import Counter

import pytest

from embedders import until
from nearcache import AsyncNearCache, NearCache, Options
from nearcache.errors import LoadTimeout
from soak.mixed import Load, held_now


class Rounds:
    """How many rounds each of many tasks has done; ``widest`` is the greatest lead ever."""

    def __init__(self, tasks):
        self.done = [0] * tasks
        self.at = Counter({0: tasks})
        self.widest = 0

    def ended(self, task):
        self.at[self.done[task]] -= 1
        self.done[task] += 1
        self.at[self.done[task]] += 1
        present = [number for number, tasks in self.at.items() if tasks]
        self.widest = max(self.widest, max(present) - min(present))


@pytest.mark.parametrize("where, tasks", [(None, 10_000), ("sqlite", 300)])
def test_no_task_starves_among_many(tmp_path, where, tasks):
    store = where and f"sqlite:///{tmp_path}/x.db"

    async def main():
        rounds = Rounds(tasks)
        async with AsyncNearCache(store, namespace="n", max_entries=10**6, ttl=None) as cache:

            async def work(number):
                for turn in range(2):
                    key = f"{number}-{turn}"

                    async def load(key=key):
                        await asyncio.sleep(0)
                        return key

                    assert await cache.get_or_load(key, load) == key
                    rounds.ended(number)

            await asyncio.gather(*map(work, range(tasks)))
        assert rounds.done == [2] * tasks
        assert rounds.widest <= 1

    asyncio.run(main())


def test_ten_thousand_tasks_that_want_one_key_wait_for_one_load():
    async def main():
        go, loads = asyncio.Event(), []

        async def load():
            loads.append(1)
            await go.wait()
            return "value"

        async with AsyncNearCache(namespace="n") as cache:
            callers = [asyncio.create_task(cache.get_or_load("key", load)) for _ in range(10_000)]
            while not loads:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            go.set()
            assert set(await asyncio.gather(*callers)) == {"value"}
        assert len(loads) == 1

    asyncio.run(main())


def test_loads_that_are_given_up_on_do_not_pile_up_behind_a_loader_that_hangs():
    options = Options(loader_timeout=0.01, max_concurrency=2)
    gate, begun = threading.Event(), []

    def hang():
        begun.append(1)
        gate.wait(30)
        return "late"

    with NearCache(namespace="n", options=options) as cache:
        threads = threading.active_count()
        for number in range(200):
            with pytest.raises(LoadTimeout):
                cache.get_or_load(f"key {number}", hang)
        assert len(begun) <= 100
        assert threading.active_count() - threads <= 100
        gate.set()
        until(lambda: cache.get("key 0") == "late")  # what had begun is kept
        calm = Options(loader_timeout=20.0)
        assert cache.get_or_load("key 199", lambda: "new", options=calm) == "new"


def test_loads_that_hang_keep_no_thread_from_others():
    options = Options(loader_timeout=0.05, max_concurrency=2)
    gate = threading.Event()
    with NearCache(namespace="n", options=options) as cache:
        for number in range(50):
            with pytest.raises(LoadTimeout):
                cache.get_or_load(f"key {number}", lambda: gate.wait(30))
        calm = Options(loader_timeout=20.0)
        assert cache.get_or_load("other", lambda: "well", options=calm) == "well"
        gate.set()


def test_callers_that_give_up_leave_a_bounded_number_of_loads():
    async def main():
        never, running = asyncio.Event(), set()

        async def hang(number):
            running.add(number)
            try:
                await never.wait()
            finally:
                running.discard(number)

        async with AsyncNearCache(namespace="n") as cache:
            for at in range(0, 500, 50):
                callers = [
                    asyncio.create_task(cache.get_or_load(f"key {n}", lambda n=n: hang(n)))
                    for n in range(at, at + 50)
                ]
                while len(running) < min(at, 100) + 50:
                    await asyncio.sleep(0)
                for caller in callers:
                    caller.cancel()
                await asyncio.gather(*callers, return_exceptions=True)
                while len(running) > 100:
                    await asyncio.sleep(0)
            assert len(running) == 100
            never.set()
            while running:
                await asyncio.sleep(0)

    asyncio.run(main())


def test_a_large_group_is_forgotten_without_a_look_at_its_members():
    """Forgetting is one change of a token; who was forgotten leaves when it is met."""
    with NearCache(namespace="n", max_entries=10**6, ttl=None) as cache:
        for at in range(0, 20_000, 5000):
            cache.put_batch({f"key {n}": n for n in range(at, at + 5000)}, tags=["large"])
        cache.put("other", 1)
        evictions = cache.get_stats().evictions
        cache.invalidate_by_tag("large")
        assert cache.size == 20_001
        assert cache.get_stats().evictions == evictions
        assert cache.get("key 5") is None
        assert cache.get("other") == 1


def test_after_a_mixed_load_nothing_is_left(tmp_path, one_server):
    """The long form is `make soak`."""
    gc.collect()
    before = held_now(None)
    load = Load([one_server.url, f"sqlite:///{tmp_path}/x.db"], 8 * 2**20)
    load.fill()
    load.run(3.0, lambda *_: None)
    assert load.counts["wrong"] == 0
    assert load.counts["raised"] == 0
    until(lambda: not sum(len(engine.flights) for engine in load.engines))
    ports = [cache._tiers.async_io for cache in (*load.values, *load.rows)]
    until(lambda: not any(port._tasks or port._left for port in ports))
    for engine in load.engines:
        engine.check()
        assert engine.near.used_bytes <= 2 * 2**20
    load.close()
    until(lambda: held_now(None).threads <= before.threads)

    def files():
        gc.collect()
        return held_now(None).files <= before.files

    until(files)
