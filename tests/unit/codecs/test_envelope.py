"""Stored entries: what was written comes back, and whatever happened to the bytes is noticed."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nearcache.codecs.envelope import decode_rows, encode_rows
from nearcache.codecs.vectors import by_name
from nearcache.entry import HEAD
from nearcache.keys import content_digest

PRECISIONS = ("float32", "float16", "int8")
STAMP = b"current."
NAMES = [content_digest(f"text {i}") for i in range(200)]

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 40)),
    elements=st.floats(-60000, 60000, width=32),
)
precisions = st.sampled_from(PRECISIONS)


def encode(matrix, precision="float32", *, names=None, stamp=STAMP, expiry=0.0):
    kept = by_name(precision)
    matrix = np.asarray(matrix, np.float32)
    names = NAMES[: len(matrix)] if names is None else names
    lives = np.full(len(matrix), expiry) if expiry else None
    return encode_rows(kept.pack(matrix), kept, names, stamp=stamp, expiry=lives)


def decode(values, precision="float32", *, names=None, stamp=STAMP, size=None, now=100.0):
    names = NAMES[: len(values)] if names is None else names
    return decode_rows(values, names, by_name(precision), stamp=stamp, size=size, now=now)


def kept(matrix, precision):
    return by_name(precision).unpack(by_name(precision).pack(np.asarray(matrix, np.float32)))


def matrix_of(decoded, precision="float32"):
    return by_name(precision).unpack(decoded.rows)


def outcome(decoded, count):
    """One letter per value: ``u``sable, ``c``orrupt, or a plain ``m``iss."""
    usable, corrupt = set(decoded.usable.tolist()), set(decoded.corrupt)
    assert not usable & corrupt
    assert len(corrupt) == len(decoded.corrupt)
    return "".join("u" if i in usable else "c" if i in corrupt else "m" for i in range(count))


# -- what was written comes back -----------------------------------------------------------------


@given(matrices, precisions)
def test_rows_come_back_to_the_bit(matrix, precision):
    decoded = decode(encode(matrix, precision), precision, size=matrix.shape[1])
    assert decoded.usable.tolist() == list(range(len(matrix)))
    assert matrix_of(decoded, precision).tobytes() == kept(matrix, precision).tobytes()


@given(matrices, precisions, st.lists(st.booleans(), min_size=12, max_size=12))
def test_absent_values_do_not_shift_their_neighbours(matrix, precision, there):
    values = [v if t else None for v, t in zip(encode(matrix, precision), there, strict=False)]
    decoded = decode(values, precision, size=matrix.shape[1])
    here = [i for i, value in enumerate(values) if value is not None]
    assert sorted(decoded.usable.tolist()) == here
    if here:
        rows = matrix_of(decoded, precision)
        expected = kept(matrix, precision)[decoded.usable]
        assert rows.tobytes() == expected.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 384, 1537])
def test_every_size_comes_back_from_batches_around_a_block(precision, size):
    rng = np.random.default_rng(size)
    for count in (1, 63, 64, 65, 200):
        matrix = rng.normal(size=(count, size)).astype(np.float32)
        decoded = decode(encode(matrix, precision), precision)
        assert decoded.size == size
        assert outcome(decoded, count) == "u" * count
        assert matrix_of(decoded, precision).tobytes() == kept(matrix, precision).tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_decoded_rows_do_not_depend_on_the_stored_bytes(precision):
    values = [bytearray(value) for value in encode([[1, 2, 3, 4]], precision)]
    decoded = decode(values, precision)
    before = matrix_of(decoded, precision).copy()
    values[0][HEAD.size :] = bytes(len(values[0]) - HEAD.size)
    assert np.array_equal(matrix_of(decoded, precision), before)


def test_a_batch_of_nothing_is_nothing():
    assert encode(np.empty((0, 4))) == []
    for values in ([], [None], [None] * 3):
        decoded = decode(values, size=4)
        assert (len(decoded.usable), decoded.rows, decoded.corrupt) == (0, None, [])


def test_an_entry_takes_its_row_and_a_head_of_32_bytes():
    sizes = [len(encode(np.ones((1, 1536)), precision)[0]) for precision in PRECISIONS]
    assert sizes == [6144 + 32, 3072 + 32, 1536 + 4 + 32]


def test_zero_negative_zero_and_the_smallest_numbers_are_kept():
    special = np.array([[0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1.17549435e-38]], np.float32)
    assert matrix_of(decode(encode(special))).tobytes() == special.tobytes()


# -- what happened to the bytes ------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_flipped_bit_goes_unnoticed_in_a_small_entry(precision):
    (entry,) = encode([[1.5, -2.25, 3.0]], precision)
    for bit in range(8 * len(entry)):
        flipped = bytearray(entry)
        flipped[bit // 8] ^= 1 << bit % 8
        assert outcome(decode([bytes(flipped)], precision, size=3), 1) != "u", f"bit {bit}"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_two_flipped_bits_go_unnoticed_in_a_small_entry(precision):
    (entry,) = encode([[1.5, -2.25]], precision)
    start = 8 * (HEAD.size - 8)  # checksum and payload; the head's fields are misses of their own
    whole = int.from_bytes(entry, "little")
    damaged = [
        (whole ^ (1 << a) ^ (1 << b)).to_bytes(len(entry), "little")
        for a in range(start, 8 * len(entry))
        for b in range(a)
    ]
    names = NAMES[:1] * len(damaged)
    assert "u" not in outcome(decode(damaged, precision, names=names, size=2), len(damaged))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_random_damage_does_not_go_unnoticed_in_a_large_entry(precision):
    rng = random.Random(1)
    (entry,) = encode(np.random.default_rng(1).normal(size=(1, 1536)), precision)
    damaged = []
    for _ in range(2000):
        other = bytearray(entry)
        for _ in range(rng.choice([1, 1, 2, 3, 8])):
            other[rng.randrange(len(other))] ^= 1 << rng.randrange(8)
        if other != entry:
            damaged.append(bytes(other))
    names = NAMES[:1] * len(damaged)
    assert "u" not in outcome(decode(damaged, precision, names=names, size=1536), len(damaged))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_sign_bits_of_several_components_do_not_cancel_out(precision):
    matrix = np.random.default_rng(2).normal(size=(1, 64)).astype(np.float32)
    (entry,) = encode(matrix, precision)
    width = by_name(precision).dtype.itemsize
    rng = random.Random(2)
    for count in (2, 2, 4, 8, 16, 32) * 20:
        flipped = bytearray(entry)
        for component in rng.sample(range(64), count):
            flipped[len(entry) - 1 - component * width] ^= 0x80
        assert outcome(decode([bytes(flipped)], precision, size=64), 1) == "c"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_truncation_and_no_tail_goes_unnoticed(precision):
    (entry,) = encode([[1.5, -2.25, 3.0, 4.0, 5.0]], precision)
    for length in range(len(entry)):
        assert outcome(decode([entry[:length]], precision, size=5), 1) == "c", length
    for tail in (b"\0", b"\0" * 8, entry):
        assert outcome(decode([entry + tail], precision, size=5), 1) == "c"


def test_swapped_words_of_the_payload_are_noticed():
    (entry,) = encode([[1, 2, 3, 4]])
    head, a, b = entry[:32], entry[32:40], entry[40:]
    assert outcome(decode([head + b + a]), 1) == "c"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_entry_under_anothers_name_is_corrupt(precision):
    values = encode([[1, 2], [3, 4], [5, 6]], precision)
    swapped = [values[1], values[0], values[2]]
    assert outcome(decode(swapped, precision), 3) == "ccu"


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"", b"nC", b'"boo"', b'{"a":1}', b"[]", b"null", b"x" * 6176),
        *(bytes(32), b"\xff" * 64, b"nC\1\3" + bytes(28), b"nC\1\3\xff\xff\xff\xff" + bytes(60)),
    ],
)
def test_garbage_is_corrupt_and_harms_no_neighbour(garbage):
    values = encode([[1, 2], [0, 0], [5, 6]])
    values[1] = garbage
    decoded = decode(values)
    assert outcome(decoded, 3) == "ucu"
    assert matrix_of(decoded).tolist() == [[1, 2], [5, 6]]


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_no_bytes_are_read_as_a_row_or_raise(values):
    assert "u" not in outcome(decode(values, size=4), len(values))


@pytest.mark.parametrize("field", range(7))
def test_a_head_changed_behind_its_checksum_is_corrupt(field):
    fields = list(HEAD.unpack(encode([[1, 2]])[0][:32]))
    payload = encode([[1, 2]])[0][32:]
    fields[field] = [b"XX", 9, 9, 0, 7.0, b"another.", 1][field]
    # another version is another release's: not damaged, but of no use here
    wanted = "m" if field == 1 else "c"
    assert outcome(decode([HEAD.pack(*fields) + payload]), 1) == wanted


# -- misses that are nobody's fault --------------------------------------------------------------


def test_an_entry_is_read_until_its_time_and_not_a_moment_longer():
    values = encode([[1, 2]], expiry=100.0)
    assert outcome(decode(values, now=99.999), 1) == "u"
    assert outcome(decode(values, now=100.0), 1) == "m"
    assert decode(values, now=99.999).expiry.tolist() == [100.0]


def test_an_entry_without_an_end_has_expiry_zero():
    assert decode(encode([[1, 2]]), now=1e12).expiry.tolist() == [0.0]


def test_an_entry_of_a_forgotten_group_is_a_plain_miss():
    values = encode([[1, 2]], stamp=b"forgott.") + encode([[3, 4]], names=NAMES[1:2])
    assert outcome(decode(values), 2) == "mu"


def test_an_entry_of_another_size_is_a_plain_miss():
    values = encode([[1, 2]]) + encode([[1, 2, 3]], names=NAMES[1:2])
    assert outcome(decode(values, size=3), 2) == "mu"
    assert outcome(decode(values, size=5), 2) == "mm"


def test_while_the_size_is_unknown_the_first_usable_entry_decides():
    values = encode([[1, 2, 3]]) + encode([[1, 2]], names=NAMES[1:2])
    decoded = decode(values)
    assert (outcome(decoded, 2), decoded.size) == ("um", 3)
    decoded = decode([None, *values[1:]])
    assert (outcome(decoded, 2), decoded.size) == ("mu", 2)


def test_every_entry_may_have_a_life_of_its_own():
    kept = by_name("float32")
    rows = kept.pack(np.ones((3, 2), np.float32))
    lives = np.array([101.0, 0.0, 99.0])
    values = encode_rows(rows, kept, NAMES[:3], stamp=STAMP, expiry=lives)
    decoded = decode(values, now=100.0)
    assert outcome(decoded, 3) == "uum"
    assert decoded.expiry.tolist() == [101.0, 0.0]


# -- precisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", PRECISIONS)
@pytest.mark.parametrize("asked", PRECISIONS)
def test_a_wider_entry_is_narrowed_and_a_narrower_one_is_a_miss(stored, asked):
    matrix = np.random.default_rng(3).normal(size=(5, 33)).astype(np.float32)
    decoded = decode(encode(matrix, stored), asked)
    if by_name(stored).kind < by_name(asked).kind:
        assert outcome(decoded, 5) == "mmmmm"
    else:
        assert outcome(decoded, 5) == "uuuuu"
        expected = kept(kept(matrix, stored), asked)
        assert matrix_of(decoded, asked).tobytes() == expected.tobytes()


def test_a_batch_of_mixed_precisions_sizes_and_faults_is_sorted_out():
    one = [[1.0, -2.0, 3.0]]
    values, names = [], NAMES[:9]
    for precision, name in zip(PRECISIONS * 2, names, strict=False):
        values += encode(one, precision, names=[name])
    values += [None, b"garbage", *encode([[1, 2, 3, 4]], names=[names[8]])]
    decoded = decode(values, "float16", size=3)
    assert outcome(decoded, 9) == "uumuummcm"
    for place, row in zip(decoded.usable, matrix_of(decoded, "float16"), strict=True):
        assert row.tolist() == one[0], place


def test_mixed_entries_keep_the_expiry_of_each():
    values = (
        encode([[1, 2]], "float32", names=NAMES[:1], expiry=101.0)
        + encode([[1, 2]], "int8", names=NAMES[1:2], expiry=102.0)
        + encode([[1, 2]], "float32", names=NAMES[2:3], expiry=103.0)
    )
    decoded = decode(values, "int8")
    lives = dict(zip(decoded.usable.tolist(), decoded.expiry.tolist(), strict=True))
    assert lives == {0: 101.0, 1: 102.0, 2: 103.0}


def test_a_stored_row_too_large_for_float16_is_a_plain_miss():
    values = encode([[1, 70000], [1, 2]], "float32")
    assert outcome(decode(values, "float16"), 2) == "mu"


def test_rows_all_too_large_for_float16_are_plain_misses():
    decoded = decode(encode([[1, 70000]], "float32"), "float16", size=2)
    assert outcome(decoded, 1) == "m"
    assert decoded.rows is None or len(decoded.rows) == 0
