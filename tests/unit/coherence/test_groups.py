"""Groups and their tokens: what a process knows of them, and when it must not believe it."""

import pytest

from nearcache.coherence import groups as groups_module
from nearcache.coherence.groups import Group, Groups, bump_token, bumped_since, digest_of_group
from nearcache.coherence.link import DEAD, Epoch

OLD, NEW = b"o" * 16, b"n" * 16
EPOCH = Epoch(5.0)


def test_a_digest_is_16_bytes_and_of_its_name_alone():
    names = [b"", b"a", b"A", b"a:", b"\xff" * 1000]
    digests = [digest_of_group(name) for name in names]
    assert {len(digest) for digest in digests} == {16}
    assert len(set(digests)) == len(names)
    assert digest_of_group(b"a") == digest_of_group(b"a")


# -- tokens ----------------------------------------------------------------------------------------


def test_a_bump_never_repeats():
    assert len({bump_token(1000.0) for _ in range(1000)}) == 1000
    assert {len(bump_token(now)) for now in (0.0, 1.5, 2e9)} == {16}


def test_a_bump_tells_when_it_was():
    token = bump_token(1000.0)
    assert bumped_since(token, 900.0)
    assert bumped_since(token, 1000.0)
    assert not bumped_since(token, 1100.0)


def test_a_bump_a_moment_before_counts_for_the_clock_is_an_estimate():
    assert bumped_since(bump_token(1000.0), 1000.5)


@pytest.mark.parametrize("token", [b"", b"x" * 16, b"bum", b"\x00" * 16])
def test_a_token_that_is_no_bump_tells_nothing(token):
    assert not bumped_since(token, 0.0)


# -- one group -------------------------------------------------------------------------------------


def test_nothing_is_known_of_a_new_group():
    group = Groups().group(b"name", b"digest")
    assert group.token is None
    assert group.epoch is DEAD
    assert not group.was_another(OLD)


def test_the_same_token_is_the_same_object_again():
    """An entry that was near under it counts again: the store only touched its epoch."""
    group = Group(b"name", b"")
    first = group.learn(bytes(bytearray(OLD)), EPOCH, 1.0)
    group.forget()
    assert group.token is None
    again = group.learn(bytes(bytearray(OLD)), EPOCH, 2.0)
    assert again is first
    assert group.token is first


def test_another_token_is_another_object_for_good():
    group = Group(b"name", b"")
    first = group.learn(OLD, EPOCH, 1.0)
    group.learn(NEW, EPOCH, 2.0)
    assert group.was_another(OLD)
    assert not group.was_another(NEW)
    back = group.learn(bytes(bytearray(OLD)), EPOCH, 3.0)
    assert back is not first or group.token is first


def test_to_forget_is_to_know_less_and_to_void_what_is_under_way():
    groups = Groups()
    group = groups.group(b"name")
    ticket = groups.ticket([group])
    group.learn(OLD, EPOCH, 1.0)
    group.lives_until = 100.0
    group.forget()
    assert group.token is None
    assert group.lives_until == float("-inf")
    groups.learn(ticket, [OLD], EPOCH, 2.0)
    assert group.token is None  # the answer may be of before
    groups.learn(groups.ticket([group]), [NEW], EPOCH, 3.0)
    assert group.token == NEW


# -- all of them -----------------------------------------------------------------------------------


def test_a_name_is_one_group():
    groups = Groups()
    assert groups.group(b"a", b"1") is groups.group(b"a", b"1")
    assert groups.group(b"a") is not groups.group(b"b")


@pytest.mark.parametrize("garbage", [b"", b"x", b"x" * 15, b"x" * 17, b"x" * 1000])
def test_garbage_is_not_learned(garbage):
    groups = Groups()
    group = groups.group(b"a")
    groups.learn(groups.ticket([group]), [garbage], EPOCH, 1.0)
    assert group.token is None


def test_an_answer_for_several_counts_for_those_not_forgotten_meanwhile():
    groups = Groups()
    a, b = groups.group(b"a"), groups.group(b"b")
    ticket = groups.ticket([a, b])
    a.forget()
    groups.learn(ticket, [OLD, NEW], EPOCH, 1.0)
    assert (a.token, b.token) == (None, NEW)
    assert (b.epoch, b.read_at) == (EPOCH, 1.0)


def test_a_flush_forgets_every_group():
    groups = Groups()
    all_of_them = [groups.group(bytes([n])) for n in range(100)]
    for group in all_of_them:
        group.learn(OLD, EPOCH, 1.0)
    groups.forget()
    assert {group.token for group in all_of_them} == {None}


def test_too_many_groups_are_not_remembered_nor_believed(monkeypatch):
    monkeypatch.setattr(groups_module, "_MOST", 50)
    groups = Groups()
    first = groups.group(b"first")
    first.learn(OLD, EPOCH, 1.0)
    for n in range(200):
        groups.group(f"{n}".encode()).learn(OLD, EPOCH, 1.0)
    assert len(groups._groups) <= 51
    assert first.token is None  # it would not hear of its end any more
    assert groups.group(b"first") is not first
