"""Stored entries of rows: whole batches to bytes and back, every byte covered by a checksum.

An entry is the head of ``nearcache.entry`` and the packed row. One that is signed has the bit
SIGNED in its kind and ends in its signature (``nearcache.codecs.signing``), which says nothing of
the checksum, while that covers it as if it were part of the row. Whoever has no key reads signed
entries as any others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearcache.codecs.checksums import HEAD_SIZE, checksums, gather, named
from nearcache.codecs.signing import SIGNATURE_BYTES, Signer
from nearcache.codecs.vectors import Precision, Rows, by_kind
from nearcache.entry import HEAD, MAGIC, SIGNED, VERSION

__all__ = ["Decoded", "decode_rows", "encode_rows"]

_Words = NDArray[np.uint64]
_Index = NDArray[np.intp]

_FORMAT, _EXPIRY, _STAMP, _CHECKSUM = range(HEAD_SIZE)  # the 64-bit words of a head
_SUMMED = 24  # bytes of the head before the checksum


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch of stored bytes: positions refer to that batch.

    ``rows`` and ``expiry`` belong to ``usable``; ``corrupt`` did not verify and should be deleted.
    Whatever is in neither is a plain miss: absent, expired, forgotten, of another size or version,
    too narrow.
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
    names: Sequence[bytes] = (),
    signer: Signer | None = None,
) -> list[bytes]:
    """Return one stored entry per packed row; ``expiry`` None for never.

    A ``signer`` signs them under the ``names`` they are to be stored under.
    """
    count, size = rows.data.shape
    if not count:
        return []
    bare = precision.row_bytes(size)
    row = bare + (SIGNATURE_BYTES if signer else 0)
    kind = precision.kind | (SIGNED if signer else 0)
    payload = _blank(count, row)
    _components(payload, precision, size)[...] = rows.data
    if rows.scale is not None:
        _scales(payload)[...] = rows.scale
    head = np.frombuffer(HEAD.pack(MAGIC, VERSION, kind, size, 0.0, stamp, 0), "<u8")
    heads = np.tile(head, (count, 1))
    if expiry is not None:
        heads[:, _EXPIRY].view("<f8")[...] = expiry
    if signer is not None:
        _sign(signer, names, heads, payload, bare)
    heads[:, _CHECKSUM] = checksums(heads, payload, digests)
    head_bytes, body_bytes = heads.tobytes(), payload.data.cast("B")
    stride = payload.shape[1]
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
    names: Sequence[bytes] = (),
    signer: Signer | None = None,
) -> Decoded:
    """Read a batch of stored entries at ``precision``; ``size`` None takes the first one's.

    With a ``signer``, what it did not sign under these ``names`` is corrupt.

    Cost: one copy of the payload and one pass over it.
    """
    corrupt: list[int] = []
    parts: list[_Part] = []
    lengths = [-1 if value is None else len(value) for value in values]
    for length in set(lengths) - {-1}:
        alike = [i for i, other in enumerate(lengths) if other == length]
        if length < HEAD.size:
            corrupt += alike
            continue
        whole = len(alike) == len(values)  # the common case is spared the picking
        bodies = values if whole else [values[i] for i in alike]
        heads, payload, sums = gather(bodies, length)
        sums ^= named(digests if whole else [digests[i] for i in alike])
        sound = sums == heads[:, _CHECKSUM]
        expiry = heads[:, _EXPIRY].view("<f8")
        fresh = heads[:, _STAMP] == np.frombuffer(stamp, "<u8")[0]
        fresh &= (expiry == 0) | (expiry > now)
        for start in sorted(set(heads[:, _FORMAT].tolist())):
            stored, stored_size, tail = _format(start)
            same = heads[:, _FORMAT] == start
            if _is_of_another_version(start):
                sound |= same  # not damaged: let alone for those who can read it
                continue
            if stored is None or HEAD.size + stored.row_bytes(stored_size) + tail != length:
                sound &= ~same
                continue
            if signer is not None:
                sound &= ~same | _are_signed(
                    signer, [names[i] for i in alike], bodies, same & sound, tail
                )
            good = same & sound & fresh
            if stored.kind >= precision.kind and good.any():
                part = _Part(np.array(alike, np.intp), payload, expiry, stored, stored_size)
                parts.append(part if good.all() else part.only(good))
        corrupt += np.array(alike, np.intp)[~sound].tolist()
    if size is None:
        size = min(parts, key=lambda part: int(part.positions[0])).size if parts else 0
    return _decoded([part for part in parts if part.size == size], precision, corrupt, size)


class _Part(NamedTuple):
    """Entries of one format: their positions, payloads and lives."""

    positions: _Index
    payload: NDArray[np.uint8]
    expiry: NDArray[np.float64]
    stored: Precision
    size: int

    def only(self, chosen: NDArray[np.bool_]) -> "_Part":
        return self._replace(
            positions=self.positions[chosen],
            payload=self.payload[chosen],
            expiry=self.expiry[chosen],
        )


def _decoded(parts: list[_Part], precision: Precision, corrupt: list[int], size: int) -> Decoded:
    """Bring parts to one precision, and put them in the order of the batch."""
    if not parts:
        return Decoded(np.empty(0, np.intp), None, np.empty(0), corrupt, size)
    usable: list[_Index] = []
    rows: list[Rows] = []
    expiry: list[NDArray[np.float64]] = []
    for part in parts:
        packed, kept = _at(precision, _rows(part.payload, part.stored, size), part.stored)
        usable.append(part.positions[kept])
        rows.append(packed)
        expiry.append(part.expiry[kept])
    if len(parts) == 1:
        return Decoded(usable[0], rows[0], expiry[0], corrupt, size)
    found = np.concatenate(usable)
    order = np.argsort(found)
    return Decoded(
        found[order], _join(rows).take(order), np.concatenate(expiry)[order], corrupt, size
    )


def _format(start: int) -> tuple[Precision | None, int, int]:
    """Return precision and size that the first word of a head names, and the signature's bytes."""
    magic, version, kind, size, *_ = HEAD.unpack(start.to_bytes(8, "little") + bytes(24))
    if magic != MAGIC or version != VERSION or not size:
        return None, 0, 0
    return by_kind(kind & ~SIGNED), size, SIGNATURE_BYTES if kind & SIGNED else 0


