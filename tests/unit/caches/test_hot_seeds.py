"""The seed's defects that concern hot memories, by their numbers: none of them is here."""

import threading
import time

import numpy as np
import pytest

from embedders import in_threads, until
from hot_fixtures import A, B, C, hot_caches, hot_with_clock, is_near, linked
from nearcache import MemoryStore
from nearcache.caches.memory_key import MemoryKey
from nearcache.errors import ConfigError
from nearcache.testing import ManualClock

hot = pytest.fixture(hot_caches)


def key(number) -> MemoryKey:
    return MemoryKey("working", f"{number}")


def test_1_what_comes_from_the_store_lives_no_longer_near(hot, face, one_server):
    one, two = hot(face, one_server.url), hot(face, one_server.url)
    linked(one, two)
    one.put(A, "value", ttl=5.0)
    assert two.get(A) == "value"
    until(lambda: two.get(A) == "value" and is_near(two, A))
    assert 0 < two.admin.inspect(A)["seconds_left"] <= 5.0


def test_2_a_ttl_of_zero_stores_nothing(hot, face, store):
    cache = hot(face, store)
    cache.put(A, "old")
    cache.put(A, "new", ttl=0)
    assert cache.get(A) is None
    assert cache.get_or_load(B, lambda: "loaded", ttl=0) == "loaded"
    assert cache.get(B) is None


@pytest.mark.parametrize("ttl", [0.5, 1.9])
def test_3_a_fraction_of_a_second_reaches_the_server(hot, face, redis_server, ttl):
    cache = hot(face, redis_server.url)
    cache.put(A, "value", ttl=ttl)
    with redis_server.client() as client:
        (name,) = client.scan_iter("*:k:*.")
        left = client.pttl(name)
    assert 0 < left <= 1000 * ttl


def test_4_the_wall_clock_may_be_set_at_will(face, monkeypatch):
    clock = ManualClock()
    cache = hot_with_clock(clock, face=face)
    cache.put(A, "value", ttl=10.0)
    now = time.time()
    for step in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda step=step: now + step)
        assert cache.get(A) == "value"
    clock.advance(10.1)
    assert cache.get(A) is None
    cache.close()


def test_7_overwriting_at_capacity_evicts_nobody(hot, face):
    cache = hot(face, max_entries=3)
    cache.put_batch({A: 1, B: 1, C: 1})
    for number in range(10):
        cache.put(A, number)
    assert cache.get_batch([A, B, C]) == [9, 1, 1]
    assert cache.get_stats().evictions == 0


def test_8_a_size_of_zero_switches_near_off_and_nothing_else(hot, face, store):
    cache = hot(face, store, max_entries=0)
    cache.put(A, "value")
    assert cache.get(A) == (None if store is None else "value")
    assert cache.get_or_load(B, lambda: "loaded") == "loaded"
    assert cache.size == 0


def test_9_what_has_expired_leaves_before_what_lives(face):
    clock = ManualClock()
    cache = hot_with_clock(clock, face=face, max_entries=10)
    cache.put_batch({key(n): n for n in range(5)})
    cache.put_batch({key(n): n for n in range(5, 10)}, ttl=1.0)
    clock.advance(2.0)
    cache.put_batch({key(n): n for n in range(10, 15)})
    assert cache.get_batch([key(n) for n in (*range(5), *range(10, 15))]) == [
        *range(5),
        *range(10, 15),
    ]
    cache.close()


def test_16_the_callers_list_is_not_the_caches(hot, face, store):
    cache = hot(face, store)
    given = [1, {"a": [2]}]
    cache.put(A, given)
    given.append("put")
    cache.get(A).append("got")
    cache.get(A)[1]["a"].append("got")
    loaded = [1]
    got = cache.get_or_load(B, lambda: loaded)
    loaded.append("loaded")
    got.append("got")
    assert cache.get(A) == [1, {"a": [2]}]
    assert cache.get(B) == [1]


def test_18_joined_keys_do_not_meet(hot, face, store):
    cache = hot(face, store)
    pairs = [
        (MemoryKey("h", "x:y"), MemoryKey("h:x", "y")),
        (MemoryKey("a", "b", "c"), MemoryKey("a", "b:c")),
        (MemoryKey("t", "i", "team"), MemoryKey("t", "i", "team:bob")),
        (MemoryKey("t", "i", "None"), MemoryKey("t", "i")),
    ]
    for one, other in pairs:
        cache.put(one, "one")
        assert cache.get(other) is None
        cache.put(other, "other")
        assert cache.get(one) == "one"
        cache.invalidate(other)
        if other.scope != one.scope:
            cache.invalidate_by_scope(other.scope)
        assert cache.get(one) == "one"


def test_18_a_scope_with_odd_characters_reaches_no_other(hot, face, store):
    scopes = [
        "bob",
        "*",
        "b*",
        "[b]ob",
        "b?b",
        "bob\n",
        "bob\x00",
        "\U0001f600",
        "b" * 5000,
        "s:bob",
    ]
    cache = hot(face, store)
    for number, scope in enumerate(scopes):
        cache.put(MemoryKey("t", "i", scope), number)
    for number, scope in enumerate(scopes):
        cache.invalidate_by_scope(scope)
        found = cache.get_batch([MemoryKey("t", "i", scope) for scope in scopes])
        assert [n for n in found if n is not None] == list(range(number + 1, len(scopes)))


