"""``nearcache stats``: what all workers of a store did, as they said last."""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from nearcache.cli.target import (
    WRONG_USAGE,
    AsJson,
    Namespace,
    StoreUrl,
    open_target,
    refuse,
)

if TYPE_CHECKING:
    from nearcache.metrics.report import Report
    from nearcache.stores.base import Store

__all__ = ["stats", "whole"]


def stats(
    *,
    store: StoreUrl = "",
    namespace: Namespace = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Say it again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How often, with --watch.")
    ] = 2.0,
) -> None:
    """Say what all processes that share a store did: hits by tier, what was saved, who is well."""
    from nearcache.metrics.report import read

    if as_json and watch:
        sentence = "--json prints one document, --watch many: leave one of them out."
        raise refuse(sentence, WRONG_USAGE)
    console = Console(highlight=False, soft_wrap=False)
    with open_target(store) as opened:
        if as_json:
            typer.echo(json.dumps(read(opened, namespace).to_dict(), indent=2))
            return
        if not watch:
            console.print(_frame(opened, namespace, console))
            return
        try:
            while True:
                frame = _frame(opened, namespace, console)
                if console.is_terminal and not console.is_dumb_terminal:
                    console.clear()
                console.print(frame)
                time.sleep(every)  # until the next frame; Ctrl-C ends it
        except KeyboardInterrupt:  # the way to end it
            return


def _frame(store: "Store", namespace: str | None, console: Console) -> RenderableType:
    from nearcache.cli.workers import nobody
    from nearcache.metrics.report import read

    report = read(store, namespace)
    if report.workers:
        return whole(report, width=console.width)
    others = () if namespace is None else [cache.namespace for cache in read(store).caches]
    return Text("\n".join(nobody(report, sorted(set(others)))))


def whole(report: "Report", *, width: int = 80) -> RenderableType:
    """Return everything a report says."""
    from nearcache.cli import workers

    parts: list[RenderableType] = [
        workers.headline(report),
        Text(),
        workers.caches(report, width=width),
        Text(),
        workers.latencies(report, width=width),
        Text(),
        workers.workers(report, width=width),
    ]
    troubles = workers.trouble(report)
    return Group(*parts, *([Text(), *troubles] if troubles else []))
