"""dogpile.cache: regions whose values are near and far.

::

    from dogpile.cache import make_region

    import nearcache.integrations.dogpile  # registers the backend "nearcache"

    region = make_region().configure("nearcache", arguments={"store": "redis://localhost"})
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nearcache.caches.near import NearCache
from nearcache.integrations._shared import missing
from nearcache.options import Options

try:
    from dogpile.cache import register_backend
    from dogpile.cache.api import NO_VALUE, BytesBackend
except ImportError as error:
    raise missing("dogpile.cache", "dogpile", error) from error

__all__ = ["NearCacheBackend"]

_SETTINGS = ("store", "namespace", "ttl", "max_entries", "max_bytes", "policy", "options")


class NearCacheBackend(BytesBackend):
    """A dogpile backend: bytes in two tiers, as the region's serializer makes them.

    arguments: ``store``, ``namespace`` ("dogpile"), ``ttl`` (None: the region's own expiration
        alone), ``max_entries``, ``max_bytes``, ``policy``, ``options``: as NearCache takes them.
        Others are left alone, as dogpile's own backends do.

    ``region.invalidate()`` is dogpile's, of one process; ``backend.cache.clear()`` reaches all.
    dogpile's lock keeps a value from being made twice at once in one process.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        given = {name: arguments[name] for name in _SETTINGS if name in arguments}
        defaults = {"namespace": "dogpile", "ttl": None, "options": Options()}
        self.cache: NearCache[str, bytes] = NearCache(**{**defaults, **given}, codec="bytes")

    def get_serialized(self, key: str) -> Any:
        """Return the bytes of a key, or NO_VALUE."""
        return self.cache.get(key, NO_VALUE)

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        """Return the bytes of each key, or NO_VALUE: one round trip."""
        return self.cache.get_batch(list(keys), NO_VALUE)

    def set_serialized(self, key: str, value: bytes) -> None:
        """Keep the bytes of a key."""
        self.cache.put(key, value)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Keep the bytes of keys: one round trip."""
        self.cache.put_batch(mapping)

    def delete(self, key: str) -> None:
        """Forget a key, in both tiers and every process."""
        self.cache.invalidate(key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Forget keys, in both tiers and every process."""
        self.cache.invalidate_batch(list(keys))


register_backend("nearcache", __name__, "NearCacheBackend")  # type: ignore[no-untyped-call]
