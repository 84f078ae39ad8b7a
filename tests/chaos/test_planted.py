"""Somebody else writes to the store: with a signing key nothing he plants is ever an answer.

He knows the format and reads everything, epochs too; he has everything but the key. What he plants
costs a load, and then what is right stands.
"""

import numpy as np
import pytest

from embedders import M, Model, same, vector, vectors
from nearcache import (
    MISSING,
    AccessTier,
    AgentCredentials,
    CorruptEntry,
    EmbeddingCache,
    HotMemoryCache,
    MemoryKey,
    MemoryStore,
    MemoryType,
    NearCache,
    Options,
    RetrievalCache,
    ShortTermMemory,
)

KEY, OLD, THEIRS = b"our own key.....", b"our old key.....", b"their key......."
AGENT = AgentCredentials("agent", AccessTier.CONTRIBUTOR)
SIGNED = Options(signing_key=KEY)
TEXTS = [f"t{n}" for n in range(20)]
WRITERS = {"no key": Options(), "another key": Options(signing_key=THEIRS)}

each_writer = pytest.mark.parametrize("theirs", WRITERS.values(), ids=WRITERS)


def held(store):
    """What a memory store holds, by name."""
    found = {}
    store.edit(lambda name, value: found.setdefault(name, value))
    return found


@each_writer
def test_a_planted_vector_is_a_counted_miss_and_what_is_right_replaces_it(
    make, face, shared, theirs
):
    make(face, shared, options=theirs).put_batch(TEXTS, -vectors(TEXTS), M)
    cache = make(face, shared, options=SIGNED, max_entries=0)
    assert not cache.get_batch(TEXTS, M)[1].any()
    assert cache.get_stats().corrupt == len(TEXTS)
    model = Model()
    assert same(cache.wrap(model, M)(TEXTS), vectors(TEXTS))
    assert same(cache.wrap(model, M)(TEXTS), vectors(TEXTS))
    assert sum(model.times.values()) == len(TEXTS)  # loaded once: the second call found it
    assert cache.get_stats().corrupt == len(TEXTS)


@each_writer
def test_a_vector_that_is_planted_while_it_is_loaded_does_not_win(make, face, shared, theirs):
    """A fill is first-writer-wins; but what is not signed with our key was never first."""
    attacker = make(face, shared, options=theirs)
    ours = make(face, shared, options=SIGNED, max_entries=0)

    class Slow(Model):
        def __call__(self, texts):
            attacker.put_batch(list(texts), -vectors(texts), M)
            return super().__call__(texts)

    assert same(ours.wrap(Slow(), M)(["a"])[0], vector("a"))
    model = Model()
    for _ in range(3):
        assert same(ours.wrap(model, M)(["a"])[0], vector("a"))
    assert model.times["a"] <= 1


class Planting(MemoryStore):
    """A store in which something lies just before a method is called."""

    def __init__(self):
        super().__init__()
        self.planted, self.method = {}, ""

    def plant(self, method):
        if method == self.method:
            for key, value in self.planted.items():
                self._set_value(key, value, None)

    def lease(self, *arguments):
        self.plant("lease")
        return super().lease(*arguments)

    def fill(self, *arguments):
        self.plant("fill")
        return super().fill(*arguments)


class Mirrored:
    """A codec of the user's."""

    name, kind = "mirrored", 64

    def encode(self, value):
        return value[::-1]

    decode = encode


@pytest.mark.parametrize("method", ["lease", "fill"])
@pytest.mark.parametrize("ours", [{"options": SIGNED}, {"codec": Mirrored()}], ids=["key", "codec"])
def test_what_is_planted_between_two_steps_of_a_load_gives_way(make, face, method, ours):
    store = Planting()
    make(face, store).put("a", -vector("a"), M)
    store.planted = held(store)
    store.edit(lambda name, value: None)
    cache, model = make(face, store, max_entries=0, **ours), Model()
    store.method = method
    assert same(cache.wrap(model, M)(["a"])[0], vector("a"))
    store.method = ""
    assert same(cache.get("a", M), vector("a"))
    assert model.times == {"a": 1}


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_signed_vector_that_lies_under_another_text_is_no_answer(make, face, precision):
    store = MemoryStore()
    cache = make(face, store, options=SIGNED, precision=precision, max_entries=0)
    cache.put_batch(["a", "b"], vectors(["a", "b"]), M)
    before = held(store)
    (first, a), (second, b) = before.items()
    store.edit(lambda name, value: {first: b, second: a}[name])
    assert not cache.get_batch(["a", "b"], M)[1].any()


def test_vectors_of_another_namespace_are_no_answer(make, face):
    store = MemoryStore()
    make(face, store, namespace="theirs", options=SIGNED).put("a", -vector("a"), M)
    cache = make(face, store, namespace="mine", options=SIGNED, max_entries=0)
    cache.put("a", vector("a"), M)
    stolen = next(value for name, value in held(store).items() if b"{theirs:" in name)
    store.edit(lambda name, value: stolen if b"{mine:" in name else value)
    assert cache.get("a", M) is None


