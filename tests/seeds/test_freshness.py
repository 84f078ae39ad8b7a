"""Seed defects 1 to 6: a copy lives as long as its entry, not a second longer."""

import time

import pytest

from embedders import M, ManualClock, Model, cache_with_clock, same, until, vector
from nearcache import MemoryStore, Options

SOON = Options(link_timeout=0.0)  # the log of what was forgotten is read before every answer


def left(cache, text, model=M):
    """The seconds a near copy has still to live."""
    return cache.admin.inspect(text, model)["seconds_left"]


def test_01_a_far_hit_enters_near_with_the_life_that_remains():
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    writer, reader = cache_with_clock(clock, store), cache_with_clock(clock, store, ttl=3600.0)
    writer.put("text", vector("text"), M, ttl=10.0)
    clock.advance(6)
    assert same(reader.get("text", M), vector("text"))
    assert left(reader, "text") == pytest.approx(4)
    clock.advance(4)
    assert reader.get("text", M) is None


def test_01_a_stored_life_is_never_prolonged_by_reading(make, face, shared):
    writer, reader = make(face, shared), make(face, shared, ttl=3600.0)
    before = time.monotonic()
    writer.put("text", vector("text"), M, ttl=50.0)
    reader.get("text", M)
    # whatever this took, the copy ends when the entry does; a second's grace for two clocks
    assert left(reader, "text") <= before + 50.0 + 1.0 - time.monotonic()
    assert left(reader, "text") <= 50.0


def test_02_ttl_0_stores_nothing(make, face, store):
    cache = make(face, store, ttl=3600.0)
    cache.put("text", vector("text"), M, ttl=0)
    assert cache.get("text", M) is None


def test_02_ttl_0_replaces_what_was_there(make, face, store):
    cache = make(face, store)
    cache.put("text", vector("text"), M)
    cache.put("text", vector("newer"), M, ttl=0)
    assert cache.get("text", M) is None


def test_03_half_a_second_reaches_the_server_as_500_milliseconds(make, face, one_server):
    cache = make(face, one_server.url)
    cache.put("text", vector("text"), M, ttl=0.5)
    with one_server.client() as client:
        (key,) = client.keys("*:v:*")
        assert 0 < client.pttl(key) <= 500


def test_03_a_fraction_of_a_second_is_not_cut_off(make, face, one_server):
    cache = make(face, one_server.url)
    cache.put("text", vector("text"), M, ttl=1000.9)
    with one_server.client() as client:
        (key,) = client.keys("*:v:*")
        assert 1000_000 < client.pttl(key) <= 1000_900


def test_03_half_a_second_is_half_a_second_near():
    clock = ManualClock()
    cache = cache_with_clock(clock)
    cache.put("text", vector("text"), M, ttl=0.5)
    clock.advance(0.49)
    assert cache.get("text", M) is not None
    clock.advance(0.01)
    assert cache.get("text", M) is None


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_04_a_step_of_the_wall_clock_changes_nothing(make, face, shared, step, monkeypatch):
    cache, other = make(face, shared), make(face, shared)
    cache.put("lives", vector("lives"), M, ttl=60.0)
    cache.put("gone", vector("gone"), M, ttl=0.001)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    for reader in (cache, other, make(face, shared)):
        assert same(reader.get("lives", M), vector("lives"))
        until(lambda reader=reader: reader.get("gone", M) is None)


def test_05_a_copy_without_a_ttl_is_dropped_when_another_process_forgets_it(make, face, shared):
    ours, theirs = make(face, shared, options=SOON), make(face, shared)
    theirs.put("text", vector("text"), M)
    assert ours.get("text", M) is not None
    theirs.invalidate("text", M)
    assert ours.get("text", M) is None


def test_05_a_copy_without_a_ttl_is_dropped_when_another_process_clears(make, face, shared):
    ours, theirs = make(face, shared, options=SOON), make(face, shared)
    theirs.put("text", vector("text"), M)
    assert ours.get("text", M) is not None
    theirs.clear()
    assert ours.get("text", M) is None


def test_05_a_copy_without_a_ttl_follows_what_another_process_writes(make, face, shared):
    ours, theirs = make(face, shared, options=SOON), make(face, shared)
    theirs.put("text", vector("text"), M)
    assert same(ours.get("text", M), vector("text"))
    theirs.put("text", vector("newer"), M)
    assert same(ours.get("text", M), vector("newer"))


def test_06_single_and_batch_calls_see_each_other(make, face, store):
    cache = make(face, store)
    cache.put("text", vector("one"), M)
    cache.put_batch(["text"], [vector("two")], M)
    assert same(cache.get("text", M), vector("two"))
    cache.put("text", vector("three"), M)
    rows, found = cache.get_batch(["text"], M)
    assert found.all()
    assert same(rows[0], vector("three"))


def test_06_a_wrapped_model_sees_what_was_put(make, face, store):
    cache, model = make(face, store), Model()
    cache.put("text", vector("put"), M)
    assert same(cache.wrap(model, M)("text"), vector("put"))
    assert model.calls == []
