"""Connections of callers: HTTP/1.1, strictly read, and closed where no request ever comes."""

import asyncio
import re

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PATIENCE", "Connection"]

PATIENCE = 120
"""Seconds a connection may be without a request: longer than clients keep one that they do not use,
so that it is they who close it."""

_END = b"\r\n\r\n"
_BEFORE_A_HEAD = ("IDLE", "DONE")  # h11's states
_BARE = re.compile(rb"(?<!\r)\n")


class Connection(H11Protocol):
    """One connection of a caller.

    h11 is strict, and has a limit on heads. Uvicorn's other parser keeps a head without an end, and
    reads a body as none where an upgrade to HTTP/2 is offered, as curl does.
    """

    _before = b""  # the last bytes that were read
    _looks: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._looks is not None:
            self._looks.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; a line of a head that ends otherwise than it should ends the connection.

        h11 lets it pass, and who stands before us may have read one header where it reads two.
        """
        if self.conn.their_state.__name__ in _BEFORE_A_HEAD:
            read, seen = self._before + data, len(self._before)
            self._before = read[1 - len(_END) :]
            if _BARE.search(read.partition(_END)[0], seen):
                self._unset_keepalive_if_required()
                self.send_400_response("Invalid HTTP request received.")
                return
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, however slowly its head may come."""
        answered = self.cycle
        super().on_response_complete()
        if self.cycle is answered and not self.transport.is_closing():
            self._wait()

    def _wait(self) -> None:
        if self._looks is not None:
            self._looks.cancel()
        self._looks = self.loop.call_later(PATIENCE, self._look, self.cycle)

    def _look(self, before: object) -> None:
        if self.cycle is before:
            self.transport.close()
