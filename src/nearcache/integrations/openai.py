"""The OpenAI SDK with a cache before its embeddings: ``client = cached(OpenAI(), cache)``."""

import base64
import binascii
import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nearcache.caches.checks import Floats
from nearcache.caches.embeddings import EmbeddingCache
from nearcache.caches.embeddings_async import AsyncEmbeddingCache
from nearcache.errors import ConfigError, LoaderError
from nearcache.integrations._shared import TOGETHER, Embedding, missing
from nearcache.keys import EmbeddingModel

try:
    from openai import AsyncOpenAI, OpenAI
    from openai.resources import AsyncEmbeddings, Embeddings
    from openai.types import CreateEmbeddingResponse
    from openai.types import Embedding as Item
    from openai.types.create_embedding_response import Usage
except ImportError as error:
    raise missing("openai", "openai", error) from error

__all__ = ["cached"]

Client = TypeVar("Client", bound=OpenAI | AsyncOpenAI)

_ONE_REQUEST = 2**31  # the caller chose how many inputs there are in one
_NO_LIMIT = 10_000  # how many requests may be under way is the SDK's business
_RAW = "x-stainless-raw-response"  # how the SDK asks itself for a response that is not parsed
_TRACES = frozenset(
    """
    api-key authorization baggage helicone-auth idempotency-key traceparent tracestate user-agent
    x-client-request-id x-request-id
    """.split()
)
"""Headers that say who asks, or follow a request around: they change no vector."""
_PLAIN = frozenset(("input", "model", "dimensions", "encoding_format", "user", "timeout"))
_EXTRA = frozenset(("extra_headers", "extra_query", "extra_body"))


def cached(client: Client, cache: EmbeddingCache | AsyncEmbeddingCache) -> Client:
    """Return the same client, whose ``embeddings.create`` asks for each text once.

    client: an OpenAI, AsyncOpenAI or a class of theirs (Azure's); it stays as it is. The one that
        is returned shares its connections; closing either closes them.
    cache: either face of an embedding cache. Its ``precision`` is what answers keep.

    What ``embeddings.with_raw_response`` and ``with_streaming_response`` give, and all else that
    the client does, does not touch the cache. ``with_options`` and ``copy`` keep it.
    """
    kind: Any = type(client)
    resource: Any
    if isinstance(client, AsyncOpenAI):
        resource = _AsyncEmbeddings
    elif isinstance(client, OpenAI):
        resource = _Embeddings
    else:
        msg = f"client is an OpenAI or AsyncOpenAI, not {kind.__name__}"
        raise ConfigError(msg)
    way = Embedding(cache, max_batch=_ONE_REQUEST, max_concurrency=_NO_LIMIT)

    def embeddings(self: Any) -> Any:
        made = self.__dict__.get("_nearcache_embeddings")
        if made is None:
            made = self.__dict__["_nearcache_embeddings"] = resource(self, way)
        return made

    def keep(self: Any, value: object) -> None:
        """Take no notice: older clients set their own when they are made."""

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    twin = copy.copy(client)
    for name in ("embeddings", "_nearcache_embeddings"):
        twin.__dict__.pop(name, None)
    twin.__class__ = type(
        kind.__name__, (kind,), {**names, "embeddings": property(embeddings, keep)}
    )
    return twin


class _Embeddings(Embeddings):
    def __init__(self, client: OpenAI, way: Embedding) -> None:
        super().__init__(client)
        self._way = way

    def create(self, **given: Any) -> CreateEmbeddingResponse:
        send = super().create
        request = _request(self._client, given)
        if request is None:
            return send(**given)
        spent = _Spent()

        def call(texts: list[str]) -> Floats:
            return spent.vectors(send(**request.part(texts)), len(texts))

        rows = self._way.rows(request.texts, request.model, call, request.asker(self._client))
        return spent.answer(rows, request)


class _AsyncEmbeddings(AsyncEmbeddings):
    def __init__(self, client: AsyncOpenAI, way: Embedding) -> None:
        super().__init__(client)
        self._way = way

    async def create(self, **given: Any) -> CreateEmbeddingResponse:
        send = super().create
        request = _request(self._client, given)
        if request is None:
            return await send(**given)
        spent = _Spent()

        async def call(texts: list[str]) -> Floats:
            return spent.vectors(await send(**request.part(texts)), len(texts))

        asker = request.asker(self._client)
        rows = await self._way.arows(request.texts, request.model, call, asker)
        return spent.answer(rows, request)


class _Request(NamedTuple):
    """A call that the cache can answer; ``inputs`` are what its texts stand for."""

    given: dict[str, Any]
    texts: list[str]
    inputs: Mapping[str, Any] | None
    model: EmbeddingModel

    @property
    def format(self) -> str:
        """What the caller wants to see: "float", "base64", or "" for the SDK's own choice."""
        return str(_given(self.given, "encoding_format", ""))

    def asker(self, client: object) -> object:
        """Return what tells calls apart that may fail one by one: by their key, their patience."""
        more = [repr(self.given.get(name)) for name in ("timeout", "extra_headers")]
        return hash((id(client), *more))

    def part(self, texts: list[str]) -> dict[str, Any]:
        """Return the same call for some of its texts."""
        whole = len(texts) == len(self.texts)
        inputs = [self.inputs[text] for text in texts] if self.inputs else texts
        # the SDK asks for base64, too, where nothing else is said; it would make lists of it
        return {
            **self.given,
            "input": self.given["input"] if whole else inputs,
            "encoding_format": self.format or "base64",
        }


