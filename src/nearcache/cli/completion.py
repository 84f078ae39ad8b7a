"""``nearcache completion``: the script that lets a shell complete commands and options."""

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["completion"]


class Shell(StrEnum):
    """A shell that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to complete in.")],
) -> None:
    """Print a script that lets a shell complete commands and options.

    bash: source <(nearcache completion bash)    zsh: nearcache completion zsh > ~/.zfunc/_nearcache
    fish: nearcache completion fish | source
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(
        prog_name="nearcache", complete_var="_NEARCACHE_COMPLETE", shell=shell.value
    )
    typer.echo(script)
