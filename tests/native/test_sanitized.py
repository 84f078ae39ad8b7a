"""The native core under the address and undefined-behaviour sanitizers.

A build of its own runs in a process of its own: the sanitizers must be there before Python is.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nearcache.near import pick

pytestmark = [
    pytest.mark.skipif(
        pick.native is None, reason="the native core is not built, or NEARCACHE_PURE is set"
    ),
    pytest.mark.timeout(600),
]

REPO = Path(__file__).parents[2]
SUITES = [
    ("tests/contract/test_near_rows.py", "tests/contract/test_near_objects.py", "-k", "Native"),
    (
        "tests/model/test_rows_twins.py",
        "tests/native/test_memory.py",
        "-k",
        "not million and not Pure",
    ),
    ("tests/unit/near/policies/test_twins.py",),
    ("tests/unit/codecs/test_checksums.py",),
]


def library(name: str) -> str | None:
    """Return where the compiler keeps a sanitizer's library."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    asked = [compiler, f"-print-file-name={name}"]
    path = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return path if Path(path).is_absolute() else None


ASAN = library("libasan.so") if sys.platform == "linux" else None


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the source tree with a sanitized build in place."""
    tree = tmp_path_factory.mktemp("sanitized")
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info", "_native.c")
    for name in ("src", "tests"):
        shutil.copytree(REPO / name, tree / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, tree / name)
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tree,
        env={**os.environ, "NEARCACHE_SANITIZE": "1", "CFLAGS": "-O1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return tree


@pytest.mark.skipif(ASAN is None, reason="needs Linux, gcc and its libasan")
@pytest.mark.parametrize("suite", SUITES, ids=["contract", "twins", "policies", "checksums"])
def test_nothing_is_read_or_written_that_should_not_be(tree, suite):
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "LD_PRELOAD": str(ASAN),
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # every object a block of its own, watched on all sides
        "PYTHONPATH": str(tree / "src"),
        "NEARCACHE_SANITIZED": "1",
    }
    code = "import sys, nearcache.near.pick as p; sys.exit(p.native.__file__)"
    which = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert str(tree) in which.stderr, which.stderr
    run = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=300"]
    done = subprocess.run(
        [*run, "-s", *suite], cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout
