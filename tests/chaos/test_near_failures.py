"""NearCache behind links and stores that stall, break, lie and come back: slower, never wrong."""

import sqlite3
import threading
import time
from typing import NamedTuple

import pytest

from embedders import in_threads, until
from near_fixtures import SPACE, Source, begun, linked, near_caches, settled
from nearcache import MISSING, MemoryStore, NearCache, Options
from nearcache.errors import StoreError, StoreTimeout, StoreUnavailable
from nearcache.testing import ChaosStore, FaultProxy

near = pytest.fixture(near_caches)

T = 0.4
SLACK = 0.25  # of a busy machine
QUICK = Options(link_timeout=T, store_timeout=0.2, lease=1.0)


@pytest.fixture
def proxy(one_server):
    with FaultProxy.of(one_server.url) as made:
        yield made


class Look(NamedTuple):
    """One of many reads: when it began and ended, and whether it found what was wanted."""

    began: float
    ended: float
    found: bool


def looks(read, wanted, seconds, started=None):
    """Look until so many seconds have passed since ``started``, or now; times are since then.

    A machine may stand still between two looks, or during one. So tests say of every look what it
    has to find: what began after a bound, what ended before one.
    """
    started = time.monotonic() if started is None else started
    seen = []
    while (began := time.monotonic() - started) < seconds:
        found = read() == wanted
        seen.append(Look(began, time.monotonic() - started, found))
        time.sleep(0.002)  # between two looks
    return seen


def last_time(seen):
    """The seconds after which the last look began that found what was wanted, or -1."""
    return max((look.began for look in seen if look.found), default=-1.0)


def until_near(cache, key):
    settled(cache, key)
    until(lambda: (found := cache.admin.inspect(key)) and found["servable"])


# -- a link that says nothing ----------------------------------------------------------------------

CHANGES = {
    "put": (lambda cache: cache.put("key", "new"), "new"),
    "invalidate": (lambda cache: cache.invalidate("key"), None),
    "tag": (lambda cache: cache.invalidate_by_tag("tag"), None),
    "clear": (lambda cache: cache.clear(), None),
}


@pytest.mark.parametrize("read_at", [0.0, 0.9], ids=["near", "read late"])
@pytest.mark.parametrize("change, value", CHANGES.values(), ids=CHANGES)
def test_behind_a_stalled_link_nothing_old_is_served_beyond_the_bound(
    near, one_server, proxy, change, value, read_at
):
    """Reads still reach the store; what they bring counts from what the link said last."""
    writer = near("sync", one_server.url)
    writer.put("key", "old", tags=["tag"])
    writer.put("other", "old", tags=["tag"])
    reader = near("sync", proxy.url, options=QUICK)
    linked(reader)
    settled(reader, "other")
    if not read_at:
        until_near(reader, "key")
    proxy.black_hole(only="tracked")
    change(writer)
    started = time.monotonic()
    if read_at:
        until(lambda: time.monotonic() - started >= read_at * T)
    assert last_time(looks(lambda: reader.get("key"), "old", 2 * T, started)) <= T + SLACK
    assert reader.get("key") == value
    proxy.heal()
    until(lambda: reader.link == "tracking")
    writer.put("key", "last")
    until(lambda: reader.get("key") == "last")


@pytest.mark.parametrize("way", ["black hole", "half open", "kill", "pause"])
def test_no_hit_is_served_beyond_the_bound_and_reads_go_on(near, face, own_server, way):
    server = own_server()
    near("sync", server.url).put("key", "value")
    with FaultProxy.of(server.url) as proxy:
        cache = near(face, proxy.url, options=QUICK)
        linked(cache)
        until_near(cache, "key")
        {
            "black hole": proxy.black_hole,
            "half open": proxy.half_open,
            "kill": server.kill,
            "pause": server.pause,
        }[way]()
        if way == "half open":
            proxy.refuse()
        seen = looks(lambda: cache.get("key"), "value", 2.5 * T)
        assert seen[0].found or seen[0].ended > T / 4
        assert last_time(seen) <= T + SLACK
        started = time.monotonic()
        assert cache.get("key") is None
        assert cache.get_or_load("new", lambda: "loaded") == "loaded"
        assert cache.get_or_load("new", lambda: 1 / 0) == "loaded"  # for a moment, near
        assert cache.get_or_load_batch(["a", "b"], dict.fromkeys) == [None, None]
        cache.put("key", "put")
        cache.invalidate("key")
        assert time.monotonic() - started < 6.0
        assert cache.get_stats().store_errors > 0
        proxy.heal()
        server.restart() if way == "kill" else server.resume()
        until(lambda: cache.get_stats().undelivered == 0 and cache.link == "tracking")
        assert cache.get("key", max_staleness=0) is None
        cache.put("back", 1)
        until(lambda: cache.get("back", max_staleness=0) == 1 or cache.put("back", 1))


