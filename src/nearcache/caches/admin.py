"""The cold corner of a cache: rare questions and changes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearcache.engine.engine import Engine
from nearcache.engine.rows import RowShelf
from nearcache.keys import EmbeddingModel, content_digest
from nearcache.near.curve import Histogram, MissRatioCurve, measured
from nearcache.options import check_count

if TYPE_CHECKING:
    from nearcache.caches.explaining import Explanation
    from nearcache.caches.recording import Recording

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

    def explain(self, text: str, model: Any) -> "Explanation":
        """Say whether a text would be a hit, from which tier, and why not.

        Asks the store two or three questions; changes nothing.
        """
        from nearcache.caches.explaining import explain_text, with_near
        from nearcache.caches.stored import shown_space, views_of

        shelf, engine = self._shelf(model), self._engine
        near = self.inspect(text, model)
        view = views_of(shelf.keys.group)
        store = engine.store
        told = (
            None
            if store is None
            else explain_text(store, view[0], text, EmbeddingModel.of(model), view=view[1:])
        )
        digest = content_digest(text)
        return with_near(
            near,
            told,
            servable=near is not None and engine.current(),
            key=digest.hex(),
            name=shelf.keys.values([digest])[0].decode(),
            namespace=shown_space(view[0], view[1:]),
            kind="vector",
        )

    def record(
        self, path: str | Path, *, share: float = 0.25, most: int = 256 * 2**20
    ) -> "Recording":
        """Record which texts are asked for, for ``nearcache advise --log``; close it to end.

        share: of the texts, chosen by their hash; all requests for those are written. most: bytes
            of the file. No text is written, nor its plain hash: the hashes are salted anew each
            time. Of this namespace, whichever face it is asked by; not of its views.

        Cost: nothing while nothing is recorded; about a microsecond a text while it is. Raises:
        FileExistsError, ConfigError.
        """
        from nearcache.caches.recording import record

        check_count("most", most, least=0)
        return record(self._engine, path, share=share, most=most, settings=self._engine.settings)

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
