"""Single keys from a terminal, which is given back as it was found."""

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Keyboard", "keyboard"]

_LEAVE, _ESCAPE = b"qQ\x04", b"\x1b"  # Ctrl-D, too
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)")  # of an arrow, a function key


class Keyboard:
    """Whether somebody wants to leave."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; say whether a key says "leave"."""
        if self._descriptor is None:
            time.sleep(seconds)  # until the next frame: nobody can type, and Ctrl-C ends it
            return False
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return False
        typed = os.read(self._descriptor, 16)
        if not typed:  # nobody will type any more
            self._descriptor = None
        return typed == _ESCAPE or any(key in _SEQUENCE.sub(b"", typed) for key in _LEAVE)


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Have keys as they are typed, unseen, where there is a terminal that can do that."""
    try:
        import termios
        import tty
    except ImportError:  # Windows: Ctrl-C it is
        yield Keyboard(None)
        return
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield Keyboard(None)
        return
    try:
        tty.setcbreak(descriptor)
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
