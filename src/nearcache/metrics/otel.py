"""What the caches of this process do, for OpenTelemetry: metrics and spans.

Counts are read when the SDK collects; nothing is done for them on a hit. Times are recorded as they
are taken: every question to the store, every loader call, one near hit of 2048. Spans are made of
the first two alone, and only where a tracer provider is given.

Of the names ``db.*`` and ``error.type`` are OpenTelemetry's database conventions, ``gen_ai.*`` its
GenAI conventions, ``nearcache.*`` are ours: there are no conventions for caches.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

from nearcache import __version__
from nearcache.engine.engine import Engine, watch_engines
from nearcache.errors import ConfigError
from nearcache.metrics.measures import LATENCIES, MEASURES, Latency, Measure
from nearcache.metrics.observed import Observed, engines_of, observe
from nearcache.metrics.prices import Prices

try:
    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, TracerProvider
except ImportError as error:
    msg = "nearcache.metrics.otel needs OpenTelemetry's API: pip install 'nearcache[otel]'"
    raise ImportError(msg) from error

__all__ = ["Instrumented", "instrument"]

_MOST_KEPT = 10_000  # times of near hits between two collections
_SYSTEMS = {"unix": "redis", "rediss": "redis", "valkeys": "valkey"}


def instrument(
    *caches: Any,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    prices: Prices | None = None,
) -> "Instrumented":
    """Hand OpenTelemetry the metrics of these caches; without any, of all there are and will be.

    meter_provider: by default the one of this process.
    tracer_provider: whose spans loads and questions to the store become; None makes no spans.
    prices: for the money saved and spent.
    Raises: ConfigError for what is no cache.
    """
    if prices is not None and not isinstance(prices, Prices):
        msg = f"prices is a Prices object, not {type(prices).__name__}"
        raise ConfigError(msg)
    return Instrumented(caches, meter_provider, tracer_provider, prices)


class Instrumented:
    """Caches whose metrics OpenTelemetry has, until ``stop``. Thread-safe."""

    def __init__(
        self,
        caches: Sequence[Any],
        meter_provider: MeterProvider | None,
        tracer_provider: TracerProvider | None,
        prices: Prices | None,
    ) -> None:
        self._only = weakref.WeakSet(engines_of(caches)) if caches else None
        # weak: of an engine that nobody uses any more nothing is left
        self._engines: weakref.WeakKeyDictionary[Engine, list[Callable[[], None]]]
        self._engines = weakref.WeakKeyDictionary()
        self._prices = prices
        self._stopped = False
        # near hits do not wait for the SDK, which takes longer than they do
        self._kept: deque[tuple[Callable[[float], None], float]] = deque(maxlen=_MOST_KEPT)
        meter = (meter_provider or metrics.get_meter_provider()).get_meter("nearcache", _version())
        provider = tracer_provider
        self._tracer = None if provider is None else provider.get_tracer("nearcache", _version())
        self._times = [(one.name, _histogram(meter, one)) for one in LATENCIES]
        for measure in MEASURES:
            self._observe(meter, measure)
        self._end = watch_engines(self._take)

    def stop(self) -> None:
        """Hand over nothing more. May be called again."""
        self._stopped = True
        self._end()
        for ends in list(self._engines.values()):
            for end in ends:
                end()
        self._engines.clear()

    # -- times and spans: as they happen -------------------------------------------------------

    def _take(self, engine: Engine) -> None:
        if self._only is not None and all(engine.near is not one.near for one in self._only):
            return  # neither one of these, nor a view of one
        names, ends = _Names(engine), self._engines.setdefault(engine, [])
        for name, histogram in self._times:

            def record(seconds: float, histogram: Any = histogram) -> None:
                histogram.record(seconds, names.labels)

            def keep(seconds: float, record: Callable[[float], None] = record) -> None:
                self._kept.append((record, seconds))

            listener = keep if name == "near" else record
            ends.append(engine.meter.histograms[name].subscribe(listener))
        if self._tracer is not None:
            engine.meter.spans = _Spans(self._tracer, engine)
            known = weakref.ref(engine)
            ends.append(lambda: _without_spans(known()))

    # -- counts: when they are collected -------------------------------------------------------

    def _observe(self, meter: Any, measure: Measure) -> None:
        def read(_: CallbackOptions) -> Iterator[Observation]:
            for cache in self._observed():
                names = _labels(cache.namespace, cache.kind)
                for labels, value in measure.read(cache, self._prices):
                    more = {f"nearcache.{name}": label for name, label in labels.items()}
                    yield Observation(value, {**names, **more})

        counts = measure.kind == "counter"
        make = meter.create_observable_counter if counts else meter.create_observable_gauge
        name = f"nearcache.{measure.name}"
        make(name, callbacks=[read], unit=measure.unit, description=measure.about)

    def _observed(self) -> Iterable[Observed]:
        while self._kept:
            record, seconds = self._kept.popleft()
            record(seconds)
        return [] if self._stopped else observe(list(self._engines))


class _Names:
    """The attributes of an engine's cache, which it has when it has been named. Weak."""

    def __init__(self, engine: Engine) -> None:
        self._engine = weakref.ref(engine)
        self._labels: dict[str, str] = {}

    @property
    def labels(self) -> dict[str, str]:
        """The attributes."""
        engine = self._engine()
        if not self._labels and engine is not None:
            self._labels = _labels(engine.namespace, engine.kind)
        return self._labels


