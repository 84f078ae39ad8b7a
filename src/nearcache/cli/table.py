"""The demo in a terminal: progress while it runs, then a table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from nearcache.cli.figures import Report, counted, rate, saved, seconds, times

__all__ = ["Screen", "facts", "table"]


class Screen:
    """Shows on standard error how far the passes are; standard output stays for the result."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line as it is, whatever characters it holds."""
        self.console.print(text, markup=False)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something is under way."""
        if not self.console.is_terminal:
            self.say(what)
            yield
            return
        with self.console.status(what):
            yield

    @contextmanager
    def meter(self, name: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """Show the progress of a pass; in a log file, one line when it begins."""
        if not self.console.is_terminal:
            self.say(f"{name}, {total:,} text{'s' * (total != 1)}")
            yield lambda _done, _all: None
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        # Four times a second: drawing takes the processor from the model.
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=4) as bar:
            task = bar.add_task(name, total=total)
            yield lambda done, _all: bar.update(task, completed=done)


def facts(report: Report) -> RenderableType:
    """Return what was run, a line or two for each fact."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for about, fact in report.facts().items():
        grid.add_row(Text(about, style="dim"), Text(fact, overflow="fold"))
    return grid


def table(report: Report) -> RenderableType:
    """Return the passes as a table that fits 80 columns."""
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    grid.add_column("pass", no_wrap=True)
    for head in ("texts", "model\ncalls", "seconds", "texts/s", "speed-up", "saved\nseconds"):
        grid.add_column(head, justify="right", no_wrap=True)
    for each in report.passes:
        grid.add_row(
            each.name,
            counted(each.texts),
            counted(each.model_calls),
            seconds(each.seconds),
            rate(each.texts_per_second),
            times(report.speedup(each)),
            saved(report.saved_seconds(each)),
        )
    return grid
