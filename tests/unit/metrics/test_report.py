"""The report of all workers: figures added up, states counted, a document that JSON can carry."""

import json
from dataclasses import replace

import pytest

from nearcache.metrics.report import CacheReport, Curve, Minute, Report
from nearcache.stats import Stats
from reports import AT, KINDS, cache, report, worker


def test_every_count_is_the_sum_of_the_workers():
    found = report(20)
    assert [(c.namespace, c.kind) for c in found.caches] == sorted(KINDS)
    for whole in found.caches:
        each = [
            mine.stats
            for one in found.workers
            for mine in one.caches
            if mine.namespace == whole.namespace
        ]
        assert whole.workers == len(each) == 20
        for name in Stats.__dataclass_fields__:
            if name != "breaker":
                total = sum(getattr(stats, name) for stats in each)
                assert getattr(whole.stats, name) == pytest.approx(total)


def test_states_are_counted_and_the_breaker_is_the_worst():
    docs = next(c for c in report(20).caches if c.namespace == "docs")
    assert docs.links == {"polling": 19, "lost": 1}
    assert docs.stats.breaker == "open"
    tried = replace(cache(1, *KINDS[0]), stats=Stats(breaker="half-open"))
    assert CacheReport.of([tried, cache(1, *KINDS[0])], AT).stats.breaker == "half-open"


def test_minutes_are_added_up_and_the_last_hour_stays():
    early, late, future = (Minute(n, near_hits=2, loads=1) for n in (100, 160, 10**18))
    one = replace(cache(1, *KINDS[0]), minutes=(early, Minute(159, misses=1)))
    two = replace(cache(2, *KINDS[0]), minutes=(Minute(159, near_hits=3), late, future))
    found = CacheReport.of([one, two], 160 * 60.0).minutes
    assert found == (Minute(159, near_hits=3, misses=1), late)
    assert found[0].hit_rate == 0.75
    assert Minute(1).hit_rate is None


def test_latencies_are_of_all_workers():
    found = CacheReport.of([cache(1, *KINDS[0]), cache(2, *KINDS[0])], AT)
    one, two = (cache(n, *KINDS[0]).latency["near"] for n in (1, 2))
    assert found.latency["near"] == one + two
    assert found.to_dict()["latency"]["near"]["count"] == one.count + two.count
    nothing = replace(cache(1, *KINDS[0]), latency={})
    assert CacheReport.of([nothing], AT).to_dict()["latency"]["load"] == {
        "count": 0,
        "mean": None,
        "p50": None,
        "p90": None,
        "p99": None,
    }


def test_settings_are_those_of_the_worker_that_started_last():
    older = replace(worker(1), started=1.0, caches=(replace(cache(1, *KINDS[0]), max_entries=1),))
    newer = replace(worker(2), started=2.0, caches=(replace(cache(1, *KINDS[0]), max_entries=2),))
    found = Report(at=AT, address="a", workers=(newer, older))
    assert found.caches[0].max_entries == 2


def test_a_curve_of_the_own_policy_is_worth_more_than_one_of_lru():
    def with_curve(ratio, hits, **more):
        curve = Curve(((0, 0.0), (10, ratio)), 10, **more)
        return replace(cache(1, *KINDS[0]), curve=curve, stats=Stats(near_hits=hits))

    own = {"policy": "adaptive", "requests": 50, "others": {"lru": 0.5, "fifo": 0.1}}
    one = with_curve(0.6, 3, really=0.5, **own)
    two = with_curve(0.2, 1, really=0.1, **{**own, "others": {"lru": 0.1}})
    lru = with_curve(1.0, 100)
    found = CacheReport.of([lru, one, two], AT).curve
    assert (found.policy, found.requests) == ("adaptive", 100)
    assert found.hit_ratio(10) == pytest.approx(0.5)
    assert found.really == pytest.approx(0.4)
    assert found.others == {"lru": pytest.approx(0.4)}  # of fifo one of them said nothing
    assert CacheReport.of([one, lru], AT).to_dict()["curve"]["policy"] == "adaptive"


def test_a_curve_is_the_mean_by_how_much_was_asked_for():
    def with_curve(points, hits):
        return replace(cache(1, *KINDS[0]), curve=Curve(points, 10), stats=Stats(near_hits=hits))

    one, two = with_curve(((0, 0.0), (10, 1.0)), 3), with_curve(((0, 0.0), (20, 0.4)), 1)
    found = CacheReport.of([one, two], AT).curve
    assert found.size == 10
    assert found.points == ((0, 0.0), (10, pytest.approx(0.8)), (20, pytest.approx(0.85)))
    assert found.hit_ratio(5) == pytest.approx(0.4)
    assert found.hit_ratio(1000) == pytest.approx(0.85)
    assert CacheReport.of([replace(one, curve=None)], AT).curve is None


def test_the_hottest_keys_are_those_of_all():
    one = replace(cache(1, *KINDS[0]), hottest=(("a", 5), ("b", 4)))
    two = replace(cache(1, *KINDS[0]), hottest=(("b", 3),))
    assert CacheReport.of([one, two], AT).hottest == (("b", 7), ("a", 5))


def test_who_did_not_report_in_time_is_not_alive():
    assert worker(0).alive
    assert not worker(3).alive
    assert replace(worker(0), age=11.0).alive
    assert not replace(worker(0), age=11.1).alive


def test_the_document_is_json_and_says_everything():
    document = report(3).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    docs = next(c for c in document["caches"] if c["namespace"] == "docs")
    assert set(docs) >= {*Stats.__dataclass_fields__, "hits", "hit_rate", "kind", "curve"}
    assert docs["curve"]["size"] == 50_000
    (first, *_) = document["workers"]
    assert first["alive"] is True
    assert {c["namespace"] for c in first["caches"]} == {"docs", "agents", "search"}


def test_a_report_of_nobody_is_empty():
    found = Report(at=AT, address="a")
    assert found.to_dict()["caches"] == found.to_dict()["workers"] == []
    assert found.stats == Stats()
