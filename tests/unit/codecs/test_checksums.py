"""The checksum of stored rows: one value, whoever computes it."""

import random

import numpy as np
import pytest

from nearcache.codecs import checksums

_LENGTHS = [32, 33, 39, 40, 41, 47, 48, 32 + 4 * 384, 32 + 4 * 1536, 32 + 384 + 4]


def entries(length, count=100):
    draw = random.Random(length)
    return [draw.randbytes(length) for _ in range(count)]


@pytest.fixture
def in_numpy(monkeypatch):
    def gather(bodies, length):
        with monkeypatch.context() as patch:
            patch.setattr(checksums, "_native", None)
            return checksums.gather(bodies, length)

    return gather


@pytest.mark.skipif(checksums._native is None, reason="no native core, or NEARCACHE_PURE is set")
@pytest.mark.parametrize("length", _LENGTHS)
def test_both_cores_give_the_same_to_the_bit(length, in_numpy):
    bodies = entries(length)
    for mine, theirs in zip(
        checksums.gather(bodies, length), in_numpy(bodies, length), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("length", _LENGTHS)
def test_every_byte_but_the_sum_s_own_counts(length):
    (body,) = entries(length, 1)
    sound = checksums.gather([body], length)[2][0]
    own = range(24, 32)
    for at in range(min(length, 200)):
        damaged = body[:at] + bytes([body[at] ^ 0x80]) + body[at + 1 :]
        assert (checksums.gather([damaged], length)[2][0] == sound) == (at in own), at


def test_heads_and_payloads_are_the_entries_own_bytes():
    bodies = entries(41)
    heads, payload, _ = checksums.gather(bodies, 41)
    for body, head, row in zip(bodies, heads, payload, strict=True):
        assert head.tobytes() == body[:32]
        assert row.tobytes() == body[32:] + bytes(7)


def test_what_is_no_bytes_object_is_summed_all_the_same(in_numpy):
    bodies = [memoryview(body) for body in entries(40)]
    np.testing.assert_array_equal(checksums.gather(bodies, 40)[2], in_numpy(bodies, 40)[2])


@pytest.mark.skipif(checksums._native is None, reason="no native core, or NEARCACHE_PURE is set")
def test_arrays_that_do_not_fit_are_refused():
    heads, payload = np.empty((1, 4), np.uint64), np.empty((1, 1), np.uint64)
    sums, weights = np.empty(1, np.uint64), np.ones(5, np.uint64)
    for length, given in ((31, weights), (48, weights), (40, weights[:4])):
        with pytest.raises(ValueError, match="do not fit"):
            checksums._native.gather([bytes(length)], length, given, heads, payload, sums)
