"""Values of the user's types: what comes back is equal, of the same types, and another object."""

import enum
import math
import subprocess
import sys
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearcache.codecs.base import by_name
from nearcache.errors import CodecError, ConfigError

TEXTUAL = pytest.mark.parametrize("codec", ["json", "msgpack"])
T = TypeVar("T")
UserId = NewType("UserId", int)


SEVEN = UUID(int=7)


class Color(enum.Enum):
    RED = enum.auto()
    GREEN = (1, 2)
    CRIMSON = RED


class Word(enum.StrEnum):
    YES = "y"


class Rights(enum.Flag):
    READ = 1


class Movie(TypedDict, total=False):
    title: str


@dataclass(frozen=True)
class Place:
    x: float
    y: float = 0.0


@dataclass
class Memory:
    text: str
    place: Place
    importance: int = 0
    tags: list[str] = field(default_factory=list)
    near: dict[str, Place] = field(default_factory=dict)
    path: tuple[Place, ...] = ()
    pair: tuple[int, str] = (0, "")
    seen: set[int] = field(default_factory=set)
    fixed: frozenset[str] = frozenset()
    last: Place | None = None
    color: Color = Color.RED
    when: datetime | None = None
    day: date = date(2020, 1, 1)
    key: UUID = SEVEN
    price: Decimal = Decimal("1.50")
    either: int | str | None = None
    or_place: str | Place = ""
    role: Literal["user", "agent", 3] = "user"
    owner: UserId = UserId(3)
    noted: Annotated[int | None, "note"] = None
    free: Any = None
    colors: dict[Color, list[Place]] = field(default_factory=dict)
    count: ClassVar[int] = 0


@dataclass
class Node:
    name: str
    children: "list[Node]" = field(default_factory=list)
    parent: "Node | None" = None


WORDS = st.integers(-(2**63), 2**63)  # msgpack has an end of integers
places = st.builds(Place, st.floats(allow_nan=False), WORDS | st.floats(allow_nan=False))
offsets = st.integers(-23 * 3600, 23 * 3600).map(lambda s: timezone(timedelta(seconds=s)))
times = st.datetimes(timezones=st.none() | offsets).map(lambda when: when.replace(fold=0))
memories = st.builds(
    Memory,
    text=st.text(),
    place=places,
    tags=st.lists(st.text()),
    near=st.dictionaries(st.text(), places),
    path=st.lists(places).map(tuple),
    pair=st.tuples(st.integers(0, 9), st.text()),
    seen=st.sets(st.integers(-9, 9)),
    fixed=st.frozensets(st.text()),
    last=st.none() | places,
    color=st.sampled_from(Color),
    when=st.none() | times,
    day=st.dates(),
    key=st.uuids(),
    price=st.decimals(allow_nan=False),
    either=st.none() | st.integers(0, 9) | st.text(),
    or_place=st.text() | places,
    role=st.sampled_from(["user", "agent", 3]),
    noted=st.none() | st.integers(0, 9),
    free=st.none() | st.lists(st.booleans()) | st.dictionaries(st.text(), st.integers(0, 9)),
    colors=st.dictionaries(st.sampled_from(Color), st.lists(places)),
)


def there_and_back(hint, value, codec="json"):
    typed = by_name(codec, hint)
    data = typed.encode(value)
    back = typed.decode(memoryview(data))
    assert repr(typed.decode(data)) == repr(back)
    return back


# -- what comes back -------------------------------------------------------------------------------


@TEXTUAL
@given(memories)
def test_a_dataclass_comes_back_as_it_was(codec, memory):
    back = there_and_back(Memory, memory, codec)
    assert back == memory
    assert back is not memory
    assert back.place is not memory.place
    assert back.color is memory.color
    assert type(back.place.y) is type(memory.place.y)
    if memory.when is not None:
        assert back.when.utcoffset() == memory.when.utcoffset()


@TEXTUAL
def test_a_tree_comes_back(codec):
    tree = Node("root", [Node("a", [Node("b")]), Node("c", parent=Node("d"))])
    assert there_and_back(Node, tree, codec) == tree


