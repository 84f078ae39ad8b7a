"""What the engine asks of a store: every call is one round trip, for a whole batch.

Values are opaque bytes with the head of ``nearcache.entry``. Keys are bytes. Times are the store's
own: seconds since its epoch, the same for every process that uses it, whatever their clocks say.

Every method may raise StoreError, and nothing else. Implementations are thread-safe and survive
``fork``. ``tests/contract/stores.py`` is the specification.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from nearcache.entry import Mark

__all__ = [
    "HELD",
    "LOG_LENGTH",
    "SKIPPED",
    "TAKEN",
    "WRITTEN",
    "Changes",
    "Fetched",
    "Store",
    "Ttl",
    "lives",
]

LOG_LENGTH = 10_000
"""How many forgets a namespace remembers; who is further behind drops all its near copies."""

TAKEN, HELD = True, False
"""Answers of ``lease``: the caller is to load, or somebody else is loading."""
WRITTEN, SKIPPED = True, False
"""Answers of ``fill``: the value stands, or its lease was gone and nothing was written."""


Ttl = float | Sequence[float] | None
"""Seconds that all values live, or that each does; None for no limit."""


def lives(ttl: Ttl, count: int) -> Sequence[float | None]:
    """Return the seconds each of ``count`` values lives."""
    return [ttl] * count if ttl is None or isinstance(ttl, (int, float)) else ttl


class Fetched(NamedTuple):
    """What a fetch found.

    ``epochs`` are the tokens of the groups asked for. ``now`` is the store's time while it read,
    ``sent`` this process's monotonic time before: an entry that expires at ``e`` in the store
    expires here at ``sent + (e - now)`` at the latest, however long the answer took.
    """

    values: list[bytes | None]
    epochs: list[bytes]
    now: float
    sent: float


class Changes(NamedTuple):
    """What a namespace's log says since a cursor; ``entries`` is None when the log has a gap."""

    cursor: bytes
    entries: list[bytes] | None


class Store(Protocol):
    """A place for values that several processes share."""

    @property
    def address(self) -> str:
        """Where it is, without secrets."""

    def fetch(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and group epochs; an absent epoch is created, once for all processes."""

    def lease(
        self, keys: Sequence[bytes], token: bytes, seconds: float, mark: Mark
    ) -> list[bool | bytes]:
        """Claim the right to load: TAKEN, HELD by another, or the value that came meanwhile."""

    def renew(self, keys: Sequence[bytes], token: bytes, seconds: float) -> None:
        """Prolong leases that are still held."""

    def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give leases back without a value."""

    def fill(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        token: bytes,
        mark: Mark,
        ttl: Ttl,
    ) -> list[bool | bytes]:
        """Write loaded values whose lease is held, and release it; the first writer wins.

        Returns WRITTEN, SKIPPED (the lease was lost: forgotten meanwhile), or the winner's bytes.
        """

    def write(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        entries: Sequence[bytes],
    ) -> None:
        """Write values whatever is there, and log all but what was there already.

        What was not there is logged too: near copies elsewhere may outlive what the store evicted.
        """

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, log it, and return how many values there were."""

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, so that none of its entries is valid, and log it."""

    def drop_corrupt(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Delete keys that still hold exactly these bytes."""

    def changes(self, log: bytes, cursor: bytes) -> Changes:
        """Read what was forgotten since ``cursor``; an empty cursor starts at the end."""

    def now(self) -> float:
        """Return the store's time; asks the store only when its last answer is old."""

    def purge(self) -> int:
        """Delete what has expired, where the store does not do so itself."""

    def reset_after_fork(self) -> None:
        """Let go of connections that belong to the parent process."""

    def close(self) -> None:
        """Let go of all connections."""
