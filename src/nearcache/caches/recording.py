"""Recording what an embedding cache is asked for, on its way to the near tier.

While a log is open, the engine's near tier is this one: it notes each text of a call and asks the
real one. Who records nothing pays nothing.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nearcache.caches.key_log import SALT_BYTES, KeyLog
from nearcache.engine.engine import Engine
from nearcache.errors import ConfigError
from nearcache.keys import content_digest

__all__ = ["Recording", "record"]


def record(
    engine: Engine, path: str | Path, *, share: float, most: int, settings: dict[str, Any]
) -> "Recording":
    """Begin to record what an engine is asked for.

    Raises: ConfigError where one is being recorded already, FileExistsError.
    """
    if isinstance(engine.near, _Noted):
        msg = "this cache is being recorded already: close that log first"
        raise ConfigError(msg)
    facts = {name: settings.get(name) for name in ("policy", "ttl")}
    if not isinstance(facts["policy"], str):
        facts["policy"] = None
    facts["max_entries"] = engine.near.max_entries
    return Recording(engine, path, share=share, most=most, facts=facts)


class Recording(KeyLog):
    """A key log of an engine; ``close`` ends it, and so does the cache's end."""

    def __init__(self, engine: Engine, path: str | Path, **options: Any) -> None:
        super().__init__(path, salt=os.urandom(SALT_BYTES), **options)
        self._engine = engine
        engine.near = _Noted(engine.near, self)

    def close(self) -> None:
        """Give the cache its near tier back, write what is left, and end."""
        near = self._engine.near
        if isinstance(near, _Noted) and near.log is self:
            self._engine.near = near.near
        super().close()


class _Noted:
    """A near tier that notes what a caller's call asks for, once; all else it passes on.

    A call whose texts are not all near looks again, on its long way: of a batch what is looked for
    there is noted, and of a single text the first of two looks.
    """

    def __init__(self, near: Any, log: KeyLog) -> None:
        self.near, self.log = near, log
        self._missed = threading.local()

    def get_one(self, shelf: Any, text: str) -> Any:
        row = self.near.get_one(shelf, text)
        again = row is None and getattr(self._missed, "text", None) == (shelf, text)
        if not again:
            self._note(shelf, (text,))
        self._missed.text = (shelf, text) if row is None and not again else None
        return row

    def get_all(self, shelf: Any, texts: Sequence[str]) -> Any:
        rows = self.near.get_all(shelf, texts)
        if rows is not None:
            self._note(shelf, texts)
        return rows

    def get_some(self, shelf: Any, texts: Sequence[str], *more: Any) -> Any:
        if not more:  # with digests it is a flight that looks, for the second time
            self._note(shelf, texts)
        return self.near.get_some(shelf, texts, *more)

    def _note(self, shelf: Any, texts: Sequence[str]) -> None:
        model = repr(shelf).encode("utf-8", "backslashreplace")
        for text in texts:
            if isinstance(text, str):  # what else is refused by who checks it
                self.log.note(model + content_digest(text))

    def __len__(self) -> int:
        return len(self.near)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.near, name)
