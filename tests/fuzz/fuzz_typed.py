"""Codecs of the user's own types: any bytes are a value of the type or a CodecError."""

import dataclasses
import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict
from uuid import UUID

import msgspec
import pydantic

from fuzz.fuzz_codecs import shown
from fuzz.harness import Choices
from nearcache.codecs.base import by_name
from nearcache.errors import CodecError

__all__ = ["SEEDS", "one"]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class Tree:
    label: str
    children: tuple["Tree", ...] = ()
    colour: Colour = Colour.RED
    at: datetime | None = None


class User(pydantic.BaseModel):
    id: int
    name: str = ""
    tags: list[str] = []
    born: date | None = None


class Item(msgspec.Struct):
    id: int
    price: float = 0.0
    parts: dict[str, int] = {}


class Plain(TypedDict):
    a: int


_TYPES = (
    Point, Tree, User, Item, Colour, Plain, UUID, Decimal, date, datetime, int, float, bytes,
    list[Point], dict[UUID, int], dict[Colour, list[int]], set[str], frozenset[int | None],
    tuple[int, str], tuple[date, ...], int | str | None, Literal["a", 1], Decimal | None,
    list[Any], dict[str, Tree],
)  # fmt: skip
_CODECS = [(by_name(name, hint), hint) for hint in _TYPES for name in ("json", "msgpack")]

_TEXTS = (
    b'{"x": 1, "y": 2.5, "name": null}',
    b'{"label": "a", "children": [{"label": "b"}], "colour": "BLUE", "at": "2024-01-02T03:04:05"}',
    b'{"id": 1, "name": "a", "tags": ["b"], "born": "2020-02-29"}',
    b'{"id": 1, "price": 1.5, "parts": {"a": 2}}',
    b'"RED"', b'{"a": 1}', b'"12345678123456781234567812345678"', b'"1E+999999"', b'"2024-01-01"',
    b'"2024-01-01T00:00:00+00:00"', b"1", b"NaN", b'"bytes"', b'[{"x": 1}]',
    b'{"12345678-1234-5678-1234-567812345678": 1}', b'{"RED": [1]}', b'["a", "b"]', b"[1, null]",
    b'[1, "a"]', b'["2024-01-01"]', b"null", b'"a"', b'"sNaN"', b"[[]]", b'{"a": {"label": ""}}',
)  # fmt: skip

SEEDS = [
    *(bytes((2 * number,)) + text for number, text in enumerate(_TEXTS)),
    *(
        bytes((2 * number + 1,)) + by_name("msgpack").encode(by_name("json").decode(text))
        for number, text in enumerate(_TEXTS)
    ),
    b"\x02" + b'{"label":"","children":[' * 200 + b"]}" * 200,
]


def one(data: bytes) -> None:
    choices = Choices(data)
    codec, hint = choices.one_of(_CODECS)
    try:
        value = codec.decode(choices.rest())
    except CodecError:
        return
    if isinstance(hint, type) and hint not in (Plain, float):
        assert type(value) is hint
    try:
        again = codec.encode(value)
    except CodecError:  # another program wrote it
        return
    found = codec.decode(again)
    # a set's order is nobody's promise, and NaN is not equal to itself
    assert type(found) is type(value)
    assert shown(found) == shown(value) or found == value
