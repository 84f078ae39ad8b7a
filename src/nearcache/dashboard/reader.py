"""Reading the report: once for all pages that are open, and never for longer than they wait."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nearcache.clock import Clock, monotonic
from nearcache.errors import CacheError

__all__ = ["Document", "Reader", "Reading", "in_thread"]

log = logging.getLogger("nearcache")

Document = dict[str, Any]

_PATIENCE = 2.0  # seconds that a page waits for a store
_FRESH = 0.9  # seconds for which a report serves all who ask


@dataclass(frozen=True, slots=True)
class Reading:
    """A report, the last one there is, and why there is none that is newer.

    Units: ``age`` is in seconds.
    """

    document: Document | None
    age: float
    trouble: str | None


class Reader:
    """Reads in a thread of its own; who asks while it reads gets what it finds.

    Where the store is slow, pages get the last report and its age. Not thread-safe: for one event
    loop.
    """

    def __init__(
        self,
        read: Callable[[], Document],
        *,
        patience: float = _PATIENCE,
        fresh: float = _FRESH,
        clock: Clock = monotonic,
    ) -> None:
        self._read = read
        self._patience = patience
        self._fresh = fresh
        self._clock = clock
        self._document: Document | None = None
        self._trouble: str | None = None
        self._read_at = self._tried_at = float("-inf")
        self._began_at = 0.0
        self._flight: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Start to read unless there is something new: somebody will ask in a moment."""
        if self._flight is None and self._clock() - self._tried_at >= self._fresh:
            self._began_at = self._clock()
            self._flight = asyncio.ensure_future(self._fly())

    async def get(self) -> Reading:
        """Return the report, within the time that a page waits."""
        self.begin()
        trouble = self._trouble
        if self._flight is not None:
            left = self._patience - (self._clock() - self._began_at)
            # asyncio.wait leaves it flying: who asks next may have what it brings
            done, _ = await asyncio.wait([self._flight], timeout=max(0.0, left))
            trouble = self._trouble if done else f"Nothing came for {self._patience:g} seconds."
        age = self._clock() - self._read_at if self._document is not None else 0.0
        return Reading(self._document, max(0.0, age), trouble)

    async def _fly(self) -> None:
        try:
            document = await in_thread(self._read)
        except CacheError as error:
            self._trouble = str(error) or type(error).__name__
        except Exception as error:  # what the page says must not be nothing
            log.exception("the report of the dashboard could not be read")
            self._trouble = f"It could not be read: {type(error).__name__}; see the log."
        else:
            self._document, self._trouble, self._read_at = document, None, self._clock()
        finally:
            self._tried_at = self._clock()
            self._flight = None


async def in_thread(work: Callable[[], Any]) -> Any:
    """Return what ``work`` does in a thread that keeps nobody from ending.

    Threads of a pool are waited for at the interpreter's exit, and a dead store may hold them.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001  given to who waits
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="nearcache-dashboard", daemon=True).start()
    return await done
