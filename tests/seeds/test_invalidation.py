"""Seed defects 21 to 25: what is forgotten stays forgotten, and nothing else is."""

import threading

import pytest

from embedders import M, Model, in_threads, same, vector, vectors
from nearcache import MemoryStore, Options

SOON = Options(link_timeout=0.0)


def test_21_a_model_is_forgotten_in_both_tiers_and_for_every_process(make, face, shared):
    ours, theirs = make(face, shared, options=SOON), make(face, shared, options=SOON)
    ours.put_batch(["a", "b"], vectors(["a", "b"]), M)
    ours.put("a", vector("kept"), "other model")
    assert theirs.get_batch(["a", "b"], M)[1].all()
    assert ours.invalidate_by_model(M) == 2
    for cache in (ours, theirs, make(face, shared)):
        assert not cache.get_batch(["a", "b"], M)[1].any()
        assert same(cache.get("a", "other model"), vector("kept"))


def test_22_invalidate_says_whether_there_was_anything(make, face, store):
    cache = make(face, store)
    assert cache.invalidate("text", M) is False
    cache.put("text", vector("text"), M)
    assert cache.invalidate("text", M) is True
    assert cache.invalidate("text", M) is False


def test_22_invalidate_says_true_for_what_only_the_store_has(make, face, shared):
    make(face, shared).put("text", vector("text"), M)
    assert make(face, shared).invalidate("text", M) is True


@pytest.mark.parametrize("forget", ["invalidate_by_model", "clear"])
def test_22_what_was_forgotten_with_its_group_is_not_there(make, face, store, forget):
    cache = make(face, store)
    cache.put("text", vector("text"), M)
    cache.clear() if forget == "clear" else cache.invalidate_by_model(M)
    assert cache.invalidate("text", M) is False


FORGETS = {
    "text": lambda cache: cache.invalidate("text", M),
    "hash": lambda cache: cache.invalidate_by_hash(cache.hash_content("text"), M),
    "model": lambda cache: cache.invalidate_by_model(M),
    "everything": lambda cache: cache.clear(),
}


class SlowStore(MemoryStore):
    """Holds each answer of ``fetch`` until it is let go."""

    def __init__(self):
        super().__init__()
        self.asked, self.answer = threading.Event(), threading.Event()
        self.slow = False

    def fetch(self, keys, groups):
        fetched = super().fetch(keys, groups)
        if self.slow and keys:
            self.asked.set()
            assert self.answer.wait(30)
        return fetched


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
def test_23_a_get_that_waits_for_the_store_does_not_bring_back_what_is_forgotten(
    make, face, forget
):
    store = SlowStore()
    cache = make(face, store)
    make(face, store).put("text", vector("text"), M)
    store.slow = True
    reader = threading.Thread(target=cache.get, args=("text", M))
    reader.start()
    assert store.asked.wait(30)
    store.slow = False
    forget(cache)
    store.answer.set()
    reader.join(30)
    assert cache.get("text", M) is None
    assert cache.size == 0


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
def test_23_a_load_does_not_bring_back_what_is_forgotten_meanwhile(make, face, store, forget):
    cache = make(face, store)
    model = Model(before=lambda texts: forget(cache))
    assert same(cache.wrap(model, M)("text"), vector("text"))  # its own caller gets it
    assert cache.get("text", M) is None
    assert make(face, store).get("text", M) is None


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
def test_23_a_load_does_not_bring_back_what_another_process_forgets(make, face, shared, forget):
    cache, other = make(face, shared, options=SOON), make(face, shared)
    model = Model(before=lambda texts: forget(other))
    assert same(cache.wrap(model, M)("text"), vector("text"))
    for reader in (cache, other, make(face, shared)):
        assert reader.get("text", M) is None


def test_23_who_comes_after_a_forget_does_not_get_the_load_before_it(make, face, store):
    cache = make(face, store)
    inside, go = threading.Event(), threading.Event()

    def wait(texts):
        if len(model.calls) == 1:
            inside.set()
            assert go.wait(30)

    model = Model(before=wait)
    embed = cache.wrap(model, M, max_concurrency=2)
    first = threading.Thread(target=embed, args=("text",))
    first.start()
    assert inside.wait(30)
    cache.invalidate("text", M)
    second = threading.Thread(target=embed, args=("text",))
    second.start()
    second.join(30)
    assert len(model.calls) == 2
    go.set()
    first.join(30)


def test_24_after_concurrent_puts_both_tiers_agree(make, face, shared):
    for _ in range(10):
        cache = make(face, shared)

        def put(number, cache=cache):
            cache.put("text", vector(str(number)), M)

        in_threads(4, put)
        assert same(cache.get("text", M), make(face, shared).get("text", M))


def test_24_after_concurrent_puts_of_two_processes_both_near_tiers_agree(make, face, shared):
    caches = [make(face, shared, options=SOON) for _ in range(4)]
    for _ in range(10):
        in_threads(4, lambda n: caches[n].put("text", vector(str(n)), M))
        stored = make(face, shared).get("text", M)
        for cache in caches:
            assert same(cache.get("text", M), stored)


NEIGHBOURS = [
    ("mem:emb", "mem:emb:prod"),
    ("app*", "apple"),
    ("app[1]", "app1"),
    ("app?", "appx"),
    ("{app}", "app"),
    ("app", "app}"),
    ("app", "app/view"),
    ("app\\", "app\\\\"),
    ("*", "anything"),
    ("a\nb", "a b"),
]


@pytest.mark.parametrize("ours, theirs", NEIGHBOURS)
def test_25_clear_reaches_its_own_namespace_and_no_other(make, face, shared, ours, theirs):
    mine, other = make(face, shared, namespace=ours), make(face, shared, namespace=theirs)
    for cache in (mine, other):
        cache.put("text", vector("text"), M)
    mine.clear()
    for namespace, there in ((ours, False), (theirs, True)):
        found = make(face, shared, namespace=namespace).get("text", M) is not None
        assert found is there


def test_25_clear_leaves_other_keys_of_the_server_alone(make, face, one_server):
    with one_server.client() as client:
        client.set("nc1:mine", "1")
        client.set("emb:1", "1")
        cache = make(face, one_server.url)
        cache.put("text", vector("text"), M)
        cache.clear()
        assert client.mget("nc1:mine", "emb:1") == [b"1", b"1"]
