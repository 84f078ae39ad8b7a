"""Values of the user's own types: to what a codec keeps, and back.

What ``type=`` takes, alone and within each other:

* dataclasses. Every field is kept; what else an object holds is not. ``__post_init__`` runs, then
  the fields are set to what was stored. A stored value that lacks a field takes its default; one
  with an unknown field is refused (another version of the program wrote it).
* pydantic models (2.11 and later) and msgspec structs, by these packages' own rules. A value that
  its package would not bring back as it was is refused when it is put.
* str, int, float (which may hold an int), bool, bytes, None, Literal of these, Any
* list, tuple, set, frozenset and dict, with or without the types of their items
* ``X | None``; a union of plain types; and of these with one container or class
* enums, by the name of the member; UUID, Decimal, date; datetime, naive or with a fixed offset
* TypedDict, as the dict it is: its fields are not looked at

Everything below ``Any`` is up to the codec: there a tuple comes back as a list. An object must be
of the very class: a subclass's fields would be lost.
"""

import dataclasses
import enum
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone
from decimal import Decimal
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

import numpy as np

from nearcache.codecs.base import ATOMS, Codec
from nearcache.errors import CodecError, ConfigError

__all__ = ["typed"]

_Convert = Callable[[Any], Any]


def typed(codec: Codec, hint: Any) -> Codec:
    """Return the codec for values of the type ``hint``.

    Raises: ConfigError for a type that cannot be kept.
    """
    if hint is Any or hint is object:
        return codec
    if codec.name in _SINGLE:
        kind = get_origin(hint) or hint
        kind = getattr(kind, "__value__", kind)  # numpy's NDArray is a type alias from 2.5 on
        if (get_origin(kind) or kind) is _SINGLE[codec.name]:
            return codec
        msg = f"codec={codec.name!r} keeps one type only; use type= with 'json' or 'msgpack'"
        raise ConfigError(msg)
    return _TypedCodec(codec, hint)


_SINGLE = {"bytes": bytes, "ndarray": np.ndarray}


class _TypedCodec:
    """A codec behind the conversion of a type."""

    def __init__(self, codec: Codec, hint: Any) -> None:
        self.name = codec.name
        self.kind = codec.kind
        self._codec = codec
        self._form = _form(hint, {})
        self._what = _name(hint)

    def encode(self, value: Any) -> bytes:
        try:
            plain = self._form.plain(value)
        except RecursionError as error:
            msg = f"cannot keep this value as {self._what}: it is nested too deeply"
            raise CodecError(msg) from error
        except Exception as error:  # noqa: BLE001  its words may be the value's
            msg = f"cannot keep this value as {self._what}: {_why(error)}"
            raise CodecError(msg) from None
        return self._codec.encode(plain)

    def decode(self, data: bytes | memoryview) -> Any:
        plain = self._codec.decode(data)
        try:
            return self._form.value(plain)
        except Exception as error:  # noqa: BLE001  also what a user's own class raises
            raise CodecError(f"these bytes are no {self._what}: {_why(error)}") from None

    def shares(self, value: Any) -> bool:
        return self._codec.shares(value)


class _Words:
    """An error that says in our own words what does not fit: types and fields, never contents."""


class _Unfit(_Words, TypeError): ...


class _Lossy(_Words, ValueError): ...


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, _Words) else type(error).__name__


@dataclasses.dataclass(slots=True)
class _Form:
    """How values of one type become plain ones, and back; both raise for anything else.

    ``atoms`` are the types of the plain values, where these are atoms; empty for containers.
    ``plain_is_value`` says that the two are the same.
    """

    plain: _Convert
    value: _Convert
    atoms: frozenset[type] = frozenset()
    plain_is_value: bool = False


_Seen = dict[Any, _Form]  # classes may contain themselves


def _form(hint: Any, seen: _Seen) -> _Form:
    """Return the conversion of a type."""
    if type(hint).__hash__ is None:
        raise ConfigError(f"type= must be a type, not {hint!r}")
    if isinstance(hint, NewType):
        return _form(hint.__supertype__, seen)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _form(args[0], seen)
    if origin is Union or origin is UnionType:
        return _union(hint, args, seen)
    if origin is Literal:
        return _literal(hint, args)
    if hint is Any or hint is object:
        return _Form(_same, _same, ATOMS)
    if hint is None:
        hint = NoneType
    if hint in _PLAIN:
        return _plain(_PLAIN[hint])
    if hint in _TEXT:
        return _text(hint, *_TEXT[hint])
    if (origin or hint) in _CONTAINERS:
        return _CONTAINERS[origin or hint](args, seen)
    if isinstance(hint, type) and origin is None:
        if hint in seen:
            return seen[hint]
        if is_typeddict(hint):
            return _Form(_exactly(dict), _exactly(dict))
        if issubclass(hint, enum.Enum) and not issubclass(hint, enum.Flag):
            return _text(hint, _member_name, lambda name: hint[name])
        if dataclasses.is_dataclass(hint):
            return _dataclass(hint, seen)
        if _is_a(hint, "pydantic", "BaseModel"):
            return _pydantic(hint)
        if _is_a(hint, "msgspec", "Struct"):
            return _msgspec(hint)
    msg = (
        f"type= cannot keep {_name(hint)}; it takes dataclasses, pydantic models, msgspec structs, "
        f"enums, UUID, Decimal, date, datetime, and list, tuple, set, dict, Literal and | of these "
        f"and of plain types"
    )
    raise ConfigError(msg)


