"""Write the blocking face of a cache from its asynchronous one: ``make faces``.

The source is ``src/nearcache/caches/<name>_async.py``, the result ``<name>.py`` beside it::

    async def, async with, async for, await     without the word
    __aenter__, __aexit__, AsyncIterator …      as NAMES says
    AsyncX                                      X, for the classes in CLASSES, in strings too
    …caches.<name>_async                        …caches.<name>, in an import
    asynchronous                                blocking, in strings and comments

A line that ends with ``# kept`` stays as it is; one that ends with ``# swapped`` also turns X into
AsyncX, ``as_sync`` into ``as_async`` and so on: each face of ``as_sync`` is written once. Either
comment behind the colon of a ``def`` or ``class`` speaks of the whole of it.

``--check`` writes nothing, names what is out of date and ends with status 1.
"""
# ruff: noqa: INP001, T201  a script

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "src" / "nearcache" / "caches"
SOURCES = ("hot_async.py", "retrieval_async.py", "short_term_async.py", "manager_async.py")

_BASE = ("near", "embeddings", "schedule")  # written by hand, imported by the others
MODULES = frozenset((*_BASE, *(name.removesuffix("_async.py") for name in SOURCES)))
CLASSES = frozenset(
    {
        "CacheManager",
        "CachedEmbeddingGenerator",
        "EmbeddingCache",
        "HotMemoryCache",
        "NearCache",
        "RetrievalCache",
        "ShortTermMemory",
    }
)
NAMES = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    **{f"Async{name}": name for name in CLASSES},
}
SWAPPED = {
    **{name: f"Async{name}" for name in CLASSES},
    "as_async": "as_sync",
    "as_sync": "as_async",
}
WORDS = {"asynchronous": "blocking", "Asynchronous": "Blocking"}
SWAPPED_WORDS = {"blocking": "asynchronous", "Blocking": "Asynchronous"}

KEPT, SWAP = "# kept", "# swapped"

Edit = tuple[tuple[int, int], tuple[int, int], str]


def blocking(source: str, name: str) -> str:
    """Return the blocking face of the source ``name``, not yet formatted.

    Raises: ValueError for an ``await`` in an f-string, which Python 3.11 does not show.
    """
    marks = _marks(source)
    lines = source.splitlines(keepends=True)
    for (row, start), (end_row, end), new in sorted(_edits(source, marks), reverse=True):
        head, tail = lines[row - 1][:start], lines[end_row - 1][end:]
        lines[row - 1 : end_row] = [head + new + tail]
    text = "".join(lines)
    return f"# Generated from {name} by make faces; do not edit.\n{text}"


def _marks(source: str) -> dict[int, str]:
    """Return the comment that rules a line, by line."""
    own = {
        token.start[0]: mark
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        for mark in (KEPT, SWAP)
        if token.type == tokenize.COMMENT and token.string.endswith(mark)
    }
    marks = dict(own)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            header = range(node.lineno, max(node.body[0].lineno, node.lineno + 1))
            found = [own[row] for row in header if row in own]
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if found:
                marks.update(dict.fromkeys(range(first, (node.end_lineno or 0) + 1), found[-1]))
    return marks


def _edits(source: str, marks: dict[int, str]) -> Iterator[Edit]:
    """Yield (start, end, new text) of what changes."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    importing = False
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        mark = marks.get(token.start[0], "")
        text = token.string
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            importing = False
        if token.type == tokenize.COMMENT and mark and text.endswith(mark):
            yield token.start, token.end, text.removesuffix(mark).rstrip()
        elif mark == KEPT:
            continue
        elif token.type == tokenize.NAME:
            importing = importing or text in ("from", "import")
            if text in ("async", "await"):
                assert after is not None, "something is awaited"
                yield token.start, after.start, ""
            elif importing and before is not None and before.string == ".":
                yield token.start, token.end, _module(text, mark)
            else:
                yield token.start, token.end, _name(text, mark)
        elif token.type == tokenize.STRING:
            if "f" in re.match(r"\w*", text)[0].lower() and re.search(r"\bawait\b", text):  # type: ignore[index]
                raise ValueError(f"line {token.start[0]}: take the await out of the f-string")
            yield token.start, token.end, _text(text, mark)
        elif token.type == tokenize.COMMENT:
            yield token.start, token.end, _text(text, mark)


def _name(name: str, mark: str) -> str:
    if mark == SWAP and name in SWAPPED:
        return SWAPPED[name]
    return NAMES.get(name, name)


def _module(name: str, mark: str) -> str:
    if name.removesuffix("_async") not in MODULES:
        return name
    if name.endswith("_async"):
        return name.removesuffix("_async")
    return f"{name}_async" if mark == SWAP else name


def _text(text: str, mark: str) -> str:
    def new(match: re.Match[str]) -> str:
        word = match[0]
        if mark == SWAP and word in SWAPPED_WORDS:
            return SWAPPED_WORDS[word]
        return WORDS.get(word) or _name(word, mark)

    return re.sub(r"\w+", new, text)


def formatted(source: str) -> str:
    """Return Python as ruff writes it: imports sorted, none that is not used."""
    for command in (
        ["check", "--fix-only", "--quiet", "--fixable", "F401,I,RUF100,UP034"],
        ["format", "--quiet"],
    ):
        source = subprocess.run(  # noqa: S603  our own linter
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(FOLDER / "x.py"), "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
    return source


def out_of_date() -> Iterator[tuple[Path, str]]:
    """Yield each blocking file that is not what its source says, and what it should be."""
    for name in SOURCES:
        path = FOLDER / name
        if not path.exists():
            continue
        result = path.with_name(name.replace("_async", ""))
        wanted = formatted(blocking(path.read_text("utf-8"), name))
        if not result.exists() or result.read_text("utf-8") != wanted:
            yield result, wanted


def main(arguments: list[str]) -> int:
    """Write what is out of date, or with ``--check`` only name it."""
    found = list(out_of_date())
    for path, wanted in found:
        print(path.relative_to(ROOT))
        if arguments != ["--check"]:
            path.write_text(wanted, "utf-8")
    return 1 if found and arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
