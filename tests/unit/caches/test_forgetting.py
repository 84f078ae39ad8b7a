"""What is forgotten in one process is gone in every other, at most ``link_timeout`` later."""

import threading
from contextlib import suppress

import pytest

from embedders import M, ManualClock, Model, cache_with_clock, same, until, vector, vectors
from nearcache import MemoryStore, Options, StoreReadOnly, StoreUnavailable
from nearcache.stores.base import LOG_LENGTH

SOON = Options(link_timeout=0.0)
TEXTS = ["text", "other"]

FORGETS = {
    "text": lambda cache: cache.invalidate("text", M),
    "hash": lambda cache: cache.invalidate_by_hash(cache.hash_content("text"), M),
    "model": lambda cache: cache.invalidate_by_model(M),
    "everything": lambda cache: cache.clear(),
    "put": lambda cache: cache.put("text", vector("newer"), M),
    "put of ttl 0": lambda cache: cache.put("text", vector("newer"), M, ttl=0),
}
forgets = pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)


def two(clock=None, **options):
    """A store's clock, and two caches on it that live by one clock."""
    clock = clock or ManualClock()
    store = MemoryStore(clock=clock)
    return clock, cache_with_clock(clock, store, **options), cache_with_clock(clock, store)


@forgets
def test_a_forget_holds_elsewhere_within_link_timeout(forget):
    clock, ours, theirs = two(options=Options(link_timeout=4.0))
    theirs.put_batch(TEXTS, vectors(TEXTS), M)
    assert same(ours.get("text", M), vector("text"))
    forget(theirs)
    clock.advance(4.0)
    now = ours.get("text", M)
    assert now is None or same(now, vector("newer"))


@forgets
def test_a_forget_holds_elsewhere_on_every_store(make, face, shared, forget):
    ours, theirs = make(face, shared, options=SOON), make(face, shared)
    theirs.put_batch(TEXTS, vectors(TEXTS), M)
    assert ours.get_batch(TEXTS, M)[1].all()
    forget(theirs)
    now = ours.get("text", M)
    assert now is None or same(now, vector("newer"))


def test_the_log_is_not_read_at_every_call():
    class Counting(MemoryStore):
        looks = 0

        def changes(self, log, cursor):
            self.looks += 1
            return super().changes(log, cursor)

    clock = ManualClock()
    store = Counting(clock=clock)
    cache = cache_with_clock(clock, store, options=Options(link_timeout=4.0))
    cache.put("text", vector("text"), M)
    before = store.looks
    for _ in range(100):  # ten seconds
        cache.get("text", M)
        clock.advance(0.1)
    assert 3 <= store.looks - before <= 6


def test_forgetting_one_text_leaves_the_others_near(make, face, shared):
    ours, theirs = make(face, shared, options=SOON), make(face, shared)
    texts = [f"t{n}" for n in range(50)]
    theirs.put_batch(texts, vectors(texts), M)
    ours.get_batch(texts, M)
    theirs.invalidate("t7", M)
    assert ours.get("t7", M) is None
    assert ours.size == 49


def test_forgetting_a_model_leaves_other_models_near(make, face, shared):
    ours, theirs = make(face, shared, options=SOON), make(face, shared)
    for model in ("one", "two"):
        theirs.put("text", vector(model), model)
        ours.get("text", model)
    theirs.invalidate_by_model("one")
    assert ours.get("text", "one") is None
    assert ours.size == 1


def test_what_this_process_forgets_it_does_not_drop_twice(make, face, shared):
    cache = make(face, shared, options=SOON)
    cache.put("text", vector("text"), M)
    cache.invalidate("text", M)
    cache.put("text", vector("text"), M)
    cache.get("text", M)
    assert cache.size == 1


def test_more_forgets_than_the_log_remembers_drop_every_near_copy():
    clock, ours, theirs = two()
    theirs.put_batch(TEXTS, vectors(TEXTS), M)
    ours.get_batch(TEXTS, M)
    shelf = theirs._tiers.shelf(M)
    theirs.invalidate("text", M)
    store = theirs._tiers.engine.store
    for _ in range(0, LOG_LENGTH + 10, 1000):
        store.forget([], shelf.keys.log, [b"t" + bytes(40)] * 1000)
    clock.advance(10)
    assert ours.get("text", M) is None
    assert ours.size == 0