# -- plain values ----------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    return value


def _plain(kinds: frozenset[type]) -> _Form:
    expected = " or ".join(sorted(map(_name, kinds)))

    def check(value: Any) -> Any:
        if type(value) not in kinds:
            raise _Unfit(f"expected {expected}, found {_name(type(value))}")
        return value

    return _Form(check, check, kinds, plain_is_value=True)


_PLAIN: dict[Any, frozenset[type]] = {kind: frozenset((kind,)) for kind in ATOMS}
_PLAIN[float] = frozenset((float, int))


def _exactly(kind: type) -> _Convert:
    return _plain(frozenset((kind,))).plain


def _literal(hint: Any, values: tuple[Any, ...]) -> _Form:
    allowed = {(type(value), value) for value in values}
    kinds = frozenset[type](type(value) for value in values)
    if not kinds <= ATOMS:
        raise ConfigError(f"type= cannot keep {hint}: literals must be plain values")

    def check(value: Any) -> Any:
        if type(value) not in kinds or (type(value), value) not in allowed:
            raise _Unfit(f"expected {hint}")
        return value

    return _Form(check, check, kinds, plain_is_value=True)


# -- values as texts -------------------------------------------------------------------------------


def _text(kind: type, to_text: Callable[[Any], str], from_text: Callable[[str], Any]) -> _Form:
    right, is_text = _exactly(kind), _exactly(str)
    return _Form(
        lambda value: to_text(right(value)),
        lambda text: from_text(is_text(text)),
        frozenset((str,)),
    )


def _member_name(member: enum.Enum) -> str:
    return member.name  # its value may change when members are moved


def _datetime_text(value: datetime) -> str:
    if value.tzinfo is not None and type(value.tzinfo) is not timezone:
        msg = "the rules of a time zone would be lost; use .astimezone(datetime.timezone.utc)"
        raise _Lossy(msg)
    if value.fold:
        raise _Lossy("the second pass of a repeated hour (fold) would be lost")
    offset = value.utcoffset()
    if offset is not None and offset.microseconds:  # fromisoformat takes +00:00:00.000001 for UTC
        raise _Lossy("the fraction of a second in an offset would be lost")
    return value.isoformat()


_TEXT: dict[Any, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    UUID: (str, UUID),
    Decimal: (str, Decimal),
    date: (date.isoformat, date.fromisoformat),
    datetime: (_datetime_text, datetime.fromisoformat),
}


# -- containers and unions -------------------------------------------------------------------------


def _sequence(kind: type) -> Callable[[tuple[Any, ...], _Seen], _Form]:
    def build(args: tuple[Any, ...], seen: _Seen) -> _Form:
        item = _form(args[0] if args else Any, seen)
        if kind in (set, frozenset) and (not args or args[0] in (Any, object)):
            item = _plain(ATOMS)  # a list that was a tuple could not be put back into a set
        right, is_list = _exactly(kind), _exactly(list)
        return _Form(
            lambda value: [item.plain(each) for each in right(value)],
            lambda plain: kind([item.value(each) for each in is_list(plain)]),
        )

    return build


def _tuple(args: tuple[Any, ...], seen: _Seen) -> _Form:
    if not args or (len(args) == 2 and args[1] is Ellipsis):
        return _sequence(tuple)(args[:1], seen)
    items = [_form(arg, seen) for arg in args]
    right, is_list = _exactly(tuple), _exactly(list)

    def paired(parts: Any) -> Iterable[tuple[_Form, Any]]:
        if len(parts) != len(items):
            than = "shorter" if len(parts) < len(items) else "longer"
            raise _Unfit(f"it is {than} than {len(items)} items")
        return zip(items, parts, strict=True)

    return _Form(
        lambda value: [form.plain(each) for form, each in paired(right(value))],
        lambda plain: tuple(form.value(each) for form, each in paired(is_list(plain))),
    )


def _dict(args: tuple[Any, ...], seen: _Seen) -> _Form:
    key, item = (_form(arg, seen) for arg in (args or (Any, Any)))
    if not key.atoms:
        raise ConfigError(f"type= cannot keep a dict with keys of type {_name(args[0])}")
    right = _exactly(dict)
    return _Form(
        lambda value: {key.plain(k): item.plain(v) for k, v in right(value).items()},
        lambda plain: {key.value(k): item.value(v) for k, v in right(plain).items()},
    )


_CONTAINERS: dict[Any, Callable[[tuple[Any, ...], _Seen], _Form]] = {
    list: _sequence(list),
    set: _sequence(set),
    frozenset: _sequence(frozenset),
    tuple: _tuple,
    dict: _dict,
}


