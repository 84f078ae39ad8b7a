"""Bodies of requests: read as far as they may be, opened where they are packed."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.types import Receive

from nearcache.proxy.headers import Headers, first

__all__ = ["HELD", "Gone", "Incoming", "TooLarge", "unpacked"]

HELD = 8 * 2**20
"""Bytes of a request that are read before it is answered; more is passed on as it comes."""


class Gone(Exception):
    """The caller hung up before its request was whole."""


class TooLarge(Exception):
    """The body is longer than it may be."""


@dataclass(slots=True)
class Incoming:
    """A request's body: what has been read of it, and the rest."""

    receive: Receive
    read: list[bytes] = field(default_factory=list)
    size: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self) -> bytes:
        """Return the next part of it, b"" at its end.

        Raises: Gone.
        """
        while not self.ended.is_set():
            message = await self.receive()
            if message["type"] != "http.request":
                raise Gone
            if not message.get("more_body", False):
                self.ended.set()
            part: bytes = message.get("body", b"")
            if part:
                self.size += len(part)
                return part
        return b""

    async def hold(self, most: int) -> bytes | None:
        """Return all of it; None where it is more than ``most``, the rest is unread then."""
        while part := await self.more():
            self.read.append(part)
            if self.size > most:
                return None
        return b"".join(self.read)

    async def parts(self, most: int | None) -> AsyncIterator[bytes]:
        """Give what has been read, and then the rest as it comes.

        Raises: Gone; TooLarge where it is more than ``most``.
        """
        for part in self.read:
            yield part
        while part := await self.more():
            if most is not None and self.size > most:
                raise TooLarge
            yield part


def unpacked(body: bytes, headers: Headers, most: int) -> bytes | None:
    """Return what a body says; None for what is packed in a way we do not know, or is too much."""
    packing = first(headers, b"content-encoding").strip().lower()
    if packing in (b"", b"identity"):
        return body
    if packing not in (b"gzip", b"deflate"):
        return None
    unpacker = zlib.decompressobj(47 if packing == b"gzip" else zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(body, most)
    except zlib.error:
        return None
    return plain if unpacker.eof and not unpacker.unused_data else None
