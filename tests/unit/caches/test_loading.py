"""Each missing text reaches the model once, whoever asks, and no caller suffers from another."""

import asyncio
import gc
import threading
from contextlib import suppress

import numpy as np
import pytest

from embedders import AsyncModel, Face, M, Model, in_threads, same, until, vector, vectors
from nearcache import AsyncEmbeddingCache, CacheError, EmbeddingCache, MemoryStore


def hold(model_texts=None):
    """(inside, go, before): a model that waits inside until ``go``, for these texts or all."""
    inside, go = threading.Event(), threading.Event()

    def before(texts):
        if model_texts is None or set(texts) & set(model_texts):
            inside.set()
            assert go.wait(30)

    return inside, go, before


# Once


def test_fifty_threads_and_fifty_tasks_at_once_are_one_call(store):
    cache = EmbeddingCache(store)
    inside, go, before = hold()
    model = Model(before=before)
    embed, async_embed = cache.wrap(model, M), cache.as_async().wrap(model, M)
    rows = []

    async def tasks():
        rows.extend(await asyncio.gather(*(async_embed("text") for _ in range(50))))

    threads = [threading.Thread(target=lambda: rows.append(embed("text"))) for _ in range(50)]
    threads.append(threading.Thread(target=asyncio.run, args=(tasks(),)))
    for thread in threads:
        thread.start()
    assert inside.wait(30)
    go.set()
    for thread in threads:
        thread.join(30)
    cache.close()
    assert len(rows) == 100
    assert all(same(row, vector("text")) for row in rows)
    assert model.times == {"text": 1}


def test_overlapping_batches_share_what_they_have_in_common(make, face, store):
    cache, model = make(face, store), Model()
    embed = cache.wrap(model, M, max_batch=3)
    batches = [[f"t{n}" for n in range(start, start + 20)] for start in range(0, 40, 5)]
    rows = in_threads(8, lambda n: embed(batches[n]))
    for texts, got in zip(batches, rows, strict=True):
        assert same(got, vectors(texts))
    assert set(model.times.values()) == {1}
    assert len(model.times) == 55


