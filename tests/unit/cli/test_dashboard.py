"""``nearcache dashboard`` refuses what it cannot do, or should not, before it does anything."""

import socket

import pytest
from typer.testing import CliRunner

from nearcache.cli.app import app

TOKEN = "a-token-of-32-characters-or-so--"
NOBODY = ["--store", "redis://127.0.0.1:1", "--port", "0"]


def refused(*options, environment=None, status=2):
    result = CliRunner().invoke(app, ["dashboard", *options], env=environment)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "options,words",
    [
        (["--port", "0"], "--store"),
        (["--store", "mongo://x"], "mongo"),
        ([*NOBODY, "--host", "0.0.0.0"], "token"),
        ([*NOBODY, "--host", "192.0.2.1"], "token"),
        ([*NOBODY, "--host", "192.0.2.1", "--token", TOKEN], "cannot listen"),
        ([*NOBODY, "--token", "short"], "16"),
        ([*NOBODY, "--allow-host", "https://x"], "no name"),
        ([*NOBODY, "--tls-key", "x"], "both"),
        ([*NOBODY, "--tls-key", "/no/x", "--tls-certificate", "/no/y"], "no file"),
    ],
)
def test_wrong_options(options, words):
    assert words in refused(*options)


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused("--store", "redis://127.0.0.1:1", "--port", port)


def test_a_token_that_is_wrong_is_not_repeated():
    environment = {"NEARCACHE_DASHBOARD_TOKEN": "s3cret"}
    assert "s3cret" not in refused(*NOBODY, environment=environment)


def test_it_makes_no_file(tmp_path):
    path = tmp_path / "none.db"
    assert "no file" in refused("--store", f"sqlite:///{path}", "--port", "0", status=1)
    assert not path.exists()