class _Spans:
    """Makes spans of what one engine waits for."""

    def __init__(self, tracer: Tracer, engine: Engine) -> None:
        self._tracer = tracer
        self._names = _Names(engine)
        self._store = _store_attributes("" if engine.store is None else engine.store.address)
        self._is_server = "server.address" in self._store

    def store(self, operation: str) -> AbstractContextManager[object]:
        """Return the span of a question to the store."""
        attributes = {**self._names.labels, **self._store, "db.operation.name": operation}
        where = self._store.get("server.address", self._store["db.system.name"])
        kind = SpanKind.CLIENT if self._is_server else SpanKind.INTERNAL
        return self._span(f"{operation} {where}", kind, attributes)

    def load(self, label: str, count: int) -> AbstractContextManager[object]:
        """Return the span of a loader call, which spans of the provider's client are in."""
        attributes: dict[str, Any] = {**self._names.labels, "nearcache.load.values": count}
        name = "nearcache.load"
        if attributes.get("nearcache.kind") == "EmbeddingCache":
            attributes |= {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": label}
            name = f"embeddings {label}"
        return self._span(name, SpanKind.INTERNAL, attributes)

    @contextmanager
    def _span(self, name: str, kind: SpanKind, attributes: dict[str, Any]) -> Iterator[object]:
        # no message of an exception: it may hold what was to be embedded
        with self._tracer.start_as_current_span(
            name,
            kind=kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
                raise


def _without_spans(engine: Engine | None) -> None:
    if engine is not None:
        engine.meter.spans = None


def _histogram(meter: Any, latency: Latency) -> Any:
    return meter.create_histogram(
        f"nearcache.{latency.name}.duration",
        unit="s",
        description=latency.about,
        explicit_bucket_boundaries_advisory=latency.bounds,
    )


def _labels(namespace: str, kind: str) -> dict[str, str]:
    return {"nearcache.namespace": namespace, "nearcache.kind": kind}


def _store_attributes(address: str) -> dict[str, Any]:
    """Return what OpenTelemetry's database conventions want of a store's address."""
    scheme, _, rest = address.partition("://")
    plain = scheme.partition("+")[0]
    found: dict[str, Any] = {"db.system.name": _SYSTEMS.get(plain, plain)}
    if plain in ("redis", "rediss", "valkey", "valkeys") and rest:
        try:
            place = urlsplit(f"//{rest.partition(',')[0]}")
            found["server.address"], port = place.hostname or rest, place.port
        except ValueError:
            return found
        if port is not None:
            found["server.port"] = port
    return found


def _version() -> str:
    return str(__version__)
