"""Ends of lives come out in order, none is lost, and none before its time."""

import heapq
import random
from math import inf

import numpy as np
import pytest

from nearcache.near import lives as lives_module
from nearcache.near.lives import Lives


@pytest.fixture
def lives():
    made = Lives()
    yield made
    made.check()


def test_nothing_ends_where_nothing_lives(lives):
    assert lives.next == inf
    assert lives.count == 0
    assert lives.due(1e9, 10) == []
    assert lives.due(inf, 10) == []


def test_ends_come_out_the_earliest_first_when_their_time_has_come(lives):
    for id_, end in enumerate([5.0, 3.2, 3.1, 9.0, 3.1]):
        lives.add(id_, end)
    assert lives.next == 3.1
    assert lives.due(3.0, 10) == []
    assert sorted(lives.due(3.1, 10)) == [(2, 3.1), (4, 3.1)]
    assert lives.next == 3.2
    assert lives.due(8.0, 1) == [(1, 3.2)]
    assert lives.due(8.0, 5) == [(0, 5.0)]
    assert lives.next == 9.0
    assert lives.count == 1


def test_an_end_that_is_added_late_still_comes_first(lives):
    for end in (10.01, 10.02, 10.2, 30.0):
        lives.add(1, end)
    assert lives.due(10.01, 1) == [(1, 10.01)]
    lives.add(2, 10.015)  # the bucket is open
    lives.add(3, 4.0)  # its bucket is long past
    lives.check()
    assert lives.next == 4.0
    assert [id_ for id_, _ in lives.due(20.0, 10)] == [3, 2, 1, 1]
    lives.add(4, 5.0)
    assert lives.due(30.0, 10) == [(4, 5.0), (1, 30.0)]


def test_many_are_added_as_if_one_by_one(lives):
    ends = np.array([7.0, 2.0, 7.1, 2.0, 5.0])
    lives.add_many(np.arange(5), ends)
    assert (lives.count, lives.next) == (5, 2.0)
    assert lives.due(2.0, 1)[0][1] == 2.0
    lives.add_many(np.array([9, 8]), np.array([1.0, 6.0]))
    lives.add_many(np.empty(0, np.intp), np.empty(0))
    assert [end for _, end in lives.due(9.0, 100)] == [1.0, 2.0, 5.0, 6.0, 7.0, 7.1]


def test_ends_beyond_all_numbers(lives):
    lives.add(1, inf)
    lives.add(2, 1e300)
    lives.add_many(np.array([3, 4]), np.array([inf, 1e25]))
    assert lives.due(1e20, 10) == []
    assert lives.due(1e301, 10) == [(4, 1e25), (2, 1e300)]
    assert lives.next == inf
    assert lives.count == 2


def test_clear_forgets_all(lives):
    lives.add_many(np.arange(100), np.arange(100) + 1.0)
    lives.due(3.0, 2)
    lives.clear()
    assert (lives.count, lives.next) == (0, inf)
    lives.add(1, 1.0)
    assert lives.due(1.0, 9) == [(1, 1.0)]


@pytest.mark.parametrize("many", [10_000, 4096, 4097])
def test_runs_are_merged(lives, many):
    rng = np.random.default_rng(many)
    ends = 100 + np.round(rng.random(many) * 0.2, 5)
    for id_, end in enumerate(ends[: many // 2].tolist()):
        lives.add(id_, end)
    lives.add_many(np.arange(many // 2, many), ends[many // 2 :])
    lives.check()
    found = []
    while part := lives.due(200.0, 700):
        found += part
        lives.check()
    assert [end for _, end in found] == sorted(ends.tolist())
    assert all(ends[id_] == end for id_, end in found)
    assert sorted(id_ for id_, _ in found) == list(range(many))


@pytest.mark.parametrize("run", [1, 3, 4096])
@pytest.mark.parametrize("digits", [1, 9])
def test_against_a_heap(lives, monkeypatch, run, digits):
    monkeypatch.setattr(lives_module, "_RUN", run)
    rng = random.Random(f"{run} {digits}")
    heap, now = [], 1000.0
    for step in range(8000):
        act = rng.random()
        if act < 0.5:
            end = round(now + rng.choice([-1, 0.01, 0.3, 5]) * rng.random(), digits)
            lives.add(step, end)
            heapq.heappush(heap, (end, step))
        elif act < 0.55:
            ends = np.round(now + np.array([rng.random() * 2 for _ in range(20)]), digits)
            lives.add_many(np.full(20, step), ends)
            for end in ends.tolist():
                heapq.heappush(heap, (end, step))
        elif act < 0.7:
            now += rng.random() * 0.1
        else:
            most = rng.choice([1, 3, 1000])
            found = lives.due(now, most)
            expected = []
            while heap and heap[0][0] <= now and len(expected) < len(found):
                expected.append(heapq.heappop(heap))
            if len(found) < most:
                assert not heap or heap[0][0] > now
            assert [end for _, end in found] == [end for end, _ in expected]
        if act > 0.995 or not step % 1000:
            lives.check()
        assert lives.count == len(heap)
        assert lives.next == (heap[0][0] if heap else inf)
