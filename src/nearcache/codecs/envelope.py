"""Stored entries of rows: whole batches to bytes and back, every byte covered by a checksum.

The checksum is a multilinear hash modulo 2**64 (Lemire and Kaser, "Strongly universal string
hashing is fast", 2014) of 64-bit words with fixed pseudo-random weights, taken over head, payload
and content hash, so that an entry copied under another name does not verify either. It was chosen
because numpy computes it for a whole matrix at memory speed, where a CRC per row costs four times
as much. It guards against accidents, not against somebody who can write to the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nearcache.codecs.vectors import Precision, Rows, by_kind
from nearcache.entry import HEAD, MAGIC, VERSION

__all__ = ["Decoded", "decode_rows", "encode_rows"]

_Words = NDArray[np.uint64]
_Index = NDArray[np.intp]

_FORMAT, _EXPIRY, _STAMP, _CHECKSUM = range(4)  # the four 64-bit words of a head
_HEAD_SIZE = 4  # words
_BLOCK = 48  # entries hashed at a time: what fits the processor's cache


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch of stored bytes: positions refer to that batch.

    ``rows`` and ``expiry`` belong to ``usable``; ``corrupt`` did not verify and should be deleted.
    Whatever is in neither is a plain miss: absent, expired, forgotten, of another size, too narrow.
    """

    usable: _Index
    rows: Rows | None
    expiry: NDArray[np.float64]
    corrupt: list[int]
    size: int


def encode_rows(
    rows: Rows,
    precision: Precision,
    digests: Sequence[bytes],
    *,
    stamp: bytes,
    expiry: NDArray[np.float64] | None,
) -> list[bytes]:
    """Return one stored entry per packed row; ``expiry`` None for never."""
    count, size = rows.data.shape
    if not count:
        return []
    payload = _blank(count, precision.row_bytes(size))
    _components(payload, precision, size)[...] = rows.data
    if rows.scale is not None:
        _scales(payload)[...] = rows.scale
    head = np.frombuffer(HEAD.pack(MAGIC, VERSION, precision.kind, size, 0.0, stamp, 0), "<u8")
    heads = np.tile(head, (count, 1))
    if expiry is not None:
        heads[:, _EXPIRY].view("<f8")[...] = expiry
    heads[:, _CHECKSUM] = _checksums(heads, payload, digests)
    head_bytes, body_bytes = heads.tobytes(), payload.data.cast("B")
    row, stride = precision.row_bytes(size), payload.shape[1]
    return [
        head_bytes[i * HEAD.size : (i + 1) * HEAD.size] + body_bytes[i * stride : i * stride + row]
        for i in range(count)
    ]


def decode_rows(
    values: Sequence[bytes | None],
    digests: Sequence[bytes],
    precision: Precision,
    *,
    stamp: bytes,
    size: int | None,
    now: float,
) -> Decoded:
    """Read a batch of stored entries at ``precision``; ``size`` None takes the first one's.

    Cost: one copy of the payload and one pass over it.
    """
    bodies, index, corrupt = _present(values)
    heads = np.frombuffer(b"".join([body[: HEAD.size] for body in bodies]), "<u8").reshape(-1, 4)
    lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
    fresh = heads[:, _STAMP] == np.frombuffer(stamp, "<u8")[0]
    expiry = heads[:, _EXPIRY].view("<f8")
    fresh &= (expiry == 0) | (expiry > now)

    candidates: list[tuple[Precision, int, _Index]] = []
    for start in np.unique(heads[:, _FORMAT]).tolist():
        alike = heads[:, _FORMAT] == start
        stored, stored_size = _format(start)
        if stored is None:
            corrupt += index[alike].tolist()
            continue
        complete = lengths == HEAD.size + stored.row_bytes(stored_size)
        corrupt += index[alike & ~complete].tolist()
        chosen = np.flatnonzero(alike & complete & fresh)
        if stored.kind >= precision.kind and len(chosen):
            candidates.append((stored, stored_size, chosen))
    if size is None:
        size = min(candidates, key=lambda c: int(c[2][0]))[1] if candidates else 0

    usable: list[_Index] = []
    parts: list[Rows] = []
    for stored, stored_size, chosen in candidates:
        if stored_size != size:
            continue
        whole = len(chosen) == len(values)  # the common case is spared the picking
        payload, sums = _gather(
            bodies if whole else [bodies[i] for i in chosen.tolist()], stored.row_bytes(size)
        )
        sums ^= _named(digests if whole else [digests[i] for i in index[chosen].tolist()])
        valid = sums == (heads if whole else heads[chosen])[:, _CHECKSUM]
        if not valid.all():
            corrupt += index[chosen[~valid]].tolist()
            payload = payload[valid]
        rows, kept = _at(precision, _rows(payload, stored, size), stored)
        usable.append(chosen[valid][kept])
        parts.append(rows)
    if not usable:
        return Decoded(np.empty(0, np.intp), None, np.empty(0), corrupt, size)
    found, rows = usable[0], parts[0]
    if len(parts) > 1:
        found = np.concatenate(usable)
        order = np.argsort(found)
        found, rows = found[order], _join(parts).take(order)
    return Decoded(index[found], rows, expiry[found], corrupt, size)


