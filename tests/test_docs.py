"""The documentation is true: its Python runs, and what it names exists.

A block marked ```python runs in a directory of its own, with ``model`` (a small fake with
``encode``), ``texts`` and ``numpy as np`` at hand; blocks of one page share their variables, in
order. A URL of a server in a block is replaced by that of a real one. The block of LiteLLM's page,
marked ```py, is run by ``integrations/test_litellm.py``, which bears that package's warnings.
"""

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import nearcache

REPO = Path(__file__).parents[1]
README = REPO / "README.md"
FLOW = REPO / "docs" / "flow.md"
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SERVER = re.compile(r"\b(?:redis|valkey)://(?!127\.0\.0\.1:1\b)[^\"'\s`)]+")  # port 1: nobody there


def pages() -> list[Path]:
    return [page for page in (README, *sorted((REPO / "docs").rglob("*.md"))) if page.exists()]


def blocks(page: Path) -> list[tuple[int, str]]:
    """The (line number, source) of every Python block of a page."""
    text = page.read_text("utf-8")
    found = []
    for match in BLOCK.finditer(text):
        indent, source = match.groups()
        lines = [line.removeprefix(indent) for line in source.splitlines()]
        found.append((text.count("\n", 0, match.start()) + 2, "\n".join(lines) + "\n"))
    return found


def said(page: Path) -> list[str]:
    """What the comments of a page say is printed: behind a print, and ``# model: …`` anywhere."""
    lines = [line for _, source in blocks(page) for line in source.splitlines()]
    found = [re.match(r"(.*\S)\s\s+# (.+)$", line) for line in lines]
    return [
        match[2]
        for match in found
        if match and ("print(" in match[1] or match[2].startswith(("model: ", "database: ")))
    ]


class Model:
    """Stands for whatever embeds: the same text gives the same vector."""

    def encode(self, texts):
        seeds = [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in texts]
        rows = [np.random.default_rng(seed).normal(size=384) for seed in seeds]
        return np.array(rows, np.float32).reshape(len(texts), 384)


PACKAGES = {
    "openai": "openai",
    "langchain": "langchain_core",
    "langgraph": "langgraph",
    "llamaindex": "llama_index.core",
    "haystack": "haystack",
    "chroma": "chromadb",
    "fastapi": "fastapi",
    "dogpile": "dogpile.cache",
    "proxy": "openai",
}


@pytest.fixture
def environment():
    """What a page sets in the environment is gone after it."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def provider_of_openai(monkeypatch):
    """A provider on loopback, where the SDK's environment variables say that OpenAI is."""
    from provider import KEY, Provider

    with Provider() as one:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", one.url)
        yield one


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPO)))
def test_the_python_of_a_page_runs(
    page, tmp_path, monkeypatch, environment, one_server, request, capsys
):
    monkeypatch.chdir(tmp_path)
    if page.parent.name == "integrations" and page.stem in PACKAGES:
        pytest.importorskip(PACKAGES[page.stem], reason="an extra that is not installed")
    if page.stem in ("openai", "proxy"):
        request.getfixturevalue("provider_of_openai")
    variables = {
        "__name__": "__main__",
        "model": Model(),
        "texts": ["the first text", "the second text", "the first text"],
        "np": np,
    }
    try:
        for line, source in blocks(page):
            source = SERVER.sub(one_server.url, source)
            # the page's own line numbers, so that a traceback points into the page
            code = compile("\n" * (line - 1) + source, str(page), "exec", dont_inherit=True)
            exec(code, variables)
        if page in (REPO / "docs" / "tutorial.md", *(REPO / "docs" / "guides").glob("*.md")):
            assert capsys.readouterr().out.splitlines() == said(page)
    finally:
        for value in list(variables.values()):
            close = getattr(value, "close", None)
            ours = type(value).__module__.startswith("nearcache.")
            if ours and callable(close) and not type(value).__name__.startswith("Async"):
                close()


def test_the_readme_is_there_and_shows_the_code_at_once():
    lines = README.read_text("utf-8").splitlines()
    assert "from nearcache import EmbeddingCache" in "\n".join(lines[:25])


