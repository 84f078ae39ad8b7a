"""What the faces of a cache share."""

import threading
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearcache.caches.checks import Model
from nearcache.clock import Clock, monotonic
from nearcache.codecs.base import by_name as codec_of
from nearcache.codecs.signing import signer_of
from nearcache.codecs.vectors import by_name
from nearcache.engine.build import open_store
from nearcache.engine.engine import Engine
from nearcache.engine.io import IO, AsyncIO
from nearcache.engine.logged import Logged
from nearcache.engine.rows import ABSENT, FAR, JOINED, LOADED, NEAR, RowBatch, RowShelf
from nearcache.errors import ConfigError
from nearcache.keys import EmbeddingModel, KeySpace, ModelKeys
from nearcache.near.pick import VectorTier, vector_tier
from nearcache.near.policies.base import NAMES
from nearcache.options import Options, check_count, check_ttl

__all__ = ["OF_WHAT_CHANGES", "RowTiers", "Tiers", "describe", "remake", "travelling"]

OF_WHAT_CHANGES = (
    "stale_while_revalidate",
    "fail_safe",
    "negative_ttl",
    "sliding",
    "early_refresh",
    "loader_soft_timeout",
    "loader_timeout",
)

_POLICY_METHODS = (
    "reserve",
    "insert",
    "touch",
    "touch_many",
    "remove",
    "evict",
    "move",
    "clear",
    "rebuild",
    "__len__",
)


class Tiers:
    """What both faces of any cache share: near tier, store and engine of a namespace, its views.

    Each kind of cache says how its near tier and its engine are made.
    """

    engine: Engine
    kind = ""
    """What a report calls the cache: the class that a user has made."""

    def __init__(self, arguments: dict[str, Any], *, clock: Clock = monotonic) -> None:
        self.arguments = arguments
        options = arguments["options"]
        if not isinstance(options, Options):
            msg = f"options is an Options object, not {options!r}"
            raise ConfigError(msg)
        self._check_options(options)
        _check_policy(arguments["policy"])
        self.ttl = check_ttl(arguments["ttl"])
        if self.ttl == 0:
            msg = "ttl=0 would store nothing; give seconds, or None for no limit"
            raise ConfigError(msg)
        self.space = KeySpace(arguments["namespace"])
        near = self._near(arguments, clock)
        store, self.owns_store = open_store(arguments["store"], options)
        self.is_view = False
        self._begin(near, store, options, clock)

    def _check_options(self, options: Options) -> None:
        """Refuse options that this kind of cache has no use for."""

    def _near(self, arguments: dict[str, Any], clock: Clock) -> Any:
        """Make the near tier."""
        raise NotImplementedError  # each kind of cache has its own

    def _engine(self, near: Any, store: Any, options: Options, clock: Clock) -> Engine:
        """Make the engine of ``self.space``."""
        raise NotImplementedError  # each kind of cache has its own

    def _begin(self, near: Any, store: Any, options: Options, clock: Clock) -> None:
        self.engine = self._engine(near, store, options, clock)
        self.serve(self.kind)
        self.async_io = AsyncIO()
        self.start_anew()
        self.engine.after_fork += [self.start_anew, self.async_io.start_anew]
        self.views: dict[str, Self] = {}

    def serve(self, kind: str) -> None:
        """Be the tiers of this kind of cache, in reports too."""
        self.kind = self.engine.kind = kind
        self.engine.namespace = str(self.arguments["namespace"])
        self.engine.view = "/".join(self.arguments.get("views", ()))
        self.engine.settings = {name: self.arguments.get(name) for name in ("policy", "ttl")}

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    def view(self, part: str) -> Self:
        """Return the same tiers under a sub-namespace."""
        self.space.inside(part)  # refuses what names none
        with self._lock:
            inner = self.views.get(part)
            if inner is None:
                inner = self.views[part] = self._view(part)
            return inner

    def with_views(self) -> "list[Tiers]":
        """Return these tiers and those of all views."""
        return [self, *(one for view in list(self.views.values()) for one in view.with_views())]

    async def close(self, io: IO) -> None:
        """End the engines, and the store if it is ours; a view does nothing.

        It lives as long as the cache it is a view of.
        """
        if self.is_view:
            return
        for one in self.with_views():
            await one.engine.close(io)
        if self.owns_store and self.engine.store is not None:
            await io.store(self.engine.store.close)
        for one in self.with_views():
            one.async_io.close()

    def _view(self, part: str) -> Self:
        inner = copy(self)
        inner.arguments = {**self.arguments, "views": (*self.arguments.get("views", ()), part)}
        inner.space, inner.owns_store, inner.is_view = self.space.inside(part), False, True
        engine = self.engine
        inner._begin(engine.near, engine.store, engine.options, engine.clock)
        return inner


