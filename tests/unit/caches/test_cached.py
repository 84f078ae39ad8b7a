"""The ``cached`` decorator: a function behind a cache, of the same kind and with a stable key."""

import asyncio
import inspect
import pickle
from functools import partial

import pytest

from hot_fixtures import hot_caches, hot_with_clock
from near_fixtures import near_caches
from nearcache import MISSING
from nearcache.caches.cached import decorate
from nearcache.caches.memory_key import MemoryKey
from nearcache.errors import ConfigError
from nearcache.testing import ManualClock

hot = pytest.fixture(hot_caches)
near = pytest.fixture(near_caches)


class Called:
    """Makes functions of either kind that count their calls."""

    def __init__(self, kind):
        self.kind = kind
        self.calls = []

    def function(self, result=lambda *args: args):
        def plain(*args):
            self.calls.append(args)
            return result(*args)

        async def coroutine(*args):
            await asyncio.sleep(0)
            return plain(*args)

        return plain if self.kind == "plain" else coroutine


def done(answer):
    """What a call gives, awaited if it has to be."""
    return asyncio.run(answer) if inspect.isawaitable(answer) else answer


@pytest.fixture(params=["plain", "coroutine"])
def called(request):
    return Called(request.param)


def by_id(*args):
    return MemoryKey("working", f"{args}")


def test_the_same_call_is_made_once(hot, face, store, called):
    cache = hot(face, store)
    load = cache.cached(key=by_id)(called.function(lambda n: {"n": n}))
    assert done(load(1)) == done(load(1)) == {"n": 1}
    assert done(load(2)) == {"n": 2}
    assert called.calls == [(1,), (2,)]
    assert cache.get(by_id(1)) == {"n": 1}


def test_a_result_can_be_forgotten(hot, face, called):
    cache = hot(face)
    load = cache.cached(key=by_id)(called.function())
    done(load("a"))
    assert done(load.invalidate("a")) is True
    assert done(load.invalidate("a")) is False
    done(load("a"))
    assert called.calls == [("a",)] * 2
    assert load.key("a") == by_id("a")


def test_the_function_has_its_cache_in_its_own_face(hot, face, called):
    cache = hot(face)
    function = called.function()
    load = cache.cached(key=by_id)(function)
    assert load.__wrapped__ is function
    assert load.__name__ == function.__name__
    assert type(load.cache).__name__.startswith("Async") is (called.kind == "coroutine")
    done(load("a"))
    assert load.cache.get_stats().loads == cache.get_stats().loads == 1


def test_none_is_a_value_and_missing_is_none(hot, face, called):
    answers = [None, MISSING, MISSING]
    load = hot(face).cached(key=by_id)(called.function(lambda _: answers.pop(0)))
    assert done(load("a")) is done(load("a")) is None
    assert done(load("b")) is done(load("b")) is MISSING
    assert len(called.calls) == 3


def test_what_it_raises_passes(hot, face, called):
    load = hot(face).cached(key=by_id)(called.function(lambda _: 1 / 0))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            done(load("a"))
    assert len(called.calls) == 2


def test_a_result_lives_as_long_as_its_ttl(face, called):
    clock = ManualClock()
    cache = hot_with_clock(clock, face=face)
    load = cache.cached(key=by_id, ttl=2.0)(called.function())
    done(load("a"))
    clock.advance(1.9)
    done(load("a"))
    assert len(called.calls) == 1
    clock.advance(0.2)
    done(load("a"))
    assert len(called.calls) == 2
    cache.close()


@pytest.mark.parametrize("tags", [["red"], lambda name: ["red", f"of {name}"]])
def test_a_result_carries_tags(hot, face, called, tags):
    cache = hot(face)
    load = cache.cached(key=by_id, tags=tags)(called.function())
    done(load("a"))
    cache.invalidate_by_tag("red")
    done(load("a"))
    assert len(called.calls) == 2


class Service:
    """A class with cached methods of both kinds."""

    def __init__(self, name):
        self.name = name
        self.calls = 0

    def load(self, key):
        """Return a key's value."""
        self.calls += 1
        return f"{self.name}-{key}"

    async def load_async(self, key):
        return self.load(key)


