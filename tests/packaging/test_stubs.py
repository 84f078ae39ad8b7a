"""What type checkers are told of the native core is what it has."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = ("nearcache.near._native", "nearcache.codecs._native")


def test_the_stubs_of_the_native_core_are_true():
    for name in NATIVE:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not built")
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--allowlist", HERE / "stubs.allow", *NATIVE],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
