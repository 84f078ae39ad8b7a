"""Switches that take one protection away from nearcache, in this process.

A checker that cannot fail proves nothing: with any of these it has to find something.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["SWITCHES", "switch_off"]


def deaf_link() -> None:
    """Pushes are heard by nobody; pongs go on, so that the link seems well."""
    from nearcache.coherence import link

    def nothing(*_: Any, **__: Any) -> None:
        return None

    link.Link.dispatch = nothing  # type: ignore[method-assign]


def flights_stay() -> None:
    """An invalidation leaves the load under way alone: it installs its old value near."""
    from nearcache.engine.flights import FlightTable

    def nothing(*_: Any, **__: Any) -> None:
        return None

    FlightTable.detach = nothing  # type: ignore[method-assign]
    FlightTable.detach_shelves = nothing  # type: ignore[method-assign]


def writes_always() -> None:
    """A write writes whatever is there and however late: it brings an old value back."""
    from nearcache.stores.redis.store import RedisStore

    def without_comparing(commit: Callable[..., Any]) -> Callable[..., Any]:
        def always(
            self: Any, keys: Any, values: Any, expected: Any, *more: Any, **named: Any
        ) -> Any:
            token, seconds = b"\0" * 16, 10.0
            return commit(self, keys, values, self.expect(keys, token, seconds), *more, **named)

        return always

    for name in ("commit", "commit_and_look"):
        setattr(RedisStore, name, without_comparing(getattr(RedisStore, name)))
    put = RedisStore.put

    def without_deadline(
        self: Any, keys: Any, values: Any, ttl: Any, log: Any, deadline: float, groups: Any
    ) -> Any:
        return put(self, keys, values, ttl, log, deadline + 1e6, groups)

    RedisStore.put = without_deadline  # type: ignore[method-assign]


SWITCHES: dict[str, Callable[[], None]] = {
    "pushes": deaf_link,
    "detaching": flights_stay,
    "comparing": writes_always,
}


def switch_off(name: str) -> None:
    """Take the protection of this name away."""
    SWITCHES[name]()
