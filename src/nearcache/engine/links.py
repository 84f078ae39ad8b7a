"""The links of this process: one per store object, however many caches use it."""

import os
import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

from nearcache.coherence.link import Link
from nearcache.stores.base import PONG, Changed, Store

__all__ = ["link_of"]


class _Links:
    """The links of this process, one per store object."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: WeakKeyDictionary[Store, ref[Link]] = WeakKeyDictionary()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()

    def of(self, store: Store) -> Link:
        """Return the link of a store, however many caches use it."""
        with self._lock:
            known = self._links.get(store)
            link = None if known is None else known()
            if link is None:
                link = Link(store.address, store.stream, names=_names, pong=PONG)
                self._links[store] = ref(link)
            return link


def _names(message: Any) -> Sequence[bytes] | None:
    return message.names if isinstance(message, Changed) else None


_links = _Links()
link_of = _links.of
