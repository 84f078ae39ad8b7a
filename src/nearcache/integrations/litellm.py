"""LiteLLM: its response cache, near and far.

::

    import litellm

    from nearcache.integrations.litellm import NearCacheLiteLLM

    litellm.cache = NearCacheLiteLLM("redis://localhost")
"""

import asyncio
import json
import math
import sys
import threading
from array import array
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from nearcache.caches.checks import Ttl
from nearcache.caches.near import NearCache
from nearcache.entry import MISSING
from nearcache.errors import CodecError
from nearcache.integrations._shared import TOGETHER, missing, store_answers
from nearcache.options import Options

try:
    from litellm.caching.base_cache import BaseCache
    from litellm.caching.caching import Cache
    from litellm.types.caching import LiteLLMCacheType
    from litellm.types.utils import is_litellm_owned_kwarg
except ImportError as error:
    raise missing("litellm", "litellm", error) from error

__all__ = ["NearCacheBackend", "NearCacheLiteLLM"]

_DECIDES = frozenset({"api_base", "api_version", "custom_llm_provider", "region_name"})
_HARMLESS = frozenset({"max_retries", "request_timeout", "stream_timeout", "timeout"})


class NearCacheLiteLLM(Cache):
    """A cache for LiteLLM: ``litellm.cache = NearCacheLiteLLM(…)``.

    store: None (this process alone), a URL (``sqlite:///file.db``, ``redis://…``), or a store
        object.
    namespace: programs that share a server choose different ones.
    ttl: seconds a response lives; None keeps it until it is evicted. A call's own
        ``cache={"ttl": …}`` comes first.
    max_entries, max_bytes: most responses near.
    given: what else LiteLLM's Cache takes: ``mode``, ``supported_call_types`` …

    The key is LiteLLM's, and the options that it leaves out: endpoint, API version, provider, and
    what only one provider knows (``input_type``, ``task``, ``extra_body`` …). Of an asynchronous
    embedding call each text is an entry of its own, and only those missing are sent.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "litellm",
        ttl: float | None = None,
        max_entries: int = 10_000,
        max_bytes: int | None = None,
        options: Options = Options(),  # noqa: B008  frozen
        **given: Any,
    ) -> None:
        backend = NearCacheBackend(
            store,
            namespace=namespace,
            ttl=ttl,
            max_entries=max_entries,
            max_bytes=max_bytes,
            options=options,
        )
        super().__init__(type=LiteLLMCacheType.LOCAL, **given)
        self.cache = self._backend = backend

    def get_cache_key(self, **kwargs: Any) -> str:
        """Return the key of a call."""
        key: str = super().get_cache_key(**kwargs)
        more = _more_that_decides(kwargs)
        return sha256(f"{key}{more}".encode()).hexdigest() if more else key

    async def async_add_cache_pipeline(self, result: Any, *given: Any, **kwargs: Any) -> None:
        """Keep the embeddings of a call, each under its own text."""
        await super().async_add_cache_pipeline(_in_order(result), *given, **kwargs)

    def close(self) -> None:
        """End: close the store if it was given as a URL. May be called again."""
        self._backend.close()


def _more_that_decides(kwargs: Mapping[str, Any]) -> str:
    """Return, as one text, the options of a call that LiteLLM's own key leaves out."""
    more = {
        name: value
        for name, value in kwargs.items()
        if value is not None
        and name not in _HARMLESS
        and (name in _DECIDES or not is_litellm_owned_kwarg(name))
    }
    client = more.pop("client", None)
    if client is not None:
        more["client"] = str(getattr(client, "base_url", ""))
    body = more.get("extra_body")
    asked = {**body, **more} if isinstance(body, Mapping) else more
    if any(asked.get(name) for name in TOGETHER):
        return uuid4().hex
    try:
        return json.dumps(more, sort_keys=True) if more else ""
    except (TypeError, ValueError):
        return uuid4().hex  # what is no JSON cannot be part of a key: not cached, rather than wrong


