"""What callers hear whose requests outlast the end of the proxy."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from nearcache.proxy.answers import error_body
from nearcache.proxy.passing import send_refusal
from nearcache.proxy.upstream import Refused

__all__ = ["told_of_the_end"]

_HEADERS = [(b"content-type", b"application/json"), (b"retry-after", b"1")]


def told_of_the_end(app: ASGIApp) -> ASGIApp:
    """Return the same application, which answers 503 where a request is cut off.

    Uvicorn cancels what has not ended in time. It would answer 500, and log a page for each.
    """

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            body = error_body("The proxy is being stopped; ask again.", "server_error")
            with suppress(RuntimeError):  # the answer has begun: it is left without an end
                await send_refusal(send, Refused(503, _HEADERS, body))

    return told
