"""Entries of mutable values: what was written comes back, and any other bytes are noticed."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nearcache.codecs.envelope import encode_rows
from nearcache.codecs.values import (
    Envelope,
    _checksum,
    decode_value,
    encode_value,
    version_of,
)
from nearcache.codecs.vectors import by_name
from nearcache.entry import HEAD, MAGIC, VERSION
from nearcache.errors import CodecError, CorruptEntry, UnknownFormat

NAME = b"nc1:{app:3f}:k:user"
UNREADABLE = (CorruptEntry, UnknownFormat)

tokens = st.binary(min_size=16, max_size=16)
times = st.floats(allow_nan=False)
envelopes = st.builds(
    Envelope,
    kind=st.integers(16, 255),
    version=st.binary(min_size=8, max_size=8),
    expiry=times,
    dead_at=times,
    everything=tokens,
    groups=st.lists(st.tuples(tokens, tokens), max_size=5).map(tuple),
    payload=st.binary(max_size=300),
)


def envelope(**changes):
    fields = {
        "kind": 16,
        "version": b"version.",
        "expiry": 1000.5,
        "dead_at": 1060.5,
        "everything": b"everything......",
        "groups": ((b"digest of group.", b"token of group.."),),
        "payload": b'{"a":1}',
    }
    return Envelope(**(fields | changes))


def encode(entry, name=NAME):
    fields = entry._asdict()
    return encode_value(fields.pop("kind"), fields.pop("payload"), name=name, **fields)


def sealed(data, name=NAME):
    """The bytes with a checksum that is right: as if another version had written them."""
    return data[:24] + _checksum(data[:24], name, data[32:]) + data[32:]


# -- what was written comes back -----------------------------------------------------------------


@given(envelopes, st.binary(max_size=40))
def test_an_entry_says_what_was_put_into_it(entry, name):
    assert decode_value(encode(entry, name), name) == entry


def test_an_entry_may_belong_to_the_most_groups_and_no_more():
    groups = tuple((i.to_bytes(16, "big"), bytes(16)) for i in range(2**16))
    entry = envelope(groups=groups[:-1])
    assert decode_value(encode(entry), NAME) == entry
    with pytest.raises(CodecError, match="65535 tags at most, not 65536"):
        encode(envelope(groups=groups))


def test_the_payload_is_bytes_of_its_own():
    assert type(decode_value(encode(envelope()), NAME).payload) is bytes


@given(envelopes)
def test_the_head_is_that_of_every_entry(entry):
    data = encode(entry)
    magic, version, kind, size, expiry, stamp, checksum = HEAD.unpack_from(data)
    assert (magic, version, kind, size) == (MAGIC, VERSION, entry.kind, len(entry.payload))
    assert (expiry, stamp) == (entry.expiry, entry.version)
    assert checksum == int.from_bytes(data[24:32], "little")


# -- the version alone ---------------------------------------------------------------------------


@given(envelopes)
def test_the_version_stands_in_the_first_24_bytes(entry):
    assert version_of(encode(entry)[:24]) == version_of(encode(entry)) == entry.version


@pytest.mark.parametrize(
    "head", [b"", b"nC", encode(envelope())[:23], b"x" * 24, b"nC\x02" + bytes(21), b"nD\x01" * 8]
)
def test_what_is_no_entry_has_no_version(head):
    assert version_of(head) is None


# -- anything else is noticed --------------------------------------------------------------------


@pytest.mark.parametrize("groups", [0, 1, 3])
@pytest.mark.parametrize("payload", [b"", b"1", b'{"name": "value"}'])
def test_every_flipped_bit_is_noticed(groups, payload):
    entry = envelope(groups=tuple((bytes([i]) * 16, b"token...........") for i in range(groups)))
    good = encode(entry._replace(payload=payload))
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UNREADABLE):
            decode_value(bytes(bad), NAME)


@given(envelopes, st.data())
def test_any_changed_byte_is_noticed(entry, data):
    bad = bytearray(encode(entry))
    at = data.draw(st.integers(0, len(bad) - 1))
    bad[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UNREADABLE):
        decode_value(bytes(bad), NAME)


@pytest.mark.parametrize("groups", [(), envelope().groups * 2])
def test_an_entry_cut_off_anywhere_is_corrupt(groups):
    good = encode(envelope(groups=groups))
    for length in range(len(good)):
        with pytest.raises(CorruptEntry):
            decode_value(good[:length], NAME)


@given(st.binary(min_size=1, max_size=50))
def test_an_entry_with_something_after_it_is_corrupt(more):
    with pytest.raises(CorruptEntry):
        decode_value(encode(envelope()) + more, NAME)


@given(envelopes, st.binary(max_size=40), st.binary(max_size=40))
def test_an_entry_copied_under_another_name_is_corrupt(entry, name, other):
    data = encode(entry, name)
    if name == other:
        assert decode_value(data, other) == entry
    else:
        with pytest.raises(CorruptEntry):
            decode_value(data, other)


def test_halves_of_two_entries_are_corrupt():
    one, two = (encode(envelope(payload=payload)) for payload in (b"one", b"two"))
    with pytest.raises(CorruptEntry):
        decode_value(one[:32] + two[32:], NAME)


@given(st.binary(max_size=400), st.booleans())
@example(b"", False)
@example(bytes(100), False)
@example(bytes(100), True)
def test_garbage_is_never_read(garbage, ours):
    if ours:
        garbage = MAGIC + bytes((VERSION,)) + garbage
    with pytest.raises(UNREADABLE):
        decode_value(garbage, NAME)


# -- what another version may have written is left alone ------------------------------------------


@pytest.mark.parametrize(
    "at,byte",
    [
        pytest.param(0, b"N", id="another program"),
        pytest.param(2, b"\x02", id="version"),
        pytest.param(3, b"\x0f", id="kind"),
        pytest.param(42, b"\x02", id="flags"),
        pytest.param(43, b"\x80", id="more flags"),
    ],
)
def test_a_sound_entry_of_another_format_is_unknown_not_corrupt(at, byte):
    good = encode(envelope())
    other = sealed(good[:at] + byte + good[at + 1 :])
    with pytest.raises(UnknownFormat):
        decode_value(other, NAME)


def test_a_short_entry_of_another_version_is_unknown_not_corrupt():
    with pytest.raises(UnknownFormat):
        decode_value(b"nC\x02short", NAME)


def test_a_stored_vector_is_no_mutable_value():
    precision = by_name("float32")
    rows = precision.pack(np.ones((1, 20), np.float32))
    (row,) = encode_rows(rows, precision, [bytes(16)], stamp=b"stamp...", expiry=None)
    with pytest.raises(UNREADABLE):
        decode_value(row, NAME)


@pytest.mark.parametrize(
    "at,byte",
    [
        pytest.param(4, b"\x08", id="a longer payload"),
        pytest.param(40, b"\x00", id="fewer groups"),
        pytest.param(40, b"\x02", id="more groups"),
        pytest.param(41, b"\xff", id="more groups than there are bytes"),
    ],
)
def test_lengths_that_do_not_agree_are_corrupt_even_under_a_right_checksum(at, byte):
    good = encode(envelope())
    with pytest.raises(CorruptEntry):
        decode_value(sealed(good[:at] + byte + good[at + 1 :]), NAME)
