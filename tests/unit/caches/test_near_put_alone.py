"""NearCache without a store: a put takes a shorter way, and nobody can tell by what it does."""

import pytest

from embedders import in_threads
from near_fixtures import near_caches, near_with_clock
from nearcache import Options
from nearcache.errors import ClosedError, CodecError, ConfigError
from nearcache.testing import ManualClock

near = pytest.fixture(near_caches)


@pytest.mark.parametrize("value", ["text", "", 1, 1.5, True, None, ["a", {"b": None}], {}])
@pytest.mark.parametrize("key", ["key", b"key", ("a", "b"), ("a", b"b", ("c", ""))])
def test_what_was_put_comes_back(near, face, key, value):
    cache = near(face)
    cache.put(key, value)
    assert cache.get(key, "nothing") == value
    assert cache.get_batch([key]) == [value]


def test_what_can_be_changed_is_the_caller_s_own(near, face):
    cache, given = near(face), ["kept"]
    cache.put("key", given)
    given.append("mine")
    cache.get("key").append("mine, too")
    assert cache.get("key") == ["kept"]


@pytest.mark.parametrize(
    "arguments, error",
    [
        (("", "v"), ConfigError),
        (((), "v"), ConfigError),
        ((1, "v"), ConfigError),
        ((["key"], "v"), ConfigError),
        (("x" * 100_000, "v"), ConfigError),
        ((("x" * 70_000, "y"), "v"), ConfigError),
        (("key", object()), CodecError),
        (("key", "v", -1), ConfigError),
        (("key", "v", "soon"), ConfigError),
        (("key", "v", 1.0, "tag"), ConfigError),
        (("key", "v", 1.0, [""]), ConfigError),
        (("key", "v", 1.0, [1]), ConfigError),
        (("key", "v", 1.0, [["tag"]]), ConfigError),
    ],
)
def test_bad_input_is_refused_before_any_effect(near, face, arguments, error):
    cache = near(face)
    cache.put("key", "before", tags=["t", "a", "g"])
    with pytest.raises(error):
        cache.put(*arguments)
    assert cache.get("key") == "before"
    assert cache.size == 1


def test_ttl_0_forgets(near, face):
    cache = near(face)
    cache.put("key", "v")
    cache.put("key", "w", ttl=0)
    assert cache.get("key") is None


def test_a_life_ends(face):
    clock = ManualClock()
    cache = near_with_clock(clock, face=face, ttl=10.0)
    cache.put("default", "v")
    cache.put("own", "v", ttl=5.0)
    cache.put("endless", "v", ttl=None)
    clock.advance(5)
    assert cache.get_batch(["default", "own", "endless"]) == ["v", None, "v"]
    clock.advance(5)
    assert cache.get_batch(["default", "own", "endless"]) == [None, None, "v"]
    cache.close()


def test_a_load_that_was_under_way_does_not_replace_it(near):
    cache = near("sync")

    def load():
        cache.put("key", "put", tags=["t"])
        return "loaded"

    assert cache.get_or_load("key", load) == "loaded"
    assert cache.get("key") == "put"


def test_it_counts_its_bytes_and_evicts(near, face):
    cache = near(face, max_bytes=50_000, max_entries=100_000)
    for number in range(1000):
        cache.put(f"key{number}", "v" * 100)
        assert cache.get_stats().bytes_near <= 50_000
    assert 50 < cache.size < 500
    cache.put("huge", "v" * 60_000)
    assert cache.get("huge") is None


def test_a_view_s_values_are_its_own(near):
    cache = near("sync")
    view = cache.as_sync().view("tenant")
    cache.put("key", "mine")
    view.put("key", "theirs")
    assert (cache.get("key"), view.get("key")) == ("mine", "theirs")


def test_after_close_it_refuses(near, face):
    cache = near(face)
    cache.close()
    with pytest.raises(ClosedError):
        cache.put("key", "v")


@pytest.mark.parametrize(
    "options", [{"jitter": 0.5}, {"sliding": True}, {"fail_safe": 5.0}, {"early_refresh": 0.5}]
)
def test_options_of_freshness_hold_for_it(face, options):
    clock = ManualClock()
    cache = near_with_clock(clock, face=face, ttl=10.0, options=Options(**options))
    for number in range(20):
        cache.put(f"key{number}", "v")
    ends = {cache.as_sync().admin.inspect(f"key{n}")["seconds_left"] for n in range(20)}
    assert (len(ends) > 1) == ("jitter" in options)
    assert max(ends) <= 12.5
    cache.close()


def test_many_threads_put_get_and_forget_by_tag(near):
    cache = near("sync", max_entries=100)

    def work(number):
        for n in range(300):
            cache.put(f"{n % 150}", f"{number}", tags=[f"t{n % 3}"])
            assert cache.get(f"{n % 150}") in (None, "0", "1", "2", "3")
            if n % 50 == 0:
                cache.invalidate_by_tag(f"t{n % 3}")

    assert in_threads(4, work) == [None] * 4
    for tag in ("t0", "t1", "t2"):
        cache.invalidate_by_tag(tag)
    assert cache.get_batch([f"{n}" for n in range(150)]) == [None] * 150