@pytest.mark.parametrize(
    "hint,value",
    [
        (int, 3),
        (float, 3),
        (float, 0.5),
        (str, "a"),
        (bool, True),
        (list[None], [None]),
        (int | None, None),
        (Optional[Place], None),  # noqa: UP045
        (Place | None, Place(1.0)),
        (str | list[int], [1]),
        (str | list[int], "a"),
        (Literal["a", 1] | None, 1),
        (Literal["a"] | int, 5),
        (list, [1, {"a": None}]),
        (list[Place], [Place(1.0)]),
        (dict[str, Place], {"a": Place(1.0)}),
        (dict, {"a": 1}),
        (tuple, (1, "a")),
        (tuple[int, ...], (1, 2)),
        (tuple[Place, str], (Place(1.0), "a")),
        (set, {1, "a"}),
        (frozenset[Color], frozenset(Color)),
        (set[tuple[int, str]], {(1, "a")}),
        (dict[UUID, int], {UUID(int=1): 1}),
        (Color, Color.GREEN),
        (Word, Word.YES),
        (list[Word], [Word.YES]),
        (Color | None, None),
        (datetime, datetime(2020, 1, 1, 12, tzinfo=UTC)),
        (datetime, datetime(2020, 1, 1, tzinfo=timezone(timedelta(seconds=-3601)))),
        (date | None, date(2020, 1, 1)),
        (Decimal, Decimal("-0.10")),
        (UserId, 3),
        (Annotated[list[int], "note"], [1]),
        (Movie, {"title": "a"}),
        (Any, [1]),
        (object, [1]),
        (list[Any], [[1], {"a": 2}]),
        (Any | None, [1]),
    ],
    ids=str,
)
@TEXTUAL
def test_values_of_these_types_come_back(codec, hint, value):
    back = there_and_back(hint, value, codec)
    assert (type(back), back) == (type(value), value)
    if isinstance(value, (list, tuple)):
        assert [type(item) for item in back] == [type(item) for item in value]


def test_not_a_number_comes_back():
    assert math.isnan(there_and_back(Place, Place(math.nan)).x)


def test_below_any_a_tuple_is_a_list_as_in_the_codec_itself():
    assert there_and_back(Memory, Memory("", Place(1.0), free=(1, 2))).free == [1, 2]
    assert there_and_back(Loose, Loose(1, (1, 2))).anything == [1, 2]


def test_keys_that_are_no_strings_are_up_to_the_codec():
    assert there_and_back(dict[int, str], {1: "a"}, "msgpack") == {1: "a"}
    with pytest.raises(CodecError, match="key of type int"):
        by_name("json", dict[int, str]).encode({1: "a"})
    assert there_and_back(dict[str, bytes], {"a": b"b"}, "msgpack") == {"a": b"b"}
    with pytest.raises(CodecError, match="bytes"):
        by_name("json", dict[str, bytes]).encode({"a": b"b"})


# -- how a dataclass is made again -----------------------------------------------------------------


@dataclass
class Doubled:
    value: int
    half: float = field(init=False)
    hidden: int = field(default=1, repr=False, compare=False)

    def __post_init__(self):
        self.value *= 2
        self.half = self.value / 4
        self.extra = "made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    a: int
    b: int = field(init=False, default=3)


def test_post_init_runs_and_the_fields_are_what_they_were():
    value = Doubled(1)
    value.half, value.hidden = 99.0, 5
    back = there_and_back(Doubled, value)
    assert (back.value, back.half, back.hidden, back.extra) == (2, 99.0, 5, "made")


def test_frozen_slots_and_fields_that_are_not_given_come_back():
    value = Slotted(a=1)
    object.__setattr__(value, "b", 4)
    assert there_and_back(Slotted, value) == value


def test_a_field_that_is_not_stored_takes_its_default():
    assert by_name("json", Place).decode(b'{"x":1.5}') == Place(1.5)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"y":1.0}',
        b'{"x":"a"}',
        b'{"x":null}',
        b'{"x":true}',
        b'{"x":1.0,"z":1}',
        b"[]",
        b"null",
        b"1",
        b"nope",
    ],
)
def test_what_another_version_of_the_class_wrote_is_refused(data):
    with pytest.raises(CodecError):
        by_name("json", Place).decode(data)


def test_whatever_a_class_raises_when_it_is_made_is_a_codec_error():
    @dataclass
    class Strict:
        value: int

        def __post_init__(self):
            if self.value > 1:
                raise LookupError("too large")

    with pytest.raises(CodecError, match=r"no .*Strict: LookupError"):
        by_name("json", Strict).decode(b'{"value":2}')


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["text", "place", "x", "y", "tags", "color"]), inner)
        ),
    )
)
def test_any_other_value_is_a_codec_error_and_nothing_else(plain):
    data = by_name("json").encode(plain)
    for hint in (Memory, Node, Model, Struct, tuple[int, str], set[Place], Color, dict[Color, int]):
        try:
            value = by_name("json", hint).decode(data)
        except CodecError:
            continue
        assert there_and_back(hint, value) == value or "nan" in repr(value)


# -- what is refused at put ------------------------------------------------------------------------


class SubPlace(Place):
    pass


