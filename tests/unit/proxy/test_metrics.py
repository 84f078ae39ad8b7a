"""What Prometheus reads."""

from prometheus_client.parser import text_string_to_metric_families

from nearcache.metrics.exposition import exposed
from nearcache.proxy.metrics import Histogram, Metrics
from nearcache.stats import Stats


def test_a_histogram_counts_what_is_at_most_so_large():
    one = Histogram("h", "about.", (1, 2.5))
    for value in (0.5, 1, 2, 3):
        one.add(value)
    assert exposed([one.family()]).splitlines() == [
        "# HELP h about.",
        "# TYPE h histogram",
        'h_bucket{le="1"} 2',
        'h_bucket{le="2.5"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 6.5",
        "h_count 4",
    ]


def test_prometheus_reads_it():
    metrics = Metrics()
    metrics.hits = 3
    metrics.answers["embeddings", 200] += 2
    text = metrics.text(Stats(breaker="open", entries_near=5), has_store=True)
    assert text.endswith("\n")
    assert all(one.name.startswith("nearcache_") for one in text_string_to_metric_families(text))
    for wanted in (
        "nearcache_hits_total 3",
        'nearcache_answers_total{route="embeddings",status="200"} 2',
        "nearcache_store_breaker 2",
        "nearcache_near_entries 5",
    ):
        assert wanted in text.splitlines()
