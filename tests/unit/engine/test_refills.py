"""What was loaded while the store did not answer is written when it does; never what was forgotten.

One process loads through a store that fails when told; another shares the store undisturbed.
"""

import threading

import numpy as np
import pytest

from embedders import M, Model, cache_with_clock, same, until, vector, vectors
from interrupting import interrupted_at
from nearcache import MemoryStore, Options
from nearcache.engine import refills
from nearcache.engine.engine import live_engines
from nearcache.engine.io import BlockingIO, run
from nearcache.errors import StoreReadOnly
from nearcache.stores import gate
from nearcache.testing import ChaosStore, ManualClock

TEXTS = [f"t{n}" for n in range(5)]


class Shown(MemoryStore):
    """Shows what is about to be leased, and remembers what was filled."""

    def __init__(self, **options):
        super().__init__(**options)
        self.before_lease = self.after_lease = self.after_forget = lambda: None
        self.filled = []

    def lease(self, *arguments):
        self.before_lease()
        answers = super().lease(*arguments)
        self.after_lease()
        return answers

    def forget(self, *arguments):
        gone = super().forget(*arguments)
        self.after_forget()
        return gone

    def fill(self, keys, *arguments):
        self.filled += keys
        return super().fill(keys, *arguments)


class Two:
    """Two processes: ours, whose store is ``away`` at times, and another."""

    def __init__(self, **options):
        self.clock = ManualClock()
        self.plain = Shown(clock=self.clock)
        self.away = ChaosStore(self.plain)
        self.ours = cache_with_clock(self.clock, self.away, **options)
        self.model = Model()
        self.embed = self.ours.wrap(self.model, M)
        self.ours.get("a place in the log", M)
        self.other = cache_with_clock(self.clock, self.plain, max_entries=0)

    def back(self):
        """The store answers again; somebody notices, and what waits is written."""
        self.away.calm()

        def written():
            self.clock.advance(1)
            self.ours.get("somebody asks", M)
            return self.ours.get_stats().unwritten == 0

        until(written)

    @property
    def refills(self):
        (engine,) = [e for e in live_engines() if e.store is self.away]
        return engine.sharing.refills


@pytest.mark.parametrize("near", [100, 0], ids=["near", "no near tier"])
def test_what_was_loaded_during_an_outage_is_written_after_it(near):
    two = Two(max_entries=near)
    two.away.fail()
    assert same(two.embed(TEXTS), vectors(TEXTS))
    assert two.ours.get_stats().unwritten == len(TEXTS)
    two.back()
    assert same(two.other.get_batch(TEXTS, M)[0], vectors(TEXTS))


@pytest.mark.parametrize("trouble", ["fail", "time_out", "late"])
def test_a_write_without_an_answer_is_made_again_whatever_became_of_it(trouble):
    two = Two()
    getattr(two.away, trouble)(methods=["fill"])
    two.embed(TEXTS)
    two.away.calm()
    two.away.deliver()
    two.back()
    assert same(two.other.get_batch(TEXTS, M)[0], vectors(TEXTS))


