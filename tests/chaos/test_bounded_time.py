"""A store that is away costs nothing but speed, and not much of that.

No test here looks at a clock: a server that does not answer is healed only when the calls have
returned, so one that waited for it would never end. ``bench/faults`` measures how long they take.
"""

import asyncio
import socket
import threading
from collections import Counter

import pytest

from embedders import M, Model, in_threads, same, until, vector, vectors
from near_fixtures import near_caches
from nearcache import AsyncEmbeddingCache, EmbeddingCache, NearCache, Options
from nearcache.errors import StoreError
from nearcache.testing import FaultProxy

pytestmark = pytest.mark.impatient

FAULTS = ("refused", "hung", "black-holed", "dropped")
TEXTS = [f"t{n}" for n in range(20)]

near = pytest.fixture(near_caches)


@pytest.fixture
def server(own_server):
    return own_server()


@pytest.fixture
def proxy(server):
    with FaultProxy.of(server.url) as proxy:
        yield proxy


def strike(fault, server, proxy):
    """Begin a fault; return what ends it."""
    if fault == "refused":
        proxy.refuse()
        proxy.reset()
    elif fault == "hung":
        server.pause()
        return server.resume
    else:
        proxy.black_hole(drop=fault == "dropped")
    return proxy.heal


def events_of(cache):
    """The states of the breaker, as a subscriber hears of them."""
    heard = []
    cache.subscribe(lambda name, _, detail: heard.append(detail) if name == "breaker" else None)
    return heard


# -- away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_ends_while_the_store_is_away(make, face, server, proxy, fault):
    cache = make(face, proxy.url, max_entries=0)
    embed = cache.wrap(Model(), M)
    embed(TEXTS)
    heard = events_of(cache)
    heal = strike(fault, server, proxy)
    assert same(embed(TEXTS), vectors(TEXTS))
    assert cache.get("t1", M) is None
    cache.put("t1", vector("t1"), M)
    cache.invalidate("t2", M)
    cache.invalidate_by_model("another model")
    assert cache.get_stats().breaker != "closed"
    assert cache.get_stats().undelivered == 3
    heal()
    until(lambda: cache.get("somebody asks", M) is None and cache.get_stats().breaker == "closed")
    assert heard[0] == "open"
    assert heard[-1] == "closed"


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_of_a_cache_of_values_ends_while_the_store_is_away(server, proxy, fault):
    with NearCache(proxy.url, namespace="values", max_entries=0) as cache:
        cache.put("k", "old")
        heal = strike(fault, server, proxy)
        assert cache.get_or_load("k", lambda: "loaded") == "loaded"
        cache.put("k", "new")
        cache.invalidate("other")
        cache.invalidate_by_tag("tag")
        assert cache.get_stats().breaker != "closed"
        heal()
        until(lambda: not cache.get("somebody asks") and cache.get_stats().undelivered == 0)
        # what could not be written is forgotten, neither the old value nor late the new one
        until(lambda: cache.get("k") is None)


@pytest.mark.parametrize("fault", FAULTS[:3])
def test_a_crowd_meets_no_error_and_gets_right_answers_only(server, proxy, fault):
    """200 tasks and 4 threads, before, during and after."""
    vectors_ = EmbeddingCache(proxy.url, max_entries=50)
    values = NearCache(proxy.url, namespace="values", max_entries=50)
    done, stop = Counter(), threading.Event()

    def once(embed, number):
        text = f"t{number % 300}"
        assert same(embed([text]), vectors([text]))
        assert values.get_or_load(text, text.upper) == text.upper()
        values.put(text, text.upper())
        values.invalidate(text)
        done["threads"] += 1

    def thread(first):
        embed, number = vectors_.wrap(Model(), M), first
        while not stop.is_set():
            once(embed, number)
            number += 7
        return True

    async def tasks():
        embed, face = vectors_.as_async().wrap(Model(), M), values.as_async()

        async def task(number):
            while not stop.is_set():
                text = f"t{number % 300}"
                assert same(await embed([text]), vectors([text]))
                assert await face.get_or_load(text, text.upper) == text.upper()
                await face.put(text, text.upper())
                done["tasks"] += 1
                number += 7
                await asyncio.sleep(0.05)

        await asyncio.gather(*(task(n) for n in range(200)))
        return True

    results = []
    threads = [
        threading.Thread(target=lambda: results.extend(in_threads(4, thread))),
        threading.Thread(target=lambda: results.append(asyncio.run(tasks()))),
    ]
    for one in threads:
        one.start()
    try:

        def more(count):
            goal = {kind: done[kind] + count for kind in ("threads", "tasks")}
            until(lambda: all(done[kind] >= goal[kind] for kind in goal), 30)

        more(20)
        heal = strike(fault, server, proxy)
        more(200)
        heal()
        more(20)
        until(lambda: {c.get_stats().breaker for c in (vectors_, values)} == {"closed"})
    finally:
        stop.set()
        for one in threads:
            one.join()
        vectors_.close()
        values.close()
    assert results == [True] * 5


def test_while_the_breaker_is_open_the_store_hears_one_try_at_a_time(make, server, proxy):
    cache = make("sync", proxy.url, max_entries=0)
    embed = cache.wrap(Model(), M)
    embed(TEXTS)
    heal = strike("hung", server, proxy)
    embed(TEXTS)
    errors = cache.get_stats().store_errors
    for number in range(500):
        embed(f"text {number}")
    assert cache.get_stats().store_errors <= errors + 20  # 500 calls, a few tries
    heal()


