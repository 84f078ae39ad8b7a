"""The typer application: one command per file, none of them heavy before it runs."""

from typing import Annotated

import typer

from nearcache.cli.demo import demo
from nearcache.cli.doctor import doctor
from nearcache.cli.serve import serve

__all__ = ["app"]

app = typer.Typer(
    help="A two-tier cache in front of embedding models: every text is paid for once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(doctor)
app.command()(serve)


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
