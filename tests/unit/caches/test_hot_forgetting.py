"""HotMemoryCache: forgetting by key, type, scope, tag and pattern, in both tiers."""

import asyncio
import threading

import pytest

from embedders import until
from hot_fixtures import A, B, C, hot_caches, linked, settled
from nearcache import Loaded, MemoryStore
from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.patterns import Pattern
from nearcache.errors import ConfigError
from nearcache.testing import ChaosStore

hot = pytest.fixture(hot_caches)

D = MemoryKey("semantic", "d", "bob")
ALL = {A: "a", B: "b", C: "c", D: "d"}


def left(cache) -> set:
    """The keys that are still there, as both tiers say."""
    near, far = cache.get_batch(list(ALL)), cache.get_batch(list(ALL), max_staleness=0)
    assert near == far
    return {key for key, value in zip(ALL, near, strict=True) if value is not None}


FORGETS = {
    "key": (lambda cache: cache.invalidate(A), {B, C, D}),
    "keys": (lambda cache: cache.invalidate_batch([A, C]), {B, D}),
    "type": (lambda cache: cache.invalidate_by_type("episodic"), {C, D}),
    "scope": (lambda cache: cache.invalidate_by_scope("bob"), {A, C}),
    "no scope": (lambda cache: cache.invalidate_by_scope(None), {A, B, D}),
    "pattern of type": (lambda cache: cache.invalidate_pattern("episodic"), {C, D}),
    "pattern of scope": (lambda cache: cache.invalidate_pattern(scope="bob"), {A, C}),
    "pattern of ids": (lambda cache: cache.invalidate_pattern(memory_id="[ad]"), {B, C}),
    "pattern of types": (lambda cache: cache.invalidate_pattern("s*"), {A, B}),
    "pattern of scopes": (lambda cache: cache.invalidate_pattern(scope="*"), set()),
    "pattern of named scopes": (lambda cache: cache.invalidate_pattern(scope="?*"), {C}),
    "pattern of all parts": (lambda cache: cache.invalidate_pattern("*c", "?", "b*"), {A, C}),
    "pattern of everything": (lambda cache: cache.invalidate_pattern(), set()),
    "pattern of nothing": (lambda cache: cache.invalidate_pattern("x*"), set(ALL)),
    "clear": (lambda cache: cache.clear(), set()),
}


@pytest.mark.parametrize("forget, kept", FORGETS.values(), ids=FORGETS)
def test_what_is_forgotten_is_gone_from_both_tiers_and_nothing_else(hot, face, store, forget, kept):
    cache = hot(face, store)
    cache.put_batch(ALL)
    assert left(cache) == set(ALL)
    forget(cache)
    assert left(cache) == kept


def put(cache):
    for key, value in ALL.items():
        cache.put(key, value)


def load(cache):
    for key, value in ALL.items():
        cache.get_or_load(key, lambda value=value: Loaded(value, ttl=60))


WAYS = {
    "put": put,
    "load": load,
    "load_batch": lambda cache: cache.get_or_load_batch(list(ALL), lambda keys: ALL),
    "warm": lambda cache: cache.warm(ALL),
}


