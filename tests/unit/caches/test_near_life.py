"""NearCache: forks, event loops, endings; nothing is left running."""

import asyncio
import faulthandler
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

import pytest

from embedders import Face, in_threads, until
from near_fixtures import SPACE, Source, linked, links, near_caches, settled, sockets
from nearcache import AsyncNearCache, MemoryStore, NearCache, Options, RedisStore, SQLiteStore
from nearcache.testing.contracts.store_parts import forked

near = pytest.fixture(near_caches)
_HANG = 20
_TRIES = 3  # a machine may stand still once; what waits for something does so every time


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store_object(request, tmp_path):
    """A store object that several caches are given."""
    store = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path / "near.db"),
        "redis": lambda: RedisStore(request.getfixturevalue("one_server").url),
    }[request.param]()
    yield store
    store.close()


def url_of(kind: str, request, folder: Path) -> str:
    if kind == "redis":
        return request.getfixturevalue("one_server").url
    return f"sqlite:///{folder / 'near.db'}"


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    """The URL of a store that outlives a process."""
    return url_of(request.param, request, tmp_path)


# -- fork ------------------------------------------------------------------------------------------


def go_on(cache, mine, theirs):
    """Use a cache as if nothing had happened."""
    cache.put(mine, "value")
    assert cache.get(mine) == "value"
    assert cache.get("before") == "value"
    assert cache.get_or_load(f"loaded by {mine}", lambda: "loaded") == "loaded"
    cache.invalidate(mine)
    assert cache.get(mine) is None
    linked(cache)
    assert len(links()) <= 1 or mine == "parent"
    until(lambda: cache.get(theirs) is None)


def test_parent_and_child_both_go_on(near, face, store):
    cache = near(face, store)
    cache.put("before", "value")
    linked(cache)
    with forked(lambda: go_on(cache, "child", "parent")):
        go_on(cache, "parent", "child")


def test_parent_and_child_hear_of_each_other(near, url):
    cache = near("sync", url)
    cache.put("key", 0)
    linked(cache)
    settled(cache, "key")

    def child():
        until(lambda: cache.get("key") == 1)
        cache.put("key", 2)
        until(lambda: cache.get("key") == 3)

    with forked(child):
        cache.put("key", 1)
        until(lambda: cache.get("key") == 2)
        cache.put("key", 3)


def test_a_child_has_one_link_however_many_caches_there_are(near, store_object):
    caches = [near("sync", store_object, namespace=f"n{n}") for n in range(3)]
    views = [cache.view("inner") for cache in caches]
    linked(*caches, *views)

    def child():
        for n, cache in enumerate([*caches, *views]):
            cache.put("key", n)
        linked(*caches, *views)
        assert len(links()) == 1
        for n, cache in enumerate([*caches, *views]):
            assert cache.get("key") == n

    with forked(child):
        pass
    for cache in caches:
        cache.close()


def test_the_childs_connections_are_its_own(near, one_server):
    cache = near("sync", one_server.url)
    cache.put("key", 1)
    linked(cache)

    def tracking():
        with one_server.client() as client:
            return {one["addr"] for one in client.client_list() if "t" in one["flags"]}

    (parents,) = tracking()

    def child():
        cache.get("key")
        linked(cache)
        until(lambda: len(tracking()) == 2)
        cache.close()
        until(lambda: tracking() == {parents})

    with forked(child):
        pass
    assert tracking() == {parents}
    other = near("sync", one_server.url)
    other.put("key", 2)
    until(lambda: cache.get("key") == 2)


