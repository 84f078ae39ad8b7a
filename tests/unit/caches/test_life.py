"""Both faces, expiry, precision, pickling, printing, forking, closing."""

import asyncio
import copy
import os
import pickle
import select
import signal
import threading
from contextlib import suppress

import numpy as np
import pytest

from embedders import M, ManualClock, Model, cache_with_clock, same, until, vector, vectors
from nearcache import (
    AsyncEmbeddingCache,
    EmbeddingCache,
    EmbeddingModel,
    MemoryStore,
    Options,
    RedisStore,
)

# Two faces of one cache


def test_the_faces_share_near_store_and_stats(store):
    cache = EmbeddingCache(store)
    other = cache.as_async()
    cache.put("text", vector("text"), M)
    assert same(asyncio.run(other.get("text", M)), vector("text"))
    assert cache.get_stats() == other.get_stats()
    assert cache.get_stats().near_hits == 1
    asyncio.run(other.invalidate("text", M))
    assert cache.get("text", M) is None
    back = other.as_sync().as_async().as_sync()
    asyncio.run(other.put("text", vector("text"), M))
    assert same(back.get("text", M), vector("text"))
    cache.close()


def test_a_face_of_its_own_kind_is_the_cache_itself():
    cache, other = EmbeddingCache(), AsyncEmbeddingCache()
    assert cache.as_sync() is cache
    assert other.as_async() is other


def test_the_async_face_has_every_name_of_the_blocking_one():
    def names(cls):
        return {name for name in dir(cls) if not name.startswith("_")} - {"blocking_twin"}

    assert names(EmbeddingCache) <= names(AsyncEmbeddingCache)


# Expiry


def test_an_entry_ends_after_its_ttl_and_not_before():
    clock = ManualClock()
    cache = cache_with_clock(clock, MemoryStore(clock=clock), ttl=10.0)
    cache.put("text", vector("text"), M)
    cache.put("longer", vector("longer"), M, ttl=20)
    cache.put("for ever", vector("for ever"), M, ttl=None)
    clock.advance(9.999)
    assert cache.get("text", M) is not None
    clock.advance(0.001)
    assert cache.get("text", M) is None
    clock.advance(9.999)
    assert cache.get("longer", M) is not None
    clock.advance(1e9)
    assert cache.get("longer", M) is None
    assert cache.get("for ever", M) is not None


def test_a_loaded_entry_has_the_caches_ttl():
    clock = ManualClock()
    cache = cache_with_clock(clock, MemoryStore(clock=clock), ttl=10.0)
    model = Model()
    embed = cache.wrap(model, M)
    embed("text")
    clock.advance(10)
    embed("text")
    assert model.times == {"text": 2}


def test_an_infinite_ttl_is_no_limit(make, face, store):
    cache = make(face, store)
    cache.put("text", vector("text"), M, ttl=float("inf"))
    assert cache.admin.inspect("text", M)["seconds_left"] is None


def test_a_new_put_has_a_new_life():
    clock = ManualClock()
    cache = cache_with_clock(clock, MemoryStore(clock=clock))
    cache.put("text", vector("text"), M, ttl=10)
    clock.advance(9)
    cache.put("text", vector("text"), M, ttl=10)
    clock.advance(9)
    assert cache.get("text", M) is not None


def test_clean_up_drops_what_has_expired_and_nothing_else():
    clock = ManualClock()
    cache = cache_with_clock(clock)
    cache.put_batch(["a", "b"], vectors(["a", "b"]), M, ttl=1)
    cache.put("c", vector("c"), M)
    clock.advance(1)
    assert cache.cleanup_expired() == 2
    assert cache.cleanup_expired() == 0
    assert cache.size == 1
    assert cache.get_stats().expirations == 2


@pytest.mark.parametrize("load", [False, True], ids=["put", "loaded"])
def test_jitter_spreads_the_ends_of_a_batch(load):
    cache = cache_with_clock(ManualClock(), ttl=100.0, options=Options(jitter=0.5))
    texts = [f"t{n}" for n in range(200)]
    if load:
        cache.wrap(Model(), M)(texts)
    else:
        cache.put_batch(texts, vectors(texts), M)
    lives = [cache.admin.inspect(text, M)["seconds_left"] for text in texts]
    assert 50 <= min(lives) < 60
    assert 90 < max(lives) <= 100


def test_near_and_store_end_together_under_jitter():
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    cache = cache_with_clock(clock, store, ttl=100.0, options=Options(jitter=0.5))
    other = cache_with_clock(clock, store)
    texts = [f"t{n}" for n in range(50)]
    cache.put_batch(texts, vectors(texts), M)
    other.get_batch(texts, M)
    for text in texts:
        here = cache.admin.inspect(text, M)["seconds_left"]
        assert here == pytest.approx(other.admin.inspect(text, M)["seconds_left"])


# Precision

