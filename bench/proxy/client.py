"""A client that costs next to nothing: one socket, bytes made beforehand, answers not parsed."""

import asyncio
import json
import re
import socket
from collections.abc import Sequence
from typing import Self

from bench.proxy.servers import KEY, MODEL, Running

__all__ = ["Wire", "ask_all", "request", "rows"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def request(server: Running, texts: Sequence[str], encoding: str = "base64") -> bytes:
    """Return the bytes that openai-python would send, without its headers about itself."""
    asked = {"model": MODEL, "input": list(texts), "encoding_format": encoding}
    body = json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode()
    head = (
        f"POST {server.prefix}/embeddings HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
        f"authorization: Bearer {KEY}\r\naccept: application/json\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Wire:
    """A connection that is kept."""

    def __init__(self, server: Running) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(16 * 2**20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, message: bytes) -> memoryview:
        """Send a request; return the answer's body, which is good until the next."""
        self._socket.sendall(message)
        view, have, need = memoryview(self._buffer), 0, 0
        begin = end = 0
        while not end or have < end:
            got = self._socket.recv_into(view[have:])
            if not got:
                raise ConnectionError("the server hung up")
            have += got
            if not end and (at := self._buffer.find(b"\r\n\r\n", 0, have)) >= 0:
                begin = at + 4
                end = begin + _length(bytes(view[:begin]))
                need = end - len(self._buffer)
                if need > 0:
                    msg = "an answer larger than the buffer"
                    raise ConnectionError(msg)
        return view[begin:end]


def rows(body: bytes | memoryview) -> list[str]:
    """Return the vectors of an answer, in base64."""
    found = json.loads(bytes(body))["data"]
    assert [one["index"] for one in found] == list(range(len(found)))
    return [one["embedding"] for one in found]


async def ask_all(server: Running, crowds: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
    """Let many clients, each on a connection of its own, send their requests one by one."""
    go = asyncio.Event()

    async def client(messages: Sequence[bytes]) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**22)
        await go.wait()
        answers = []
        for message in messages:
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            answers.append(await reader.readexactly(_length(head)))
        writer.close()
        return answers

    tasks = [asyncio.create_task(client(messages)) for messages in crowds]
    await asyncio.sleep(0.2)  # all are connected
    go.set()
    return await asyncio.gather(*tasks)


def _length(head: bytes) -> int:
    if not head.startswith(b"HTTP/1.1 200"):
        msg = head.decode("latin-1")
        raise ConnectionError(msg)
    found = _LENGTH.search(head)
    assert found is not None, head
    return int(found[1])
