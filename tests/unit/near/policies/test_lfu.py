"""Least frequently used, with ageing."""


def test_who_was_used_least_often_leaves_first(letters):
    cache = letters("lfu")
    cache.use("abc" + "aab")
    assert cache.evict(3) == "cba"


def test_among_equals_the_one_touched_least_recently_leaves(letters):
    cache = letters("lfu")
    cache.use("abcd" + "ca")
    assert cache.evict(4) == "bdca"


def test_what_was_popular_long_ago_leaves_at_last(letters):
    cache = letters("lfu", room=2)
    cache.use("a" * 10)  # priority 10
    # whoever comes next has priority age + 1, and the age is that of the last victim
    assert cache.use("bcdefghijk") == "bcdefghij"
    assert cache.use("l") == "a"


def test_a_newcomer_outlives_who_has_the_same_priority(letters):
    cache = letters("lfu", room=2)
    assert cache.use("aab" + "c") == "b"  # the age is 1
    assert cache.use("d") == "a"  # a and c have priority 2, and c is younger


def test_a_hit_counts_from_the_age_of_now(letters):
    cache = letters("lfu", room=2)
    assert cache.use("aaaa" + "bcde") == "bcd"  # the age is 3, a and e have priority 4
    cache.use("e")  # 3 + 2: more than a, which was used twice as often
    assert cache.use("f") == "a"
    assert cache.evict(2) == "ef"


def test_frequencies_stop_at_255(letters):
    cache = letters("lfu")
    cache.use("ab" + "a" * 300 + "b" * 254 + "a")
    assert cache.evict(2) == "ba"
    cache.use("ab" + "a" * 254 + "b" * 253)
    assert cache.evict(2) == "ba"  # 255 is more than 254


def test_forgetting_is_no_eviction_and_ages_nobody(letters):
    cache = letters("lfu")
    cache.use("aaaa" + "b")
    cache.forget("a")
    cache.use("cc")
    assert cache.evict(2) == "bc"
