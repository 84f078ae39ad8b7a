"""NearCache: each freshness option, what it does and what it must never do."""

import asyncio
import threading

import pytest

from embedders import until
from near_fixtures import near_with_clock
from nearcache import MISSING, EmbeddingCache, Loaded, MemoryStore, NearCache, Options
from nearcache.engine.io import BlockingIO
from nearcache.errors import ConfigError, LoadTimeout, StoreUnavailable
from nearcache.testing import ChaosStore, ManualClock

_HANG = 30.0


class Broken(Exception):
    """What a loader raises."""


class Source:
    """A loader that counts, can be stopped at its gate, and broken."""

    def __init__(self):
        self.calls = 0
        self.value = "v"
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()

    def __call__(self):
        self.calls += 1
        number = self.calls
        self.inside.set()
        assert self.gate.wait(_HANG)
        if self.broken:
            raise Broken
        return f"{self.value}{number}"

    def of(self, face):
        """As that face takes it: a function, or a coroutine function."""
        if face == "sync":
            return self

        async def load():
            return await asyncio.to_thread(self)

        return load


class Bench:
    """Caches on one clock and, if there is one, one store; closed after the test."""

    def __init__(self, face, kind):
        self.face = face
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock) if kind == "memory" else None
        self.made = []

    def cache(self, **given):
        options = {
            name: given.pop(name) for name in list(given) if name in Options.__dataclass_fields__
        }
        options.setdefault("link_timeout", 1e6)  # the clock's leaps are not silence of the store
        given.setdefault("ttl", 10.0)
        given.setdefault("store", self.store)
        cache = near_with_clock(self.clock, face=self.face, options=Options(**options), **given)
        self.made.append(cache)
        return cache

    def other(self, **given):
        """What another process has: a cache of its own on the same store, or the same cache."""
        return self.cache(**given) if self.store is not None else self.made[-1]


@pytest.fixture(params=["alone", "memory"])
def bench(request, face):
    made = Bench(face, request.param)
    yield made
    for cache in made.made:
        cache.close()


def load(cache, source, face, **more):
    return cache.get_or_load("key", source.of(face), **more)


# -- stale while revalidate --------------------------------------------------------------------


def test_stale_while_revalidate_answers_at_once_and_loads_behind(bench, face):
    cache, source = bench.cache(stale_while_revalidate=5.0), Source()
    assert load(cache, source, face) == "v1"
    bench.clock.advance(11)
    source.gate.clear()
    assert load(cache, source, "sync") == "v1"  # the load hangs, and nobody waits for it
    assert load(cache, source, "sync") == "v1"
    until(lambda: source.calls == 2)
    source.gate.set()
    until(lambda: cache.get("key") == "v2")
    assert source.calls == 2
    assert cache.get_stats().stale_hits == 2


def test_an_asynchronous_load_behind_an_answer_runs_on_the_loop_of_its_caller(bench):
    cache, calls = bench.cache(stale_while_revalidate=5.0).as_async(), []

    async def main():
        async def load():
            calls.append(asyncio.get_running_loop())
            return len(calls)

        assert await cache.get_or_load("key", load) == 1
        bench.clock.advance(11)
        assert await cache.get_or_load("key", load) == 1
        while await cache.get_or_load("key", load) != 2:
            await asyncio.sleep(0.001)  # between two looks at the condition
        assert calls == [asyncio.get_running_loop()] * 2

    asyncio.run(main())


def test_stale_while_revalidate_ends(bench, face):
    cache, source = bench.cache(stale_while_revalidate=5.0), Source()
    load(cache, source, face)
    bench.clock.advance(15)
    assert load(cache, source, face) == "v2"


def test_get_never_answers_with_what_has_expired(bench, face):
    cache, source = bench.cache(stale_while_revalidate=50.0, fail_safe=50.0), Source()
    load(cache, source, face)
    bench.clock.advance(10.1)
    assert cache.get("key") is None
    assert cache.get_batch(["key"]) == [None]
    assert not cache.contains("key")
    assert bench.other().get("key") is None


