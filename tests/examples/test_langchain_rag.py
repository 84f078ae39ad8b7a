"""``examples/langchain_rag.py`` runs, and the second run pays for nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("langchain_core")

EXAMPLE = Path(__file__).parents[2] / "examples" / "langchain_rag.py"


def test_a_second_process_pays_for_nothing():
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    *_, first, second, same = done.stdout.splitlines()
    assert [list(map(int, re.findall(r"\d+", line)[:2])) for line in (first, second)] == [
        [10, 3],  # seven passages, and three questions of which one is asked twice
        [0, 0],
    ]
    assert same == "the same answers: True"
    assert "numbers alike" in done.stdout  # and the right passage
