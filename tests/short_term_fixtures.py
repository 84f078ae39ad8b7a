"""Fixtures of the tests of ShortTermMemory: both faces, every kind of store, a few agents.

A module that wants memories closed after each test says so::

    memory = pytest.fixture(memories)
"""

from collections.abc import Callable, Iterator
from typing import Any

from embedders import Face, until
from near_fixtures import linked, settled
from nearcache import Options
from nearcache.caches.agents import SHARED, AccessTier, AgentCredentials
from nearcache.caches.short_term import ShortTermMemory
from nearcache.caches.short_term_async import AsyncShortTermMemory
from nearcache.caches.short_term_parts import ShortTermParts

__all__ = [
    "ANN",
    "BOB",
    "EVE",
    "OBSERVER",
    "SHARED",
    "STEWARD",
    "agent",
    "hears",
    "is_near",
    "memories",
    "memory_with_clock",
]


def agent(name: str, tier: AccessTier = AccessTier.CONTRIBUTOR) -> AgentCredentials:
    return AgentCredentials(name, tier)


ANN, BOB = agent("ann"), agent("bob")
EVE = agent("eve", AccessTier.VALIDATOR)
STEWARD = agent("zoe", AccessTier.STEWARD)
OBSERVER = agent("ann", AccessTier.OBSERVER)


def memories() -> Iterator[Callable[..., Face]]:
    """Make memories that are closed afterwards: ``memory(face, store, **options)``."""
    made: list[Face] = []

    def make(face: str = "sync", store: Any = None, **options: Any) -> Face:
        cls = {"sync": ShortTermMemory, "async": AsyncShortTermMemory}[face]
        made.append(Face(cls(store, **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def memory_with_clock(clock: Callable[[], float], store: Any, face: str = "sync") -> Face:
    """A memory whose near tier lives by ``clock``."""
    arguments = {
        "store": store,
        "namespace": "stm",
        "local_cache_enabled": True,
        "local_cache_size": 500,
        "options": Options(),
    }
    memory = ShortTermMemory._face(ShortTermParts(arguments, clock=clock))
    return Face(memory if face == "sync" else memory.as_async())


def hears(*memories: Face) -> None:
    """Have each memory listen, and wait until it hears of changes; nothing is counted yet."""
    for one in memories:
        one.stash("begun", 1, agent("nobody"))
        linked(one.as_sync()._cache)
        one.clear_working_memory(agent("nobody"))
        one.clear_local_cache()
        one.reset_stats()
        one.reset_metrics()


def is_near(memory: Face, key: str, credentials: AgentCredentials = ANN) -> None:
    """Wait until a key is near and stays so: the echo of its write has come and been looked at."""
    cache = memory.as_sync()._cache
    place, shelf = (credentials.agent_id, key), cache._tiers.shelf

    def rests() -> bool:
        lookout, name = shelf.tracked.lookout, shelf.keys.name(place)
        return name not in lookout.echoes and name not in lookout.waiting

    if shelf.tracked is not None:
        until(rests)
    settled(cache, place)
