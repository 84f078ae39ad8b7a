"""py-key-value: a store of its asynchronous interface, for what is built on that (FastMCP …)."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from nearcache.caches.agents import AccessTier, AgentCredentials
from nearcache.caches.short_term import ShortTermMemory
from nearcache.integrations._shared import missing
from nearcache.options import Options

try:
    from key_value.aio._utils.managed_entry import ManagedEntry
    from key_value.aio.stores.base import BaseContextManagerStore, BaseEnumerateKeysStore
except ImportError as error:
    raise missing("py-key-value-aio", "key_value", error) from error

__all__ = ["NearCacheStore"]

_PAGE = 1000  # keys looked for by one question to the store


class NearCacheStore(BaseEnumerateKeysStore, BaseContextManagerStore):
    """A store for py-key-value, near and far.

    A *system of record*: what is put stays until its ttl ends or it is deleted, and a store that
    fails raises StoreError. What is read again comes from copies in this process, which other
    processes' writes reach (docs/concepts/coherence.md).

    store: None keeps all in this process; a URL (``sqlite:///file.db``, ``redis://…``), or a store
        object. A Redis server should have the policy noeviction.
    namespace: programs that share a server choose different ones.
    local_cache_size: most copies near.

    Collections are apart, whatever characters their names and keys hold. Serves several event
    loops.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "key-value",
        local_cache_size: int = 2000,
        options: Options = Options(),  # noqa: B008  frozen
        default_collection: str | None = None,
        **given: Any,
    ) -> None:
        self._memory = ShortTermMemory(
            store, namespace=namespace, local_cache_size=local_cache_size, options=options
        ).as_async()
        super().__init__(default_collection=default_collection, stable_api=True, **given)

    async def _setup(self) -> None:
        self._exit_stack.push_async_callback(self._memory.close)

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        found = await self._memory.retrieve(key, _owner(collection))
        return self._entry(found)

    async def _get_managed_entries(
        self, *, collection: str, keys: Sequence[str]
    ) -> list[ManagedEntry | None]:
        found = await self._memory.retrieve_batch(list(keys), _owner(collection))
        return [self._entry(found.get(key)) for key in keys]

    def _entry(self, kept: str | None) -> ManagedEntry | None:
        return None if kept is None else self._serialization_adapter.load_json(json_str=kept)

    async def _put_managed_entry(
        self, *, collection: str, key: str, managed_entry: ManagedEntry
    ) -> None:
        kept = self._serialization_adapter.dump_json(entry=managed_entry)
        await self._memory.stash(key, kept, _owner(collection), _life(managed_entry.ttl))

    async def _put_managed_entries(
        self,
        *,
        collection: str,
        keys: Sequence[str],
        managed_entries: Sequence[ManagedEntry],
        ttl: float | None,
        created_at: datetime,  # noqa: ARG002  each entry has it
        expires_at: datetime | None,  # noqa: ARG002
    ) -> None:
        dump = self._serialization_adapter.dump_json
        kept = [(key, dump(entry=one)) for key, one in zip(keys, managed_entries, strict=True)]
        await self._memory.stash_batch(kept, _owner(collection), _life(ttl))

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await self._memory.delete(key, _owner(collection))

    async def _get_collection_keys(self, *, collection: str, limit: int | None = None) -> list[str]:
        owner, found, cursor, more = _owner(collection), dict[str, None](), 0, True
        while more and (limit is None or len(found) < limit):
            keys, cursor, more, _ = await self._memory.scan_keys(owner, cursor=cursor, count=_PAGE)
            found.update(dict.fromkeys(keys))
        return list(islice(found, limit))


def _owner(collection: str) -> AgentCredentials:
    """Return who may do everything with a collection's keys, and nothing with another's."""
    return AgentCredentials(collection, AccessTier.STEWARD)


def _life(ttl: float | None) -> float | None:
    """Return a ttl that may have ended a moment ago."""
    return None if ttl is None else max(0.0, ttl)
