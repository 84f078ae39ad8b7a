"""Seed defects 28 to 35: what a call may cost, counted at the model and at the server."""

import socket
import threading

import pytest

from embedders import M, ManualClock, Model, cache_with_clock, in_threads, same, vector, vectors
from nearcache import LoaderError, Options


def test_28_fifty_identical_misses_are_one_call(make, face, store):
    cache, model = make(face, store), Model()
    embed = cache.wrap(model, M)
    for row in in_threads(50, lambda _: embed("text")):
        assert same(row, vector("text"))
    assert model.times == {"text": 1}


def test_29_duplicates_in_a_batch_reach_the_model_once(make, face, store):
    cache, model = make(face, store), Model()
    texts = ["a", "b", "a", "c", "b", "a"]
    assert same(cache.wrap(model, M)(texts), vectors(texts))
    assert model.calls == [["a", "b", "c"]]


def work(counts):
    """What a user's call cost: commands, without the connection's own and those inside scripts."""
    own = ("hello", "client|setinfo", "client|setname", "select", "ping", "time", "script|load")
    return {name: count for name, count in counts.items() if name not in own}


TEXTS = [f"text {n}" for n in range(100)]


def test_30_a_batch_of_a_hundred_is_read_with_one_command(make, face, redis_server):
    make(face, redis_server.url).put_batch(TEXTS, vectors(TEXTS), M)
    cache = make(face, redis_server.url, max_entries=0)
    cache.get_batch(TEXTS, M)
    redis_server.reset_counts()
    assert same(cache.get_batch(TEXTS, M)[0], vectors(TEXTS))
    assert work(redis_server.command_counts()) == {"mget": 1}


def test_30_a_batch_of_a_hundred_is_written_with_one_script(make, face, redis_server):
    cache = make(face, redis_server.url)
    cache.put("warm up", vector("warm up"), M)
    redis_server.reset_counts()
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    counts = work(redis_server.command_counts())
    assert counts["evalsha"] == 1
    assert counts["mget"] <= 1  # the epochs


def test_30_a_hundred_misses_are_one_lease_and_one_fill(make, face, redis_server):
    cache = make(face, redis_server.url)
    embed = cache.wrap(Model(), M)
    embed("warm up")
    redis_server.reset_counts()
    embed(TEXTS)
    counts = work(redis_server.command_counts())
    assert counts["mget"] == 1
    assert counts["evalsha"] == 2
    assert counts.get("eval", 0) == 0


def test_31_a_model_without_a_batch_method_gets_one_text_a_call(make, face, store):
    calls = []

    class Single:
        def generate(self, text):
            calls.append(text)
            return vector(text)

    cache = make(face, store)
    embed = cache.wrap(Single(), M)
    assert same(embed(["a", "b", "a"]), vectors(["a", "b", "a"]))
    assert calls == ["a", "b"]


def test_31_calls_of_an_async_model_overlap(make, face):
    barrier = threading.Barrier(4)  # passed only when four calls are inside at once

    async def model(texts):
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, barrier.wait, 20)
        return vectors(texts)

    texts = ["a", "b", "c", "d"]
    embed = make(face).wrap(model, M, max_batch=1, max_concurrency=4)
    assert same(embed(texts), vectors(texts))


@pytest.fixture
def dead_port():
    """A port where every connection is refused, and how often it was tried cannot be seen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]  # bound, never listening


def test_32_a_dead_server_is_not_asked_by_every_call(make, face, dead_port, monkeypatch):
    import redis

    tries = []
    connect = redis.Connection.connect
    monkeypatch.setattr(
        redis.Connection, "connect", lambda self: (tries.append(1), connect(self))[1]
    )
    cache, model = make(face, f"redis://127.0.0.1:{dead_port}"), Model()
    embed = cache.wrap(model, M)
    for number in range(50):
        assert same(embed(f"text {number}"), vector(f"text {number}"))
    assert 1 <= len(tries) <= 10
    assert len(model.calls) == 50


def test_32_near_goes_on_while_the_server_is_dead(make, face, dead_port):
    cache, model = make(face, f"redis://127.0.0.1:{dead_port}"), Model()
    embed = cache.wrap(model, M)
    for _ in range(50):
        assert same(embed("text"), vector("text"))
    assert len(model.calls) == 1


def test_32_a_hung_server_is_waited_for_once(make, face, own_server, monkeypatch):
    import redis

    server = own_server()
    cache, model = make(face, server.url, options=Options(store_timeout=0.2)), Model()
    embed = cache.wrap(model, M)
    embed("before")
    waited = []
    read = redis.Connection.read_response

    def counting(self, *args, **options):
        try:
            return read(self, *args, **options)
        except redis.TimeoutError:
            waited.append(1)
            raise

    monkeypatch.setattr(redis.Connection, "read_response", counting)
    server.pause()
    for number in range(50):
        assert same(embed(f"text {number}"), vector(f"text {number}"))
    server.resume()
    assert 1 <= len(waited) <= 5
    assert len(model.calls) == 51


def test_32_the_store_is_asked_again_after_a_pause_however_busy_the_cache_is():
    from nearcache import MemoryStore, StoreUnavailable

    class Flaky(MemoryStore):
        down = True
        asked = 0

        def fetch(self, keys, groups):
            self.asked += 1
            if self.down:
                raise StoreUnavailable("down")
            return super().fetch(keys, groups)

    clock = ManualClock()
    store = Flaky(clock=clock)
    cache = cache_with_clock(clock, store, max_entries=0)
    for _ in range(100):  # ten seconds of traffic
        cache.get("text", M)
        clock.advance(0.1)
    assert 4 <= store.asked <= 30  # the longest pause is half a second, give or take a quarter
    store.down, before = False, store.asked
    for _ in range(40):
        cache.get("text", M)
        clock.advance(0.1)
    assert store.asked > before + 10


@pytest.mark.parametrize(
    "precision, most", [("float32", 6144 + 64), ("float16", 3072 + 64), ("int8", 1536 + 72)]
)
def test_33_a_stored_vector_takes_its_own_bytes_and_a_head(
    make, face, redis_server, precision, most
):
    cache = make(face, redis_server.url, precision=precision)
    cache.put("text", vector("text", 1536), M)
    with redis_server.client() as client:
        (key,) = client.keys("*:v:*")
        assert client.strlen(key) <= most


def test_34_fifty_misses_at_once_of_one_absent_text_are_one_read(make, one_server, monkeypatch):
    from nearcache.stores.redis.store import RedisStore

    cache = make("sync", one_server.url)
    cache.get("warm up", M)
    inside, answer = threading.Event(), threading.Event()
    fetch = RedisStore.fetch

    def slow(self, keys, groups):
        inside.set()
        assert answer.wait(30)
        return fetch(self, keys, groups)

    monkeypatch.setattr(RedisStore, "fetch", slow)
    one_server.reset_counts()
    threads = [threading.Thread(target=cache.get, args=("absent", M)) for _ in range(50)]
    for thread in threads:
        thread.start()
    assert inside.wait(30)
    answer.set()
    for thread in threads:
        thread.join(30)
    # those that came after the answer read again, each once at most
    assert one_server.command_counts()["mget"] < 50


def test_35_none_from_the_model_is_an_error_and_no_hit(make, face, store):
    cache = make(face, store)
    embed = cache.wrap(lambda texts: None, M)
    for _ in range(2):
        with pytest.raises(LoaderError):
            embed("text")
    stats = cache.get_stats()
    assert (stats.hits, stats.load_failures) == (0, 2)
    assert cache.get("text", M) is None
