"""``nearcache stats``: what all workers of a store did, as they said last."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from nearcache.cli.asking import (
    AsJson,
    Namespace,
    PriceFile,
    StoreUrl,
    failing_well,
    opened,
    prices_of,
    print_json,
)

if TYPE_CHECKING:
    from nearcache.metrics.prices import Prices
    from nearcache.metrics.report import Report
    from nearcache.stores.base import Store

__all__ = ["stats", "whole"]


def stats(
    *,
    store: StoreUrl = None,
    namespace: Namespace = None,
    prices: PriceFile = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Say it again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How often, with --watch.")
    ] = 2.0,
) -> None:
    """Say what all processes that share a store did: hits by tier, what was saved, who is well."""
    from nearcache.errors import ConfigError
    from nearcache.metrics.report import read

    console = Console(highlight=False, soft_wrap=False)
    with failing_well("stats"):
        if as_json and watch:
            msg = "--json prints one document, --watch many: leave one of them out."
            raise ConfigError(msg)
        table = prices_of(prices)
        with opened(store) as place:
            if as_json:
                print_json(read(place, namespace).to_dict(table))
            elif watch:
                _watch(place, namespace, table, console, every)
            else:
                console.print(_frame(place, namespace, table, console))


def _watch(
    store: "Store", namespace: str | None, prices: "Prices | None", console: Console, every: float
) -> None:
    """Print the report again and again; Ctrl-C is the way to end it."""
    with suppress(KeyboardInterrupt):
        while True:
            frame = _frame(store, namespace, prices, console)
            if console.is_terminal and not console.is_dumb_terminal:
                console.clear()
            console.print(frame)
            time.sleep(every)  # until the next frame


def _frame(
    store: "Store", namespace: str | None, prices: "Prices | None", console: Console
) -> RenderableType:
    from nearcache.cli.workers import nobody
    from nearcache.metrics.report import read

    report = read(store, namespace)
    if report.workers:
        return whole(report, width=console.width, prices=prices)
    others = () if namespace is None else [cache.namespace for cache in read(store).caches]
    return Text("\n".join(nobody(report, sorted(set(others)))))


def whole(report: "Report", *, width: int = 80, prices: "Prices | None" = None) -> RenderableType:
    """Return everything a report says."""
    from nearcache.cli import workers

    parts: list[RenderableType] = [
        workers.headline(report),
        Text(),
        workers.caches(report, width=width),
        *workers.money(report, prices),
        Text(),
        workers.latencies(report, width=width),
        Text(),
        workers.workers(report, width=width),
    ]
    troubles = workers.trouble(report)
    return Group(*parts, *([Text(), *troubles] if troubles else []))
