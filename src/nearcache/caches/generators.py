"""Whatever makes embeddings, seen as one call: a list of texts to a matrix."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    suppress,
)
from contextvars import ContextVar, Token
from os import getpid
from typing import Any
from weakref import WeakKeyDictionary, ref

from nearcache.errors import ConfigError
from nearcache.flag import Flag

__all__ = ["BatchCall", "Generator", "find_calls"]

BatchCall = Callable[[list[str]], Any]
_LOOK_AROUND = 1.0  # seconds between looks for a turn that nobody gave back


class Generator:
    """Whatever makes embeddings, as one call: a list of texts to a matrix.

    Takes a callable, or an object with ``generate_batch``/``generate``, ``encode`` or
    ``embed_documents``/``embed_query``, sync or async. An object that only has a single-text
    ``generate`` is called once per text.
    """

    def __init__(
        self,
        call: BatchCall,
        *,
        is_async: bool,
        limit: int,
        max_batch: int | None,
    ) -> None:
        self.call = call
        self.is_async = is_async
        self.limit = limit
        self.max_batch = max_batch
        self._turns = _Turns(limit)

    @property
    def crowd(self) -> object:
        """Who shares threads with it: nobody."""
        return self

    def share_turns(self, other: "Generator") -> None:
        """Take turns with another call of the same generator."""
        self._turns = other._turns

    def turn(self) -> AbstractContextManager[object]:
        """Return what a synchronous call holds, so that at most ``limit`` run."""
        return self._turns.blocking()

    def async_turn(self) -> AbstractAsyncContextManager[object]:
        """Return what an awaited call holds, so that at most ``limit`` run on one event loop."""
        return self._turns.suspending()


class _Turns:
    """Who may call a generator now. A call from inside a call of the same takes no other turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # weak: a turn that Ctrl-C cut off ends with its frame, not with its context
        self._inside: ContextVar[ref[_Turn] | None] = ContextVar("nearcache_inside", default=None)
        self._lock = threading.Lock()
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = getpid()
        self._taken: list[ref[_Turn]] = []
        self._given_back = Flag()
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._gates = WeakKeyDictionary()

    def _check_fork(self) -> None:
        """Start anew in a forked child: whoever had a turn stayed in the parent."""
        if self._pid != getpid():
            self._lock = threading.Lock()
            self._start_anew()

    def blocking(self) -> "_Turn":
        """Return a turn that a thread waits for and has."""
        self._check_fork()
        return _Turn(self)

    def enter(self, turn: "_Turn") -> Token[Any] | None:
        """Wait until this turn may begin."""
        if self._is_inside():
            return None
        while not self._take(turn):
            self._given_back.wait(_LOOK_AROUND)
        return self._inside.set(ref(turn))

    def leave(self, token: Token[Any] | None) -> None:
        """Let the next turn begin, this one is over."""
        self._given_back.set()
        if token is not None:
            self._inside.reset(token)

    def _is_inside(self) -> bool:
        inside = self._inside.get()
        turn = None if inside is None else inside()
        return turn is not None and not turn.over

    def _take(self, turn: "_Turn") -> bool:
        with self._lock:
            if not self._is_free():
                self._given_back.clear()
                if not self._is_free():  # looked at last: who gives back does that first
                    return False
            self._taken.append(ref(turn))
            return True

    def _is_free(self) -> bool:
        self._taken = [one for one in self._taken if (turn := one()) and not turn.over]
        return len(self._taken) < self._limit

    @asynccontextmanager
    async def suspending(self) -> AsyncIterator[None]:
        self._check_fork()
        if self._is_inside():
            yield
            return
        loop = asyncio.get_running_loop()
        with self._lock:
            # a semaphore that was waited for holds its loop, and would keep it for ever
            for closed in [other for other in self._gates if other.is_closed()]:
                del self._gates[closed]
            gate = self._gates.setdefault(loop, asyncio.Semaphore(self._limit))
        async with gate:
            turn = _Turn(self)
            token = self._inside.set(ref(turn))
            try:
                yield
            finally:
                turn.over = True
                with suppress(ValueError):  # collected with its loop, in another context
                    self._inside.reset(token)


class _Turn:
    """One call's turn: it is over when its block is left, or when nobody has it any more.

    Ctrl-C may cut off the taking, and the giving back, at any point; not an assignment::

        main thread                         the others
        takes the last turn
        KeyboardInterrupt, before its block
                                            wait for ever
    """

    __slots__ = ("__weakref__", "_token", "_turns", "over")

    def __init__(self, turns: _Turns) -> None:
        self._turns = turns
        self._token: Token[Any] | None = None
        self.over = False

    def __enter__(self) -> None:
        try:
            self._token = self._turns.enter(self)
        except BaseException:
            self.over = True
            raise

    def __exit__(self, *_: object) -> None:
        self.over = True
        self._turns.leave(self._token)


def find_calls(generator: object) -> tuple[BatchCall, BatchCall, bool, int | None]:
    """Return how to embed documents and queries, whether that is awaited, and its batch size.

    A generator that embeds one text at a time is asked for one text at a time, so that what it
    gave before it fails is kept.
    """
    if isinstance(generator, (str, bytes)):  # both have an encode method
        msg = f"{generator!r} cannot embed, it is only a name; give model.encode or the like"
        raise ConfigError(msg)
    documents = _method(generator, "generate_batch", "encode", "embed_documents")
    single = _method(generator, "generate")
    query = _method(generator, "embed_query")
    size = None
    if documents is None and single is not None:
        documents, size = _one_by_one(single), 1
    if documents is None:
        if not callable(generator):
            msg = (
                f"{type(generator).__name__} cannot embed: give a callable (texts to a matrix) or "
                "an object with generate_batch, generate, encode or embed_documents"
            )
            raise ConfigError(msg)
        documents = generator
    awaited = _is_async(documents)
    queries = documents if query is None or _is_async(query) != awaited else _one_by_one(query)
    return documents, queries, awaited, size


def _method(thing: object, *names: str) -> Callable[..., Any] | None:
    for name in names:
        method = getattr(thing, name, None)
        if callable(method):
            found: Callable[..., Any] = method
            return found
    return None


def _is_async(call: object) -> bool:
    if inspect.iscoroutinefunction(call):
        return True
    return inspect.iscoroutinefunction(getattr(type(call), "__call__", None))  # noqa: B004


def _one_by_one(single: Callable[[str], Any]) -> BatchCall:
    """Return a batch call made of single ones, for a generator that has no other."""
    if _is_async(single):

        async def each_awaited(texts: list[str]) -> list[Any]:
            return [await single(text) for text in texts]

        return each_awaited
    return lambda texts: [single(text) for text in texts]