def test_what_was_forgotten_never_stands_in(bench, face):
    cache, source = bench.cache(stale_while_revalidate=50.0, fail_safe=50.0), Source()
    for forget in (
        lambda: cache.invalidate("key"),
        lambda: cache.invalidate_by_tag("tag"),
        cache.clear,
    ):
        source.broken = False
        load(cache, source, face, tags=["tag"])
        bench.clock.advance(11)
        forget()
        source.broken = True
        with pytest.raises(Broken):
            load(cache, source, face)


def test_what_is_forgotten_during_the_failing_load_does_not_stand_in(bench):
    for forget in (
        lambda cache: cache.invalidate("key"),
        lambda cache: cache.invalidate_by_tag("tag"),
        lambda cache: cache.clear(),
    ):
        cache = bench.cache(fail_safe=50.0)
        sync = cache.as_sync() if bench.face == "async" else cache
        sync.get_or_load("key", lambda: "old", tags=["tag"])
        bench.clock.advance(11)

        def fail(sync=sync, forget=forget):
            forget(sync)
            raise Broken

        with pytest.raises(Broken):
            sync.get_or_load("key", fail)


def test_a_load_behind_an_answer_that_fails_is_not_tried_at_every_hit(bench, face):
    cache, source = bench.cache(stale_while_revalidate=50.0), Source()
    load(cache, source, face)
    bench.clock.advance(11)
    source.broken = True
    for _ in range(20):
        assert load(cache, source, "sync") == "v1"
    until(lambda: cache.get_stats().load_failures == 1)
    for _ in range(20):
        assert load(cache, source, "sync") == "v1"
    assert source.calls == 2
    source.broken = False

    def a_while_later():
        bench.clock.advance(0.5)
        return load(cache, source, "sync") == "v3"

    until(a_while_later)


def test_another_process_answers_with_what_expired_in_the_store(bench, face):
    if bench.store is None:
        pytest.skip("without a store there is no other process")
    one, source = bench.cache(stale_while_revalidate=50.0), Source()
    load(one, source, face)
    bench.clock.advance(11)
    two = bench.cache(stale_while_revalidate=50.0)
    assert load(two, source, "sync") == "v1"
    until(lambda: two.get("key") == "v2")
    until(lambda: one.get("key") == "v2")
    assert source.calls == 2


def test_a_batch_answers_each_key_as_it_is(bench):
    cache = bench.cache(stale_while_revalidate=5.0)
    asked = []

    def many(keys):
        asked.append(sorted(keys))
        return {key: f"{key}{len(asked)}" for key in keys}

    assert cache.get_or_load_batch(["old"], many) == ["old1"]
    bench.clock.advance(8)
    assert cache.get_or_load_batch(["young"], many) == ["young2"]
    bench.clock.advance(3)
    assert cache.get_or_load_batch(["old", "young", "new"], many) == ["old1", "young2", "new3"]
    until(lambda: cache.get("old") == "old4")
    assert asked == [["old"], ["young"], ["new"], ["old"]]


# -- early refresh -----------------------------------------------------------------------------


def test_early_refresh_loads_behind_an_answer_before_the_end(bench, face):
    cache, source = bench.cache(early_refresh=0.5), Source()
    load(cache, source, face)
    bench.clock.advance(4.9)
    assert load(cache, source, "sync") == "v1"
    assert source.calls == 1  # not before its window
    bench.clock.advance(5.0)
    assert cache.get("key") == "v1"
    assert source.calls == 1  # who has no loader loads nothing
    assert load(cache, source, "sync") == "v1"
    until(lambda: cache.get("key") == "v2")
    bench.clock.advance(4.9)
    assert cache.get("key") == "v2"  # it has a whole life
    assert source.calls == 2
    assert cache.get_stats().stale_hits == 0


