"""The checksum of stored rows, taken over a whole batch at once.

It is a multilinear hash modulo 2**64 (Lemire and Kaser, "Strongly universal string
hashing is fast", 2014) of 64-bit words with fixed pseudo-random weights, taken over head, payload
and content hash, so that an entry copied under another name does not verify either. It was chosen
because numpy computes it for a whole matrix at memory speed, where a CRC per row costs nearly
three times as much. It guards against accidents, not against somebody who can write to the store:
that is what signatures are for.

Where the native core was built, one pass in C copies the entries and sums them; numpy's blocks give
the same to the bit.
"""

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEAD_SIZE", "checksums", "gather", "named"]

_Words = NDArray[np.uint64]

HEAD_SIZE = 4
"""Words of 64 bits in a head; the last is the checksum."""
_CHECKSUM = HEAD_SIZE - 1
_BLOCK = 48  # entries hashed at a time: what fits the processor's cache


def _load() -> Any:
    if os.environ.get("NEARCACHE_PURE", "") not in ("", "0") or sys.byteorder != "little":
        return None
    try:
        return import_module("nearcache.codecs._native")
    except ImportError:  # said by the near tier, whose core was built, or not, with this one
        return None


_native = _load()


def gather(bodies: Sequence[bytes | None], length: int) -> tuple[_Words, NDArray[np.uint8], _Words]:
    """Split entries of one length into heads and payloads, and hash them while in cache."""
    padding = bytes(-length % 8)
    width = (length + len(padding)) // 8
    weights = _weights(width)
    heads = np.empty((len(bodies), HEAD_SIZE), np.uint64)
    payload = np.empty((len(bodies), width - HEAD_SIZE), np.uint64)
    sums = np.empty(len(bodies), np.uint64)
    if _native is not None and _native.gather(bodies, length, weights, heads, payload, sums):
        return heads, payload.view(np.uint8), sums
    scratch = np.empty((_BLOCK, width), np.uint64)
    for at in range(0, len(bodies), _BLOCK):
        part: Any = bodies[at : at + _BLOCK]  # none of them is None
        block = slice(at, at + len(part))
        joined = padding.join(part) + padding if padding else b"".join(part)
        words = np.frombuffer(joined, "<u8").reshape(len(part), width)
        _hash(words, weights, scratch, sums[block])
        heads[block] = words[:, :HEAD_SIZE]
        payload[block] = words[:, HEAD_SIZE:]
    return heads, payload.view(np.uint8), sums


def checksums(heads: _Words, payload: NDArray[np.uint8], digests: Sequence[bytes]) -> _Words:
    """Return the checksum of each entry; the heads' own checksum field does not count."""
    weights = _weights(HEAD_SIZE + payload.shape[1] // 8)
    sums, head_sums = np.empty((2, len(heads)), np.uint64)
    _hash(heads, weights[:HEAD_SIZE], np.empty(heads.shape, np.uint64), head_sums)
    words = payload.view("<u8")
    scratch = np.empty((_BLOCK, words.shape[1]), np.uint64)
    for at in range(0, len(words), _BLOCK):
        block = words[at : at + _BLOCK]
        _hash(block, weights[HEAD_SIZE:], scratch, sums[at : at + len(block)])
    return np.asarray((sums + head_sums) ^ named(digests))


def named(digests: Sequence[bytes]) -> _Words:
    """Return what ties a checksum to the content hash its entry is stored under."""
    names = np.frombuffer(b"".join(digests), "<u8").reshape(len(digests), 2)
    return np.asarray(names[:, 0] ^ names[:, 1])


def _hash(words: _Words, weights: _Words, scratch: _Words, out: _Words) -> None:
    """Write the weighted sum of each row's words.

    The high half of a word is folded into the low first: times an odd weight bit 63 alone would be
    weak, two sign bits flipped at the top of two words would cancel modulo 2**64.
    """
    mixed = scratch[: len(words)]
    np.right_shift(words, np.uint64(32), out=mixed)
    np.bitwise_xor(mixed, words, out=mixed)
    np.einsum("ij,j->i", mixed, weights, out=out)


@lru_cache(maxsize=64)
def _weights(count: int) -> _Words:
    """Return odd weights from splitmix64 (Steele, Lea, Flood, 2014); part of the format.

    The checksum's own word has weight 0.
    """
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    weights = (z ^ (z >> np.uint64(31))) | np.uint64(1)
    weights[_CHECKSUM] = 0
    return weights
