"""OpenTelemetry: what a real SDK collects of the caches of this process."""

import gc
import subprocess
import sys
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from embedders import M, Model, until
from nearcache import (
    AsyncNearCache,
    CacheManager,
    EmbeddingCache,
    MemoryStore,
    NearCache,
    Options,
)
from nearcache.errors import ConfigError
from nearcache.metrics.otel import instrument
from nearcache.metrics.prices import Prices
from nearcache.testing import ChaosStore

SPACE = "traced"
NAMES = {"nearcache.namespace": SPACE, "nearcache.kind": "NearCache"}


@pytest.fixture
def sdk():
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    meters, tracers = MeterProvider([reader]), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    def collect():
        data = reader.get_metrics_data()
        if data is None:
            return {}
        found = {}
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                assert scope.scope.name == "nearcache"
                for metric in scope.metrics:
                    found[metric.name] = metric
        return found

    def points(name, **more):
        metric = collect().get(name)
        wanted = {f"nearcache.{key}": value for key, value in more.items()}
        return [
            point
            for point in ([] if metric is None else metric.data.data_points)
            if wanted.items() <= dict(point.attributes).items()
        ]

    def value(name, **more):
        (point,) = points(name, namespace=SPACE, **more)
        return point.value

    def spans(name):
        return [span for span in exporter.get_finished_spans() if span.name == name]

    yield SimpleNamespace(
        meters=meters, tracers=tracers, collect=collect, points=points, value=value, spans=spans
    )
    meters.shutdown()
    tracers.shutdown()


@pytest.fixture
def near():
    with NearCache(namespace=SPACE) as cache:
        yield cache


def test_counts_are_read_when_they_are_collected(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters)
    near.get_or_load("key", lambda: 1)
    for _ in range(3):
        near.get("key")
    assert sdk.value("nearcache.lookups", result="hit", tier="near") == 3
    assert sdk.value("nearcache.lookups", result="miss") == 1
    assert sdk.value("nearcache.loads") == 1
    assert sdk.value("nearcache.saved.loads") == 3
    assert sdk.value("nearcache.entries") == 1
    near.get("key")
    assert sdk.value("nearcache.lookups", result="hit", tier="near") == 4
    instrumented.stop()


def test_the_points_of_a_cache_say_which_it_is(sdk, near):
    with_instruments = instrument(near, meter_provider=sdk.meters)
    (point,) = sdk.points("nearcache.loads")
    assert dict(point.attributes) == NAMES
    with_instruments.stop()


def test_times_are_recorded_as_they_are_taken(sdk):
    with NearCache(MemoryStore(), namespace=SPACE) as cache:
        instrumented = instrument(cache, meter_provider=sdk.meters)
        cache.get_or_load("key", lambda: 1)
        cache.get("key")
        meter = cache._tiers.engine.meter
        for name in ("near", "store", "load"):
            (point,) = sdk.points(f"nearcache.{name}.duration", namespace=SPACE)
            mine = meter.histograms[name].snapshot()
            assert (point.count, point.sum) == (mine.count, pytest.approx(mine.total)), name
        instrumented.stop()


def test_histograms_have_our_steps(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters)
    near.get_or_load("key", lambda: 1)
    (point,) = sdk.points("nearcache.load.duration")
    assert point.explicit_bounds[0] == 0.001
    assert point.explicit_bounds[-1] == 100
    instrumented.stop()


def test_without_caches_it_is_all_there_are_and_will_be(sdk, near):
    instrumented = instrument(meter_provider=sdk.meters)
    with NearCache(namespace="made later") as later:
        later.get_or_load("key", lambda: 1)
        near.get_or_load("key", lambda: 1)
        found = {p.attributes["nearcache.namespace"] for p in sdk.points("nearcache.loads")}
        assert {SPACE, "made later"} <= found
        assert sdk.points("nearcache.load.duration", namespace="made later")
    instrumented.stop()


def test_with_caches_it_is_these_and_their_views(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters)
    with NearCache(namespace="another") as other:
        other.get_or_load("key", lambda: 1)
        near.view("inner").get_or_load("key", lambda: 1)
        assert sdk.value("nearcache.loads") == 1
        assert not sdk.points("nearcache.loads", namespace="another")
        assert not sdk.points("nearcache.load.duration", namespace="another")
    instrumented.stop()


def test_every_kind_of_cache_can_be_given(sdk):
    manager = CacheManager.from_url("memory://", namespace="m")
    wrapped = EmbeddingCache(namespace="wrapped").wrap(Model(), M)
    awaited = AsyncNearCache(namespace="awaited")
    instrumented = instrument(manager, wrapped, awaited, meter_provider=sdk.meters)
    found = {
        (point.attributes["nearcache.namespace"], point.attributes["nearcache.kind"])
        for point in sdk.points("nearcache.loads")
    }
    assert found == {
        ("m:hot", "HotMemoryCache"),
        ("m:emb", "EmbeddingCache"),
        ("m:retrieval", "RetrievalCache"),
        ("wrapped", "EmbeddingCache"),
        ("awaited", "NearCache"),
    }
    instrumented.stop()
    manager.close()


@pytest.mark.parametrize("wrong", [None, "cache", 7, object()])
def test_what_is_no_cache_is_refused(sdk, wrong):
    with pytest.raises(ConfigError, match="a cache of nearcache's is expected"):
        instrument(wrong, meter_provider=sdk.meters)
    assert not sdk.collect()


def test_prices_are_a_prices_object(sdk, near):
    with pytest.raises(ConfigError, match="Prices"):
        instrument(near, meter_provider=sdk.meters, prices={SPACE: 1})