def _in_order(result: Any) -> Any:
    """Return a response whose embeddings come as the texts did: LiteLLM goes by position."""
    data = getattr(result, "data", None)
    if not isinstance(data, list):
        return result
    places = [_field(one, "index") for one in data]
    if places == list(range(len(data))) or sorted(map(str, places)) != sorted(
        map(str, range(len(data)))
    ):
        return result
    ordered = [one for _, one in sorted(zip(places, data, strict=True), key=lambda pair: pair[0])]
    return result.model_copy(update={"data": ordered})


def _field(one: Any, name: str) -> Any:
    return one.get(name) if isinstance(one, Mapping) else getattr(one, name, None)


class NearCacheBackend(BaseCache):
    """LiteLLM's interface of a key-value cache; ``NearCacheLiteLLM`` is built on it.

    Takes what NearCacheLiteLLM takes. Values are what JSON takes; the numbers of an embedding are
    kept as eight bytes each, to the bit. Reads that come together on an event loop are one round
    trip. A store that fails is a miss. Thread-safe; serves several event loops.
    """

    def __init__(
        self,
        store: object = None,
        *,
        namespace: str = "litellm",
        ttl: float | None = None,
        max_entries: int = 10_000,
        max_bytes: int | None = None,
        options: Options = Options(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        self.near: NearCache[str, Any] = NearCache(
            store,
            namespace=namespace,
            codec=_ResponseCodec(),
            ttl=ttl,
            max_entries=max_entries,
            max_bytes=max_bytes,
            options=options,
        )
        self._anear = self.near.as_async()
        self._together = _Together(self._anear)

    # -- one key -----------------------------------------------------------------------------

    def get_cache(self, key: str, **_kwargs: Any) -> Any:
        """Return the value of a key, or None."""
        return self.near.get(key)

    async def async_get_cache(self, key: str, **_kwargs: Any) -> Any:
        """Return the value of a key, or None."""
        value = self._anear.near_value(key)
        return await self._together.get(key) if value is MISSING else value

    def set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """Keep a value, unless it is an embedding that nobody should get."""
        if _is_sound(value):
            self.near.put(key, value, _ttl(kwargs))

    async def async_set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """Keep a value, unless it is an embedding that nobody should get."""
        if _is_sound(value):
            await self._anear.put(key, value, _ttl(kwargs))

    async def batch_cache_write(self, key: str, value: Any, **kwargs: Any) -> None:
        """Keep a value."""
        await self.async_set_cache(key, value, **kwargs)

    def delete_cache(self, key: str) -> None:
        """Forget a key, in both tiers and every process."""
        self.near.invalidate(key)

    async def async_delete_cache(self, key: str) -> None:
        """Forget a key, in both tiers and every process."""
        await self._anear.invalidate(key)

    # -- many --------------------------------------------------------------------------------

    def batch_get_cache(self, keys: Sequence[str], **_kwargs: Any) -> list[Any]:
        """Return the value of each key, or None: one round trip."""
        return self.near.get_batch(keys)

    async def async_batch_get_cache(self, keys: Sequence[str], **_kwargs: Any) -> list[Any]:
        """Return the value of each key, or None: one round trip."""
        return await self._anear.get_batch(keys)

    async def async_set_cache_pipeline(
        self, cache_list: Sequence[tuple[str, Any]], **kwargs: Any
    ) -> None:
        """Keep values: one round trip."""
        sound = [(key, value) for key, value in cache_list if _is_sound(value)]
        await self._anear.put_batch(sound, _ttl(kwargs))

    async def delete_cache_keys(self, keys: Sequence[str]) -> None:
        """Forget keys, in both tiers and every process."""
        await self._anear.invalidate_batch(keys)

    def flush_cache(self) -> None:
        """Forget everything in this namespace, in both tiers and every process."""
        self.near.clear()

    # -- the rest ----------------------------------------------------------------------------

    async def ping(self) -> bool:
        """Say whether the store answers; True without a store."""
        return await store_answers(self._anear) is not False

    async def test_connection(self) -> dict[str, Any]:
        """Return whether the store answers, as LiteLLM's proxy shows it."""
        if await self.ping():
            return {"status": "success", "message": "the store answers"}
        return {"status": "failed", "message": "the store does not answer", "error": None}

    async def disconnect(self) -> None:
        """End: close the store if it was given as a URL."""
        await self._anear.close()

    def close(self) -> None:
        """End: close the store if it was given as a URL. May be called again."""
        self.near.close()


def _ttl(kwargs: Mapping[str, Any]) -> Ttl:
    ttl = kwargs.get("ttl")
    return ... if ttl is None else float(ttl)


def _is_sound(value: Any) -> bool:
    """Say whether a value may be kept: an embedding that is empty or not finite may not."""
    response = value.get("response") if isinstance(value, dict) else None
    numbers = response.get("embedding", "") if isinstance(response, dict) else ""
    if isinstance(numbers, str):
        return True
    if not isinstance(numbers, list) or not numbers:
        return False
    try:
        return all(map(math.isfinite, numbers))
    except (TypeError, OverflowError):
        return False


class _Together:
    """Reads that are asked for in one turn of an event loop, answered by one round trip."""

    def __init__(self, near: Any) -> None:
        self._near = near
        self._lock = threading.Lock()
        self._asked: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[str, list[asyncio.Future[Any]]]
        ] = WeakKeyDictionary()
        self._reading: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> Any:
        """Return the value of a key, or None."""
        loop = asyncio.get_running_loop()
        with self._lock:
            asked = self._asked.get(loop)
            if asked is None:
                asked = self._asked[loop] = {}
                loop.call_soon(self._start, loop)
        answer: asyncio.Future[Any] = loop.create_future()
        asked.setdefault(key, []).append(answer)
        return await answer

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            asked = self._asked.pop(loop)
        task = loop.create_task(self._read(asked))
        self._reading.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self._reading.discard)

    async def _read(self, asked: dict[str, list[asyncio.Future[Any]]]) -> None:
        keys = [key for key, waiting in asked.items() for _ in waiting]
        waiting = [answer for answers in asked.values() for answer in answers]
        try:
            values = await self._near.get_batch(keys)
        except BaseException as error:
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            raise
        for answer, value in zip(waiting, values, strict=True):
            if not answer.done():  # its caller may have left
                answer.set_result(value)


