"""The provider: asked for vectors, asked whether it knows a key, and passed everything else."""

import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NamedTuple

import httpx

from nearcache.proxy.answers import Answer, error_body, read_answer
from nearcache.proxy.headers import Headers, is_credential, of_an_answer

__all__ = ["Refused", "Target", "Upstream"]

log = logging.getLogger("nearcache")

_CONNECT = 10.0  # seconds
_IDLE = 100  # connections kept
_IDLE_FOR = (
    4.0  # seconds; many servers close theirs after five, and a request may just be on its way
)
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))
_TOLD_APART, _NOT_NOW = 3600.0, 60.0  # seconds an answer about /models is good
_REACHED = 10.0  # seconds a look whether the provider can be reached is good
_LONGEST_BODY = 2**28  # bytes of an answer that is read whole
_OF_THE_CALLERS_BODY = frozenset(
    (
        b"accept-encoding",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"idempotency-key",  # a provider may answer another batch's retry with this one's vectors
        b"x-idempotency-key",
    )
)
_JSON = (b"content-type", b"application/json")


class Refused(Exception):
    """The provider's answer that is no success, or why there is none.

    caller: whose request it was; another one might be answered otherwise.
    """

    def __init__(self, status: int, headers: Headers, body: bytes, caller: bytes = b"") -> None:
        super().__init__(f"the upstream answered {status}")
        self.status = status
        self.headers = headers
        self.body = body
        self.caller = caller

    @property
    def of_the_key(self) -> bool:
        """Whether it is the caller's key that is refused."""
        return self.status in (401, 403)

    def again(self) -> "Refused":
        """Return another of the same, for another caller to raise."""
        return Refused(self.status, self.headers, self.body, self.caller)


class Target(NamedTuple):
    """Where a request for vectors goes, and from whom: what goes into one batch has one target."""

    path: bytes
    query: bytes
    caller: bytes
    opening: bytes
    base64: bool
    origin: bytes = b""


