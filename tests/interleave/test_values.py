"""No interleaving leaves a value that changes stale beyond the contract.

``NEARCACHE_SCHEDULES=100000`` tries more random schedules than the usual run.
"""

import os
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from interleave import values
from interleave.values import BREAK, KEYS, Setting, at_random, exhaustively, scene
from nearcache.coherence.groups import TOKEN_BYTES, Groups
from nearcache.engine.access import Access
from nearcache.engine.flights import FlightTable
from nearcache.engine.lookout import Lookout
from nearcache.engine.tracked import Tracked
from nearcache.engine.values import HELD_VERSION, ValueShelf
from nearcache.testing import MemoryStore
from nearcache.testing.contracts.store_parts import forked

SCHEDULES = int(os.environ.get("NEARCACHE_SCHEDULES", "14000"))
CHUNKS = 8
ONE, TWO = KEYS

pytestmark = pytest.mark.drops_caches  # the worlds are many, and check their own engines


def explain(world) -> str:
    return "\n".join([*world.stale, world.told()])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_schedules_leave_nothing_stale(chunk):
    def play(first):
        for seed in range(first, SCHEDULES, 2 * CHUNKS):
            world = at_random(seed)
            assert not world.stale, f"seed {seed}\n{explain(world)}"

    with forked(lambda: play(chunk)):  # nothing but work for one processor: let two do it
        play(chunk + CHUNKS)


GET, FRESH, LOAD = ("get", ONE), ("fresh", ONE), ("load", ONE)
TAGGED, NAMED = ("load tagged", ONE), ("load named", ONE)
PUT, PUT_TAGGED, INVALIDATE = ("put", ONE), ("put tagged", ONE), ("invalidate", ONE)
FORGET_TAG, CLEAR, FLUSH = ("tag",), ("clear",), ("flush",)
UPDATE, BAD = ("update", ONE), ("load bad", ONE)
EXPIRE = ("jump", 21.0)
STALE = Setting(ttl=20.5, stale=100.0)

# by name: what callers do, each in its process, and what was done before
PAIRS = {
    "a load and an invalidation in one process": ([(0, [LOAD, GET]), (0, [INVALIDATE, GET])], ()),
    "a load and an invalidation in another": ([(0, [LOAD, GET]), (1, [INVALIDATE, LOAD])], ()),
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
    "a read of the store and a put in another process": (
        [(0, [GET, GET]), (1, [PUT, GET])],
        [(1, [LOAD])],
    ),
    "two puts": ([(0, [PUT, GET]), (0, [PUT, GET])], ()),
    "two puts in two processes": ([(0, [PUT, GET]), (1, [PUT, GET])], ()),
    "a put over a value and a put in another process": (
        [(0, [PUT, GET]), (1, [PUT, FRESH])],
        [(0, [LOAD]), (1, [GET])],
    ),
    "a put and an invalidation in another process": (
        [(0, [PUT, GET]), (1, [INVALIDATE, GET])],
        [(0, [LOAD])],
    ),
    "a read through and a put in another process": ([(0, [FRESH, GET]), (1, [PUT])], [(0, [LOAD])]),
    "two loads in two processes": ([(0, [LOAD, GET]), (1, [LOAD, GET])], ()),
    "two loads and an invalidation": ([(0, [LOAD]), (1, [LOAD]), (1, [INVALIDATE])], ()),
    "batches in opposite orders": ([(0, [("load", ONE, TWO)]), (0, [("load", TWO, ONE)])], ()),
    "a load with a tag and the end of the tag": (
        [(0, [TAGGED, LOAD]), (0, [FORGET_TAG, LOAD])],
        (),
    ),
    "a load with a tag and its end in another process": (
        [(0, [TAGGED, LOAD]), (1, [FORGET_TAG, LOAD])],
        (),
    ),
    "a load that names a tag and the end of the tag": (
        [(0, [NAMED, LOAD]), (0, [FORGET_TAG, LOAD])],
        (),
    ),
    "a put with a tag and its end in another process": (
        [(0, [PUT_TAGGED, GET]), (1, [FORGET_TAG, GET])],
        (),
    ),
    "a read of a value with a tag and its end in another process": (
        [(0, [GET, GET]), (1, [FORGET_TAG, GET])],
        [(1, [TAGGED])],
    ),
    "a load and a clear in one process": ([(0, [LOAD, GET]), (0, [CLEAR, GET])], ()),
    "a read of the store and a clear in another process": (
        [(0, [GET, LOAD]), (1, [CLEAR])],
        [(1, [LOAD])],
    ),
    "a load and a flush": ([(0, [LOAD, GET]), (0, [FLUSH])], ()),
    "a read, a put in another process, and the link": (
        [(0, [GET, GET]), (1, [PUT]), (0, [("relink", 0)])],
        [(1, [LOAD])],
    ),
    "a put, a put in another process, and the link": (
        [(0, [PUT, GET]), (1, [PUT]), (0, [("relink", 0)])],
        (),
    ),
    "a late put and a put in another process": (
        [(0, [PUT, GET]), (1, [PUT, FRESH]), (0, [("outage", 0, "late", "put")])],
        [(0, [LOAD]), (1, [GET])],
    ),
}


