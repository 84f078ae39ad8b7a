"""``nearcache demo``: what a cache saves on real text with a real model."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from nearcache.cli.figures import Report
    from nearcache.cli.passages import Corpus
    from nearcache.cli.table import Screen

__all__ = ["demo"]

_PASSAGES = 2_000
_FAILED, _WRONG_USAGE, _INTERRUPTED = 1, 2, 130


def demo(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Text files or folders to embed. Default: Python's own documentation.",
            show_default=False,
        ),
    ] = None,
    *,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="NEARCACHE_STORE",
            help="Where vectors are kept, e.g. redis://host. Default: a temporary SQLite file.",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Namespace in the store. Default: a new one."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Passages to embed at most; 0 embeds them all."),
    ] = _PASSAGES,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, not a table.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write a page with charts, too."),
    ] = None,
) -> None:
    """Embed real text with a real model, cold and warm, and check every vector."""
    # Here, not above: --help need not wait for them.
    from nearcache import CacheError, ConfigError
    from nearcache.cli.files import NoText
    from nearcache.cli.fresh_process import ProcessFailed
    from nearcache.cli.model import ModelMissing
    from nearcache.cli.table import Screen

    screen = Screen()
    logging.getLogger("nearcache").addHandler(logging.NullHandler())  # an error is shown once
    try:
        if html is not None and not html.absolute().parent.is_dir():
            raise typer.BadParameter(f"there is no folder {html.parent}", param_hint="--html")
        with _kept_in(store or None) as (url, where):
            corpus = _corpus(paths or [], limit or None)
            if paths and corpus.cut_short:
                screen.say(f"The first {limit:,} passages are embedded; --limit 0 embeds them all.")
            report = _embedded(screen, corpus, url, where, namespace or f"demo-{token_hex(4)}")
        _print(report, as_json=as_json)
        if html is not None:
            _write(report, html)
            screen.say(f"{html} written")
    except (NoText, ModelMissing, ConfigError) as error:
        screen.say(f"nearcache demo: {error}")
        raise typer.Exit(_WRONG_USAGE) from None
    except (CacheError, ProcessFailed, OSError) as error:
        screen.say(f"nearcache demo: {error}")
        raise typer.Exit(_FAILED) from None
    except KeyboardInterrupt:
        screen.say("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        screen.say(report.verdict())
    if not report.verified:
        raise typer.Exit(_FAILED)


def _corpus(paths: "list[Path]", limit: int | None) -> "Corpus":
    from nearcache.cli.files import NoText, own_files
    from nearcache.cli.passages import documentation

    corpus = own_files(paths, limit) if paths else documentation(limit)
    if not corpus.passages:
        raise NoText("this Python has no documentation with it; name files to embed instead")
    return corpus


@contextmanager
def _kept_in(url: str | None) -> Iterator[tuple[str, str]]:
    """Give the store's URL and how to name it to people; a temporary one ends with the block."""
    from nearcache import ConfigError, Options
    from nearcache.engine.build import open_store

    if url is None:
        with TemporaryDirectory(prefix="nearcache-demo-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, "embeddings.db").as_posix()
            yield f"sqlite:///{quote(path)}", "a temporary SQLite file, deleted afterwards"
        return
    if url.lower().startswith("memory:"):
        raise ConfigError("memory:// ends with its process, and the demo needs a store for two")
    store, _ = open_store(url, Options())  # it names itself without its password
    address = "" if store is None else store.address
    if store is not None:
        store.close()
    yield url, address


def _embedded(screen: "Screen", corpus: "Corpus", url: str, where: str, namespace: str) -> "Report":
    from importlib.metadata import version

    from nearcache.cli import fresh_process, model
    from nearcache.cli.figures import Report
    from nearcache.cli.passes import run_all

    texts = corpus.passages
    with screen.busy("loading the model"):
        start = perf_counter()
        encode = model.load()
        took = perf_counter() - start
    passes, dimension = run_all(texts, encode, url, namespace, screen.meter, fresh_process.embed)
    return Report(
        version=version("nearcache"),
        model=model.described(),
        dimension=dimension,
        corpus=corpus.description,
        cut_short=corpus.cut_short,
        texts=len(texts),
        distinct_texts=len(set(texts)),
        store=where,
        namespace=namespace,
        model_load_seconds=took,
        passes=passes,
    )


def _print(report: "Report", *, as_json: bool) -> None:
    """Print the result to standard output, as one document or for people."""
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
        return
    from rich.console import Console

    from nearcache.cli.figures import NOTES
    from nearcache.cli.table import facts, table

    out = Console(highlight=False)
    out.print(facts(report))
    out.print()
    out.print(table(report))
    out.print()
    out.print(report.verdict(), markup=False, style="green" if report.verified else "bold red")
    for note in NOTES:
        out.print(note, markup=False, style="dim")


def _write(report: "Report", path: Path) -> None:
    from nearcache.cli.page import page

    path.write_text(page(report), "utf-8", errors="replace")
