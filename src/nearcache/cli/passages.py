"""The texts that the demo embeds: passages of the interpreter's own documentation."""

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

__all__ = ["SIZE", "Corpus", "documentation", "documents", "split", "walk"]

SIZE = 500
"""Characters that a passage has about: cut where a paragraph or sentence ends nearest to it."""

_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test"}

# A line over a row of punctuation (reStructuredText), or one after number signs (Markdown).
_HEADING = re.compile(r"^(?=\S[^\n]*\n([*=~^-])\1{2,}[ \t]*$)|^(?=#{1,6} \S)", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?:;])[\"')\]]*\s+|(?<=[。！？])|\n")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages in a fixed order, natural repeats kept, and what they are."""

    description: str
    passages: list[str]
    cut_short: bool
    """Whether there were more than the limit allowed."""

    @classmethod
    def first(cls, description: str, stream: Iterator[str], limit: int | None) -> "Corpus":
        """Return the first passages of a stream, all for None, reading no further than it must."""
        passages = list(islice(stream, limit))
        return cls(description, passages, limit is not None and next(stream, None) is not None)


def documentation(limit: int | None) -> Corpus:
    """Return the first passages of the interpreter's documentation; all for None."""
    stream = (passage for document in documents() for passage in split(document))
    version = sysconfig.get_python_version()
    name = f"Python {version}'s own documentation (language topics, library docstrings)"
    return Corpus.first(name, stream, limit)


def documents() -> Iterator[str]:
    """Yield the language topics, then the docstrings of each library module, in a fixed order."""
    # Read, not imported: half the library has side effects or a window when it is imported. (Some
    # distributions keep the topics in a package of their own.)
    if find_spec("pydoc_data") is not None and find_spec("pydoc_data.topics") is not None:
        from pydoc_data.topics import topics

        yield from (text for _, text in sorted(topics.items()))
    for path in walk(Path(sysconfig.get_path("stdlib")), lambda name: name not in _NOT_LIBRARY):
        if path.suffix == ".py":
            yield "\n\n".join(_docstrings(path))


def walk(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Yield the regular files below a folder whose own and whose folders' names are wanted.

    They come in a fixed order. Links to folders are not followed: they may lead in a circle.
    """
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(filter(wanted, folders))
        for name in sorted(filter(wanted, files)):
            path = Path(here, name)
            if path.is_file():  # reading a pipe would wait for ever
                yield path


def _docstrings(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):  # about others' escape sequences
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # the library has templates that are not Python
        return
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and text.strip():
                yield text
        pending.extend(reversed(list(ast.iter_child_nodes(node))))  # in source order


def split(text: str, size: int = SIZE) -> Iterator[str]:
    """Yield slices of a text, each about ``size`` characters and at most one and a half times that.

    They are cut where a paragraph ends, else a sentence, else a word. A heading starts a new one,
    so that a section which stands in two documents gives the same passages in both.
    """
    for section in _sections(text, size // 2):
        start = 0
        while start < len(section):
            end = _end(section, start, size)
            passage = section[start:end].strip()
            if re.search(r"\w", passage):  # a row of stars says nothing
                yield passage
            start = end


def _sections(text: str, least: int) -> Iterator[str]:
    start = 0
    for heading in _HEADING.finditer(text):
        if heading.start() - start >= least:  # a short one stays with what follows
            yield text[start : heading.start()]
            start = heading.start()
    yield text[start:]


def _end(text: str, start: int, size: int) -> int:
    if len(text) - start <= size * 3 // 2:
        return len(text)
    low = start + size // 2
    high = min(start + size * 3 // 2, len(text) - size // 5)  # no crumb is left over
    for boundary in (_PARAGRAPH, _SENTENCE, _SPACE):
        ends = [match.end() for match in boundary.finditer(text, low, high)]
        if ends:
            return min(ends, key=lambda end: abs(end - start - size))
    return start + size
