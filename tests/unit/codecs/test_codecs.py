"""Codecs: what one takes comes back as it was, what it would change it refuses."""

import contextlib
import datetime as dt
import enum
import math
import sys
from collections import OrderedDict
from typing import NamedTuple

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nearcache.codecs.base import by_name
from nearcache.errors import CodecError, ConfigError

NAMES = ("json", "msgpack", "bytes", "ndarray")
JSON, MSGPACK, BYTES, NDARRAY = map(by_name, NAMES)
ALL = pytest.mark.parametrize("codec", [JSON, MSGPACK, BYTES, NDARRAY], ids=NAMES)
TEXTUAL = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=NAMES[:2])

texts = st.text(st.characters(exclude_categories=()))  # lone surrogates too
json_atoms = st.none() | st.booleans() | st.integers() | st.floats() | texts
json_values = st.recursive(
    json_atoms, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20
)
words = st.integers(-(2**63), 2**64 - 1)
msgpack_keys = st.none() | st.booleans() | words | st.floats() | texts | st.binary()
msgpack_values = st.recursive(
    msgpack_keys,
    lambda inner: st.lists(inner) | st.dictionaries(msgpack_keys, inner),
    max_leaves=20,
)
numbers = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | hnp.complex_number_dtypes(endianness="?", sizes=(64, 128))
)
arrays = hnp.arrays(numbers, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


def there_and_back(codec, value):
    data = codec.encode(value)
    assert type(data) is bytes
    back = codec.decode(data)
    again = codec.decode(memoryview(data))
    assert repr(again) == repr(back)
    return back


def nested(depth, kind=list):
    value = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def circle():
    value = []
    value.append({"again": value})
    return value


class Color(enum.StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


# -- what a codec takes comes back ----------------------------------------------------------------
# repr tells True from 1, 1 from 1.0 and -0.0 from 0.0, and NaN is like NaN


@given(json_values)
@example("\ud83d\ude00")  # two lone surrogates, not one character
@example({"\ud800": ["\udfff", math.nan, math.inf, -math.inf, -0.0, 2**100]})
def test_json_brings_back_what_it_takes(value):
    assert repr(there_and_back(JSON, value)) == repr(value)


@given(msgpack_values)
@example({1: b"1", "1": "1", True and 2: [], None: {}, 0.5: math.nan})
@example([2**64 - 1, -(2**63), -1, 255, b"\xff", "\ud83d\ude00"])
def test_msgpack_brings_back_what_it_takes(value):
    assert repr(there_and_back(MSGPACK, value)) == repr(value)


@given(st.binary(), st.sampled_from((bytes, bytearray, memoryview)))
def test_bytes_come_back_as_bytes(value, kind):
    back = there_and_back(BYTES, kind(value))
    assert type(back) is bytes
    assert back == value


@given(arrays)
def test_arrays_come_back_with_every_bit(value):
    back = there_and_back(NDARRAY, value)
    assert type(back) is np.ndarray
    assert (back.dtype, back.shape, back.tobytes()) == (value.dtype, value.shape, value.tobytes())
    assert back.dtype.str == value.dtype.str  # the order of its bytes too


@pytest.mark.parametrize("dtype", "? b h i l q B H I L Q e f d F D".split())
def test_arrays_of_every_number_come_back(dtype):
    value = np.array([[0, 1], [1, 0]], dtype)
    assert np.array_equal(there_and_back(NDARRAY, value), value)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12).reshape(3, 4).T,
        np.arange(12)[::-2],
        np.broadcast_to(np.float16(2), (3, 3)),
        np.asfortranarray(np.ones((2, 3))),
    ],
)
def test_arrays_however_they_lie_come_back_in_c_order(value):
    back = there_and_back(NDARRAY, value)
    assert np.array_equal(back, value)
    assert back.flags.c_contiguous


def test_an_array_is_new_and_writable_every_time():
    data = NDARRAY.encode(np.zeros(3))
    one, two = NDARRAY.decode(data), NDARRAY.decode(data)
    one[:] = 7
    assert two.tolist() == NDARRAY.decode(data).tolist() == [0, 0, 0]
    assert one.flags.owndata


def test_an_array_in_a_file_comes_back_in_memory(tmp_path):
    value = np.memmap(tmp_path / "array", np.float32, "w+", shape=(3,))
    assert type(there_and_back(NDARRAY, value)) is np.ndarray


@TEXTUAL
@pytest.mark.parametrize(
    "value,back",
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (Color.RED, "red"),
        ({Color.RED: Color.RED}, {"red": "red"}),
        (np.float64(0.5), 0.5),
    ],
    ids=repr,
)
def test_subclasses_and_tuples_come_back_as_what_the_format_has(codec, value, back):
    found = there_and_back(codec, value)
    assert found == back
    assert type(found) is type(back)


def test_msgpack_brings_a_bytearray_back_as_bytes():
    assert there_and_back(MSGPACK, [bytearray(b"a"), memoryview(b"b")]) == [b"a", b"b"]


# -- what it would change, it refuses --------------------------------------------------------------


