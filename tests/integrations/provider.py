"""A provider of embeddings that speaks OpenAI's protocol over HTTP, counts, and answers unsorted.

The vector of an input is that of its text (``embedders.vector``); token ids stand for "tokens 1,2".
"""

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from embedders import vector

__all__ = ["Provider", "provider"]


def text_of(one: Any) -> str:
    return one if isinstance(one, str) else f"tokens {','.join(map(str, one))}"


class Provider:
    """What it was asked, and what it is to answer instead.

    ``failure`` is (status, headers), ``recorded`` is (status, answer).
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.failure: tuple[int, dict[str, str]] | None = None
        self.recorded: tuple[int, dict[str, Any]] | None = None
        self.numbered = True  # False: every vector has the index 0
        self.size = 8
        self.lock = threading.Lock()
        self.base_url = ""

    @property
    def times(self) -> Counter:
        """How often each input was asked for."""
        with self.lock:
            return Counter(text for asked in self.requests for text in asked["texts"])

    def answer(self, path: str, headers: Any, body: dict[str, Any]) -> dict[str, Any]:
        given = body["input"]
        many = isinstance(given, list) and not isinstance(given[0], int)
        texts = [text_of(one) for one in (given if many else [given])]
        asked = {"path": path, "headers": dict(headers), "body": body, "texts": texts}
        with self.lock:
            self.requests.append(asked)
        rows = [vector(text, body.get("dimensions") or self.size) for text in texts]
        data = [
            {"object": "embedding", "index": place, "embedding": self.shown(row, body)}
            for place, row in enumerate(rows)
        ]
        if not self.numbered:
            data = [{**item, "index": 0} for item in data]
        else:
            data.reverse()  # as nothing forbids
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": f"{body['model']}-001", "usage": usage}

    @staticmethod
    def shown(row: Any, body: dict[str, Any]) -> Any:
        if body.get("encoding_format") == "base64":
            return base64.b64encode(row.tobytes()).decode()
        return [float(f"{number:.6g}") for number in row.tolist()]  # rounded, as some do


@contextmanager
def provider() -> Iterator[Provider]:
    """Serve one, on a port of its own."""
    one = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if one.failure is not None:
                status, headers = one.failure
                answer = {"error": {"message": "as you wished", "type": "test", "code": None}}
            elif one.recorded is not None:
                (status, answer), headers = one.recorded, {}
                one.requests.append(body)
            else:
                status, headers = 200, {}
                answer = one.answer(self.path, self.headers, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("x-request-id", f"req_{len(one.requests)}")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    one.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()