def near(store, options, **more):
    return NearCache(store, namespace="near", options=options, max_entries=0, **more)


@each_writer
def test_a_planted_value_is_a_counted_miss_and_what_is_right_replaces_it(shared, theirs):
    with near(shared, theirs) as attacker, near(shared, SIGNED) as cache:
        attacker.put("a", "planted")
        assert cache.get("a") is None
        assert cache.get_stats().corrupt == 1
        attacker.put("a", "planted again")
        assert cache.get_or_load("a", lambda: "right") == "right"
        assert cache.get("a") == "right"
        attacker.put("a", None)
        assert cache.get("a", MISSING) is MISSING
        attacker.put("a", 1)
        assert cache.update("a", lambda old: [old]) == [None]
        assert cache.get("a") == [None]


@each_writer
def test_a_value_that_is_planted_while_it_is_loaded_is_no_answer(shared, theirs):
    with near(shared, theirs) as attacker, near(shared, SIGNED) as cache:

        def loader():
            attacker.put("a", "planted")
            return "right"

        assert cache.get_or_load("a", loader) == "right"
        assert cache.get_or_load("a", lambda: "right") == "right"
        assert cache.get_or_load("a", lambda: "later") == "right"


def test_a_signed_value_that_lies_under_another_key_is_no_answer():
    store = MemoryStore()
    with near(store, SIGNED) as cache:
        cache.put("a", 1)
        cache.put("b", 2)
        (first, a), (second, b) = held(store).items()
        store.edit(lambda name, value: {first: b, second: a}[name])
        assert cache.get("a", MISSING) is cache.get("b", MISSING) is MISSING


CACHES = {
    "hot": (
        lambda store, options: HotMemoryCache(store, options=options),
        lambda cache: cache.put(MemoryKey(MemoryType.SEMANTIC, "1", "user"), "planted"),
        lambda cache: cache.get(MemoryKey(MemoryType.SEMANTIC, "1", "user")),
    ),
    "retrieval": (
        lambda store, options: RetrievalCache(store, options=options),
        lambda cache: cache.put("a query", ["planted"], memory_ids=[]),
        lambda cache: cache.get("a query"),
    ),
}


@each_writer
@pytest.mark.parametrize("kind", CACHES)
def test_every_other_cache_is_signed_alike(kind, theirs):
    make_one, put, get = CACHES[kind]
    store = MemoryStore()
    with make_one(store, theirs) as attacker, make_one(store, SIGNED) as cache:
        put(attacker)
        assert get(attacker) is not None
        assert get(cache) is None
        put(cache)
        assert get(cache) is not None


@each_writer
def test_a_memory_that_is_a_record_says_that_it_was_planted(theirs):
    """None of its entries may be lost without a word, so none is taken for absent."""
    store = MemoryStore()
    with (
        ShortTermMemory(store, options=theirs) as attacker,
        ShortTermMemory(store, options=SIGNED) as memory,
    ):
        attacker.stash("plan", "planted", AGENT)
        with pytest.raises(CorruptEntry):
            memory.retrieve("plan", AGENT)


def test_keys_are_rotated_without_a_load(make, face, shared):
    """First everybody verifies the new key, then everybody signs with it, then the old one goes."""
    model = Model()
    for keys in (OLD, [OLD, KEY], [KEY, OLD]):
        cache = make(face, shared, options=Options(signing_key=keys), max_entries=0)
        assert same(cache.wrap(model, M)(["a"])[0], vector("a"))
    cache.put("b", vector("b"), M)
    assert model.times == {"a": 1}
    last = make(face, shared, options=SIGNED, max_entries=0)
    assert same(last.get("b", M), vector("b"))
    assert last.get("a", M) is None  # the old key's go with it


def test_processes_without_the_key_read_what_is_signed_and_do_not_fight(make, face, shared):
    """While a fleet gets its key, what one of them signed is good for all."""
    model = Model()
    plain, signed = (make(face, shared, options=one, max_entries=0) for one in (Options(), SIGNED))
    for _ in range(3):
        for cache in (plain, signed):
            assert same(cache.wrap(model, M)(TEXTS), vectors(TEXTS))
    assert set(model.times.values()) == {2}  # once without and once with a signature
    with near(shared, Options()) as plain, near(shared, SIGNED) as signed:
        signed.put("a", 1)
        assert plain.get("a") == signed.get("a") == 1


def test_a_cache_with_a_key_still_travels_and_shows_the_key_nowhere():
    import pickle

    cache = EmbeddingCache(MemoryStore(), options=SIGNED)
    assert KEY.decode() not in repr(SIGNED) + repr(cache) + str(cache.get_stats())
    with pytest.raises(TypeError):
        pickle.dumps(cache)  # a memory store does not travel
    alone = EmbeddingCache(options=SIGNED)
    assert pickle.loads(pickle.dumps(alone)).options == SIGNED
    assert np.isnan(alone.get_batch(["a"], M)[0]).all()
    cache.close()
    alone.close()
