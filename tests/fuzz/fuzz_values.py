"""Entries of mutable values: what was damaged never verifies, what verifies is what was written."""

import struct

from fuzz.harness import Choices, changed
from nearcache.codecs import values as envelopes
from nearcache.codecs.signing import Signer
from nearcache.codecs.values import Envelope, decode_value, encode_value, version_of
from nearcache.entry import HEAD, MAGIC, VERSION, Mark
from nearcache.errors import CodecError
from nearcache.stores.base import has_version, is_value
from nearcache.stores.base import version_of as stored_version

__all__ = ["SEEDS", "one"]

SEEDS = [
    b"\x00" + bytes(range(100)),
    b"\x00\x00\x08payload!\x04name" + b"version1" + bytes(16) + b"e" * 16 + b"\x02" + b"g" * 64,
    b"\x01" + b"nC\x01\x10" + bytes(80),
    b"\x02\x10" + bytes(100),
    b"\x02\x10\x01\x00\x00\x00" + b"\x01" * 90,
]
_SIGNER = Signer([b"a key of sixteen bytes or more"])
_NAME = b"nc1:{app:3f}:k:suser."


def one(data: bytes) -> None:
    choices = Choices(data)
    act = choices.number(3)
    if act == 0:
        _damaged(choices)
    elif act == 1:
        _read(choices.rest(), _NAME)
    else:
        _forged(choices)


def _envelope(choices: Choices) -> Envelope:
    return Envelope(
        kind=16 + choices.number(240),
        payload=choices.some(64),
        version=choices.part(8),
        expiry=choices.float(),
        dead_at=choices.float(),
        everything=choices.part(16),
        groups=tuple((choices.part(16), choices.part(16)) for _ in range(choices.number(4))),
    )


def _damaged(choices: Choices) -> None:
    envelope, name = _envelope(choices), choices.some(16)
    signer = _SIGNER if choices.flag() else None
    fields = envelope._asdict()
    entry = encode_value(fields.pop("kind"), name=name, signer=signer, **fields)
    assert repr(decode_value(entry, name, signer)) == repr(
        envelope
    )  # repr: a NaN is not equal to itself
    assert version_of(entry) == stored_version(entry) == envelope.version
    other_name, other = changed(name, choices), changed(entry, choices)
    found = _read(other, other_name, signer)
    assert (found is not None) == ((other_name, other) == (name, entry))


def _read(data: bytes, name: bytes, signer: Signer | None = None) -> Envelope | None:
    is_value(data)
    assert (version_of(data) is not None) == is_value(data)
    has_version(data, data[16:24])
    Mark(16, None, b"12345678").wins(data)
    try:
        return decode_value(data, name, signer)
    except CodecError:
        return None


def _forged(choices: Choices) -> None:
    """Any fields at all under a checksum that is right: read as they are, or refused."""
    kind, count, flags = choices.number(256), choices.number(65536), choices.number(65536)
    size = int.from_bytes(choices.part(4), "little")
    head = HEAD.pack(MAGIC, VERSION, kind, size, choices.float(), choices.part(8), 0)[:24]
    rest = struct.pack("<dHH", choices.float(), count, flags) + choices.rest()
    entry = head + envelopes._checksum(head, _NAME, rest) + rest
    found = _read(entry, _NAME)
    if found is None:
        return
    assert kind >= 16
    assert flags in (0, 1)
    if not flags:
        fields = found._asdict()
        assert encode_value(fields.pop("kind"), name=_NAME, **fields) == entry
    # who has a key believes nothing that he did not sign
    assert _read(entry, _NAME, _SIGNER) is None