class _ResponseCodec:
    """JSON, but for the numbers of an embedding: these are kept as eight bytes each."""

    name = "litellm"
    kind = 96

    def encode(self, value: Any) -> bytes:
        numbers = _numbers_of(value)
        if numbers is not None:
            value = {**value, "response": {**value["response"], "embedding": None}}
        head = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        data = head.encode("utf-8", "surrogatepass")
        tail = b"" if numbers is None else _little(numbers).tobytes()
        return b"%d\n%b%b" % (len(data), data, tail)

    def decode(self, data: bytes | memoryview) -> Any:
        whole = bytes(data)
        size, _, rest = whole.partition(b"\n")
        if not size.isdigit() or int(size) > len(rest) or (len(rest) - int(size)) % 8:
            raise CodecError("these bytes are no response of LiteLLM")
        head, tail = rest[: int(size)], rest[int(size) :]
        value = json.loads(head.decode("utf-8", "surrogatepass"))
        if tail:
            value["response"]["embedding"] = _little(array("d", tail)).tolist()
        return value


def _numbers_of(value: Any) -> "array[float] | None":
    """Return the numbers of an embedding, if they come back as what they are."""
    response = value.get("response") if isinstance(value, dict) else None
    numbers = response.get("embedding") if isinstance(response, dict) else None
    if not isinstance(numbers, list) or not numbers or set(map(type, numbers)) != {float}:
        return None
    return array("d", numbers)


def _little(numbers: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        numbers = array("d", numbers)
        numbers.byteswap()
    return numbers