@pytest.mark.parametrize("lost", ["*:log", "*"], ids=["the log", "everything"])
def test_a_log_that_is_lost_drops_every_near_copy(make, face, redis_server, lost):
    cache = make(face, redis_server.url, options=SOON)
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    with redis_server.client() as client:
        client.delete(*client.keys(lost))
        values = {key: client.get(key) for key in client.keys("*:v:*")}
        for key in values:  # what is not near cannot be answered
            client.delete(key)
    assert cache.get("text", M) is None
    assert cache.size == 0


def test_a_log_that_is_lost_and_begun_again_drops_every_near_copy(make, face, redis_server):
    ours, theirs = (make(face, redis_server.url, options=SOON) for _ in range(2))
    theirs.put_batch(TEXTS, vectors(TEXTS), M)
    ours.get_batch(TEXTS, M)
    with redis_server.client() as client:
        theirs.invalidate("text", M)
        client.delete(*client.keys("*:log"))
    theirs.invalidate("something else", M)
    assert ours.get("text", M) is None


@pytest.mark.parametrize("group", ["everything", "model"])
def test_a_lost_epoch_makes_every_member_a_miss_and_revives_nothing(
    make, face, redis_server, group
):
    cache = make(face, redis_server.url, max_entries=0)
    cache.put("forgotten", vector("forgotten"), M)
    cache.clear()
    cache.put("text", vector("text"), M)
    with redis_server.client() as client:
        epochs = client.keys("*:e:*")
        everything = [key for key in epochs if key.endswith(b":e:*")]
        client.delete(*(everything if group == "everything" else set(epochs) - set(everything)))
    for text in ("text", "forgotten"):
        assert cache.get(text, M) is None
    assert same(cache.wrap(Model(), M)("text"), vector("text"))
    assert same(make(face, redis_server.url).get("text", M), vector("text"))
    assert cache.get("forgotten", M) is None


def test_a_forgotten_model_may_come_back_with_another_dimension_everywhere(make, face, shared):
    ours, theirs = make(face, shared, options=SOON), make(face, shared)
    theirs.put("text", vector("text", 8), M)
    assert same(ours.get("text", M), vector("text", 8))
    theirs.invalidate_by_model(M)
    theirs.put("text", vector("text", 16), M)
    assert same(ours.get("text", M), vector("text", 16))
    assert same(ours.wrap(Model(16), M)("new"), vector("new", 16))


# While the store is down


class Flaky(MemoryStore):
    """Fails while it is ``down``, and notes what it was asked."""

    down = False

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = []

    def _gate(self, name):
        self.asked.append(name)
        if self.down:
            raise StoreUnavailable("down")


def _gated(name):
    inner = getattr(MemoryStore, name)

    def method(self, *arguments):
        self._gate(name)
        return inner(self, *arguments)

    return method


for _name in ("fetch", "lease", "fill", "write", "forget", "forget_group", "changes", "now"):
    setattr(Flaky, _name, _gated(_name))


def outage(**options):
    clock = ManualClock()
    store = Flaky(clock=clock)
    return clock, store, cache_with_clock(clock, store, **options)


@forgets
def test_a_forget_during_an_outage_holds_here_at_once(forget):
    _, store, cache = outage()
    cache.put("text", vector("text"), M)
    store.down = True
    forget(cache)
    now = cache.get("text", M)
    assert now is None or same(now, vector("newer"))
    assert cache.get_stats().undelivered == 1


@forgets
def test_a_forget_during_an_outage_is_delivered_before_anything_is_read(forget):
    clock, store, cache = outage(max_entries=0)
    cache.put("text", vector("text"), M)
    store.down = True
    forget(cache)
    store.down = False
    store.asked.clear()
    clock.advance(10)
    assert cache.get("text", M) is None
    until(lambda: cache.get_stats().undelivered == 0)  # by the try that goes on aside
    assert store.asked[0] in ("forget", "forget_group")
    assert cache_with_clock(clock, store).get("text", M) is None


