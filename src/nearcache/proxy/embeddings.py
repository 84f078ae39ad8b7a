"""The life of a request for embeddings.

::

    body ── not plainly one, or not to be cached ───────────────► passed on
      │
      ▼
    names of its inputs ── all near, caller let in ─────────────► answered
      │
      ▼
    near, store ── some missing ──► batch ──► provider ── kept ─┐
      │                               └── refused ──────────────┼─► the provider's answer
      ▼                                                         │
    caller let in lately? ◄─────────────────────────────────────┘
      ├── yes ──────────────────────────────────────────────────► answered
      └── no ──► the provider is asked ── accepted ─────────────► answered
                                       └─ refused ──────────────► the provider's answer
"""

import asyncio
import logging
import traceback
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from starlette.types import Receive, Scope, Send

from nearcache.caches.near_async import AsyncNearCache
from nearcache.entry import MISSING
from nearcache.errors import CacheError
from nearcache.proxy.answers import Answer, Unusable, Usage, error_body, write_answer
from nearcache.proxy.batching import Batcher
from nearcache.proxy.bodies import HELD, Gone, Incoming, unpacked
from nearcache.proxy.callers import Caller, Callers
from nearcache.proxy.gate import Gate
from nearcache.proxy.headers import Headers, first
from nearcache.proxy.metrics import Metrics
from nearcache.proxy.opaque import Opaque
from nearcache.proxy.origins import Origins
from nearcache.proxy.partition import Partitions, names_of
from nearcache.proxy.passing import Passage, send_parts, send_refusal, too_large
from nearcache.proxy.requests import Call, read_call
from nearcache.proxy.upstream import Refused, Target, Upstream

__all__ = ["Embeddings"]

log = logging.getLogger("nearcache")

_JSON = (b"content-type", b"application/json")
_SIGNED = frozenset(
    (
        b"content-digest",
        b"content-md5",
        b"digest",
        b"repr-digest",
        b"signature",
        b"signature-input",
        b"x-amz-content-sha256",
    )
)
_MODEL = b"model:"
_SLOWEST_BODY = 60.0  # seconds
_TRIES = 2  # each may have to wait for a request of somebody else that is refused


class Asked:
    """One request that was understood, and what it costs."""

    __slots__ = (
        "call",
        "caller",
        "headers",
        "identity",
        "names",
        "purpose",
        "sent",
        "target",
        "usage",
    )

    def __init__(
        self, call: Call, caller: Caller, target: Target, *, identity: bytes, purpose: bytes
    ) -> None:
        self.call = call
        self.caller = caller
        self.target = target
        self.identity = identity
        self.purpose = purpose
        self.names = names_of(identity, call.inputs)
        self.sent = 0
        self.usage = Usage()
        self.headers: Headers = []

    @property
    def model_name(self) -> bytes:
        """Under what name the provider's own name of the model is kept."""
        return _MODEL + self.identity


