"""The cold corner of a cache of memories."""

from nearcache.caches.memory_key import MemoryKey, inner_key
from nearcache.caches.near_admin import NearAdmin

__all__ = ["HotAdmin"]


class HotAdmin(NearAdmin):
    """What is seldom needed; reached as ``cache.admin``."""

    def inspect(self, key: MemoryKey) -> dict[str, object] | None:
        """Return what near knows of a memory, without touching it, or None."""
        return super().inspect(inner_key(key))

    @staticmethod
    def _inner(key: MemoryKey) -> tuple[str, ...]:
        return inner_key(key)

    def entries(self) -> list[MemoryKey]:
        """Return the keys of this namespace that are near, servable or not."""
        return [MemoryKey.of(inner) for inner in super().entries()]