@forgets
def test_a_forget_during_an_outage_reaches_the_other_processes_after_it(forget):
    clock, store, cache = outage()
    other = cache_with_clock(clock, store)
    cache.put("text", vector("text"), M)
    assert other.get("text", M) is not None
    store.down = True
    forget(cache)
    assert same(other.get("text", M), vector("text"))  # immutable copies go on serving
    store.down = False
    clock.advance(10)
    cache.get("anything", M)
    until(lambda: cache.get_stats().undelivered == 0)
    clock.advance(10)
    now = other.get("text", M)
    assert now is None or same(now, vector("newer"))


class ReadOnly(MemoryStore):
    """Refuses every write while it is ``locked``; what it has can be read."""

    locked = False

    def _refuse(self):
        if self.locked:
            raise StoreReadOnly("read-only")

    def lease(self, *arguments):
        self._refuse()
        return super().lease(*arguments)

    def write(self, *arguments):
        self._refuse()
        super().write(*arguments)

    def forget(self, *arguments):
        self._refuse()
        return super().forget(*arguments)

    def forget_group(self, *arguments):
        self._refuse()
        super().forget_group(*arguments)


@forgets
def test_a_forget_that_the_store_refuses_hides_what_it_named(forget):
    store = ReadOnly()
    cache = cache_with_clock(ManualClock(), store, max_entries=0)
    cache.put("text", vector("text"), M)
    store.locked = True
    forget(cache)
    assert cache.get("text", M) is None
    assert cache.get_stats().undelivered == 1
    model = Model()
    assert same(cache.wrap(model, M)("text"), vector("text"))
    assert len(model.calls) == 1


def test_a_forget_that_the_store_refuses_hides_nothing_else():
    store = ReadOnly()
    cache = cache_with_clock(ManualClock(), store, max_entries=0)
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    store.locked = True
    cache.invalidate("text", M)
    assert same(cache.get("other", M), vector("other"))
    cache.invalidate_by_model("another model")
    assert same(cache.get("other", M), vector("other"))


def test_near_copies_serve_through_an_outage_of_any_length():
    clock, store, cache = outage()
    cache.put("text", vector("text"), M)
    store.down = True
    for _ in range(100):
        clock.advance(60)
        assert same(cache.get("text", M), vector("text"))


def test_what_other_processes_forgot_during_an_outage_is_dropped_after_it():
    clock, store, cache = outage()
    cache.put("text", vector("text"), M)
    store.down = True
    clock.advance(60)
    assert cache.get("text", M) is not None
    store.down = False
    cache_with_clock(clock, store).invalidate("text", M)

    def gone():
        clock.advance(1)
        return cache.get("text", M) is None

    until(gone)


def test_what_is_loaded_during_an_outage_is_near():
    _, store, cache = outage()
    model = Model()
    embed = cache.wrap(model, M)
    store.down = True
    for _ in range(2):
        assert same(embed("text"), vector("text"))
    assert len(model.calls) == 1


def test_more_forgets_than_can_wait_become_one_of_everything():
    clock, store, cache = outage(max_entries=0)
    cache.put_batch(TEXTS, vectors(TEXTS), M)
    store.down = True
    for number in range(10_050):
        cache.invalidate(f"text {number}", M)
    assert cache.get_stats().undelivered <= 10_000
    store.down = False
    clock.advance(10)
    assert not cache.get_batch(TEXTS, M)[1].any()
    until(lambda: cache.get_stats().undelivered == 0)


@forgets
def test_on_store_error_raise_raises_and_still_forgets_here(forget):
    clock, store, cache = outage(options=Options(on_store_error="raise"))
    cache.put("text", vector("text"), M)
    store.down = True
    with pytest.raises(StoreUnavailable):
        forget(cache)
    assert cache.size == 0
    assert cache.get_stats().undelivered == 1
    store.down = False

    def is_back():
        clock.advance(10)
        with suppress(StoreUnavailable):  # until the try that goes on aside has ended
            assert cache.get("text", M) is None
            return True

    until(is_back)