def test_opposite_orders_do_not_wait_for_each_other_for_ever(make, face, store):
    cache, model = make(face, store), Model()
    embed = cache.wrap(model, M, max_batch=1, max_concurrency=4)
    texts = [f"t{n}" for n in range(20)]
    rows = in_threads(4, lambda n: embed(texts if n % 2 else texts[::-1]))
    for number, got in enumerate(rows):
        assert same(got, vectors(texts if number % 2 else texts[::-1]))
    assert model.times == dict.fromkeys(texts, 1)


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_a_call_of_the_model_has_at_most_max_batch_texts(make, face, store, count):
    cache, model = make(face, store), Model()
    texts = [f"t{n}" for n in range(count)]
    assert same(cache.wrap(model, M, max_batch=4)(texts), vectors(texts))
    assert max(len(call) for call in model.calls) <= 4
    assert len(model.calls) == -(-count // 4)
    assert model.times == dict.fromkeys(texts, 1)


def test_a_sync_model_is_entered_by_one_thread_at_a_time(make, face, store):
    cache, model = make(face, store), Model()
    embed = cache.wrap(model, M, max_batch=1)
    in_threads(8, lambda n: embed([f"{n}/{k}" for k in range(4)]))
    assert model.most_inside == 1


@pytest.mark.parametrize(
    "face, make_model", [("sync", Model), ("async", Model), ("sync", AsyncModel)]
)
def test_max_concurrency_bounds_all_callers_together(make, face, make_model):
    model = make_model()
    embed = make(face).wrap(model, M, max_batch=1, max_concurrency=2)
    in_threads(8, lambda n: embed([f"{n}/{k}" for k in range(6)]))
    assert model.most_inside <= 2
    assert len(model.calls) == 48


def test_max_concurrency_bounds_the_tasks_of_a_loop():
    model = AsyncModel()
    embed = AsyncEmbeddingCache().wrap(model, M, max_concurrency=2)

    async def main():
        await asyncio.gather(*(embed(f"t{n}") for n in range(20)))

    asyncio.run(main())
    assert model.most_inside == 2


def test_a_waiters_row_is_not_what_the_owner_of_the_load_made_of_its_own():
    cache = EmbeddingCache()
    first, go_first, wait_first = hold(["slow"])
    second, go_second, wait_second = hold(["fast"])
    model = Model(before=lambda texts: (wait_first(texts), wait_second(texts)))
    embed = cache.wrap(model, M, max_concurrency=2)
    got = {}

    def owner():
        rows = embed(["fast"])
        rows *= 0  # a caller's result is its own to change

    slow = threading.Thread(target=embed, args=(["slow"],))
    fast = threading.Thread(target=owner)
    waiter = threading.Thread(target=lambda: got.update(rows=embed(["slow", "fast"])))
    slow.start()
    fast.start()
    assert first.wait(30)
    assert second.wait(30)
    flights = cache._tiers.engine.flights
    waiter.start()
    until(lambda: any(flight._waiters for flight in list(flights._flights.values())))
    go_second.set()
    fast.join(30)
    go_first.set()
    waiter.join(30)
    slow.join(30)
    assert same(got["rows"], vectors(["slow", "fast"]))


def test_chunks_that_arrive_at_once_do_not_lose_each_others_rows(monkeypatch):
    """Each chunk's thread finds no matrix yet, makes one, and would write into its own."""
    barrier = threading.Barrier(4)

    async def model(texts):
        await asyncio.get_running_loop().run_in_executor(None, barrier.wait, 20)
        return vectors(texts)

    for _ in range(50):
        texts = ["a", "b", "c", "d"]
        embed = EmbeddingCache().wrap(model, M, max_batch=1, max_concurrency=4)
        assert same(embed(texts), vectors(texts))


# Errors


class Flop(Exception):
    """What a provider raises."""


def test_the_models_exception_passes_unchanged(make, face, store):
    error = Flop("quota")

    def fail(texts):
        raise error

    cache = make(face, store)
    with pytest.raises(Flop) as caught:
        cache.wrap(fail, M)(["a", "b"])
    assert caught.value is error


def test_what_was_embedded_before_the_error_is_kept(make, face, store):
    def fail(texts):
        if "c" in texts:
            raise Flop

    cache, model = make(face, store), Model(before=fail)
    embed = cache.wrap(model, M, max_batch=2)
    with pytest.raises(Flop):
        embed(["a", "b", "c", "d"])
    rows, found = cache.get_batch(["a", "b", "c", "d"], M)
    assert found.tolist() == [True, True, False, False]
    assert same(rows[:2], vectors(["a", "b"]))
    model.before = None
    embed(["a", "b", "c", "d"])
    assert model.times == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_what_a_model_of_single_texts_gave_before_its_error_is_kept(make, face, store):
    class Single:
        def generate(self, text):
            if text == "c":
                raise Flop
            return vector(text)

    cache = make(face, store)
    with pytest.raises(Flop):
        cache.wrap(Single(), M)(["a", "b", "c", "d"])
    assert cache.get_batch(["a", "b", "c", "d"], M)[1].tolist() == [True, True, False, False]


def test_an_error_is_not_cached(make, face, store):
    failures = [Flop()]

    def fail(texts):
        if failures:
            raise failures.pop()

    embed = make(face, store).wrap(Model(before=fail), M)
    with pytest.raises(Flop):
        embed("text")
    assert same(embed("text"), vector("text"))


def test_identical_callers_share_the_error_and_the_call():
    cache = EmbeddingCache()
    inside, go, wait = hold()

    def fail(texts):
        wait(texts)
        raise Flop

    model = Model(before=fail)
    embed = cache.wrap(model, M)
    threads_results = []

    def ask():
        try:
            embed(["a", "b"])
        except Flop as error:
            threads_results.append(error)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert inside.wait(30)
    (flight,) = set(cache._tiers.engine.flights._flights.values())
    until(lambda: len(flight._waiters) == 4)
    go.set()
    for thread in threads:
        thread.join(30)
    assert len(threads_results) == 5
    assert len(set(map(id, threads_results))) == 1
    assert len(model.calls) == 1


def test_a_neighbours_error_is_not_inherited():
    """Whoever shares a text with a failing batch would have been answered without the cache."""
    cache = EmbeddingCache()
    inside, go, wait = hold(["poison"])

    def fail(texts):
        wait(texts)
        if "poison" in texts:
            raise Flop

    model = Model(before=fail)
    embed = cache.wrap(model, M, max_concurrency=2)
    failed, got = [], []

    def poisoned():
        with pytest.raises(Flop):
            embed(["good", "poison"])
        failed.append(True)

    one = threading.Thread(target=poisoned)
    one.start()
    assert inside.wait(30)
    two = threading.Thread(target=lambda: got.append(embed(["good"])))
    two.start()
    (flight,) = set(cache._tiers.engine.flights._flights.values())
    until(lambda: flight._waiters)
    go.set()
    one.join(30)
    two.join(30)
    assert failed
    assert same(got[0], vectors(["good"]))


# Cancellation and loops


def test_a_cancelled_caller_hurts_no_waiter_and_its_load_is_kept(store):
    async def main():
        cache = AsyncEmbeddingCache(store)
        go, inside = asyncio.Event(), asyncio.Event()

        async def before(texts):
            inside.set()
            await go.wait()

        model = AsyncModel(before=before)
        embed = cache.wrap(model, M)
        first = asyncio.create_task(embed("text"))
        await inside.wait()
        second = asyncio.create_task(embed("text"))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert same(await second, vector("text"))
        assert same(await cache.get("text", M), vector("text"))
        assert len(model.calls) == 1
        await cache.close()

    asyncio.run(main())


def test_the_load_of_a_caller_that_was_cancelled_alone_is_kept(store):
    async def main():
        cache = AsyncEmbeddingCache(store)
        go, inside = asyncio.Event(), asyncio.Event()

        async def before(texts):
            inside.set()
            await go.wait()

        model = AsyncModel(before=before)
        only = asyncio.create_task(cache.wrap(model, M)("text"))
        await inside.wait()
        only.cancel()
        with pytest.raises(asyncio.CancelledError):
            await only
        go.set()
        model.before = None
        assert same(await cache.wrap(model, M)("text"), vector("text"))
        assert len(model.calls) == 1
        await cache.close()

    asyncio.run(main())


def test_every_way_to_be_cancelled_leaves_no_flight_behind(store):
    """Cancel a call after each number of loop steps it may take."""

    async def main():
        cache = AsyncEmbeddingCache(store)
        embed = cache.wrap(AsyncModel(), M, max_batch=1, max_concurrency=2)
        for steps in range(40):
            texts = [f"{steps}/{n}" for n in range(4)]
            task = asyncio.create_task(embed(texts))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert same(await embed(texts), vectors(texts))
        await cache.close()

    asyncio.run(main())


def test_a_sync_call_on_the_loop_where_the_load_runs_does_not_deadlock():
    async def main():
        cache = AsyncEmbeddingCache()
        go, inside = asyncio.Event(), asyncio.Event()

        async def before(texts):
            inside.set()
            await go.wait()

        waiting = asyncio.create_task(cache.wrap(AsyncModel(before=before), M)("text"))
        await inside.wait()
        alone = Model()
        assert same(cache.as_sync().wrap(alone, M)("text"), vector("text"))
        assert len(alone.calls) == 1
        go.set()
        assert same(await waiting, vector("text"))
        await cache.close()

    asyncio.run(main())


def test_a_loop_that_ends_in_the_middle_of_a_load_strands_nobody(store):
    cache = EmbeddingCache(store)
    inside = threading.Event()

    async def stuck(texts):
        inside.set()
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(cache.as_async().wrap(stuck, M)("text"))
        await asyncio.to_thread(inside.wait, 30)
        task.cancel()

    asyncio.run(main())  # ends, and cancels what is left
    assert same(cache.wrap(Model(), M)("text"), vector("text"))
    cache.close()


def test_a_loop_closed_under_a_load_strands_nobody():
    cache = EmbeddingCache()
    inside = threading.Event()

    async def stuck(texts):
        inside.set()
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.as_async().wrap(stuck, M)("text"))

    async def until_inside():
        await asyncio.to_thread(inside.wait, 30)

    loop.run_until_complete(until_inside())
    waiter_rows = []
    waiter = threading.Thread(target=lambda: waiter_rows.append(cache.wrap(Model(), M)("text")))
    waiter.start()
    (flight,) = set(cache._tiers.engine.flights._flights.values())
    until(lambda: flight._waiters)
    task._log_destroy_pending = False  # what happens to it is what is tested
    for one in asyncio.all_tasks(loop):
        one._log_destroy_pending = False
    loop.close()
    waiter.join(30)
    assert same(waiter_rows[0], vector("text"))
    task = one = None
    gc.collect()  # what is left of the load complains here, if it does


