"""Signed entries: only who has the key writes what is believed, and only where he put it."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearcache.codecs.envelope import decode_rows, encode_rows
from nearcache.codecs.signing import SIGNATURE_BYTES, Signer, signer_of
from nearcache.codecs.values import _checksum, decode_value, encode_value
from nearcache.codecs.vectors import by_name
from nearcache.entry import HEAD, SIGNED, Mark
from nearcache.errors import CorruptEntry
from nearcache.keys import EmbeddingModel, KeySpace, ModelKeys, content_digest

PRECISIONS = ("float32", "float16", "int8")
OLD, NEW, OTHER = b"the old key.....", b"the new key.....", b"nobody's key...."
OURS = Signer([OLD])
STAMP = b"current."
DIGESTS = [content_digest(f"text {i}") for i in range(20)]
NAMES = ModelKeys(KeySpace("emb"), EmbeddingModel("m").identity).values(DIGESTS)
NAME = b"nc1:{app:3f}:k:suser."
EVERYTHING = b"everything......"

matrices = st.integers(1, 12).flatmap(
    lambda n: st.integers(1, 40).map(
        lambda d: np.arange(n * d, dtype=np.float32).reshape(n, d) - n * d / 2 + 0.25
    )
)


def rows_of(matrix, signer=OURS, precision="float32", *, names=NAMES, expiry=None):
    kept = by_name(precision)
    count = len(matrix)
    return encode_rows(
        kept.pack(np.asarray(matrix, np.float32)),
        kept,
        DIGESTS[:count],
        stamp=STAMP,
        expiry=expiry,
        names=names[:count],
        signer=signer,
    )


def read_rows(values, signer=OURS, precision="float32", *, names=NAMES, digests=DIGESTS):
    count = len(values)
    return decode_rows(
        values,
        digests[:count],
        by_name(precision),
        stamp=STAMP,
        size=None,
        now=100.0,
        names=names[:count],
        signer=signer,
    )


def value_of(payload=b'{"a":1}', signer=OURS, name=NAME):
    return encode_value(
        16,
        payload,
        name=name,
        version=b"version.",
        expiry=0.0,
        dead_at=0.0,
        everything=EVERYTHING,
        groups=[(b"digest of group.", b"token of group..")],
        signer=signer,
    )


def resummed(data, name=NAME):
    """The bytes with a checksum that is right: what somebody can make who knows the format."""
    return data[:24] + _checksum(data[:24], name, data[32:]) + data[32:]


# -- what was signed comes back --------------------------------------------------------------------


@given(matrices, st.sampled_from(PRECISIONS))
def test_signed_rows_come_back_to_the_bit(matrix, precision):
    kept = by_name(precision)
    found = read_rows(rows_of(matrix, precision=precision), precision=precision)
    assert found.usable.tolist() == list(range(len(matrix)))
    assert kept.unpack(found.rows).tobytes() == kept.unpack(kept.pack(matrix)).tobytes()


@given(st.binary(max_size=300))
def test_a_signed_value_comes_back(payload):
    assert decode_value(value_of(payload), NAME, OURS).payload == payload


@pytest.mark.parametrize("precision", PRECISIONS)
def test_whoever_has_no_key_reads_signed_rows_as_others(precision):
    matrix = np.ones((3, 5), np.float32)
    found = read_rows(rows_of(matrix, precision=precision), None, precision)
    assert np.allclose(by_name(precision).unpack(found.rows), matrix)
    assert found.corrupt == []


def test_whoever_has_no_key_reads_signed_values_as_others():
    assert decode_value(value_of(), NAME) == decode_value(value_of(signer=None), NAME)


@given(matrices)
def test_without_a_key_nothing_about_an_entry_changes(matrix):
    kept = by_name("float32")
    plain = encode_rows(kept.pack(matrix), kept, DIGESTS[: len(matrix)], stamp=STAMP, expiry=None)
    assert rows_of(matrix, None) == plain
    signed = rows_of(matrix)
    assert [len(a) - len(b) for a, b in zip(signed, plain, strict=True)] == [SIGNATURE_BYTES] * len(
        matrix
    )


# -- what was not signed is corrupt ----------------------------------------------------------------


def test_rows_without_a_signature_are_corrupt():
    found = read_rows(rows_of(np.ones((3, 5)), None))
    assert (found.usable.tolist(), found.corrupt) == ([], [0, 1, 2])


def test_rows_that_somebody_else_signed_are_corrupt_and_their_neighbours_are_not():
    matrix = np.arange(20, dtype=np.float32).reshape(4, 5)
    ours, theirs = rows_of(matrix), rows_of(-matrix, Signer([OTHER]))
    found = read_rows([ours[0], theirs[1], None, ours[3]])
    assert (found.usable.tolist(), found.corrupt) == ([0, 3], [1])
    assert found.rows.data.tolist() == [matrix[0].tolist(), matrix[3].tolist()]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_row_that_was_changed_is_corrupt_wherever_and_whatever_its_checksum(precision, size):
    """Who plants a vector makes the checksum right: that is no secret."""
    (signed,) = rows_of(np.full((1, size), 0.75), precision=precision)
    kept = by_name(precision)
    for at in range(HEAD.size, HEAD.size + kept.row_bytes(size) + SIGNATURE_BYTES):
        changed = signed[:at] + bytes((signed[at] ^ 1,)) + signed[at + 1 :]
        (forged,) = _with_right_checksums([changed], DIGESTS)
        assert read_rows([forged], None, precision).corrupt == []  # the checksum is right
        found = read_rows([forged], precision=precision)
        assert (found.usable.tolist(), found.corrupt) == ([], [0])


def test_the_life_of_a_row_is_signed():
    (signed,) = rows_of(np.ones((1, 4)), expiry=np.array([200.0]))
    (longer,) = rows_of(np.ones((1, 4)), expiry=np.array([9e9]))
    forged = longer[:32] + signed[32:]
    (forged,) = _with_right_checksums([forged], DIGESTS)
    assert read_rows([forged], None).corrupt == []
    assert read_rows([forged]).corrupt == [0]


@pytest.mark.parametrize("bare", [False, True], ids=["a bit in the kind", "and no signature"])
def test_a_row_that_only_says_it_is_signed_is_corrupt(bare):
    (plain,) = rows_of(np.ones((1, 4)), None)
    says = plain[:3] + bytes((plain[3] | SIGNED,)) + plain[4:] + (b"" if bare else bytes(16))
    (forged,) = _with_right_checksums([says], DIGESTS)
    assert read_rows([forged]).corrupt == [0]
    assert read_rows([forged], None).corrupt == ([0] if bare else [])


@pytest.mark.parametrize(
    "elsewhere",
    [
        ModelKeys(KeySpace("other"), EmbeddingModel("m").identity),
        ModelKeys(KeySpace("emb").inside("a"), EmbeddingModel("m").identity),
        ModelKeys(KeySpace("emb"), EmbeddingModel("another").identity),
        ModelKeys(KeySpace("emb"), EmbeddingModel("m", revision="2").identity),
    ],
    ids=["namespace", "view", "model", "revision"],
)
def test_a_row_that_was_copied_elsewhere_does_not_verify(elsewhere):
    signed = rows_of(np.ones((2, 4)))
    assert read_rows(signed, None, names=elsewhere.values(DIGESTS)).corrupt == []
    assert read_rows(signed, names=elsewhere.values(DIGESTS)).corrupt == [0, 1]


def test_a_row_that_was_copied_to_another_text_does_not_verify():
    signed = rows_of(np.arange(8, dtype=np.float32).reshape(2, 4))
    swapped = _with_right_checksums(signed[::-1], DIGESTS)
    assert read_rows(swapped, None).corrupt == []
    assert read_rows(swapped).corrupt == [0, 1]


def test_values_without_a_signature_are_corrupt():
    with pytest.raises(CorruptEntry, match=r"not signed$"):
        decode_value(value_of(signer=None), NAME, OURS)


def test_values_that_somebody_else_signed_are_corrupt():
    with pytest.raises(CorruptEntry, match="not signed with a key of ours"):
        decode_value(value_of(signer=Signer([OTHER])), NAME, OURS)


def test_a_value_that_was_changed_is_corrupt_wherever_and_whatever_its_checksum():
    signed = value_of()
    for at in range(3, len(signed)):
        if not 24 <= at < 32:  # the checksum's own bytes
            forged = resummed(signed[:at] + bytes((signed[at] ^ 1,)) + signed[at + 1 :])
            with pytest.raises(CorruptEntry):
                decode_value(forged, NAME, OURS)


@pytest.mark.parametrize("length", [32, 59, 60, 61, 75, 76])
def test_a_signed_value_that_was_cut_off_is_corrupt_whatever_its_checksum(length):
    with pytest.raises(CorruptEntry):
        decode_value(resummed(value_of()[:length]), NAME, OURS)


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_a_value_verifies_under_its_own_name_alone(name, other):
    signed = value_of(name=name)
    forged = resummed(signed, other)
    if name == other:
        assert decode_value(forged, other, OURS)
        return
    with pytest.raises(CorruptEntry):
        decode_value(forged, other, OURS)


@given(st.binary(max_size=20), st.binary(min_size=1, max_size=20), st.binary(max_size=20))
def test_the_end_of_a_name_is_not_the_beginning_of_a_head(name, between, rest):
    assert not OURS.verifies(OURS.sign(name, between, rest), name + between, b"", rest)


# -- keys ------------------------------------------------------------------------------------------


def test_the_first_key_signs_and_every_key_verifies():
    both, matrix = Signer([NEW, OLD]), np.ones((2, 4))
    assert read_rows(rows_of(matrix), both).corrupt == []  # of before the change
    assert read_rows(rows_of(matrix, both), Signer([NEW])).corrupt == []
    assert read_rows(rows_of(matrix, both)).corrupt == [0, 1]
    assert decode_value(value_of(), NAME, both).payload
    assert decode_value(value_of(signer=both), NAME, Signer([NEW])).payload
    with pytest.raises(CorruptEntry):
        decode_value(value_of(signer=both), NAME, OURS)


@pytest.mark.parametrize("length", [16, 32, 64, 65, 1000])
def test_every_byte_of_a_key_counts(length):
    key = bytes(i % 251 for i in range(length))
    signed = value_of(signer=Signer([key]))
    assert decode_value(signed, NAME, Signer([key]))
    for at in (0, length // 2, length - 1):
        other = key[:at] + bytes((key[at] ^ 1,)) + key[at + 1 :]
        with pytest.raises(CorruptEntry):
            decode_value(signed, NAME, Signer([other]))


def test_no_key_is_no_signer():
    assert signer_of(()) is None
    assert signer_of([OLD]) is not None


def test_a_signer_is_not_pickled():
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(OURS)


# -- what a store sees of it -----------------------------------------------------------------------


@pytest.mark.parametrize("signed_at", PRECISIONS)
def test_a_signed_row_wins_if_it_is_precise_enough_and_a_planted_one_never(signed_at):
    matrix = np.full((1, 4), 0.5)
    (signed,) = rows_of(matrix, precision=signed_at)
    (planted,) = rows_of(matrix, None, "float32")
    of_signed = Mark(by_name(signed_at).kind | SIGNED, 4, STAMP)
    assert of_signed.wins(signed)
    assert not of_signed.wins(planted)
    exact = by_name("float32").kind
    for mark in (Mark(exact, 4, STAMP), Mark(exact | SIGNED, 4, STAMP)):
        assert mark.wins(signed) == (by_name(signed_at).kind >= exact)


def _with_right_checksums(entries, digests):
    """The same entries, their checksums right for these digests: as an attacker writes them.

    A right one is what the reader would compute, so the reader's own parts compute it.
    """
    from nearcache.codecs import checksums

    fixed = []
    for entry, digest in zip(entries, digests, strict=False):
        _, _, sums = checksums.gather([entry], len(entry))
        right = int((sums ^ checksums.named([digest]))[0])
        fixed.append(entry[:24] + right.to_bytes(8, "little") + entry[32:])
    return fixed