def test_on_store_error_raise_raises_from_reads_too():
    _, store, cache = outage(options=Options(on_store_error="raise"))
    store.down = True
    with pytest.raises(StoreUnavailable):
        cache.get("text", M)
    with pytest.raises(StoreUnavailable):
        cache.wrap(Model(), M)("text")


def test_a_failing_store_is_counted_and_never_felt(caplog):
    clock, store, cache = outage()
    store.down = True
    for _ in range(20):
        assert cache.get("text", M) is None
        clock.advance(1)
    assert cache.get_stats().store_errors >= 3
    assert 1 <= len(caplog.records) <= 5  # once a minute, not once a call


# Views and names


def test_a_view_shares_nothing_by_name(make, face, store):
    cache = make(face, store)
    view, other = cache.view("tenant-7"), cache.view("tenant-8")
    for number, one in enumerate((cache, view, other)):
        one.put("text", vector(str(number)), M)
    for number, one in enumerate((cache, view, other)):
        assert same(one.get("text", M), vector(str(number)))
    view.clear()
    assert view.get("text", M) is None
    assert same(cache.get("text", M), vector("0"))
    assert same(other.get("text", M), vector("2"))


def test_a_view_cannot_be_named_from_outside(make, face, shared):
    make(face, shared, namespace="a").view("b").put("text", vector("text"), M)
    for namespace in ("a/b", "a%2Fb", "a:b", "a.b", "b", "a"):
        assert make(face, shared, namespace=namespace).get("text", M) is None
    assert make(face, shared, namespace="a").view("b").get("text", M) is not None


def test_a_view_within_a_view_is_another(make, face, store):
    cache = make(face, store)
    cache.view("a").view("b").put("text", vector("text"), M)
    assert cache.view("a/b").get("text", M) is None
    assert cache.view("b").view("a").get("text", M) is None
    assert cache.view("a").view("b").get("text", M) is not None


def test_a_view_shares_the_near_budget(make, face):
    cache = make(face, max_entries=10)
    for tenant in range(20):
        cache.view(str(tenant)).put("text", vector("text"), M)
    assert cache.size == 10


def test_two_views_of_one_name_are_one(make, face, store):
    cache = make(face, store)
    model = Model(before=lambda texts: cache.view("a").invalidate("text", M))
    cache.view("a").wrap(model, M)("text")
    assert cache.view("a").get("text", M) is None


def test_a_view_ends_with_its_cache(make, face):
    from nearcache import ClosedError

    cache = make(face)
    view = cache.view("a")
    cache.close()
    with pytest.raises(ClosedError):
        view.get("text", M)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_views_name_is_a_non_empty_string(make, face, name):
    from nearcache import ConfigError

    with pytest.raises(ConfigError, match="name"):
        make(face).view(name)


class Slow(ReadOnly):
    """A read whose answer comes after what waited has been delivered."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked, self.delivered, self.race = threading.Event(), threading.Event(), False

    def forget(self, *arguments):
        if self.race:
            self.asked.wait()
        done = super().forget(*arguments)
        if self.race:
            self.delivered.set()
        return done

    def fetch(self, keys, groups):
        found = super().fetch(keys, groups)
        if self.race and threading.current_thread().name == "reader":
            self.asked.set()
            self.delivered.wait()
        return found


def test_what_is_delivered_while_it_is_read_does_not_come_back():
    """::

    a reader                            another
                                        delivers "forget text", which is under way
    reads the value of before
                                        it is done: nothing waits any more
    has its answer
    """
    clock = ManualClock()
    store = Slow(clock=clock)
    cache = cache_with_clock(clock, store)
    cache.put("text", vector("text"), M)
    store.locked = True
    cache.invalidate("text", M)
    store.locked, store.race = False, True
    delivering = threading.Thread(target=lambda: cache.get("other", M))
    delivering.start()
    until(lambda: cache._tiers.engine.sharing.access._delivering.taken)
    got = []
    reader = threading.Thread(target=lambda: got.append(cache.get("text", M)), name="reader")
    reader.start()
    reader.join()
    delivering.join()
    store.race = False
    assert got == [None]
    assert cache.get("text", M) is None
