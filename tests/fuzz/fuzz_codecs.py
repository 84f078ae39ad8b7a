"""Codecs: any bytes are a value or a CodecError; what a value became comes back as that value."""

import numpy as np

from fuzz.harness import Choices
from nearcache.codecs.base import by_name
from nearcache.errors import CodecError

__all__ = ["SEEDS", "one", "shown"]

_CODECS = {name: by_name(name) for name in ("json", "msgpack", "bytes", "ndarray")}
_NAMES = list(_CODECS)
_DTYPES = ["?", "b", "<h", ">i", "<q", "<e", "<f", ">d", "<F", "<D"]

SEEDS = [
    b"\x00\x00" + b'{"a": [1, 2.5, null, true, "x"], "b": NaN}',
    b"\x00\x00" + b"[" * 900 + b"]" * 900,
    b"\x00\x00" + b"1" * 900,
    b"\x00\x00" + b'"\xed\xa0\x80"',
    b"\x00\x01" + b"\x82\xa1a\x93\x01\xcb?\xf8\0\0\0\0\0\0\xc0\xa1b\xc4\x02xy",
    b"\x00\x01" + b"\xd6\xff\0\0\0\0",
    b"\x00\x01" + b"\xdd\xff\xff\xff\xff",
    b"\x00\x01" + b"\x91" * 900 + b"\xc0",
    b"\x00\x02" + b"bytes",
    b"\x00\x03" + b"<f4 \x01\x02" + bytes(7) + bytes(8),
    b"\x00\x03" + b"<f4 \x02\x00" + bytes(7) + b"\xff" * 8,
    b"\x00\x03" + b"|b1 \xff" + bytes(100),
    b"\x01\x00" + bytes(range(64)),
    b"\x01\x01" + bytes(range(64)),
    b"\x02" + bytes(range(64)),
]


def one(data: bytes) -> None:
    choices = Choices(data)
    act = choices.number(3)
    if act == 0:
        _any_bytes(_CODECS[choices.one_of(_NAMES)], choices.rest())
    elif act == 1:
        _any_value(_CODECS[choices.one_of(_NAMES)], _value(choices))
    else:
        _any_value(_CODECS["ndarray"], _array(choices))


def shown(value) -> str | None:
    """What a value is, its types and order included; None if that is too deep to be said."""
    try:
        if isinstance(value, np.ndarray):
            return f"{value.dtype.str} {value.shape} {value.tobytes().hex()}"
        return repr(value)
    except RecursionError:
        return None


def _any_bytes(codec, data: bytes) -> None:
    try:
        value = codec.decode(data)
    except CodecError:
        return
    assert shown(codec.decode(memoryview(data))) == shown(value)
    try:
        again = codec.encode(value)
    except CodecError:  # it was not ours
        return
    assert shown(codec.decode(again)) == shown(value)
    if codec.name in ("bytes", "ndarray"):
        assert again == data


def _any_value(codec, value) -> None:
    try:
        data = codec.encode(value)
    except CodecError:
        return
    assert shown(codec.decode(data)) == shown(_as_lists(value))
    if codec.shares(value):
        assert not isinstance(value, (list, dict, np.ndarray))


def _as_lists(value):
    if isinstance(value, (list, tuple)):
        return [_as_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return value


def _value(choices: Choices, depth: int = 0):
    kind = choices.number(10 if depth < 4 else 7)
    if kind == 0:
        return choices.one_of((None, True, False))
    if kind == 1:
        return choices.number(256) - 128
    if kind == 2:
        return int.from_bytes(choices.some(12), "little", signed=True)
    if kind == 3:
        return choices.float()
    if kind in (4, 5):
        return choices.text(8)
    if kind == 6:
        return choices.some(8)
    items = [_value(choices, depth + 1) for _ in range(choices.number(4))]
    if kind == 7:
        return items
    if kind == 8:
        return tuple(items)
    return {_atom(choices): item for item in items}


def _atom(choices: Choices):
    if choices.number(3):
        return choices.text(4)
    return choices.one_of((None, True, 1, -1.5, b"x", choices.float()))


def _array(choices: Choices):
    shape = tuple(choices.number(4) for _ in range(choices.number(4)))
    dtype = np.dtype(choices.one_of(_DTYPES))
    count = int(np.prod(shape, dtype=int))
    array = np.frombuffer(choices.part(count * dtype.itemsize), dtype).reshape(shape)
    if dtype == np.dtype("?"):
        array = array.view(np.uint8) % 2 == 1
    return array.T if choices.flag() else array
