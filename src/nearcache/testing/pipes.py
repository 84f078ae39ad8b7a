"""One connection through the fault proxy: a pipe each way, and what can be wrong with it."""

import contextlib
import enum
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator

__all__ = ["CHUNK", "End", "Lane", "Link", "Pipe", "Tally", "hang_up"]

CHUNK = 256 * 1024
_HELD = 4 * 1024 * 1024
"""Bytes a black hole takes before senders feel it, as with TCP's own window."""
_LATE = 256 * 1024 * 1024
"""Bytes that may be under way to a slow end."""
_PIECE = 16 * 1024
"""Bytes that a narrow lane passes at once."""
_WORD = b"CLIENT\r\n$8\r\nTRACKING\r\n"
_BEFORE_WORD = b"\r\n$8\r\n"
_NO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class End(enum.Enum):
    """How one side of a connection ended: it has nothing more to say, or it is gone."""

    FINISHED = "finished"
    RESET = "reset"


class Tally:
    """Bytes that were delivered, in all connections."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Lane:
    """What all connections share in one direction: ``rate`` bytes a second, 0 for any number."""

    __slots__ = ("_free", "rate")

    def __init__(self) -> None:
        self.rate = 0.0
        self._free = 0.0  # when all that was put into it has left

    def leaves(self, size: int) -> float:
        """Put bytes into it; return when they have left, behind all that came before."""
        self._free = max(self._free, time.monotonic()) + (size / self.rate if self.rate else 0.0)
        return self._free


class Pipe:
    """Bytes on their way from one socket to another: in order, late or held when told.

    Reading stops when the target takes no more, so a slow reader slows its writer.
    """

    __slots__ = (
        "blocked",
        "broken",
        "delay",
        "dropping",
        "ended",
        "finished",
        "held",
        "lane",
        "queue",
        "size",
        "tally",
        "target",
    )

    def __init__(self, target: socket.socket, tally: Tally, lane: Lane) -> None:
        self.target = target
        self.tally = tally
        self.lane = lane
        self.queue: deque[tuple[float, bytes | memoryview | End]] = deque()  # due, what
        self.size = 0  # bytes in the queue
        self.delay = 0.0
        self.held = False  # nothing is delivered, everything is kept
        self.dropping = False  # nothing is delivered, nothing is kept
        self.blocked = False  # the target takes no more for now
        self.broken = False  # the target takes no more ever
        self.ended = False  # the source has said all it will
        self.finished = False  # and the target knows

    @property
    def reads(self) -> bool:
        """Whether more should be read from the source."""
        if self.ended:
            return False
        if self.dropping or self.broken:
            return True  # how it ends is still of interest
        return self.size < _HELD if self.held else not self.blocked and self.size < _LATE

    @property
    def writes(self) -> bool:
        """Whether it waits for the target to take more."""
        return self.blocked and not self.held

    @property
    def due(self) -> float | None:
        """When the next bytes are to be delivered, if that is a matter of time."""
        return self.queue[0][0] if self.queue and not self.held and not self.blocked else None

    def put(self, what: bytes | memoryview | End) -> End | None:
        """Pass on what was read, now or later; the answer is that of ``flush``."""
        if isinstance(what, End):
            self.ended = True
        if self.dropping or (self.broken and not isinstance(what, End)):
            return None
        if self.lane.rate:
            for piece in _pieces(what):
                size = 0 if isinstance(piece, End) else len(piece)
                self._append(self.lane.leaves(size) + self.delay, piece)
            return None
        if self.queue or self.held or self.blocked or self.delay:
            due = time.monotonic() + self.delay if self.delay else 0.0
            self._append(due, what)
            return None
        return self._deliver(what)

    def _append(self, due: float, what: bytes | memoryview | End) -> None:
        if not isinstance(what, End):
            what = bytes(what)
            self.size += len(what)
        self.queue.append((due, what))

    def flush(self) -> End | None:
        """Deliver all that is due; RESET when that was the end of the whole connection."""
        now = 0.0
        while self.queue and not (self.held or self.blocked):
            due, what = self.queue[0]
            if due > now and due > (now := time.monotonic()):
                break
            self.queue.popleft()
            if not isinstance(what, End):
                self.size -= len(what)
            if (end := self._deliver(what)) is not None:
                return end
        return None

    def _deliver(self, what: bytes | memoryview | End) -> End | None:
        if what is End.RESET:
            return what
        if isinstance(what, End):
            self.finished = True
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)
            return None
        try:
            sent = self.target.send(what)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.broken = True
            self.clear()
            return None
        self.tally.bytes += sent
        if sent < len(what):
            self.blocked = True
            rest = bytes(memoryview(what)[sent:])
            self.queue.appendleft((0.0, rest))
            self.size += len(rest)
        return None

    def hurry(self) -> None:
        """Make everything due at once."""
        self.queue = deque((0.0, what) for _, what in self.queue)

    def clear(self) -> None:
        """Forget what is under way."""
        self.queue.clear()
        self.size = 0
        self.blocked = False


class Link:
    """A client's connection, and the one that was made for it."""

    __slots__ = (
        "_tail",
        "client",
        "closed",
        "connected",
        "doomed",
        "orphan",
        "server",
        "to_client",
        "to_server",
        "tracked",
        "watched",
    )

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        tallies: tuple[Tally, Tally],
        lanes: tuple[Lane, Lane],
    ) -> None:
        self.client = client
        self.server = server
        self.to_client = Pipe(client, tallies[0], lanes[0])
        self.to_server = Pipe(server, tallies[1], lanes[1])
        self.tracked = False
        self.connected = False  # to the server
        self.to_server.blocked = True  # until then
        self.doomed = False  # bytes were lost: it cannot go on
        self.orphan = False  # the server's side is closed, the client does not know
        self.closed = False
        self.watched = {client: 0, server: 0}  # for which events
        self._tail = b""

    def says_tracking(self, chunk: memoryview) -> bool:
        """Whether the client has now asked for tracking for the first time."""
        if self.tracked:
            return False
        seen = self._tail + chunk
        self._tail = seen[-len(_WORD) + 1 :]
        self.tracked = _BEFORE_WORD in seen and _WORD in seen.upper()
        return self.tracked

    @property
    def calm(self) -> bool:
        """Whether what is read goes straight through: nothing waits, nothing has ended."""
        one, other = self.to_client, self.to_server
        return not (
            one.queue or other.queue or one.ended or other.ended or one.broken or other.broken
        )

    @property
    def over(self) -> bool:
        """Whether both sides have said all, and were told so."""
        return self.to_client.finished and self.to_server.finished


def _pieces(what: bytes | memoryview | End) -> Iterator[bytes | memoryview | End]:
    if isinstance(what, End):
        yield what
        return
    for at in range(0, len(what), _PIECE):
        yield what[at : at + _PIECE]


def hang_up(wire: socket.socket, *, reset: bool) -> None:
    """Close a socket, with a RST if wanted; whatever state it is in."""
    with contextlib.suppress(OSError):
        if reset:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    with contextlib.suppress(OSError):
        wire.close()