PRECISIONS = ["float32", "float16", "int8"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_hit_or_miss_a_caller_gets_the_same_bits(make, face, store, precision):
    cache = make(face, store, precision=precision)
    embed = cache.wrap(Model(64), M)
    texts = ["a", "b", "c"]
    loaded = embed(texts)
    assert np.allclose(loaded, vectors(texts, 64), atol=0.01)
    again = make(face, store, precision=precision) if store is not None else cache
    for rows in (embed(texts), again.get_batch(texts, M)[0], again.get_batch(texts, M)[0]):
        assert same(rows, loaded)
    assert same(again.get("a", M), loaded[0])
    assert same(again.get_by_hash(again.hash_content("a"), M), loaded[0])
    put = make(face, store, precision=precision, namespace="put")
    put.put_batch(texts, vectors(texts, 64), M)
    assert same(put.get_batch(texts, M)[0], loaded)


@pytest.mark.parametrize(
    "stored, wanted", [("int8", "float32"), ("float16", "float32"), ("int8", "float16")]
)
def test_a_stored_value_that_is_narrower_is_a_miss(make, face, shared, stored, wanted):
    make(face, shared, precision=stored).put("text", vector("text"), M)
    cache, model = make(face, shared, precision=wanted), Model()
    assert cache.get("text", M) is None
    row = cache.wrap(model, M)("text")
    assert len(model.calls) == 1
    assert same(make(face, shared, precision=wanted).get("text", M), row)  # and replaced


@pytest.mark.parametrize(
    "stored, wanted", [("float32", "int8"), ("float32", "float16"), ("float16", "int8")]
)
def test_a_stored_value_that_is_wider_is_narrowed(make, face, shared, stored, wanted):
    make(face, shared, precision=stored).put("text", vector("text"), M)
    narrow = make(face, shared, precision=wanted)
    alone = make(face, None, precision=wanted)
    alone.put("text", vector("text"), M)
    got = narrow.get("text", M)
    assert np.allclose(got, alone.get("text", M), atol=0.01)
    assert same(narrow.get("text", M), got)
    assert narrow.get_stats().corrupt == 0


def test_what_float16_cannot_hold_is_refused_not_made_infinite(make, face, store):
    from nearcache import CodecError, LoaderError

    cache = make(face, store, precision="float16")
    with pytest.raises(CodecError, match="float16"):
        cache.put("text", [1.0, 70_000.0], M)
    with pytest.raises(LoaderError, match="float16"):
        cache.wrap(lambda texts: [[1.0, 70_000.0]], M)("text")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_of_zeros_stays_one(make, face, store, precision):
    cache = make(face, store, precision=precision)
    cache.put("text", np.zeros(8), M)
    assert same(cache.get("text", M), np.zeros(8, np.float32))


# Pickling and printing


def test_a_pickled_cache_finds_the_same_store(tmp_path, one_server):
    for url in (f"sqlite:///{tmp_path}/x.db", one_server.url):
        for cls in (EmbeddingCache, AsyncEmbeddingCache):
            cache = cls(url, namespace="n", ttl=5.0, options=Options(max_batch=7))
            cache.as_sync().put("text", vector("text"), M)
            twin = pickle.loads(pickle.dumps(cache))
            assert type(twin) is cls
            assert twin.options == cache.options
            assert same(twin.as_sync().get("text", M), vector("text"))
            twin.as_sync().close()
            cache.as_sync().close()


def test_a_pickled_view_is_the_same_view(tmp_path):
    cache = EmbeddingCache(f"sqlite:///{tmp_path}/x.db")
    view = cache.view("a").view("b")
    view.put("text", vector("text"), M)
    twin = pickle.loads(pickle.dumps(view))
    assert same(twin.get("text", M), vector("text"))
    twin.close()
    cache.close()


def test_a_store_object_travels_with_its_options():
    store = pickle.loads(pickle.dumps(RedisStore("redis://:s3cret@host:1/2", timeout=7.0)))
    assert store.patience() == 7.0


def test_what_cannot_travel_says_so(one_server):
    with one_server.client() as client:
        for store in (MemoryStore(), RedisStore(client)):
            with pytest.raises(TypeError):
                pickle.dumps(EmbeddingCache(store))


def test_a_model_travels_and_stays_itself():
    model = EmbeddingModel("m", dimensions=3, params={"a": [1, {"b": None}]})
    for twin in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)):
        assert twin == model
        assert hash(twin) == hash(model)
        assert twin.identity == model.identity


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@host:6379/1",
        "redis://:s3cret@host",
        "valkey://host?password=s3cret",
        "rediss://u:s3cret%40x@host",
        "unix://:s3cret@/tmp/socket",
    ],
)
def test_no_repr_shows_the_password(url):
    cache = EmbeddingCache(url)
    for thing in (cache, cache.as_async(), cache._tiers.engine.store, cache.view("x")):
        assert "s3cret" not in repr(thing)
        assert "s3cret" not in str(thing)
    assert "host" in repr(cache) or "socket" in repr(cache)


