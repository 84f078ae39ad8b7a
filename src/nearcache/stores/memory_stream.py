"""Streams of changes of a store in this process: queues that the store itself fills."""

import threading
import weakref
from collections.abc import Sequence

from nearcache.errors import StoreUnavailable
from nearcache.stores.base import EVERYTHING, PONG, Changed, Message

__all__ = ["Announcer", "MemoryStream"]


class Announcer:
    """Tells every open stream at once what changed. Thread-safe: one lock for all streams."""

    def __init__(self) -> None:
        self.streams: weakref.WeakSet[MemoryStream] = weakref.WeakSet()
        self._begin()

    def _begin(self) -> None:
        # taken itself, not through the condition, whose __enter__ is Python: Ctrl-C there would
        # leave it taken for ever
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)

    def tell(self, names: Sequence[bytes]) -> None:
        """Say that these keys and groups changed, in this order."""
        with self.lock:
            for stream in self.streams:
                if heard := [name for name in names if name.startswith(stream.prefixes)]:
                    stream.queue.append(Changed(heard))
            self.news.notify_all()

    def tell_everything(self) -> None:
        """Say that anything may have changed."""
        with self.lock:
            for stream in self.streams:
                stream.queue.append(EVERYTHING)
            self.news.notify_all()

    def reset_after_fork(self) -> None:
        """End all streams: who reads them stayed in the parent."""
        self._begin()
        for stream in self.streams:
            stream.is_open = False
        self.streams.clear()


class MemoryStream:
    """What a store in memory says; ``read(0)`` drives it without a thread."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer
        self.prefixes: tuple[bytes, ...] = ()
        self.queue: list[Message] = []
        self.is_open = False
        self._closed = False

    def open(self, prefixes: Sequence[bytes], seconds: float) -> None:  # noqa: ARG002
        """Begin to hear of changes."""
        with self._announcer.lock:
            if self._closed:
                self._check()
            self.prefixes = tuple(prefixes)
            self.is_open = True
            self._announcer.streams.add(self)

    def watch(self, prefix: bytes) -> None:
        """Hear of one more prefix."""
        with self._announcer.lock:
            self._check()
            self.prefixes = (*self.prefixes, prefix)

    def ping(self) -> None:
        """Put a PONG behind what was said before."""
        with self._announcer.lock:
            self._check()
            self.queue.append(PONG)

    def read(self, seconds: float) -> list[Message]:
        """Return what has come."""
        with self._announcer.lock:
            self._announcer.news.wait_for(lambda: self.queue or not self.is_open, seconds)
            self._check()
            heard, self.queue = self.queue, []
            return heard

    def _check(self) -> None:
        if not self.is_open:
            msg = "memory:// says nothing on a stream that is not open"
            raise StoreUnavailable(msg)

    def close(self) -> None:
        """Hear no more."""
        with self._announcer.lock:
            self.is_open, self._closed = False, True
            self._announcer.streams.discard(self)
            self._announcer.news.notify_all()