# by name: the same, of updates
UPDATES = {
    "two updates in one process": ([(0, [UPDATE, GET]), (0, [UPDATE, GET])], [(0, [LOAD])]),
    "two updates in two processes": ([(0, [UPDATE, UPDATE]), (1, [UPDATE])], [(0, [LOAD])]),
    "two updates of what is nowhere": ([(0, [UPDATE, GET]), (1, [UPDATE, GET])], ()),
    "an update and a cancelled one": (
        [(0, [UPDATE, GET]), (1, [UPDATE]), (0, [("cancel",)])],
        [(1, [LOAD])],
    ),
    "a late update and an update in another process": (
        [(0, [UPDATE]), (1, [UPDATE, GET]), (0, [("outage", 0, "late", "commit_and_look")])],
        [(0, [LOAD])],
    ),
    "an update nobody heard of and one in another process": (
        [(0, [UPDATE]), (1, [UPDATE, GET]), (0, [("outage", 0, "mute", "commit_and_look")])],
        [(0, [LOAD])],
    ),
}
WITH_UPDATES = {
    "an update and a put in another process": ([(0, [UPDATE, GET]), (1, [PUT, GET])], ()),
    "an update and an invalidation in another process": (
        [(0, [UPDATE, GET]), (1, [INVALIDATE, GET])],
        [(0, [LOAD])],
    ),
    "an update and the end of the tag in another process": (
        [(0, [UPDATE, GET]), (1, [FORGET_TAG, GET])],
        [(0, [TAGGED])],
    ),
    "an update and a clear": ([(0, [UPDATE, GET]), (0, [CLEAR, GET])], [(0, [LOAD])]),
    "an update and a load of what is nowhere": ([(0, [UPDATE, GET]), (1, [LOAD, GET])], ()),
}

# by name: the same, of values that have just expired, and may stand in
EXPIRED = {
    "a stale answer and an invalidation": ([(0, [LOAD, GET]), (0, [INVALIDATE, LOAD])], LOAD),
    "a stale answer and an invalidation in another process": (
        [(0, [LOAD, GET]), (1, [INVALIDATE, LOAD])],
        LOAD,
    ),
    "a stale answer and the end of its tag": ([(0, [TAGGED]), (1, [FORGET_TAG, LOAD])], TAGGED),
    "a stale answer and a put in another process": ([(0, [LOAD, GET]), (1, [PUT, LOAD])], LOAD),
    "a stale answer and an update": ([(0, [LOAD, GET]), (0, [UPDATE, LOAD])], LOAD),
    "a load behind an answer and a read through": ([(0, [LOAD]), (0, [INVALIDATE, FRESH])], LOAD),
    "two stale answers in two processes": ([(0, [LOAD, GET]), (1, [LOAD, GET])], LOAD),
    "a load that fails and an invalidation in another process": (
        [(0, [BAD, GET]), (1, [INVALIDATE, LOAD])],
        LOAD,
    ),
    "a load that fails and a clear": ([(0, [BAD, GET]), (0, [CLEAR, BAD])], LOAD),
}


