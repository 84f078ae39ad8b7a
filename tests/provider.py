"""A model server for the tests that speaks OpenAI's API, and fails when told.

::

    with Provider() as provider:
        client = openai.OpenAI(base_url=provider.url, api_key="sk-good")
        ...
        assert provider.times["a text"] == 1

An input's vector is a function of the model, the dimensions and the input (``provider.vector``), so
that a test can say what is right, and an answer to another question is wrong. Numbers are written
in forms that a JSON library would not choose, as a provider may. As a process of its own:
``python tests/provider.py --size 1536`` prints its URL; ``GET /counts`` says what it saw.
"""

import argparse
import asyncio
import base64
import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from embedders import vector
from provider_rules import Refused, check, inputs_of, refusal, tokens
from provider_wire import Answer, Request, speak
from servers import free_port

__all__ = ["KEY", "MODEL", "OTHER_KEY", "Call", "Provider", "decimals"]

KEY, OTHER_KEY = "sk-good", "sk-other"
MODEL = "text-embedding-3-small"
_MODELS = (MODEL, "text-embedding-3-large", "text-embedding-ada-002", "m")
_HANG = 30.0

Twist = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One request for embeddings that was answered with vectors."""

    credential: str
    model: str
    inputs: list[Any]
    body: dict[str, Any]
    headers: list[tuple[str, str]]


class Provider:
    """The server, in a thread of its own, on a free loopback port.

    What may be set at any time: ``keys`` (who is let in), ``restricted`` (keys that see all models
    and may use some), ``models`` (None: any), ``size`` of a vector, ``lenient`` (takes unknown
    fields; they change the vector), ``base64`` (False: the answer is floats whatever was asked),
    ``usage`` (False: not told), ``compress`` (gzip for who takes it), ``personal`` (every key gets
    vectors of its own), ``pages`` (origins whose pages may read an answer), ``slow`` (seconds
    before an answer), ``twist`` (changes an answer before it is sent; bytes are sent as they are),
    ``replay`` (answers in its place; None: itself).
    """

    def __init__(self, size: int = 8, *, embed: Callable[[str], Any] | None = None) -> None:
        self.size = size
        self.keys = {KEY, OTHER_KEY}
        self.organizations = {"org-mine"}
        self.restricted: dict[str, set[str]] = {}
        self.prefixes = {"/v1"}
        self.models: set[str] | None = set(_MODELS)
        self.lenient = self.compress = self.personal = False
        self.base64 = self.usage = True
        self.pages: set[str] = set()
        self.lists_models = True
        self.slow = 0.0
        self.twist: Twist | None = None
        self.replay: Callable[[Request], Answer | None] | None = None
        self.calls: list[Call] = []
        self.requests: list[Request] = []
        self.inside = self.most_inside = 0
        self._embed = embed
        self._faults: list[tuple[int | None, Answer]] = []
        self._lock = threading.Lock()
        self._gate = threading.Event()
        self._gate.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = free_port()
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Where it is

    @property
    def root(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL that clients take."""
        return f"{self.root}/v1"

    # What it saw

    @property
    def batches(self) -> list[int]:
        """How many inputs each call had."""
        return [len(call.inputs) for call in list(self.calls)]

    @property
    def times(self) -> Counter[Any]:
        """How often each input was embedded; token ids as tuples."""
        return Counter(
            tuple(one) if isinstance(one, list) else one
            for call in list(self.calls)
            for one in call.inputs
        )

    def seen(self, path: str) -> int:
        """How many requests there were for a path."""
        return sum(request.path == path for request in list(self.requests))

    def forget(self) -> None:
        """Forget what was seen."""
        with self._lock:
            self.calls, self.requests = [], []

    # What is right

    def vector(self, one: Any, model: str = MODEL, dimensions: int | None = None, **more: Any):
        """The one right vector of an input. Shapes: (d,) float32."""
        more.pop("user", None)
        if self._embed is not None and isinstance(one, str) and not more:
            row = np.asarray(self._embed(one), np.float32)
            return row[: dimensions or len(row)]
        name = json.dumps([model, dimensions, one, more], sort_keys=True)
        return vector(name, dimensions or self.size)

    def decimals(self, one: Any, model: str = MODEL, dimensions: int | None = None, **more: Any):
        """The numbers as they are written in an answer."""
        return decimals(self.vector(one, model, dimensions, **more))

    # Faults

    def down(self) -> None:
        """Refuse connections, and end those there are."""

        async def close() -> None:
            assert self._server is not None
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()

        self._run(close())

    def up(self) -> None:
        """Listen again."""

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=2048)

        self._server = self._run(listen())

    def fail(
        self,
        status: int,
        message: str = "The server had an error while processing your request. Sorry about that!",
        code: str | None = None,
        *,
        times: int | None = None,
        kind: str = "server_error",
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        """Answer requests for embeddings with an error, some ``times`` or until ``calm``."""
        answer = refusal(status, message, code, kind=kind, headers=headers)
        answer.cut = cut
        with self._lock:
            self._faults.append((times, answer))

    def limit(self, seconds: str = "7", times: int | None = None) -> None:
        """Answer 429 with ``retry-after``."""
        self.fail(
            429,
            "Rate limit reached for text-embedding-3-small in organization org-x on requests per "
            "min (RPM): Limit 3, Used 3, Requested 1. Please try again in 7s.",
            "rate_limit_exceeded",
            kind="requests",
            headers={"retry-after": seconds, "retry-after-ms": f"{seconds}000"},
            times=times,
        )

    def cut(self, at: int, times: int | None = None) -> None:
        """Hang up after ``at`` bytes of an answer's body; -1: before the first byte of its head."""
        with self._lock:
            self._faults.append((times, Answer(cut=at)))

    def calm(self) -> None:
        """End every fault."""
        with self._lock:
            self._faults = []
        self.twist = self.replay = None
        self.slow = 0.0
        self._gate.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Answer nothing that is asked inside the ``with``, until it ends."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def close(self) -> None:
        """End it. Any number of times."""
        if self._loop.is_closed():
            return
        self._gate.set()
        self.down()

        async def drain() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._run(drain())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_HANG)
        self._loop.close()

    # How

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_HANG)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await speak(reader, writer, self._answer)
        finally:
            self._open.discard(writer)

    async def _answer(self, request: Request) -> Answer:
        if request.path == "/counts":
            return self._counts()
        self.requests.append(request)
        if self.replay is not None and (recorded := self.replay(request)) is not None:
            return recorded
        try:
            answer = await self._routed(request)
        except Refused as refused:
            answer = refused.answer
        headers = {
            "x-request-id": f"req_{len(self.requests)}",
            "openai-version": "2020-10-01",
            "openai-processing-ms": "7",
            "x-ratelimit-limit-requests": "3000",
            "x-ratelimit-remaining-requests": str(3000 - len(self.requests)),
            **answer.headers,
        }
        origin = request.header("origin")
        if origin in self.pages:
            headers |= {"access-control-allow-origin": origin, "vary": "origin"}
        if self.compress and "gzip" in ",".join(request.all("accept-encoding")) and answer.body:
            answer.body = gzip.compress(answer.body)
            headers["content-encoding"] = "gzip"
        answer.headers = headers
        return answer

    async def _routed(self, request: Request) -> Answer:
        path = request.path
        for prefix in self.prefixes:  # "/v1" and what is set beside it lead to the same
            if path == prefix + "/embeddings":
                path = "/v1/embeddings"
        parts = path.removeprefix("/").split("/")
        credential = self._admit(request, azure=parts[0] == "openai")
        route = (request.method, *parts)
        match route:
            case ("POST", "v1", "embeddings"):
                return await self._embeddings(request, credential, None)
            case ("POST", "openai", "deployments", model, "embeddings"):
                if "api-version" not in request.query:
                    raise Refused(refusal(404, "Resource not found", "404", kind="not_found"))
                return await self._embeddings(request, credential, model)
            case ("GET" | "HEAD", "v1", "models") if self.lists_models:
                models = [{"id": m, "object": "model"} for m in sorted(self.models or _MODELS)]
                return _json({"object": "list", "data": models})
            case ("POST", "v1", "chat", "completions"):
                return await self._chat(request)
            case (_, "v1", "echo", *_):
                return _json(
                    {
                        "method": request.method,
                        "target": request.target,
                        "headers": request.headers,
                        "body": base64.b64encode(request.body).decode(),
                    }
                )
        message = f"Invalid URL ({request.method} {request.path})"
        raise Refused(refusal(404, message))

    def _admit(self, request: Request, *, azure: bool) -> str:
        if len(request.all("authorization")) > 1 or len(request.all("api-key")) > 1:
            raise Refused(refusal(400, "More than one credential."))
        given = request.header("api-key") if azure else None
        authorization = request.header("authorization")
        if given is None and authorization is not None:
            scheme, _, rest = authorization.partition(" ")
            given = rest.strip() if scheme.lower() == "bearer" else ""
        if not given:
            raise Refused(
                refusal(
                    401,
                    "You didn't provide an API key. You need to provide your API key in an "
                    "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                )
            )
        if given not in self.keys:
            raise Refused(
                refusal(
                    401,
                    f"Incorrect API key provided: {given[:8]}. You can find your API key at "
                    "https://platform.openai.com/account/api-keys.",
                    "invalid_api_key",
                )
            )
        organization = request.header("openai-organization")
        if organization is not None and organization not in self.organizations:
            message = f"No such organization: {organization}."
            raise Refused(refusal(401, message, "invalid_organization"))
        return given

    async def _embeddings(self, request: Request, credential: str, model: str | None) -> Answer:
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            await self._wait()
            if (fault := self._fault()) is not None and fault.body:
                return fault
            answer = self._embedded(request, credential, model)
            if fault is not None:
                answer.cut = fault.cut
            return answer
        finally:
            with self._lock:
                self.inside -= 1

    async def _wait(self) -> None:
        if self.slow:
            await asyncio.sleep(self.slow)
        while not self._gate.is_set():
            await asyncio.sleep(0.002)

    def _fault(self) -> Answer | None:
        with self._lock:
            if not self._faults:
                return None
            times, answer = self._faults[0]
            if times is not None:
                self._faults[0] = (times - 1, answer)
                if times == 1:
                    del self._faults[0]
            return Answer(answer.status, answer.body, dict(answer.headers), cut=answer.cut)

    def _embedded(self, request: Request, credential: str, deployment: str | None) -> Answer:
        body = check(request.data, lenient=self.lenient)
        model = deployment or body["model"]
        if self.models is not None and model not in self.models:
            raise Refused(
                refusal(
                    404,
                    f"The model `{model}` does not exist or you do not have access to it.",
                    "model_not_found",
                )
            )
        if model not in self.restricted.get(credential, {model}):
            message = "You have insufficient permissions for this operation. Missing scopes: "
            raise Refused(refusal(403, message + "model.request."))
        inputs = inputs_of(body)
        self.calls.append(Call(credential, model, inputs, body, request.headers))
        known = ("model", "input", "encoding_format", "dimensions", "user")
        more = {name: value for name, value in body.items() if name not in known}
        if self.personal:
            more["credential"] = credential
        packed = body.get("encoding_format") == "base64" and self.base64
        size = body.get("dimensions")
        rows = [self.vector(one, model, size, **more) for one in inputs]
        spent = sum(map(tokens, inputs))
        whole: dict[str, Any] = {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": base64.b64encode(row.tobytes()).decode() if packed else row,
                }
                for index, row in enumerate(rows)
            ],
            "model": model,
        }
        if self.usage:
            whole["usage"] = {"prompt_tokens": spent, "total_tokens": spent}
        if self.twist is not None:
            whole = self.twist(whole)
        data = whole if isinstance(whole, bytes) else _written(whole)
        headers = {"content-type": "application/json", "openai-model": quote(model[:100])}
        return Answer(200, data, headers)

    async def _chat(self, request: Request) -> Answer:
        body = json.loads(request.data)
        words = ["Hel", "lo", " wörld"]
        if not body.get("stream"):
            text = "".join(words)
            return _json(
                {
                    "id": "chatcmpl-1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": body["model"],
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": text},
                            "finish_reason": "stop",
                        }
                    ],
                }
            )

        async def stream() -> AsyncIterator[bytes]:
            for number, word in enumerate(words):
                if number:
                    await self._wait()  # the rest comes when the test has read what there is
                chunk = {
                    "id": "chatcmpl-1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": body["model"],
                    "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
                }
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

        return Answer(headers={"content-type": "text/event-stream"}, chunks=stream())

    def _counts(self) -> Answer:
        sizes = self.batches
        times = self.times.values()
        return _json(
            {
                "requests": len(self.requests),
                "calls": len(sizes),
                "inputs": sum(sizes),
                "distinct": len(times),
                "most_times": max(times, default=0),
            }
        )


