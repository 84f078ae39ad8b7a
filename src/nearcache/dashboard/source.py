"""Where a dashboard has its figures from, and whom it asks to forget."""

from typing import TYPE_CHECKING, Literal, Protocol, get_args

from nearcache.dashboard.reader import Document
from nearcache.errors import ConfigError

if TYPE_CHECKING:
    from nearcache.metrics.prices import Prices

__all__ = ["WHAT", "ProcessSource", "Source", "StoreSource", "What"]

What = Literal["key", "text", "model", "tag", "everything"]
WHAT: tuple[What, ...] = get_args(What)


class Source(Protocol):
    """What the dashboard asks for. It blocks, and raises CacheError."""

    def report(self) -> Document:
        """Return the document of ``nearcache stats --json``."""

    def explain(self, namespace: str, key: str, model: str | None) -> Document:
        """Return why a key is a hit or a miss; ``sentences`` are what people read."""

    def forget(self, namespace: str, what: What, name: str | None, model: str | None) -> str:
        """Forget, and return a sentence that says what was."""

    def close(self) -> None:
        """Ask no more."""


class StoreSource:
    """All workers of a store, or of one namespace of it.

    store: a URL, or a store object. Does no I/O before it is asked.
    prices: of what is loaded, to show what was saved in money.

    Raises: ConfigError. Thread-safe.
    """

    def __init__(
        self, store: object, *, namespace: str | None = None, prices: "Prices | None" = None
    ) -> None:
        from nearcache.engine.build import open_store
        from nearcache.options import Options

        opened, self._is_mine = open_store(store, Options(report=0))
        if opened is None:
            raise ConfigError("a dashboard needs a store: give --store, or set NEARCACHE_STORE")
        self._store = opened
        self._namespace, self._prices = namespace, prices

    def report(self) -> Document:
        """Return what ``nearcache stats --json`` prints."""
        from nearcache.metrics.report import read

        return read(self._store, self._namespace).to_dict(self._prices)

    def explain(self, namespace: str, key: str, model: str | None) -> Document:
        """Say what the store has of a key, and why a read would hit or miss."""
        from nearcache.caches.stored import key_of
        from nearcache.metrics.explain import explain

        self._check(namespace)
        if model is not None:
            return explain(self._store, namespace, text=key, model=model).to_dict()
        return explain(self._store, namespace, key_of(key)).to_dict()

    def forget(self, namespace: str, what: What, name: str | None, model: str | None) -> str:
        """Forget something in the store and every process; say what was done."""
        from nearcache.metrics.forgetting import forget

        self._check(namespace)
        if what == "everything":
            return forget(self._store, namespace, everything=True)
        if what == "text":
            return forget(self._store, namespace, text=name, model=model)
        if what == "model":
            return forget(self._store, namespace, model=name)
        if what == "tag":
            return forget(self._store, namespace, tag=name)
        return forget(self._store, namespace, key=name)

    def close(self) -> None:
        """Leave the store; one that was given as an object stays open."""
        if self._is_mine:
            self._store.close()

    def _check(self, namespace: str) -> None:
        if self._namespace is not None and namespace != self._namespace:
            raise ConfigError(f"this dashboard is of the namespace {self._namespace} only")


class ProcessSource:
    """The caches of this process alone, for one that has no store.

    Whoever has it calls ``note`` every few seconds, or has no history by the minute.
    prices: as ``StoreSource`` has them.
    """

    def __init__(self, *, prices: "Prices | None" = None) -> None:
        from nearcache.metrics.report import OfProcess

        self._process, self._prices = OfProcess(), prices
        self.note = self._process.note

    def report(self) -> Document:
        """Return the same document as ``nearcache stats --json``, of this process alone."""
        return self._process.report().to_dict(self._prices)

    def explain(self, namespace: str, key: str, model: str | None) -> Document:  # noqa: ARG002
        """Refuse: it is a store that knows. Raises: ConfigError."""
        raise ConfigError(_NO_STORE)

    def forget(
        self,
        namespace: str,  # noqa: ARG002
        what: What,  # noqa: ARG002
        name: str | None,  # noqa: ARG002
        model: str | None,  # noqa: ARG002
    ) -> str:
        """Refuse: it is a store that forgets for all. Raises: ConfigError."""
        raise ConfigError(_NO_STORE)

    def close(self) -> None:
        """Nothing is open."""


_NO_STORE = "there is no store to ask: what is cached is in this process only"
