"""``examples/proxy.py`` and ``examples/proxy.mjs`` run, and pay once for what both ask."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[3]
NODE = REPO / ".servers" / "openai-node"


def run(command, proxy, key, folder):
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": proxy.url,
        "OPENAI_API_KEY": key,
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_python_paid_for_python_and_node_get(proxy, key, tmp_path):
    command = [sys.executable, str(REPO / "examples" / "proxy.py")]
    first = run(command, proxy, key, tmp_path)
    assert first[0] == "4 vectors of 8 dimensions"
    assert first[2].endswith(" miss=3")  # one of the four is asked for twice
    if shutil.which("node") is None or not (NODE / "node_modules").is_dir():
        second = run(command, proxy, key, tmp_path)
    else:  # as in a project that has the package
        shutil.copy(REPO / "examples" / "proxy.mjs", tmp_path)
        (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
        second = run(["node", "proxy.mjs"], proxy, key, tmp_path)
    assert second[0] == first[0]
    assert second[1].endswith(" 0 tokens paid for")
    assert second[2] == "hit=4 miss=0"
