"""SIEVE: a queue and a hand."""


def test_without_hits_who_came_first_leaves_first(letters):
    cache = letters("sieve")
    cache.use("abc")
    assert cache.evict(3) == "abc"


def test_the_hand_spares_who_was_visited_and_stops_behind_the_victim(letters):
    cache = letters("sieve")
    cache.use("abcde" + "ac")
    assert cache.evict() == "b"  # a is spared
    assert cache.evict() == "d"  # c is spared, and a is behind the hand
    assert cache.evict() == "e"
    assert cache.evict(2) == "ac"  # round again


def test_one_visit_saves_once(letters):
    cache = letters("sieve")
    cache.use("abc" + "aaaaa")
    assert cache.evict(3) == "bca"


def test_who_comes_while_the_hand_is_inside_is_met_last(letters):
    cache = letters("sieve")
    cache.use("abcd" + "b")
    assert cache.evict() == "a"
    cache.use("e")
    assert cache.evict(4) == "cdeb"


def test_a_hand_that_passed_the_newest_begins_with_the_oldest(letters):
    cache = letters("sieve")
    cache.use("abc" + "ab")
    assert cache.evict() == "c"
    cache.use("d")
    assert cache.evict(3) == "abd"


def test_when_all_were_visited_the_oldest_leaves(letters):
    cache = letters("sieve")
    cache.use("abc" + "abc")
    assert cache.evict(3) == "abc"


def test_the_hand_goes_on_when_whom_it_points_to_is_forgotten(letters):
    cache = letters("sieve")
    cache.use("abcd")
    assert cache.evict() == "a"
    cache.forget("b")
    assert cache.evict(2) == "cd"


def test_the_example_of_the_paper(letters):
    # figure 2: from newest to oldest G F E D C B A, of which G, B and A were visited; H A D I B J
    cache = letters("sieve", room=7)
    cache.use("ABCDEFG" + "ABG")
    assert cache.use("HADIBJ") == "CEF"
