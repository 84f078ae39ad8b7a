"""Precisions: what is kept of a row, and how far off it may be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nearcache.codecs.vectors import by_kind, by_name
from nearcache.errors import CodecError, ConfigError

PRECISIONS = ("float32", "float16", "int8")

finite = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.integers(1, 64)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


def kept(precision, rows):
    chosen = by_name(precision)
    return chosen.unpack(chosen.pack(np.asarray(rows, np.float32)))


@given(finite)
def test_float32_keeps_every_bit(matrix):
    assert kept("float32", matrix).tobytes() == matrix.tobytes()


@given(hnp.arrays(np.float32, (3, 9), elements=st.floats(-65000, 65000, width=32)))
def test_float16_keeps_eleven_bits(matrix):
    off = np.abs(kept("float16", matrix) - matrix)
    assert (off <= np.maximum(np.abs(matrix) * 2.0**-11, 2.0**-25)).all()


@given(finite)
def test_an_int8_component_is_off_by_half_a_step_at_most(matrix):
    largest = np.abs(matrix.astype(np.float64)).max(axis=1, keepdims=True)
    off = np.abs(kept("int8", matrix).astype(np.float64) - matrix)
    # half a step, and what float32 rounds in the scale and the product
    bound = largest / 254 + largest * 2.0**-22 + 127 * 2.0**-149
    assert (off <= bound).all()


@given(finite)
def test_int8_keeps_the_largest_component_and_zero(matrix):
    got = kept("int8", matrix)
    assert (got[matrix == 0] == 0).all()
    largest = np.abs(matrix).max(axis=1)
    normal = largest > 1e-36
    assert np.allclose(np.abs(got).max(axis=1)[normal], largest[normal], rtol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_zero_vector_stays_zero(precision):
    assert kept(precision, np.zeros((2, 5))).tolist() == [[0.0] * 5] * 2


@pytest.mark.parametrize("tiny", [1e-45, 1e-44, 1e-42, 1e-40, 1.1754944e-38, 1e-37])
def test_int8_of_subnormal_numbers_is_finite_and_no_further_off_than_their_size(tiny):
    matrix = np.array([[tiny, -tiny, tiny / 2, 0]], np.float32)
    got = kept("int8", matrix)
    assert np.isfinite(got).all()
    assert (np.abs(got - matrix) <= np.abs(matrix).max()).all()


def test_int8_of_the_largest_numbers_is_finite():
    top = np.finfo(np.float32).max
    assert np.isfinite(kept("int8", [[top, -top, top / 3]])).all()


def test_narrowing_twice_is_narrowing_once():
    matrix = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    for precision in PRECISIONS:
        once = kept(precision, matrix)
        assert kept(precision, once).tobytes() == once.tobytes()


def test_what_float16_cannot_hold_is_refused():
    for large in (65520.0, 1e6, -65520.0, 3e38):
        with pytest.raises(CodecError, match="float32"):
            by_name("float16").pack(np.array([[0, large]], np.float32))
    edge = np.nextafter(np.float32(65520), np.float32(0))
    assert np.isfinite(kept("float16", [[edge, -edge]])).all()


def test_fits_says_row_by_row_what_can_be_held():
    matrix = np.array([[1, 2], [1, 1e5], [-7e4, 0]], np.float32)
    assert by_name("float16").fits(matrix).tolist() == [True, False, False]
    assert by_name("float32").fits(matrix).tolist() == [True] * 3
    assert by_name("int8").fits(matrix).tolist() == [True] * 3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_unpacking_into_a_given_array_gives_the_same_bits(precision):
    chosen = by_name(precision)
    rows = chosen.pack(np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32))
    out = np.empty((4, 6), np.float32)
    assert chosen.unpack(rows, out) is out
    assert out.tobytes() == chosen.unpack(rows).tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dimension", [1, 2, 7, 1536])
def test_the_bytes_of_a_row_name_its_dimension(precision, dimension):
    chosen = by_name(precision)
    assert chosen.dimension(chosen.row_bytes(dimension)) == dimension
    assert chosen.dimension(0) == -1


def test_a_part_of_a_component_is_no_dimension():
    assert by_name("float32").dimension(7) == -1
    assert by_name("float16").dimension(7) == -1
    assert by_name("int8").dimension(4) == -1


def test_a_precision_that_holds_more_has_a_larger_kind():
    kinds = [by_name(name).kind for name in ("int8", "float16", "float32")]
    assert kinds == sorted(set(kinds))
    assert [by_kind(kind).name for kind in kinds] == ["int8", "float16", "float32"]
    assert by_kind(99) is None


@pytest.mark.parametrize("name", ["float64", "", None, 3, ["int8"]])
def test_an_unknown_precision_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match="float32"):
        by_name(name)
