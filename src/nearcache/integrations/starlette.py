"""Starlette and FastAPI: caches that live as long as the application, and a health route.

::

    caches = Caches(embeddings=lambda: AsyncEmbeddingCache("redis://localhost"))
    app = FastAPI(lifespan=caches.lifespan)
    app.add_route("/cache", caches.health)


    Embeddings = Annotated[AsyncEmbeddingCache, Depends(caches["embeddings"])]


    @app.get("/known")
    async def known(text: str, cache: Embeddings) -> bool:
        return await cache.get(text, "my-model") is not None
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from nearcache.caches.manager_async import AsyncCacheManager
from nearcache.errors import ConfigError
from nearcache.integrations._shared import missing, store_answers

try:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse
except ImportError as error:
    raise missing("starlette", "starlette", error) from error

__all__ = ["Caches"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_STATE = "nearcache"


class Caches:
    """The caches of an application by name, open while it runs.

    caches: for each name a cache, or a function that makes one. What a function makes is made when
        a worker starts and closed when it ends, in every worker anew; a cache that is given stays
        its giver's. Both faces of every kind of cache will do.

    ``lifespan`` is the application's; ``caches["name"]`` is a dependency that gives the cache to a
    route, by FastAPI's ``Depends`` or called with the request. One cache serves all requests, event
    loops and threads of a worker; workers share what a store has.
    """

    def __init__(self, **caches: Any) -> None:
        for name, cache in caches.items():
            if not callable(cache) and not hasattr(cache, "get_stats"):
                msg = f"{name} is a cache, or a function that makes one, not {cache!r}"
                raise ConfigError(msg)
        self._given = caches

    def lifespan(self, app: Any) -> AbstractAsyncContextManager[dict[str, Any]]:
        """Open the caches when the application starts, and close them when it ends."""
        return self._lifespan(app, None)

    def around(self, lifespan: Lifespan) -> Lifespan:
        """Return a lifespan that has the caches open around another one."""
        return lambda app: self._lifespan(app, lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Any, inner: Lifespan | None) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            opened = {}
            for name, given in self._given.items():
                opened[name] = given() if callable(given) else given
                if callable(given):
                    stack.push_async_callback(_close, opened[name])
            state: dict[str, Any] = {_STATE: {**_state_of(app).get(_STATE, {}), **opened}}
            app.state.nearcache = state[_STATE]  # for what has no request
            if inner is not None:
                more: Any = await stack.enter_async_context(inner(app))
                state = {**(more or {}), **state}
            yield state

    def __getitem__(self, name: str) -> Callable[[HTTPConnection], Any]:
        """Return the dependency that gives a cache to a route."""
        if name not in self._given:
            msg = f"there is no cache {name!r}; there are {', '.join(self._given) or 'none'}"
            raise ConfigError(msg)

        def cache(connection: HTTPConnection) -> Any:
            return _opened(connection)[name]

        return cache

    async def health(self, request: Request) -> JSONResponse:
        """Say how each cache is; a route for ``add_route``.

        Status 200 always: an application answers without its cache, only slower, so nobody should
        take it out of service. ``status`` is "degraded" while a store does not answer.
        """
        opened = _opened(request)
        named = {name: cache for name, cache in opened.items() if name in self._given}
        reports = dict(zip(named, await asyncio.gather(*map(_report, named.values())), strict=True))
        well = all(report["store"] != "unavailable" for report in reports.values())
        return JSONResponse({"status": "ok" if well else "degraded", "caches": reports})


def _state_of(app: Any) -> Mapping[str, Any]:
    state: Mapping[str, Any] = getattr(app.state, "_state", {})
    return state


def _opened(connection: HTTPConnection) -> dict[str, Any]:
    opened = connection.scope.get("state", {}).get(_STATE)
    if opened is None:  # a mounted application, or a server that keeps no state
        app = connection.scope.get("app")
        opened = getattr(getattr(app, "state", None), _STATE, None)
    if opened is None:
        msg = "the caches are not open: give lifespan=caches.lifespan to the application that runs"
        raise ConfigError(msg)
    found: dict[str, Any] = opened
    return found


async def _close(cache: Any) -> None:
    if inspect.iscoroutinefunction(cache.close):
        await cache.close()
    else:  # the blocking face may wait for its store
        await asyncio.to_thread(cache.close)


async def _report(cache: Any) -> dict[str, Any]:
    awaiting = cache.as_async()
    if isinstance(awaiting, AsyncCacheManager):
        return await _manager_report(awaiting)
    stats = awaiting.get_stats()
    answers = await store_answers(awaiting)
    return {"store": _WORDS[answers], "hit_rate": stats.hit_rate, "entries": stats.entries_near}


async def _manager_report(manager: AsyncCacheManager) -> dict[str, Any]:
    stats = manager.get_stats()
    caches = [getattr(manager, name) for name in stats.caches]
    answers = [await store_answers(cache) for cache in caches]
    worst = False if False in answers else True if True in answers else None
    return {
        "store": _WORDS[worst],
        "hit_rate": stats.overall_hit_rate,
        "entries": sum(one.entries_near for one in stats.caches.values()),
    }


_WORDS = {None: "none", True: "ok", False: "unavailable"}
