"""Structured logs: what happened as fields, never what it happened to."""

import gc
import json
import logging
import math

import pytest

from embedders import M, Model, until
from nearcache import EmbeddingCache, MemoryStore, NearCache, Options
from nearcache.errors import ConfigError
from nearcache.metrics.logs import EVENTS, JSONLines, Logged, log_events
from nearcache.testing import ChaosStore, ManualClock

SPACE = "logged"
ALL = tuple(EVENTS)


@pytest.fixture
def records(caplog):
    caplog.set_level(logging.DEBUG, logger="nearcache.events")

    def found(event=None):
        return [
            record
            for record in caplog.records
            if record.name == "nearcache.events" and event in (None, record.nearcache_event)
        ]

    return found


@pytest.fixture
def near():
    with NearCache(namespace=SPACE) as cache:
        yield cache


def test_a_load_is_told_as_fields(records, near):
    logged = log_events(near)
    near.get_or_load("a secret key", lambda: "a secret value")
    (record,) = records("load")
    assert record.levelno == logging.INFO
    assert record.getMessage() == "load logged count=1"
    assert (record.nearcache_namespace, record.nearcache_kind) == (SPACE, "NearCache")
    assert record.nearcache_count == 1
    logged.stop()


def test_a_name_forges_no_record(records):
    with NearCache(namespace="a\nERROR forged \x1b[2J") as cache:
        logged = log_events(cache)
        cache.get_or_load("k", lambda: 1)
        logged.stop()
    (record,) = records("load")
    assert record.getMessage() == "load a\\nERROR forged \\x1b[2J count=1"


def test_keys_values_and_messages_are_nowhere(records, caplog):
    chaos = ChaosStore(MemoryStore())
    with NearCache(chaos, namespace=SPACE, options=Options(report=0)) as cache:
        logged = log_events(cache, events=ALL, per_second=math.inf)
        cache.get_or_load("secret key", lambda: "secret value", tags=["secret tag"])
        cache.get("secret key")
        cache.invalidate("secret key")
        cache.invalidate_by_tag("secret tag")
        chaos.fail()
        cache.get("secret key")
        chaos.calm()
        assert {r.nearcache_event for r in records()} >= {"load", "hit", "miss", "store_error"}
        assert "secret" not in "\n".join(JSONLines().format(r) for r in records())
        logged.stop()


def test_hits_and_misses_have_to_be_asked_for(records, near):
    logged = log_events(near)
    near.get("key")
    near.put("key", 1)
    near.get("key")
    assert not near._tiers.engine.events.hear_hits, "a hit makes no call"
    assert not records("hit") + records("miss")
    logged.stop()
    logged = log_events(near, events=["hit", "miss"])
    near.get("key")
    near.get("elsewhere")
    assert (records("hit")[0].nearcache_tier, records("hit")[0].nearcache_count) == ("near", 1)
    assert len(records("miss")) == 1
    logged.stop()


def test_of_many_events_some_are_told_with_how_many_are_not(records, near):
    clock = ManualClock()
    log = logging.getLogger("nearcache.events")
    logged = Logged([near], frozenset(["miss"]), log, 5.0, clock)
    for n in range(20):
        near.get(f"key {n}")
    assert len(records("miss")) == 5
    clock.advance(0.2)
    near.get("one more")
    assert records("miss")[-1].nearcache_left_out == 15
    clock.advance(0.1)
    near.get("too soon")
    assert len(records("miss")) == 6
    clock.advance(10)
    for n in range(20):
        near.get(f"key {n}")
    assert len(records("miss")) == 11
    logged.stop()


def test_one_kind_of_event_does_not_silence_another(records, near):
    logged = log_events(near, events=["miss", "load"], per_second=0.001)
    near.get("key")
    near.get("key")
    near.get_or_load("key", lambda: 1)
    assert len(records("miss")) == len(records("load")) == 1
    logged.stop()