@pytest.mark.parametrize("fill", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("what", ["type", "scope", "no scope"])
def test_a_memory_has_its_type_and_scope_however_it_came(hot, face, store, fill, what):
    cache = hot(face, store)
    fill(cache)
    assert left(cache) == set(ALL)
    forget, kept = FORGETS[what]
    forget(cache)
    assert left(cache) == kept


@pytest.mark.parametrize("forget, kept", FORGETS.values(), ids=FORGETS)
def test_what_is_forgotten_is_forgotten_in_other_caches(hot, face, shared, forget, kept):
    one, two = hot(face, shared), hot(face, shared)
    one.put_batch(ALL)
    linked(one, two)
    for key in ALL:
        settled(two, key)
    forget(one)
    assert left(one) == kept
    until(lambda: {key for key in ALL if two.get(key) is not None} == kept)


@pytest.mark.parametrize("forget, kept", FORGETS.values(), ids=FORGETS)
def test_what_is_forgotten_is_no_longer_hot(hot, face, store, forget, kept):
    cache = hot(face, store)
    cache.put_batch(ALL)
    cache.get_batch(list(ALL))
    forget(cache)
    assert {key for key, _ in cache.get_hot_memories(9)} == kept


def test_a_tag_forgets_what_carries_it(hot, face, store):
    cache = hot(face, store)
    cache.put(A, "a", tags=["red", "blue"])
    cache.put_batch({B: "b", D: "d"}, tags=["red"])
    cache.get_or_load(C, lambda: Loaded("c", tags=["blue"]), tags=["green"])
    cache.invalidate_by_tag("red")
    assert left(cache) == {C}
    cache.invalidate_by_tag("blue")
    assert left(cache) == set()


def test_a_tag_of_a_users_is_no_type_or_scope(hot, face, store):
    cache = hot(face, store)
    cache.put(A, "a", tags=["m:semantic", "s:bob", "n:", "semantic", "bob"])
    cache.invalidate_by_type("semantic")
    cache.invalidate_by_scope("bob")
    cache.invalidate_by_scope(None)
    assert cache.get(A) == "a"
    cache.put(C, "c")
    cache.put(B, "b")
    for tag in ("m:semantic", "s:bob", "n:", "m:episodic"):
        cache.invalidate_by_tag(tag)
    assert left(cache) == {B, C}


def test_what_is_put_again_lives(hot, face, store):
    cache = hot(face, store)
    for forget, _ in FORGETS.values():
        cache.put_batch(ALL)
        forget(cache)
        cache.put_batch(ALL)
        assert left(cache) == set(ALL)


def test_forgetting_says_how_many_there_were(hot, face, store):
    cache = hot(face, store)
    cache.put_batch(ALL)
    assert cache.invalidate(A)
    assert not cache.invalidate(A)
    assert cache.invalidate_batch([A, B, B]) == 1
    assert cache.invalidate_pattern(memory_id="[cd]") == 2
    assert cache.invalidate_pattern(memory_id="[cd]") == 0
    assert cache.invalidate_by_type("episodic") is None
    assert cache.invalidate_by_scope("bob") is None
    assert cache.invalidate_pattern("episodic") is None


BAD = [
    lambda cache: cache.invalidate_by_type(""),
    lambda cache: cache.invalidate_by_type(None),
    lambda cache: cache.invalidate_by_scope(""),
    lambda cache: cache.invalidate_by_scope(1),
    lambda cache: cache.invalidate_by_tag(""),
    lambda cache: cache.invalidate_pattern(""),
    lambda cache: cache.invalidate_pattern(scope=None),
    lambda cache: cache.invalidate_batch(A),
    lambda cache: cache.invalidate(("episodic", "a", "alice")),
]


@pytest.mark.parametrize("call", BAD)
def test_what_names_nothing_is_refused(hot, face, call):
    cache = hot(face)
    cache.put(A, 1)
    with pytest.raises(ConfigError):
        call(cache)
    assert cache.get(A) == 1


# -- patterns ------------------------------------------------------------------------------------

GLOBS = [
    ("*", "any\nthing", True),
    ("a?c", "abc", True),
    ("a?c", "a\nc", True),
    ("a?c", "ac", False),
    ("a*", "A", False),
    ("[a-c]x", "bx", True),
    ("[!a]x", "ax", False),
    ("[a", "[a", True),
    ("a.c", "abc", False),
    ("[*]", "*", True),
    ("[*]", "a", False),
    ("\U0001f600*", "\U0001f600!", True),
]


@pytest.mark.parametrize("glob, text, match", GLOBS)
def test_a_glob_is_that_of_fnmatchcase(glob, text, match):
    assert Pattern("*", glob, "*").matches(("type", text)) is match
    assert Pattern(glob, "*", "*").matches((text, "id", "scope")) is match
    assert Pattern("*", "*", glob).matches(("type", "id", text)) is match


def test_only_a_star_matches_no_scope():
    assert Pattern("*", "*", "*").matches(("type", "id"))
    for glob in ("?*", "**", "None", "[!x]"):
        assert not Pattern("*", "*", glob).matches(("type", "id"))


def test_a_pattern_that_names_a_type_or_a_scope_needs_no_search():
    assert Pattern("episodic", "*", "*").only_type == "episodic"
    assert Pattern("*", "*", "bob").only_scope == "bob"
    assert Pattern("e*", "*", "*").only_type is None
    assert Pattern("*", "*", "[b]ob").only_scope is None
    assert Pattern("episodic", "*", "bob").only_type is None
    assert Pattern("*", "*", "*").everything
    assert not Pattern("*", "*", "**").everything


def test_thousands_that_match_are_forgotten_and_the_others_stay(hot, face, store):
    cache = hot(face, store, max_entries=500)
    some = {MemoryKey("working", f"{kind}-{n}"): n for n in range(1500) for kind in ("go", "stay")}
    cache.put_batch(some)
    forgotten = cache.invalidate_pattern(memory_id="go-*")
    assert not any(key.memory_id.startswith("go-") for key in cache.admin.entries())
    if store is not None:  # without one, what had left near was nowhere
        assert forgotten == 1500
        values = cache.get_batch(list(some))
        gone = [key for key, value in zip(some, values, strict=True) if value is None]
        assert gone == [key for key in some if key.memory_id.startswith("go-")]


def test_no_single_question_to_the_store_is_large(hot, face):
    """A server does one thing after the other: others wait for it."""
    sizes = {"scan": [], "revoke": []}

    class Measured(MemoryStore):
        def scan(self, start, cursor, count, **options):
            sizes["scan"].append(count)
            return super().scan(start, cursor, count, **options)

        def revoke(self, keys, *arguments):
            sizes["revoke"].append(len(keys))
            return super().revoke(keys, *arguments)

    cache = hot(face, Measured())
    cache.put_batch({MemoryKey("working", f"{n}"): n for n in range(3000)})
    assert cache.invalidate_pattern(memory_id="*[0-8]") == 2700
    assert max(sizes["scan"]) <= 500
    assert max(sizes["revoke"]) <= 200


def test_a_pattern_does_not_reach_into_views_and_other_namespaces(hot, face, store):
    cache = hot(face, store)
    others = [
        cache.view("tenant"),
        hot(face, store, namespace="hot2"),
        hot(face, store, namespace="h"),
    ]
    for one in (cache, *others):
        one.put(A, 1)
    cache.invalidate_pattern("e*")
    assert [one.get(A) for one in (cache, *others)] == [None, 1, 1, 1]
    others[0].invalidate_pattern("e*")
    assert [one.get(A) for one in others] == [None, 1, 1]


@pytest.mark.parametrize("key", [A, MemoryKey("episodic", "x")])
def test_a_load_under_way_is_not_kept_when_its_key_matches(hot, face, store, key):
    cache = hot(face, store)
    inside, go_on = threading.Event(), threading.Event()

    def load():
        inside.set()
        assert go_on.wait(30)
        return "old"

    answers = []
    thread = threading.Thread(target=lambda: answers.append(cache.get_or_load(key, load)))
    thread.start()
    assert inside.wait(30)
    cache.invalidate_pattern(memory_id="[ax]")
    go_on.set()
    thread.join(30)
    assert answers == ["old"]
    assert cache.get(key) is None
    assert cache.get(key, max_staleness=0) is None


def test_a_load_in_another_cache_is_not_kept_when_its_key_matches(hot, face, shared):
    one, two = hot(face, shared), hot(face, shared)
    one.put(B, "begun")
    linked(one, two)
    inside, go_on = threading.Event(), threading.Event()

    def load():
        inside.set()
        assert go_on.wait(30)
        return "old"

    thread = threading.Thread(target=lambda: two.get_or_load(A, load))
    thread.start()
    assert inside.wait(30)
    one.invalidate_pattern(memory_id="[a]")
    go_on.set()
    thread.join(30)
    assert one.get(A, max_staleness=0) is None
    assert two.get(A, max_staleness=0) is None
    assert two.get(A) is None


def test_a_store_that_does_not_answer_is_made_to_forget_everything_later(hot, face):
    store = ChaosStore(MemoryStore())
    cache = hot(face, store)
    cache.put_batch(ALL)
    store.fail()
    cache.invalidate_pattern(memory_id="[a]")
    assert cache.get_batch(list(ALL)) == [None] * 4
    assert cache.get_stats().undelivered >= 1
    store.calm()
    until(lambda: cache.get_stats().undelivered == 0)
    assert cache.get_batch(list(ALL), max_staleness=0) == [None] * 4


@pytest.mark.parametrize("store", [None, "memory://"])
def test_the_event_loop_goes_on_while_a_pattern_is_searched(hot, store):
    """Not a timing: the loop gets a turn after every few hundred keys, found or not."""
    cache = hot("async", store)
    items = {MemoryKey("working", f"{n}"): n for n in range(5000)}

    async def main():
        await cache.thing.put_batch(items)
        turns, done = 0, asyncio.Event()

        async def other():
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        assert await cache.thing.invalidate_pattern(memory_id="[a-z]*") == 0
        done.set()
        await beside
        assert turns >= 5000 / 500

    asyncio.run(main())
