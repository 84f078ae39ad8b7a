"""How docstrings of the form of ARCHITECTURE become pages: an extension of griffe.

A line ``name: what it is`` (a parameter, or one of the headings ``Units: Raises: Cost: …``) and the
indented lines after it become an item of a list.
"""
# ruff: noqa: INP001  a script

import inspect
import re
from typing import Any

import griffe

ITEM = re.compile(r"(\*{0,2}[a-z_]\w*(?:, \*{0,2}[a-z_]\w*)*): (?=\S)")
HEADING = re.compile(r"(Shapes|Units|Error|Cost|Thread-safe|Raises|Returns|Source): ")
ROLE = re.compile(r":\w+:`([^`]+)`")


class DocstringForm(griffe.Extension):
    """Rewrites docstrings as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """Return a docstring as Markdown."""
    text = ROLE.sub(r"`\1`", inspect.cleandoc(docstring))
    first, *rest = re.split(r"\n\s*\n", text)
    return "\n\n".join([first, *map(_paragraph, rest)])


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if lines[0].startswith((" ", "-", "|", ">", "```")):
        return text
    items: list[str] = []
    before: list[str] = []
    for line in lines:
        item = HEADING.match(line) or (ITEM.match(line) if _lists(lines) else None)
        if item:
            items.append(f"- **{item[1]}**: {line[item.end() :]}")
        elif items:
            items[-1] += "\n    " + line.strip()
        else:
            before.append(line)
    return "\n\n".join(part for part in ("\n".join(before), "\n".join(items)) if part)


def _lists(lines: list[str]) -> bool:
    """Whether a paragraph lists parameters: each line is an item, or indented below one."""
    return bool(ITEM.match(lines[0])) and all(
        line.startswith("    ") or ITEM.match(line) for line in lines
    )