class Upstream:
    """One provider behind one base URL; thread-bound to the event loop it is first used on."""

    def __init__(self, url: str, timeout: float) -> None:
        self._base = httpx.URL(url)
        self._prefix = self._base.raw_path.partition(b"?")[0].rstrip(b"/")
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, connect=min(_CONNECT, timeout), pool=None),
            # as many as there are callers: one that streams for an hour must not stop others
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=_IDLE, keepalive_expiry=_IDLE_FOR
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # they are callers' own
            follow_redirects=False,
        )
        self._tells_apart: dict[bytes, tuple[bool, float]] = {}
        self._looked: tuple[bool, float] = (False, -_REACHED)

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._base)

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    def url(self, path: bytes, query: bytes) -> httpx.URL:
        """Return where a path of ours is at the provider's.

        The base URL may end with what the path begins with, ``/v1``: it is there once.
        """
        prefix = self._prefix
        if prefix:
            last = b"/" + prefix.rpartition(b"/")[2]
            if path.startswith(prefix + b"/"):
                prefix = b""
            elif path.startswith(last + b"/"):
                prefix = prefix[: -len(last)]
        return self._base.copy_with(raw_path=prefix + path + (b"?" + query if query else b""))

    # -- vectors -----------------------------------------------------------------------------

    async def embed(self, target: Target, headers: Headers, inputs: Sequence[bytes]) -> Answer:
        """Ask for the vectors of inputs, each as JSON.

        Raises: Refused for every answer but 200, Unusable for one that cannot be read.
        """
        sent = [pair for pair in headers if pair[0] not in _OF_THE_CALLERS_BODY]
        request = httpx.Request(
            "POST",
            self.url(target.path, target.query),
            headers=[*sent, _JSON, (b"accept-encoding", b"gzip, deflate")],
            content=target.opening + b",".join(inputs) + b"]}",
        )
        status, found, body = await self._answer(request, target.caller)
        told = of_an_answer(found)
        if status != 200:
            kind = next((value for name, value in found if name.lower() == b"content-type"), b"")
            told.append((b"content-type", kind or b"application/json"))
            raise Refused(status, told, body, target.caller)
        return read_answer(body, len(inputs), base64=target.base64, headers=told)

    async def _answer(self, request: httpx.Request, caller: bytes) -> tuple[int, Headers, bytes]:
        """Return an answer that is read whole.

        Raises: Refused where none comes.
        """
        try:
            async with self.opened(request, repeatable=True) as response:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > _LONGEST_BODY:
                        raise httpx.DecodingError("the answer has no end", request=request)
                return response.status_code, response.headers.raw, b"".join(parts)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self.refusal(error, caller) from None

    def refusal(self, error: Exception, caller: bytes = b"") -> Refused:
        """Return what to tell a caller when the provider did not answer."""
        log.warning("no answer from %s: %s", self._base.netloc.decode(), type(error).__name__)
        slow = isinstance(error, httpx.TimeoutException)
        what = "did not answer in time" if slow else "cannot be reached, or broke off its answer"
        body = error_body(f"The upstream {what} ({type(error).__name__}).", "upstream_error")
        return Refused(504 if slow else 502, [_JSON], body, caller)

    # -- keys --------------------------------------------------------------------------------

    async def knows(self, target: Target, headers: Headers) -> bool:
        """Say whether the list of models is shown to a caller, and not to just anybody."""
        path = _models(target.path)
        asked = [(name, value) for name, value in headers if is_credential(name)]
        if not asked or not await self._tells_keys_apart(path, target.query, asked):
            return False
        return await self._shows(path, target.query, asked) == 200

    async def _tells_keys_apart(self, path: bytes, query: bytes, asked: Headers) -> bool:
        """Say whether a key that nobody has is refused the list of models."""
        told, until = self._tells_apart.get(path, (False, 0.0))
        now = time.monotonic()
        if now < until:
            return told
        nobody = b"nearcache-" + secrets.token_hex(16).encode()
        status = await self._shows(
            path, query, [(name, _like(value, nobody)) for name, value in asked]
        )
        told = status in (401, 403)
        if len(self._tells_apart) > 1000:  # paths are callers' to choose
            self._tells_apart.clear()
        certain = told or status == 200
        self._tells_apart[path] = told, now + (_TOLD_APART if certain else _NOT_NOW)
        return told

    async def _shows(self, path: bytes, query: bytes, headers: Headers) -> int:
        request = httpx.Request("GET", self.url(path, query), headers=headers)
        try:
            return (await self._answer(request, b""))[0]
        except Refused as refused:
            return refused.status

    # -- everything else -----------------------------------------------------------------------

    @asynccontextmanager
    async def opened(
        self, request: httpx.Request, *, repeatable: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """Send a request, and give its answer as it comes.

        repeatable: it does no harm twice. It is sent again where a connection that had been idle
            breaks without a word: the provider had closed it, and has not seen the request.
        """
        try:
            response = await self._sent(request, repeatable or request.method in _REPEATABLE)
        except httpx.HTTPError:
            self._looked = False, time.monotonic()
            raise
        self._looked = True, time.monotonic()
        try:
            yield response
        finally:
            await response.aclose()

    async def _sent(self, request: httpx.Request, repeatable: bool) -> httpx.Response:
        connected = False

        async def see(event: str, _: object) -> None:
            nonlocal connected
            connected |= event == "connection.connect_tcp.started"

        request.extensions["trace"] = see
        try:
            return await self._client.send(request, stream=True)
        except _BROKEN:
            if connected or not repeatable or not isinstance(request.stream, httpx.ByteStream):
                raise
        return await self._client.send(request, stream=True)

    async def reachable(self) -> bool:
        """Say whether it answers at all; whatever it answers. Good for ten seconds."""
        reached, when = self._looked
        if time.monotonic() - when < _REACHED:
            return reached
        request = httpx.Request("HEAD", self._base.copy_with(raw_path=self._prefix + b"/"))
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), 3.0)
        try:
            async with self.opened(request):
                return True
        except httpx.HTTPError:
            return False


def _models(path: bytes) -> bytes:
    """Return where the models are listed whose vectors come from ``path``."""
    parent = path.rpartition(b"/")[0]
    return parent.partition(b"/deployments/")[0] + b"/models"


def _like(value: bytes, key: bytes) -> bytes:
    """Return a header's value with another key in it."""
    scheme, space, _ = value.partition(b" ")
    return scheme + b" " + key if space else key
