"""Names in a row: read a page at a time while some come and go."""

from hypothesis import given
from hypothesis import strategies as st

from nearcache.stores.memory_names import Names


def read(names, count):
    """All pages to the end."""
    pages, after = [], None
    while after != 0:
        after, page = names.page(after or 0, count)
        pages.append(page)
    return pages


def named(*given):
    names = Names()
    for one in given:
        names.add(one)
    return names


def test_names_come_in_the_order_they_came():
    assert read(named(b"b", b"a", b"b", b"c"), 2) == [[b"b", b"a"], [b"c"]]
    assert read(named(), 2) == [[]]


def test_a_name_that_comes_again_is_at_the_end():
    names = named(b"a", b"b")
    names.remove(b"a")
    names.add(b"a")
    assert read(names, 10) == [[b"b", b"a"]]


def test_a_cursor_of_before_a_clear_is_before_what_came_after():
    names = named(b"a", b"b", b"c")
    after, _ = names.page(0, 1)
    names.clear()
    names.add(b"d")
    assert names.page(after, 10) == (0, [b"d"])


def test_what_was_removed_takes_no_room_for_long():
    names = named(b"stays")
    for n in range(10_000):
        names.add(b"%d" % n)
        names.remove(b"%d" % n)
    assert len(names._row) < 200
    assert read(names, 1000) == [[b"stays"]]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=200),
    st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=200),
    st.integers(1, 10),
)
def test_what_stands_all_the_while_is_read_once(before, meanwhile, count):
    names, there = Names(), set()

    def change(steps):
        for adds, n in steps:
            if adds:
                names.add(b"%d" % n)
                there.add(b"%d" % n)
            elif b"%d" % n in there:
                names.remove(b"%d" % n)
                there.discard(b"%d" % n)
            yield

    list(change(before))
    stands, seen, changing = set(there), [], change(meanwhile)
    after = None
    while after != 0:
        after, page = names.page(after or 0, count)
        seen += page
        for _ in range(3):
            next(changing, None)
            stands &= there
    # a name that left and came again, and never was missed by us, may be read twice
    assert stands <= set(seen)
    assert names._row == sorted(names._row)
