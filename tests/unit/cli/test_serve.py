"""``nearcache serve`` refuses what it cannot do before it does anything."""

import socket

import pytest
from typer.testing import CliRunner

from nearcache.cli.app import app

UPSTREAM = ["--upstream", "http://127.0.0.1:1"]


def refused(*options, environment=None):
    result = CliRunner().invoke(app, ["serve", *options], env=environment)
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.mark.parametrize(
    "options,words",
    [
        (["--upstream", "nowhere"], "base URL"),
        ([*UPSTREAM, "--verify-ttl", "0"], "verify_ttl"),
        ([*UPSTREAM, "--store", "mongo://x"], "mongo"),
        ([*UPSTREAM, "--api-keys", "/nowhere/keys"], "cannot be read"),
        ([*UPSTREAM, "--tls-key", "x"], "both"),
        ([*UPSTREAM, "--tls-key", "/no/x", "--tls-certificate", "/no/y"], "no file"),
        ([*UPSTREAM, "--host", "192.0.2.1"], "cannot listen"),
    ],
)
def test_wrong_options(options, words):
    if "--port" not in options:
        options = [*options, "--port", "0"]
    assert words in refused(*options)


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused(*UPSTREAM, "--port", port)


def test_a_key_of_ones_own_lets_nobody_in_by_itself():
    environment = {"NEARCACHE_UPSTREAM_KEY": "sk-secret"}
    told = refused(*UPSTREAM, "--port", "0", environment=environment)
    assert "--api-keys" in told
    assert "sk-secret" not in told
