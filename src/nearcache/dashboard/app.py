"""The dashboard as an ASGI application: a page, its figures, and what it may be asked to do."""

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from nearcache.dashboard.access import Access
from nearcache.dashboard.guard import Guard, html
from nearcache.dashboard.page import board, door
from nearcache.dashboard.reader import Reader, in_thread
from nearcache.dashboard.source import WHAT, Source
from nearcache.errors import CacheError, ConfigError, StoreError

__all__ = ["make_app"]

log = logging.getLogger("nearcache")

_PATIENCE = 2.0  # seconds that an explanation may take
_PATIENT = 6.0  # seconds that forgetting may take: it is to be done, not to be quick


class _Dashboard:
    def __init__(self, source: Source, access: Access) -> None:
        self._source = source
        self._access = access
        self._reader = Reader(source.report)
        self._csrf = secrets.token_urlsafe(24)

    async def page(self, request: Request) -> Response:
        """Return the page; whoever brings the token in the address is led on without it."""
        if "token" in request.query_params and self._access.token is not None:
            return self._led_in(request)
        self._reader.begin()
        return html(board())

    async def sign_in(self, request: Request) -> Response:
        """Take the token from the form of the page that asks for it."""
        given = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        if self._access.admits(given.get("token", "")):
            return self._led_in(request)
        answer = html(door(wrong=True), 401)
        answer.headers["referrer-policy"] = "same-origin"
        return answer

    def _led_in(self, request: Request) -> Response:
        answer = RedirectResponse("./", 303)
        name, value = self._access.cookie
        answer.set_cookie(
            name,
            value,
            path=request.scope.get("root_path", "") + "/",
            httponly=True,
            samesite="strict",
            secure=self._access.secure,
        )
        return answer

    async def report(self, _request: Request) -> Response:
        """Return the figures, how old they are, and what the page may do."""
        reading = await self._reader.get()
        return JSONResponse(
            {
                "report": reading.document,
                "age": reading.age,
                "trouble": reading.trouble,
                "writes": self._access.writes,
                "csrf": self._csrf,
            }
        )

    async def explain(self, request: Request) -> Response:
        """Say why a key is a hit or a miss."""

        async def work(given: dict[str, Any]) -> Response:
            namespace, key = _text(given, "namespace"), _text(given, "key")
            model = _text(given, "model") if given.get("model") else None
            return JSONResponse(
                await _soon(lambda: self._source.explain(namespace, key, model), _PATIENCE)
            )

        return await self._answer(request, work)

    async def forget(self, request: Request) -> Response:
        """Forget what is asked to be, where that is allowed."""
        if not self._access.writes:
            return _error(403, "This dashboard only shows: start it with --allow-writes.")

        async def work(given: dict[str, Any]) -> Response:
            namespace, what = _text(given, "namespace"), given.get("what")
            if what not in WHAT:
                raise ConfigError(f"what is one of {', '.join(WHAT)}")
            name = None if what == "everything" else _text(given, "name")
            model = _text(given, "model") if what == "text" else None
            done = await _soon(lambda: self._source.forget(namespace, what, name, model), _PATIENT)
            log.info("the dashboard was asked to forget (%s): done", what)
            return JSONResponse({"done": done})

        return await self._answer(request, work)

    async def _answer(self, request: Request, work: Callable[[dict[str, Any]], Any]) -> Response:
        shown = request.headers.get("x-nearcache-csrf", "")
        if not hmac.compare_digest(shown.encode(), self._csrf.encode()):
            return _error(403, "The page is older than the dashboard: reload it.")
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _error(415, "Send JSON.")
        try:
            given = json.loads(await request.body())
        except (ValueError, RecursionError):
            return _error(400, "That is no JSON.")
        try:
            if not isinstance(given, dict):
                raise ConfigError("send an object")
            answer: Response = await work(given)
        except ConfigError as error:
            return _error(400, str(error))
        except TimeoutError:
            return _error(504, "The store did not answer in time.")
        except StoreError as error:
            return _error(502, str(error))
        except CacheError as error:
            return _error(500, str(error))
        return answer


async def _soon(work: Callable[[], Any], seconds: float) -> Any:
    return await asyncio.wait_for(in_thread(work), seconds)


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} is a text, not empty")
    if not value.isascii() and _is_broken(value):
        raise ConfigError(f"{name} holds half a character")
    return value


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _error(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)


def make_app(source: Source, access: Access | None = None) -> Guard:
    """Return the dashboard as an ASGI application, to be served by itself or mounted at a path.

    source: where the figures come from: ``StoreSource(url)``.
    access: who may look; the default is whoever is on this machine, and that only.
    """
    access = access or Access.here()
    dashboard = _Dashboard(source, access)
    routes = [
        Route("/", dashboard.page),
        Route("/sign-in", dashboard.sign_in, methods=["POST"]),
        Route("/report", dashboard.report),
        Route("/explain", dashboard.explain, methods=["POST"]),
        Route("/forget", dashboard.forget, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return Guard(app, access)