# Closing


def test_with_and_async_with_close(store):
    with EmbeddingCache(store) as cache:
        cache.put("text", vector("text"), M)

    async def main():
        async with AsyncEmbeddingCache(store) as other:
            await other.put("text", vector("text"), M)
            return other

    assert cache._tiers.engine.closed
    assert asyncio.run(main())._tiers.engine.closed


def test_a_store_object_outlives_the_caches_it_serves(tmp_path):
    from nearcache import SQLiteStore

    store = SQLiteStore(tmp_path / "x.db")
    with EmbeddingCache(store) as cache:
        cache.put("text", vector("text"), M)
    with EmbeddingCache(store) as cache:
        assert same(cache.get("text", M), vector("text"))
    store.close()


def test_a_load_under_way_when_the_cache_closes_is_answered(store):
    cache = EmbeddingCache(store)
    model = Model(before=lambda texts: cache.close())
    assert same(cache.wrap(model, M)("text"), vector("text"))


def test_a_restart_pays_for_nothing(make, face, tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    texts = [f"t{n}" for n in range(300)]
    model = Model()
    for _ in range(3):
        cache = make(face, url)
        assert same(cache.wrap(model, M)(texts), vectors(texts))
        cache.close()
    assert model.times == dict.fromkeys(texts, 1)


# Events


def test_a_subscriber_that_raises_is_not_felt(make, face, store, caplog):
    cache = make(face, store)
    heard = []

    def callback(*event):
        heard.append(event[0])
        raise RuntimeError("not my day")

    stop = cache.subscribe(callback)
    embed = cache.wrap(Model(), M)
    embed("text")
    embed("text")
    cache.invalidate("text", M)
    assert {"load", "hit", "invalidate"} <= set(heard)
    count = len(heard)
    stop()
    embed("text")
    assert len(heard) == count
    assert "subscriber" in caplog.text


# Forking


def in_child(work) -> bytes:
    """Run ``work`` in a forked child; return what it returned, b"" if it hung or raised."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # whatever happens here, pytest must not run in this process
        with suppress(BaseException):
            os.write(write, work())
        os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], 20)
        return os.read(read, 1000) if ready else b""
    finally:
        os.close(read)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_and_its_parent_go_on_with_their_own_connections(store):
    cache, model = EmbeddingCache(store), Model()
    embed = cache.wrap(model, M)
    embed(["before"])

    def child():
        rows = embed(["before", "child"])
        cache.put("put by child", vector("put by child"), M)
        return b"good" if same(rows, vectors(["before", "child"])) else b"bad"

    assert in_child(child) == b"good"
    assert same(embed(["before", "parent"]), vectors(["before", "parent"]))
    if store is not None and not isinstance(store, MemoryStore):
        model.calls.clear()
        assert same(embed(["child"]), vectors(["child"]))
        assert same(cache.get("put by child", M), vector("put by child"))
        assert model.calls == []
    cache.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_load_can_load():
    cache = EmbeddingCache()
    inside, go = threading.Event(), threading.Event()

    def wait(texts):
        if "slow" in texts:
            inside.set()
            assert go.wait(30)

    embed = cache.wrap(Model(before=wait), M)
    thread = threading.Thread(target=embed, args=(["slow"],))
    thread.start()
    assert inside.wait(30)
    got = in_child(lambda: embed(["quick"]).tobytes())
    go.set()
    thread.join(30)
    assert got == vectors(["quick"]).tobytes()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_hears_what_its_parent_forgets(one_server):
    cache = EmbeddingCache(one_server.url, options=Options(link_timeout=0.0))
    cache.put("text", vector("text"), M)
    forgotten, child_ready = os.pipe(), os.pipe()

    def child():
        assert cache.get("text", M) is not None
        os.write(child_ready[1], b"x")
        os.read(forgotten[0], 1)
        return b"gone" if cache.get("text", M) is None else b"there"

    def parent():
        os.read(child_ready[0], 1)
        cache.invalidate("text", M)
        os.write(forgotten[1], b"x")

    # the child is forked here, the parent's part runs beside the wait for it
    answer = []
    thread = threading.Thread(target=parent)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            os.write(write, child())
        os._exit(0)
    thread.start()
    ready, _, _ = select.select([read], [], [], 20)
    answer.append(os.read(read, 100) if ready else b"")
    thread.join(20)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for end in (*forgotten, *child_ready, read, write):
        os.close(end)
    cache.close()
    assert answer == [b"gone"]


def test_nothing_runs_on_after_close(store):
    before = set(threading.enumerate())
    cache = EmbeddingCache(store)
    cache.wrap(Model(), M)(["a"])
    asyncio.run(cache.as_async().wrap(Model(), M)(["b"]))
    cache.close()
    until(lambda: not [t for t in set(threading.enumerate()) - before if not t.daemon])
