"""A file that only its owner reads, made before anybody else opens it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["make_private"]

_OWNER_ONLY = 0o600


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone may read and write, unless there is one.

    What SQLite puts beside a database file gets the same mode. Whatever goes wrong is left to be
    met, and explained, by who opens the file.
    """
    with suppress(OSError):
        if not path.exists():
            _make(path.resolve())  # a link may lead to a file that is yet to be made


def _make(path: Path) -> None:
    # Not under its own name at once: closing a file that a thread beside us has opened, too, would
    # end the locks of that one.
    made = path.with_name(f".{secrets.token_hex(8)}")
    _create(made)
    try:
        os.link(made, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links; what is new nobody else has locked yet
        _create(path)
    finally:
        made.unlink()


def _create(path: Path) -> None:
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _OWNER_ONLY)
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(file, _OWNER_ONLY)  # whatever the umask
    finally:
        os.close(file)
