"""Which store a command is about: its options, and a store that is open while the command asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearcache.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from nearcache.stores.base import Store

__all__ = ["AsJson", "Namespace", "StoreUrl", "open_target", "refuse"]

FAILED, WRONG_USAGE = 1, 2

StoreUrl = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="NEARCACHE_STORE",
        show_default=False,
        help="The store, e.g. sqlite:///vectors.db or redis://host.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="One namespace. Default: all of them."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def refuse(sentence: str, status: int = FAILED) -> typer.Exit:
    """Say on standard error why a command cannot go on; return what to raise."""
    typer.echo(sentence, err=True)
    return typer.Exit(status)


@contextmanager
def open_target(url: str) -> Iterator["Store"]:
    """Open a store by its URL; what fails while it is open is said in a sentence, and status 1."""
    from nearcache.engine.build import open_store
    from nearcache.options import Options

    if not url:
        sentence = "Which store? Give --store URL, or set NEARCACHE_STORE."
        raise refuse(sentence, WRONG_USAGE)
    try:
        store, _ = open_store(url, Options(report=0))
    except ConfigError as error:
        raise refuse(str(error), WRONG_USAGE) from None
    assert store is not None, "a URL names one"
    scheme, _, path = store.address.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():  # asked, it would be made
        raise refuse(f"There is no file {path}: no cache has used it yet, or the URL is another.")
    if scheme.startswith("memory:"):
        sentence = "memory:// is this process alone; name a store that the others use, too."
        raise refuse(sentence, WRONG_USAGE)
    try:
        yield store
    except ConfigError as error:
        raise refuse(str(error), WRONG_USAGE) from None
    except StoreError as error:
        raise refuse(str(error)) from None
    finally:
        store.close()
