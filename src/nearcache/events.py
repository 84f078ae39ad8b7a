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

    __slots__ = ("_subscribers", "hear_hits")

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()
        self.hear_hits: tuple[Subscriber, ...] = ()
        """Who wants to hear of hits, too: a near hit looks here before it calls ``emit``."""

    def subscribe(self, callback: Subscriber, *, hits: bool = True) -> Callable[[], None]:
        """Add a callback; the function returned takes it out again.

        hits: False for who does not want to hear of hits, which then cost nothing.
        """
        self._subscribers = (*self._subscribers, callback)
        if hits:
            self.hear_hits = (*self.hear_hits, callback)

        def unsubscribe() -> None:
            self._subscribers = tuple(c for c in self._subscribers if c is not callback)
            self.hear_hits = tuple(c for c in self.hear_hits if c is not callback)

        return unsubscribe

    def __bool__(self) -> bool:
        return bool(self._subscribers)

    def emit(self, name: str, subject: object, detail: object) -> None:
        """Call every subscriber; one that raises is logged, never felt."""
        subscribers = self.hear_hits if name == "hit" else self._subscribers
        if not subscribers or _inside.get():
            return
        token = _inside.set(True)
        try:
            for callback in subscribers:
                try:
                    callback(name, subject, detail)
                except Exception:
                    log.exception("a subscriber of nearcache raised at %s", name)
        finally:
            _inside.reset(token)
