"""The short-term memory of agents, for asynchronous programs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nearcache.caches.agents import (
    SHARED,
    AccessTier,
    AgentCredentials,
    TTLStrategy,
    check_name,
    require,
)
from nearcache.caches.checks import Ttl, check_pairs
from nearcache.caches.inner import ask_store, io_of, near_face, near_value_of
from nearcache.caches.near_async import AsyncNearCache
from nearcache.caches.short_term_parts import (
    PaginatedResult,
    Place,
    ShortTermParts,
    glob,
    own_names,
    start_of,
)
from nearcache.caches.tiers import describe, remake
from nearcache.entry import MISSING
from nearcache.errors import ConfigError, StoreError
from nearcache.options import Options, check_count, check_ttl
from nearcache.stats import Stats

if TYPE_CHECKING:
    from nearcache.caches.short_term import ShortTermMemory  # swapped

__all__ = ["AsyncShortTermMemory"]

_PAGE = 1000  # names looked at by one question to the store
_ROUNDS = 10  # questions that one page of keys may take
_LAST_CURSOR = 2**64


class AsyncShortTermMemory:
    """What agents keep for a while and share, for asynchronous programs: it loses nothing unsaid.

    A *system of record*, not only a cache. Its store keeps every value until its life ends or it is
    deleted; near copies in this process make what is read again cost nothing. A store that fails
    raises StoreError; a write that failed was made or was not, and lost nothing.

    store: None keeps all in this process, and evicts nothing; a URL (``sqlite:///file.db`` evicts
        nothing either unless the URL has a max_bytes; a Redis server should have the policy
        noeviction, which is looked at once and logged); or a store object, with its own limits.
    namespace: programs that share a server choose different ones.
    local_cache_enabled, local_cache_size: whether copies are kept near, and how many at most.

    An agent's keys are its own, whatever characters they hold; other agents may read them, and
    update them if they are trusted to::

        retrieve, scan_keys            OBSERVER       other agents' keys: OBSERVER
        stash, delete, clear           CONTRIBUTOR    never
        update                         CONTRIBUTOR    VALIDATOR; of the agent "shared": CONTRIBUTOR

    A refusal is a PermissionError that names the tier. Values are what JSON takes; anything else is
    a CodecError before anything is written. Thread-safe.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "stm",
        local_cache_enabled: bool = True,
        local_cache_size: int = 500,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        self._set(
            ShortTermParts(
                {
                    "store": store,
                    "namespace": namespace,
                    "local_cache_enabled": local_cache_enabled,
                    "local_cache_size": local_cache_size,
                    "options": options,
                }
            )
        )

    def _set(self, parts: ShortTermParts) -> None:
        self._parts = parts
        self._cache: AsyncNearCache[Place, Any] = near_face(AsyncNearCache, parts.tiers)
        self._near_value = near_value_of(self._cache)
        self._timed = parts.timings.timed
        self._retrieved = parts.timings.of("retrieve").note

    @classmethod
    def _face(cls, parts: ShortTermParts) -> "AsyncShortTermMemory":
        face = cls.__new__(cls)
        face._set(parts)
        return face

    def as_sync(self) -> "ShortTermMemory":  # swapped
        """Return the blocking face of this same memory."""
        from nearcache.caches.short_term import ShortTermMemory

        return ShortTermMemory._face(self._parts)

    def as_async(self) -> "AsyncShortTermMemory":  # swapped
        """Return this memory."""
        return self

    # -- write -------------------------------------------------------------------------------

    async def stash(
        self,
        key: str,
        data: Any,
        credentials: AgentCredentials,
        ttl: float | None = TTLStrategy.WORKING_RESULTS,
    ) -> bool:
        """Keep a value under a key of the agent's own; say whether it is kept.

        ttl: seconds; None keeps it until it is deleted, 0 keeps nothing, nor what was there.
        """
        with self._timed("stash"):
            agent = require(credentials, AccessTier.CONTRIBUTOR, "stash").agent_id
            life = check_ttl(ttl)
            await self._cache.put((agent, check_name("key", key)), data, life)
            self._written()
            return life != 0

    async def stash_batch(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        credentials: AgentCredentials,
        ttl: float | None = TTLStrategy.WORKING_RESULTS,
    ) -> int:
        """Keep values under keys of the agent's own, all or none; return how many are kept.

        Of a key given twice the last value stands.
        """
        with self._timed("stash_batch"):
            agent = require(credentials, AccessTier.CONTRIBUTOR, "stash").agent_id
            life = check_ttl(ttl)
            pairs = check_pairs(items)
            values = {(agent, check_name("key", key)): value for key, value in pairs}
            await self._cache.put_batch(values, life)
            self._written()
            return 0 if life == 0 else len(values)

    async def update(
        self,
        key: str,
        fn: Callable[[Any], Any],
        credentials: AgentCredentials,
        agent_id: str | None = None,
        ttl: Ttl = ...,
    ) -> Any:
        """Put ``fn(value)`` in the place of a value, and return it; of several agents none is lost.

        Compare-and-set on the version of the value: when another writer was faster, ``fn`` runs
        again on what that one wrote. It is given None where there is nothing, and returns MISSING
        to leave things as they are. What it raises passes unchanged.

        agent_id: whose key it is, if it is not the agent's own.
        ttl: seconds from now on; without it the value keeps its end, and a new one has the seconds
            of WORKING_RESULTS.
        """
        with self._timed("update"):
            place = self._place(key, credentials, agent_id)
            _may_update(credentials, place[0])
            if not callable(fn):
                msg = f"fn is called with the value that is there; {fn!r} cannot be called"
                raise ConfigError(msg)
            value = await self._cache.update(place, fn, ttl)
            self._written()
            return value

    def _written(self) -> None:
        self._parts.written(io_of(self._cache))

    async def delete(self, key: str, credentials: AgentCredentials) -> bool:
        """Delete a key of the agent's own; say whether there was one."""
        with self._timed("delete"):
            agent = require(credentials, AccessTier.CONTRIBUTOR, "delete").agent_id
            return await self._cache.invalidate((agent, check_name("key", key)))

    async def clear_working_memory(self, credentials: AgentCredentials) -> int:
        """Delete all keys of the agent's own; return how many there were.

        What is stashed meanwhile may stay. Cost: the store is looked through once.
        """
        with self._timed("clear_working_memory"):
            agent = require(credentials, AccessTier.CONTRIBUTOR, "clear").agent_id
            keys = self._parts.tiers.shelf.keys
            start, cursor, deleted = start_of(keys, agent), 0, 0
            while True:
                cursor, names = await ask_store(self._cache, "scan", start, cursor, _PAGE)
                places = [(agent, key) for key in own_names(keys, agent, names)]
                deleted += await self._cache.invalidate_batch(places)
                if not cursor:
                    return deleted

    # -- read --------------------------------------------------------------------------------

    async def retrieve(
        self, key: str, credentials: AgentCredentials, agent_id: str | None = None
    ) -> Any:
        """Return the value of a key, or None: the agent's own, or ``agent_id``'s.

        Raises: StoreError when no copy is near and the store does not answer.
        """
        started = perf_counter()
        # the warm path; whatever is odd is looked at by the other one
        if type(credentials) is AgentCredentials and type(key) is str:
            owner = credentials.agent_id if agent_id is None else agent_id
            if type(owner) is str:
                value = self._near_value((owner, key))
                if value is not MISSING:
                    self._retrieved(started)
                    return value
        with self._timed("retrieve"):
            return await self._cache.get(self._place(key, credentials, agent_id))

    async def retrieve_batch(
        self, keys: Sequence[str], credentials: AgentCredentials, agent_id: str | None = None
    ) -> dict[str, Any]:
        """Return the values of those keys that there are, in the order asked for."""
        with self._timed("retrieve_batch"):
            asked = self._places(keys, credentials, agent_id)
            values = await self._cache.get_batch(asked, MISSING)
            pairs = zip(asked, values, strict=True)
            return {key: value for (_, key), value in pairs if value is not MISSING}

    async def warm(self, keys: Sequence[str], credentials: AgentCredentials) -> int:
        """Read keys of the agent's own, to have them near; return how many are afterwards."""
        with self._timed("warm"):
            places = self._places(keys, credentials, None)
            await self._cache.get_batch(places)
            return self._parts.near(places)

    async def scan_keys(
        self,
        credentials: AgentCredentials,
        pattern: str = "*",
        cursor: int = 0,
        count: int = 100,
        agent_id: str | None = None,
    ) -> PaginatedResult:
        """Return about ``count`` keys that a glob matches: the agent's own, or ``agent_id``'s.

        pattern: as of ``fnmatch.fnmatchcase``; "[*]" is a star.
        cursor: 0, or that of the page before. A key that stands all the while is on some page, and
            perhaps on two.
        """
        with self._timed("scan_keys"):
            owner, matching = self._owner(credentials, agent_id), glob(pattern)
            count = check_count("count", count, least=1)
            if check_count("cursor", cursor, least=0) >= _LAST_CURSOR:
                msg = f"cursor is 0 or that of the page before, not {cursor!r}"
                raise ConfigError(msg)
            keys = self._parts.tiers.shelf.keys
            start = start_of(keys, owner, pattern)
            found: dict[str, None] = {}
            scanned = 0
            for _ in range(_ROUNDS):
                left = count - len(found)
                cursor, names = await ask_store(self._cache, "scan", start, cursor, left)
                mine = own_names(keys, owner, names)
                scanned += len(mine)
                found.update(dict.fromkeys(filter(matching.match, mine)))
                if not cursor or len(found) >= count:
                    break
            return PaginatedResult(list(found), cursor, cursor != 0, scanned)

    @staticmethod
    def _owner(credentials: AgentCredentials, agent_id: str | None) -> str:
        mine = require(credentials, AccessTier.OBSERVER, "retrieve").agent_id
        return mine if agent_id is None else check_name("agent_id", agent_id)

    def _place(self, key: str, credentials: AgentCredentials, agent_id: str | None) -> Place:
        return self._owner(credentials, agent_id), check_name("key", key)

    def _places(
        self, keys: Sequence[str], credentials: AgentCredentials, agent_id: str | None
    ) -> list[Place]:
        owner = self._owner(credentials, agent_id)
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
            msg = f"keys is a list of str, not {type(keys).__name__}; give [key]"
            raise ConfigError(msg)
        return list(dict.fromkeys((owner, check_name("key", key)) for key in keys))

    # -- the local cache, and counts ---------------------------------------------------------

    def clear_local_cache(self) -> int:
        """Drop the copies that are near; return how many. The store keeps what it has."""
        tiers = self._parts.tiers
        tiers.engine.check_open()
        return tiers.engine.drop_shelves([tiers.shelf])

    def get_local_cache_stats(self) -> dict[str, Any]:
        """Return what is near and how often it answered; ``hit_rate`` is from 0 to 100."""
        return self._parts.local_cache_stats()

    def get_stats(self) -> Stats:
        """Return what happened so far; a snapshot."""
        return self._cache.get_stats()

    def reset_stats(self) -> None:
        """Count hits and misses from zero again."""
        self._cache.reset_stats()

    def get_metrics(self) -> dict[str, Any]:
        """Return how many calls there were of each operation, how many failed, and how long.

        Units: milliseconds; percentiles are of the latest 512 calls.
        """
        operations = self._parts.timings.figures()
        return {
            "operations_total": sum(one["count"] for one in operations.values()),
            "operations_failed": sum(one["errors"] for one in operations.values()),
            "by_operation": operations,
        }

    def reset_metrics(self) -> None:
        """Count calls from zero again."""
        self._parts.timings.reset()

    # -- the rest ----------------------------------------------------------------------------

    async def ping(self) -> bool:
        """Say whether the store answers."""
        with self._timed("ping"):
            try:
                await ask_store(self._cache, "fetch", [], [])
            except StoreError:
                return False
            return True

    async def close(self) -> None:
        """End: leave the link, close the store if this memory made it. May be called again.

        Without a store, what it kept is gone.
        """
        await self._cache.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return describe(self, self._parts.tiers)

    def __reduce__(self) -> tuple[object, ...]:
        return remake, (type(self), self._parts.travelling())


def _may_update(credentials: AgentCredentials, agent_id: str) -> None:
    mine = require(credentials, AccessTier.OBSERVER, "update").agent_id
    if agent_id in (mine, SHARED):
        require(credentials, AccessTier.CONTRIBUTOR, "update")
    else:
        require(credentials, AccessTier.VALIDATOR, "update another agent's key")
