"""Whose key was accepted lately; a refusal is never undone by what was asked before it."""

from nearcache.proxy.gate import Gate
from nearcache.testing import ManualClock

A, B, X, Y = b"a", b"b", b"x", b"y"


def gate(seconds=300.0):
    clock = ManualClock()
    return Gate(seconds, clock), clock


def test_nobody_is_let_in_at_first():
    one, _ = gate()
    assert not one.is_open(A, X)


def test_an_acceptance_is_of_one_caller_for_one_purpose():
    one, _ = gate()
    one.accept(A, X, one.now())
    assert one.is_open(A, X)
    assert not one.is_open(B, X)
    assert not one.is_open(A, Y)


def test_it_ends_and_is_renewed_before():
    one, clock = gate(100.0)
    one.accept(A, X, one.now())
    clock.advance(70.0)
    assert not one.is_due(A, X)
    clock.advance(10.0)
    assert one.is_due(A, X)
    assert one.is_open(A, X)
    clock.advance(20.0)
    assert not one.is_open(A, X)
    assert one.was_open(A, X)


def test_a_refusal_ends_all_of_a_caller_at_once():
    one, clock = gate()
    for what in (X, Y):
        one.accept(A, what, one.now())
    clock.advance(1.0)
    one.refuse(A)
    assert not any(one.was_open(A, what) or one.is_open(A, what) for what in (X, Y))


def test_what_was_asked_before_a_refusal_does_not_undo_it():
    one, clock = gate()
    asked = one.now()
    clock.advance(1.0)
    one.refuse(A)
    one.accept(A, X, asked)
    assert not one.is_open(A, X)
    clock.advance(1.0)
    one.accept(A, X, one.now())
    assert one.is_open(A, X)


def test_an_older_answer_does_not_shorten_a_newer_one():
    one, clock = gate(100.0)
    old = one.now()
    clock.advance(90.0)
    one.accept(A, X, one.now())
    one.accept(A, X, old)
    clock.advance(90.0)
    assert one.is_open(A, X)


def test_it_remembers_only_so_many(monkeypatch):
    monkeypatch.setattr("nearcache.proxy.gate._MOST", 2)
    one, _ = gate()
    for caller in (A, B, b"c"):
        one.accept(caller, X, one.now())
    assert [one.is_open(caller, X) for caller in (A, B, b"c")] == [False, True, True]


def test_many_refusals_of_strangers_bring_no_key_back(monkeypatch):
    monkeypatch.setattr("nearcache.proxy.gate._MOST", 2)
    one, _ = gate()
    one.accept(A, X, one.now())
    for caller in (A, b"1", b"2", b"3"):
        one.refuse(caller)
    assert not one.was_open(A, X)
    assert not one.is_open(A, X)
