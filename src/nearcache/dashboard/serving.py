"""An application in a process of its own: a socket, an event loop, and a quick end."""

import logging
import signal
import socket
from asyncio import Protocol
from collections.abc import Callable
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from nearcache.dashboard.listening import BACKLOG

__all__ = ["Tls", "serve"]

_GRACE, _PATIENCE = 2, 5  # seconds


class Tls(NamedTuple):
    """The files that a server needs to speak TLS."""

    certificate: str
    private_key: str


def serve(
    app: ASGIApp,
    door: socket.socket,
    *,
    tls: Tls | None = None,
    started: Callable[[], None] = lambda: None,
    grace: int = _GRACE,
    patience: int = _PATIENCE,
    connection: type[Protocol] | None = None,
    lifespan: bool = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    grace: seconds that what is under way has to end then.
    patience: seconds that a connection is kept on which nothing is asked.
    connection: what speaks HTTP, in place of uvicorn's own.
    lifespan: whether the application wants to hear when it begins and ends.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on" if lifespan else "off",
        http=connection or "h11",
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=patience,
        timeout_graceful_shutdown=grace,
        ssl_certfile=tls and tls.certificate,
        ssl_keyfile=tls and tls.private_key,
    )
    # uvicorn sends itself the signal again when all has ended; that is a good end
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    started()
    uvicorn.Server(config).run(sockets=[door])


def _end(_signal: int, _frame: object) -> None:
    # what is cut off from here on was told twice to end: a page of traceback would say no more
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    raise SystemExit(0)
