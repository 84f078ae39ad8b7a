"""How the processes that share a namespace through a store stay together.

The engine knows two ways. What never changes is *logged* (``engine/logged.py``): near copies serve
unasked, and only what was forgotten has to travel. What may change is *tracked*
(``engine/tracked.py``): a near copy serves as long as a change of it would have been heard.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from nearcache.coherence.leases import LeaseKeeper
from nearcache.engine.access import Access
from nearcache.engine.flights import Flight
from nearcache.engine.io import IO
from nearcache.errors import StoreError
from nearcache.stores.base import Fetched

__all__ = ["Sharing"]


class Sharing(Protocol):
    """What the engine asks of either way. A batch's positions stand for its keys."""

    access: Access
    keeper: LeaseKeeper

    def current(self) -> bool:
        """Say whether near hits may be served without asking anybody; costs a clock at most."""

    async def listen(self, io: IO) -> None:
        """Begin an operation: hear what there is to hear."""

    def hears(self) -> tuple[str, str]:
        """Say how it hears of changes (tracking, polling, lost, none), and why it does not."""

    def boards(self, flight: Flight, keys: Sequence[bytes]) -> None:
        """Hear that a flight is about to claim keys; take away those it should not wait for."""

    async def read(self, io: IO, batch: Any, positions: Sequence[int]) -> Fetched | None:
        """Read entries from the store; None when it does not answer."""

    async def came(self, io: IO, batch: Any, entries: dict[int, bytes]) -> Fetched | None:
        """Take entries that another process wrote meanwhile, by position, as if read."""

    async def lease(
        self, io: IO, batch: Any, positions: Sequence[int], token: bytes
    ) -> list[bool | bytes] | None:
        """Claim the right to load; None to load without."""

    def holding(self, keys: Sequence[bytes], token: bytes) -> AbstractContextManager[None]:
        """Return what is held while a load under a lease runs."""

    async def fill(
        self, io: IO, batch: Any, landing: Any, token: bytes
    ) -> list[bool | bytes] | None:
        """Write what was loaded under a lease, an answer per position; None for no answer."""

    def keep(self, batch: Any, landing: Any, token: bytes | None) -> None:
        """Keep what was loaded and could not be written, if it may be written later."""

    def write_kept(self, io: IO) -> None:
        """Write what is kept, if it is time to."""

    def let_go(self, keys: Sequence[bytes]) -> None:
        """Keep these no longer: they were forgotten."""

    def let_go_shelves(self, names: Collection[object]) -> None:
        """Keep nothing of these shelves."""

    @property
    def unwritten(self) -> int:
        """How many loaded values wait to be written."""

    def waiting(self, keys: Sequence[bytes]) -> AbstractContextManager["Bell"]:
        """Return what wakes who waits for keys that another process is loading."""

    async def write(self, io: IO, batch: Any, landing: Any) -> StoreError | None:
        """Write values that a caller brought."""

    async def forget(
        self, io: IO, shelf: Any, handles: Sequence[Any]
    ) -> tuple[int, StoreError | None]:
        """Forget values in the store; return how many it had."""

    async def forget_group(self, io: IO, group: Any) -> StoreError | None:
        """Forget a group in the store."""

    def at_rest(self) -> AbstractContextManager[object]:
        """Return what keeps background work from claiming keys."""

    def start_anew(self) -> None:
        """Let go, in a forked child, of what belongs to the parent's threads."""

    def close(self) -> None:
        """Hear no more."""


class Bell(Protocol):
    """Wakes who waits for another process."""

    async def wait(self, io: IO) -> None:
        """Wait until it is time to look again."""
