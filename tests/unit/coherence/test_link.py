"""The link: who is told what, when, and in which order; how it ends and comes back."""

import gc
import logging
import threading
import weakref

import pytest

from embedders import until
from nearcache.coherence import link as link_module
from nearcache.coherence.link import ALWAYS, DEAD, Epoch, Link, State
from nearcache.errors import StoreCannotTell, StoreTimeout, StoreUnavailable
from nearcache.testing.contracts.store_parts import forked

PONG = object()
_HANG = 20


class Wire:
    """What is behind the streams of one link: a store that says what the test makes it say."""

    def __init__(self):
        self.changed = threading.Condition()
        self.queue = []
        self.log = []
        self.error = None  # what opening a stream raises
        self.deaf = False  # pings are not answered
        self.broken = False
        self.open = 0
        self.opening = None  # called while a stream opens
        self.streams = []

    def make(self):
        stream = FakeStream(self)
        self.streams.append(stream)
        return stream

    def say(self, message):
        with self.changed:
            self.queue.append(message)
            self.changed.notify_all()

    def cut(self):
        with self.changed:
            self.broken = True
            self.queue.clear()
            self.changed.notify_all()

    def heal(self):
        with self.changed:
            self.broken, self.error, self.deaf = False, None, False


class FakeStream:
    def __init__(self, wire):
        self.wire = wire
        self.is_open = self.closed = False

    def open(self, prefixes, seconds):
        wire = self.wire
        wire.log.append(("open", tuple(prefixes)))
        if wire.opening is not None:
            wire.opening()
        if wire.error is not None:
            raise type(wire.error)(*wire.error.args)
        with wire.changed:
            if self.closed:
                raise StoreUnavailable("closed while it opened")
            wire.queue.clear()
            wire.open += 1
            self.is_open = True

    def _check(self):
        if not self.is_open or self.closed or self.wire.broken:
            raise StoreUnavailable("the wire is cut")

    def watch(self, prefix):
        self._check()
        self.wire.log.append(("watch", prefix))

    def ping(self):
        self._check()
        self.wire.log.append(("ping",))
        if not self.wire.deaf:
            self.wire.say(PONG)

    def read(self, seconds):
        wire = self.wire
        with wire.changed:
            wire.changed.wait_for(lambda: wire.queue or self.closed or wire.broken, seconds)
            self._check()
            heard, wire.queue[:] = list(wire.queue), []
        return heard

    def close(self):
        with self.wire.changed:
            if self.is_open and not self.closed:
                self.wire.open -= 1
            self.closed = True
            self.wire.changed.notify_all()


class Listener:
    def __init__(self, space, bound=1.0, log=None):
        self.space, self.bound = space, bound
        self.told = [] if log is None else log
        self.epoch = DEAD
        self.delays = []

    def changed(self, names):
        self.told.append(("changed", tuple(names)))

    def everything_changed(self):
        self.told.append(("everything",))

    def linked(self, epoch):
        self.epoch = epoch
        self.told.append(("linked", self.space))

    def lost(self, reason):
        self.epoch = DEAD
        self.told.append(("lost", reason))

    def answered(self, seconds):
        self.delays.append(seconds)


def name(space, key="k"):
    return f"nc1:{{{space}:00}}:k:s{key}.".encode()


def prefixes(space):
    return [f"nc1:{{{space}{end}".encode() for end in (":", "}", "/")]


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def link(wire):
    made = Link("fake://", wire.make, names=lambda m: m, pong=PONG)
    yield made
    for member in made.members():
        made.leave(member)


def joined(link, space, **options):
    member = Listener(space.encode(), **options)
    link.join(member, prefixes(space))
    until(lambda: member.epoch is not DEAD)
    return member


# -- telling ---------------------------------------------------------------------------------------


