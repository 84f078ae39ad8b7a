"""Names that tell nothing: who asks, what for, and which input, as keyed hashes."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from nearcache.proxy.headers import Sorted

__all__ = ["Partitions", "names_of"]

_IDENTITY, _NAME = 16, 20  # bytes


class Partitions:
    """Makes names with a secret, so that whoever reads the store cannot try keys on them.

    shared: whether callers with different credentials share what is kept.
    """

    def __init__(self, secret: bytes, *, shared: bool) -> None:
        self._secret = blake2b(secret, digest_size=32).digest()
        self.shared = shared

    def caller(self, headers: Sorted) -> bytes:
        """Return the name of whoever sends these headers."""
        return self._hash(b"caller", _flat(headers.credentials), _flat(headers.others))

    def purpose(self, parts: Sequence[bytes]) -> bytes:
        """Return the name of what a caller may be let in to: a path, a model."""
        return self._hash(b"purpose", *parts)

    def identity(self, headers: Sorted, parts: Sequence[bytes]) -> bytes:
        """Return the name of what decides a vector beside its input, and of who may see it."""
        who = b"" if self.shared else _flat(headers.credentials)
        return self._hash(b"vector", who, _flat(headers.others), *parts)

    def _hash(self, kind: bytes, *parts: bytes) -> bytes:
        return blake2b(
            _joined(parts), key=self._secret, digest_size=_IDENTITY, person=kind
        ).digest()


def names_of(identity: bytes, inputs: Iterable[bytes]) -> list[bytes]:
    """Return the name of each input under an identity."""
    return [blake2b(each, key=identity, digest_size=_NAME).digest() for each in inputs]


def _flat(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return _joined([part for pair in headers for part in pair])


def _joined(parts: Iterable[bytes]) -> bytes:
    """Join parts so that no two lists of parts give the same bytes."""
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)