def test_a_fork_in_the_middle_of_everything_leaves_a_child_that_works(near, store):
    cache, source = near("sync", store), Source()
    stop = threading.Event()

    def busy(number):
        n = 0
        while not stop.is_set():
            n += 1
            key = f"k{n % 7}"
            cache.get_or_load(key, source.of("sync", key))
            cache.put(key, n, tags=["tag"])
            cache.get(key)
            cache.get_stats()
            if n % 5 == number:
                cache.invalidate(key)
            if n % 11 == number:
                cache.invalidate_by_tag("tag")

    def child():
        faulthandler.dump_traceback_later(_HANG, exit=True)
        for n in range(7):
            assert cache.get_or_load(f"k{n}", lambda: "child") is not None
            cache.put(f"k{n}", "childs own", tags=["tag"])
        cache.invalidate("k1")
        cache.get_stats()
        cache.view("inner").put("key", 1)
        assert asyncio.run(cache.thing.as_async().get_or_load("new", lambda: 1)) == 1

    threads = [threading.Thread(target=busy, args=(n,), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            with forked(child):
                pass
    finally:
        stop.set()
        for thread in threads:
            thread.join(_HANG)


def test_a_fork_while_somebody_reads_the_counts(near):
    cache = near("sync")
    cache.put("key", 1)
    cache.get("key")
    lock = cache.thing._tiers.engine.hits._lock
    inside, go = threading.Event(), threading.Event()

    def hold():
        with lock:
            inside.set()
            go.wait(_HANG)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(_HANG)

    def child():
        signal.alarm(_HANG)
        assert cache.get("key") == 1
        assert cache.get_stats().near_hits == 1  # its own: what the parent did it did not

    try:
        with forked(child):
            pass
    finally:
        go.set()
        thread.join(_HANG)


# -- event loops -----------------------------------------------------------------------------------


def test_two_event_loops_in_two_threads_share_a_cache(near, store):
    cache, source = near("async", store).thing, Source()
    keys = [f"k{n}" for n in range(20)]

    async def many():
        return await asyncio.gather(
            *(cache.get_or_load(key, source.of("async", key)) for key in keys * 3)
        )

    results = in_threads(4, lambda _: asyncio.run(many()))
    assert results == [[source.value(key) for key in keys * 3]] * 4
    assert set(source.calls.values()) == {1}


def test_a_cache_serves_one_event_loop_after_the_other(near, store):
    cache = near("async", store).thing
    for n in range(20):
        assert asyncio.run(cache.get_or_load(f"k{n}", lambda n=n: n)) == n
        assert asyncio.run(cache.get(f"k{n}")) == n


def test_the_blocking_face_may_be_used_inside_a_running_loop(near, store):
    cache = near("async", store).thing

    async def main():
        await cache.put("key", 1)
        blocking = cache.as_sync()
        assert blocking.get("key") == 1
        blocking.put("key", 2)
        assert await cache.get("key") == 2
        assert blocking.get_or_load("other", lambda: 3) == 3

    asyncio.run(main())


# -- ending ----------------------------------------------------------------------------------------


def test_closing_while_loads_run_lets_them_answer(face, store):
    cls = {"sync": NearCache, "async": AsyncNearCache}[face]
    before = sockets()
    cache = cls(store, namespace=SPACE).as_sync()
    inside, go = threading.Event(), threading.Event()

    def load():
        inside.set()
        assert go.wait(_HANG)
        return "value"

    results = []
    thread = threading.Thread(target=lambda: results.append(cache.get_or_load("key", load)))
    thread.start()
    assert inside.wait(_HANG)
    cache.close()
    go.set()
    thread.join(_HANG)
    assert results == ["value"]
    if not isinstance(store, MemoryStore):
        until(lambda: sockets() <= before)
    cache._tiers.engine.check()


def test_closing_does_not_stop_an_event_loop(near, own_server):
    """The link's thread may be in the middle of connecting to a server that does not answer."""
    server = own_server()
    options = Options(store_timeout=0.2, link_timeout=0.2)

    async def tick(gaps):
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async def longest_gap():
        cache, gaps = near("async", server.url, options=options).thing, []
        await cache.put("key", 1)
        server.pause()
        deadline = time.monotonic() + _HANG
        while cache.link != "connecting":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        ticking = asyncio.create_task(tick(gaps))
        await asyncio.sleep(0.02)
        await cache.close()
        await asyncio.sleep(0.02)
        ticking.cancel()
        server.resume()
        return max(gaps)

    assert any(asyncio.run(longest_gap()) < 0.25 for _ in range(_TRIES))


def test_the_same_url_may_be_opened_again(near, face, url):
    for n in range(5):
        cache = near(face, url)
        assert cache.get_or_load("key", lambda: "value") == "value"
        assert cache.get_stats().loads == (n == 0)
        linked(cache)
        cache.close()


CYCLES = """
    import asyncio, gc, os, sys, threading, time, warnings
    from nearcache import AsyncNearCache, NearCache

    url, count = sys.argv[1], 10

    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def settled():
        deadline = time.monotonic() + 30
        while True:
            left = descriptors()
            threads = [thread.name for thread in threading.enumerate()]
            if len(threads) == 1 and left <= before:
                return
            assert time.monotonic() < deadline, (threads, left, before)
            time.sleep(0.01)

    def blocking():
        with NearCache(url, namespace="cycles") as cache:
            assert cache.get_or_load("key", lambda: "value") == "value"
            cache.put("other", 1, tags=["tag"])
            assert cache.get("key") == "value"

    async def awaited():
        async with AsyncNearCache(url, namespace="cycles") as cache:
            assert await cache.get_or_load("key", lambda: "value") == "value"
            await cache.put("other", 1, tags=["tag"])
            assert await cache.get("key") == "value"

    async def many():
        for _ in range(count):
            await awaited()

    blocking()
    asyncio.run(awaited())
    before = 10**6
    settled()
    before = descriptors()
    for _ in range(count):
        blocking()
    settled()
    asyncio.run(many())
    settled()
    for _ in range(count // 2):
        cache = NearCache(url, namespace="cycles")
        cache.get_or_load("key", lambda: 1 / 0)
        del cache
    settled()
    print("done")
"""

EXIT = """
    import sys
    from nearcache import AsyncNearCache, NearCache
    import asyncio, threading

    url, kind = sys.argv[1:]
    cache = NearCache(url, namespace="exits")
    cache.put("key", 1, tags=["tag"])
    assert cache.get("key") == 1
    if kind == "async":
        asyncio.run(cache.as_async().get_or_load("other", lambda: 1))
    if kind == "loading":
        inside = threading.Event()
        def load():
            inside.set()
            threading.Event().wait()
        threading.Thread(target=cache.get_or_load, args=("slow", load), daemon=True).start()
        inside.wait()
    if kind == "in a module":
        sys.modules["cache"] = cache
    if kind == "at exit":
        import atexit
        atexit.register(lambda: (cache.put("last", 2), cache.get_or_load("more", lambda: 3)))
    if kind == "closed at exit":
        import atexit
        atexit.register(cache.close)
    print("done", flush=True)
    sys.stdin.read(1)
"""


def run_script(script, *arguments, seconds=60):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_opening_and_closing_again_and_again_leaves_nothing(url):
    done = run_script(CYCLES, url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def ending(url, kind, before=lambda: None):
    """The seconds that an interpreter takes to end after its last line; ``before`` comes first."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(EXIT), url, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as one:
        said = one.stdout.readline()
        before()
        started = time.monotonic()
        _, err = one.communicate("x", timeout=_HANG)
        assert (said, one.returncode, err) == ("done\n", 0, "")
        return time.monotonic() - started


@pytest.mark.parametrize(
    "kind", ["plain", "async", "loading", "in a module", "at exit", "closed at exit"]
)
def test_an_interpreter_that_ends_with_the_cache_open_ends_at_once(url, kind):
    assert any(ending(url, kind) < 2 for _ in range(_TRIES))


def test_an_interpreter_ends_though_the_server_is_gone(own_server):
    server = own_server()

    def seconds():
        took = ending(server.url, "plain", before=server.pause)
        server.resume()
        return took

    assert any(seconds() < 2 for _ in range(_TRIES))


@pytest.mark.drops_caches
def test_a_cache_that_is_dropped_takes_its_link_along(face, url):
    cls = {"sync": NearCache, "async": AsyncNearCache}[face]
    gc.collect()
    until(lambda: gc.collect() is not None and not links())
    before = sockets()
    cache = cls(url, namespace=SPACE)
    view = cache.view("inner")
    for one in (cache.as_sync(), view.as_sync()):
        one.put("key", 1)
        linked(one)
    assert len(links()) == 1
    del cache, view, one
    until(lambda: gc.collect() is not None and not links())
    until(lambda: sockets() <= before)


@pytest.mark.drops_caches
def test_a_cache_dropped_while_its_server_is_away_takes_its_link_along(own_server):
    server = own_server()
    cache = NearCache(server.url, namespace=SPACE)
    cache.put("key", 1)
    linked(cache)
    server.kill()
    one = weakref.ref(cache)
    until(lambda: one().link == "connecting")
    del cache
    until(lambda: gc.collect() is not None and not links())


@pytest.mark.drops_caches
def test_a_dropped_cache_of_a_server_that_cannot_tell_takes_its_link_along(one_server):
    with one_server.client() as client:
        client.execute_command("ACL", "SETUSER", "mute", "on", ">p", "~*", "&*", "+@all", "-client")
        cache = NearCache(one_server.url.replace("redis://", "redis://mute:p@"), namespace=SPACE)
        cache.put("key", 1)
        one = weakref.ref(cache)
        until(lambda: one().link == "cannot tell")
        del cache
        until(lambda: gc.collect() is not None and not links())
        client.execute_command("ACL", "DELUSER", "mute")


def test_closing_says_nothing_to_the_log(near, url, caplog):
    for n in range(20):
        cache = near("sync", url)
        cache.put("key", n)
        cache.get("key")
        cache.close()
        assert cache.get_stats().store_errors == 0
    assert not [one for one in caplog.records if one.name == "nearcache"], caplog.text


# -- Ctrl-C ----------------------------------------------------------------------------------------


def interrupt_at_many_moments(cache, source, seconds=1.0, times=150):
    """A timer instead of a hand: the signal comes at a few hundred moments of the work."""
    works = False

    def interrupted(*_):
        if works:  # else it came in time, and was handled a moment too late
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupted)
    deadline = time.monotonic() + seconds
    for n in range(times):
        if time.monotonic() > deadline:
            break
        key = f"k{n % 5}"
        # RuntimeError: what the interpreter's own Event.wait makes of it now and then
        with suppress(KeyboardInterrupt, RuntimeError):
            try:
                works = True
                signal.setitimer(signal.ITIMER_REAL, 0.00005 + 0.00003 * (n % 40))
                cache.get(key, max_staleness=0)
                cache.get_or_load(key, source.of("sync", key))
                cache.put(key, n, tags=["tag"])
                cache.get(key)
                cache.invalidate(key)
            finally:
                works = False
                signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_ctrl_c_in_the_middle_of_anything_leaves_a_cache_that_works(store):
    def work():  # in a process of its own, lest an interpreter that dies takes the tests along
        faulthandler.dump_traceback_later(3 * _HANG, exit=True)
        cache = NearCache(store, namespace=SPACE, options=Options(lease=0.3))
        linked(Face(cache))
        interrupt_at_many_moments(cache, Source())
        for n in range(5):
            results = in_threads(2, lambda _, n=n: cache.get_or_load(f"k{n}", lambda: "end"))
            assert all(not isinstance(result, BaseException) for result in results)

            def is_kept(n=n):
                cache.put(f"k{n}", "after")
                return cache.get(f"k{n}") == "after"

            until(is_kept)
        until(lambda: not len(cache._tiers.engine.flights))
        cache.admin.check()
        with forked(lambda: cache.get("k1")):  # no lock is left behind that a fork waits for
            pass

    with forked(work):
        pass


def test_ctrl_c_in_a_loader_passes_and_gives_the_lease_back(near, shared):
    one, two = (near("sync", shared, options=Options(lease=60.0)) for _ in range(2))

    def load():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.get_or_load("key", load)
    started = time.monotonic()
    assert two.get_or_load("key", lambda: "value") == "value"
    assert time.monotonic() - started < 30  # of a lease of 60
