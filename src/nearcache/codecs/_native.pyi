from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Words: TypeAlias = NDArray[np.uint64]

def gather(
    bodies: Sequence[bytes],
    length: int,
    weights: _Words,
    heads: _Words,
    payload: _Words,
    sums: _Words,
) -> bool: ...
