"""The cold corner of a cache: rare questions and changes."""

from collections.abc import Callable
from typing import Any

from nearcache.engine.engine import Engine
from nearcache.engine.rows import RowShelf
from nearcache.keys import content_digest
from nearcache.near.curve import Histogram, MissRatioCurve, measured
from nearcache.options import check_count

__all__ = ["Admin"]


class Admin:
    """What is seldom needed; reached as ``cache.admin``."""

    def __init__(self, engine: Engine, shelf: Callable[[Any], RowShelf]) -> None:
        self._engine = engine
        self._shelf = shelf

    def resize(self, *, max_entries: int | None = None, max_bytes: int | None = None) -> None:
        """Change the near tier's budgets; what no longer fits leaves at once."""
        near = self._engine.near
        entries = near.max_entries if max_entries is None else max_entries
        size = near.max_bytes if max_bytes is None else max_bytes
        near.resize(
            check_count("max_entries", entries, least=0), check_count("max_bytes", size, least=0)
        )

    def inspect(self, text: str, model: Any) -> dict[str, object] | None:
        """Return what near knows of a text, without touching it, or None."""
        digest, shelf = content_digest(text), self._shelf(model)
        found = self._engine.near.peek(shelf.name, digest)
        if found is None:
            return None
        expiry, size = found
        left = None if expiry == 0 else expiry - self._engine.clock()
        return {
            "content_hash": digest.hex(),
            "key": shelf.keys.values([digest])[0].decode(),
            "seconds_left": left,
            "bytes": size,
        }

    def entries(self) -> list[tuple[str, str]]:
        """Return (model, content hash) of every near entry of this namespace."""
        labels = {shelf.name: shelf.label for shelf in self._engine.shelves()}
        return [
            (labels[shelf], digest)
            for shelf, digest in self._engine.near.listing()
            if shelf in labels
        ]

    def miss_ratio_curve(self) -> MissRatioCurve:
        """Return what the near tier's miss ratio would be at other sizes, as of now.

        Estimated, for LRU, from a sample of the texts that were asked for; views and models of one
        cache share the tier, and so the curve. Cost: about a millisecond; keeping it, under 1 % of
        a warm batch. Error: within 0.02 on average (bench/results/near.curve.md).
        """
        return measured(Histogram(*self._engine.near.histogram()))

    def check(self) -> None:
        """Raise AssertionError where the cache is inconsistent."""
        self._engine.check()