def test_replies_that_are_seconds_late_bring_nothing_old_back(near, face, one_server, proxy):
    writer = near("sync", one_server.url)
    writer.put("key", 0)
    reader = near(face, proxy.url, options=Options(link_timeout=T, store_timeout=3.0))
    linked(reader)
    settled(reader, "key")
    proxy.delay(to_client=2 * T)
    changed = time.monotonic()
    writer.put("key", 1)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(reader.get("key"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    known = looks(lambda: (reader.admin.inspect("key") or {}).get("servable"), True, 2 * T, changed)
    assert last_time(known) <= T + SLACK
    for thread in threads:
        thread.join()
    proxy.heal()
    until(lambda: reader.get("key") == 1)
    assert time.monotonic() - changed < 10
    assert reader.get("key") == 1


# -- a link that is lost ---------------------------------------------------------------------------


def test_an_unverified_copy_stands_in_as_long_as_it_may(near, face, own_server):
    server = own_server()
    longer = Options(link_timeout=0.3, serve_unverified=0.7, store_timeout=0.2)
    near("sync", server.url).put_batch({"key": 1, "gone": 2, "tagged": 3}, tags=["tag"])
    near("sync", server.url).put("plain", 4)
    cache = near(face, server.url, options=longer)
    linked(cache)
    for key in ("key", "gone", "tagged", "plain"):
        until_near(cache, key)
    server.kill()
    cache.invalidate("gone")  # what this process knows to be forgotten stands in for nothing
    assert cache.get("gone") is None
    seen = looks(lambda: cache.get_batch(["key", "plain"]), [1, 4], 1.6)
    assert all(look.found for look in seen if look.ended < 0.5)
    assert last_time(seen) <= 1.0 + SLACK
    server.restart()


def test_a_tag_forgotten_here_stands_in_for_nothing(near, face, own_server):
    server = own_server()
    longer = Options(link_timeout=0.3, serve_unverified=30.0, store_timeout=0.2)
    near("sync", server.url).put("tagged", 1, tags=["tag"])
    near("sync", server.url).put("plain", 2)
    cache = near(face, server.url, options=longer)
    linked(cache)
    for key in ("tagged", "plain"):
        until_near(cache, key)
    server.kill()
    cache.invalidate_by_tag("tag")
    assert cache.get("tagged") is None
    assert cache.get("plain") == 2
    cache.clear()
    assert cache.get("plain") is None
    assert cache.get_stats().undelivered == 2
    server.restart()
    until(lambda: cache.get_stats().undelivered == 0 or cache.get("x"))


def test_what_was_near_is_verified_by_its_heads_alone(near, one_server, proxy):
    keys = [f"k{n}" for n in range(300)]
    writer = near("sync", one_server.url)
    writer.put_batch({key: key * 50 for key in keys}, tags=["tag"])
    cache = near("sync", proxy.url, options=Options(link_timeout=5.0))
    linked(cache)
    for key in keys:
        settled(cache, key)
    proxy.refuse(only="tracked")
    proxy.reset(only="tracked")
    until(lambda: cache.link == "connecting")
    changed, forgotten = keys[:10], keys[10:20]
    writer.put_batch(dict.fromkeys(changed, "changed"))
    writer.invalidate_batch(forgotten)
    one_server.reset_counts()
    proxy.heal()

    def verified():
        found = [cache.admin.inspect(key) for key in keys]
        return found[:20] == [None] * 20 and all(one and one["servable"] for one in found[20:])

    until(lambda: cache.link == "tracking")
    until(verified)
    counts = one_server.command_counts()
    read = counts.get("mget", 0) + counts.get("get", 0)
    assert read <= 5, counts  # epochs and the canary; no values
    assert counts.get("getrange", 0) + sum(v for k, v in counts.items() if k.startswith("eval")) > 0
    hits = cache.get_stats().near_hits
    assert cache.get_batch(keys[20:]) == [key * 50 for key in keys[20:]]
    assert cache.get_stats().near_hits == hits + 280
    assert cache.get_batch(changed) == ["changed"] * 10
    assert cache.get_batch(forgotten) == [None] * 10


def test_what_was_forgotten_by_tag_or_all_at_once_meanwhile_is_not_verified(
    near, one_server, proxy
):
    for forget, left in (("tag", 1), ("clear", None)):
        writer = near("sync", one_server.url)
        writer.put("tagged", 1, tags=["tag"])
        writer.put("plain", 1)
        cache = near("sync", proxy.url, options=Options(link_timeout=5.0))
        linked(cache)
        for key in ("tagged", "plain"):
            settled(cache, key)
        proxy.refuse(only="tracked")
        proxy.reset(only="tracked")
        until(lambda cache=cache: cache.link == "connecting")
        writer.invalidate_by_tag("tag") if forget == "tag" else writer.clear()
        proxy.heal()
        until(lambda cache=cache: cache.link == "tracking")
        until(lambda cache=cache: cache.get("tagged") is None)
        until(lambda cache=cache, left=left: cache.get("plain") == left)


@pytest.mark.parametrize("restart", [False, True], ids=["link", "server"])
def test_the_link_comes_back_whatever_ended_it(near, face, own_server, restart):
    server = own_server()
    one, two = near(face, server.url, options=QUICK), near("sync", server.url, options=QUICK)
    linked(one, two)
    for number in range(3):
        if restart:
            server.kill() if number % 2 else server.restart()
            server.alive or server.restart()
        else:
            with server.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        until(lambda: one.put("key", "x") or two.get("key", max_staleness=0) == "x")
        until(lambda: {one.link, two.link} == {"tracking"})

        def is_written(number=number):
            one.put("key", number)
            return two.get("key", max_staleness=0) == number

        until(is_written)
        until(lambda number=number: two.get("key") == number)
        two.invalidate("key")
        until(lambda: one.get("key") is None)


# -- a store that forgets --------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
def test_a_flush_empties_near_tiers_too(near, face, redis_server, command):
    near("sync", redis_server.url).put_batch({"a": 1, "b": 2}, tags=["tag"])
    cache = near(face, redis_server.url)
    linked(cache)
    settled(cache, "a")
    with redis_server.client() as client:
        client.execute_command(command)
    until(lambda: cache.get("a") is None and cache.get("b") is None)
    cache.put("a", 3, tags=["tag"])
    assert cache.get("a") == cache.get("a", max_staleness=0) == 3
    assert cache.get_or_load("b", lambda: 4) == 4


def test_a_flush_of_another_database_costs_a_look_at_most(near, one_server):
    near("sync", one_server.url).put("a", 1)
    cache = near("sync", one_server.url)
    linked(cache)
    settled(cache, "a")
    with one_server.client(db=5) as client:
        client.set("somebody", "else's")
        client.flushdb()
    for _ in range(50):
        assert cache.get("a") == 1
    until_near(cache, "a")


@pytest.mark.parametrize("which", ["everything", "tag", "all epochs"])
@pytest.mark.parametrize("how", ["deleted", "expired"])
def test_an_epoch_that_the_server_lost_costs_misses_and_revives_nothing(
    near, face, one_server, which, how
):
    one, two = near(face, one_server.url), near("sync", one_server.url)
    linked(one, two)
    one.put("forgotten", 1, tags=["tag"])
    one.invalidate_by_tag("tag")
    one.put("key", 1, tags=["tag"])
    settled(two, "key")
    with one_server.client() as client:
        names = [
            name
            for name in client.keys("nc1:*:e:*")
            if which == "all epochs" or name.endswith(b":e:*") == (which == "everything")
        ]
        assert names
        for name in names:
            client.delete(name) if how == "deleted" else client.pexpire(name, 1)
        until(lambda: not any(client.exists(name) for name in names))
    for cache in (one, two):
        assert cache.get("key", max_staleness=0) is None
        until(lambda cache=cache: cache.get("key") is None)
        assert cache.get("forgotten") is None
    one.put("key", 2, tags=["tag"])
    until(lambda: two.get("key") == 2)
    two.invalidate_by_tag("tag")
    until(lambda: one.get("key") is None)


def test_keys_deleted_or_evicted_behind_our_back_leave_near_too(near, one_server):
    near("sync", one_server.url).put_batch({"a": 1, "b": 2})
    cache = near("sync", one_server.url)
    linked(cache)
    settled(cache, "a")
    with one_server.client() as client:
        client.delete(*client.keys("nc1:*:k:*"))
    until(lambda: cache.get("a") is None and cache.get("b") is None)


# -- writes that fail ------------------------------------------------------------------------------


def test_a_write_that_is_executed_late_changes_nothing(near, face, own_server):
    server = own_server()
    one, two = near(face, server.url, options=QUICK), near("sync", server.url, options=QUICK)
    linked(one, two)
    for number in range(3):
        until(lambda: one.put("key", "before") or two.get("key", max_staleness=0) == "before")
        server.pause()
        one.put("key", "late")  # times out; the server has it, and will do it when it goes on
        one.put("other", "late")
        server.resume()
        until(
            lambda number=number: (
                two.put("key", number) or two.get("key", max_staleness=0) == number
            )
        )
        until(lambda: one.get_stats().undelivered == 0 or one.get("x"))

        def same(number=number):
            value = one.get("key", max_staleness=0)
            assert value in (number, None)
            return two.get("key") == one.get("key") == value

        until(same)
        assert two.get("key") != "late"


def test_a_put_that_failed_is_forgotten_and_not_half_there(near, face):
    store = ChaosStore(MemoryStore())
    cache, other = near(face, store), near("sync", store)
    cache.put("key", "old")
    settled(other, "key")
    store.time_out(methods=["put"])
    cache.put("key", "new")
    assert cache.get("key") in (None, "new")
    store.calm()
    until(lambda: cache.get_stats().undelivered == 0 or cache.get("x"))
    until(lambda: cache.get("key") == other.get("key") == other.get("key", max_staleness=0))
    assert other.get("key") != "old"


@pytest.mark.parametrize("kind", ["fail", "time_out", "late", "slow"])
def test_a_bad_day_ends_with_everybody_holding_the_same(near, kind):
    """Failures at random in every call; afterwards near tiers and store agree, and nothing old."""
    store = ChaosStore(MemoryStore(), seed=7)
    options = Options(link_timeout=0.3, lease=0.5)
    caches = [near("sync", store, options=options) for _ in range(3)]
    linked(*caches)
    source = Source()
    if kind == "slow":
        store.slow(0.002, rate=0.3)
    else:
        getattr(store, kind)(rate=0.2)
    keys = [f"k{n}" for n in range(6)]

    def work(number):
        cache = caches[number % 3]
        for n in range(40):
            key = keys[(n * 7 + number) % 6]
            match n % 5:
                case 0:
                    cache.put(key, f"{number} {n}", tags=["tag"])
                case 1 | 2:
                    cache.get(key)
                case 3:
                    cache.get_or_load(key, source.of("sync", key), tags=["tag"])
                case _ if n % 10 == 9:
                    cache.invalidate(key)
                case _:
                    cache.invalidate_by_tag("tag")

    assert in_threads(6, work) == [None] * 6
    store.calm()
    store.deliver()

    def delivered():
        for cache in caches:
            cache.get("x")
        return sum(cache.get_stats().undelivered for cache in caches) == 0

    until(delivered)
    truth = caches[0].get_batch(keys, MISSING, max_staleness=0)
    for cache in caches:
        until(lambda cache=cache: cache.get_batch(keys, MISSING) == truth)
    for cache in caches:
        cache.put("end", 1)
    until(lambda: all(cache.get("end") == 1 for cache in caches))


def test_who_wants_errors_raised_gets_them(near, face):
    store = ChaosStore(MemoryStore())
    cache = near(face, store, options=Options(on_store_error="raise"))
    cache.put("key", 1)
    linked(cache)
    store.fail(error=StoreUnavailable)
    for use in (
        lambda: cache.get("absent"),
        lambda: cache.put("key", 2),
        lambda: cache.get_or_load("absent", lambda: 1),
        lambda: cache.invalidate("key"),
        lambda: cache.invalidate_by_tag("tag"),
        lambda: cache.clear(),
    ):
        with pytest.raises(StoreError):
            use()
    store.calm()


def test_no_store_error_is_ever_felt(near, face):
    """One after the other, every method of the store fails; every call of the cache works."""
    for error in (StoreUnavailable, StoreTimeout):
        for method in (
            ["look"], ["heads"], ["epochs"], ["claim"], ["expect"], ["commit"], ["revoke"], ["put"],
            ["bump"], ["now"], ["release"], ["renew"], ["drop_corrupt"], None,
        ):  # fmt: skip
            store = ChaosStore(MemoryStore())
            cache = near(face, store)
            cache.put("before", 1, tags=["tag"])
            store.fail(error=error, methods=method)
            assert cache.get_or_load("a", lambda: 1, tags=["tag"]) == 1
            assert cache.get_or_load_batch(["b", "c"], dict.fromkeys) == [None, None]
            cache.put("d", 1, tags=["more"])
            cache.put_batch({"e": 1})
            assert cache.get("before", 1) == 1
            cache.invalidate("a")
            assert cache.get("a") is None
            cache.invalidate_by_tag("tag")
            assert cache.get("before") is None
            cache.clear()
            assert cache.get_batch(["a", "b", "c", "d", "e"]) == [None] * 5
            store.calm()
            cache.close()


# -- a file ----------------------------------------------------------------------------------------


def test_a_file_that_is_removed_or_replaced_is_begun_anew(near, face, tmp_path):
    path = tmp_path / "near.db"
    url = f"sqlite:///{path}"
    one, two = near(face, url, options=QUICK), near("sync", url, options=QUICK)
    one.put("key", 1)
    linked(one, two)
    settled(two, "key")
    for part in tmp_path.glob("near.db*"):
        part.unlink()
    until(lambda: two.get("key") is None)
    until(lambda: one.put("key", 2) or one.get("key", max_staleness=0) == 2)
    until(lambda: two.get("key") == 2)
    until(lambda: {one.link, two.link} == {"tracking"})


def test_a_file_that_somebody_writes_for_long_is_a_slow_store_and_no_error(near, tmp_path):
    path = tmp_path / "near.db"
    cache = begun(near, "sync", f"sqlite:///{path}", options=QUICK)
    cache.put("key", 1)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        cache.put("key", 2)
        assert cache.get("key") in (None, 2)
        assert cache.get_or_load("new", lambda: 3) == 3
        cache.invalidate("key")
        assert cache.get("key") is None
    finally:
        db.execute("ROLLBACK")
        db.close()
    until(lambda: cache.get_stats().undelivered == 0 or cache.get("x"))
    other = NearCache(f"sqlite:///{path}", namespace=SPACE)
    assert other.get("key") is None
    other.close()


class SlowAnswers(MemoryStore):
    """A put whose answer is under way until ``go``; a revoke that gets none while ``down``."""

    def __init__(self):
        super().__init__()
        self.done, self.go, self.slow, self.down = threading.Event(), threading.Event(), True, False

    def put(self, *arguments):
        found = super().put(*arguments)
        if self.slow:
            self.done.set()
            self.go.wait()
        return found

    def revoke(self, *arguments):
        if self.down:
            msg = "no answer"
            raise StoreTimeout(msg)
        return super().revoke(*arguments)


def test_what_is_forgotten_while_the_answer_to_its_put_is_under_way_stays_forgotten():
    store = SlowAnswers()
    with NearCache(store, namespace="tests") as cache, NearCache(store, namespace="tests") as other:
        put = threading.Thread(target=cache.put, args=("key", "value"))
        put.start()
        store.done.wait()
        store.slow = False
        assert other.get("key") == "value"  # and its reader asks us to forget it
        store.down = True
        cache.invalidate("key")
        store.go.set()
        put.join()
        assert cache.get_stats().undelivered == 1
        store.down = False
        until(lambda: cache.get_stats().undelivered == 0)
        until(lambda: other.get("key") is None)
        assert cache.get("key") is None
