"""What measuring costs: a near hit and a warm batch, measured, not measured, and handed on.

"Not measured" is the same code without the lines that measure, made from its source, so that both
are in one process and take turns.
"""

import inspect
import itertools
import statistics
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from bench.machine import log, one_core
from bench.near.laps import Lap, calls, nothing, own, race_laps
from bench.report import Judged, Report, Table
from nearcache import EmbeddingCache, NearCache
from nearcache.metrics import prometheus

__all__ = ["run"]

TITLE = "What metrics cost: one near hit, and a warm batch of 1000"
_BATCH, _SIZE, _MODEL = 1000, 384, "model"
_EMPTY = "the loop alone"
_PLAIN, _MEASURED, _OTEL = "not measured", "measured", "measured, OpenTelemetry instruments it"
_MOST_NS, _MOST_SHARE = 50.0, 1.0


def run(*, quick: bool) -> Report:
    """Race every way of asking, each measured and not."""
    report = Report("metrics", TITLE, quick, texts="made-up keys and texts, rows of 384 numbers")
    rounds = 11 if quick else 201
    with ExitStack() as stack, one_core():
        instrument = stack.enter_context(_opentelemetry())
        for what, make, keys in (
            ("NearCache.get", _values, _keys),
            ("EmbeddingCache.get", _vectors, _keys),
            ("NearCache.get_batch", _value_batches, _batches),
            ("EmbeddingCache.get_batch", _vector_batches, _batches),
        ):
            log(f"metrics: {what}")
            laps = [
                Lap(name, loop, _draw(keys(), listening))
                for name, loop, listening in _contestants(make, instrument, stack)
            ]
            if keys is _keys:
                laps.insert(0, Lap(_EMPTY, nothing(), itertools.repeat(keys()).__next__))
            _tell(report, what, race_laps(laps, rounds), per=1 if keys is _keys else _BATCH)
        report.tables.append(_scrapes(stack))
    report.notes.append(
        "Nanoseconds of processor time, the loop around the calls taken away from single hits; the "
        "difference is the middle one of the differences within each round. A hit is timed once "
        "in 2048, a batch once in 64. The scrapes are those of twenty caches."
    )
    return report


def _tell(report: Report, what: str, taken: dict[str, list[float]], *, per: int) -> None:
    unit = "ns per hit" if per == 1 else "µs per batch"
    scale = 1e9 if per == 1 else 1e6 * per
    empty = taken.pop(_EMPTY, None)
    off = 0.0 if empty is None else statistics.median(empty)
    table = Table(what, [unit, "median", "best", "more than not measured", "%"])
    for name, seconds in taken.items():
        more = statistics.median(
            one - plain for one, plain in zip(seconds, taken[_PLAIN], strict=True)
        )
        share = 100 * more / (statistics.median(taken[_PLAIN]) - off)
        middle, best = statistics.median(seconds) - off, min(seconds) - off
        shown = ["–", "–"] if name == _PLAIN else [f"{more * scale:+.2f}", f"{share:+.2f}"]
        table.rows.append([name, middle * scale, best * scale, *shown])
        if name == _PLAIN:
            continue
        handed = "" if name == _MEASURED else ", OpenTelemetry"
        if per == 1:
            judged = Judged(f"{what}{handed}: more on a near hit", _MOST_NS, more * scale, "ns")
        else:
            judged = Judged(f"{what}{handed}: more on a batch of {per}", _MOST_SHARE, share, "%")
        report.judged.append(judged)
    report.tables.append(table)


# -- contestants -----------------------------------------------------------------------------------


def _contestants(
    make: Callable[[bool, list[Any]], tuple[Any, Callable[..., Any]]],
    instrument: Callable[[Any], object] | None,
    stack: ExitStack,
) -> Iterator[tuple[str, Any, Callable[[], None]]]:
    """Give loops by name, and what is done before each; all ask one cache by faces of their own."""
    shared: list[Any] = []
    cache, _ = make(False, shared)
    stack.callback(cache.close)
    near = cache._tiers.engine.meter.near
    listeners: tuple[Any, ...] = ()
    if instrument is not None:
        instrument(cache)
        listeners, near._listeners = near._listeners, ()
    for name in (_PLAIN, _MEASURED, _OTEL):
        if name == _OTEL and instrument is None:
            continue
        _, loop = make(name == _PLAIN, shared)

        def listening(told: tuple[Any, ...] = listeners if name == _OTEL else ()) -> None:
            near._listeners = told

        yield name, loop, listening


def _draw(keys: list[Any], listening: Callable[[], None]) -> Callable[[], list[Any]]:
    def draw() -> list[Any]:
        listening()
        return keys

    return draw


def _values(plain: bool, shared: list[Any]) -> tuple[Any, Any]:
    face = _value_face(shared)
    face._near_value = _made(face._twin, "near_value", plain=plain)
    return face, calls(_fresh(face, "get"))