class Odd(tzinfo):
    def utcoffset(self, when):
        return timedelta(0)

    def dst(self, when):
        return None


@pytest.mark.parametrize(
    "hint,value,says",
    [
        (int, "a", "expected int, found str"),
        (int, True, "found bool"),
        (float, True, "expected float or int, found bool"),
        (str, Word.YES, "found Word"),
        (str, None, "found NoneType"),
        (int | None, "a", "found str"),
        (list[int], (1,), "expected list, found tuple"),
        (list[int], [1, "a"], "found str"),
        (tuple[int, str], (1,), "shorter"),
        (tuple[int, ...], [1], "found list"),
        (set[int], {"a"}, "found str"),
        (set, {(1, 2)}, "found tuple"),
        (dict[str, int], {1: 1}, "found int"),
        (Movie, [], "expected dict, found list"),
        (Place, {"x": 1.0}, "expected Place, found dict"),
        (Place, SubPlace(1.0), "found SubPlace"),
        (Place, Place("a"), "Place.x: expected float or int, found str"),
        (Memory, Memory("", Place(None)), "Memory.place: Place.x: "),
        (Memory, Memory("", Place(1.0), role="boss"), "Memory.role"),
        (Memory, Memory("", Place(1.0), role=True), "Memory.role"),
        (Literal[1], True, "expected"),
        (Literal["a"] | int, "b", "found str"),
        (Color, Word.YES, "expected Color, found Word"),
        (Color, "RED", "found str"),
        (date, datetime(2020, 1, 1), "expected date, found datetime"),
        (datetime, datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC")), "astimezone"),
        (datetime, datetime(2020, 1, 1, tzinfo=Odd()), "astimezone"),
        (datetime, datetime(2020, 1, 1, fold=1), "fold"),
        (datetime, datetime(2020, 1, 1, tzinfo=timezone(timedelta(microseconds=1))), "fraction"),
        (UUID, "a", "found str"),
    ],
    ids=str,
)
@TEXTUAL
def test_a_wrong_type_is_refused_in_a_sentence_that_names_it(codec, hint, value, says):
    with pytest.raises(CodecError, match="cannot keep this value as") as caught:
        by_name(codec, hint).encode(value)
    assert says in str(caught.value)


def test_an_object_that_holds_itself_is_refused():
    node = Node("a")
    node.children.append(node)
    with pytest.raises(CodecError, match="nested too deeply"):
        by_name("json", Node).encode(node)


# -- types that cannot be kept ---------------------------------------------------------------------


@dataclass
class Box(Generic[T]):
    item: T


@dataclass
class Given:
    a: InitVar[int]


@dataclass(init=False)
class Handmade:
    a: int


@dataclass
class Unresolved:
    a: "Nowhere"  # noqa: F821


@pytest.mark.parametrize(
    "hint",
    [
        complex,
        type,
        range,
        Rights,
        Box,
        Box[int],
        Given,
        Handmade,
        SubPlace,
        Unresolved,
        T,
        list[complex],
        list[T],
        dict[Place, int],
        dict[tuple[int, int], int],
        Place | Node,
        str | Color,
        int | str | datetime,
        list[int] | tuple[int],
        Literal[Color.RED],
        np.ndarray,
        "Place",
        Place(1.0),
        3,
        [],
        {},
    ],
    ids=str,
)
def test_a_type_that_cannot_be_kept_is_a_config_error(hint):
    with pytest.raises(ConfigError, match="type="):
        by_name("json", hint)


def test_codecs_of_one_type_take_no_other():
    assert by_name("bytes", bytes).decode(b"a") == b"a"
    assert by_name("ndarray", np.ndarray).name == "ndarray"
    assert by_name("ndarray", NDArray[np.float32]).name == "ndarray"
    for name, hint in (("bytes", str), ("ndarray", Place), ("bytes", np.ndarray)):
        with pytest.raises(ConfigError, match="keeps one type only"):
            by_name(name, hint)


# -- pydantic and msgspec --------------------------------------------------------------------------


class Inner(pydantic.BaseModel):
    when: datetime
    raw: bytes = b""


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    text: str = pydantic.Field(validation_alias="in", serialization_alias="out", default="")
    place: Place | None = None
    inner: list[Inner] = []
    numbers: dict[int, float] = {}
    seen: set[int] = set()
    color: Word = Word.YES

    @pydantic.computed_field
    @property
    def length(self) -> int:
        return len(self.text)


class Struct(msgspec.Struct, rename="camel", omit_defaults=True):
    some_text: str = ""
    numbers: dict[int, float] = {}
    raw: bytes = b""
    when: datetime | None = None
    seen: set[int] = set()
    path: tuple[int, ...] = ()


class Frozen(msgspec.Struct, frozen=True, array_like=True, tag=True):
    a: int


@TEXTUAL
def test_a_pydantic_model_comes_back_as_it_was(codec):
    inner = Inner(when=datetime(2020, 1, 1, tzinfo=UTC), raw=b"abc")
    value = Model(place=Place(1.0), inner=[inner], numbers={1: 0.5}, seen={3})
    value.text = "hello"
    back = there_and_back(Model, value, codec)
    assert type(back) is Model
    assert back == value
    assert back.inner[0] is not inner


@TEXTUAL
def test_a_msgspec_struct_comes_back_as_it_was(codec):
    value = Struct("a", {1: 0.5}, b"\xff", datetime(2020, 1, 1, tzinfo=UTC), {1}, (1, 2))
    assert there_and_back(Struct, value, codec) == value
    assert there_and_back(Frozen | None, Frozen(1), codec) == Frozen(1)


def test_not_a_number_in_them_comes_back():
    value = there_and_back(Struct, Struct(numbers={1: math.nan}))
    assert math.isnan(value.numbers[1])
    model = there_and_back(Model, Model(numbers={1: math.nan}))
    assert math.isnan(model.numbers[1])


@TEXTUAL
def test_they_may_stand_within_dataclasses_and_containers(codec):
    @dataclass
    class Both:
        model: Model
        structs: list[Struct]

    value = Both(Model(), [Struct("a")])
    assert there_and_back(Both, value, codec) == value
    assert there_and_back(dict[str, Model | None], {"a": Model(), "b": None}) == {
        "a": Model(),
        "b": None,
    }


class Root(pydantic.RootModel[int | None]):
    pass


def test_a_root_model_may_look_like_anything():
    assert there_and_back(Root, Root(None)) == Root(None)
    assert there_and_back(Root | None, Root(3)) == Root(3)
    with pytest.raises(CodecError, match="come back as NoneType"):
        by_name("json", Root | None).encode(Root(None))
    with pytest.raises(ConfigError, match="look the same"):
        by_name("json", Root | int)


class Excluding(pydantic.BaseModel):
    secret: str = pydantic.Field("", exclude=True)


class Ambiguous(pydantic.BaseModel):
    when: datetime | str


class Parent(pydantic.BaseModel):
    child: pydantic.BaseModel


class Loose(msgspec.Struct):
    number: int
    anything: Any = None


@pytest.mark.parametrize(
    "hint,value",
    [
        (Model, Inner(when=datetime(2020, 1, 1))),
        (Model, {}),
        (Model, Model.model_construct(text=3)),
        (Model, Model.model_construct(text=object())),
        (Inner, Inner(when=datetime(2020, 1, 1), raw=b"\xff")),
        (Excluding, Excluding(secret="a")),
        (Ambiguous, Ambiguous(when=datetime(2020, 1, 1))),
        (Parent, Parent(child=Excluding())),
        (Struct, Loose(1)),
        (Loose, Loose("a")),
        (Loose, Loose(1, Frozen(1))),
        (Loose, Loose(1, object())),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_what_they_would_not_bring_back_is_refused_at_put(hint, value):
    with pytest.raises(CodecError, match="cannot keep this value as"):
        by_name("json", hint).encode(value)


def test_an_old_pydantic_is_refused(monkeypatch):
    monkeypatch.setattr(pydantic, "VERSION", "2.9.1")
    with pytest.raises(ConfigError, match=r"pydantic 2\.11"):
        by_name("json", Model)


def test_dataclasses_need_none_of_the_packages():
    code = """if True:
        import sys
        for name in ("pydantic", "msgspec", "msgpack"):
            sys.modules[name] = None
        from dataclasses import dataclass
        from nearcache.codecs.base import by_name

        @dataclass
        class Point:
            x: int

        codec = by_name("json", list[Point])
        assert codec.decode(codec.encode([Point(1)])) == [Point(1)]
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


# -- the codec beneath -----------------------------------------------------------------------------


@TEXTUAL
def test_a_type_changes_neither_name_nor_kind(codec):
    typed, bare = by_name(codec, Place), by_name(codec)
    assert (typed.name, typed.kind) == (bare.name, bare.kind)


def test_only_what_nobody_can_change_is_shared():
    assert by_name("json", int | None).shares(None)
    assert by_name("json", str).shares("a")
    assert not by_name("json", bytes).shares(b"a")
    assert not by_name("json", Place).shares(Place(1.0))  # frozen, but its fields may not be
    assert not by_name("json", Color).shares(Color.RED)
    assert not by_name("json", Frozen).shares(Frozen(1))