@pytest.mark.parametrize("part", ["", "x" * 10_000])
def test_18_too_long_or_empty_is_a_clear_error(part):
    for make in (
        lambda: MemoryKey(part, "id"),
        lambda: MemoryKey("t", part),
        lambda: MemoryKey("t", "id", part),
    ):
        with pytest.raises(ConfigError):
            make()


def test_22_forgetting_what_is_not_there_says_so(hot, face, store):
    cache = hot(face, store)
    assert cache.invalidate(A) is False
    cache.put(A, 1)
    assert cache.invalidate(A) is True
    assert cache.invalidate(A) is False


FORGETS = {
    "key": lambda cache: cache.invalidate(A),
    "type": lambda cache: cache.invalidate_by_type("episodic"),
    "scope": lambda cache: cache.invalidate_by_scope("alice"),
    "tag": lambda cache: cache.invalidate_by_tag("tag"),
    "pattern": lambda cache: cache.invalidate_pattern(memory_id="[a]"),
    "clear": lambda cache: cache.clear(),
}


class SlowReads(MemoryStore):
    """A store whose answer to a read is under way until the test lets it come."""

    def __init__(self):
        super().__init__()
        self.hold = False
        self.asked, self.go_on = threading.Event(), threading.Event()

    def look(self, keys, groups):
        answer = super().look(keys, groups)
        if keys and self.hold:
            self.hold = False
            self.asked.set()
            assert self.go_on.wait(30)
        return answer


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
def test_23_a_read_under_way_brings_nothing_back(hot, face, forget):
    store = SlowReads()
    hot("sync", store).put(A, "old", tags=["tag"])
    cache = hot(face, store)
    linked(cache)
    store.hold = True
    reader = threading.Thread(target=cache.get, args=(A,))
    reader.start()
    assert store.asked.wait(30)
    forget(cache)
    store.go_on.set()
    reader.join(30)
    assert cache.get(A) is None
    assert cache.get(A, max_staleness=0) is None


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
def test_23_a_load_under_way_brings_nothing_back(hot, face, store, forget):
    cache = hot(face, store)
    inside, go_on = threading.Event(), threading.Event()

    def load():
        inside.set()
        assert go_on.wait(30)
        return "old"

    loading = threading.Thread(target=cache.get_or_load, args=(A, load), kwargs={"tags": ["tag"]})
    loading.start()
    assert inside.wait(30)
    forget(cache)
    go_on.set()
    loading.join(30)
    assert cache.get(A) is None
    assert cache.get(A, max_staleness=0) is None


@pytest.mark.parametrize("name", ["mem:emb", "app*", "app[1]", "a?c"])
def test_25_clearing_a_namespace_clears_that_and_no_other(hot, face, shared, name):
    others = [f"{name}:prod", name.replace("*", "x").replace("[1]", "1").replace("?", "b") + "2"]
    cache, *rest = (hot(face, shared, namespace=one) for one in (name, *others))
    for one in (cache, *rest):
        one.put(A, "value")
    cache.clear()
    assert cache.get(A) is None
    assert cache.get(A, max_staleness=0) is None
    for one in rest:
        assert one.get(A) == one.get(A, max_staleness=0) == "value"


def test_37_eight_threads_do_everything_at_once(hot, store):
    cache = hot("sync", store, max_entries=50)
    keys = [MemoryKey("working", f"{n}", f"{n % 5}") for n in range(100)]

    def work(number):
        draw = np.random.default_rng(number)
        for _ in range(200):
            one = keys[int(draw.integers(100))]
            match int(draw.integers(8)):
                case 0:
                    cache.put(one, one.memory_id)
                case 1:
                    cache.invalidate(one)
                case 2:
                    cache.invalidate_by_scope(f"{draw.integers(5)}")
                case 3:
                    assert cache.get_or_load(one, lambda one=one: one.memory_id) == one.memory_id
                case 4:
                    cache.get_hot_memories(3)
                    cache.cleanup_expired()
                case _:
                    assert cache.get(one, one.memory_id) == one.memory_id

    assert in_threads(8, work) == [None] * 8
    assert cache.size <= 50


def test_40_warming_says_how_many_are_near(hot, face):
    cache = hot(face, max_entries=3)
    assert cache.warm({key(n): n for n in range(6)}) == cache.size
    assert cache.size <= 3


# -- the seed's targets --------------------------------------------------------------------------


def hits(cache, numbers) -> int:
    """How many of these keys were hits; the others are loaded."""
    before = cache.get_stats().hits
    for number in numbers:
        assert cache.get_or_load(key(number), lambda number=number: int(number)) == number
    return cache.get_stats().hits - before


def test_hot_memories_of_a_zipf_workload_are_hits(hot):
    """Zipf(1.0) over 100,000 keys, a fifth of them near: a perfect cache has 86.7 %."""
    draw = np.random.default_rng(40)
    chance = 1 / np.arange(1, 100_001)
    asked = draw.choice(100_000, 150_000, p=chance / chance.sum())
    cache = hot("sync", max_entries=20_000)
    hits(cache, asked[:100_000])
    assert hits(cache, asked[100_000:]) / 50_000 >= 0.80


def test_repeated_content_is_a_hit_nine_times_out_of_ten(hot):
    """A thousand memories, each asked for twenty times in any order."""
    asked = np.repeat(np.arange(1000), 20)
    np.random.default_rng(40).shuffle(asked)
    assert hits(hot("sync"), asked) / len(asked) >= 0.90