# -- slow ------------------------------------------------------------------------------------------


def test_a_store_that_is_far_away_is_not_away(make, face, proxy):
    proxy.delay(to_client=0.06, to_server=0.06)
    proxy.narrow(to_client=12.5e6, to_server=12.5e6)
    cache = make(face, proxy.url, max_entries=0)
    heard = events_of(cache)
    texts, model = [f"t{n}" for n in range(200)], Model(1536)
    for _ in range(3):
        assert same(cache.wrap(model, M)(texts), vectors(texts, 1536))
    assert set(model.times.values()) == {1}
    assert cache.get_stats().store_errors == 0
    assert heard == []


class Trickle:
    """A server that says a byte now and then, and never anything of use."""

    def __init__(self):
        self.door = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.door.getsockname()[1]}"
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        self.door.settimeout(0.05)
        while not self.stop.is_set():
            try:
                wire, _ = self.door.accept()
            except TimeoutError:
                continue
            self.threads.append(threading.Thread(target=self.serve, args=(wire,)))
            self.threads[-1].start()

    def serve(self, wire):
        with wire:
            wire.settimeout(5)
            try:
                wire.recv(65536)
                wire.sendall(b"$1000000\r\n")
                while not self.stop.wait(0.04):
                    wire.sendall(b".")
            except OSError:
                pass

    def close(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.door.close()


def test_a_server_that_says_a_byte_now_and_then_holds_no_call_for_ever(make, face):
    server = Trickle()
    try:
        cache = make(face, server.url)
        assert same(cache.wrap(Model(), M)(TEXTS), vectors(TEXTS))
        assert cache.get_stats().breaker != "closed"
    finally:
        server.close()


def test_a_store_that_was_away_from_the_beginning_is_used_when_it_comes(make, face, proxy):
    proxy.refuse()
    cache = make(face, proxy.url, max_entries=0)
    embed = cache.wrap(Model(), M)
    assert same(embed(TEXTS), vectors(TEXTS))
    proxy.heal()
    until(lambda: cache.get("somebody asks", M) is None and cache.get_stats().breaker == "closed")
    embed(TEXTS)
    assert same(cache.get("t1", M), vector("t1"))


# -- afterwards ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_loaded_meanwhile_is_in_the_store_afterwards(make, face, server, proxy, fault):
    cache = make(face, proxy.url)
    cache.get("a place in the log", M)
    heal = strike(fault, server, proxy)
    cache.wrap(Model(), M)(TEXTS)
    assert cache.get_stats().unwritten == len(TEXTS)
    heal()
    until(lambda: cache.get("somebody asks", M) is None and cache.get_stats().unwritten == 0)
    assert same(make(face, server.url).get_batch(TEXTS, M)[0], vectors(TEXTS))


def test_a_forget_that_could_not_be_delivered_is_never_lost(make, face, server, proxy):
    cache = make(face, proxy.url, max_entries=0)
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    heal = strike("black-holed", server, proxy)
    for text in TEXTS:
        cache.invalidate(text, M)
    assert cache.get_stats().undelivered == len(TEXTS)
    heal()
    until(lambda: cache.get("t1", M) is None and cache.get_stats().undelivered == 0)
    assert not make(face, server.url).get_batch(TEXTS, M)[1].any()


@pytest.mark.parametrize("kind", ["embeddings", "values"])
def test_a_forget_is_delivered_though_this_process_asks_nothing_more(
    make, near, face, server, proxy, kind
):
    if kind == "embeddings":
        cache, other = make(face, proxy.url), make(face, server.url, max_entries=0)
        cache.put("t1", vector("t1"), M)
        forget, found = lambda: cache.invalidate("t1", M), lambda: other.get("t1", M)
    else:
        cache, other = near(face, proxy.url), near(face, server.url, max_entries=0)
        cache.put("t1", 1)
        forget, found = lambda: cache.invalidate("t1"), lambda: other.get("t1")
    assert found() is not None
    heal = strike("refused", server, proxy)
    forget()
    assert cache.get_stats().undelivered == 1
    heal()
    until(lambda: found() is None)


def test_a_cache_that_is_closed_while_the_store_is_away_says_what_it_takes_with_it(
    server, proxy, caplog
):
    cache = EmbeddingCache(proxy.url)
    cache.put("t1", vector("t1"), M)
    heal = strike("hung", server, proxy)
    cache.invalidate("t1", M)
    cache.close()
    heal()
    assert "invalidations never delivered: 1" in caplog.text


def test_who_wants_errors_raised_gets_them_in_bounded_time_too(server, proxy):
    with EmbeddingCache(proxy.url, options=Options(on_store_error="raise")) as cache:
        cache.get("t1", M)
        heal = strike("hung", server, proxy)
        for _ in range(3):
            with pytest.raises(StoreError):
                cache.get("t1", M)
        heal()


def test_an_asynchronous_call_that_waits_for_a_hung_store_holds_up_no_other(server, proxy):
    async def both():
        cache = AsyncEmbeddingCache(proxy.url, max_entries=10)
        await cache.put("near", vector("near"), M)
        heal = strike("hung", server, proxy)
        waiting = asyncio.ensure_future(cache.get("far", M))
        assert same(await cache.get("near", M), vector("near"))
        assert await waiting is None
        heal()
        await cache.close()

    asyncio.run(both())
