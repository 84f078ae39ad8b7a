"""A gate that many pass at once, until one closes it and waits for those inside to leave."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

from nearcache.clock import monotonic
from nearcache.flag import Flag

__all__ = ["Gate", "Grip", "Turn"]

_LOOK_AROUND = 0.02
_PATIENCE = 1.0


class Grip:
    """What a frame holds while it is inside; it is gone with the frame, whatever cut that off."""

    __slots__ = ("__weakref__",)


class Gate:
    """For what must not be under way in any thread at a ``fork``: the child copies it half done.

    ``acquire`` and ``release`` are those of a re-entrant lock, but that ``acquire`` waits for a
    second at most. Thread-safe. Ctrl-C at any point leaves nobody inside who is not.
    """

    def __init__(self) -> None:
        self._inside: weakref.WeakKeyDictionary[Grip, int] = weakref.WeakKeyDictionary()
        self._open = Flag()
        self._open.set()
        self._closed_by = (0, 0)  # thread, times

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside; may be nested."""
        me = threading.get_ident()
        grip = Grip()
        self._inside[grip] = me
        while not self._open.is_set() and self._closed_by[0] != me:
            # said first, looked at after: who closes does it the other way round
            if list(self._inside.values()).count(me) > 1:
                break  # nested: who closes waits for us
            del self._inside[grip]
            self._open.wait(_LOOK_AROUND)
            self._inside[grip] = me
        try:
            yield
        finally:
            self._inside.pop(grip, None)

    def acquire(self) -> bool:
        """Close the gate, and wait until nobody else is inside."""
        me = threading.get_ident()
        self._closed_by = (me, self._closed_by[1] + 1)
        self._open.clear()
        end = monotonic() + _PATIENCE
        while any(one != me for one in list(self._inside.values())) and monotonic() < end:
            self._open.wait(0.001)  # not set before release: a pause
        return True

    def release(self) -> None:
        """Open it again."""
        self._closed_by = (self._closed_by[0], self._closed_by[1] - 1)
        if not self._closed_by[1]:
            self._closed_by = (0, 0)
            self._open.set()


class Turn:
    """A lock with a time-out whose holder cannot leave it locked, not even by Ctrl-C."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Ctrl-C cannot come between taking it and its block
        self._holder: weakref.ref[Grip] | None = None
        # written in C: an Event has a lock of its own, which Ctrl-C could leave locked
        self._freed: SimpleQueue[None] = SimpleQueue()

    def take(self, grip: Grip, seconds: float) -> bool:
        """Take the turn for as long as ``grip`` lives; False if others had it too long."""
        end = monotonic() + seconds
        while True:
            with self._lock:
                if self._holder is None or self._holder() is None:
                    self._holder = weakref.ref(grip)
                    return True
            left = end - monotonic()
            if left <= 0:
                return False
            with suppress(Empty):
                self._freed.get(timeout=min(left, _LOOK_AROUND))

    @property
    def taken(self) -> bool:
        """Whether somebody has it."""
        return self._holder is not None and self._holder() is not None

    def give_back(self, grip: Grip) -> None:
        """Let the next one take it."""
        with self._lock:
            if self._holder is not None and self._holder() is grip:
                self._holder = None
        if self._freed.empty():
            self._freed.put(None)
