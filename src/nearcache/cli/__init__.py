"""The command line; ``main`` is what the ``nearcache`` program runs."""

import io
import os
import sys
from importlib import import_module
from pathlib import Path

__all__ = ["main"]

_EXTRA = {"typer", "rich"}
_INTERRUPTED = 130


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its status."""
    try:
        _occupy()
        _run()
    except KeyboardInterrupt:  # perhaps while modules were being loaded
        sys.exit(_INTERRUPTED)
    except OSError as error:  # what was to be printed found no room
        _give_up()
        sys.stderr.write(f"nearcache: {error}\n")
        sys.exit(1)


def _run() -> None:
    try:
        import_module("rich")  # where it is used is too late for a good message
        from nearcache.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(
            f"The command line needs {error.name}, which is not installed: "
            "pip install 'nearcache[demo]'\n"
        )
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):  # a narrow terminal's encoding is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="nearcache")
    finally:
        sys.stdout.flush()  # now, while it can be said that there is no room


def _occupy() -> None:
    """Open the standard streams that were closed, or a socket would have their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  for good
            setattr(sys, name, stream)


def _give_up() -> None:
    """Print no more: what is left to be printed would fail again when Python ends."""
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
