"""What the commands that ask a store share: their options, opening it, and how they fail."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nearcache.metrics.prices import Prices
    from nearcache.stores.base import Store

__all__ = [
    "AsJson",
    "Namespace",
    "PriceFile",
    "StoreUrl",
    "failing_well",
    "opened",
    "prices_of",
    "print_json",
    "unescaped",
]

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
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="One namespace. Default: all of them."),
]
PriceFile = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        dir_okay=False,
        envvar="NEARCACHE_PRICES",
        show_envvar=True,
        help="A TOML file of what values cost to load, to say what was saved in money.",
    ),
]
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
    """Open the store that a user named, and close it; only who ``makes`` makes a SQLite file.

    Raises: ConfigError, StoreUnavailable.
    """
    from nearcache.engine.build import open_store
    from nearcache.errors import ConfigError, StoreUnavailable
    from nearcache.options import Options

    if not url:
        msg = "Which store? Give --store URL, or set NEARCACHE_STORE."
        raise ConfigError(msg)
    store, _ = open_store(url, Options(report=0))
    assert store is not None, "a URL names one"
    try:
        scheme, _, path = store.address.partition(":///")
        if scheme.startswith("memory"):
            msg = "memory:// is this process alone; name a store that the others use, too."
            raise ConfigError(msg)
        if scheme == "sqlite" and not makes and not Path(path).is_file():
            msg = f"There is no file {path}: no cache has used it yet, or the URL is another."
            raise StoreUnavailable(msg)
        yield store
    finally:
        store.close()


def prices_of(file: Path | None) -> "Prices | None":
    """Read a price file, if one was given. Raises: ConfigError."""
    from nearcache.metrics.prices import Prices

    return None if file is None else Prices.from_file(file)


def print_json(document: Any) -> None:
    """Print one document on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=not _speaks_unicode()))


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def unescaped(text: str) -> str:
    """Return text as a terminal may show it: no control character, whatever a key holds."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
