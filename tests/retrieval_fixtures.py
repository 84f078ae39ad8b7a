"""Fixtures of the retrieval and manager tests: both faces, closed afterwards.

A module that wants them says so::

    retrieval = pytest.fixture(retrieval_caches)
"""

from collections.abc import Callable, Iterator
from typing import Any

from embedders import Face, until
from near_fixtures import linked
from nearcache.caches.retrieval import RetrievalCache
from nearcache.caches.retrieval_async import AsyncRetrievalCache

__all__ = ["commands_of", "hears", "near_hit", "retrieval_caches"]


def retrieval_caches() -> Iterator[Callable[..., Face]]:
    """Make caches that are closed afterwards: ``retrieval(face, store, **options)``."""
    made: list[Face] = []

    def make(face: str = "sync", store: Any = None, **options: Any) -> Face:
        cls = {"sync": RetrievalCache, "async": AsyncRetrievalCache}[face]
        made.append(Face(cls(store, **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def hears(*caches: Any) -> None:
    """Have each cache listen, and wait until it hears of changes."""
    linked(*(cache.as_sync()._cache for cache in caches))


def near_hit(cache: Any, *query: Any) -> None:
    """Wait until a query is answered from near, and stays so."""

    def is_hit() -> bool:
        before = cache.get_stats().near_hits
        cache.get(*query)
        return cache.get_stats().near_hits == before + 1

    until(is_hit)


def commands_of(server: Any, work: Callable[[], Any]) -> int:
    """How many commands some work sent to a server, but for the link's questions of the time."""
    server.reset_counts()
    work()
    counts = server.command_counts()
    return sum(calls for name, calls in counts.items() if name not in ("time", "ping"))