def _request(client: Any, given: dict[str, Any]) -> _Request | None:
    """Return what the cache can do of a call; None where the provider is to answer it."""
    if not given.keys() <= _PLAIN | _EXTRA:
        return None
    name, wanted = given.get("model"), _given(given, "encoding_format", "")
    if not isinstance(name, str) or not name or wanted not in ("", "float", "base64"):
        return None
    if isinstance(given.get("input"), Iterable) and not isinstance(given["input"], (str, Mapping)):
        given["input"] = list(given["input"])  # it may be a stream
    found = _texts(given.get("input"))
    asked_with = {name: given.get(name) or {} for name in _EXTRA}
    if found is None or any(not isinstance(part, Mapping) for part in asked_with.values()):
        return None
    headers = {key.lower(): value for key, value in asked_with["extra_headers"].items()}
    body = asked_with["extra_body"]
    if _RAW in headers or "input" in body or "encoding_format" in body:
        return None
    if any(body.get(name) for name in TOGETHER):
        return None
    texts, inputs = found
    params: dict[str, object] = {
        "endpoint": str(client.base_url),
        "query": {**client.default_query, **asked_with["extra_query"]},
        "headers": _digest({**getattr(client, "_custom_headers", {}), **headers}),
        "body": dict(body),
        "dimensions": _given(given, "dimensions", 0),
        "organization": client.organization,
        "project": getattr(client, "project", None),
        # decimals may be of less than float32
        "decimals": wanted == "float",
        "tokens": inputs is not None,
    }
    try:
        model = EmbeddingModel(name, params={key: value for key, value in params.items() if value})
    except ConfigError:  # something of it is no JSON
        return None
    return _Request(given, texts, inputs, model)


def _given(given: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return an argument, or ``default`` where the SDK's own "not given" stands."""
    value = given.get(name, default)
    return default if type(value).__name__ in ("NotGiven", "Omit") else value


def _texts(given: Any) -> tuple[list[str], Mapping[str, Any] | None] | None:
    """Return the texts that stand for some inputs, and what each stands for if it is no text."""
    if isinstance(given, str):
        return [given], None
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(one, str) for one in given):
        return given, None
    lists = [given] if all(map(_is_token, given)) else given
    if not all(isinstance(one, (list, tuple)) and all(map(_is_token, one)) for one in lists):
        return None
    texts = [",".join(map(str, tokens)) for tokens in lists]
    return texts, dict(zip(texts, lists, strict=True))


def _is_token(one: object) -> bool:
    return isinstance(one, int) and not isinstance(one, bool)


def _digest(headers: Mapping[str, object]) -> str:
    """Return what tells headers apart that may change a vector, and shows no secret of theirs."""
    kept = {
        key.lower(): value if isinstance(value, str) else type(value).__name__
        for key, value in headers.items()
        if key.lower() not in _TRACES
    }
    return hashlib.sha256(json.dumps(sorted(kept.items())).encode()).hexdigest() if kept else ""


class _Spent:
    """What the provider was paid for one call, how it calls the model, and the call."""

    def __init__(self) -> None:
        self._tokens = [0, 0]
        self._model = ""
        self._request_id: str | None = None

    def vectors(self, response: CreateEmbeddingResponse, count: int) -> Floats:
        """Return the vectors of a response in the order of its inputs; remember what they cost."""
        usage: Any = response.usage
        for place, name in enumerate(("prompt_tokens", "total_tokens")):
            self._tokens[place] += getattr(usage, name, 0) or 0
        self._model = response.model or ""
        self._request_id = getattr(response, "_request_id", None)
        data: Any = response.data or []
        places = [item.index for item in data]
        if sorted(places, key=str) == sorted(range(count), key=str):
            data = sorted(data, key=lambda item: item.index)
        elif len(set(places)) > 1 or len(data) != count:  # all alike: this server numbers nothing
            msg = (
                f"the provider gave {len(data)} vectors, numbered {places[:5]}…, for {count} texts"
            )
            raise LoaderError(msg)
        rows = [_row(item.embedding) for item in data]
        if len({len(row) for row in rows}) != 1:
            msg = "the provider gave vectors of several dimensions for one request"
            raise LoaderError(msg)
        return np.array(rows)

    def answer(self, rows: Floats, request: _Request) -> CreateEmbeddingResponse:
        """Return what the SDK would; ``usage`` counts what was really spent."""
        show = _as_base64 if request.format == "base64" else _as_list
        prompt, total = self._tokens
        response = CreateEmbeddingResponse.construct(
            data=[],
            model=self._model or request.model.name,
            object="list",
            usage=Usage(prompt_tokens=prompt, total_tokens=total),
        )
        response._request_id = self._request_id
        for place, row in enumerate(rows):
            item = Item.construct(embedding=[], index=place, object="embedding")
            item.embedding = show(row)  # set afterwards: the SDK would look at every number
            response.data.append(item)
        return response


def _row(embedding: Any) -> Any:
    if not isinstance(embedding, str):
        return np.asarray(embedding)
    try:
        return np.frombuffer(base64.b64decode(embedding), "<f4")
    except (ValueError, binascii.Error) as error:
        msg = "the provider gave what is no base64 of float32"
        raise LoaderError(msg) from error


def _as_list(row: Floats) -> Any:
    return row.tolist()


def _as_base64(row: Floats) -> Any:
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode()
