"""The suite's own servers do what tests rely on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from servers import KINDS, Server, ServerMissing, binary

VERSIONS = {
    "valkey-9.1": "9.1.2",
    "redis-8.2": "8.2.3",
    "redis-7.0": "7.0.15",
    "redis-6.2": "6.2.5",
}

NO_RETRY = Retry(NoBackoff(), 0)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_versions(redis_server):
    with redis_server.client() as client:
        info = client.info("server")
    assert info.get("valkey_version", info["redis_version"]) == VERSIONS[redis_server.kind]


def test_empty_and_counting_from_nothing(redis_server):
    assert redis_server.command_counts() == {}
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        assert client.keys() == []
        client.set("a", "1")
        client.mget("a", "b")
        client.mget("a", "c")
    counts = redis_server.command_counts()
    assert (counts["set"], counts["mget"]) == (1, 2)
    assert not {"info", "config|resetstat"} & counts.keys()
    redis_server.reset_counts()
    assert redis_server.command_counts() == {}


def test_unix_socket_and_password(own_server):
    server = own_server("redis-7.0", password="s3cret")
    server.flush()
    for url in (server.url, server.unix_url):
        with redis.Redis.from_url(url) as client:
            assert client.ping()
    with (
        redis.Redis(port=server.port, retry=NO_RETRY) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


@pytest.mark.parametrize("kind", KINDS)
def test_pause_kill_restart(own_server, kind):
    server = own_server(kind, "--maxmemory", "10mb")
    quick = {"socket_timeout": 0.1, "retry": NO_RETRY}
    with server.client(**quick) as client:
        client.set("a", "1")
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        server.resume()
        assert client.get("a") == b"1"
    port, pid = server.port, server.pid
    server.kill()
    assert not server.alive
    assert gone(pid)
    with server.client(**quick) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    server.restart()
    assert server.port == port
    with server.client() as client:
        assert client.dbsize() == 0
        assert client.config_get("maxmemory") == {"maxmemory": "10485760"}


def test_a_paused_server_stops_at_once():
    server = Server()
    pid = server.pid
    server.pause()
    started = time.monotonic()
    server.stop()
    server.stop()
    assert gone(pid)
    assert not server.dir.exists()
    assert time.monotonic() - started < 4


def test_a_wrong_argument_is_an_error_with_the_log():
    with pytest.raises(RuntimeError, match=r"did not start.*(?s:.*)no-such-option"):
        Server("valkey-9.1", "--no-such-option", "1")


def test_a_missing_server_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("servers._FETCHED", tmp_path)
    with pytest.raises(ServerMissing, match=r"redis-7\.0"):
        binary("redis-7.0")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_no_server_outlives_the_tests(how, tmp_path):
    code = "from servers import Server; s = Server(); print(s.pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "TMPDIR": str(tmp_path),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as tests:
        pid = int(tests.stdout.readline())
        assert not gone(pid)
        if how is None:
            tests.communicate(b"\n")
        else:
            tests.send_signal(how)
            tests.wait()
    deadline = time.monotonic() + 5
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
