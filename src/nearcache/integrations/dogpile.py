"""dogpile.cache: regions whose values are near and far.

::

    from dogpile.cache import make_region

    import nearcache.integrations.dogpile  # registers the backend "nearcache"

    region = make_region().configure("nearcache", arguments={"store": "redis://localhost"})
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
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

_LONG = 16_000  # characters of a key; what is longer is kept under its hash
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
        self.cache: NearCache[str | tuple[str, str], bytes] = NearCache(
            **{**defaults, **given}, codec="bytes"
        )

    def get_serialized(self, key: str) -> Any:
        """Return the bytes of a key, or NO_VALUE."""
        return self.cache.get(_key(key), NO_VALUE)

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        """Return the bytes of each key, or NO_VALUE: one round trip."""
        return self.cache.get_batch(list(map(_key, keys)), NO_VALUE)

    def set_serialized(self, key: str, value: bytes) -> None:
        """Keep the bytes of a key."""
        self.cache.put(_key(key), value)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Keep the bytes of keys: one round trip."""
        self.cache.put_batch([(_key(key), value) for key, value in mapping.items()])

    def delete(self, key: str) -> None:
        """Forget a key, in both tiers and every process."""
        self.cache.invalidate(_key(key))

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Forget keys, in both tiers and every process."""
        self.cache.invalidate_batch(list(map(_key, keys)))


def _key(key: str) -> str | tuple[str, str]:
    """Return a key that may be stored: dogpile's may be empty, and of any length."""
    if 0 < len(key) <= _LONG:
        return key
    return "", sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


register_backend("nearcache", __name__, "NearCacheBackend")  # type: ignore[no-untyped-call]
