"""What cannot be cached is tried now and then, and passed on at once in between."""

from nearcache.proxy.opaque import Opaque
from nearcache.testing import ManualClock


def opaque():
    clock = ManualClock()
    return Opaque(clock), clock


def test_one_bad_answer_is_an_accident():
    one, _ = opaque()
    for _ in range(2):
        one.note(b"a")
    assert not one.is_known(b"a")


def test_three_in_a_row_are_none():
    one, clock = opaque()
    for _ in range(3):
        one.note(b"a")
    assert one.is_known(b"a")
    assert not one.is_known(b"b")
    clock.advance(61)
    assert not one.is_known(b"a")
    one.note(b"a")
    assert one.is_known(b"a")


def test_a_good_answer_ends_it():
    one, _ = opaque()
    for _ in range(2):
        one.note(b"a")
    one.forget(b"a")
    one.note(b"a")
    assert not one.is_known(b"a")


def test_it_remembers_only_so_many(monkeypatch):
    monkeypatch.setattr("nearcache.proxy.opaque._MOST", 2)
    one, _ = opaque()
    for name in (b"a", b"b", b"c", b"c", b"c"):
        one.note(name)
    assert [one.is_known(name) for name in (b"a", b"c")] == [False, True]
