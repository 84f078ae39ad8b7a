"""A dashboard in a process of its own: a socket, an event loop, and a quick end."""

import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from nearcache.dashboard.listening import BACKLOG

__all__ = ["run"]

_GRACE = 2  # seconds that what is under way has to end


def run(
    app: ASGIApp,
    door: socket.socket,
    *,
    certificate: str | None = None,
    private_key: str | None = None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http="h11",
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=_GRACE,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    # uvicorn sends itself the signal again when all has ended; that is a good end
    signal.signal(signal.SIGTERM, _end)
    started()
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[door])


def _end(_signal: int, _frame: object) -> None:
    raise SystemExit(0)
