"""What users get, source distribution and wheel, in an environment of its own: numpy alone.

The wheel is built from the source distribution, as an index's users without a wheel have it built.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
INPUTS = (
    *("src", "pyproject.toml", "setup.py", "MANIFEST.in"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"),
)
DATA = ("py.typed", "*.pyi", "*.lua", "*.html", "*.css", "*.js", "*.svg")

ROUND_TRIP = """
import sys
from importlib.metadata import version
import numpy as np
import nearcache
from nearcache import EmbeddingCache

assert nearcache.__file__.startswith(sys.prefix), nearcache.__file__
assert nearcache.__version__ == version("nearcache")

calls = []
def model(texts):
    calls.append(list(texts))
    return np.array([[len(t), 1, 2] for t in texts], dtype=np.float32)

with EmbeddingCache(None) as cache:
    vector = np.array([0.1, -2.5, 3e-8], dtype=np.float32)
    cache.put("héllo", vector, "m")
    assert cache.get("héllo", "m").tobytes() == vector.tobytes()
    assert cache.get("héllo", "other") is None
    embed = cache.wrap(model, model="w")
    first = embed(["a", "bb", "a"])
    again = embed(["bb", "a"])
    assert first.shape == (3, 3) and first.dtype == np.float32
    assert again.tobytes() == first[[1, 0]].tobytes()
    assert calls == [["a", "bb"]], calls
    assert cache.get_stats().hits >= 3

taken = {m.split(".")[0] for m in sys.modules if not m.startswith("_")}
assert not taken & {"redis", "typer", "rich", "pytest"}, taken
print("round trip", nearcache.__version__)
"""


def run(*command: object, cwd: Path) -> str:
    """Run a program that sees nothing of this environment's packages or paths."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The source distribution; made from a copy, so that the work tree stays clean."""
    tree = tmp_path_factory.mktemp("tree")
    for name in INPUTS:
        source = REPO / name
        if source.is_dir():
            litter = shutil.ignore_patterns(
                "__pycache__", "*.egg-info", "*.so", "*.pyd", "_native.c"
            )
            shutil.copytree(source, tree / name, ignore=litter)
        elif source.exists():
            shutil.copy(source, tree / name)
    # No isolation: the build tools are in this environment already, so no network is needed.
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", "out", cwd=tree)
    (built,) = (tree / "out").glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        # Debian's 3.11.2 extracts without filters
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safely)
    (tree,) = folder.iterdir()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", cwd=tree)
    (built,) = (tree / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel) -> set[str]:
    """The names of the files in it."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_source_file_is_inside(contents):
    src = REPO / "src"
    wanted = {
        path.relative_to(src).as_posix()
        for pattern in ("*.py", *DATA)
        for path in (src / "nearcache").rglob(pattern)
    }
    assert "nearcache/py.typed" in wanted
    assert "nearcache/testing/contracts/stores.py" in wanted
    assert any(name.startswith("nearcache/stores/redis/scripts/") for name in wanted)
    assert wanted - contents == set()


def test_the_source_distribution_has_what_the_native_core_is_built_from(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        path.relative_to(REPO).as_posix()
        for pattern in ("*.py", "*.pyx", "*.pxi", "*.h", *DATA)
        for path in (REPO / "src" / "nearcache").rglob(pattern)
    }
    assert any(name.endswith(".pxi") for name in wanted)
    assert {*wanted, "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff"} - names == set()
    assert not [name for name in names if name.endswith((".so", ".pyd", "_native.c"))]


def test_the_wheel_says_which_machine_it_is_for_where_there_is_a_compiler(wheel, contents):
    native = {name for name in contents if "_native." in name and not name.endswith(".pyi")}
    if shutil.which("cc") is None:
        assert native == set()
    else:
        assert len(native) == 2
        assert "none-any" not in wheel.name


def test_the_citation_is_of_this_version():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    citation = (REPO / "CITATION.cff").read_text()
    assert f"\nversion: {project['version']}\n" in citation
    assert project["version"].startswith("0.")
    assert f"\n## {project['version']}" in (REPO / "CHANGELOG.md").read_text()


def test_nothing_else_is_inside(contents):
    strangers = {
        name for name in contents if not re.match(r"nearcache(/|-[\d.]+\.dist-info/)", name)
    }
    assert strangers == set()
    assert any(name.endswith("/licenses/LICENSE") for name in contents)


def test_metadata(wheel, contents):
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    (name,) = (n for n in contents if n.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(name).decode().partition("\n\n")[0].splitlines()
    assert f"Version: {project['version']}" in metadata
    hard = [m for m in metadata if m.startswith("Requires-Dist:") and "extra ==" not in m]
    assert len(hard) == 1
    assert hard[0].startswith("Requires-Dist: numpy")


def test_a_round_trip_with_numpy_alone(wheel, tmp_path):
    # Without pip: Debian keeps what installs it in another package.
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", wheel, cwd=tmp_path)
    installed = run(*pip, "list", "--format=freeze", cwd=tmp_path)
    names = {line.partition("==")[0].lower() for line in installed.splitlines() if "==" in line}
    assert names == {"nearcache", "numpy"}
    assert run(python, "-W", "error", "-c", ROUND_TRIP, cwd=tmp_path).startswith("round trip")