def test_early_refresh_draws_its_moment(bench):
    cache = bench.cache(early_refresh=0.5)
    calls = []
    keys = [f"k{n}" for n in range(200)]
    for key in keys:
        cache.get_or_load(key, lambda key=key: calls.append(key) or "v")
    admin = cache.as_sync().admin  # the moments are drawn anew for what is read from the store

    def is_near(key):
        return cache.get(key) == "v" and (admin.inspect(key) or {}).get("servable")

    until(lambda: all(is_near(key) for key in keys))
    bench.clock.advance(6.25)  # the moments lie between 5 and 7.5

    renewed = set()

    def enough():
        bench.clock.advance(0.01)  # who reads the store on its way draws anew
        for key in keys:
            cache.get_or_load(key, lambda key=key: renewed.add(key) or "new")
        return len(renewed) > 40

    until(enough)
    assert len(renewed) < 160


# -- fail-safe ---------------------------------------------------------------------------------


def test_fail_safe_answers_when_the_loader_fails(bench, face):
    cache, source = bench.cache(fail_safe=60.0), Source()
    load(cache, source, face)
    bench.clock.advance(11)
    source.broken = True
    assert load(cache, source, face) == "v1"
    stats = cache.get_stats()
    assert (stats.stale_hits, stats.load_failures) == (1, 1)
    source.broken = False
    assert load(cache, source, face) == "v3"  # asked again at the next call


def test_fail_safe_ends_and_is_only_for_failures(bench, face):
    cache, source = bench.cache(fail_safe=60.0), Source()
    load(cache, source, face)
    bench.clock.advance(11)
    assert load(cache, source, face) == "v2"
    bench.clock.advance(70)
    source.broken = True
    with pytest.raises(Broken):
        load(cache, source, face)


def test_fail_safe_finds_the_store_s_copy_without_a_near_tier(face):
    bench = Bench(face, "memory")
    cache, source = bench.cache(fail_safe=60.0, max_entries=0), Source()
    load(cache, source, face)
    bench.clock.advance(11)
    source.broken = True
    assert load(cache, source, face) == "v1"
    cache.invalidate("key")
    with pytest.raises(Broken):
        load(cache, source, face)
    cache.close()


def test_fail_safe_in_a_batch_answers_all_or_raises(bench):
    cache = bench.cache(fail_safe=60.0)
    cache.get_or_load_batch(["a", "b"], lambda keys: dict.fromkeys(keys, "old"))
    bench.clock.advance(11)

    def broken(_keys):
        raise Broken

    assert cache.get_or_load_batch(["a", "b"], broken) == ["old", "old"]
    with pytest.raises(Broken):
        cache.get_or_load_batch(["a", "b", "never seen"], broken)


def test_an_error_of_the_store_is_not_the_loader_s(face):
    store = ChaosStore(MemoryStore())
    cache = near_with_clock(
        ManualClock(), store, face, options=Options(fail_safe=60.0, on_store_error="raise")
    )
    store.fail()
    with pytest.raises(StoreUnavailable):
        cache.get_or_load("key", lambda: "v")
    cache.close()


# -- timeouts ----------------------------------------------------------------------------------


def test_the_soft_timeout_answers_with_what_expired_and_keeps_what_comes(bench, face):
    cache = bench.cache(fail_safe=60.0, loader_soft_timeout=0.01)
    source = Source()
    load(cache, source, face)
    bench.clock.advance(11)
    source.gate.clear()
    assert load(cache, source, "sync") == "v1"
    source.gate.set()
    until(lambda: cache.get("key") == "v2")
    assert source.calls == 2


def test_the_soft_timeout_waits_where_nothing_stands_in(bench):
    cache = bench.cache(fail_safe=60.0, loader_soft_timeout=0.001)
    source = Source()
    source.gate.clear()
    threading.Timer(0.05, source.gate.set).start()
    assert load(cache, source, "sync") == "v1"


def test_the_hard_timeout_raises_and_keeps_what_comes(bench):
    cache, source = bench.cache(loader_timeout=0.01), Source()
    source.gate.clear()
    with pytest.raises(LoadTimeout, match=r"longer than 0.01 s"):
        load(cache, source, "sync")
    source.gate.set()
    until(lambda: cache.get("key") == "v1")
    assert source.calls == 1


