"""Entries of vectors that a user's codec has been over, as one that encrypts.

The layout: the first 24 bytes of the plain entry's head, with the bit SEALED in its kind, 8 zeros,
then what the codec made of all that follows there, checksum and row; and, where there is a key, the
signature of what is stored: nothing is given to the codec that was not signed.
"""

from collections.abc import Sequence

from nearcache.codecs.base import Codec
from nearcache.codecs.signing import SIGNATURE_BYTES, Signer
from nearcache.entry import HEAD, MAGIC, SEALED, SIGNED, VERSION
from nearcache.errors import CodecError

__all__ = ["seal", "unseal"]

_FORMAT = MAGIC + bytes((VERSION,))
_KIND = 3
_OPEN = 24  # bytes of the head that a store may look at
_BLANK = bytes(HEAD.size - _OPEN)
_CORRUPT = b""  # no entry at all


def seal(
    entries: Sequence[bytes], codec: Codec, names: Sequence[bytes], signer: Signer | None
) -> list[bytes]:
    """Return plain entries as they are stored under their names.

    Raises: CodecError for what the codec cannot write.
    """
    bits = SEALED | (SIGNED if signer else 0)
    sealed = []
    for name, entry in zip(names, entries, strict=True):
        head = entry[:_KIND] + bytes((entry[_KIND] | bits,)) + entry[_KIND + 1 : _OPEN]
        body = _BLANK + codec.encode(entry[_OPEN:])
        if signer is not None:
            body += signer.sign(name, head, body)
        sealed.append(head + body)
    return sealed


def unseal(
    stored: Sequence[bytes | None], codec: Codec, names: Sequence[bytes], signer: Signer | None
) -> list[bytes | None]:
    """Return the plain entries; what does not verify, or was not sealed, becomes a corrupt one."""
    pairs = zip(names, stored, strict=True)
    return [entry and _opened(entry, codec, name, signer) for name, entry in pairs]


def _opened(entry: bytes, codec: Codec, name: bytes, signer: Signer | None) -> bytes:
    if len(entry) < HEAD.size or entry[:_KIND] != _FORMAT:
        return entry  # whoever reads it says what it is
    kind = entry[_KIND]
    end = len(entry) - (SIGNATURE_BYTES if kind & SIGNED else 0)
    if not kind & SEALED or end < HEAD.size:
        return _CORRUPT
    if signer is not None:
        head, body = entry[:_OPEN], memoryview(entry)[_OPEN:end]
        if not signer.verifies(entry[end:], name, head, body):
            return _CORRUPT
    try:
        rest = codec.decode(entry[HEAD.size : end])
    except CodecError:
        return _CORRUPT
    if not isinstance(rest, (bytes, bytearray, memoryview)):
        return _CORRUPT
    plain = bytes((kind & ~(SEALED | SIGNED),))
    return b"".join((entry[:_KIND], plain, entry[_KIND + 1 : _OPEN], rest))
