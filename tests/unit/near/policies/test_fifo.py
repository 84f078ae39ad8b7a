"""First in, first out."""


def test_who_came_first_leaves_first(letters):
    cache = letters("fifo")
    cache.use("abc")
    assert cache.evict(3) == "abc"


def test_a_hit_changes_nothing(letters):
    cache = letters("fifo")
    cache.use("abc" + "aaa")
    assert cache.evict(3) == "abc"


def test_what_is_forgotten_and_comes_back_is_new(letters):
    cache = letters("fifo")
    cache.use("abc")
    cache.forget("a")
    cache.use("a")
    assert cache.evict(3) == "bca"
