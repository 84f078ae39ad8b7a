"""The server: many connections, and a graceful end."""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from nearcache.dashboard.serving import Tls, serve
from nearcache.proxy.app import make_app
from nearcache.proxy.connections import PATIENCE, Connection
from nearcache.proxy.ending import told_of_the_end
from nearcache.proxy.settings import Settings

__all__ = ["run"]


def run(
    settings: Settings,
    door: socket.socket,
    *,
    grace: int,
    tls: Tls | None = None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; what is under way then has ``grace`` seconds to end.

    Raises: ConfigError.
    """
    app = make_app(settings)
    # its log lines would hold whole URLs, with what callers put into them
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _allow_many_files()
    serve(
        told_of_the_end(app),
        door,
        tls=tls,
        started=started,
        grace=grace,
        patience=PATIENCE,
        connection=Connection,
        lifespan=True,
    )


def _allow_many_files() -> None:
    """Allow as many connections as the system lets a process have."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
