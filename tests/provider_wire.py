"""HTTP/1.1 for the tests' model server: strict where it reads, rude where it is told to be."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import h11

__all__ = ["Answer", "Cut", "Request", "speak"]

_READ = 1 << 16


@dataclass(slots=True)
class Request:
    """What a client sent."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name in the query."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    def header(self, name: str) -> str | None:
        """The value of a header that may be there once, or None."""
        values = self.all(name)
        if len(values) > 1:
            raise ValueError(f"{len(values)} headers {name}: {values}")
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """The values of every header of that name."""
        return [value for found, value in self.headers if found == name.lower()]

    @property
    def data(self) -> bytes:
        """The body, unpacked."""
        return (
            gzip.decompress(self.body) if self.header("content-encoding") == "gzip" else self.body
        )


@dataclass(slots=True)
class Answer:
    """What the server says: a body, or chunks that are sent as they come."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: AsyncIterator[bytes] | None = None
    #: Hang up after so many bytes of the body, of which the head promised all; -1: without a word.
    cut: int | None = None


class Cut(Exception):
    """Hang up here."""


async def speak(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Request], Awaitable[Answer]],
) -> None:
    """Serve one connection until either side has had enough."""
    wire = h11.Connection(h11.SERVER)
    with contextlib.suppress(ConnectionError, Cut):
        while True:
            try:
                request = await _request(wire, reader, writer)
            except h11.RemoteProtocolError as error:
                await _refuse(wire, writer, error)
                break
            if request is None:
                break
            await _send(wire, writer, request, await answer(request))
            if wire.our_state is not h11.DONE or wire.their_state is not h11.DONE:
                break
            wire.start_next_cycle()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _request(
    wire: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    request, parts = None, []
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            if wire.they_are_waiting_for_100_continue:
                writer.write(wire.send(h11.InformationalResponse(status_code=100, headers=[])))
            wire.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Request):
            headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            request = Request(event.method.decode(), event.target.decode(), headers)
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            request.body = b"".join(parts)
            return request
        else:  # closed
            return None


async def _send(
    wire: h11.Connection, writer: asyncio.StreamWriter, request: Request, answer: Answer
) -> None:
    if answer.cut == -1:
        raise Cut
    headers = list(answer.headers.items())
    if answer.chunks is None:
        headers.append(("content-length", str(len(answer.body))))
    else:
        headers.append(("transfer-encoding", "chunked"))
    _write(wire, writer, _head(answer.status, headers))
    if answer.cut is not None:
        writer.write(answer.body[: answer.cut])
        await writer.drain()
        raise Cut
    if answer.chunks is not None:
        async for chunk in answer.chunks:
            _write(wire, writer, h11.Data(chunk))
            await writer.drain()
    elif answer.body and request.method != "HEAD":
        _write(wire, writer, h11.Data(answer.body))
    _write(wire, writer, h11.EndOfMessage())
    await writer.drain()


async def _refuse(
    wire: h11.Connection, writer: asyncio.StreamWriter, error: h11.RemoteProtocolError
) -> None:
    if wire.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        headers = [("content-length", "0"), ("connection", "close")]
        _write(wire, writer, _head(error.error_status_hint, headers))
        _write(wire, writer, h11.EndOfMessage())
        await writer.drain()


def _head(status: int, headers: Sequence[tuple[str, str]]) -> h11.Response:
    return h11.Response(status_code=status, headers=list(headers), reason=HTTPStatus(status).phrase)


def _write(wire: h11.Connection, writer: asyncio.StreamWriter, event: h11.Event) -> None:
    if data := wire.send(event):
        writer.write(data)
