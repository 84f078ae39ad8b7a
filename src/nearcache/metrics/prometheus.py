"""What the caches of this process do, as Prometheus reads it: as text, over HTTP, as a collector.

Reading costs the caches nothing but a look at their counts; nothing is counted for it on a hit.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import threading
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from nearcache import __version__
from nearcache.errors import ConfigError
from nearcache.histogram import BOUNDS, Distribution
from nearcache.metrics.exposition import CONTENT_TYPE, Family, buckets, exposed
from nearcache.metrics.measures import LATENCIES, MEASURES
from nearcache.metrics.observed import Observed, engines_of, observe
from nearcache.metrics.prices import Prices
from nearcache.near.pick import core

__all__ = [
    "CONTENT_TYPE",
    "Collector",
    "Server",
    "asgi_app",
    "families",
    "start_http_server",
    "text",
    "wsgi_app",
]

_PATHS = ("/", "/metrics")
_PATIENCE = 10.0  # seconds that a client may take to ask


def text(*caches: Any, prices: Prices | None = None) -> str:
    """Return the metrics of these caches, of all in this process without any, as text.

    Raises: ConfigError for what is no cache. Thread-safe.
    """
    return exposed(families(*caches, prices=prices))


def families(*caches: Any, prices: Prices | None = None) -> list[Family]:
    """Return the metrics of these caches by name, for who writes them in another form."""
    _check(prices)
    found = observe(engines_of(caches))
    info = Family("nearcache_info", "gauge", "The version of nearcache, and its core.")
    info.add(1, {"version": str(__version__), "core": core()[0]})
    return [info, *_measured(found, prices), *_timed(found)]


def _check(prices: object) -> None:
    if prices is not None and not isinstance(prices, Prices):
        msg = f"prices is a Prices object, not {type(prices).__name__}"
        raise ConfigError(msg)


def _measured(found: Iterable[Observed], prices: Prices | None) -> Iterator[Family]:
    for measure in MEASURES:
        ending = "_total" if measure.kind == "counter" else ""
        name = f"nearcache_{measure.name.replace('.', '_')}{ending}"
        family = Family(name, measure.kind, measure.about)
        for cache in found:
            for labels, value in measure.read(cache, prices):
                family.add(value, {**_names(cache), **labels})
        yield family


def _timed(found: Iterable[Observed]) -> Iterator[Family]:
    for latency in LATENCIES:
        family = Family(f"nearcache_{latency.name}_seconds", "histogram", latency.about)
        for cache in found:
            taken = cache.latency[latency.name]
            counts = _within(taken, latency.bounds)
            family.samples += buckets(latency.bounds, counts, taken.total, _names(cache))
        yield family


def _within(taken: Distribution, bounds: tuple[float, ...]) -> list[int]:
    """Return the counts of these bounds, which are some of all, and what is beyond the last."""
    first, last = bisect_right(BOUNDS, bounds[0]), bisect_right(BOUNDS, bounds[-1])
    counts = taken.counts
    return [sum(counts[:first]), *counts[first:last], sum(counts[last:])]


def _names(cache: Observed) -> dict[str, str]:
    return {"namespace": cache.namespace, "kind": cache.kind}


# -- over HTTP -------------------------------------------------------------------------------------


def wsgi_app(*caches: Any, prices: Prices | None = None) -> Callable[..., list[bytes]]:
    """Return a WSGI application that answers GET with the metrics, wherever it is mounted."""
    text(*caches, prices=prices)  # what is wrong is said now

    def app(environ: MutableMapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return [b""]
        body = text(*caches, prices=prices).encode()
        headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    return app


def asgi_app(*caches: Any, prices: Prices | None = None) -> Callable[..., Awaitable[None]]:
    """Return an ASGI application that answers GET with the metrics, wherever it is mounted."""
    text(*caches, prices=prices)  # what is wrong is said now

    async def app(scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        good = scope["method"] in ("GET", "HEAD")
        body = text(*caches, prices=prices).encode() if good else b""
        length = (b"content-length", str(len(body)).encode())
        kind = (b"content-type", CONTENT_TYPE.encode()) if good else (b"allow", b"GET, HEAD")
        status = 200 if good else 405
        await send({"type": "http.response.start", "status": status, "headers": [kind, length]})
        sent = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": sent})

    return app


class Server:
    """A small HTTP server with the metrics, in a thread of its own. Thread-safe."""

    def __init__(
        self, port: int, host: str, caches: tuple[Any, ...], prices: Prices | None
    ) -> None:
        text(*caches, prices=prices)  # what is wrong is said now

        class Handler(_Handler):
            def metrics(self) -> bytes:
                return text(*caches, prices=prices).encode()

        self._server = _Server((host, port), Handler)
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="nearcache-metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens; what the system chose for port 0."""
        return self.address[1]

    def stop(self) -> None:
        """Listen no more. May be called again."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_http_server(
    port: int, *caches: Any, host: str = "127.0.0.1", prices: Prices | None = None
) -> Server:
    """Serve the metrics at ``http://127.0.0.1:port/metrics`` until the process ends, or ``stop``.

    host: another address for who scrapes from elsewhere. There is no password: namespaces, sizes
        and counts are what anybody who gets there sees.
    Raises: OSError where the port is taken, ConfigError for what is no cache.
    """
    return Server(port, host, caches, prices)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, _request: Any, _address: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE

    def metrics(self) -> bytes:
        """Return what there is to read."""
        raise NotImplementedError  # each server has its own

    def do_GET(self) -> None:
        """Answer a scrape."""
        if self.path.partition("?")[0] not in _PATHS:
            self.send_error(404)
            return
        body = self.metrics()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


# -- prometheus_client -----------------------------------------------------------------------------


class Collector:
    """The same for a registry of ``prometheus_client``: ``REGISTRY.register(Collector())``."""

    def __init__(self, *caches: Any, prices: Prices | None = None) -> None:
        self._caches, self._prices = caches, prices
        text(*caches, prices=prices)  # what is wrong is said now

    def describe(self) -> list[Any]:
        """Return nothing: names are known when there is something to read."""
        return []

    def collect(self) -> Iterator[Any]:
        """Return the families as ``prometheus_client`` has them."""
        from prometheus_client.core import Metric

        for family in families(*self._caches, prices=self._prices):
            metric = Metric(family.name.removesuffix("_total"), family.about, family.kind)
            for suffix, labels, value in family.samples:
                metric.add_sample(family.name + suffix, dict(labels), value)
            yield metric