class RowTiers(Tiers):
    """The tiers of an embedding cache, and the models seen so far."""

    kind = "EmbeddingCache"

    def _check_options(self, options: Options) -> None:
        plain = Options()
        for name in OF_WHAT_CHANGES:
            if getattr(options, name) != getattr(plain, name):
                msg = (
                    f"{name} is for values that change; a vector never does: leave it out, and "
                    "give ttl=None to keep vectors until they are evicted"
                )
                raise ConfigError(msg)

    def _near(self, arguments: dict[str, Any], clock: Clock) -> VectorTier:
        self.precision = by_name(arguments["precision"])
        return vector_tier(
            policy=arguments["policy"],
            dtype=self.precision.dtype,
            scaled=self.precision.scaled,
            max_entries=check_count("max_entries", arguments["max_entries"], least=0),
            max_bytes=check_count("max_bytes", arguments["max_bytes"], least=0),
            clock=clock,
        )

    def _engine(self, near: Any, store: Any, options: Options, clock: Clock) -> Engine:
        self._models: dict[Model, RowShelf] = {}
        shelves = self._shelves = dict[bytes, RowShelf]()
        self._signer = signer_of(options.signing_keys)
        codec = self.arguments.get("codec")
        self._codec = None if codec is None else codec_of(codec)
        space = self.space
        return Engine(
            near,
            store,
            shelves=lambda: list(shelves.values()),
            share=lambda engine, store: Logged(engine, store, space),
            options=options,
            clock=clock,
        )

    def count(self, batch: RowBatch, times: NDArray[np.intp], *, near: int = 0) -> None:
        """Count every text asked for once: ``times`` each of the batch, ``near`` others."""
        origins = np.bincount(batch.origin, times, minlength=5).astype(np.intp).tolist()
        loaded = int((batch.origin == LOADED).sum())
        # a repeat of a text that was loaded is answered by that load
        coalesced = origins[JOINED] + origins[LOADED] - loaded
        near += origins[NEAR]
        saved, absent = near + origins[FAR] + coalesced, origins[ABSENT] + loaded
        for name, subject, amount in (
            ("hit", "near", near),
            ("hit", "store", origins[FAR]),
            ("miss", batch.shelf.label, absent),
        ):
            if amount:
                self.engine.events.emit(name, subject, amount)
        self.engine.counters.add(
            near_hits=near,
            far_hits=origins[FAR],
            misses=absent,
            coalesced=coalesced,
            saved_loads=saved,
            bytes_saved=saved * 4 * (batch.shelf.size or 0),
        )

    def known(self, model: Model) -> RowShelf | None:
        """Return the shelf of a model that was used before; for the hit path, never raises."""
        try:
            return self._models.get(model)
        except TypeError:  # unhashable: refused elsewhere
            return None

    def shelf(self, model: Model) -> RowShelf:
        """Return the shelf of a model; refuses what names none."""
        try:
            return self._models[model]
        except (KeyError, TypeError):
            given = EmbeddingModel.of(model)
        with self._lock:
            shelf = self._shelves.get(given.identity)
            if shelf is None:
                keys = ModelKeys(self.space, given.identity)
                names = self.space.name, keys, given.dimensions, given.name
                shelf = RowShelf(*names, signer=self._signer, codec=self._codec)
                self._shelves[given.identity] = shelf
            self._models[model] = shelf
            return shelf


def _check_policy(policy: object) -> None:
    if isinstance(policy, str):
        if policy not in NAMES:
            msg = f"unknown policy {policy!r}; known: {', '.join(NAMES)}, or a policy object"
            raise ConfigError(msg)
    elif any(not callable(getattr(policy, name, None)) for name in _POLICY_METHODS):
        msg = f"policy is a name or an object with {', '.join(_POLICY_METHODS)}, not {policy!r}"
        raise ConfigError(msg)
    elif not isinstance(getattr(policy, "on_hit", None), str):
        msg = (
            f"a policy object has on_hit, as nearcache.near.policies.base says; {policy!r} has not"
        )
        raise ConfigError(msg)
    elif len(policy):  # type: ignore[arg-type]
        msg = "a policy object serves one cache: give this one a new object"
        raise ConfigError(msg)


def describe(face: object, tiers: Tiers) -> str:
    """Return a cache's ``repr``, without secrets."""
    store = tiers.engine.store
    where = None if store is None else store.address
    return f"{type(face).__name__}({where!r}, namespace={tiers.space.name!r})"


def travelling(tiers: Tiers) -> dict[str, Any]:
    """Return the arguments to make a cache again with, in another process too."""
    if not isinstance(tiers.arguments["policy"], str):
        msg = "a cache with a policy object cannot be copied or pickled: that serves one cache"
        raise TypeError(msg)
    return tiers.arguments


def remake(kind: Any, arguments: dict[str, Any]) -> Any:
    """Return a cache that was pickled: made anew from what it was made with."""
    views = arguments.get("views", ())
    cache = kind(**{name: value for name, value in arguments.items() if name != "views"})
    for part in views:
        cache = cache.view(part)
    return cache