def test_a_method_is_cached_by_what_key_makes_of_self(hot, face):
    cache = hot(face)

    class Cached(Service):
        load = cache.cached(key=lambda self, key: MemoryKey(self.name, key))(Service.load)
        load_async = cache.cached(key=lambda self, key: MemoryKey(self.name, key, "async"))(
            Service.load_async
        )

    one, two = Cached("one"), Cached("two")
    for _ in range(2):
        assert (one.load("k"), two.load("k")) == ("one-k", "two-k")
        assert done(one.load_async("x")) == "one-x"
    assert (one.calls, two.calls) == (2, 1)
    assert one.load.invalidate("k")
    assert one.load.key("k") == MemoryKey("one", "k")
    one.load("k")
    assert (one.calls, two.calls) == (3, 1)
    assert Cached.load(two, "k") == "two-k"
    assert Cached.load.__doc__ == "Return a key's value."


# -- keys made of names and arguments ------------------------------------------------------------


def search(query, *more, limit=10, **filters):
    return [query, *more, limit, filters]


NAME = f"{__name__}.search"


def test_without_a_key_the_name_and_the_arguments_decide(hot, near, face):
    of_memories = hot(face).cached()(search)
    assert of_memories.key("a") == MemoryKey(NAME, "('a', (), 10, ())")
    of_any = decorate(near(face).thing, None, ..., ())(search)
    assert of_any.key("a") == (NAME, "('a', (), 10, ())")
    assert done(of_any("a")) == ["a", 10, {}]


def test_however_equal_arguments_are_passed_the_key_is_one(hot):
    key = hot().cached()(search).key
    assert key("a") == key(query="a") == key("a", limit=10)
    assert key("a", x=1, y=2) == key("a", y=2, x=1)


DIFFERENT = [
    ((), {}),
    ((1,), {}),
    ((1.0,), {}),
    ((True,), {}),
    (("1",), {}),
    ((b"1",), {}),
    ((None,), {}),
    ((("a", "b"),), {}),
    (("a", "b"), {}),
    (("a, 'b'",), {}),
    ((("a", ("b",)),), {}),
    ((), {"limit": 11}),
    ((), {"x": 1}),
    ((), {"y": 1}),
    (("ä",), {}),
    (("\ud800",), {}),
    (("x" * 5000,), {}),
    (("x" * 5001,), {}),
]


def test_calls_that_differ_have_keys_that_differ(hot):
    key = hot().cached()(search).key
    assert len({key("q", *args, **kwargs) for args, kwargs in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("value", [["a"], {"a": 1}, {1}, object(), (1, ["a"]), bytearray(b"a")])
def test_an_argument_without_a_stable_name_is_refused_with_the_cure(hot, called, value):
    load = hot().cached()(called.function())
    with pytest.raises(ConfigError, match="give key="):
        done(load(value))
    assert called.calls == []


def test_a_method_needs_a_key(hot):
    cache = hot()

    class Cached(Service):
        load = cache.cached()(Service.load)

    with pytest.raises(ConfigError, match=r"self .* give key="):
        Cached("one").load("k")


@pytest.mark.parametrize("function", [lambda: 1, partial(int, "1"), int], ids=str)
def test_what_has_no_name_or_tells_no_arguments_needs_a_key(hot, function):
    with pytest.raises(ConfigError, match="give key="):
        hot().cached()(function)
    assert hot().cached(key=lambda *_: MemoryKey("tool", "int"))(function)


def test_a_wrong_call_is_the_functions_own_error(hot):
    with pytest.raises(TypeError, match="query"):
        hot().cached()(search)()


@pytest.mark.parametrize(
    "options",
    [{"key": "name"}, {"ttl": -1}, {"ttl": "long"}, {"tags": "red"}, {"tags": 1}],
    ids=str,
)
def test_bad_options_are_refused_at_once(hot, face, options):
    with pytest.raises(ConfigError):
        hot(face).cached(**options)


@pytest.mark.parametrize("function", [None, "name", 1])
def test_only_functions_are_decorated(hot, function):
    with pytest.raises(ConfigError, match="function"):
        hot().cached()(function)


def test_a_key_of_the_wrong_kind_is_refused(hot, called):
    load = hot().cached(key=lambda *args: "plain")(called.function())
    with pytest.raises(ConfigError, match="MemoryKey"):
        done(load("a"))
    assert called.calls == []


def test_a_decorated_function_is_pickled_by_its_name(hot):
    cached = hot().cached()(search)
    assert cached.__reduce__() == "search"
    with pytest.raises(pickle.PicklingError):  # under that name is the plain one
        pickle.dumps(cached)
    assert repr(cached).startswith("<cached <function search")