def test_the_hard_timeout_is_a_failure_to_fail_safe(bench):
    cache, source = bench.cache(loader_timeout=0.01, fail_safe=60.0), Source()
    cache.put("key", "v0")  # a load that is in time on every machine would be a slow one
    bench.clock.advance(11)
    source.gate.clear()
    assert load(cache, source, "sync") == "v0"
    source.gate.set()
    until(lambda: cache.get("key") == "v1")


def test_an_asynchronous_load_in_time_runs_on_the_loop_of_its_caller():
    cache = NearCache(namespace="near", options=Options(loader_timeout=10.0)).as_async()

    async def main():
        async def load():
            return asyncio.get_running_loop() is here

        here = asyncio.get_running_loop()
        assert await cache.get_or_load("key", load)

        async def hang():
            await asyncio.Event().wait()

        with pytest.raises(LoadTimeout):
            await cache.get_or_load("other", hang, options=Options(loader_timeout=0.01))
        await cache.close()

    asyncio.run(main())


def test_what_a_load_in_time_raises_passes_unchanged(bench, face):
    cache, source = bench.cache(loader_timeout=10.0), Source()
    source.broken = True
    with pytest.raises(Broken):
        load(cache, source, face)


def test_an_exit_of_the_loader_passes_through_a_load_in_time():
    cache = NearCache(namespace="near", options=Options(loader_timeout=10.0))

    def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        cache.get_or_load("key", leave)
    cache.close()


# -- negative ttl ------------------------------------------------------------------------------


def test_negative_ttl_remembers_that_there_is_nothing(bench, face):
    cache = bench.cache(negative_ttl=5.0)
    calls = []

    def nothing():
        calls.append(1)
        return MISSING

    assert cache.get_or_load("key", nothing) is MISSING
    assert cache.get_or_load("key", nothing) is MISSING
    assert len(calls) == 1
    assert cache.get("key", "default") == "default"
    assert cache.get_batch(["key"], "default") == ["default"]
    assert not cache.contains("key")
    other = bench.other(negative_ttl=5.0)
    assert other.get_or_load("key", nothing) is MISSING
    assert other.get("key", "default") == "default"
    assert len(calls) == 1
    bench.clock.advance(5)
    assert cache.get_or_load("key", nothing) is MISSING
    assert len(calls) == 2


def test_without_negative_ttl_nothing_is_asked_for_again(bench):
    cache = bench.cache()
    calls = []
    for _ in range(3):
        cache.get_or_load("key", lambda: calls.append(1) or MISSING)
    assert len(calls) == 3


def test_an_absence_ends_with_a_put_an_update_and_an_invalidation(bench):
    cache = bench.cache(negative_ttl=5.0)
    for come in (
        lambda: cache.put("key", "there"),
        lambda: cache.update("key", lambda value: "there" if value is None else "wrong"),
    ):
        cache.invalidate("key")
        assert cache.get_or_load("key", lambda: MISSING) is MISSING
        come()
        assert cache.get_or_load("key", lambda: "loaded") == "there"
    cache.invalidate("key")
    assert cache.get_or_load("key", lambda: MISSING) is MISSING
    cache.invalidate("key")
    assert cache.get_or_load("key", lambda: "loaded") == "loaded"


def test_a_batch_remembers_the_keys_that_were_left_out(bench):
    cache = bench.cache(negative_ttl=5.0)
    asked = []

    def some(keys):
        asked.append(sorted(keys))
        return {"a": 1} if "a" in keys else {}

    assert cache.get_or_load_batch(["a", "b"], some, default="no") == [1, "no"]
    assert cache.get_or_load_batch(["a", "b"], some, default="no") == [1, "no"]
    assert asked == [["a", "b"]]


def test_an_absence_never_outlives_its_time_nor_stands_in(bench):
    cache = bench.cache(negative_ttl=5.0, fail_safe=60.0, stale_while_revalidate=60.0)
    cache.get_or_load("key", lambda: MISSING)
    bench.clock.advance(5)
    assert cache.get_or_load("key", lambda: "loaded") == "loaded"


def test_a_loader_may_say_how_long_there_is_nothing(bench):
    cache = bench.cache()
    calls = []

    def nothing():
        calls.append(1)
        return Loaded(MISSING, ttl=3.0)

    for _ in range(2):
        assert cache.get_or_load("key", nothing) is MISSING
    assert len(calls) == 1


