"""``nearcache serve`` as users start it, and what its answers say."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from typing import Any, Self

import httpx

from provider import Provider

__all__ = ["Proxy", "ask", "ask_in_turn", "counts", "embeddings"]

_HANG = 30.0
_PATIENCE = "import sys; from nearcache.stores.redis import timer; timer._LEAST = 5.0; "
_MAIN = "from nearcache.cli import main; sys.argv[0] = 'nearcache'; main()"


class Proxy:
    """A proxy in a process of its own, on a free loopback port.

    Its stores get seconds to answer, as everywhere in the suite, which keeps the machine busy.
    """

    def __init__(self, upstream: str, *options: str, **environment: str) -> None:
        self._command = [
            sys.executable, "-W", "error::ResourceWarning", "-c", _PATIENCE + _MAIN,
            "serve", "--upstream", upstream, *options,
        ]  # fmt: skip
        self._environment = {**os.environ, **environment}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``stop``
        self.port = 0
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def root(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL that clients take."""
        return f"{self.root}/v1"

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has printed to stderr."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def start(self) -> None:
        """Start it, on the port it had if it had one."""
        self.process = subprocess.Popen(
            [*self._command, "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            self.kill()
            said = self.log
            self._log.close()
            raise RuntimeError(f"the proxy did not start: {line!r}\n{said}")
        self.port = int(found[1])

    def terminate(self) -> None:
        """SIGTERM, and no waiting."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end; return its status."""
        self.process.communicate(timeout=_HANG)
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL; ``start`` brings it back."""
        self.process.kill()
        self.wait()

    def stop(self) -> None:
        """Ask it to end, wait, and make it. Any number of times."""
        self.terminate()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


def ask(
    where: Proxy | Provider | str,
    body: Any,
    key: str | None = None,
    path: str = "/embeddings",
    **headers: str,
) -> httpx.Response:
    """Send a body (JSON, or bytes as they are) as one client would."""
    url = where if isinstance(where, str) else where.url
    given = {"content-type": "application/json"}
    if key is not None:
        given["authorization"] = f"Bearer {key}"
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    # verify: to read all certificates of the world takes longer than most tests
    with httpx.Client(timeout=_HANG, trust_env=False, verify=False) as client:
        return client.post(url + path, content=data, headers=given)


def embeddings(answer: httpx.Response) -> list[Any]:
    """The embeddings of an answer in order: base64 as text, numbers in the text they came in."""
    assert answer.status_code == 200, answer.text
    whole = json.loads(answer.content, parse_float=str)
    assert [one["index"] for one in whole["data"]] == list(range(len(whole["data"])))
    assert {one["object"] for one in whole["data"]} <= {"embedding"}
    return [one["embedding"] for one in whole["data"]]


def counts(answer: httpx.Response) -> tuple[int, int]:
    """The (hits, misses) of ``x-nearcache``."""
    found = re.fullmatch(r"hit=(\d+) miss=(\d+)", answer.headers["x-nearcache"])
    assert found is not None, answer.headers["x-nearcache"]
    return int(found[1]), int(found[2])


async def ask_in_turn(url: str, key: str, bodies: list[Any]) -> list[Any]:
    """Send bodies one after another on one connection; return what JSON came, with 200 each time.

    Costs next to nothing, so that hundreds may be at it at once.
    """
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    path = "/" + url.removeprefix("http://").partition("/")[2] + "/embeddings"
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**22)
    answers = []
    for body in bodies:
        data = json.dumps(body).encode()
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            + data
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None, head
        answers.append(json.loads(await reader.readexactly(int(length[1]))))
    writer.close()
    await writer.wait_closed()
    return answers
