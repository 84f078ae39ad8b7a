"""``docs/from-the-seeds.md`` names what there is: each table is of the class in its heading."""

import inspect
import re
from pathlib import Path

import pytest

import nearcache

PAGE = Path(__file__).parents[1] / "docs" / "from-the-seeds.md"
OTHERS = {  # words in code style that are no names of ours
    *("None", "Async…", "with"),
    *("redis", "valkey", "sqlite", "memory", "encode", "embed_documents", "generate"),
}


def tables() -> dict[str, list[tuple[str, str]]]:
    """The rows, (there, here), of each class."""
    sections = re.split(r"^## (\w+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    row = re.compile(r"^\| (.+?) \| (.+) \|$", re.MULTILINE)
    pairs = zip(sections[1::2], sections[2::2], strict=True)
    return {name: [r for r in row.findall(text) if r[0] != "there"] for name, text in pairs}


def names(cell: str) -> list[str]:
    """The names in code style, each without what follows it: `put(key, …)` names put."""
    found = (re.match(r"\w+(\.\w+)*", code) for code in re.findall(r"`([^`]+)`", cell))
    return [match[0] for match in found if match]


def is_known(cls: type, name: str) -> bool:
    """Whether it is a method or parameter of the class, a class of ours, or part of its stats."""
    owner, _, attribute = name.rpartition(".")
    if owner:
        return hasattr(getattr(nearcache, owner), attribute)
    functions = [cls, *(f for _, f in inspect.getmembers(cls, inspect.isroutine))]
    parameters = {
        p for f in functions if f is cls or inspect.isfunction(f) for p in parameters_of(f)
    }
    places = (cls, nearcache, nearcache.Stats, nearcache.ManagerStats)
    return name in parameters or any(hasattr(place, name) for place in places)


def parameters_of(function) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", tables())
def test_every_name_on_the_right_exists(name):
    cls = getattr(nearcache, name)
    missing = [
        used
        for _, here in tables()[name]
        for used in names(here)
        if used not in OTHERS and not is_known(cls, used)
    ]
    assert missing == []


@pytest.mark.parametrize("name", tables())
def test_what_is_said_to_be_the_same_has_the_same_name(name):
    cls = getattr(nearcache, name)
    same = [there for there, here in tables()[name] if here.startswith("the same")]
    missing = [used for there in same for used in names(there) if not is_known(cls, used)]
    assert missing == []
    assert same


def test_what_is_missing_would_be_seen():
    assert is_known(nearcache.HotMemoryCache, "invalidate_by_type")
    assert is_known(nearcache.HotMemoryCache, "max_entries")
    assert is_known(nearcache.EmbeddingCache, "EmbeddingCache.wrap")
    for name in ("invalidate_by_kind", "EmbeddingCache.unwrap", "max_rows"):
        assert not is_known(nearcache.HotMemoryCache, name)