# -- sliding -----------------------------------------------------------------------------------


def test_a_sliding_life_goes_on_while_it_is_read(bench, face):
    cache = bench.cache(sliding=True)
    cache.put("key", "v")
    for _ in range(20):
        bench.clock.advance(6)
        assert cache.get("key") == "v"
        if bench.store is not None:  # the store has been told
            until(lambda: not cache._tiers.shelf.tracked.lookout.touched)
            until(lambda: kept(bench, "key") >= 10)


def kept(bench, key):
    """How many seconds the store keeps a key from now on."""
    mine = f":k:s{key}.".encode()
    (end,) = [end for name, (_, end) in bench.store._values.items() if name.endswith(mine)]
    return end - bench.clock()


def test_a_sliding_life_ends_when_nobody_reads(bench):
    cache = bench.cache(sliding=True)
    cache.put("key", "v")
    bench.clock.advance(9.9)
    assert cache.get("key") == "v"
    bench.clock.advance(12.6)
    assert cache.get("key") is None
    assert bench.other(sliding=True).get("key") is None


def test_a_sliding_life_never_ends_before_its_ttl(bench):
    cache = bench.cache(sliding=True)
    cache.put("key", "v")
    for pause in (0.3, 0.9, 1.1, 2.0, 0.99, 5.0, 9.99, 9.99, 0.5, 9.99):
        bench.clock.advance(pause)
        assert cache.get("key") == "v"


def test_other_processes_prolong_a_sliding_life(face):
    bench = Bench(face, "memory")
    one, two = bench.cache(sliding=True), bench.cache(sliding=True, max_entries=0)
    one.put("key", "v")
    for _ in range(10):
        bench.clock.advance(6)
        assert two.get("key") == "v"
        until(lambda: kept(bench, "key") >= 10)
    assert one.get("key") == "v"
    for cache in bench.made:
        cache.close()


def test_reading_never_brings_a_sliding_value_back(bench):
    cache = bench.cache(sliding=True)
    cache.put("key", "v", tags=["tag"])
    bench.clock.advance(6)
    assert cache.get("key") == "v"
    cache.invalidate_by_tag("tag")
    assert cache.get("key") is None
    cache.put("key", "v")
    bench.clock.advance(6)
    cache.invalidate("key")
    assert cache.get("key") is None


# -- options of one call, and those that make no sense -----------------------------------------


def test_the_options_of_one_call_take_the_cache_s_place(bench, face):
    cache, source = bench.cache(), Source()
    kind = Options(fail_safe=60.0)
    load(cache, source, face, options=kind)
    bench.clock.advance(11)
    source.broken = True
    with pytest.raises(Broken):
        load(cache, source, face)
    assert load(cache, source, face, options=kind) == "v1"
    with pytest.raises(ConfigError, match="Options object"):
        load(cache, source, face, options={"fail_safe": 1})


@pytest.mark.parametrize(
    "given, cure",
    [
        ({"stale_while_revalidate": -1}, "stale_while_revalidate"),
        ({"fail_safe": float("nan")}, "fail_safe"),
        ({"negative_ttl": "1"}, "negative_ttl"),
        ({"early_refresh": 1.0}, "fraction"),
        ({"sliding": 1}, "True or False"),
        ({"sliding": True, "fail_safe": 1.0}, "leave out"),
        ({"loader_timeout": 0}, "loader_timeout"),
        ({"loader_soft_timeout": 1.0}, "give fail_safe"),
        ({"loader_soft_timeout": 2.0, "loader_timeout": 1.0, "fail_safe": 1.0}, "not longer"),
    ],
)
def test_options_that_make_no_sense_are_refused(given, cure):
    with pytest.raises(ConfigError, match=cure):
        Options(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"stale_while_revalidate": 1.0},
        {"fail_safe": 1.0},
        {"negative_ttl": 1.0},
        {"sliding": True},
        {"early_refresh": 0.5},
        {"loader_timeout": 1.0},
    ],
)
def test_vectors_never_grow_old(given):
    with pytest.raises(ConfigError, match="never does"):
        EmbeddingCache(options=Options(**given))


