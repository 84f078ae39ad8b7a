"""The application: what goes to which part, and how the parts are put together."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from nearcache.caches.near_async import AsyncNearCache
from nearcache.dashboard import ProcessSource, Source, StoreSource
from nearcache.dashboard import make_app as make_dashboard
from nearcache.metrics.prometheus import CONTENT_TYPE, families
from nearcache.options import Options
from nearcache.proxy.answers import Answer, error_body
from nearcache.proxy.batching import Batcher
from nearcache.proxy.bodies import Incoming
from nearcache.proxy.callers import Callers
from nearcache.proxy.embeddings import Embeddings
from nearcache.proxy.gate import Gate
from nearcache.proxy.headers import Headers
from nearcache.proxy.metrics import Metrics
from nearcache.proxy.partition import Partitions
from nearcache.proxy.passing import Passage, send_refusal
from nearcache.proxy.requests import MOST_INPUTS
from nearcache.proxy.secret import find_secret
from nearcache.proxy.settings import Settings
from nearcache.proxy.upstream import Refused, Target, Upstream

__all__ = ["Proxy", "make_app"]

_LONGEST = 32_768  # bytes of path and query
_PLAIN = re.compile(rb"[!-~]*")
_NOTED_EVERY = 5.0  # seconds
_A_WEEK = 7 * 86400.0
_EMBEDDINGS, _MODELS = b"/embeddings", b"/models"


class Proxy:
    """The parts of one proxy. Made without I/O but for its secret and its file of keys.

    Raises: ConfigError.
    """

    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        partitions = Partitions(find_secret(settings), shared=settings.share)
        gate = self._gate = Gate(settings.verify_ttl)
        self._callers = Callers(settings, partitions, gate)
        self._only_embeddings = settings.only_embeddings
        self.cache: AsyncNearCache[bytes, bytes] = AsyncNearCache(
            settings.store,
            namespace=settings.namespace,
            codec="bytes",
            ttl=settings.ttl,
            max_entries=settings.max_entries,
            max_bytes=settings.max_bytes,
            # a vector does not change: what is near serves on while the store cannot be heard
            options=Options(serve_unverified=_A_WEEK, max_batch=MOST_INPUTS),
        )
        self.has_store = settings.store is not None
        self.upstream = Upstream(settings.upstream, settings.timeout)
        self._embeddings = Embeddings(
            self.cache,
            self.upstream,
            Batcher(self._embed, gather=settings.gather, most=settings.max_batch),
            callers=self._callers,
            gate=gate,
            partitions=partitions,
            metrics=self.metrics,
            max_body=settings.max_body,
        )

    async def _embed(self, target: Target, headers: Headers, inputs: Sequence[bytes]) -> Answer:
        """Ask the provider, and count that."""
        metrics, began, status = self.metrics, perf_counter(), 200
        metrics.batches.add(len(inputs))
        try:
            answer = await self.upstream.embed(target, headers, inputs)
        except Refused as refused:
            status = refused.status
            raise
        finally:
            metrics.calls[status] += 1
            metrics.upstream_seconds.add(perf_counter() - began)
        metrics.tokens += answer.usage.total
        return answer

    async def close(self) -> None:
        """End: what is kept is in the store, connections are closed."""
        await self.cache.close()
        await self.upstream.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is for the provider."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
        elif _leads_elsewhere(scope["raw_path"]) or not _is_plain(scope):
            await send_refusal(send, _no(400, "The path is none that could be passed on."))
        elif scope["method"] == "POST" and scope["raw_path"].endswith(_EMBEDDINGS):
            await self._embeddings(scope, receive, send)
        elif self._only_embeddings and not scope["raw_path"].endswith(_MODELS):
            await send_refusal(send, _no(404, "This proxy passes on embeddings only."))
        else:
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            caller = self._callers.of(list(scope["headers"]))
        except Refused as refused:
            self.metrics.answers["passed", refused.status] += 1
            await send_refusal(send, refused)
            return

        def heard(status: int) -> None:
            self.metrics.answers["passed", status] += 1
            if status in (401, 403):
                self._gate.refuse(caller.name)

        passage = Passage(
            scope, Incoming(receive), send, self.upstream, headers=caller.headers, heard=heard
        )
        await passage.go()

    # -- about the proxy itself ----------------------------------------------------------------

    async def healthz(self, _request: Request) -> Response:
        """Say that the process lives."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Say whether what is not cached would be answered; a store is a help, not a need."""
        reachable = await self.upstream.reachable()
        store = self.cache.get_stats().breaker if self.has_store else "none"
        body = {
            "ready": reachable,
            "upstream": "reachable" if reachable else "unreachable",
            "store": {"closed": "ok", "none": "none"}.get(store, "unavailable"),
        }
        return JSONResponse(body, 200 if reachable else 503)

    async def show_metrics(self, _request: Request) -> Response:
        """Return the counts as Prometheus reads them."""
        stats, cache = self.cache.get_stats(), families(self.cache)
        text = self.metrics.text(stats, has_store=self.has_store, cache=cache)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)


def _leads_elsewhere(path: bytes) -> bool:
    """Say whether a path has steps up: it would be another one at the provider's."""
    steps = path.lower().replace(b"%2e", b".").replace(b"%2f", b"/").split(b"/")
    return b"." in steps or b".." in steps


def _is_plain(scope: Scope) -> bool:
    """Say whether path and query are such that they arrive at the provider's as they are."""
    target = scope["raw_path"] + scope["query_string"]
    return target[:1] == b"/" and len(target) <= _LONGEST and _PLAIN.fullmatch(target) is not None


def _no(status: int, message: str) -> Refused:
    body = error_body(message, "invalid_request_error")
    return Refused(status, [(b"content-type", b"application/json")], body)


def _dashboard(settings: Settings, source: Source) -> list[BaseRoute]:
    if settings.ui is None:
        return []

    def lead_on(_request: Request) -> Response:
        return RedirectResponse("/ui/", 307)

    return [Route("/ui", lead_on), Mount("/ui", make_dashboard(source, settings.ui))]


async def _note(source: Source) -> None:
    """Count by the minute, for the dashboard, where no store's reporter does."""
    while isinstance(source, ProcessSource):
        await asyncio.to_thread(source.note)
        await asyncio.sleep(_NOTED_EVERY)


def make_app(settings: Settings) -> Starlette:
    """Return a caching proxy as an ASGI application.

    Raises: ConfigError, before anything is connected.
    """
    proxy = Proxy(settings)
    source: Source = (
        ProcessSource(prices=settings.prices)
        if settings.store is None
        else StoreSource(settings.store, namespace=settings.namespace, prices=settings.prices)
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        noting = asyncio.ensure_future(_note(source))
        try:
            yield
        finally:
            noting.cancel()
            await proxy.close()
            source.close()

    app = Starlette(
        routes=[
            Route("/healthz", proxy.healthz),
            Route("/readyz", proxy.readyz),
            Route("/metrics", proxy.show_metrics),
            *_dashboard(settings, source),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.router.default = proxy
    app.state.proxy = proxy
    return app
