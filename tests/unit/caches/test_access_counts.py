"""AccessCounts: exact under threads, bounded, and forgotten by line."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from embedders import in_threads
from nearcache.caches.access_counts import AccessCounts

A, B, C = ("e", "a", "alice"), ("e", "b", "bob"), ("s", "c")


def counted(*keys, **options):
    counts = AccessCounts(**options)
    for key in keys:
        counts.add(key)
    return counts


def test_the_most_counted_come_first_and_ties_in_order():
    counts = counted(C, B, A, C, B, C)
    assert counts.most_counted(9) == [(C, 3), (B, 2), (A, 1)]
    assert counts.most_counted(1) == [(C, 3)]
    assert counts.most_counted(0) == []
    assert counted(C, B, A).most_counted(2) == [(A, 1), (B, 1)]


def test_reading_changes_nothing():
    counts = counted(A, A)
    assert counts.most_counted(1) == counts.most_counted(1) == [(A, 2)]
    counts.add(A)
    assert counts.most_counted(1) == [(A, 3)]


def test_threads_lose_no_count():
    counts = AccessCounts(most_in_cell=16)
    keys = [("t", f"{n}") for n in range(100)]
    stop = threading.Event()

    def work(number):
        if number == 0:  # reads and forgets something else all the while
            while not stop.is_set():
                counts.most_counted(5)
                counts.forget([("other", "key")])
                counts.forget_type("other")
            return
        try:
            for _ in range(50):
                for key in keys:
                    counts.add(key)
        finally:
            done.append(number)
            if len(done) == 4:
                stop.set()

    done = []
    assert in_threads(5, work) == [None] * 5
    assert counts.most_counted(1000) == [(key, 200) for key in sorted(keys)]


def test_what_an_ended_thread_counted_stays():
    counts = AccessCounts()
    for _ in range(3):
        thread = threading.Thread(target=counts.add, args=(A,))
        thread.start()
        thread.join()
    counts.add(A)
    assert counts.most_counted(1) == [(A, 4)]
    assert len(counts._cells) == 2, "the cells of ended threads are let go of"


def test_what_is_forgotten_counts_from_zero():
    counts = counted(A, A, B, C)
    counts.forget([A])
    assert counts.most_counted(9) == [(B, 1), (C, 1)]
    counts.add(A)
    assert counts.most_counted(9) == [(A, 1), (B, 1), (C, 1)]
    counts.forget_type("e")
    assert counts.most_counted(9) == [(C, 1)]
    counts.add(B)
    counts.forget_scope("alice")
    assert counts.most_counted(9) == [(B, 1), (C, 1)]
    counts.forget_scope(None)
    assert counts.most_counted(9) == [(B, 1)]
    counts.clear()
    assert counts.most_counted(9) == []
    counts.add(B)
    assert counts.most_counted(9) == [(B, 1)]


def test_what_another_thread_counted_before_is_forgotten_too():
    """The other thread's cell is its own: it learns of it with its next access."""
    counts = AccessCounts(most_in_cell=2)
    counted_once, go_on = threading.Event(), threading.Event()

    def work():
        counts.add(A)
        counts.add(C)
        counted_once.set()
        assert go_on.wait(30)
        counts.add(A)

    thread = threading.Thread(target=work)
    thread.start()
    assert counted_once.wait(30)
    counts.forget([A])
    assert counts.most_counted(9) == [(C, 1)]
    for key in (A, A, B, C):  # more than a cell holds: they are summed up
        counts.add(key)
    go_on.set()
    thread.join(30)
    assert counts.most_counted(9) == [(A, 3), (C, 2), (B, 1)]


def test_the_counts_are_exact_up_to_the_bound_and_bounded_beyond():
    counts = AccessCounts(most=100, most_in_cell=10)
    hot = [("hot", f"{n}") for n in range(5)]
    for _ in range(50):
        for key in hot:
            counts.add(key)
    for n in range(90):
        counts.add(("once", f"{n}"))
    assert counts.most_counted(5) == [(key, 50) for key in hot]
    for n in range(10_000):
        counts.add(("once", f"{n}"))
        if n % 2 == 0:
            counts.add(hot[n % 5])
    assert {key for key, _ in counts.most_counted(5)} == set(hot)
    assert len(counts.keys()) <= 2 * 100 + 10


def test_what_was_forgotten_is_not_remembered_for_ever():
    counts = counted(A)
    for n in range(25_000):
        counts.forget_scope(f"scope {n}")
    assert len(counts._scopes) <= 10_000
    assert counts.most_counted(9) == [(A, 1)]
    counts.forget_scope("alice")
    assert counts.most_counted(9) == []


def test_a_view_counts_apart():
    counts = counted(A)
    counts.inside("tenant").add(B)
    assert counts.inside("tenant").most_counted(9) == [(B, 1)]
    assert counts.most_counted(9) == [(A, 1)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([A, B, C])),
        st.tuples(st.just("forget"), st.sampled_from([A, B, C])),
        st.tuples(st.just("type"), st.sampled_from(["e", "s"])),
        st.tuples(st.just("scope"), st.sampled_from(["alice", "bob", None])),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=30,
)


@given(STEPS)
def test_any_order_of_counting_and_forgetting_is_that_of_a_dict(steps):
    counts, model = AccessCounts(most_in_cell=2), dict[tuple, int]()
    for step, what in steps:
        if step == "add":
            counts.add(what)
            model[what] = model.get(what, 0) + 1
        elif step == "forget":
            counts.forget([what])
            model.pop(what, None)
        elif step == "type":
            counts.forget_type(what)
            model = {key: n for key, n in model.items() if key[0] != what}
        elif step == "scope":
            counts.forget_scope(what)
            model = {key: n for key, n in model.items() if (*key, None)[2] != what}
        else:
            counts.clear()
            model.clear()
    assert dict(counts.most_counted(9)) == model
