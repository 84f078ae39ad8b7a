"""Showing how far a long call is."""

import sys
from collections.abc import Callable

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
            filled = _WIDTH * done // max(1, self._total)
            bar = "#" * filled + "." * (_WIDTH - filled)
            end = "\n" if done >= self._total else ""
            sys.stderr.write(f"\rembedding [{bar}] {done}/{self._total}{end}")
            sys.stderr.flush()
