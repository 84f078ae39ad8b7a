"""Showing how far a long call is."""

import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Bar", "Progress"]

Progress = bool | Callable[[int, int], None] | None
"""True shows a bar on stderr; a callable gets (texts done, texts in all)."""

_WIDTH = 30


class Bar:
    """Progress of one call: a bar on stderr, or the user's own callable; false for neither."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._tell = progress if callable(progress) else None
        self._show = progress is True
        self._total = total

    def __bool__(self) -> bool:
        return self._show or self._tell is not None

    def at(self, done: int) -> None:
        """Show that ``done`` of the texts are there."""
        if self._tell is not None:
            self._tell(done, self._total)
        elif self._show:
            filled = min(_WIDTH, _WIDTH * done // self._total) if self._total else 0
            bar = "#" * filled + "." * (_WIDTH - filled)
            end = "\n" if done >= self._total > 0 else ""
            with suppress(OSError, ValueError, AttributeError):  # no stderr, or a closed one
                sys.stderr.write(f"\rembedding [{bar}] {done}/{self._total or '?'}{end}")
                sys.stderr.flush()
