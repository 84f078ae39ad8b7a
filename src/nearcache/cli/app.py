"""The typer application: one command per file, none of them heavy before it runs."""

from typing import Annotated

import typer

from nearcache.cli.advise import advise
from nearcache.cli.bench import bench
from nearcache.cli.completion import completion
from nearcache.cli.dashboard import dashboard
from nearcache.cli.demo import demo
from nearcache.cli.doctor import doctor
from nearcache.cli.get import get
from nearcache.cli.invalidate import invalidate
from nearcache.cli.keys import keys
from nearcache.cli.serve import serve
from nearcache.cli.stats import stats
from nearcache.cli.top import top
from nearcache.cli.warm import warm

__all__ = ["app"]

app = typer.Typer(
    help="A two-tier cache in front of embedding models: every text is paid for once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(advise)
app.command()(bench)
app.command()(completion)
app.command()(dashboard)
app.command()(demo)
app.command()(doctor)
app.command()(get)
app.command()(invalidate)
app.command()(keys)
app.command()(serve)
app.command()(stats)
app.command()(top)
app.command()(warm)


def _print_version(wanted: bool) -> None:
    if wanted:
        import nearcache

        typer.echo(f"nearcache {nearcache.__version__}")
        raise typer.Exit


@app.callback()
def _whole(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options before the command's name."""


_whole.__doc__ = app.info.help