# Models that come back


@pytest.mark.parametrize("max_concurrency", [None, 2])
def test_a_model_that_asks_the_cache_for_the_same_text_does_not_deadlock(
    make, face, store, max_concurrency
):
    cache = make(face, store)
    depth = []

    def model(texts):
        if len(depth) < 3:
            depth.append(1)
            assert same(embed(texts), vectors(texts))
        return vectors(texts)

    embed = cache.wrap(model, M, max_concurrency=max_concurrency)
    assert same(embed(["text"]), vectors(["text"]))
    assert len(depth) == 3


def test_two_calls_that_both_come_back_do_not_wait_for_each_others_turn(make):
    local, barrier = threading.local(), threading.Barrier(2)

    def model(texts):
        if not getattr(local, "inside", False):
            local.inside = True
            barrier.wait(20)
            embed(texts)
        return vectors(texts)

    embed = make("sync").wrap(model, M, max_concurrency=2, max_batch=1)
    in_threads(2, lambda n: embed([f"t{n}"]))


def test_a_model_may_ask_the_cache_for_another_model(make, face, store):
    cache, inner = make(face, store), Model(16)
    inner_embed = cache.wrap(inner, "inner")

    def model(texts):
        return inner_embed(texts)[:, :8]

    assert same(cache.wrap(model, "outer")(["a"]), vectors(["a"], 16)[:, :8])
    assert same(cache.get("a", "inner"), vector("a", 16))


