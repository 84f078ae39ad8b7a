"""Lists of slots in two columns."""

import pytest

from nearcache.near.policies.links import Links, resize


def linked(*slots):
    links = Links()
    links.reserve(10)
    for slot in slots:
        links.append(slot)
    return links


def test_slots_stay_in_the_order_in_which_they_came():
    assert list(linked(3, 1, 2).walk()) == [3, 1, 2]


def test_any_slot_can_be_taken_out():
    for slot in (3, 1, 2):
        links = linked(3, 1, 2)
        links.unlink(slot)
        assert list(links.walk()) == [s for s in (3, 1, 2) if s != slot]


def test_a_slot_takes_the_place_of_another():
    links = linked(3, 1, 2)
    for source, target in ((3, 7), (1, 8), (2, 9)):
        links.move(source, target)
    assert list(links.walk()) == [7, 8, 9]


def test_lists_are_apart():
    links = Links(2)
    links.reserve(4)
    for slot in range(4):
        links.append(slot, -1 - slot % 2)
    assert list(links.walk(-1)) == [0, 2]
    assert list(links.walk(-2)) == [1, 3]


def test_columns_grow_and_shrink_under_the_lists():
    links = linked(3, 1, 2)
    for capacity in (20, 4, 5):
        links.reserve(capacity)
        assert links.capacity == capacity
        assert list(links.walk()) == [3, 1, 2]


def test_a_walk_sees_links_that_disagree():
    links = linked(3, 1, 2)
    links.before[1] = 2
    with pytest.raises(AssertionError):
        list(links.walk())


def test_what_lies_behind_a_torn_link_is_found_from_the_other_end():
    links = linked(5, 4, 3, 2, 1)
    links.after[4] = 9
    live = {1, 2, 3, 4, 5, 6}
    assert links.survivors(live) == [5, 4, 3, 2, 1]
    assert live == {6}


def test_a_column_is_resized_in_place():
    column = bytearray(b"abc")
    resize(column, 5)
    assert column == b"abc\0\0"
    resize(column, 2)
    assert column == b"ab"
