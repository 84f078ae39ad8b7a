"""The command line; ``main`` is what the ``nearcache`` program runs."""

import io
import sys
from importlib import import_module

__all__ = ["main"]

_EXTRA = {"typer", "rich"}


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its status."""
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
    except KeyboardInterrupt:
        sys.exit(130)
