"""The secret that partitions are named with: from a file of its own, beside the store, or new."""

import logging
import os
import secrets
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nearcache.errors import ConfigError
from nearcache.proxy.settings import Settings

__all__ = ["find_secret"]

_LEAST, _MADE = 16, 32  # bytes
_PUBLIC = b"nearcache proxy: one partition for all"

log = logging.getLogger("nearcache")


def find_secret(settings: Settings) -> bytes:
    """Return the secret of this proxy.

    Where no credential goes into a name (``share`` without keys of callers) none is needed for
    names; it still hashes who was accepted, which stays in this process.
    """
    if settings.secret_file is not None:
        return _from_file(settings.secret_file)
    beside = _beside(settings.store)
    if beside is not None:
        return _from_file(beside)
    if settings.store is not None and not settings.share:
        log.warning(
            "no --secret-file: what this proxy keeps in the store cannot be found again after a "
            "restart, nor by another proxy"
        )
    return _PUBLIC if settings.share else secrets.token_bytes(_MADE)


def _beside(store: str | None) -> Path | None:
    """Return the place beside a SQLite file."""
    if store is None:
        return None
    parts = urlsplit(store)
    if parts.scheme.lower() != "sqlite" or not parts.path:
        return None
    path = unquote(parts.path)
    path = path.removeprefix("/")  # sqlite:///relative, sqlite:////absolute
    return Path(f"{path}.secret") if path else None


def _from_file(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes().strip()
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"the secret in {path} cannot be read or made: {why}") from error
    if len(secret) < _LEAST:
        raise ConfigError(
            f"the secret in {path} has {len(secret)} bytes; it needs {_LEAST}, chosen at random: "
            f"delete the file, and one is made"
        )
    return secret


def _make(path: Path) -> None:
    """Make a file that its owner alone can read, whole or not at all."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(secrets.token_hex(_MADE).encode())
        try:
            os.link(made, path)  # of two proxies that start at once, one makes it
        except FileExistsError:
            return
        except OSError:  # a file system without links
            made.replace(path)
    finally:
        made.unlink(missing_ok=True)
