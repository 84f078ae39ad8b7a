"""Entries of rows: what was damaged never verifies, what verifies is the row that was written."""

import warnings

import numpy as np

from fuzz.harness import Choices, changed
from nearcache.codecs.checksums import checksums, named
from nearcache.codecs.envelope import decode_rows, encode_rows
from nearcache.codecs.signing import Signer
from nearcache.codecs.vectors import by_kind, by_name
from nearcache.entry import HEAD, MAGIC, SIGNED, VERSION
from nearcache.errors import CodecError

__all__ = ["SEEDS", "one"]

SEEDS = [
    b"\x00\x02\x02\x03" + bytes(range(120)),
    b"\x00\x01\x01\x01" + bytes(range(120)),
    b"\x00\x00\x03\x05" + bytes(range(120)),
    b"\x01\x03" + b"nC\x01\x03\x04\0\0\0" + bytes(40),
    b"\x01\x02" + b"nC\x02\x03\x04\0\0\0" + bytes(40),
    b"\x02\x03\x04\x00\x00\x00" + bytes(60),
    b"\x02\x01\x04\x00\x00\x00" + b"\xff" * 60,
    b"\x02\x02\xff\xff\xff\xff" + b"\x7f" * 60,
]
_NAMES = ("int8", "float16", "float32")
_SIGNER = Signer([b"a key of sixteen bytes or more"])
_STAMP = b"stamp..."
_NOW = 1000.0


def one(data: bytes) -> None:
    choices = Choices(data)
    act = choices.number(3)
    with warnings.catch_warnings():  # what is no row of a model's may be infinite
        warnings.simplefilter("ignore", RuntimeWarning)
        if act == 0:
            _damaged(choices)
        elif act == 1:
            _read([choices.rest()], [bytes(16)], by_name(choices.one_of(_NAMES)))
        else:
            _forged(choices)


def _read(entries, digests, precision, size=None, **signing):
    given = {"stamp": _STAMP, "size": size, "now": _NOW, **signing}
    found = decode_rows(entries, digests, precision, **given)
    usable, corrupt = found.usable.tolist(), found.corrupt
    assert not set(usable) & set(corrupt)
    assert sorted(set(usable)) == usable
    assert set(usable) | set(corrupt) <= set(range(len(entries)))
    assert all(entries[i] is not None for i in [*usable, *corrupt])
    assert found.rows is not None or not usable
    if found.rows is not None:
        assert found.rows.data.shape == (len(usable), found.size)
        assert found.rows.data.dtype == precision.dtype
        assert len(found.expiry) == len(usable)
    return found


def _damaged(choices: Choices) -> None:
    kept, asked = by_name(choices.one_of(_NAMES)), by_name(choices.one_of(_NAMES))
    count, size = 1 + choices.number(3), 1 + choices.number(9)
    digests = [choices.part(16) for _ in range(count)]
    matrix = np.frombuffer(choices.part(4 * count * size), "<f4").reshape(count, size)
    matrix = np.where(np.isfinite(matrix), matrix, np.float32(1))
    expiry = np.array([choices.one_of((0.0, 999.0, 1001.0, choices.float())) for _ in digests])
    try:
        rows = kept.pack(matrix)
    except CodecError:  # too large for float16
        return
    signing = {"names": digests, "signer": _SIGNER} if choices.flag() else {}
    entries = encode_rows(rows, kept, digests, stamp=_STAMP, expiry=expiry, **signing)
    which = choices.number(count)
    others = [changed(e, choices) if i == which else e for i, e in enumerate(entries)]
    if choices.flag():
        others[choices.number(count)] = None
    found = _read(others, digests, asked, size if choices.flag() else None, **signing)
    right = kept.unpack(rows)
    fits = asked.fits(right)
    for i in range(count):
        whole = others[i] == entries[i]
        alive = expiry[i] == 0 or expiry[i] > _NOW
        wanted = whole and alive and bool(fits[i]) and kept.kind >= asked.kind
        assert (i in found.usable) == wanted, i
    chosen = found.usable
    if len(chosen):
        same = rows.take(chosen) if kept is asked else asked.pack(right[chosen])
        assert found.rows.data.tobytes() == same.data.tobytes()
        assert (found.rows.scale is None) == (same.scale is None)
        if same.scale is not None:
            assert found.rows.scale.tobytes() == same.scale.tobytes()


def _forged(choices: Choices) -> None:
    """Any head and payload under a checksum that is right: read as they are, or refused."""
    kind, size = choices.number(256), int.from_bytes(choices.part(4), "little")
    expiry, digest = choices.float(), choices.part(16)
    head = HEAD.pack(MAGIC, VERSION, kind, size, expiry, _STAMP, 0)
    asked, payload = by_name(choices.one_of(_NAMES)), choices.rest()
    padded = np.zeros((1, -(-len(payload) // 8) * 8), np.uint8)
    padded[0, : len(payload)] = np.frombuffer(payload, np.uint8)
    sums = checksums(np.frombuffer(head, "<u8").reshape(1, 4), padded, [digest])
    entry = head[:24] + sums.tobytes() + payload
    assert len(named([digest])) == 1
    found = _read([entry], [digest], asked)
    # who has a key believes nothing that he did not sign
    assert not len(_read([entry], [digest], asked, names=[digest], signer=_SIGNER).usable)
    if not len(found.usable):
        return
    stored = by_kind(kind & ~SIGNED)
    assert stored is not None
    assert stored.kind >= asked.kind
    assert len(payload) == stored.row_bytes(size) + (16 if kind & SIGNED else 0)
    if stored is asked and not kind & SIGNED:
        assert encode_rows(
            found.rows, asked, [digest], stamp=_STAMP, expiry=np.array([expiry])
        ) == [entry]
