"""Inputs that several callers lack, asked for together.

A batch waits as long as others come, each within ``gather`` seconds of the one before, fifty
milliseconds in all. A caller's own inputs are never split: what it asks for is one request with a
cache and without.

::

    caller 1   a b ──┐
    caller 2   b c ──┼── gather ──► a b c ──► provider ──► a b │ b c
    caller 3   d ────┘                   refused (400, 413, 422): each caller's own, alone
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nearcache.proxy.answers import Answer, Usage
from nearcache.proxy.headers import Headers
from nearcache.proxy.upstream import Refused, Target

__all__ = ["Batcher"]

_LONGEST = 0.05  # seconds that the first of a batch waits at most
_PASSES = 3  # of the event loop, in which what has reached this machine becomes a request
_MOST_BYTES = 600_000  # of inputs: 300,000 tokens, which OpenAI takes, are hardly less
_OF_AN_INPUT = (400, 413, 422)  # what a provider says when an input, or their number, is wrong

Embed = Callable[[Target, Headers, Sequence[bytes]], Awaitable[Answer]]


@dataclass(slots=True)
class _Ask:
    """What one caller lacks."""

    headers: Headers
    inputs: Sequence[bytes]
    answer: "asyncio.Future[Answer]"
    size: int


@dataclass(slots=True)
class _Batch:
    """Callers who wait for others.

    first, last: when they came.
    passes: of the event loop since nobody came for a while.
    """

    first: float
    last: float
    passes: int = 0
    asks: list[_Ask] = field(default_factory=list)
    inputs: set[bytes] = field(default_factory=set)
    size: int = 0

    def add(self, ask: _Ask) -> None:
        self.asks.append(ask)
        self.inputs.update(ask.inputs)
        self.size += ask.size


class Batcher:
    """Asks the provider, for several callers at once where they have the same target.

    embed: how to ask.
    gather: seconds within which the next caller must come.
    most: inputs in a batch of several callers.
    """

    def __init__(self, embed: Embed, *, gather: float, most: int) -> None:
        self._embed = embed
        self._gather = gather
        self._most = self._allowed = most
        self._open: dict[Target, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, target: Target, headers: Headers, inputs: Sequence[bytes]) -> Answer:
        """Return the vectors of distinct inputs, and what of the cost is the caller's.

        Raises: Refused, Unusable.
        """
        loop = asyncio.get_running_loop()
        ask = _Ask(headers, inputs, loop.create_future(), sum(map(len, inputs)))
        batch = self._open.get(target)
        if batch is not None and not self._has_room(batch, ask):
            self._launch(target, batch)
            batch = None
        if batch is None:
            batch = self._open[target] = _Batch(loop.time(), loop.time())
            loop.call_later(self._gather, self._look, target, batch)
        batch.last, batch.passes = loop.time(), 0
        batch.add(ask)
        if len(batch.inputs) >= self._allowed:
            self._launch(target, batch)
        return await ask.answer

    def _has_room(self, batch: _Batch, ask: _Ask) -> bool:
        together = len(batch.inputs.union(ask.inputs))
        return together <= self._allowed and batch.size + ask.size <= _MOST_BYTES

    def _look(self, target: Target, batch: _Batch) -> None:
        """Send a batch if nobody has come for a while."""
        if self._open.get(target) is not batch:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        left = min(batch.last + self._gather, batch.first + _LONGEST) - now
        if left > 0:
            loop.call_later(left, self._look, target, batch)
        elif batch.passes < _PASSES and now < batch.first + _LONGEST:
            batch.passes += 1  # a busy loop is late: others may have come, unseen
            loop.call_soon(self._look, target, batch)
        else:
            self._launch(target, batch)

    def _launch(self, target: Target, batch: _Batch) -> None:
        del self._open[target]
        task = asyncio.get_running_loop().create_task(self._send(target, batch.asks))
        self._tasks.add(task)  # the loop alone keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _send(self, target: Target, asks: list[_Ask]) -> None:
        inputs = list(dict.fromkeys(each for ask in asks for each in ask.inputs))
        try:
            answer = await self._embed(target, asks[0].headers, inputs)
        except Refused as refused:
            if len(asks) > 1 and refused.status in _OF_AN_INPUT:
                await self._send_each(target, asks, len(inputs))
                return
            for ask in asks:
                _fail(ask, refused.again())
        except Exception as error:  # noqa: BLE001  each caller gets it
            if len(asks) > 1:
                await self._send_each(target, asks, len(inputs))
            else:
                _fail(asks[0], error)
        except BaseException:
            for ask in asks:
                ask.answer.cancel()
            raise
        else:
            self._allowed = min(self._most, max(self._allowed, 2 * len(inputs)))
            _share(answer, inputs, asks)

    async def _send_each(self, target: Target, asks: list[_Ask], count: int) -> None:
        """Send each caller's own inputs alone: what is wrong with one concerns no other."""
        await asyncio.gather(*(self._send(target, [ask]) for ask in asks))
        if all(ask.answer.done() and not _failed(ask) for ask in asks):
            # nothing was wrong with any: there were too many
            self._allowed = max(1, min(self._allowed, count // 2))


def _failed(ask: _Ask) -> bool:
    return ask.answer.cancelled() or ask.answer.exception() is not None


def _fail(ask: _Ask, error: Exception) -> None:
    if not ask.answer.done():
        ask.answer.set_exception(error)


def _share(answer: Answer, inputs: Sequence[bytes], asks: Sequence[_Ask]) -> None:
    """Give every caller its vectors, and its part of the cost; the parts sum up to the whole."""
    vectors = dict(zip(inputs, answer.vectors, strict=True))
    weights, paid = [], set[bytes]()
    for ask in asks:  # what several asked for, the first of them pays
        weights.append(sum(len(each) for each in ask.inputs if each not in paid))
        paid.update(ask.inputs)
    prompts = _parts(answer.usage.prompt, weights)
    totals = _parts(answer.usage.total, weights)
    for ask, prompt, total in zip(asks, prompts, totals, strict=True):
        if not ask.answer.done():
            mine = [vectors[each] for each in ask.inputs]
            ask.answer.set_result(Answer(mine, answer.model, Usage(prompt, total), answer.headers))


def _parts(whole: int, weights: Sequence[int]) -> list[int]:
    """Divide a number in proportion to weights, exactly."""
    everything = sum(weights)
    ends, at = [0], 0
    for weight in weights:
        at += weight
        ends.append(whole * at // everything)
    return [end - start for start, end in pairwise(ends)]
