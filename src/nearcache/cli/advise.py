"""``nearcache advise``: what size and policy a cache should have, and what that would bring."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearcache.cli.asking import (
    AsJson,
    Namespace,
    StoreUrl,
    failing_well,
    opened,
    print_json,
    unescaped,
)

if TYPE_CHECKING:
    from nearcache.metrics.advice import Advice, CacheAdvice

__all__ = ["advise"]


def advise(
    *,
    store: StoreUrl = None,
    namespace: Namespace = None,
    log: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A key log that cache.admin.record wrote."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A trace: a key a line, or lines of JSON; .gz .xz .bz2"),
    ] = None,
    column: Annotated[
        int | None, typer.Option(min=1, help="The column of the trace that holds the key.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="The trace is binary numbers of this numpy type, as '>i4'.")
    ] = None,
    entries: Annotated[
        int | None, typer.Option(min=1, help="The present size, where the log does not say it.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="The present policy, likewise.")] = None,
    ttl: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="The present ttl, likewise.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw the curve into this SVG file.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw the curve into this PNG file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what other sizes and policies would hit, and what they would spare.

    From a key log or a trace every choice is played on a near tier of nearcache's. From a store it
    is what its running workers found out on miniatures of theirs.
    """
    with failing_well("advise"):
        advice = _advice(store, namespace, log, trace, column, dtype, entries, policy, ttl)
        _draw(advice, svg, png)
        if as_json:
            print_json(advice.to_dict())
            return
        for cache in advice.caches:
            _show(cache)
        for note in advice.notes:
            typer.echo(unescaped(note), err=True)
        if not advice.caches:
            raise typer.Exit(1)


def _advice(
    store: str | None,
    namespace: str | None,
    log: Path | None,
    trace: Path | None,
    column: int | None,
    dtype: str | None,
    entries: int | None,
    policy: str | None,
    ttl: float | None,
) -> "Advice":
    from nearcache.errors import ConfigError
    from nearcache.metrics.advice import of_keys, of_report, read_keys
    from nearcache.near.policies.base import NAMES

    if log is not None and trace is not None:
        msg = "give --log or --trace, not both"
        raise ConfigError(msg)
    if policy is not None and policy not in NAMES:
        msg = f"unknown policy {policy!r}; known: {', '.join(NAMES)}"
        raise ConfigError(msg)
    source = log or trace
    if source is not None:
        keys = read_keys(source, column=column, dtype=dtype)
        return of_keys(keys, entries=entries, policy=policy, ttl=ttl)
    from nearcache.metrics.report import read

    with opened(store) as place:
        return of_report(read(place, namespace))


def _draw(advice: "Advice", svg: Path | None, png: Path | None) -> None:
    from nearcache.errors import ConfigError
    from nearcache.metrics.advice import picture

    if svg is None and png is None:
        return
    if len(advice.caches) != 1 or not advice.caches[0].curve:
        msg = f"a picture is of one cache, not of {len(advice.caches)}: name its --namespace"
        raise ConfigError(msg)
    cache = advice.caches[0]
    if svg is not None:
        drawn = picture.svg(cache.curve, cache.entries, cache.name)
        svg.write_text(drawn, encoding="utf-8")
    if png is not None:
        png.write_bytes(picture.png(cache.curve, cache.entries))


def _show(cache: "CacheAdvice") -> None:
    from nearcache.metrics.advice import picture

    about = f"{cache.requests:,} requests"
    if cache.distinct is not None:
        about += f", {cache.distinct:,} distinct keys"
    if cache.per_day:
        about += f", {cache.per_day:,.0f} a day"
    typer.echo(f"{unescaped(cache.name)}: {about}")
    for sentence in cache.sentences:
        typer.echo(f"  {unescaped(sentence)}")
    guessed = cache.method == "guessed"
    rows: list[Any] = [("entries", "policy", "hit ratio", "spared a day")]
    choices = {(each.entries, each.policy): each for each in (*cache.sizes, *cache.policies)}
    rows += [
        (
            f"{each.entries:,}" + (" (now)" if each.entries == cache.entries else ""),
            each.policy + (" (now)" if each.policy == cache.policy else ""),
            ("~" if guessed and each.entries != cache.entries else "") + f"{each.hit_ratio:.1%}",
            "" if each.spared_per_day is None else f"{each.spared_per_day:+,.0f}",
        )
        for each in choices.values()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    typer.echo("")
    for row in rows:
        typer.echo("  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)))
    if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" and cache.curve:
        width = min(100, shutil.get_terminal_size().columns)
        typer.echo("\n" + picture.terminal(cache.curve, cache.entries, width=width) + "\n")
