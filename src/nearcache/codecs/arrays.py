"""Arrays of numbers and booleans: their bytes behind type and shape.

Layout, little-endian: numpy's name of the type ("<f4", "|b1", …; 4 bytes, padded with blanks), the
number of dimensions (u8), each dimension (u64), then the elements in C order. The byte order of the
elements is the array's own.
"""

import struct
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearcache.errors import CodecError

__all__ = ["ArrayCodec"]

# Not longdouble: its bytes mean something else on another processor.
_TYPES = {
    dtype.str: dtype
    for code in ("?", "b", "B", *(order + c for order in "<>" for c in "hHiIqQefdFD"))
    for dtype in (np.dtype(code),)
}
_BY_NAME = {name.encode().ljust(4): dtype for name, dtype in _TYPES.items()}


class ArrayCodec:
    """numpy arrays of any shape, of booleans, integers, floats and complex numbers.

    What comes back is a new, writable array in C order. Subclasses but memmap are refused: a mask,
    or what ``*`` means, would be lost.
    """

    name = "ndarray"
    kind = 19

    def encode(self, value: Any) -> bytes:
        if type(value) is not np.ndarray and type(value) is not np.memmap:
            msg = f"codec='ndarray' keeps numpy arrays only, not {type(value).__qualname__}"
            raise CodecError(msg)
        name = value.dtype.str
        if _TYPES.get(name) != value.dtype:
            msg = f"codec='ndarray' keeps numbers and booleans, not {value.dtype}"
            raise CodecError(msg)
        head = _head(value.ndim).pack(name.encode().ljust(4), value.ndim, *value.shape)
        return head + value.tobytes()

    def decode(self, data: bytes | memoryview) -> NDArray[Any]:
        try:
            head = _head(data[4])
            name, _, *shape = head.unpack_from(data)
            # a view that numpy has checked against the length of the data; nothing is allocated yet
            array = np.ndarray(shape, _BY_NAME[name], data, head.size)
        except (IndexError, KeyError, struct.error, TypeError, ValueError, OverflowError) as error:
            raise CodecError("these bytes are no array") from error
        if head.size + array.nbytes != len(data):
            raise CodecError("these bytes are more than an array")
        return array.copy()

    def shares(self, _: Any) -> bool:
        return False


@lru_cache(maxsize=256)
def _head(dimensions: int) -> struct.Struct:
    return struct.Struct(f"<4sB{dimensions}Q")