# -- found by attacks ----------------------------------------------------------------------------


def test_nothing_stands_in_once_the_loader_said_that_it_is_gone(bench, face):
    for end in (MISSING, Loaded("v", ttl=0)):
        cache = bench.cache(stale_while_revalidate=1000.0, fail_safe=1000.0)
        answers = ["v", end]
        assert cache.get_or_load("key", lambda a=answers: a.pop(0)) == "v"
        bench.clock.advance(11)
        assert cache.get_or_load("key", lambda a=answers: a.pop(0)) == "v"
        until(lambda a=answers: not a)

        def broken():
            raise Broken

        def gone(cache=cache):
            bench.clock.advance(2)
            try:
                cache.get_or_load("key", broken)
            except Broken:
                return True
            return False

        until(gone)
        assert cache.get("key") is None
        assert bench.other(stale_while_revalidate=1000.0).get("key") is None


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_loader_that_hangs_takes_one_thread_however_many_want_it(bench, kind):
    given = {"soft": {"loader_soft_timeout": 0.001}, "hard": {"loader_timeout": 0.001}}[kind]
    cache, source = bench.cache(fail_safe=1000.0, **given), Source()
    until(lambda: load_or_not(cache, source))
    bench.clock.advance(11)
    source.gate.clear()
    calls, before = source.calls, threading.active_count()
    for _ in range(30):
        assert load(cache, source, "sync") == f"v{calls}"
    assert threading.active_count() <= before + 4
    source.gate.set()
    until(lambda: cache.get("key") == f"v{calls + 1}")


def load_or_not(cache, source):
    try:
        return load(cache, source, "sync")
    except LoadTimeout:
        return None


def test_what_a_plain_function_promises_is_kept_on_the_caller_s_loop():
    async def main(options):
        cache = near_with_clock(ManualClock(), face="async", options=options).thing
        here = asyncio.get_running_loop()

        async def fetch():
            return asyncio.get_running_loop() is here

        assert await cache.get_or_load("key", lambda: fetch())
        await cache.close()

    asyncio.run(main(Options(loader_timeout=10.0)))


@pytest.mark.parametrize("tags", ["of the call", "of the loader"])
def test_tags_last_as_long_as_what_stands_in(bench, tags):
    cache = bench.cache(fail_safe=1000.0)
    if tags == "of the call":
        cache.get_or_load("key", lambda: "v", tags=["tag"])
    else:
        cache.get_or_load("key", lambda: Loaded("v", tags=["tag"]))
    bench.clock.advance(500)

    def broken():
        raise Broken

    assert cache.get_or_load("key", broken) == "v"
    assert bench.other(fail_safe=1000.0).get_or_load("key", broken) == "v"
    cache.invalidate_by_tag("tag")
    with pytest.raises(Broken):
        cache.get_or_load("key", broken)


def test_the_tags_of_a_sliding_value_live_as_long_as_it_does(face):
    bench = Bench(face, "memory")
    cache = bench.cache(sliding=True)
    cache.put("key", "v", tags=["tag"])
    for _ in range(10):
        bench.clock.advance(6)
        assert cache.get("key") == "v"
        until(lambda: not cache._tiers.shelf.tracked.lookout.touched)
        until(lambda: kept(bench, "key") >= 10)
    assert bench.cache(sliding=True).get("key") == "v"
    for one in bench.made:
        one.close()


def test_closing_prolongs_what_was_read(face):
    bench = Bench(face, "memory")
    cache = bench.cache(sliding=True)
    keys = [f"k{n}" for n in range(50)]
    cache.put_batch(dict.fromkeys(keys, "v"))
    bench.clock.advance(6)
    assert cache.get_batch(keys) == ["v"] * 50
    cache.close()
    assert all(kept(bench, key) >= 10 for key in keys)


