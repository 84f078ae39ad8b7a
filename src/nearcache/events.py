"""Telling subscribers what happens; costs nothing while there are none."""

import logging
from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["Events", "Subscriber"]

Subscriber = Callable[[str, object, object], None]
"""Called with the event's name, what it is about, and how many or why."""

log = logging.getLogger("nearcache")


_inside: ContextVar[bool] = ContextVar("nearcache_inside_callback", default=False)
# what a callback does with a cache is no event: it would be called for its own doings, for ever


class Events:
    """The subscribers of one cache. Thread-safe."""

    __slots__ = ("_subscribers",)

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Add a callback; the function returned takes it out again."""
        self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            self._subscribers = tuple(c for c in self._subscribers if c is not callback)

        return unsubscribe

    def __bool__(self) -> bool:
        return bool(self._subscribers)

    def emit(self, name: str, subject: object, detail: object) -> None:
        """Call every subscriber; one that raises is logged, never felt."""
        if not self._subscribers or _inside.get():
            return
        token = _inside.set(True)
        try:
            for callback in self._subscribers:
                try:
                    callback(name, subject, detail)
                except Exception:
                    log.exception("a subscriber of nearcache raised at %s", name)
        finally:
            _inside.reset(token)