def _value_batches(plain: bool, shared: list[Any]) -> tuple[Any, Any]:
    face = _value_face(shared)
    face._twin._answer = _made(face._twin, "_answer", plain=plain)
    face._twin.get_batch = _fresh(face._twin, "get_batch")
    get = _fresh(face, "get_batch")

    def loop(keys: list[Any]) -> None:
        get(keys)

    return face, own(loop)


def _vectors(plain: bool, shared: list[Any]) -> tuple[Any, Any]:
    face = _vector_face(shared)
    twin = face.blocking_twin
    twin.near_row = _made(twin, "near_row", plain=plain)
    get = _fresh(face, "get")

    def loop(keys: list[Any]) -> None:
        for key in keys:
            get(key, _MODEL)

    return face, own(loop)


def _vector_batches(plain: bool, shared: list[Any]) -> tuple[Any, Any]:
    face = _vector_face(shared)
    twin = face.blocking_twin
    twin.near_batch = _made(twin, "near_batch", plain=plain)
    twin.get_batch = _fresh(twin, "get_batch")
    get = _fresh(face, "get_batch")

    def loop(keys: list[Any]) -> None:
        get(keys, _MODEL)

    return face, own(loop)


def _value_face(shared: list[Any]) -> Any:
    if not shared:
        cache: Any = NearCache(namespace="bench", max_entries=2 * _BATCH)
        cache.put_batch(dict.fromkeys(_keys(), "v" * 50))
        shared.append(cache)
    return NearCache._face(shared[0]._tiers)


def _vector_face(shared: list[Any]) -> Any:
    if not shared:
        cache = EmbeddingCache(namespace="bench", max_entries=2 * _BATCH)
        rows = np.random.default_rng(1).normal(size=(_BATCH, _SIZE)).astype(np.float32)
        cache.put_batch(_keys(), rows, _MODEL)
        shared.append(cache)
    return EmbeddingCache._face(shared[0]._tiers)


def _keys() -> list[str]:
    """Return keys in no order, new objects at every call."""
    return [f"key:{(number * 7919) % _BATCH:0>40}" for number in range(_BATCH)]


def _batches() -> list[str]:
    return _keys()


def _fresh(face: Any, name: str) -> Any:
    """Return a method with a code object of its own; see ``bench.near.laps.own``."""
    found = getattr(type(face), name)
    code = found.__code__.replace()
    made = FunctionType(code, found.__globals__, name, found.__defaults__, found.__closure__)
    made.__kwdefaults__ = found.__kwdefaults__
    return MethodType(made, face)


def _made(face: Any, name: str, *, plain: bool) -> Any:
    """Return a method made from its source; ``plain``: without the lines that measure."""
    original = getattr(type(face), name)
    lines = textwrap.dedent(inspect.getsource(original)).splitlines()
    kept = list(_without_measuring(lines)) if plain else lines
    if plain and len(lines) - len(kept) < 2:
        msg = f"{name} measures in another way by now"
        raise LookupError(msg)
    made: dict[str, Any] = {}
    exec("\n".join(kept), original.__globals__, made)
    return MethodType(made[name], face)


def _without_measuring(lines: Iterable[str]) -> Iterator[str]:
    depth: int | None = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if depth is not None and indent > depth:
            continue
        measures = any(sign in line for sign in ("began", "count(NEAR)", "cell[2]"))
        depth = indent if measures and line.rstrip().endswith(":") else None
        if not measures:
            yield line


# -- who is told -----------------------------------------------------------------------------------


@contextmanager
def _opentelemetry() -> Iterator[Callable[[Any], object] | None]:
    """Give what instruments a cache, with the SDK; None where that is not installed."""
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    except ImportError:
        log("metrics: opentelemetry-sdk is not installed, so it is left out")
        yield None
        return
    from nearcache.metrics.otel import instrument

    provider = MeterProvider([InMemoryMetricReader()])
    yield lambda cache: instrument(cache, meter_provider=provider)
    provider.shutdown()


def _scrapes(stack: ExitStack) -> Table:
    caches = [stack.enter_context(NearCache(namespace=f"cache {n}")) for n in range(20)]
    for cache in caches:
        cache.get_or_load("key", lambda: 1)
        cache.get("key")
    table = Table("A scrape of twenty caches", ["", "ms", "% of a core, once a second", "bytes"])
    seconds, text = _taken(lambda: prometheus.text(*caches))
    table.rows.append(["Prometheus, text", seconds * 1e3, seconds * 100, len(text)])
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    except ImportError:
        return table
    from nearcache.metrics.otel import instrument

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrumented = instrument(*caches, meter_provider=provider)
    seconds, _ = _taken(reader.get_metrics_data)
    table.rows.append(["OpenTelemetry, collected", seconds * 1e3, seconds * 100, "–"])
    instrumented.stop()
    provider.shutdown()
    return table


def _taken(work: Callable[[], Any]) -> tuple[float, Any]:
    found = []
    for _ in range(21):
        start = perf_counter()
        answer = work()
        found.append(perf_counter() - start)
    return statistics.median(found), answer
