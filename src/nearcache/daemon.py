"""Background threads that are there, whatever became of the one before."""

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["running"]


def running(
    thread: threading.Thread | None, name: str, work: Callable[..., Any], *arguments: Any
) -> threading.Thread | None:
    """Return this thread if it is alive, else a new daemon; None at the interpreter's exit.

    A thread whose start Ctrl-C cut off may never have run, and may never run: it is replaced.
    It may come to life all the same, a moment later: two of a kind have to get along.
    """
    if thread is not None and thread.is_alive():
        return thread
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started any more
        return None
    return thread
