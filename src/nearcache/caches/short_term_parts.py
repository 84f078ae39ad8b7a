"""What the faces of a short-term memory share, and the names of what it keeps."""

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import translate
from typing import Any, NamedTuple

from nearcache.caches.agents import TTLStrategy, check_name
from nearcache.caches.timings import Timings
from nearcache.caches.values import ValueTiers
from nearcache.clock import Clock, monotonic
from nearcache.engine.build import open_store
from nearcache.engine.io import IO
from nearcache.errors import ConfigError, StoreError
from nearcache.keys import ValueKeys
from nearcache.options import Options, check_count
from nearcache.stores.base import Start, Store
from nearcache.stores.memory import MemoryStore
from nearcache.stores.sqlite import SQLiteStore

__all__ = ["PaginatedResult", "Place", "ShortTermParts", "glob", "own_names", "start_of"]

log = logging.getLogger("nearcache")

Place = tuple[str, str]
"""Whose, and under what key."""

_OPERATIONS = (
    "stash",
    "stash_batch",
    "retrieve",
    "retrieve_batch",
    "update",
    "delete",
    "clear_working_memory",
    "scan_keys",
    "warm",
    "ping",
)
_GLOB = re.compile(r"[*?\[]")


class PaginatedResult(NamedTuple):
    """One page of keys.

    ``cursor`` asks for the next one while ``has_more``; a page may be empty before the last.
    ``total_scanned`` counts the keys that were compared with the pattern.
    """

    items: list[str]
    cursor: int
    has_more: bool
    total_scanned: int


class ShortTermParts:
    """The tiers of a short-term memory, its counts, and what it was made with."""

    def __init__(self, arguments: dict[str, Any], *, clock: Clock = monotonic) -> None:
        self.arguments = arguments
        options, enabled = arguments["options"], arguments["local_cache_enabled"]
        if not isinstance(options, Options):
            msg = f"options is an Options object, not {options!r}"
            raise ConfigError(msg)
        if not isinstance(enabled, bool):
            msg = f"local_cache_enabled is True or False, not {enabled!r}"
            raise ConfigError(msg)
        size = check_count("local_cache_size", arguments["local_cache_size"], least=0)
        store, ours = _store_of_record(arguments["store"], options)
        self.tiers = ValueTiers(
            {
                "store": store,
                "namespace": arguments["namespace"],
                "codec": "json",
                "type": None,
                "max_entries": size if enabled else 0,
                "max_bytes": None,
                # of an update that finds nothing and names no life; whoever stashes does
                "ttl": float(TTLStrategy.WORKING_RESULTS),
                "policy": "lru",
                "options": replace(options, on_store_error="raise"),
                "record": True,
            },
            clock=clock,
        )
        self.tiers.owns_store = ours
        self.tiers.serve("ShortTermMemory")
        self.timings = Timings(_OPERATIONS)
        self.start_anew()
        self.tiers.engine.after_fork += [self.timings.start_anew, self.start_anew]
        self._asked = self.looked = False

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    def travelling(self) -> dict[str, Any]:
        """Return the arguments to make the memory again with, in another process too."""
        if self.arguments["store"] is None:
            msg = "a ShortTermMemory without a store keeps all in this process: give it a URL"
            raise TypeError(msg)
        return self.arguments

    def near(self, places: Sequence[Place]) -> int:
        """Return how many of these are near."""
        tier, shelf = self.tiers.engine.near.tier, self.tiers.shelf
        return sum(tier.peek(shelf.near_key(place)) is not None for place in places)

    def local_cache_stats(self) -> dict[str, Any]:
        """Return what the near tier did for those who retrieve."""
        near, stats = self.tiers.engine.near, self.tiers.stats()
        enabled = near.max_entries > 0
        hits = stats.near_hits
        misses = stats.far_hits + stats.misses + stats.coalesced if enabled else 0
        return {
            "enabled": enabled,
            "size": len(near),
            "max_size": near.max_entries,
            "hits": hits,
            "misses": misses,
            "hit_rate": 100.0 * hits / (hits + misses) if hits + misses else 0.0,
            "total_requests": hits + misses,
        }

    def written(self, io: IO) -> None:
        """After the first write find out, aside, whether the store may drop what it was given."""
        with self._lock:
            asked, self._asked = self._asked, True
        if not asked:
            io.background(self._look_at_policy)

    async def _look_at_policy(self, io: IO) -> None:
        store: Any = self.tiers.engine.store
        try:
            if not self.tiers.engine.closed and await io.store(_may_evict, store):
                log.warning(
                    "%s drops values when it is full: a short-term memory may lose what it was"
                    " given; take the limit away (Redis: maxmemory-policy noeviction)",
                    store.address,
                )
        except StoreError:
            log.debug("%s does not say whether it drops values", store.address)
        finally:
            self.looked = True


def _may_evict(store: Any) -> bool:
    return hasattr(store, "may_evict") and store.may_evict()


def _store_of_record(where: object, options: Options) -> tuple[Store | None, bool]:
    """Return a store that evicts nothing unless it was told to, and whether it is ours."""
    if where is None:
        return MemoryStore(), True
    store, ours = open_store(where, replace(options, on_store_error="raise"))
    if ours and isinstance(store, SQLiteStore) and "max_bytes" not in str(where).partition("?")[2]:
        return store.unlimited(), True
    return store, ours


# -- names -----------------------------------------------------------------------------------------


def start_of(keys: ValueKeys, agent_id: str, pattern: str = "*") -> Start:
    """Return how the stored names of an agent's keys begin, those that a glob matches at least."""
    found = _GLOB.search(pattern)
    literal = pattern[: found.start()] if found else pattern
    space = b"nc1:{%b:" % keys.space
    return space, keys.name((agent_id, literal))[len(space) + 2 : -1]


def own_names(keys: ValueKeys, agent_id: str, names: Sequence[bytes]) -> list[str]:
    """Return the keys of an agent that some stored names were made of."""
    found = map(keys.key, names)
    return [key[1] for key in found if isinstance(key, tuple) and key[:-1] == (agent_id,)]  # type: ignore[misc]


def glob(pattern: object) -> re.Pattern[str]:
    """Return what matches a glob as ``fnmatch.fnmatchcase`` does: ``* ? [seq] [!seq]``."""
    return re.compile(translate(check_name("pattern", pattern)))
