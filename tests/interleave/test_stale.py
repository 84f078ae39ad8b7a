"""No interleaving of reads, loads, writes and invalidations leaves anything stale.

``NEARCACHE_SCHEDULES=100000`` tries more random schedules than the usual run.
"""

import os

import pytest

from interleave.vectors import TEXTS, at_random, exhaustively
from nearcache.engine import logged
from nearcache.engine.access import Access
from nearcache.engine.flights import FlightTable
from nearcache.stores.base import WRITTEN, Changes
from nearcache.testing import MemoryStore
from nearcache.testing.contracts.store_parts import forked

SCHEDULES = int(os.environ.get("NEARCACHE_SCHEDULES", "2500"))
CHUNKS = 8
ONE, TWO = TEXTS
LOAD, INVALIDATE, PUT, GET = ("load", ONE), ("invalidate", ONE), ("put", ONE), ("get", ONE)

pytestmark = pytest.mark.drops_caches  # the worlds are many, and check their own engines


def explain(world) -> str:
    return "\n".join([*world.stale, *world.trace])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_schedules_leave_nothing_stale(chunk):
    def play(first):
        for seed in range(first, SCHEDULES, 2 * CHUNKS):
            world = at_random(seed)
            assert not world.stale, f"seed {seed}\n{explain(world)}"

    with forked(lambda: play(chunk)):  # nothing but work for one processor: let two do it
        play(chunk + CHUNKS)


PAIRS = {
    "a load and an invalidation in one process": ([(0, [LOAD, GET]), (0, [INVALIDATE, GET])], ()),
    "a load and an invalidation in another": ([(0, [LOAD]), (1, [INVALIDATE, LOAD])], ()),
    "a read of the store and an invalidation": (
        [(0, [GET, GET]), (0, [INVALIDATE, GET])],
        [(1, [LOAD])],
    ),
    "a read of the store and an invalidation in another process": (
        [(0, [GET, LOAD]), (1, [INVALIDATE, LOAD])],
        [(1, [LOAD])],
    ),
    "a load and a put": ([(0, [LOAD, GET]), (0, [PUT, GET])], ()),
    "a load and a put in another process": ([(0, [LOAD, GET]), (1, [PUT, GET])], ()),
    "two puts": ([(0, [PUT, GET]), (0, [PUT, GET])], ()),
    "two puts in two processes": ([(0, [PUT, GET]), (1, [PUT, GET])], ()),
    "a load and the end of its model": ([(0, [LOAD, LOAD]), (1, [("model",)])], ()),
    "a load and a clear in one process": ([(0, [LOAD, GET]), (0, [("clear",), GET])], ()),
    "a put and an invalidation": ([(0, [PUT, GET]), (0, [INVALIDATE, GET])], ()),
    "two loads and an invalidation": ([(0, [LOAD]), (0, [LOAD]), (0, [INVALIDATE, GET])], ()),
    "batches in opposite orders": ([(0, [("load", ONE, TWO)]), (0, [("load", TWO, ONE)])], ()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_short_schedule_leaves_nothing_stale_of(name):
    programs, warm = PAIRS[name]
    tried = 0
    for world in exhaustively(programs, warm=warm, most=200 + SCHEDULES // 15):
        tried += 1
        assert not world.stale, explain(world)
    assert tried > 20


# A checker that cannot fail proves nothing: with a protection taken away, it must find something.


class FillsWithoutALease(MemoryStore):
    """Whoever loaded may write, whatever happened meanwhile."""

    def fill(self, keys, values, token, mark, ttl):
        self.write(keys, values, ttl, b"no log", [b""] * len(keys))
        return [WRITTEN] * len(keys)


class WithoutALog(MemoryStore):
    """What is forgotten is told to nobody."""

    def changes(self, log, cursor):
        return Changes(b"0", [])


def nothing(*_):
    """Do nothing."""


BROKEN = {
    "flights stay attached": (
        [(FlightTable, "detach", nothing), (FlightTable, "detach_shelves", nothing)],
        None,
    ),
    "stamps are ignored": (
        [(logged, "stamp", lambda _: b"8 bytes.")],
        None,
    ),
    "leases are ignored": ([], FillsWithoutALease),
    "the log is ignored": ([], WithoutALog),
    "what cannot be delivered is lost": (
        [(Access, name, nothing) for name in vars(Access) if name.startswith("queue")],
        None,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_explorer_finds_what_goes_wrong_when(name, monkeypatch):
    patches, store = BROKEN[name]
    for target, attribute, instead in patches:
        monkeypatch.setattr(target, attribute, instead)
    for seed in range(4000):
        if at_random(seed, store=store and store()).stale:
            return
    pytest.fail("4000 schedules, nothing stale: the checker sees nothing")
