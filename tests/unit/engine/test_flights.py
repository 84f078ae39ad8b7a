"""Flights: one load for everybody who waits, and nothing stale installed."""

import asyncio

import pytest

from embedders import until
from nearcache.engine.flights import ABSENT, RELEASED, Failed, Flight, FlightTable, Landed

A, B, C = b"a", b"b", b"c"
KEYS = [A, B, C]
VALUE = Landed("batch")


@pytest.fixture
def table():
    return FlightTable()


def flight(shelf="shelf", **options):
    return Flight(shelf, None, **options)


def claimed(table, keys=KEYS, **options):
    """A flight that has claimed ``keys``."""
    mine = flight(**options)
    table.claim(mine, keys, range(len(keys)))
    return mine


def installs(table, mine, keys):
    """What a flight that lands may install."""
    installed = set()
    table.land(mine, dict.fromkeys(keys, VALUE), installed.update)
    return installed


# -- claiming ------------------------------------------------------------------------------------


def test_free_keys_are_mine_and_the_others_somebody_elses(table):
    first, second = flight(), flight()
    assert table.claim(first, KEYS, [0, 2]) == ([0, 2], {})
    assert table.claim(second, KEYS, [0, 1, 2]) == ([1], {first: [0, 2]})
    assert len(table) == 3


def test_only_the_positions_asked_for_are_claimed(table):
    claimed(table, [B])
    assert table.claim(flight(), KEYS, [0, 2])[0] == [0, 2]
    assert len(table) == 3


def test_who_is_joined_knows_it(table):
    first, alone = claimed(table, [A]), claimed(table, [B])
    table.claim(flight(), KEYS, [0, 2])
    assert first.joined
    assert not alone.joined


def test_a_landed_key_is_free_again(table):
    first = claimed(table, [A, B])
    table.land(first, {A: VALUE})
    assert table.claim(flight(), KEYS, [0, 1])[0] == [0]
    assert first.outcome(A) is VALUE
    assert first.outcome(B) is None


# -- landing -------------------------------------------------------------------------------------


def test_who_lands_installs_what_is_still_its_own(table):
    assert installs(table, claimed(table), KEYS) == set(KEYS)
    assert len(table) == 0


def test_a_detached_key_is_given_to_those_who_wait_but_not_installed(table):
    mine = claimed(table)
    table.detach([A, b"unheard of"])
    assert installs(table, mine, KEYS) == {B, C}
    assert mine.outcome(A) is VALUE


def test_who_comes_after_an_invalidation_starts_anew(table):
    old = claimed(table, [A])
    table.detach([A])
    new = flight()
    assert table.claim(new, KEYS, [0]) == ([0], {})
    assert installs(table, old, [A]) == set()
    assert installs(table, new, [A]) == {A}


def test_forgetting_a_shelf_detaches_its_keys_and_no_others(table):
    one, two = claimed(table, [A, B], shelf="one"), claimed(table, [C], shelf="two")
    table.detach_shelves({"one"}.__contains__)
    assert installs(table, one, [A, B]) == set()
    assert installs(table, two, [C]) == {C}


def test_an_install_that_raises_still_lets_the_keys_go(table):
    mine = claimed(table, [A])

    def install(_):
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        table.land(mine, {A: VALUE}, install)
    assert len(table) == 0


def test_nobody_lands_while_somebody_installs(table):
    mine = claimed(table, [A])
    held = []
    table.land(mine, {A: VALUE}, lambda _: held.append(table.lock._is_owned()))
    assert held == [True]


# -- writing -------------------------------------------------------------------------------------


def test_a_write_takes_keys_over_from_loads(table):
    load, write = claimed(table, [A, B]), flight(writes=True)
    assert table.take_over(write, [A, C]) == set()
    assert installs(table, load, [A, B]) == {B}
    assert installs(table, write, [A, C]) == {A, C}


def test_of_two_writes_that_overlap_the_later_learns_of_the_earlier(table):
    one, two = flight(writes=True), flight(writes=True)
    table.take_over(one, [A, B])
    assert table.take_over(two, [B, C]) == {B}
    assert installs(table, one, [A, B]) == {A}


# -- finishing -----------------------------------------------------------------------------------


def test_what_has_not_settled_is_released(table):
    mine = claimed(table)
    table.land(mine, {A: VALUE, B: ABSENT})
    table.finish(mine, KEYS)
    assert [mine.outcome(key) for key in KEYS] == [VALUE, ABSENT, RELEASED]
    assert len(table) == 0


def test_finishing_does_not_take_from_a_later_flight(table):
    old = claimed(table, [A])
    table.detach([A])
    claimed(table, [A])
    table.finish(old, [A])
    assert len(table) == 1


def test_finishing_what_is_settled_wakes_nobody(table):
    mine = claimed(table, [A])
    table.land(mine, {A: VALUE})
    woken = []
    mine.subscribe(lambda: woken.append(1))
    table.finish(mine, [A])
    assert woken == []


# -- waiting -------------------------------------------------------------------------------------


def test_every_outcome_wakes_everybody_who_waits(table):
    mine, woken = claimed(table, [A, B]), []
    wakes = [lambda: woken.append("x"), lambda: woken.append("y")]
    for wake in wakes:
        mine.subscribe(wake)
    table.land(mine, {A: VALUE})
    assert woken == ["x", "y"]
    mine.unsubscribe(wakes[0])
    table.land(mine, {B: Failed(ValueError(), frozenset([B]))})
    assert woken == ["x", "y", "y"]


def test_a_waiter_has_nothing_more_to_wait_for_once_its_keys_have_settled(table):
    mine = claimed(table)
    table.land(mine, {A: VALUE})
    assert mine.settled([A], reading=False)
    assert not mine.settled([A, B], reading=False)
    assert mine.unsettled([A, B]) == [B]


def test_who_only_reads_does_not_wait_for_the_loader(table):
    mine, woken = claimed(table), []
    mine.subscribe(lambda: woken.append(1))
    assert not mine.settled([A], reading=True)
    mine.looked_in_store()
    assert woken == [1]
    assert mine.settled([A], reading=True)
    assert not mine.settled([A], reading=False)


def test_a_flight_whose_loop_was_closed_is_stranded():
    loop = asyncio.new_event_loop()
    lost = Flight("shelf", loop)
    assert not lost.stranded
    loop.close()
    assert lost.stranded
    assert not flight().stranded


def test_a_call_cut_off_while_it_left_is_gone_although_its_frame_is_kept():
    """As a notebook keeps the traceback of the last error."""
    mine = flight()
    crew = mine.board()
    assert not mine.stranded
    mine.left = True
    until(lambda: mine.stranded)
    del crew


def test_a_call_that_has_left_is_not_gone_while_its_loads_go_on():
    mine = flight()
    crew = mine.board()
    mine.left = True
    mine.aloft.add(A)
    with pytest.raises(AssertionError, match="not within"):
        until(lambda: mine.stranded, 0.6)
    del crew
    assert not mine.stranded
    mine.aloft.clear()
    assert mine.stranded
