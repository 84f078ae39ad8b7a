"""A promise kept on the event loop of another thread."""

import asyncio
import concurrent.futures
import inspect
from collections.abc import Awaitable
from typing import Any, TypeVar

from nearcache.flag import Flag

__all__ = ["Kept", "kept"]

T = TypeVar("T")

_LOOK_AROUND = 0.1  # seconds until it is seen that the loop was closed
_under_way: set[asyncio.Task[None]] = set()  # a loop holds its tasks only weakly


async def kept(promise: Awaitable[T]) -> T:
    """Wait for what need not be a coroutine."""
    return await promise


class Kept:
    """What a blocking caller waits for; its context is the caller's.

    Not a future of ``concurrent.futures``: the caller takes that one's lock in Python, and Ctrl-C
    there leaves the loop waiting for it, and with it every later caller.
    """

    def __init__(self, promise: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._promise = promise
        self._loop = loop
        self._done = Flag()
        self._value: Any = None
        self._error: BaseException | None = None
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        task = self._loop.create_task(self._keep())
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)

    async def _keep(self) -> None:
        try:
            self._value = await self._promise
        except asyncio.CancelledError:
            self._error = (
                concurrent.futures.CancelledError()
            )  # a caller of its own is not cancelled
        except BaseException as error:  # noqa: BLE001  the caller raises it; the loop goes on
            self._error = error
        finally:
            self._done.set()

    def result(self) -> Any:
        """Wait; raise what the promise raises.

        Raises: RuntimeError when the loop, somebody else's perhaps, was closed before.
        """
        while not self._done.wait(_LOOK_AROUND):
            if self._loop.is_closed():
                if inspect.iscoroutine(self._promise):
                    self._promise.close()
                msg = "the event loop of a load was closed before the load had ended"
                raise RuntimeError(msg)
        try:
            if self._error is not None:
                raise self._error
            return self._value
        finally:
            del self  # its error's traceback would hold it
