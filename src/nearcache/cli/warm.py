"""``nearcache warm``: fill a store from a file of texts and vectors, or of texts and a provider."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearcache.cli.asking import AsJson, StoreUrl, failing_well, opened, print_json

if TYPE_CHECKING:
    from nearcache.cli.warm_rows import Row

__all__ = ["warm"]

_INTERRUPTED = 130
_MOST_SHOWN, _MOST_KEPT = 5, 100  # lines that cannot be read


def warm(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL, CSV, NPZ (texts and vectors), or texts."
        ),
    ],
    *,
    model: Annotated[str, typer.Option(metavar="NAME", help="The model the vectors are of.")],
    store: StoreUrl = None,
    namespace: Annotated[str, typer.Option(help="The namespace in the store.")] = "emb",
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="NEARCACHE_UPSTREAM",
            help="Embed texts without a vector by this provider, e.g. https://api.openai.com/v1; "
            "the key is taken from NEARCACHE_UPSTREAM_KEY.",
        ),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Ask for, and expect, so many dimensions.")
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="SECONDS", help="How long they live. Default: no limit."),
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, float16 or int8.")] = "float32",
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Texts at once.")] = 256,
    anew: Annotated[
        bool, typer.Option("--anew", help="Write what is stored already, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fill a store, so that nobody has to wait for, or pay for, what is known already.

    What is stored already is skipped, so a run that was broken off is simply started again. Lines
    that cannot be read are counted and named, and do not end it.

    JSONL: {"text": …, "vector": […]}. CSV: text,vector, the vector a JSON list. NPZ: arrays
    "texts" and "vectors". Anything else: a text a line, with --upstream.
    """
    with failing_well("warm"):
        from nearcache import EmbeddingCache, EmbeddingModel, Options

        name = EmbeddingModel(model, dimensions=dimensions) if dimensions else model
        options = Options(on_store_error="raise", max_batch=batch, report=0)
        with opened(store, makes=True) as place:
            cache = EmbeddingCache(
                place,
                namespace=namespace,
                max_entries=0,
                ttl=ttl,
                precision=precision,
                options=options,
            )
            with cache:
                work = _Work(cache, name, upstream, anew=anew)
                broken_off = work.through(file, batch)
        work.tell(as_json=as_json)
        if broken_off:
            typer.echo("Broken off; run it again to go on: what is stored is skipped.", err=True)
            raise typer.Exit(_INTERRUPTED)
        if work.bad or work.without:
            raise typer.Exit(1)


class _Work:
    """What was done so far."""

    def __init__(self, cache: Any, model: Any, upstream: str | None, *, anew: bool) -> None:
        self._cache, self._model, self._anew = cache, model, anew
        self._upstream = upstream
        self.written = self.skipped = self.embedded = self.without = 0
        self.bad_lines = 0
        self.bad: list[tuple[int, str]] = []
        self.first_without = 0

    def through(self, file: Path, batch: int) -> bool:
        """Go through a file; say whether Ctrl-C ended it."""
        from nearcache.cli.warm_rows import rows_of

        total = file.stat().st_size
        try:
            with _bar(file.name, total) as meter:
                for part, at in _batches(rows_of(file), batch):
                    self._keep(part)
                    meter(min(at, total))
        except KeyboardInterrupt:
            return True
        return False

    def _keep(self, rows: "Sequence[Row]") -> None:
        for row in rows:
            if row.trouble:
                self._refuse(row.line, row.trouble)
        sound = {row.text: row for row in rows if not row.trouble}
        if not self._anew and sound:
            _, found = self._cache.get_batch(list(sound), self._model)
            stored = [text for text, there in zip(sound, found, strict=True) if there]
            self.skipped += len(stored)
            for text in stored:
                del sound[text]
        have = [row for row in sound.values() if row.vector is not None]
        lack = [row for row in sound.values() if row.vector is None]
        if have:
            self._put(have)
        if lack and self._upstream is None:
            self.first_without = self.first_without or lack[0].line
            self.without += len(lack)
        elif lack:
            self._embed([row.text for row in lack])

    def _refuse(self, line: int, trouble: str) -> None:
        self.bad_lines += 1
        if len(self.bad) < _MOST_KEPT:
            self.bad.append((line, trouble))

    def _put(self, rows: "Sequence[Row]") -> None:
        from nearcache.errors import CodecError

        try:
            self._cache.put_batch(
                [row.text for row in rows], [row.vector for row in rows], self._model
            )
            self.written += len(rows)
        except CodecError as error:  # one of them is of another dimension, or holds NaN
            if len(rows) == 1:
                self._refuse(rows[0].line, str(error))
                return
            for row in rows:
                self._put([row])

    def _embed(self, texts: list[str]) -> None:
        from nearcache.cli.warm_rows import Upstream

        assert self._upstream is not None, "asked before"
        provider = Upstream(self._upstream, os.environ.get("NEARCACHE_UPSTREAM_KEY"), self._model)
        self._cache.wrap(provider, self._model)(texts)
        self.embedded += len(texts)

    def tell(self, *, as_json: bool) -> None:
        """Say what was done, and what could not be."""
        self.bad.sort()
        document = {
            "written": self.written,
            "embedded": self.embedded,
            "already_stored": self.skipped,
            "without_vector": self.without,
            "unreadable": self.bad_lines,
            "first_unreadable": [{"line": line, "trouble": trouble} for line, trouble in self.bad],
        }
        if as_json:
            print_json(document)
        else:
            typer.echo(
                f"{self.written:,} written, {self.embedded:,} embedded, "
                f"{self.skipped:,} were stored already."
            )
        for line, trouble in self.bad[:_MOST_SHOWN]:
            typer.echo(f"line {line:,}: {trouble}", err=True)
        if self.bad_lines > _MOST_SHOWN:
            typer.echo(f"and {self.bad_lines - _MOST_SHOWN:,} lines more", err=True)
        if self.without:
            which = "1 text has" if self.without == 1 else f"{self.without:,} texts have"
            typer.echo(
                f"{which} no vector (the first is line {self.first_without:,}):"
                " give --upstream to have them embedded.",
                err=True,
            )


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how much of a file is read; elsewhere say what begins."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        typer.echo(f"warming from {name}", err=True)
        yield lambda _done: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"warming from {name}", total=max(1, total))
        yield lambda done: bar.update(task, completed=done)


def _batches(rows: "Iterator[Row]", size: int) -> "Iterator[tuple[list[Row], int]]":
    """Yield rows in batches, and how far in the file each ends."""
    part: list[Row] = []
    at = 0
    for row in rows:
        part.append(row)
        at = row.end
        if len(part) == size:
            yield part, at
            part = []
    if part:
        yield part, at
