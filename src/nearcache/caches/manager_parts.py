"""What both faces of a manager share: its caches, its store, its clean-up."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.hot import HotMemoryCache
from nearcache.caches.manager_stats import ManagerStats
from nearcache.caches.retrieval import RetrievalCache
from nearcache.caches.schedule import Schedule
from nearcache.caches.tiers import OF_WHAT_CHANGES
from nearcache.engine.build import open_store
from nearcache.errors import ClosedError, ConfigError
from nearcache.options import Options

__all__ = ["ManagerParts", "remake"]

C = TypeVar("C")


class ManagerParts:
    """The caches of a manager, in their blocking faces, and who closes what.

    ``origin``: the arguments of ``from_url``, for a manager that was made so; it closes its caches,
    and its store if it made that too. A manager closes nothing that it was given.
    """

    def __init__(
        self,
        hot: object,
        embeddings: object,
        retrieval: object,
        cleanup_interval: object,
        *,
        origin: dict[str, Any] | None = None,
        close_store: Callable[[], None] | None = None,
    ) -> None:
        self.hot: HotMemoryCache[Any] | None = blocking("hot", hot, HotMemoryCache)
        self.embeddings = blocking("embeddings", embeddings, EmbeddingCache)
        self.retrieval = blocking("retrieval", retrieval, RetrievalCache)
        self.schedule = Schedule(cleanup_interval, self.clean)
        self.last_cleanup: float | None = None
        self.closed = False
        self.origin = origin
        self._close_store = close_store

    @classmethod
    def from_url(
        cls, url: object, namespace: str, cleanup_interval: object, options: Options
    ) -> "ManagerParts":
        """Make the three caches over one store object."""
        if not isinstance(namespace, str):
            msg = f"a namespace is a str, not {namespace!r}"
            raise ConfigError(msg)
        if not isinstance(options, Options):
            msg = f"options is an Options object, not {options!r}"
            raise ConfigError(msg)
        store, ours = open_store(url, options)
        plain = Options()  # a vector never changes, so there is nothing to freshen
        vectors = replace(options, **{name: getattr(plain, name) for name in OF_WHAT_CHANGES})
        within = f"{namespace}:" if namespace else ""
        return cls(
            HotMemoryCache(store, namespace=f"{within}hot", options=options),
            EmbeddingCache(store, namespace=f"{within}emb", options=vectors),
            RetrievalCache(store, namespace=f"{within}retrieval", options=options),
            cleanup_interval,
            origin={
                "url": url,
                "namespace": namespace,
                "cleanup_interval": cleanup_interval,
                "options": options,
            },
            close_store=store.close if ours and store is not None else None,
        )

    @property
    def _caches(self) -> list[Any]:
        return [one for one in (self.hot, self.embeddings, self.retrieval) if one is not None]

    def clean(self) -> int:
        """Drop what has expired from every cache; return how many entries left near.

        A cache that fails does not keep the others from it; the first error is raised afterwards.
        """
        dropped, failed = 0, list[Exception]()
        for cache in self._caches:
            try:
                dropped += cache.cleanup_expired()
            except Exception as error:  # noqa: BLE001  raised below
                failed.append(error)
        if failed:
            raise failed[0]
        self.last_cleanup = time.time()
        return dropped

    def reset_stats(self) -> None:
        """Let every cache count from zero again."""
        for cache in self._caches:
            cache.reset_stats()

    def close(self) -> None:
        """Stop the clean-up; close what was made here, the store last."""
        self.closed = True
        self.schedule.stop()
        if self.origin is not None:
            for cache in self._caches:
                cache.close()
        if self._close_store is not None:
            self._close_store()

    def start(self) -> None:
        """Begin to clean up now and then."""
        if self.closed:
            msg = "this manager is closed; make a new one"
            raise ClosedError(msg)
        self.schedule.start()

    def describe(self) -> str:
        """Return its caches as they describe themselves, without secrets."""
        return ", ".join(map(repr, self._caches))

    def travelling(self) -> dict[str, Any]:
        """Return the arguments to make such a manager with, in another process too."""
        if self.origin is not None:
            return self.origin
        return {
            "hot": self.hot,
            "embeddings": self.embeddings,
            "retrieval": self.retrieval,
            "cleanup_interval": self.schedule.interval,
        }

    def stats(self) -> ManagerStats:
        """Return what the caches did so far."""
        named = {
            "hot": self.hot,
            "embeddings": self.embeddings,
            "retrieval": self.retrieval,
        }
        counts = {name: cache.get_stats() for name, cache in named.items() if cache is not None}
        return ManagerStats(**counts, last_cleanup=self.last_cleanup)


def blocking(name: str, cache: Any, kind: type[C]) -> C | None:
    """Return the blocking face of a cache that was given in either; None where there is none."""
    has_faces = hasattr(cache, "as_sync") and not isinstance(cache, type)
    face = cache.as_sync() if has_faces else cache
    if face is None or isinstance(face, kind):
        return face
    msg = f"{name} is a {kind.__name__}, in either face, or None; not {cache!r}"
    raise ConfigError(msg)


def remake(kind: Any, arguments: dict[str, Any]) -> Any:
    """Return a manager made with the arguments of another."""
    return kind.from_url(**arguments) if "url" in arguments else kind(**arguments)