def test_a_member_hears_of_its_own_keys_only(link, wire):
    a, b = joined(link, "a"), joined(link, "b")
    view = joined(link, "a/inner")
    wire.say([name("a", "1"), name("b", "2"), name("a/inner", "3"), b"nc1:{a}:e:*", name("ab")])
    until(lambda: len(view.told) > 1 and len(b.told) > 1)
    assert a.told[1:] == [("changed", (name("a", "1"), b"nc1:{a}:e:*"))]
    assert b.told[1:] == [("changed", (name("b", "2"),))]
    assert view.told[1:] == [("changed", (name("a/inner", "3"),))]


def test_all_members_of_a_space_hear(link, wire):
    one, two = joined(link, "a"), joined(link, "a")
    wire.say([name("a")])
    until(lambda: len(one.told) > 1 and len(two.told) > 1)
    assert one.told[1:] == two.told[1:] == [("changed", (name("a"),))]


def test_a_null_push_is_everything_for_everybody(link, wire):
    a, b = joined(link, "a"), joined(link, "b")
    wire.say(None)
    until(lambda: len(a.told) > 1 and len(b.told) > 1)
    assert a.told[1:] == b.told[1:] == [("everything",)]


@pytest.mark.parametrize("odd", [b"", b"{", b"}", b"nc1:", b"nc1:{", b"somebody's key", b"\xff"])
def test_a_name_that_is_nobodys_disturbs_nobody(link, wire, odd):
    member = joined(link, "a")
    wire.say([odd])
    wire.say([name("a")])
    until(lambda: len(member.told) > 1)
    assert member.told[1:] == [("changed", (name("a"),))]
    assert link.state is State.TRACKING


# -- joining ---------------------------------------------------------------------------------------


def test_there_is_no_thread_before_the_first_member(link, wire):
    assert link.state is State.CLOSED
    assert wire.log == []
    member = joined(link, "a")
    assert link.state is State.TRACKING
    assert member.told == [("linked", b"a")]
    assert wire.log[0] == ("open", tuple(prefixes("a")))


def test_a_later_member_is_told_when_its_prefixes_are_heard_of(link, wire):
    joined(link, "a")
    wire.deaf = True
    late = Listener(b"late")
    link.join(late, prefixes("late"))
    until(lambda: ("watch", prefixes("late")[-1]) in wire.log and wire.log[-1] == ("ping",))
    assert late.told == []  # not before the ping that follows is answered
    wire.deaf = False
    for _ in range(wire.log.count(("ping",))):
        wire.say(PONG)
    until(lambda: late.told)
    assert late.told == [("linked", b"late")]


def test_a_member_that_joins_while_the_stream_opens_waits_until_it_is_heard_of(link, wire):
    late = Listener(b"late", log=wire.log)
    inside, go = threading.Event(), threading.Event()

    def opening():
        inside.set()
        assert go.wait(_HANG)

    wire.opening = opening
    first = Listener(b"a")
    link.join(first, prefixes("a"))
    assert inside.wait(_HANG)
    link.join(late, prefixes("late"))
    wire.opening = None
    go.set()
    until(lambda: late.epoch is not DEAD)
    told = wire.log.index(("linked", b"late"))
    if prefixes("late")[0] not in wire.log[0][1]:
        assert all(("watch", one) in wire.log[:told] for one in prefixes("late"))
        watched = max(wire.log.index(("watch", one)) for one in prefixes("late"))
        assert ("ping",) in wire.log[watched:told]


def test_a_prefix_is_watched_once(link, wire):
    joined(link, "a")
    joined(link, "a")
    joined(link, "b")
    joined(link, "b")
    watched = [what for what in wire.log if what[0] == "watch"]
    assert len(watched) == len(set(watched)) == 3


# -- hearing ---------------------------------------------------------------------------------------


def test_what_is_heard_rises_with_answered_pings(link, wire):
    member = joined(link, "a", bound=0.3)
    epoch, before = member.epoch, member.epoch.heard
    until(lambda: epoch.heard > before)
    assert epoch.heard <= link.clock()


