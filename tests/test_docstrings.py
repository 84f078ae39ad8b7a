"""No public name without a docstring: a sentence that says what it is, then only what applies.

Read from the sources, so that modules count whose framework is not installed here, too. Headings
of lines that follow the first sentence are those of FORM; parameters are ``name: what it is``.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nearcache

ROOT = Path(nearcache.__file__).parent
FORM = {"Shapes", "Units", "Error", "Cost", "Thread-safe", "Raises", "Source"}
HEADING = re.compile(r"^([A-Z][a-z-]+): *(?=\S|$)", re.MULTILINE)
SPECIFICATIONS = ROOT / "testing" / "contracts"  # tests: their names are their sentences

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    return [
        path
        for path in sorted(ROOT.rglob("*.py"))
        if SPECIFICATIONS not in path.parents and "__pycache__" not in path.parts
    ]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def promised(path: Path) -> set[str]:
    """The methods that a folder's ``base.py`` says the meaning of, for all who have them."""
    base = path.parent / "base.py"
    if path == base or not base.exists():
        return set()
    tree = ast.parse(base.read_text("utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = [node for cls in classes for node in cls.body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in methods if ast.get_docstring(node)}


def is_overload(node: ast.AST) -> bool:
    marks = [ast.unparse(one) for one in getattr(node, "decorator_list", [])]
    return any(mark.endswith(("overload", ".setter", "override")) for mark in marks)


def exported(tree: ast.Module) -> set[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return None


def public(source: str, name: str) -> Iterator[tuple[str, Documented]]:
    """Every public thing of a module: itself, its classes, their methods, its functions."""
    tree = ast.parse(source)
    names = exported(tree)
    yield name, tree
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not is_public(node.name) or (names is not None and node.name not in names):
            continue
        if is_overload(node):
            continue
        yield f"{name}.{node.name}", node
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if (
                isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                and is_public(inner.name)
                and not is_overload(inner)
            ):
                yield f"{name}.{node.name}.{inner.name}", inner


def faults(source: str, name: str, promised: set[str] = frozenset()) -> list[str]:
    """What is wrong with the docstrings of a module."""
    found = []
    for where, node in public(source, name):
        text = ast.get_docstring(node)
        if not text:
            if getattr(node, "name", "") in promised and where.count(".") > 2:
                continue
            found.append(f"{where} has no docstring")
            continue
        first, _, rest = text.partition("\n\n")
        if not re.search(r"[.:?](?:\W|$)", first):
            found.append(f"{where} begins with no sentence: {first[:60]!r}")
        strange = {heading for heading in HEADING.findall(rest) if heading not in FORM}
        found += [f"{where} has a heading that is none: {heading}" for heading in strange]
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_says_what_it_is(path):
    source = path.read_text("utf-8")
    assert faults(source, path.relative_to(ROOT).as_posix(), promised(path)) == []


def test_what_is_missing_would_be_seen():
    source = '''"""A module."""
__all__ = ["A", "f"]
class A:
    """No sentence at all"""
    def method(self): ...
    def _private(self): ...
def f():
    """Return one.

    Args: none.
    """
def not_exported(): ...
'''
    assert faults(source, "m") == [
        "m.A begins with no sentence: 'No sentence at all'",
        "m.A.method has no docstring",
        "m.f has a heading that is none: Args",
    ]
    assert faults("", "n") == ["n has no docstring"]
    method = '"""A."""\nclass A:\n    """B."""\n    def get(self): ...'
    assert faults(method, "m.py", {"get"}) == []


# -- the reference ---------------------------------------------------------------------------------

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def test_every_public_name_is_in_the_reference():
    text = "\n".join(page.read_text("utf-8") for page in REFERENCE.glob("*.md"))
    shown = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)}
    assert set(nearcache.__all__) - shown == set()


def test_every_integration_is_in_the_reference():
    text = (REFERENCE / "integrations.md").read_text("utf-8")
    shown = set(re.findall(r"^::: nearcache\.integrations\.(\w+)$", text, re.MULTILINE))
    there = {path.stem for path in (ROOT / "integrations").glob("*.py") if is_public(path.stem)}
    assert shown == there