def _present(values: Sequence[bytes | None]) -> tuple[list[bytes], _Index, list[int]]:
    """Return the values that have a head, their positions, and the positions of stumps."""
    bodies = [value for value in values if value is not None and len(value) >= HEAD.size]
    if len(bodies) == len(values):
        return bodies, np.arange(len(values), dtype=np.intp), []
    index = [i for i, value in enumerate(values) if value is not None and len(value) >= HEAD.size]
    stumps = [i for i, value in enumerate(values) if value is not None and len(value) < HEAD.size]
    return bodies, np.array(index, np.intp), stumps


def _format(start: int) -> tuple[Precision | None, int]:
    """Return the precision and the size that the first word of a head names."""
    magic, version, kind, size, *_ = HEAD.unpack(start.to_bytes(8, "little") + bytes(24))
    if magic != MAGIC or version != VERSION or not size:
        return None, 0
    return by_kind(kind), size


def _at(precision: Precision, rows: Rows, stored: Precision) -> tuple[Rows, _Index]:
    """Narrow rows to ``precision``; also say which of them it can hold."""
    if stored.kind == precision.kind:
        return rows, np.arange(len(rows), dtype=np.intp)
    matrix = stored.unpack(rows)
    kept = np.flatnonzero(precision.fits(matrix))
    return precision.pack(matrix[kept]), kept


def _join(parts: list[Rows]) -> Rows:
    scales = [part.scale for part in parts if part.scale is not None]
    return Rows(
        np.concatenate([part.data for part in parts]), np.concatenate(scales) if scales else None
    )


def _blank(count: int, row: int) -> NDArray[np.uint8]:
    """Return a byte matrix whose rows are padded to whole 64-bit words."""
    padded = -(-row // 8) * 8
    payload = np.empty((count, padded), np.uint8)
    payload[:, row:] = 0
    return payload


def _gather(bodies: list[bytes], row: int) -> tuple[NDArray[np.uint8], _Words]:
    """Copy payloads under each other, and hash entries on the way, while they are in cache."""
    padding = bytes(-row % 8)
    width = _HEAD_SIZE + (row + len(padding)) // 8
    weights = _weights(width)
    payload = np.empty((len(bodies), width - _HEAD_SIZE), np.uint64)
    sums = np.empty(len(bodies), np.uint64)
    scratch = np.empty((_BLOCK, width), np.uint64)
    for at in range(0, len(bodies), _BLOCK):
        part = bodies[at : at + _BLOCK]
        joined = padding.join(part) + padding if padding else b"".join(part)
        words = np.frombuffer(joined, "<u8").reshape(len(part), width)
        _hash(words, weights, scratch, sums[at : at + len(part)])
        payload[at : at + len(part)] = words[:, _HEAD_SIZE:]
    return payload.view(np.uint8), sums


def _rows(payload: NDArray[np.uint8], precision: Precision, size: int) -> Rows:
    scale = np.ascontiguousarray(_scales(payload)) if precision.scaled else None
    return Rows(_components(payload, precision, size), scale)


def _components(payload: NDArray[np.uint8], precision: Precision, size: int) -> NDArray[np.generic]:
    start = 4 if precision.scaled else 0
    return payload[:, start : precision.row_bytes(size)].view(precision.dtype)


def _scales(payload: NDArray[np.uint8]) -> NDArray[np.float32]:
    return payload[:, :4].view("<f4")[:, 0]


def _checksums(heads: _Words, payload: NDArray[np.uint8], digests: Sequence[bytes]) -> _Words:
    """Return the checksum of each entry; the heads' own checksum field does not count."""
    weights = _weights(_HEAD_SIZE + payload.shape[1] // 8)
    sums, head_sums = np.empty((2, len(heads)), np.uint64)
    _hash(heads, weights[:_HEAD_SIZE], np.empty(heads.shape, np.uint64), head_sums)
    words = payload.view("<u8")
    scratch = np.empty((_BLOCK, words.shape[1]), np.uint64)
    for at in range(0, len(words), _BLOCK):
        block = words[at : at + _BLOCK]
        _hash(block, weights[_HEAD_SIZE:], scratch, sums[at : at + len(block)])
    return np.asarray((sums + head_sums) ^ _named(digests))


def _named(digests: Sequence[bytes]) -> _Words:
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
