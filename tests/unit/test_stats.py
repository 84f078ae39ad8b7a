"""Counting: exact under threads, a snapshot once read."""

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from nearcache.stats import Counters, Stats


def test_a_snapshot_never_changes():
    counters = Counters()
    counters.add(near_hits=1)
    before = counters.snapshot()
    counters.add(near_hits=5)
    assert before.near_hits == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.near_hits = 2


def test_counts_are_exact_under_threads():
    counters = Counters()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(lambda: [counters.add(near_hits=1, misses=2) for _ in range(2000)])
    finally:
        sys.setswitchinterval(switch)
    assert (counters.snapshot().near_hits, counters.snapshot().misses) == (16_000, 32_000)


def test_amounts_of_one_call_are_seen_together():
    counters = Counters()
    with ThreadPoolExecutor(2) as pool:
        adding = pool.submit(lambda: [counters.add(near_hits=1, misses=1) for _ in range(3000)])
        while not adding.done():
            seen = counters.snapshot()
            assert seen.near_hits == seen.misses


def test_a_count_that_does_not_exist_is_an_error():
    with pytest.raises(KeyError):
        Counters().add(near_hitz=1)


def test_a_reset_starts_from_zero():
    counters = Counters()
    counters.add(near_hits=3, load_seconds=0.5)
    counters.reset()
    assert counters.snapshot() == Stats()


def test_gauges_are_filled_in():
    assert Counters().snapshot(entries_near=7, bytes_near=700).entries_near == 7


def test_counts_are_whole_numbers_and_seconds_are_not():
    counters = Counters()
    counters.add(near_hits=True, load_seconds=1)
    counts = counters.snapshot()
    for field in dataclasses.fields(counts):
        if field.name == "breaker":
            continue  # a word
        kind = float if field.name.endswith("seconds") else int
        assert type(getattr(counts, field.name)) is kind, field.name


def test_hits_are_those_of_all_tiers():
    assert Stats(near_hits=1, far_hits=20, stale_hits=300, misses=7).hits == 321


def test_the_hit_rate_is_a_share_of_all_that_was_asked_for():
    assert Stats().hit_rate == 0
    assert Stats(misses=5).hit_rate == 0
    assert Stats(near_hits=5).hit_rate == 1
    assert Stats(near_hits=1, far_hits=1, misses=1, coalesced=1).hit_rate == 0.5
    assert Stats(near_hits=3, load_failures=9, store_errors=9, misses=1).hit_rate == 0.75


def test_a_dict_of_stats_holds_every_figure():
    figures = Stats(near_hits=3, misses=1).to_dict()
    numbers = {f.name for f in dataclasses.fields(Stats)} - {"breaker"}
    assert set(figures) == numbers | {"hits", "hit_rate"}
    assert (figures["hits"], figures["hit_rate"], figures["near_hits"]) == (3, 0.75, 3)
