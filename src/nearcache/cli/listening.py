"""What commands that listen have in common: TLS, and the URL to print."""

from pathlib import Path

__all__ = ["check_tls", "shown_url"]


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Raise ConfigError unless both are given, and there, or none is given."""
    from nearcache.errors import ConfigError

    if (certificate is None) != (key is None):
        raise ConfigError("TLS needs both --tls-certificate and --tls-key")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise ConfigError(f"there is no file {path}")


def shown_url(scheme: str, address: tuple[str, int]) -> str:
    """Return the URL of a socket's address."""
    host, port = address[0], address[1]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
