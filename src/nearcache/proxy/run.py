"""The server: a socket, an event loop, and a graceful end."""

import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from nearcache.dashboard.listening import BACKLOG, listen
from nearcache.proxy.app import make_app
from nearcache.proxy.connections import PATIENCE, Connection
from nearcache.proxy.settings import Settings

__all__ = ["listen", "run"]


def run(
    settings: Settings,
    door: socket.socket,
    *,
    grace: int,
    certificate: str | None = None,
    private_key: str | None = None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; what is under way then has ``grace`` seconds to end.

    Raises: ConfigError.
    """
    app = make_app(settings)
    # its log lines would hold whole URLs, with what callers put into them
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        http=Connection,
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=PATIENCE,
        backlog=BACKLOG,
        timeout_graceful_shutdown=grace,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    _allow_many_files()
    # uvicorn sends itself the signal again when all has ended; that is a good end
    signal.signal(signal.SIGTERM, _end)
    started()
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[door])


def _end(_signal: int, _frame: object) -> None:
    raise SystemExit(0)


def _allow_many_files() -> None:
    """Allow as many connections as the system lets a process have."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
