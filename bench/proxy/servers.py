"""The servers of these benchmarks, each a process of its own: provider, nearcache, LiteLLM."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import log, other_core

__all__ = ["KEY", "MODEL", "Running", "litellm", "litellm_version", "nearcache", "provider"]

KEY, MODEL = "sk-good", "text-embedding-3-small"
_REPO = Path(__file__).resolve().parents[2]
_LITELLM = _REPO / ".venv-litellm" / "bin" / "python"
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    pid: int
    port: int
    prefix: str = "/v1"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def ask(self, path: str) -> dict[str, int]:
        """GET a path beside its prefix, as JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            found: dict[str, int] = json.load(answer)
            return found

    @property
    def cpu_seconds(self) -> float:
        """The processor time it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def most_bytes(self) -> int:
        """The most memory it has held at once."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0


@contextmanager
def provider(size: int, slow: float = 0.0) -> Iterator[Running]:
    """Run the suite's model server, which counts what it is asked."""
    command = [sys.executable, str(_REPO / "tests" / "provider.py"), "--any-model"]
    command += ["--size", str(size), "--slow", str(slow)]
    with _process(command) as (server, log_file):
        other_core(server.pid)
        yield _announced(server, log_file)


@contextmanager
def nearcache(upstream: Running, *options: str) -> Iterator[Running]:
    """Run ``nearcache serve`` on the core that is timed."""
    code = "from nearcache.cli import main; import sys; sys.argv[0] = 'nearcache'; main()"
    command = [sys.executable, "-c", code, "serve", "--upstream", upstream.url, "--port", "0"]
    with _process([*command, *options]) as (server, log_file):
        _timed_core(server.pid)
        yield _announced(server, log_file)


@contextmanager
def litellm(upstream: Running) -> Iterator[Running | None]:
    """Run LiteLLM's proxy with its cache in memory, on the core that is timed; None: not there."""
    if not _LITELLM.exists():
        log("proxy: .venv-litellm is not there; `make .venv-litellm/.installed` makes it")
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "config.yaml").write_text(_CONFIG.format(model=MODEL, url=upstream.url, key=KEY))
        command = [str(_LITELLM), str(Path(__file__).with_name("litellm_server.py"))]
        command += ["--config", str(folder / "config.yaml"), "--port", str(port)]
        command += ["--host", "127.0.0.1", "--num_workers", "1"]
        server, log_file = stack.enter_context(_process(command, _QUIET))
        _wait(server, log_file, port, "/health/liveliness")
        _timed_core(server.pid)
        yield Running(server.pid, port)


def litellm_version() -> str:
    """Return the version in ``.venv-litellm``, or that it is not there."""
    found = list(_LITELLM.parents[1].glob("lib/python*/site-packages/litellm-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").partition("-")[2] if found else "not installed"


_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {url}
      api_key: {key}
litellm_settings:
  cache: true
  telemetry: false
  cache_params:
    type: local
    supported_call_types: [embedding, aembedding]
"""
# Nothing from the network, no log of each request, and nobody is asked for a key: its fastest.
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "NO_DOCS": "True",
}


@contextmanager
def _process(
    command: list[str], environment: dict[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "log"
        with log_file.open("wb") as errors:
            server = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONWARNINGS": "ignore", **(environment or {})},
            )
        try:
            yield server, log_file
        finally:
            server.terminate()
            try:
                server.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()


def _announced(server: "subprocess.Popen[bytes]", log_file: Path) -> Running:
    """Read the URL that a server prints when it listens."""
    assert server.stdout is not None
    found = re.search(rb"http://127\.0\.0\.1:\d+\S*", server.stdout.readline())
    if found is None:
        raise RuntimeError(f"a server did not start:\n{log_file.read_text()[-2000:]}")
    port = urlsplit(found[0].decode()).port
    assert port is not None
    return Running(server.pid, port)


def _wait(server: "subprocess.Popen[bytes]", log_file: Path, port: int, path: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                msg = f"a server did not start:\n{log_file.read_text()[-2000:]}"
                raise RuntimeError(msg) from None
            time.sleep(0.1)
        else:
            return


def _timed_core(pid: int) -> None:
    """Give the server one core; clients and the provider have the others."""
    if len(_CORES) >= 2:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {_CORES[-1]})
