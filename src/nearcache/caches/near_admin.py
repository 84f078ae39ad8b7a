"""The cold corner of a cache of any values."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nearcache.engine.held import END, EPOCH, READ_AT, SIZE, is_expired
from nearcache.keys import check_key
from nearcache.near.curve import Histogram, MissRatioCurve, measured
from nearcache.options import check_count

if TYPE_CHECKING:
    from nearcache.caches.explaining import Explanation
    from nearcache.caches.values import ValueTiers

__all__ = ["NearAdmin"]


class NearAdmin:
    """What is seldom needed; reached as ``cache.admin``."""

    def __init__(self, tiers: "ValueTiers") -> None:
        self._tiers = tiers

    def resize(self, *, max_entries: int | None = None, max_bytes: int | None = None) -> None:
        """Change the near tier's budgets; what no longer fits leaves at once."""
        near = self._tiers.engine.near
        entries = near.max_entries if max_entries is None else max_entries
        size = near.max_bytes if max_bytes is None else max_bytes
        near.resize(
            check_count("max_entries", entries, least=0), check_count("max_bytes", size, least=0)
        )

    def inspect(self, key: Any) -> dict[str, object] | None:
        """Return what near knows of a key, without touching it, or None.

        ``verified_ago``: how many seconds ago it was surely what the store had. ``servable``:
        whether a get would be answered from it now.
        """
        shelf, clock = self._tiers.shelf, self._tiers.engine.clock
        key = check_key(key)
        found = shelf.near.tier.peek(shelf.near_key(key))
        if found is None:
            return None
        held, expiry, hits, size = found
        now = clock()
        end = held[END] if held[END] > 0 else expiry
        return {
            "key": shelf.keys.name(key).decode("utf-8", "backslashreplace"),
            "seconds_left": None if end == 0 else end - now,
            "bytes": size,
            "value_bytes": held[SIZE],
            "hits": hits,
            "verified_ago": max(0.0, now - max(held[EPOCH].heard, held[READ_AT])),
            "servable": shelf.servable(held, now - shelf.bound) and not is_expired(held, now),
        }

    def explain(self, key: Any, *, tags: Sequence[str] = ()) -> "Explanation":
        """Say whether a key would be a hit, from which tier, and why not.

        tags: names by which to recognise its groups. Asks the store two or three questions; changes
        nothing.
        """
        from nearcache.caches.explaining import explain_key, with_near
        from nearcache.caches.stored import shown_key, shown_space, views_of

        shelf, store = self._tiers.shelf, self._tiers.engine.store
        inner = check_key(self._inner(key))
        near = NearAdmin.inspect(self, inner)
        view = views_of(shelf.keys.groups[0])
        told = (
            None
            if store is None
            else explain_key(store, view[0], inner, view=view[1:], tags=tuple(tags))
        )
        return with_near(
            near,
            told,
            servable=near is not None and bool(near["servable"]),
            key=shown_key(inner),
            name=shelf.keys.name(inner).decode("utf-8", "backslashreplace"),
            namespace=shown_space(view[0], view[1:]),
            kind="value",
        )

    @staticmethod
    def _inner(key: Any) -> Any:
        """Return what the tiers keep a key under."""
        return key

    def entries(self) -> list[Any]:
        """Return the keys of this namespace that are near, servable or not."""
        shelf = self._tiers.shelf
        return shelf.near.keys(shelf.name)

    def miss_ratio_curve(self) -> MissRatioCurve:
        """Return what the near tier's miss ratio would be at other sizes, as of now."""
        return measured(Histogram(*self._tiers.engine.near.histogram()))

    def check(self) -> None:
        """Raise AssertionError where the cache is inconsistent."""
        self._tiers.engine.check()