def _sign(
    signer: Signer, names: Sequence[bytes], heads: _Words, payload: NDArray[np.uint8], row: int
) -> None:
    """Write the signature of each entry behind its row."""
    head_bytes, rows = memoryview(heads.tobytes()), payload.data.cast("B")
    stride = payload.shape[1]
    signatures = b"".join(
        signer.sign(
            name,
            head_bytes[i * HEAD.size : i * HEAD.size + _SUMMED],
            rows[i * stride : i * stride + row],
        )
        for i, name in enumerate(names)
    )
    tails = np.frombuffer(signatures, np.uint8).reshape(len(names), SIGNATURE_BYTES)
    payload[:, row : row + SIGNATURE_BYTES] = tails


def _are_signed(
    signer: Signer,
    names: Sequence[bytes],
    entries: Sequence[bytes | None],
    wanted: NDArray[np.bool_],
    tail: int,
) -> NDArray[np.bool_]:
    """Say which of the ``wanted`` entries end in their signature, of ``tail`` bytes."""
    signed = np.zeros(len(wanted), np.bool_)
    if not tail:
        return signed
    for i in np.flatnonzero(wanted).tolist():
        entry = memoryview(entries[i])  # type: ignore[arg-type]  # none of these is None
        head, body = entry[:_SUMMED], entry[HEAD.size : -tail]
        signed[i] = signer.verifies(entry[-tail:], names[i], head, body)
    return signed


def _is_of_another_version(start: int) -> bool:
    head = start.to_bytes(8, "little")
    return head.startswith(MAGIC) and head[len(MAGIC)] != VERSION


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


def _rows(payload: NDArray[np.uint8], precision: Precision, size: int) -> Rows:
    scale = np.ascontiguousarray(_scales(payload)) if precision.scaled else None
    return Rows(_components(payload, precision, size), scale)


def _components(payload: NDArray[np.uint8], precision: Precision, size: int) -> NDArray[np.generic]:
    start = 4 if precision.scaled else 0
    return payload[:, start : precision.row_bytes(size)].view(precision.dtype)


def _scales(payload: NDArray[np.uint8]) -> NDArray[np.float32]:
    return payload[:, :4].view("<f4")[:, 0]