@pytest.mark.parametrize(
    "codec,value,says",
    [
        (JSON, {1: 2}, "a dict with a key of type int"),
        (JSON, [({"a": [{None: 1}]},)], "key of type NoneType"),
        (JSON, {"a": {True: 1}}, "key of type bool"),
        (JSON, {("a",): 1}, "tuple"),
        (JSON, b"a", "bytes"),
        (JSON, {1, 2}, "set"),
        (JSON, [object()], "object"),
        (JSON, dt.datetime(2020, 1, 1), "datetime"),
        (JSON, np.float32(1), "float32"),
        (JSON, 10**5000, "4300 digits"),
        (MSGPACK, {1, 2}, "set"),
        (MSGPACK, [object()], "object"),
        (MSGPACK, dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "datetime"),
        (MSGPACK, [{"a": msgpack.Timestamp(1)}], "Timestamp"),
        (MSGPACK, msgpack.ExtType(1, b"a"), "ExtType"),
        (MSGPACK, {"a": (msgpack.ExtType(1, b"a"),)}, "ExtType"),
        (MSGPACK, [{(1,): 2}], "key of type tuple"),
        (MSGPACK, {memoryview(b"a"): 2}, "key of type memoryview"),
        (MSGPACK, 2**64, "out of range"),
        (MSGPACK, -(2**63) - 1, "out of range"),
        (BYTES, "a", "not str"),
        (BYTES, None, "not NoneType"),
        (BYTES, np.zeros(1), "not ndarray"),
        (NDARRAY, [1.0], "not list"),
        (NDARRAY, np.float32(1), "not float32"),
        (NDARRAY, np.array([None]), "not object"),
        (NDARRAY, np.array(["a"]), "not <U1"),
        (NDARRAY, np.zeros(1, "M8[s]"), "not datetime64"),
        (NDARRAY, np.zeros(1, "i4,f4"), "'f0'"),
        (NDARRAY, np.ma.masked_array([1], [True]), "not MaskedArray"),
        (NDARRAY, np.recarray(1, "i4"), "not recarray"),
    ],
    ids=lambda v: getattr(v, "name", "") if not isinstance(v, str) else None,
)
def test_what_would_not_come_back_is_refused_in_a_sentence_that_names_it(codec, value, says):
    with pytest.raises(CodecError) as caught:
        codec.encode(value)
    assert says in str(caught.value)
    assert codec.name in str(caught.value)


def test_numbers_that_depend_on_the_processor_are_refused():
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("here a longdouble is a double")
    with pytest.raises(CodecError, match="keeps numbers and booleans"):
        NDARRAY.encode(np.zeros(1, np.longdouble))


@TEXTUAL
@pytest.mark.parametrize("kind", [list, dict])
def test_what_is_nested_too_deeply_is_refused(codec, kind):
    with pytest.raises(CodecError):
        codec.encode(nested(100_000, kind))


@TEXTUAL
def test_what_holds_itself_is_refused(codec):
    with pytest.raises(CodecError):
        codec.encode(circle())


@TEXTUAL
def test_a_value_that_occurs_twice_holds_not_itself(codec):
    part = {"a": [1]}
    assert there_and_back(codec, [part, part]) == [part, part]


def test_a_released_memoryview_is_refused():
    view = memoryview(b"a")
    view.release()
    for codec in (MSGPACK, BYTES):
        with pytest.raises(CodecError):
            codec.encode(view)


# -- bytes that it did not write -------------------------------------------------------------------


@ALL
@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b"\x91" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 5000)
@example(b"\xdf\xff\xff\xff\xff")  # a dict of four thousand million
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"<f4 \x02" + b"\xff" * 16)
@example(b"<f4 \x02" + bytes(15) + b"\x7f" + bytes(4))
@example(b"<f8 \xff" + b"\x01" + bytes(255 * 8))
def test_garbage_is_a_codec_error_and_nothing_else(codec, garbage):
    for data in (garbage, memoryview(garbage)):
        with contextlib.suppress(CodecError):
            codec.decode(data)


@pytest.mark.parametrize(
    "codec,garbage",
    [
        (JSON, b""),
        (JSON, b"nope"),
        (JSON, b'{"a":1'),
        (JSON, b"1 2"),
        (JSON, b"1 "),
        (JSON, b"\xff\xfe1\x00"),
        (JSON, b"[" * 100_000),
        (JSON, b"9" * 5000),
        (MSGPACK, b""),
        (MSGPACK, b"\xc1"),
        (MSGPACK, b"\x01\x01"),
        (MSGPACK, b"\x92\x01"),
        (MSGPACK, b"\x81\x91\x01\x02"),  # a list as key
        (MSGPACK, b"\xa1\xff"),  # no UTF-8
        (MSGPACK, b"\x91" * 100_000),
        (MSGPACK, msgpack.packb(msgpack.ExtType(5, b"abc"))),
        (MSGPACK, msgpack.packb([{"a": msgpack.Timestamp(1)}])),
        (MSGPACK, msgpack.packb(msgpack.Timestamp(2**40, 7))),
        (MSGPACK, b"\xc7\x03\xffabc"),
        (NDARRAY, b""),
        (NDARRAY, b"<f4 "),
        (NDARRAY, b"<f4 \x00"),
        (NDARRAY, b"<f4 \x00abcde"),
        (NDARRAY, b"|O  \x00" + bytes(8)),
        (NDARRAY, b"<f4 \x01" + (2**62).to_bytes(8, "little") + bytes(4)),
    ],
    ids=lambda v: getattr(v, "name", "") if not isinstance(v, str) else None,
)
def test_malformed_bytes_are_refused(codec, garbage):
    with pytest.raises(CodecError):
        codec.decode(garbage)


