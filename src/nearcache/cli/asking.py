"""What the commands that ask a store share: their options, opening it, and how they fail."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

if TYPE_CHECKING:
    from nearcache.stores.base import Store

__all__ = ["AsJson", "Namespace", "StoreUrl", "failing_well", "opened", "print_json", "unescaped"]

_WRONG_USAGE, _INTERRUPTED = 2, 130

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="NEARCACHE_STORE",
        help="The store, e.g. redis://host or sqlite:///cache.db",
    ),
]
Namespace = Annotated[str | None, typer.Option("--namespace", help="The namespace in the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@contextmanager
def failing_well(command: str) -> Iterator[None]:
    """Turn what may go wrong into one sentence and an exit status: 2 wrong usage, 1 failed."""
    from nearcache.errors import CacheError, ConfigError

    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"nearcache {command}: interrupted", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except ConfigError as error:
        typer.echo(f"nearcache {command}: {error}", err=True)
        raise typer.Exit(_WRONG_USAGE) from None
    except BrokenPipeError:  # who read has read enough: the caller ends quietly
        raise
    except (CacheError, OSError, ImportError) as error:
        typer.echo(f"nearcache {command}: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def opened(url: str | None, *, makes: bool = False) -> "Iterator[Store]":
    """Open the store that a user named, and close it; only who ``makes`` makes a SQLite file."""
    from nearcache.engine.build import open_store
    from nearcache.errors import ConfigError, StoreUnavailable
    from nearcache.options import Options

    if not url:
        msg = "name a store with --store, or in the environment variable NEARCACHE_STORE"
        raise ConfigError(msg)
    store, _ = open_store(url, Options())
    assert store is not None, "a URL names one"
    try:
        if not makes and store.address.startswith("sqlite:///"):
            path = Path(unquote(url.partition("://")[2].partition("?")[0])[1:])
            if not path.is_file():
                msg = f"there is no file {path}"
                raise StoreUnavailable(msg)
        yield store
    finally:
        store.close()


def print_json(document: Any) -> None:
    """Print one document on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=not _speaks_unicode()))


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def unescaped(text: str) -> str:
    """Return text as a terminal may show it: no control character, whatever a key holds."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