def decimals(row: Any) -> list[str]:
    """Each number in a form of its own: shortest, all digits of the double, an exponent."""
    forms: tuple[Callable[[Any], str], ...] = (
        lambda value: str(value),
        lambda value: repr(float(value)),
        lambda value: f"{float(value):.10e}",
        lambda value: f"{float(value):.20f}0",
    )
    return [forms[at % len(forms)](value) for at, value in enumerate(row)]


def _written(whole: dict[str, Any]) -> bytes:
    """JSON, laid out as the service does; matrices' rows with ``decimals``."""
    rows: list[str] = []

    def name(value: Any) -> str:
        rows.append("[\n        " + ",\n        ".join(decimals(value)) + "\n      ]")
        return f"\x00{len(rows) - 1}"

    text = json.dumps(whole, indent=2, default=name)
    parts = text.split('"\\u0000')
    for at, part in enumerate(parts[1:], 1):
        number, rest = part.split('"', 1)
        parts[at] = rows[int(number)] + rest
    return "".join(parts).encode() + b"\n"


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"content-type": "application/json"})


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--slow", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--any-model", action="store_true")
    arguments = parser.parse_args()
    provider = Provider(arguments.size)
    provider.slow = arguments.slow
    if arguments.any_model:
        provider.models = None
    print(provider.url, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