def test_the_readme_names_both_commands():
    text = README.read_text("utf-8")
    for command in ("make demo", "make test"):
        assert command in text, f"README.md does not name `{command}`"


@pytest.mark.parametrize("folder", ["concepts", "guides", "operations", "integrations"])
def test_a_page_begins_with_a_box_that_says_what_it_is_about(folder):
    for page in (REPO / "docs" / folder).glob("*.md"):
        head = page.read_text("utf-8").splitlines()[:4]
        assert head[0].startswith("# ")
        assert any(line.startswith("> ") for line in head), page.name


def test_no_block_of_python_is_left_out():
    marks = {
        (page.name, mark)
        for page in pages()
        for mark in re.findall(r"^ *```(\w+)", page.read_text("utf-8"), re.MULTILINE)
    }
    known = {"python", "sh", "bash", "console", "json", "toml"}
    assert {pair for pair in marks if pair[1] not in known} == {("litellm.md", "py")}


def test_blocks_of_data_can_be_read():
    readers = {"json": json.loads, "toml": tomllib.loads}
    for page in pages():
        text = page.read_text("utf-8")
        for mark, read in readers.items():
            for block in re.findall(rf"^```{mark}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
                assert read(block), page.name


def test_the_readme_links_to_nothing_that_is_missing():
    for page in pages():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


# -- commands ------------------------------------------------------------------------------------

SHELL = re.compile(r"^( *)```(?:sh|bash|console)?\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PROSE = (REPO / "CONTRIBUTING.md", REPO / "SECURITY.md", REPO / "bench" / "README.md")


def commands(page: Path) -> list[str]:
    """What a page tells people to type: lines of shell blocks, and code within the text."""
    text = page.read_text("utf-8")
    shell = "\n".join(match[2].replace("\\\n", " ") for match in SHELL.finditer(text))
    lines = [line.removeprefix("$ ").strip() for line in shell.splitlines()]
    return [*lines, *INLINE.findall(text)]


def calls(line: str, program: str) -> list[list[str]]:
    """The arguments of each call of a program in a line, up to what ends a command."""
    found = re.findall(rf"(?:^|[;&|(/] *|\w=\S+ )(?:\S*/)?{program} ([^;&|>#)]*)", line)
    return [call.replace('"', " ").split() for call in found]


@pytest.mark.parametrize("page", [*pages(), *PROSE], ids=lambda page: str(page.relative_to(REPO)))
def test_every_command_that_a_page_names_exists_and_has_these_options(page):
    typer = pytest.importorskip("typer")
    from nearcache.cli.app import app

    group = typer.main.get_command(app)
    for call in [call for line in commands(page) for call in calls(line, "nearcache")]:
        name, *rest = call
        if name.startswith("-"):
            assert name in {opt for one in group.params for opt in one.opts}, call
            continue
        assert name in group.commands, f"nearcache {name}"
        params = group.commands[name].params
        known = {opt for one in params for opt in (*one.opts, *one.secondary_opts)}
        options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert options <= {*known, "--help", "-h"}, f"nearcache {' '.join(call)}"


@pytest.mark.parametrize("page", [*pages(), *PROSE], ids=lambda page: str(page.relative_to(REPO)))
def test_every_goal_of_make_that_a_page_names_exists(page):
    makefile = (REPO / "Makefile").read_text("utf-8")
    goals = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    for line in commands(page):
        for first, *_ in [call for call in calls(line, "make") if call]:
            assert first in goals, f"make {first}"


def test_calls_are_found_where_people_write_them():
    assert calls("KEY=x nearcache serve --a b > c", "nearcache") == [["serve", "--a", "b"]]
    assert calls(".venv/bin/nearcache demo; nearcache doctor", "nearcache") == [
        ["demo"],
        ["doctor"],
    ]
    assert calls("pip install nearcache", "nearcache") == []
    assert calls("import nearcache as n", "nearcache") == []


# -- docs/flow.md --------------------------------------------------------------------------------

NAME = re.compile(r"`((?:\w+\.)+\w+)(?:\(\))?`")
FILES = (".py", ".md", ".lua", ".toml", ".db", ".json")


def modules() -> dict[str, object]:
    """Every module of the package by its last name and by its dotted one."""
    found = {"nearcache": nearcache}
    for module in pkgutil.walk_packages(nearcache.__path__, "nearcache."):
        if re.search(r"\.cli|\.integrations\.|__main__$", module.name):
            continue
        loaded = importlib.import_module(module.name)
        found.setdefault(module.name.rpartition(".")[2], loaded)
        found[module.name] = loaded
        found[module.name.removeprefix("nearcache.")] = loaded
    return found


def exists(name: str, known: dict[str, object]) -> bool:
    """Whether ``engine.resolve`` is a function of the module or of a class in (or named) it."""
    first, *rest = name.split(".")
    starts = [known[first]] if first in known else []
    for module in {id(m): m for m in known.values()}.values():
        for attribute, value in vars(module).items():
            if isinstance(value, type) and attribute.lower() == first.lower():
                starts.append(value)
    starts += [
        value
        for start in tuple(starts)
        for value in vars(start).values()
        if isinstance(value, type) and getattr(value, "__module__", "").startswith("nearcache")
    ]
    return any(reaches(start, rest) for start in starts)


def reaches(start: object, names: list[str]) -> bool:
    for name in names:
        fields = getattr(start, "__annotations__", {})
        if not hasattr(start, name) and name not in fields:
            return False
        start = getattr(start, name, object())
    return True


def test_every_function_that_the_flow_names_exists():
    assert FLOW.exists(), "docs/flow.md is missing"
    names = sorted(
        {name for name in NAME.findall(FLOW.read_text("utf-8")) if not name.endswith(FILES)}
    )
    assert len(names) > 5, "docs/flow.md names hardly any function"
    known = modules()
    missing = [name for name in names if not exists(name, known)]
    assert missing == [], "docs/flow.md names what does not exist"


def test_the_check_of_names_sees_what_is_missing():
    known = modules()
    for name in ("engine.resolve", "Engine.resolve", "near.vectors", "FlightTable.claim"):
        assert exists(name, known), name
    for name in ("engine.resolved", "Motor.resolve", "FlightTable.claimed", "nothing.at_all"):
        assert not exists(name, known), name


# -- docs/concepts/failure.md --------------------------------------------------------------------

FAILURES = REPO / "docs" / "concepts" / "failure.md"
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def failures() -> list[str]:
    """The rows of the table of what happens when."""
    text = FAILURES.read_text("utf-8").partition("## What happens when")[2].partition("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def test_every_row_of_what_happens_when_names_its_tests():
    assert len(failures()) > 30
    for row in failures():
        assert TEST.search(row.rsplit("|", 2)[1]), row


def test_every_test_that_is_named_there_exists():
    for path, name in TEST.findall(FAILURES.read_text("utf-8")):
        source = (REPO / "tests" / path).read_text("utf-8")
        assert re.search(rf"^ *(?:async )?def {name}\(", source, re.MULTILINE), f"{path}::{name}"


def test_blocks_are_found_with_their_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# x\n```python\na = 1\n```\n```\nno\n```\n- y\n  ```python\n  b = 2\n  ```\n")
    assert blocks(page) == [(3, "a = 1\n"), (10, "b = 2\n")]


def test_the_picture_of_the_peers_shows_their_results():
    tool = [sys.executable, REPO / "tools" / "pictures.py", "--check"]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_picture_can_be_read_aloud_and_is_shown():
    shown = "\n".join(page.read_text("utf-8") for page in pages())
    for picture in (REPO / "docs" / "pictures").glob("*.svg"):
        assert re.search(r"<title>.{20,}</title>", picture.read_text("utf-8")), picture.name
        assert picture.name in shown


def test_the_repository_holds_no_page_without_a_reader():
    if not (REPO / "docs").exists():
        pytest.fail("docs/ is missing")
    places = [*pages(), REPO / "mkdocs.yml"]
    linked = "\n".join(page.read_text("utf-8") for page in places)
    for page in (REPO / "docs").rglob("*.md"):
        assert page.name in linked, f"nothing links to {page.relative_to(REPO)}"