FORGETS = {
    "a text": lambda cache: cache.invalidate("t1", M),
    "a model": lambda cache: cache.invalidate_by_model(M),
    "everything": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
@pytest.mark.parametrize("who", ["ours", "other"])
def test_what_was_forgotten_meanwhile_is_not_written(forget, who):
    two = Two()
    two.away.fail()
    two.embed(TEXTS)
    forget(getattr(two, who))
    two.back()
    assert two.other.get("t1", M) is None


@pytest.mark.parametrize("who", ["ours", "other"])
def test_what_was_put_meanwhile_stays(who):
    two = Two()
    two.away.fail()
    two.embed(TEXTS)
    getattr(two, who).put("t1", vector("newer"), M)
    two.back()
    now = two.other.get("t1", M)
    assert now is None if who == "ours" else same(now, vector("newer"))


def test_where_another_process_was_first_its_bits_are_taken():
    two = Two()
    two.away.fail()
    two.embed(TEXTS)
    two.other.wrap(lambda texts: np.ones((len(texts), 8), np.float32), M)(["t1"])
    two.back()
    assert same(two.other.get("t1", M), np.ones(8, np.float32))
    assert same(two.ours.get("t1", M), np.ones(8, np.float32))
    assert same(two.ours.get("t2", M), vector("t2"))


@pytest.mark.parametrize("when", ["before_lease", "after_lease"])
@pytest.mark.parametrize("who", ["ours", "other"])
def test_what_is_forgotten_while_it_is_being_written_is_not_there_afterwards(when, who):
    two = Two()
    two.away.fail()
    two.embed(TEXTS)

    def forget():
        setattr(two.plain, when, lambda: None)
        getattr(two, who).invalidate("t1", M)

    setattr(two.plain, when, forget)
    two.back()
    assert two.other.get("t1", M) is None
    assert same(two.other.get("t2", M), vector("t2"))


def test_what_is_written_while_it_is_being_forgotten_is_not_there_afterwards():
    """The store has forgotten it, near has not yet: a lease taken now would be too late."""
    two = Two()
    two.away.fail()
    two.embed(TEXTS)
    two.refills._rests_until = float("inf")
    two.away.calm()

    def asked():
        two.clock.advance(1)
        two.ours.get("somebody asks", M)
        return two.ours.get_stats().breaker == "closed"

    until(asked)
    two.plain.after_forget = lambda: run(two.refills.write(BlockingIO()))
    two.ours.invalidate("t1", M)
    assert two.other.get("t1", M) is None
    assert same(two.other.get("t2", M), vector("t2"))


def test_what_has_expired_meanwhile_is_not_written():
    two = Two(ttl=100.0)
    two.away.fail()
    two.embed("early")
    two.clock.advance(90)
    two.embed("late")
    two.clock.advance(20)
    two.back()
    assert len(two.plain.filled) == 1
    assert two.other.get("early", M) is None
    assert same(two.other.get("late", M), vector("late"))


def test_a_load_that_was_forgotten_while_it_ran_is_not_kept():
    two = Two()
    inside, go_on = threading.Event(), threading.Event()

    def before(texts):
        inside.set()
        go_on.wait(20)

    two.model.before = before
    two.away.fail()
    loading = threading.Thread(target=two.embed, args=(["t1"],))
    loading.start()
    inside.wait(20)
    two.ours.invalidate("t1", M)
    go_on.set()
    loading.join()
    assert two.ours.get_stats().unwritten == 0


def test_what_was_loaded_across_a_gap_in_the_log_is_not_kept():
    """Anything may have been forgotten in the gap."""
    two = Two()
    two.model.before = lambda _: two.refills._engine.drop_everything()
    two.away.fail(methods=["fill"])
    two.embed(TEXTS)
    assert two.ours.get_stats().unwritten == 0


def test_who_never_had_a_place_in_the_log_writes_nothing():
    """Nobody could say what was forgotten before."""
    clock = ManualClock()
    store = ChaosStore(MemoryStore(clock=clock))
    store.fail()
    cache = cache_with_clock(clock, store)
    cache.wrap(Model(), M)(TEXTS)
    store.calm()
    clock.advance(1)

    def asked():
        clock.advance(1)
        cache.get("somebody asks", M)
        return cache.get_stats().unwritten == 0

    until(asked)
    assert not cache_with_clock(clock, store, max_entries=0).get_batch(TEXTS, M)[1].any()


def test_the_oldest_make_room():
    two = Two()
    two.away.fail()
    two.embed("t0")
    one = two.refills.used_bytes
    two.refills._most_bytes = 3 * one
    for text in TEXTS[1:]:
        two.embed(text)
    assert two.ours.get_stats().unwritten == 3
    two.back()
    found = two.other.get_batch(TEXTS, M)[1]
    assert found.tolist() == [False, False, True, True, True]


def test_the_parts_of_a_large_batch_take_their_own_room_only():
    two = Two(options=Options(max_batch=100))
    two.away.fail()
    two.embed([f"text {n}" for n in range(1000)])
    assert two.ours.get_stats().unwritten == 1000
    assert two.refills.used_bytes < 1000 * 500
    two.back()
    assert two.other.get_batch([f"text {n}" for n in range(1000)], M)[1].all()


def test_forgetting_gives_the_room_back():
    two = Two()
    two.away.fail()
    two.embed(TEXTS)
    for text in TEXTS:
        two.ours.invalidate(text, M)
    assert (len(two.refills), two.refills.used_bytes) == (0, 0)


def test_a_store_that_refuses_is_not_asked_again_and_again():
    two = Two()
    two.away.fail(error=StoreReadOnly, methods=["lease"])
    for number in range(20):
        two.embed(f"text {number}")
    until(lambda: not two.refills._writing.taken)
    assert two.away.counts.failed <= 20 + 2


# what was cut off between a call and its first step
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_ctrl_c_at_any_moment_leaves_what_waits_to_be_written():
    two = Two(options=Options(lease=0.1))
    moment, more = 0, True
    while more:
        two.away.fail()
        two.embed(f"text {moment}")
        two.away.calm()
        two.clock.advance(2)
        more = interrupted_at(moment, lambda: run(two.refills.write(BlockingIO())), refills, gate)
        two.back()
        moment += 1
    assert moment > 20
