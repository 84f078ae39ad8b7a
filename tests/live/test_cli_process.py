"""The command line as a process: pipes that end, Ctrl-C, dumb terminals, running workers."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nearcache.cli
from embedders import until
from nearcache import EmbeddingCache, NearCache, Options


def command(*words, **options):
    environment = {**os.environ, "NO_COLOR": "1", **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "nearcache.cli", *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
        **options,
    )


@pytest.fixture
def filled(one_server):
    with NearCache(one_server.url, namespace="n") as cache:
        cache.put_batch({f"key {i} {'x' * 60}": i for i in range(3000)})
    return one_server.url


def test_who_has_read_enough_ends_it_without_a_word(filled):
    script = f"{sys.executable} -m nearcache.cli keys --limit 3000 --store {filled} | head -n 1"
    run = subprocess.run(
        script, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout.startswith("namespace")
    assert run.stderr == ""


def test_ctrl_c_is_status_130_and_no_traceback(own_server):
    server = own_server()
    process = subprocess.Popen(
        [sys.executable, "-m", "nearcache.cli", "bench", "--store", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: server.command_counts().get("evalsha", 0) > 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_a_key_pressed_while_modules_load_is_status_130_and_no_traceback(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(nearcache.cli, "import_module", interrupted)
    with pytest.raises(SystemExit) as ended:
        nearcache.cli.main()
    assert ended.value.code == 130


@pytest.mark.parametrize(
    "words", [("--help",), ("--version",), ("completion", "bash"), ("doctor",)]
)
def test_a_full_disk_is_one_sentence(words):
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "nearcache.cli", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr == "nearcache: [Errno 28] No space left on device\n"


def test_who_closed_the_standard_streams_is_asked_for_none():
    script = f"{sys.executable} -m nearcache.cli doctor <&- >&-"
    run = subprocess.run(
        script, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_every_command_speaks_json_alone_on_standard_output(filled):
    for words in (("keys",), ("get", "nothing", "--namespace", "n"), ("doctor",)):
        run = command(*words, "--store", filled, "--json")
        assert isinstance(json.loads(run.stdout), dict), run.stderr


def test_a_dumb_terminal_gets_no_escape_codes(filled):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nearcache.cli", "doctor", "--store", filled],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "40"},
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait(30)
    assert b"tracking" in said
    assert b"\x1b" not in said


def test_running_workers_are_advised_on(one_server):
    options = Options(report=0.2)
    with EmbeddingCache(one_server.url, max_entries=100, options=options) as cache:
        embed = cache.wrap(lambda texts: np.ones((len(texts), 4), np.float32), "m")
        rng = np.random.default_rng(1)
        for _ in range(40):
            embed([str(n) for n in np.minimum(rng.zipf(1.1, 100), 5000)])

        def advised():
            run = command("advise", "--store", one_server.url, "--json")
            found = json.loads(run.stdout or "{}").get("caches")
            return found and found[0]["requests"] == 4000 and found[0]

        until(advised)
        found = advised()
        stats = cache.get_stats()
        assert found["hit_ratio"] == pytest.approx(stats.near_hits / 4000)
        assert found["sizes"][-1]["hit_ratio"] > found["hit_ratio"]
