"""Requests that are passed on as they are, and their answers, streamed both ways."""

import asyncio
import logging
from collections.abc import Callable

import httpx
from starlette.types import Scope, Send

from nearcache.proxy.answers import error_body
from nearcache.proxy.bodies import Gone, Incoming, TooLarge
from nearcache.proxy.headers import Headers, from_the_provider
from nearcache.proxy.upstream import Refused, Upstream

__all__ = ["Passage", "send_parts", "send_refusal", "send_whole", "too_large"]

log = logging.getLogger("nearcache")

_PIECE = 256 * 2**10  # bytes
_OURS = frozenset((b"host", b"expect"))
_JSON = (b"content-type", b"application/json")


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send an answer that is whole."""
    sized = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})


async def send_parts(send: Send, status: int, headers: Headers, parts: list[bytes]) -> None:
    """Send an answer in pieces: a caller that reads slowly has no copy of all of it here."""
    size = sum(map(len, parts))
    if size <= _PIECE:
        await send_whole(send, status, headers, b"".join(parts))
        return
    sized = [*headers, (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    start = length = 0
    for end, part in enumerate(parts, 1):
        length += len(part)
        if length >= _PIECE or end == len(parts):
            piece = b"".join(parts[start:end])
            more = end < len(parts)
            await send({"type": "http.response.body", "body": piece, "more_body": more})
            start, length = end, 0


async def send_refusal(send: Send, refused: Refused) -> None:
    """Send what the provider said, or why it said nothing."""
    await send_whole(send, refused.status, refused.headers, refused.body)


def too_large(most: int) -> Refused:
    """Return the answer to a body that is longer than it may be."""
    message = f"The request's body is larger than {most} bytes, which this proxy takes."
    body = error_body(message, "invalid_request_error", "request_too_large")
    return Refused(413, [_JSON], body)


class Passage:
    """One request on its way to the provider, and its answer on the way back.

    A caller that hangs up ends the request to the provider. A provider that breaks off ends the
    connection to the caller, so that nobody takes a part for the whole.

    headers: what is sent to the provider.
    heard: gets the status of the answer.
    most: bytes of the body; a longer one is refused, wherever it is.
    """

    def __init__(
        self,
        scope: Scope,
        incoming: Incoming,
        send: Send,
        upstream: Upstream,
        *,
        headers: Headers,
        heard: Callable[[int], None],
        most: int | None = None,
    ) -> None:
        self._incoming = incoming
        self._send = send
        self._upstream = upstream
        self._heard = heard
        self._most = most
        self._begun = False
        names = {name for name, _ in scope["headers"]}
        # RFC 9112, 6.3: of a length and chunks the chunks are right, and the length goes no further
        ours = _OURS | {b"content-length"} if b"transfer-encoding" in names else _OURS
        sent = [pair for pair in headers if pair[0] not in ours]
        has_body = incoming.read or names & {b"content-length", b"transfer-encoding"}
        self._request = httpx.Request(
            scope["method"],
            upstream.url(scope["raw_path"], scope["query_string"]),
            headers=sent,
            content=incoming.parts(most) if has_body else None,
        )

    async def go(self) -> None:
        """Go there and back."""
        relay = asyncio.ensure_future(self._relay())
        hang_up = asyncio.ensure_future(self._hang_up())
        try:
            await asyncio.wait((relay, hang_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (relay, hang_up):
                task.cancel()
            await asyncio.wait((relay, hang_up))
        if not relay.cancelled():
            relay.result()

    async def _hang_up(self) -> None:
        """Wait until the caller has hung up."""
        await self._incoming.ended.wait()
        while (await self._incoming.receive())["type"] == "http.request":
            pass

    async def _relay(self) -> None:
        try:
            await self._there_and_back()
        except Gone:
            return
        except TooLarge:
            assert self._most is not None, "it is too large for that"
            await self._instead(too_large(self._most))
        except Exception as error:  # noqa: BLE001  what the client's parts raise is not one tree
            await self._instead(self._upstream.refusal(error))

    async def _there_and_back(self) -> None:
        async with self._upstream.opened(self._request) as response:
            self._heard(response.status_code)
            self._begun = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": from_the_provider(response.headers.raw),
                }
            )
            async for part in response.aiter_raw():
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})

    async def _instead(self, refused: Refused) -> None:
        """Answer in the provider's place; what has begun is left without an end."""
        if not self._begun:
            self._heard(refused.status)
            await send_refusal(self._send, refused)
