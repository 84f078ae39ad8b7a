"""Warnings that say something once, not a thousand times."""

import logging

from nearcache.clock import Clock

__all__ = ["Warnings"]

log = logging.getLogger("nearcache")

_QUIET = 60.0  # seconds between two warnings of one kind


class Warnings:
    """Logs at most one warning a minute of each kind. Thread-safe: at worst one is said twice."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}

    def say(self, kind: str, text: str, *values: object) -> None:
        """Log a warning, if none of this kind was logged lately."""
        now = self._clock()
        if now - self._said.get(kind, float("-inf")) >= _QUIET:
            self._said[kind] = now
            log.warning(text, *values)
