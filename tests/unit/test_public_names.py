"""``import nearcache`` imports nothing of it; a name is imported by whoever asks for it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nearcache

SOURCE = Path(nearcache.__file__)


def for_type_checkers() -> dict[str, str]:
    """What the ``if TYPE_CHECKING`` block says: name → module."""
    tree = ast.parse(SOURCE.read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module).removeprefix("nearcache.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_and_the_interpreter_are_told_the_same():
    assert for_type_checkers() == nearcache._PLACES
    assert sorted(nearcache._PLACES) == sorted(nearcache.__all__)


@pytest.mark.parametrize("name", nearcache.__all__)
def test_every_name_is_what_its_module_has(name):
    assert getattr(nearcache, name) is getattr(
        sys.modules[f"nearcache.{nearcache._PLACES[name]}"], name
    )
    assert name in dir(nearcache)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NearCash"):
        _ = nearcache.NearCash


def taken(line: str) -> set[str]:
    """The modules that a line imports, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{line}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_neither_numpy_nor_any_cache():
    found = taken("import nearcache; nearcache.__version__")
    assert "numpy" not in found
    assert {name for name in found if name.startswith("nearcache.")} == set()


def test_a_cache_brings_no_other_cache_and_no_package_but_numpy():
    found = taken("from nearcache import EmbeddingCache")
    assert "numpy" in found
    assert not found & {"redis", "typer", "rich", "starlette", "opentelemetry", "httpx", "msgspec"}
    assert (
        not {f"nearcache.caches.{name}" for name in ("hot", "near", "retrieval", "manager")} & found
    )