@pytest.mark.parametrize(
    "codec,value",
    [(JSON, {"a": [1, "b"]}), (MSGPACK, {"a": [1, "b"]}), (NDARRAY, np.ones((2, 3)))],
    ids=["json", "msgpack", "ndarray"],
)
def test_bytes_cut_off_anywhere_are_refused(codec, value):
    data = codec.encode(value)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            codec.decode(data[:length])


# -- what may be handed to every caller ------------------------------------------------------------


@TEXTUAL
@pytest.mark.parametrize("value", ["a", 1, 1.5, True, None, math.nan], ids=repr)
def test_what_nobody_can_change_is_shared(codec, value):
    assert codec.shares(value)
    assert repr(there_and_back(codec, value)) == repr(value)


@ALL
@pytest.mark.parametrize(
    "value",
    [[], {}, (), (1,), Color.RED, np.float64(1), bytearray(), memoryview(b""), np.zeros(1), object],
    ids=lambda v: type(v).__name__,
)
def test_what_comes_back_as_another_object_is_not_shared(codec, value):
    assert not codec.shares(value)


def test_bytes_are_shared_where_they_come_back_as_bytes():
    assert [codec.shares(b"a") for codec in (JSON, MSGPACK, BYTES, NDARRAY)] == [
        False,
        True,
        True,
        False,
    ]


# -- codecs by name --------------------------------------------------------------------------------


def test_each_codec_has_the_kind_that_stands_in_entries_for_ever():
    assert {name: by_name(name).kind for name in NAMES} == {
        "json": 16,
        "msgpack": 17,
        "bytes": 18,
        "ndarray": 19,
    }
    assert [by_name(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("name", ["pickle", "", "JSON"])
def test_an_unknown_name_is_an_error_that_lists_the_known(name):
    with pytest.raises(ConfigError, match="known are json, msgpack, bytes, ndarray"):
        by_name(name)


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ConfigError, match=r"pip install 'nearcache\[msgpack\]'"):
        by_name("msgpack")


class Reversed:
    """A user's codec of texts."""

    name = "reversed"
    kind = 64

    def encode(self, value):
        return value[::-1].encode()

    def decode(self, data):
        return bytes(data).decode()[::-1]


class Sharing(Reversed):
    def shares(self, value):
        return 1


def test_a_users_own_codec_is_taken():
    codec = by_name(Reversed())
    assert (codec.name, codec.kind) == ("reversed", 64)
    assert codec.encode("abc") == b"cba"
    assert there_and_back(codec, "abc") == "abc"


def test_a_users_own_codec_shares_only_what_it_says():
    assert by_name(Reversed()).shares("abc") is False
    assert by_name(Sharing()).shares("abc") is True


def test_a_codec_of_ours_is_taken_as_it_is():
    own = by_name(Reversed())
    assert [by_name(codec) for codec in (JSON, own)] == [JSON, own]


def test_whatever_a_users_codec_raises_is_a_codec_error():
    codec = by_name(Reversed())
    with pytest.raises(CodecError, match="the codec reversed cannot keep a int"):
        codec.encode(1)
    with pytest.raises(CodecError, match="the codec reversed cannot read"):
        codec.decode(b"\xff")


def test_a_users_codec_that_raises_a_codec_error_is_not_wrapped():
    class Refusing(Reversed):
        def encode(self, value):
            raise CodecError("not this one")

        decode = encode

    for call in (by_name(Refusing()).encode, by_name(Refusing()).decode):
        with pytest.raises(CodecError, match=r"^not this one$"):
            call(b"")


def test_a_users_codec_must_return_bytes():
    class Texts(Reversed):
        def encode(self, value):
            return value

    with pytest.raises(CodecError, match="must return bytes, not str"):
        by_name(Texts()).encode("a")


@pytest.mark.parametrize("kind", [0, 16, 63, 256, -1, 64.0, "64", None, True])
def test_a_users_codec_needs_a_kind_of_its_own(kind):
    codec = Reversed()
    codec.kind = kind
    with pytest.raises(ConfigError, match="needs a kind from 64 to 255"):
        by_name(codec)


@pytest.mark.parametrize("codec", [None, 3, object(), Reversed, b"json", "json".encode])
def test_what_is_no_codec_is_a_config_error(codec):
    with pytest.raises(ConfigError, match="codec must be one of json"):
        by_name(codec)
