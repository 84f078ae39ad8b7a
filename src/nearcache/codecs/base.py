"""How values of a cache become bytes: what a codec is, and which there are.

Whatever comes back has been through ``decode``, the first time too; so near, far and freshly loaded
values are equal in type. A value that ``shares`` is handed out as it is; of any other near keeps
the bytes, and every caller gets an object of its own.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from nearcache.errors import CodecError, ConfigError

__all__ = [
    "ATOMS",
    "LOWEST_OWN_KIND",
    "MISSING_KIND",
    "NONE_KIND",
    "Codec",
    "by_name",
    "check_keys",
]

NONE_KIND = 20
"""What the head of an entry calls None, which every cache takes, whatever its codec."""
MISSING_KIND = 21
"""What the head of an entry calls an absence that is kept, whatever the cache's codec."""
LOWEST_OWN_KIND = 64
"""The kinds from here to 255 are for codecs that users bring; those below are ours."""

ATOMS: frozenset[type] = frozenset((str, bytes, int, float, bool, type(None)))
"""What nobody can change: one object may be handed to every caller."""


class Codec(Protocol):
    """A way to keep values as bytes, without pickle."""

    @property
    def name(self) -> str:
        """What a user calls it."""

    @property
    def kind(self) -> int:
        """What the head of an entry calls it: json 16, msgpack 17, bytes 18, ndarray 19."""

    def encode(self, value: Any) -> bytes:
        """Return the value as bytes.

        Raises: CodecError, with nothing done, when they would not come back as the value.
        """

    def decode(self, data: bytes | memoryview) -> Any:
        """Return the value, a new object unless it ``shares``.

        Raises: CodecError for bytes that ``encode`` did not write, and nothing else.
        """

    def shares(self, value: Any) -> bool:
        """Say whether ``decode(encode(value))`` is as good as ``value``, which nobody can change.

        Asked only of values that ``encode`` takes.
        """


def by_name(codec: str | Codec, hint: Any = None) -> Codec:
    """Return the codec of that name, or the user's own, for values of the type ``hint``.

    Raises: ConfigError for an unknown name, a codec that is none, a type that cannot be kept.
    """
    found = _known(codec) if isinstance(codec, str) else _own(codec)
    if hint is None:
        return found
    from nearcache.codecs.typed import typed

    return typed(found, hint)


def check_keys(value: Any, keys: tuple[type, ...], refuse: Callable[[Any], bool] | None) -> None:
    """Look through nested lists and dicts for what an encoder would change without a word.

    That is a key that is none of the types ``keys``, or what ``refuse`` says. Comes after encoding,
    which has made sure that there is an end.

    Raises: TypeError.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if refuse is not None and refuse(item):
            raise TypeError(f"it holds a {_full_name(type(item))}")
        inner: Iterable[Any]
        if isinstance(item, dict):
            for kind in set(map(type, item)):
                if not issubclass(kind, keys):
                    raise TypeError(f"it holds a dict with a key of type {_full_name(kind)}")
            inner = item.values()
        elif isinstance(item, (list, tuple)):
            inner = item
        else:
            continue
        if not set(map(type, inner)) <= ATOMS:  # most are: looked at without a loop
            stack.extend(inner)


def _full_name(kind: type) -> str:
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _json() -> Codec:
    from nearcache.codecs.json import JsonCodec

    return JsonCodec()


def _msgpack() -> Codec:
    from nearcache.codecs.msgpack import MsgpackCodec

    return MsgpackCodec()


def _bytes() -> Codec:
    from nearcache.codecs.raw import BytesCodec

    return BytesCodec()


def _ndarray() -> Codec:
    from nearcache.codecs.arrays import ArrayCodec

    return ArrayCodec()


_CODECS = {"json": _json, "msgpack": _msgpack, "bytes": _bytes, "ndarray": _ndarray}


def _known(name: str) -> Codec:
    try:
        make = _CODECS[name]
    except KeyError:
        msg = f"unknown codec {name!r}; known are {', '.join(_CODECS)}"
        raise ConfigError(msg) from None
    return make()


def _own(codec: Any) -> Codec:
    """Return a codec that the user brought, wrapped so that it keeps the contract."""
    name, kind = getattr(codec, "name", None), getattr(codec, "kind", None)
    if not (
        isinstance(name, str)
        and callable(getattr(codec, "encode", None))
        and callable(getattr(codec, "decode", None))
        and not isinstance(codec, type)
    ):
        msg = (
            f"codec must be one of {', '.join(_CODECS)}, or an object with name, kind, encode and "
            f"decode, not {type(codec).__name__}"
        )
        raise ConfigError(msg)
    if isinstance(codec, _OwnCodec) or type(codec).__module__.startswith(__package__ + "."):
        ours: Codec = codec  # or wrapped already
        return ours
    if type(kind) is not int or not LOWEST_OWN_KIND <= kind < 256:
        msg = f"the codec {name!r} needs a kind from {LOWEST_OWN_KIND} to 255, not {kind!r}"
        raise ConfigError(msg)
    return _OwnCodec(codec, name, kind)


class _OwnCodec:
    """A user's codec: whatever it raises is a CodecError, and it need not have ``shares``."""

    def __init__(self, codec: Any, name: str, kind: int) -> None:
        self.name = name
        self.kind = kind
        self._codec = codec
        self._shares: Callable[[Any], Any] | None = getattr(codec, "shares", None)

    def encode(self, value: Any) -> bytes:
        try:
            data = self._codec.encode(value)
        except CodecError:
            raise
        except Exception as error:
            kind, why = _full_name(type(value)), type(error).__name__
            msg = f"the codec {self.name} cannot keep a {kind}: {why}"
            raise CodecError(msg) from error
        if type(data) is not bytes:
            msg = f"the codec {self.name} must return bytes, not {_full_name(type(data))}"
            raise CodecError(msg)
        return data

    def decode(self, data: bytes | memoryview) -> Any:
        try:
            return self._codec.decode(data)
        except CodecError:
            raise
        except Exception as error:
            msg = f"the codec {self.name} cannot read its bytes: {type(error).__name__}"
            raise CodecError(msg) from error

    def shares(self, value: Any) -> bool:
        return self._shares is not None and bool(self._shares(value))