def test_a_short_life_is_not_early_all_its_time(face):
    bench = Bench(face, "memory")
    one, two, calls = bench.cache(ttl=300.0, early_refresh=0.5), None, []
    two = bench.cache(ttl=300.0, early_refresh=0.5)

    def short():
        calls.append(1)
        return Loaded("v", ttl=20.0)

    for _ in range(20):
        for cache in (one, two):
            assert cache.get_or_load("key", short) == "v"
    assert len(calls) == 1
    for cache in bench.made:
        cache.close()


@pytest.mark.parametrize("grace", [1e12, 1e18, 1e300])
def test_a_grace_without_end_is_stored(one_server, grace):
    with NearCache(one_server.url, namespace="near", options=Options(fail_safe=grace)) as cache:
        cache.put("key", "v")
        assert cache.get("key", max_staleness=0) == "v"
        assert cache.get_stats().store_errors == 0


def test_a_read_through_in_time_joins_no_load_that_began_before(face):
    store = MemoryStore()
    options = Options(loader_timeout=_HANG)
    cache, other = (
        near_with_clock(ManualClock(), store, "sync", options=options) for _ in range(2)
    )
    old = Source()
    old.gate.clear()
    loading = threading.Thread(target=cache.get_or_load, args=("key", old))
    loading.start()
    assert old.inside.wait(_HANG)
    other.put("key", "new")
    assert cache.get_or_load("key", lambda: "loaded", max_staleness=0) == "new"
    old.gate.set()
    loading.join(_HANG)
    assert cache.get("key", max_staleness=0) == "new"
    cache.close()
    other.close()


def test_a_promise_on_a_loop_that_ends_holds_nobody_up():
    options = Options(stale_while_revalidate=1000.0)
    clock = ManualClock()
    cache = near_with_clock(clock, face="sync", options=options, ttl=10.0)
    twin = cache.as_async()
    cache.put("key", "old")
    clock.advance(11)

    async def main():
        begun = asyncio.Event()

        async def never():
            begun.set()
            await asyncio.Event().wait()

        assert await twin.get_or_load("key", lambda: never()) == "old"
        await begun.wait()

    asyncio.run(main())

    def fresh():
        clock.advance(2)
        return cache.get_or_load("key", lambda: "fresh") == "fresh"

    until(fresh)
    cache.close()


def test_a_load_behind_an_answer_does_not_overwrite_what_came_since(bench):
    cache = bench.cache(stale_while_revalidate=1000.0)
    sync = cache.as_sync() if bench.face == "async" else cache
    sync.put("key", 1)
    bench.clock.advance(11)
    answer = sync._tiers.answer
    renewals = []
    renew_aside, answer._renew_aside = answer._renew_aside, lambda *given: renewals.append(given)
    assert sync.get_or_load("key", lambda: 0) == 1
    sync.put("key", 5)
    assert sync.update("key", lambda value: value + 1) == 6
    renew_aside(*renewals[0])
    until(lambda: not answer._renewals)
    assert sync.get("key") == sync.get("key", max_staleness=0) == 6


def test_ctrl_c_before_a_load_behind_an_answer_begins_leaves_it_to_the_next(bench, monkeypatch):
    cache = bench.cache(stale_while_revalidate=1000.0)
    sync = cache.as_sync() if bench.face == "async" else cache.thing
    sync.put("key", "old")
    bench.clock.advance(11)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(BlockingIO, "aside", interrupted)
        sync.get_or_load("key", lambda: "new")
    assert not sync._tiers.answer._renewals
    until(lambda: sync.get_or_load("key", lambda: "new") == "new")


def test_a_load_behind_an_answer_that_is_cancelled_before_it_begins_is_over(bench):
    cache = bench.cache(stale_while_revalidate=1000.0)
    twin = cache.as_async() if bench.face == "sync" else cache.thing

    async def load():
        return "new"

    async def answered():
        value = await twin.get_or_load("key", load)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # as the end of a loop does, before its first step
        return value

    twin.as_sync().put("key", "old")
    bench.clock.advance(11)
    for _ in range(20):
        assert asyncio.run(answered()) == "old"
        bench.clock.advance(2)
    assert not twin._tiers.answer._renewals
    until(lambda: twin.as_sync().get_or_load("key", lambda: "new") == "new")
