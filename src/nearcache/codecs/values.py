"""Stored entries of mutable values: one value to bytes and back, every byte under a checksum.

Layout, little-endian: the head of ``nearcache.entry`` (32 bytes), then the body::

    32  dead_at (f64, 0 = never)   40 number of groups (u16)   42 flags (u16; 1 = signed)
    44  token of everything (16)   60 per group: digest (16), token (16)      then the payload
                                                       and, if signed, the signature (16)

In the head, *kind* is the codec's (16 and above), *size* the payload's length modulo 2**32,
*expiry* the end of freshness, *stamp* the entry's **version**: random, new with every write. From
the expiry to *dead_at* a stale value may still be served while it is loaded anew. Both are in the
store's own time. The tokens are the epochs that were seen before the value was loaded: an entry
whose token is no longer the current one is forgotten.

The checksum is blake2b (8 bytes) over the head before it, the entry's name and the body, so that an
entry copied under another name does not verify either. It guards against accidents, not against
somebody who can write to the store: that is what signatures are for (``nearcache.codecs.signing``).
Whoever has no key reads signed entries as any others.
"""

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from nearcache.codecs.signing import SIGNATURE_BYTES, Signer
from nearcache.entry import HEAD, MAGIC, VERSION
from nearcache.errors import CodecError, CorruptEntry, UnknownFormat

__all__ = ["LOWEST_KIND", "Envelope", "decode_value", "encode_value", "version_of"]

LOWEST_KIND = 16
"""Kinds from here on are codecs of mutable values; those below are precisions of vectors."""

_FORMAT = MAGIC + bytes((VERSION,))
_BODY = Struct("<dHH16s")
_FIXED = Struct(HEAD.format + _BODY.format.removeprefix("<"))
_GROUP = Struct("<16s16s")
_STAMP = slice(16, 24)
_SUMMED = slice(0, 24)  # of the head: all but the checksum
_CHECKSUM = slice(24, 32)
_BLANK = blake2b(digest_size=8)
_SIGNED = 1
_SIZES = 2**32
_MOST_GROUPS = 2**16 - 1


class Envelope(NamedTuple):
    """What an entry says beside its value, and the value's bytes.

    ``groups`` holds a (digest, token) per group beside everything.
    """

    kind: int
    version: bytes
    expiry: float
    dead_at: float
    everything: bytes
    groups: tuple[tuple[bytes, bytes], ...]
    payload: bytes


def encode_value(
    kind: int,
    payload: bytes,
    *,
    name: bytes,
    version: bytes,
    expiry: float,
    dead_at: float,
    everything: bytes,
    groups: Sequence[tuple[bytes, bytes]],
    signer: Signer | None = None,
) -> bytes:
    """Return the entry to store under ``name``, signed if there is a ``signer``.

    Raises: CodecError for more than 65535 groups.
    """
    if len(groups) > _MOST_GROUPS:
        msg = f"a value can have {_MOST_GROUPS} tags at most, not {len(groups)}"
        raise CodecError(msg)
    assert LOWEST_KIND <= kind < 256
    assert len(version) == 8
    assert len(everything) == 16
    body = b"".join(
        (
            _BODY.pack(dead_at, len(groups), _SIGNED if signer else 0, everything),
            *(_GROUP.pack(digest, token) for digest, token in groups),
            payload,
        )
    )
    size = len(payload) % _SIZES
    head = HEAD.pack(MAGIC, VERSION, kind, size, expiry, version, 0)[_SUMMED]
    if signer is not None:
        body += signer.sign(name, head, body)
    return b"".join((head, _checksum(head, name, body), body))


def decode_value(data: bytes, name: bytes, signer: Signer | None = None) -> Envelope:
    """Read the entry that was found under ``name``.

    Raises: CorruptEntry when it does not verify, or the ``signer`` did not sign it (and it should
    be deleted), UnknownFormat when another version, or another program, may have written it.
    """
    if data[:3] != _FORMAT and len(data) >= len(_FORMAT):
        raise UnknownFormat("no entry that this version of nearcache can read")
    if len(data) < _FIXED.size:
        raise CorruptEntry("an entry was cut off")
    if _checksum(data[_SUMMED], name, memoryview(data)[HEAD.size :]) != data[_CHECKSUM]:
        raise CorruptEntry("an entry does not match its checksum")
    _, _, kind, size, expiry, version, _, dead_at, count, flags, everything = _FIXED.unpack_from(
        data
    )
    if signer is not None:
        _check_signature(signer, data, name, flags)
    if kind < LOWEST_KIND or flags & ~_SIGNED:
        raise UnknownFormat("an entry of a kind that this version of nearcache does not know")
    start = _FIXED.size
    end = start + count * _GROUP.size
    stop = len(data) - (SIGNATURE_BYTES if flags & _SIGNED else 0)
    if end > stop or (stop - end) % _SIZES != size:
        raise CorruptEntry("an entry's length is not what its head says")
    groups = tuple(_GROUP.iter_unpack(data[start:end])) if count else ()
    return Envelope(kind, version, expiry, dead_at, everything, groups, data[end:stop])


def _check_signature(signer: Signer, data: bytes, name: bytes, flags: int) -> None:
    if not flags & _SIGNED:
        raise CorruptEntry("an entry is not signed")
    body = memoryview(data)[HEAD.size : -SIGNATURE_BYTES]
    if not signer.verifies(data[-SIGNATURE_BYTES:], name, data[_SUMMED], body):
        raise CorruptEntry("an entry is not signed with a key of ours")


def version_of(head: bytes) -> bytes | None:
    """Return the version in an entry's first 24 bytes; None if that is no entry we can read."""
    if len(head) < _STAMP.stop or head[:3] != _FORMAT:
        return None
    return head[_STAMP]


def _checksum(head: bytes, name: bytes, body: bytes | memoryview) -> bytes:
    state = _BLANK.copy()  # half the time of a new one with its arguments
    state.update(head)
    state.update(name)
    state.update(body)
    return state.digest()
