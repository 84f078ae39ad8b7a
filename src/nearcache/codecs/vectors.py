"""Rows of float32 at three precisions: what is kept of a vector, and its bytes.

float32 keeps every bit. float16 keeps 11 significant bits (1 - cosine about 1e-7 on real
sentences). int8 keeps one float32 scale per row and 8 bits per component: each component is off by
at most half a step, which is the row's largest magnitude / 254 (1 - cosine about 3e-5).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearcache.errors import CodecError, ConfigError

__all__ = ["Precision", "Rows", "by_kind", "by_name"]

Floats = NDArray[np.float32]
Name = Literal["float32", "float16", "int8"]

_INT8_STEPS = 127
_FLOAT16_OVERFLOW = 65520.0
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / np.float32(_INT8_STEPS), np.float32(0))


@dataclass(frozen=True, slots=True)
class Rows:
    """Packed rows: components as kept, and a scale per row where the precision has one."""

    data: NDArray[np.generic]
    scale: Floats | None = None

    def __len__(self) -> int:
        return len(self.data)

    def take(self, index: NDArray[np.intp]) -> "Rows":
        """Return copies of the rows at ``index``."""
        return Rows(
            self.data.take(index, axis=0),
            None if self.scale is None else self.scale.take(index),
        )


@dataclass(frozen=True, slots=True)
class Precision:
    """One way to keep a row. ``kind`` orders precisions: a larger one holds more."""

    name: str
    kind: int
    dtype: np.dtype[np.generic]
    scaled: bool

    def row_bytes(self, dimension: int) -> int:
        """Return the bytes of one packed row."""
        return dimension * self.dtype.itemsize + (4 if self.scaled else 0)

    def dimension(self, row_bytes: int) -> int:
        """Return the dimension of a packed row of ``row_bytes``; -1 if there is none."""
        components = row_bytes - (4 if self.scaled else 0)
        whole, rest = divmod(components, self.dtype.itemsize)
        return whole if whole > 0 and not rest else -1

    def pack(self, matrix: Floats) -> Rows:
        """Keep of finite (n, d) float32 rows what this precision keeps.

        Raises: CodecError when a component is too large for float16.
        """
        if self.scaled:
            scale = np.abs(matrix).max(axis=1) / np.float32(_INT8_STEPS)
            # next to float32's largest number, scale times 127 may round up to infinity
            np.minimum(scale, _LARGEST_SCALE, out=scale)
            steps = np.divide(
                matrix,
                scale[:, None],
                out=np.zeros_like(matrix),
                where=scale[:, None] > 0,
            )
            np.clip(np.rint(steps, out=steps), -_INT8_STEPS, _INT8_STEPS, out=steps)
            return Rows(steps.astype(np.int8), scale.astype(np.float32, copy=False))
        if self.dtype == np.float32:
            return Rows(matrix)
        if not self.fits(matrix).all():
            msg = f"a component is too large for {self.name}; use precision='float32'"
            raise CodecError(msg)
        return Rows(matrix.astype(self.dtype))

    def fits(self, matrix: Floats) -> NDArray[np.bool_]:
        """Say of each finite row whether this precision can hold it."""
        if self.dtype != np.float16:
            return np.ones(len(matrix), np.bool_)
        # 65520 is the first float32 that rounds to infinity
        return np.asarray(np.abs(matrix).max(axis=1) < _FLOAT16_OVERFLOW)

    def unpack(self, rows: Rows, out: Floats | None = None) -> Floats:
        """Return rows as float32, written to ``out`` if given."""
        if rows.scale is not None:
            scaled: Floats = np.multiply(rows.data, rows.scale[:, None], out=out, dtype=np.float32)
            return scaled
        if out is None:
            return rows.data.astype(np.float32, copy=False)
        out[...] = rows.data
        return out


_PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("int8", 1, np.dtype(np.int8), scaled=True),
        Precision("float16", 2, np.dtype("<f2"), scaled=False),
        Precision("float32", 3, np.dtype("<f4"), scaled=False),
    )
}
_KINDS = {precision.kind: precision for precision in _PRECISIONS.values()}


def by_name(name: str) -> Precision:
    """Return the precision called ``name``."""
    try:
        return _PRECISIONS[name]
    except (KeyError, TypeError):
        known = ", ".join(_PRECISIONS)
        msg = f"unknown precision {name!r}; known are {known}"
        raise ConfigError(msg) from None


def by_kind(kind: int) -> Precision | None:
    """Return the precision that an entry's head calls ``kind``, if there is one."""
    return _KINDS.get(kind)