def _union(hint: Any, args: tuple[Any, ...], seen: _Seen) -> _Form:
    """Tell members apart by their plain form; what that does not tell is refused."""
    forms = [_form(arg, seen) for arg in args]
    simple = [form for form in forms if form.plain_is_value]
    others = [form for form in forms if not form.plain_is_value]
    kinds = frozenset[type]().union(*(form.atoms for form in simple))
    if len(others) > 1 or any(form.atoms & kinds - {NoneType} for form in others):
        raise ConfigError(f"type= cannot keep {hint}: stored, its members look the same")
    if not others:
        return _either(simple, hint)
    (other,), either = others, _either(simple, hint)

    def plain(value: Any) -> Any:
        if type(value) in kinds:
            return either.plain(value)
        found = other.plain(value)
        if type(found) in kinds:
            raise _Unfit(f"it would come back as {_name(type(found))}")
        return found

    def value(plain: Any) -> Any:
        return either.value(plain) if type(plain) in kinds else other.value(plain)

    return _Form(plain, value, kinds | other.atoms if other.atoms else frozenset())


def _either(forms: list[_Form], hint: Any) -> _Form:
    """Return the form of plain values that any of ``forms`` takes."""

    def check(value: Any) -> Any:
        for form in forms:
            if type(value) in form.atoms:
                try:
                    return form.plain(value)
                except TypeError:
                    continue
        raise _Unfit(f"expected {hint}, found {_name(type(value))}")

    kinds = frozenset[type]().union(*(form.atoms for form in forms))
    return _Form(check, check, kinds, plain_is_value=True)


# -- classes ---------------------------------------------------------------------------------------


def _dataclass(cls: Any, seen: _Seen) -> _Form:
    form = seen[cls] = _Form(_same, _same)
    try:
        hints = get_type_hints(cls)
    except Exception as error:
        raise ConfigError(f"type= cannot read the annotations of {_name(cls)}: {error}") from error
    fields = dataclasses.fields(cls)
    if (
        "__dataclass_fields__" not in vars(cls)
        or not cls.__dataclass_params__.init
        or any(isinstance(hint, dataclasses.InitVar) for hint in hints.values())
    ):
        msg = f"type= cannot keep {_name(cls)}: it must be made from its fields alone (no InitVar)"
        raise ConfigError(msg)
    forms = {field.name: _form(hints[field.name], seen) for field in fields}
    made_with = {field.name for field in fields if field.init}
    set_after = set(forms) if hasattr(cls, "__post_init__") else set(forms) - made_with
    right, is_dict = _exactly(cls), _exactly(dict)

    def plain(value: Any) -> dict[str, Any]:
        right(value)
        return {name: _field(cls, name, part.plain, getattr(value, name)) for name, part in parts}

    def value(plain: Any) -> Any:
        stored = is_dict(plain)
        if unknown := stored.keys() - forms.keys():
            raise _Unfit(f"{len(unknown)} fields that {_name(cls)} has not")
        found = {
            name: _field(cls, name, part.value, stored[name])
            for name, part in parts
            if name in stored
        }
        made = cls(**{name: found[name] for name in found.keys() & made_with})
        for name in found.keys() & set_after:
            object.__setattr__(made, name, found[name])  # frozen ones too
        return made

    parts = list(forms.items())
    form.plain, form.value = plain, value
    return form


def _field(cls: type, name: str, convert: _Convert, item: Any) -> Any:
    try:
        return convert(item)
    except RecursionError:
        raise
    except (TypeError, ValueError) as error:
        raise _Unfit(f"{_name(cls)}.{name}: {_why(error)}") from None


def _is_a(cls: type, package: str, base: str) -> bool:
    """Say whether a class extends one of a package, which is then imported already."""
    found = getattr(sys.modules.get(package), base, None)
    return found is not None and issubclass(cls, found)


def _pydantic(cls: Any) -> _Form:
    import pydantic

    if tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 11):
        raise ConfigError("type= needs pydantic 2.11 or later; values by name came with it")
    form = _checked(
        cls,
        # by their own names, for aliases may differ between writing and reading
        lambda value: value.model_dump(
            mode="json", by_alias=False, round_trip=True, warnings="error"
        ),
        lambda plain: cls.model_validate(plain, strict=False, by_alias=False, by_name=True),
    )
    # a root model may be anything
    return dataclasses.replace(form, atoms=ATOMS) if issubclass(cls, pydantic.RootModel) else form


def _msgspec(cls: Any) -> _Form:
    import msgspec

    return _checked(
        cls,
        lambda value: msgspec.to_builtins(value, str_keys=True),
        lambda plain: msgspec.convert(plain, cls, str_keys=True),
    )


def _checked(cls: type, dump: _Convert, load: _Convert) -> _Form:
    """Return the form of a class that another package converts, which must restore it."""
    right = _exactly(cls)

    def plain(value: Any) -> Any:
        found = dump(right(value))
        back = load(found)
        if back != value and repr(back) != repr(value):  # NaN is not equal to itself
            raise _Lossy(f"this {_name(cls)} would not come back as it is")
        return found

    return _Form(plain, load)


def _name(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint)