def test_every_member_hears_how_long_a_ping_took(link, wire):
    one, two = joined(link, "a"), joined(link, "b")
    until(lambda: len(one.delays) > 2 and len(two.delays) > 1)
    assert all(seconds >= 0 for seconds in one.delays)


def test_an_unanswered_ping_ends_the_epoch_after_the_bound(link, wire):
    member = joined(link, "a", bound=0.2)
    epoch = member.epoch
    wire.deaf = True
    until(lambda: any(told[0] == "lost" for told in member.told))
    heard = epoch.heard
    assert member.epoch is DEAD
    wire.deaf = False
    until(lambda: member.epoch is not DEAD)
    assert member.epoch is not epoch
    assert epoch.heard == heard  # a later answer is none for an epoch that has ended


def test_the_shortest_bound_sets_the_pace(link, wire):
    slow = joined(link, "a", bound=60.0)
    quick = joined(link, "b", bound=0.3)
    before = slow.epoch.heard
    until(lambda: slow.epoch.heard > before, 10.0)  # alone it would ping every 20 s
    assert quick.epoch is slow.epoch


# -- losing ----------------------------------------------------------------------------------------


def test_a_lost_link_is_told_and_comes_back_with_another_epoch(link, wire):
    member = joined(link, "a")
    first = member.epoch
    wire.cut()
    until(lambda: any(told[0] == "lost" for told in member.told))
    wire.heal()
    until(lambda: member.epoch is not DEAD)
    assert member.epoch is not first
    assert [told[0] for told in member.told] == ["linked", "lost", "linked"]
    assert wire.log.count(("open", tuple(prefixes("a")))) >= 2


def test_a_prefix_that_was_added_later_is_asked_for_when_the_link_comes_back(link, wire):
    joined(link, "a")
    late = joined(link, "late")
    wire.cut()
    until(lambda: late.epoch is DEAD)
    wire.heal()
    until(lambda: late.epoch is not DEAD)
    *_, asked = [what[1] for what in wire.log if what[0] == "open"]
    assert set(asked) == {*prefixes("a"), *prefixes("late")}


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreTimeout("late")])
def test_a_store_that_is_away_is_tried_again(link, wire, error, caplog):
    wire.error = error
    member = Listener(b"a")
    link.join(member, prefixes("a"))
    until(lambda: len(wire.log) >= 3)
    assert link.state is State.CONNECTING
    assert member.told == []
    wire.heal()
    until(lambda: member.told == [("linked", b"a")])


def test_a_store_that_cannot_tell_is_said_so_once_and_tried_later(link, wire, caplog, monkeypatch):
    monkeypatch.setattr(link_module, "_CANNOT_TELL_PAUSE", 0.02)
    link._silence = 0.01
    caplog.set_level(logging.WARNING, "nearcache")
    wire.error = StoreCannotTell("fake:// cannot tell")
    member = Listener(b"a")
    link.join(member, prefixes("a"))
    until(lambda: len(wire.log) >= 3)
    assert link.state is State.CANNOT_TELL
    assert member.told == []
    assert len([one for one in caplog.records if "link_timeout" in one.getMessage()]) == 1
    wire.heal()
    until(lambda: member.told == [("linked", b"a")])
    assert link.state is State.TRACKING


def test_an_error_of_a_client_library_is_logged_and_tried_again(link, wire, caplog):
    wire.error = ValueError("whatever a client raises")
    member = Listener(b"a")
    link.join(member, prefixes("a"))
    until(lambda: len(wire.log) >= 2)
    assert "whatever a client raises" in caplog.text
    wire.heal()
    until(lambda: member.told)


