"""What commands that listen have in common: what they need, TLS, and the URL to print."""

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nearcache.dashboard.serving import Tls

__all__ = ["needing", "say", "shown_url", "tls_of", "warn_of_plain"]


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Say what to install where an import finds nothing.

    Raises: ConfigError.
    """
    from nearcache.errors import ConfigError

    try:
        yield
    except ImportError as error:
        msg = (
            f"the {extra} needs {error.name or 'a package'}, which is not installed: "
            f"pip install 'nearcache[{extra}]'"
        )
        raise ConfigError(msg) from error


def tls_of(certificate: Path | None, key: Path | None) -> "Tls | None":
    """Return both files; None where none is given.

    Raises: ConfigError unless both are given, and there, or none is.
    """
    from nearcache.dashboard.serving import Tls
    from nearcache.errors import ConfigError

    if (certificate is None) != (key is None):
        raise ConfigError("TLS needs both --tls-certificate and --tls-key")
    if certificate is None or key is None:
        return None
    for path in (certificate, key):
        if not path.is_file():
            raise ConfigError(f"there is no file {path}")
    return Tls(str(certificate), str(key))


def warn_of_plain(host: str, tls: "Tls | None", secrets: str, server: str) -> None:
    """Warn where secrets would travel in the clear."""
    from nearcache.dashboard.access import is_loopback

    if tls is None and not is_loopback(host):
        logging.getLogger("nearcache").warning(
            "%s reach %s unencrypted: give --tls-certificate and --tls-key, or put %s behind "
            "something that speaks TLS",
            secrets,
            host,
            server,
        )


def shown_url(door: socket.socket, tls: "Tls | None") -> str:
    """Return the URL of a socket that listens."""
    host, port = door.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def say(url: str) -> None:
    """Print the first line on standard output, at once: somebody may wait for it."""
    typer.echo(url)
    sys.stdout.flush()