class Embeddings:
    """Answers requests for embeddings; an ASGI application."""

    def __init__(
        self,
        cache: AsyncNearCache[bytes, bytes],
        upstream: Upstream,
        batcher: Batcher,
        *,
        callers: Callers,
        gate: Gate,
        partitions: Partitions,
        metrics: Metrics,
        max_body: int,
    ) -> None:
        self._cache = cache
        self._near = cache.near_value
        self._upstream = upstream
        self._batcher = batcher
        self._callers = callers
        self._gate = gate
        self._partitions = partitions
        self._metrics = metrics
        self._max_body = max_body
        self._shared = partitions.shared
        self._opaque = Opaque()
        self._origins = Origins()
        self._proofs: dict[bytes, asyncio.Task[None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        incoming = Incoming(receive)
        try:
            status = await self._answer(scope, incoming, send)
        except Gone:
            return
        except Refused as refused:
            status = refused.status
            await send_refusal(send, refused)
        self._metrics.answers["embeddings", status] += 1
        self._metrics.seconds.add(perf_counter() - began)

    async def _answer(self, scope: Scope, incoming: Incoming, send: Send) -> int:
        headers: Headers = list(scope["headers"])
        caller = self._callers.of(headers)
        declared = first(headers, b"content-length")
        if declared.isdigit() and int(declared) > self._max_body:
            raise too_large(self._max_body)
        asked = None
        body = await _held(incoming, min(HELD, self._max_body))
        if body is not None:
            control = first(headers, b"cache-control").lower()
            plain = unpacked(body, headers, HELD) if _may_be_cached(headers, control) else None
            call = None if plain is None else read_call(plain)
            if call is not None:
                asked = self._asked(scope, call, caller)
                written = await self._answered(asked, refresh=b"no-cache" in control)
                if written is not None:
                    await send_parts(send, 200, self._told(asked), written)
                    return 200
        elif incoming.size > self._max_body:
            raise too_large(self._max_body)
        return await self._passed(scope, incoming, send, caller)

    async def _answered(self, asked: Asked, *, refresh: bool) -> list[bytes] | None:
        """Return the parts of an answer; None where the request is better passed on as it is.

        Raises: Refused.
        """
        try:
            return await self._from_tiers(asked, refresh=refresh)
        except Refused:
            raise
        except Unusable as unusable:
            log.warning("an answer cannot be cached: %s", unusable)
        except Exception as error:  # noqa: BLE001  never less available than no cache
            log.error("a request is passed on uncached: %s", _where(error))  # noqa: TRY400
        return None

    async def _passed(self, scope: Scope, incoming: Incoming, send: Send, caller: Caller) -> int:
        self._metrics.bypassed += 1
        status = 0

        def heard(found: int) -> None:
            nonlocal status
            status = found
            if found in (401, 403):
                self._gate.refuse(caller.name)

        await Passage(
            scope,
            incoming,
            send,
            self._upstream,
            headers=caller.headers,
            heard=heard,
            most=self._max_body,
        ).go()
        return status

    def _asked(self, scope: Scope, call: Call, caller: Caller) -> Asked:
        path, query = scope["raw_path"], scope["query_string"]
        identity = self._partitions.identity(caller.asking, (path, query, *call.parts))
        origin = first(scope["headers"], b"origin")
        target = Target(path, query, caller.name, call.opening, call.base64, origin)
        purpose = self._partitions.purpose((path, query, call.model.encode()))
        return Asked(call, caller, target, identity=identity, purpose=purpose)

    # -- near, store, provider ---------------------------------------------------------------

    async def _from_tiers(self, asked: Asked, *, refresh: bool) -> list[bytes]:
        """Return the parts of an answer.

        Raises: Refused, Unusable.
        """
        if refresh:
            await self._forget(asked)
        vectors: list[Any] = [self._near(name) for name in asked.names]
        if MISSING in vectors:
            vectors = await self._loaded(asked)
        if not self._origins.is_known(asked.target.origin):
            await self._ask_least(asked)
        if not self._callers.is_let_in(asked.caller, asked.purpose):
            await self._proof(asked)
        elif self._callers.is_due(asked.caller, asked.purpose):
            self._proof(asked).add_done_callback(_seen)
        model = self._near(asked.model_name)
        if model is MISSING:
            model = await self._kept_model(asked)
        self._metrics.hits += len(vectors) - asked.sent
        self._metrics.misses += asked.sent
        return write_answer(vectors, model.decode(), asked.usage)

    async def _loaded(self, asked: Asked) -> list[bytes]:
        """Return the vectors of all inputs, those that no tier has from the provider."""
        inputs = dict(zip(asked.names, asked.call.inputs, strict=True))

        async def load(missing: list[bytes]) -> dict[bytes, bytes]:
            answer = await self._ask(asked, [inputs[name] for name in missing])
            asked.sent += len(missing)
            await self._keep_model(asked, answer.model)
            return dict(zip(missing, answer.vectors, strict=True))

        for _ in range(_TRIES):
            try:
                return await self._cache.get_or_load_batch(asked.names, load)
            except Refused as refused:
                if refused.caller == asked.caller.name:
                    raise
                # whom we share with, and waited for, was refused; we may not be
            except CacheError as error:
                log.warning("answering without the cache: %s", error)
                break
        # it is not put afterwards: what was forgotten during the load would be back
        answer = await load(list(inputs))
        return [answer[name] for name in asked.names]

    async def _forget(self, asked: Asked) -> None:
        """Forget the vectors of all inputs, so that they are asked for anew.

        Not the other way round, ask and then put: that would undo who forgets meanwhile.

        Raises: Refused, Unusable.
        """
        if self._shared and not self._callers.is_let_in(asked.caller, asked.purpose):
            await self._proof(asked)  # a stranger forgets nothing of others
        try:
            await self._cache.invalidate_batch(asked.names)
        except CacheError as error:
            log.warning("not forgotten: %s", error)

    async def _ask_least(self, asked: Asked) -> None:
        """Ask the provider for one input, to hear what else it says.

        Raises: Refused, Unusable.
        """
        await self._ask(asked, [min(asked.call.inputs, key=len)])

    async def _ask(self, asked: Asked, inputs: Sequence[bytes]) -> Answer:
        """Ask the provider for vectors; what it says of the caller's key is noted."""
        if self._opaque.is_known(asked.identity):
            raise Unusable("as those before")
        caller, when = asked.caller, self._gate.now()
        written = [asked.call.written(each) for each in inputs]
        try:
            answer = await self._batcher.ask(asked.target, caller.headers, written)
        except Refused as refused:
            if refused.of_the_key:
                self._gate.refuse(caller.name)
            raise
        except Unusable:
            self._opaque.note(asked.identity)
            raise
        self._opaque.forget(asked.identity)
        self._gate.accept(caller.name, asked.purpose, when)
        asked.usage = asked.usage.plus(answer.usage)
        asked.headers = answer.headers
        self._origins.note(asked.target.origin, answer.headers)
        return answer

    def _told(self, asked: Asked) -> Headers:
        miss = asked.sent
        hit = len(asked.names) - miss
        said = asked.headers or self._origins.said(asked.target.origin)
        return [*said, _JSON, (b"x-nearcache", b"hit=%d miss=%d" % (hit, miss))]

    # -- what the provider calls the model -----------------------------------------------------

    async def _keep_model(self, asked: Asked, model: str) -> None:
        name, given = asked.model_name, (model or asked.call.model).encode()
        if self._near(name) != given:
            try:
                await self._cache.put(name, given)
            except CacheError as error:
                log.warning("not kept: %s", error)

    async def _kept_model(self, asked: Asked) -> bytes:
        try:
            kept: bytes | None = await self._cache.get(asked.model_name)
        except CacheError:
            kept = None
        return asked.call.model.encode() if kept is None else kept

    # -- whether the caller is let in ----------------------------------------------------------

    def _proof(self, asked: Asked) -> "asyncio.Task[None]":
        """Return the provider's look at a caller's key: one for all who wait for it."""
        name = asked.caller.name + asked.purpose
        task = self._proofs.get(name)
        if task is None:
            task = self._proofs[name] = asyncio.ensure_future(self._prove(asked))
            task.add_done_callback(lambda _: self._proofs.pop(name, None))
        return task

    async def _prove(self, asked: Asked) -> None:
        """Ask the provider whether it accepts a caller: by its list of models, or one input.

        Raises: Refused, Unusable.
        """
        caller, when = asked.caller, self._gate.now()
        # that a key exists does not say what it may do: what others share is shown to a key only
        # after a real request; what is in its own partition came by one
        listed = not self._shared or self._gate.was_open(caller.name, asked.purpose)
        if listed and await self._upstream.knows(asked.target, caller.headers):
            self._gate.accept(caller.name, asked.purpose, when)
        else:
            await self._ask_least(asked)


async def _held(incoming: Incoming, most: int) -> bytes | None:
    """Return a body that is not too long, and does not take too long.

    Raises: Refused.
    """
    try:
        async with asyncio.timeout(_SLOWEST_BODY):
            return await incoming.hold(most)
    except TimeoutError:
        body = error_body("The request's body took too long.", "invalid_request_error")
        raise Refused(408, [_JSON, (b"connection", b"close")], body) from None


def _where(error: Exception) -> str:
    """Say where something was raised, and what; its message may hold a caller's text."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}, {place.filename}:{place.lineno}"


def _may_be_cached(headers: Headers, control: bytes) -> bool:
    # what is signed or hashed over the caller's own body must reach the provider with that body
    if any(name in _SIGNED for name, _ in headers):
        return False
    if first(headers, b"authorization")[:5].lower() == b"aws4-":
        return False
    accepted = first(headers, b"accept").lower()
    takes_json = not accepted or b"json" in accepted or b"*/*" in accepted
    return b"no-store" not in control and (takes_json or b"application/*" in accepted)


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()
