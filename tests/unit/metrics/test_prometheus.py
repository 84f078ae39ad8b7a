"""Prometheus: what its own parser reads in our text, over HTTP too, is what the caches counted."""

import asyncio
import math
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nearcache import EmbeddingCache, MemoryStore, NearCache, Options
from nearcache.errors import ConfigError
from nearcache.histogram import Distribution
from nearcache.metrics.exposition import Family, buckets, exposed
from nearcache.metrics.prices import Prices
from nearcache.metrics.prometheus import (
    CONTENT_TYPE,
    Collector,
    asgi_app,
    start_http_server,
    text,
    wsgi_app,
)

SPACE = "scraped"


def read(written):
    """Every sample by name and labels."""
    found = {}
    for family in text_string_to_metric_families(written):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(written, name, **labels):
    hits = [
        number
        for (found, given), number in read(written).items()
        if found == name and labels.items() <= dict(given).items()
    ]
    assert len(hits) == 1, (name, labels, hits)
    return hits[0]


@pytest.fixture
def near():
    with NearCache(namespace=SPACE) as cache:
        yield cache


def test_counts_are_those_of_the_cache(near):
    near.get_or_load("key", lambda: 1)
    for _ in range(3):
        near.get("key")
    written, stats = text(near), near.get_stats()
    for result, tier, wanted in (
        ("hit", "near", stats.near_hits),
        ("hit", "store", stats.far_hits),
        ("hit", "stale", stats.stale_hits),
        ("miss", "none", stats.misses),
        ("coalesced", "none", stats.coalesced),
    ):
        found = value(written, "nearcache_lookups_total", result=result, tier=tier)
        assert found == wanted
    for name, wanted in (
        ("loads_total", stats.loads),
        ("load_failures_total", stats.load_failures),
        ("saved_loads_total", stats.saved_loads),
        ("saved_seconds", stats.saved_seconds),
        ("saved_bytes_total", stats.bytes_saved),
        ("store_errors_total", stats.store_errors),
        ("corrupt_total", stats.corrupt),
        ("evictions_total", stats.evictions),
        ("expirations_total", stats.expirations),
        ("invalidations_total", stats.invalidations),
        ("undelivered", stats.undelivered),
        ("unwritten", stats.unwritten),
        ("entries", stats.entries_near),
        ("bytes", stats.bytes_near),
        ("max_entries", 10_000),
        ("breaker", 0),
    ):
        assert value(written, f"nearcache_{name}", namespace=SPACE, kind="NearCache") == wanted


def test_every_time_that_was_measured_is_in_a_bucket():
    with NearCache(MemoryStore(), namespace=SPACE, options=Options(report=0)) as cache:
        cache.get_or_load("key", lambda: 1)
        cache.get("key")
        written = text(cache)
        for name, histogram in cache._tiers.engine.meter.histograms.items():
            taken = histogram.snapshot()
            if name == "link":
                continue  # a ping may have come back meanwhile
            found = value(written, f"nearcache_{name}_seconds_bucket", le="+Inf")
            assert found == taken.count
            assert value(written, f"nearcache_{name}_seconds_count") == taken.count
            assert value(written, f"nearcache_{name}_seconds_sum") == pytest.approx(taken.total)


def test_what_is_shorter_or_longer_than_the_steps_shown_is_counted_too(near):
    load = near._tiers.engine.meter.load
    for seconds in (0, 1e-6, 1e-3, 0.0015, 99, 1000):
        load.record(seconds)
    written = text(near)
    for bound, wanted in (("0.001", 3), ("0.002", 4), ("100", 5), ("+Inf", 6)):
        assert value(written, "nearcache_load_seconds_bucket", le=bound) == wanted
    store = near._tiers.engine.meter.store
    for seconds in (1e-7, 10, 15, 70, 1000):
        store.record(seconds)
    written = text(near)
    for bound, wanted in (("1e-05", 1), ("10", 2), ("+Inf", 5)):
        assert value(written, "nearcache_store_seconds_bucket", le=bound) == wanted


def test_without_caches_it_is_all_of_this_process(near):
    with EmbeddingCache(namespace="vectors"):
        spaces = {dict(labels).get("namespace") for _, labels in read(text())}
    assert {SPACE, "vectors"} <= spaces
    assert value(text(), "nearcache_info") == 1


def test_caches_of_one_name_are_one(near):
    with NearCache(namespace=SPACE) as twin:
        near.get_or_load("key", lambda: 1)
        twin.get_or_load("key", lambda: 1)
        assert value(text(near, twin), "nearcache_loads_total") == 2
        assert value(text(near, twin), "nearcache_entries") == 2
        assert value(text(near, twin), "nearcache_max_entries") == 20_000


def test_a_view_counts_for_its_root_and_has_no_near_tier_of_its_own(near):
    near.get_or_load("key", lambda: 1)
    near.view("inner").get_or_load("key", lambda: 1)
    written = text(near)
    assert value(written, "nearcache_loads_total") == 2
    assert value(written, "nearcache_entries") == 2
    assert value(written, "nearcache_max_entries") == 10_000
    assert "inner" not in written


