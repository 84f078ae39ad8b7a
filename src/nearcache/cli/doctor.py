"""``nearcache doctor``: what this installation and a store have, what they lack, and the cure."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from nearcache.metrics.health.check import Check

__all__ = ["Check", "checks", "doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="NEARCACHE_STORE",
            help="Also ask this store, and write a canary to it.",
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="The namespace to look at. Default: all.")
    ] = None,
) -> None:
    """Say what this installation and a store have, what they lack, and how to get it.

    Exit status 1 when a check failed; a warning is none.
    """
    found = [*checks(), *_of_store(store or None, namespace)]
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(check) for check in found]}, indent=2))
    else:
        _show(found)
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)


def checks() -> list[Check]:
    """Return what is to be said of this installation, and of the caches of this process."""
    from nearcache.metrics.health import checks as of_installation

    return of_installation()


def _of_store(url: str | None, namespace: str | None) -> list[Check]:
    if url is None:
        return []
    from nearcache.errors import ConfigError
    from nearcache.keys import KeySpace
    from nearcache.metrics.health import store_checks

    try:
        if namespace is not None:
            KeySpace(namespace)
    except ConfigError as error:
        typer.echo(f"nearcache doctor: {error}", err=True)
        raise typer.Exit(2) from None
    return store_checks(url, namespace)


def _show(found: Sequence[Check]) -> None:
    width = max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 0
    coloured = bool(width) and not os.environ.get("NO_COLOR")
    coloured = coloured and os.environ.get("TERM", "dumb") != "dumb"
    for check in found:
        status = f"{check.status:<5}"
        if coloured:
            status = typer.style(status, fg=_COLOURS[check.status])
        typer.echo(f"{status} {_folded(f'{check.name}: {check.detail}', width)}")
        if check.cure:
            typer.echo(f"      {_folded(check.cure, width)}")


def _folded(text: str, width: int) -> str:
    if not width:
        return text
    lines = textwrap.wrap(text, width - 6, break_long_words=False, break_on_hyphens=False)
    return "\n      ".join(lines)