def test_after_stop_nothing_is_handed_over(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters, tracer_provider=sdk.tracers)
    instrumented.stop()
    instrumented.stop()
    near.get_or_load("key", lambda: 1)
    assert not sdk.points("nearcache.loads")
    assert not sdk.points("nearcache.load.duration")
    assert not sdk.spans("nearcache.load")
    assert near._tiers.engine.meter.spans is None
    assert not near._tiers.engine.meter.load._listeners


@pytest.mark.drops_caches
def test_a_cache_that_nobody_uses_any_more_is_let_go(sdk):
    instrumented = instrument(meter_provider=sdk.meters, tracer_provider=sdk.tracers)
    cache = NearCache(namespace="forgotten")
    cache.get_or_load("key", lambda: 1)
    assert sdk.points("nearcache.loads", namespace="forgotten")
    del cache

    def gone():
        gc.collect()
        return not sdk.points("nearcache.loads", namespace="forgotten")

    until(gone)
    instrumented.stop()


def test_with_prices_it_says_what_was_saved_and_spent(sdk, near):
    prices = Prices({SPACE: 0.5}, currency="EUR")
    instrumented = instrument(near, meter_provider=sdk.meters, prices=prices)
    near.get_or_load("key", lambda: 1)
    near.get("key")
    near.get("key")
    assert sdk.value("nearcache.saved.money", currency="EUR") == 1.0
    assert sdk.value("nearcache.spent.money", currency="EUR") == 0.5
    instrumented.stop()


def test_without_prices_there_is_no_money(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters)
    near.get_or_load("key", lambda: 1)
    assert not sdk.points("nearcache.saved.money")
    instrumented.stop()


# -- spans -----------------------------------------------------------------------------------------


def test_a_load_is_a_span_that_the_providers_spans_are_in(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters, tracer_provider=sdk.tracers)
    tracer = sdk.tracers.get_tracer("the provider's client")

    def load():
        with tracer.start_as_current_span("POST /chat"):
            return 1

    with tracer.start_as_current_span("a request"):
        near.get_or_load("key", load)
    (outer,), (ours,), (inner,) = map(sdk.spans, ("a request", "nearcache.load", "POST /chat"))
    assert inner.parent.span_id == ours.context.span_id
    assert ours.parent.span_id == outer.context.span_id
    assert dict(ours.attributes) == {**NAMES, "nearcache.load.values": 1}
    assert ours.kind is SpanKind.INTERNAL
    instrumented.stop()


def test_a_load_of_vectors_is_named_by_the_genai_conventions(sdk):
    with EmbeddingCache(namespace=SPACE) as cache:
        instrumented = instrument(cache, meter_provider=sdk.meters, tracer_provider=sdk.tracers)
        cache.wrap(Model(), M).generate_batch(["secret one", "secret two"])
        (span,) = sdk.spans(f"embeddings {M}")
        assert span.attributes["gen_ai.operation.name"] == "embeddings"
        assert span.attributes["gen_ai.request.model"] == M
        assert span.attributes["nearcache.load.values"] == 2
        assert "secret" not in span.to_json()
        instrumented.stop()


def test_a_load_that_fails_is_an_error_without_its_message(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters, tracer_provider=sdk.tracers)

    def fails():
        raise OSError("secret")

    with pytest.raises(OSError):
        near.get_or_load("key", fails)
    (span,) = sdk.spans("nearcache.load")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "OSError"
    assert "secret" not in span.to_json()
    instrumented.stop()


def test_a_question_to_a_server_is_named_by_the_database_conventions(sdk, one_server):
    with NearCache(one_server.url, namespace=SPACE) as cache:
        instrumented = instrument(cache, meter_provider=sdk.meters, tracer_provider=sdk.tracers)
        cache.get("key")
        spans = sdk.spans("look 127.0.0.1")
        assert spans
        assert spans[0].kind is SpanKind.CLIENT
        attributes = spans[0].attributes
        assert attributes["db.system.name"] == "redis"
        assert attributes["db.operation.name"] == "look"
        assert attributes["server.address"] == "127.0.0.1"
        assert attributes["server.port"] == one_server.port
        instrumented.stop()


def test_a_question_to_a_file_names_no_server(sdk, tmp_path):
    with NearCache(f"sqlite:///{tmp_path / 'x.db'}", namespace=SPACE) as cache:
        instrumented = instrument(cache, meter_provider=sdk.meters, tracer_provider=sdk.tracers)
        cache.get("key")
        (span, *_) = sdk.spans("look sqlite")
        assert span.attributes["db.system.name"] == "sqlite"
        assert "server.address" not in span.attributes
        instrumented.stop()


def test_a_question_without_an_answer_is_an_error(sdk):
    chaos = ChaosStore(MemoryStore())
    with NearCache(chaos, namespace=SPACE, options=Options(report=0)) as cache:
        cache.get("key")
        instrumented = instrument(cache, meter_provider=sdk.meters, tracer_provider=sdk.tracers)
        chaos.fail()
        cache.get("key")
        chaos.calm()
        (span, *_) = [one for one in sdk.spans("look memory") if "error.type" in one.attributes]
        assert span.status.status_code is StatusCode.ERROR
        instrumented.stop()


def test_without_a_tracer_provider_there_are_no_spans(sdk, near):
    instrumented = instrument(near, meter_provider=sdk.meters)
    near.get_or_load("key", lambda: 1)
    assert not sdk.spans("nearcache.load")
    assert near._tiers.engine.meter.spans is None
    instrumented.stop()


def test_without_opentelemetry_it_says_what_to_install():
    code = """if True:
        import sys
        sys.modules["opentelemetry"] = None
        import nearcache, nearcache.metrics.prometheus, nearcache.metrics.logs
        try:
            import nearcache.metrics.otel
        except ImportError as error:
            print(error)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "pip install 'nearcache[otel]'" in run.stdout