def test_an_async_model_that_asks_the_cache_for_the_same_text_does_not_deadlock(store):
    async def main():
        cache, depth = AsyncEmbeddingCache(store), []

        async def model(texts):
            if len(depth) < 3:
                depth.append(1)
                await embed(texts)
            return vectors(texts)

        embed = cache.wrap(model, M, max_concurrency=1)
        assert same(await asyncio.wait_for(embed(["text"]), 20), vectors(["text"]))
        await cache.close()

    asyncio.run(main())


# Forgetting in the middle


def test_a_put_during_a_load_stands(make, face, store):
    cache = make(face, store)
    model = Model(before=lambda texts: cache.put("text", vector("put"), M))
    cache.wrap(model, M)("text")
    assert same(cache.get("text", M), vector("put"))
    assert same(make(face, store).get("text", M), vector("put")) or store is None


def test_who_loses_a_race_between_processes_takes_the_winners_bits(make, face, shared):
    ours, theirs = make(face, shared), make(face, shared)
    model = Model(before=lambda texts: theirs.put("text", vector("first"), M))
    ours.wrap(model, M)("text")
    assert same(ours.get("text", M), vector("first"))


def test_another_dimension_after_forgetting_in_the_middle_of_a_call(make, face, store):
    cache = make(face, store)
    cache.put("a", vector("a", 4), M)

    def forget(texts):
        cache.invalidate_by_model(M)

    embed = cache.wrap(Model(8, before=forget), M)
    with suppress(CacheError):  # or it starts anew
        assert same(embed(["a", "b"]), vectors(["a", "b"], 8))
    assert same(embed(["a", "b"]), vectors(["a", "b"], 8))


def test_two_threads_that_wait_for_a_cancelled_owner_load_once():
    cache = EmbeddingCache(MemoryStore())
    model = Model()

    async def main():
        go = asyncio.Event()

        async def stuck(texts):
            await go.wait()
            return np.ones((1, 8))

        task = asyncio.create_task(cache.as_async().wrap(stuck, M)("text"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    embed = Face(cache).wrap(model, M)
    rows = in_threads(2, lambda _: embed("text"))
    cache.close()
    assert all(same(row, vector("text")) for row in rows)
    assert model.times == {"text": 1}
