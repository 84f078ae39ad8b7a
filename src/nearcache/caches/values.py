"""The tiers of a cache of any values, and counting what it does."""

from typing import Any

from nearcache.caches.near_loaders import Crowd
from nearcache.caches.tiers import Tiers
from nearcache.clock import Clock
from nearcache.codecs.base import by_name
from nearcache.engine.answer import Answer
from nearcache.engine.engine import Engine
from nearcache.engine.held import END, SIZE
from nearcache.engine.rows import ABSENT, FAR, JOINED, LOADED, NEAR, STALE
from nearcache.engine.tracked import Tracked
from nearcache.engine.values import ValueBatch, ValueNear, ValueShelf
from nearcache.keys import ValueKeys
from nearcache.near.pick import object_tier
from nearcache.options import Options, check_count
from nearcache.stats import Stats
from nearcache.stores.base import Store

__all__ = ["ValueTiers"]

_NO_LIMIT = 2**62


class ValueTiers(Tiers):
    """Near tier, store and engine of one namespace of any values."""

    kind = "NearCache"

    def _near(self, arguments: dict[str, Any], clock: Clock) -> ValueNear:
        self.codec = by_name(arguments["codec"], arguments["type"])
        size = arguments["max_bytes"]
        tier = object_tier(
            policy=arguments["policy"],
            max_entries=check_count("max_entries", arguments["max_entries"], least=0),
            max_bytes=_NO_LIMIT if size is None else check_count("max_bytes", size, least=0),
            clock=clock,
        )
        return ValueNear(tier)

    def _engine(self, near: ValueNear, store: Any, options: Options, clock: Clock) -> Engine:
        space = near.new_space(self.space.name) if self.is_view else near.root
        keys = ValueKeys(self.space)
        shelf = self.shelf = ValueShelf(
            near,
            space,
            keys,
            self.codec,
            clock,
            options,
            record=self.arguments.get("record", False),
            ttl=self.ttl,
        )
        self.crowd = Crowd()

        def share(engine: Engine, store: Store) -> Tracked:
            shelf.tracked = Tracked(engine, store, shelf)
            return shelf.tracked

        engine = Engine(
            near, store, shelves=lambda: [shelf], share=share, options=options, clock=clock
        )
        self.answer = Answer(engine)

        def begin() -> None:
            shelf.flights = engine.flights
            self.answer.start_anew()

        begin()
        engine.after_fork.append(begin)
        return engine

    def stats(self) -> Stats:
        """Return what happened so far."""
        return self.engine.stats()

    def count_far(self, held: Any) -> None:
        """Count one key that only the store was asked for, and its near copy or ABSENT."""
        if isinstance(held, list):
            self.engine.counters.add(far_hits=1, saved_loads=1, bytes_saved=held[SIZE])
            self.engine.events.emit("hit", "store", 1)
        else:
            self.engine.counters.add(misses=1)
            self.engine.events.emit("miss", self.shelf.label, 1)

    def _measure_stale(self, batch: ValueBatch) -> None:
        now, record = self.engine.clock(), self.engine.meter.staleness.record
        for held, origin in zip(batch.held, batch.origin, strict=True):
            if origin == STALE and held is not None:
                record(max(0.0, now - held[END]))

    def count(self, batch: ValueBatch) -> None:
        """Count every key asked for once."""
        near, far = batch.origin.count(NEAR), batch.origin.count(FAR)
        joined, stale = batch.origin.count(JOINED), batch.origin.count(STALE)
        absent = batch.origin.count(ABSENT) + batch.origin.count(LOADED)
        saved = near + far + joined
        if stale:
            self._measure_stale(batch)
        for name, subject, amount in (
            ("hit", "near", near),
            ("hit", "store", far),
            ("hit", "stale", stale),
            ("miss", batch.shelf.label, absent),
        ):
            if amount:
                self.engine.events.emit(name, subject, amount)
        self.engine.counters.add(
            near_hits=near,
            far_hits=far,
            stale_hits=stale,
            misses=absent,
            coalesced=joined,
            saved_loads=saved,
            bytes_saved=batch.bytes_from((NEAR, FAR, JOINED)) if saved else 0,
        )