def test_a_member_that_raises_does_not_end_the_link(link, wire, caplog):
    member, other = joined(link, "a"), joined(link, "b")

    def changed(names):
        raise ValueError("a member's own")

    member.changed = changed
    wire.say([name("a")])
    wire.say([name("b")])
    until(lambda: ("changed", (name("b"),)) in other.told or len(other.told) > 2)
    assert "a member's own" in caplog.text
    # whatever was between is made good for: a new link, or the news itself
    until(lambda: member.epoch is not DEAD)


# -- ending ----------------------------------------------------------------------------------------


def test_the_last_member_that_leaves_ends_the_link(link, wire):
    a, b = joined(link, "a"), joined(link, "b")
    thread = link._thread
    link.leave(a)
    assert thread.is_alive()
    wire.say([name("a"), name("b")])
    until(lambda: len(b.told) > 1)
    assert len(a.told) == 1
    link.leave(b)
    link.leave(b)
    until(lambda: not thread.is_alive())
    assert link.state is State.CLOSED
    assert wire.open == 0


def test_a_member_that_comes_after_the_end_begins_anew(link, wire):
    for n in range(20):
        member = joined(link, f"s{n}")
        link.leave(member)
    assert wire.open == 0
    last = joined(link, "last")
    assert link.state is State.TRACKING
    wire.say([name("last")])
    until(lambda: len(last.told) > 1)
    *_, asked = [what[1] for what in wire.log if what[0] == "open"]
    assert set(asked) == set(prefixes("last"))  # nothing of those who left


def test_leaving_and_joining_at_once_leaves_one_link(link, wire):
    def churn(number):
        for _ in range(30):
            member = Listener(f"m{number}".encode())
            link.join(member, prefixes(f"m{number}"))
            link.leave(member)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_HANG)
    last = joined(link, "last")
    until(lambda: wire.open == 1)
    link.leave(last)
    until(lambda: wire.open == 0)
    assert link.state is State.CLOSED


@pytest.mark.parametrize("error", [None, StoreUnavailable("away"), StoreCannotTell("mute")])
def test_members_that_are_dropped_end_the_link(wire, error):
    made = Link("fake://", wire.make, names=lambda m: m, pong=PONG)
    wire.error = error
    member = Listener(b"a")
    gone = weakref.ref(member)
    made.join(member, prefixes("a"))
    thread = made._thread
    until(lambda: wire.log)
    del member
    until(lambda: (gc.collect(), not thread.is_alive())[1])
    assert gone() is None
    assert made.state is State.CLOSED
    assert wire.open == 0


def test_a_link_that_is_dropped_while_it_opens_ends(wire):
    made = Link("fake://", wire.make, names=lambda m: m, pong=PONG)
    inside, go = threading.Event(), threading.Event()
    wire.opening = lambda: (inside.set(), go.wait(_HANG))
    member = Listener(b"a")
    made.join(member, prefixes("a"))
    assert inside.wait(_HANG)
    thread = made._thread
    leaving = threading.Thread(target=made.leave, args=(member,))
    leaving.start()
    go.set()
    leaving.join(_HANG)
    until(lambda: not thread.is_alive())
    assert wire.open == 0
    assert member.epoch is DEAD
    assert made.state is State.CLOSED


def test_after_a_fork_the_child_listens_with_a_thread_of_its_own(link, wire):
    member = joined(link, "a")
    parents = wire.streams[-1]

    def child():
        wire.changed = threading.Condition()
        before = len(wire.streams)
        for _ in range(3):  # each of its members says so
            link.start_anew()
        member.epoch = DEAD
        until(lambda: member.epoch is not DEAD)
        assert len([one for one in threading.enumerate() if one.name == "nearcache-link"]) == 1
        assert parents.closed
        assert len(wire.streams) == before + 1

    with forked(child):
        pass
    assert not parents.closed
    wire.say([name("a")])
    until(lambda: len(member.told) > 1)


def test_epochs_that_are_always_the_same():
    assert DEAD.heard == float("-inf")
    assert ALWAYS.heard == float("inf")
    assert Epoch(5.0).heard == 5.0
