"""S3-FIFO: small queue, main queue, ghosts. With 20 entries the small queue's share is 2."""

import numpy as np
import pytest

TWENTY = "abcdefghijklmnopqrst"


def test_at_the_first_eviction_all_but_the_oldest_tenth_are_in_the_main_queue(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY)
    # the main queue holds its share, 18, so the small one is asked: a, then b; now it is empty,
    # and 18 entries are all in the main queue, which may hold 17
    assert cache.evict(3) == "abc"


def test_who_comes_new_leaves_before_the_main_queue(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY)
    assert cache.use("ABCD") == "abAB"


def test_one_hit_in_the_small_queue_does_not_save(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY + "a")
    assert cache.evict() == "a"


def test_two_hits_in_the_small_queue_lead_to_the_main_queue_with_frequency_0(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY + "aa")
    assert cache.evict() == "b"
    # 19 entries, 19 of them in the main queue: its oldest leave, and a, which came last, is last
    assert cache.evict(19) == TWENTY[2:] + "a"


def test_every_hit_in_the_main_queue_saves_once_and_three_at_most(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY + "c" + "d" * 9)
    cache.evict(2)
    assert cache.evict(18) == TWENTY[4:] + "cd"
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY + "ccc" + "ddd")
    cache.evict(2)
    assert cache.evict(18) == TWENTY[4:] + "cd"
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY + "ccc" + "d" * 4 + "efghijklmnopqrst" * 3)
    cache.evict(2)
    assert cache.evict(18) == TWENTY[2:]  # were there a fourth, d would be last


def test_a_ghost_that_comes_back_joins_the_main_queue(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY)
    assert cache.use("AB") == "ab"
    assert cache.use("a") == "A"  # in the main queue, which now has 19 and may have 18
    assert cache.use("C") == "c"
    assert cache.use("DE") == "BC"  # the small queue goes on: B, C, D, E
    assert "a" in cache.slots


def test_who_leaves_the_main_queue_is_no_ghost(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY)
    assert cache.use("AB" + "a" + "C") == "abAc"
    assert cache.use("c") == "B"  # as new: in the small queue behind C
    assert cache.use("DE") == "Cc"


def test_who_is_forgotten_is_no_ghost(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY)
    assert cache.use("AB") == "ab"
    cache.forget("A")
    cache.use("A")
    assert cache.use("CD") == "BA"


def test_ghosts_are_as_many_as_nine_tenths_of_the_entries(letters):
    new = "ABCDEFGHIJKLMNOPQRS"
    for count, third in ((18, "c"), (19, "a")):
        cache = letters("s3fifo", room=20)
        cache.use(TWENTY)
        assert cache.use(new[:count]) == "ab" + new[: count - 2]
        cache.forget("t")
        cache.use("a")  # of 18 ghosts the oldest, of 19 it would be one too many
        # a fills the main queue, or is third in the small one
        assert cache.evict(3) == new[count - 2 : count] + third


@pytest.mark.parametrize("times", range(6))
def test_a_batch_counts_a_slot_as_often_as_it_comes(letters, times):
    one, many = letters("s3fifo", room=20), letters("s3fifo", room=20)
    for cache in (one, many):
        cache.use("abc" + "c")
    for _ in range(times):
        one.use("b" + "c")
    many.policy.touch_many(np.array([1, 2] * times, np.intp))
    assert many.policy.marks == one.policy.marks


def test_the_marks_stay_one_object(letters):
    policy = letters("s3fifo", room=20).policy
    marks = policy.marks
    policy.touch_many(np.array([3, 3]))
    policy.reserve(4)
    policy.reserve(40)
    assert policy.marks is marks
    assert marks == bytes([0, 0, 0, 2]) + bytes(36)


def test_ghosts_that_have_no_room_any_more_are_given_up(letters):
    cache = letters("s3fifo", room=20)
    cache.use(TWENTY)
    assert cache.use("ABCD") == "abAB"
    cache.forget("".join(cache.slots))
    cache.policy.reserve(2)  # room for one ghost, the last
    cache.policy.check()
    cache.free = [0, 1]
    cache.use("BA")
    assert cache.evict() == "A"  # from the small queue; B is in the main one