@pytest.mark.parametrize("name", EXPIRED)
def test_what_was_forgotten_never_stands_in_after(name):
    programs, load = EXPIRED[name]
    tried = 0
    for stale in (STALE, replace(STALE, stale=0.0, fail_safe=100.0)):
        warm = [(0, [load]), (1, [GET, EXPIRE])]
        for world in exhaustively(programs, warm=warm, setting=stale, most=SCHEDULES // 80):
            tried += 1
            assert not world.stale, explain(world)
    assert tried > 20


@pytest.mark.parametrize("name", UPDATES)
def test_no_update_is_lost_of(name):
    programs, warm = UPDATES[name]
    tried = 0
    for world in exhaustively(programs, warm=warm, most=SCHEDULES // 40):
        tried += 1
        assert not world.stale, explain(world)
        assert world.sure <= world.updates(ONE) <= world.sure + world.unsure, explain(world)
    assert tried > 20


@pytest.mark.parametrize("name", {**PAIRS, **WITH_UPDATES})
def test_every_short_schedule_leaves_nothing_stale_of(name):
    programs, warm = {**PAIRS, **WITH_UPDATES}[name]
    tried = 0
    for world in exhaustively(programs, warm=warm, most=SCHEDULES // 20):
        tried += 1
        assert not world.stale, explain(world)
    assert tried > 20


# What went wrong once; by name: the programs, what was done before, the setting.
#
# "its tag was bumped before it was written":
#     a load whose loader names the tag           a call of this process, and its link
#     loads v, reads the tag's token e1
#     waits for the store's time
#                                                 bumps the tag: e2; hears it, and reads e2
#     writes v under the token that is known
#     now, e2: valid for ever
# "it outlives its tag": the tag's epoch is asked to live as long as the value would if it was
# written at once; the load takes longer, and near serves what the store takes for forgotten.
SCENES = {
    "a load that names a tag, whose tag was bumped before it was written": (
        [(1, [FORGET_TAG]), (1, [("load named", TWO)])],
        Setting(),
    ),
    "a load with a tag that takes so long that it outlives its tag": (
        [(0, [TAGGED]), (0, [("jump", 30.0), ("jump", 11.0)])],
        Setting(ttl=20.0),
    ),
}


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_stale_after(name):
    programs, setting = SCENES[name]
    for seed in range(1000):
        world = scene(seed, programs, setting=setting)
        assert not world.stale, f"seed {seed}\n{explain(world)}"


# A checker that cannot fail proves nothing: with a protection taken away, it must find something.


def nothing(*_):
    """Do nothing."""


class OverAbsence(MemoryStore):
    """Whoever loaded may write, though what was there was forgotten."""

    length = 16

    def commit(self, keys, values, expected, ttl, log, token=b"", seconds=0.0):
        with self._lock:
            now = self._clock()
            for i, key in enumerate(keys):
                if len(expected[i]) == self.length:
                    expected = [
                        *expected[:i],
                        self._expected(key, bytes(16), 1.0, now),
                        *expected[i + 1 :],
                    ]
        return super().commit(keys, values, expected, ttl, log, token, seconds)


class OverVersions(OverAbsence):
    """Whoever saw a value may write, though another one came."""

    length = 8


class OverDeadlines(MemoryStore):
    """However late a put is, it is executed."""

    def put(self, keys, values, ttl, log, deadline, groups):
        return super().put(keys, values, ttl, log, float("inf"), groups)


original_changed, original_confirm = Tracked.changed, Lookout._confirm


def trusts_echoes(self, names):
    foreign = [name for name in names if self.lookout.echoes.pop(name, None) is None]
    original_changed(self, foreign)


def learns_anyway(ticket, tokens, epoch, read_at):
    for (group, _), token in zip(ticket, tokens, strict=True):
        if len(token) == TOKEN_BYTES:
            group.learn(token, epoch, read_at)


def confirms_anyway(self, name, version, epoch, sent):
    held = self.held(self._shelf.keys.key(name))
    original_confirm(self, name, held[HELD_VERSION] if held else version, epoch, sent)


def one_epoch_for_all(wire):
    """Take what was read before the loss for as good as what is read after it."""
    if hasattr(wire, "epoch"):
        wire.epoch.heard, wire.linked = wire._opened_at, True
        wire.tracked.linked(wire.epoch)
    else:
        original_link(wire)


original_link = values.Wire.link
LOST_FOR_A_WHILE = PAIRS["a read, a put in another process, and the link"]
LATE = (
    [
        (0, [PUT, ("get", TWO)]),
        (1, [PUT, PUT]),
        (0, [("outage", 0, "late", "put"), ("outage", 0, ""), ("jump", BREAK)]),
    ],
    [(0, [LOAD]), (1, [GET])],
)
TAG_LOAD = ([(0, [TAGGED]), (1, [FORGET_TAG])], ())

# by name: what is changed, by what store, and where it shows
BROKEN = {
    "flights stay attached": (
        [(FlightTable, "detach", nothing), (FlightTable, "detach_shelves", nothing)],
        None,
        PAIRS["a read of the store and an invalidation in another process"],
    ),
    "leases are ignored": (
        [],
        OverAbsence,
        ([(0, [LOAD]), (1, [INVALIDATE])], ()),
    ),
    "deadlines are ignored": ([], OverDeadlines, LATE),
    "versions are ignored": (
        [],
        OverVersions,
        UPDATES["a late update and an update in another process"],
    ),
    "pushes are ignored": ([(Tracked, "changed", nothing)], None, LOST_FOR_A_WHILE),
    "echoes are trusted": (
        [(Tracked, "changed", trusts_echoes)],
        None,
        PAIRS["a put over a value and a put in another process"],
    ),
    "tokens of groups are learned whatever was heard": (
        [(Groups, "learn", staticmethod(learns_anyway))],
        None,
        TAG_LOAD,
    ),
    "epochs of the link are ignored": (
        [(values.Wire, "link", one_epoch_for_all)],
        None,
        LOST_FOR_A_WHILE,
    ),
    "copies are confirmed whatever their version": (
        [(Lookout, "_confirm", confirms_anyway)],
        None,
        LOST_FOR_A_WHILE,
    ),
    "what cannot be delivered is lost": (
        [(Access, name, nothing) for name in vars(Access) if name.startswith("queue")],
        None,
        LATE,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_explorer_finds_what_goes_wrong_when(name, monkeypatch):
    patches, store, (programs, warm) = BROKEN[name]
    for target, attribute, instead in patches:
        monkeypatch.setattr(target, attribute, instead)
    for seed in range(2000):
        for run in (
            partial(at_random, seed),
            partial(scene, seed, programs, warm=warm),
        ):
            with suppress(AssertionError):  # what is left over is no proof of staleness
                if run(store=store and store()).stale:
                    return
    pytest.fail("4000 schedules, nothing stale: the checker sees nothing")


def test_the_explorer_finds_a_lost_update_when_versions_are_ignored():
    programs, warm = UPDATES["two updates in two processes"]
    for seed in range(2000):
        world = scene(seed, programs, warm=warm, store=OverVersions())
        if world.updates(ONE) < world.sure:
            return
    pytest.fail("2000 schedules, and no update is lost: the checker sees nothing")


def test_the_explorer_finds_what_stands_in_though_it_was_forgotten(monkeypatch):
    """What expired is believed whatever was heard of it since."""
    monkeypatch.setattr(Tracked, "changed", nothing)
    monkeypatch.setattr(ValueShelf, "servable", lambda *_: True)
    programs, load = EXPIRED["a stale answer and an invalidation in another process"]
    for seed in range(2000):
        with suppress(AssertionError):  # what is left over is no proof of staleness
            if scene(seed, programs, warm=[(0, [load]), (1, [GET, EXPIRE])], setting=STALE).stale:
                return
    pytest.fail("2000 schedules, nothing stale: the checker sees nothing")