def test_bad_news_is_a_warning_and_good_news_is_not(records):
    chaos = ChaosStore(MemoryStore())
    with NearCache(chaos, namespace=SPACE, options=Options(report=0)) as cache:
        logged = log_events(cache)
        cache.get("key")
        until(lambda: records("link"))
        assert {(r.levelno, r.nearcache_state) for r in records("link")} == {
            (logging.INFO, "tracking")
        }
        chaos.fail()
        cache.get("key")
        (error, *_) = records("store_error")
        assert error.levelno == logging.WARNING
        assert error.nearcache_error == "StoreUnavailable"
        assert error.nearcache_operation
        opened = records("breaker")[0]
        assert (opened.levelno, opened.nearcache_state) == (logging.WARNING, "open")
        chaos.calm()
        until(lambda: cache.get("key") is None and records("breaker")[-1].levelno == logging.INFO)
        assert records("breaker")[-1].nearcache_state == "closed"
        logged.stop()


def test_without_caches_it_is_all_there_are_and_will_be(records, near):
    logged = log_events()
    with EmbeddingCache(namespace="made later") as later:
        later.wrap(Model(), M).generate_batch(["a", "b"])
    near.get_or_load("key", lambda: 1)
    found = [(r.nearcache_namespace, r.nearcache_count) for r in records("load")]
    assert found == [("made later", 2), (SPACE, 1)]
    logged.stop()


def test_with_caches_it_is_these_and_their_views(records, near):
    logged = log_events(near)
    with NearCache(namespace="another") as other:
        other.get_or_load("key", lambda: 1)
    near.view("inner").get_or_load("key", lambda: 1)
    assert [r.nearcache_namespace for r in records("load")] == [SPACE]
    logged.stop()


def test_after_stop_nothing_is_told(records, near):
    logged = log_events(near, events=ALL)
    logged.stop()
    logged.stop()
    near.get_or_load("key", lambda: 1)
    near.get("key")
    assert not records()
    assert not near._tiers.engine.events


def test_a_logger_that_is_not_listening_is_not_counted_against(records, near, caplog):
    caplog.set_level(logging.WARNING, logger="nearcache.events")
    logged = log_events(near, per_second=1)
    near.get_or_load("a", lambda: 1)
    caplog.set_level(logging.DEBUG, logger="nearcache.events")
    near.get_or_load("b", lambda: 1)
    assert len(records("load")) == 1
    logged.stop()


@pytest.mark.drops_caches
def test_a_cache_that_nobody_uses_any_more_is_let_go():
    logged = log_events()
    cache = NearCache(namespace="forgotten")
    cache.put("key", 1)
    del cache

    def gone():
        gc.collect()
        return not [engine for engine in logged._ends if engine.namespace == "forgotten"]

    until(gone)
    logged.stop()


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": "load"},
        {"events": ["loads"]},
        {"per_second": 0},
        {"per_second": -1},
        {"per_second": math.nan},
        {"per_second": True},
        {"per_second": "5"},
    ],
)
def test_what_makes_no_sense_is_refused(near, wrong):
    with pytest.raises(ConfigError):
        log_events(near, **wrong)
    assert not near._tiers.engine.events


def test_what_is_no_cache_is_refused():
    with pytest.raises(ConfigError, match="a cache of nearcache's"):
        log_events("cache")


# -- lines -----------------------------------------------------------------------------------------


def test_a_line_is_one_json_object_with_the_fields(records, near):
    logged = log_events(near)
    near.get_or_load("key", lambda: 1)
    line = JSONLines().format(records("load")[0])
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "INFO",
        "logger": "nearcache.events",
        "message": "load logged count=1",
        "event": "load",
        "namespace": SPACE,
        "kind": "NearCache",
        "count": 1,
    }
    logged.stop()


def test_records_of_others_are_lines_too():
    try:
        raise ValueError("broken")
    except ValueError as error:
        record = logging.LogRecord(
            "mine", logging.ERROR, "x.py", 1, "it\n%s", ("is",), (type(error), error, None)
        )
    found = json.loads(JSONLines().format(record))
    assert (found["message"], found["logger"]) == ("it\nis", "mine")
    assert "ValueError" in found["exception"]