def test_a_link_is_told_of_where_there_is_one(near, tmp_path):
    assert "nearcache_link{" not in text(near)
    with NearCache(f"sqlite:///{tmp_path / 'x.db'}", namespace=SPACE) as cache:
        assert "nearcache_link{" not in text(cache)
        cache.get("key")
        assert value(text(cache), "nearcache_link") in (0, 1)


def test_keys_and_values_are_nowhere(near):
    near.get_or_load("a secret key", lambda: "a secret value")
    near.get("a secret key")
    assert "secret" not in text(near)


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "ünïcode", "\ud800"])
def test_any_namespace_can_be_read(name):
    with NearCache(namespace=name) as cache:
        written = text(cache).encode().decode()
        wanted = name.encode("utf-8", "replace").decode()
        assert value(written, "nearcache_loads_total", namespace=wanted) == 0


def test_with_prices_it_says_what_was_saved_and_spent(near):
    near.get_or_load("key", lambda: 1)
    near.get("key")
    near.get("key")
    written = text(near, prices=Prices({"*": 0.25}, currency="CHF"))
    assert value(written, "nearcache_saved_money_total", currency="CHF") == 0.5
    assert value(written, "nearcache_spent_money_total", currency="CHF") == 0.25
    assert "money" not in text(near)
    assert "money" not in text(near, prices=Prices({"elsewhere": 1}))


@pytest.mark.parametrize("wrong", [None, "cache", 7])
@pytest.mark.parametrize("make", [text, asgi_app, wsgi_app, Collector])
def test_what_is_no_cache_is_refused_at_once(make, wrong):
    with pytest.raises(ConfigError, match="a cache of nearcache's"):
        make(wrong)


def test_prices_are_a_prices_object(near):
    with pytest.raises(ConfigError, match="Prices"):
        text(near, prices={"*": 1})


# -- over HTTP, and in a registry ------------------------------------------------------------------


def fetched(url, **options):
    with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_a_server_answers_scrapes_until_it_is_stopped(near):
    near.get_or_load("key", lambda: 1)
    server = start_http_server(0, near)
    assert server.address[0] == "127.0.0.1"
    url = f"http://127.0.0.1:{server.port}"
    kind, body = fetched(f"{url}/metrics")
    assert kind == CONTENT_TYPE
    assert body == text(near)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetched(f"{url}/etc/passwd")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        fetched(f"{url}/metrics", method="DELETE")
    server.stop()
    server.stop()
    with pytest.raises(OSError):
        fetched(f"{url}/metrics")


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing(near):
    with start_http_server(0, near) as server, pytest.raises(OSError):
        start_http_server(server.port, near)


def test_the_wsgi_application_answers_get_alone(near):
    told = []

    def start_response(status, headers):
        told.append((status, dict(headers)))

    app = wsgi_app(near)
    (body,) = app({"REQUEST_METHOD": "GET"}, start_response)
    assert body.decode() == text(near)
    assert told[-1] == (
        "200 OK",
        {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(body))},
    )
    assert app({"REQUEST_METHOD": "HEAD"}, start_response) == [b""]
    assert app({"REQUEST_METHOD": "POST"}, start_response) == [b""]
    assert told[-1][0] == "405 Method Not Allowed"


def test_the_asgi_application_answers_get_alone(near):
    app = asgi_app(near)

    def ask(method):
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(app({"type": "http", "method": method}, None, send))
        return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]

    status, headers, body = ask("GET")
    assert (status, body.decode()) == (200, text(near))
    assert headers[b"content-type"] == CONTENT_TYPE.encode()
    assert ask("HEAD")[2] == b""
    assert ask("POST")[0] == 405


def test_a_registry_of_prometheus_client_gives_the_same(near):
    near.get_or_load("key", lambda: 1)
    registry = CollectorRegistry()
    registry.register(Collector(near))
    assert read(generate_latest(registry).decode()) == read(text(near))


# -- the text form ---------------------------------------------------------------------------------


def test_a_family_without_samples_is_left_out():
    assert exposed([Family("a", "gauge", "about")]) == ""


def test_numbers_are_what_prometheus_reads():
    family = Family("a", "gauge", "about\nit")
    for number in (0, 1, 0.5, 1e-9, 1e300, math.inf, -math.inf):
        family.add(number, {"of": repr(number)})
    written = exposed([family])
    assert {found for (_, _), found in read(written).items()} == {
        *(0, 1, 0.5, 1e-9, 1e300),
        *(math.inf, -math.inf),
    }
    assert written.startswith("# HELP a about\\nit\n# TYPE a gauge\n")


def test_a_histogram_adds_up():
    counts = Distribution().counts
    samples = buckets((1.0, 2.5), (1, 2, 3), 9.5, {})
    assert samples == [
        ("_bucket", {"le": "1"}, 1),
        ("_bucket", {"le": "2.5"}, 3),
        ("_bucket", {"le": "+Inf"}, 6),
        ("_sum", {}, 9.5),
        ("_count", {}, 6),
    ]
    assert len(counts) == 29
