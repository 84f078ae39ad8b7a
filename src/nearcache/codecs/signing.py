"""Signatures of stored entries: only who has the key writes what is believed.

A signature is keyed BLAKE2b (RFC 7693, 16 bytes) over the entry's whole stored name, the first 24
bytes of its head and its body: an entry that was copied under another name, into another namespace
or to another model does not verify. It is chosen for what it costs beside a busy thread: an
HMAC-SHA-256 that lets the interpreter go for every entry waits for it again every time.
"""

from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest

__all__ = ["SIGNATURE_BYTES", "Signer", "signer_of"]

SIGNATURE_BYTES = 16
_LONGEST_KEY = 64  # of BLAKE2b
_PERSON = b"nearcache entry"  # the same key used elsewhere signs something else


class Signer:
    """Signs with the first of its keys, and verifies with any of them. Thread-safe."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._blanks = [
            blake2b(key=_fitted(key), digest_size=SIGNATURE_BYTES, person=_PERSON) for key in keys
        ]

    def sign(self, name: bytes, head: bytes | memoryview, body: bytes | memoryview) -> bytes:
        """Return the signature of an entry: ``head`` is its first 24 bytes, ``body`` the rest."""
        return _signature(self._blanks[0], name, head, body)

    def verifies(
        self,
        signature: bytes | memoryview,
        name: bytes,
        head: bytes | memoryview,
        body: bytes | memoryview,
    ) -> bool:
        """Say whether one of the keys signed this entry under this name."""
        return any(
            compare_digest(signature, _signature(blank, name, head, body)) for blank in self._blanks
        )

    def __reduce__(self) -> str:
        raise TypeError("a signer keeps secrets; make another from the key")


def signer_of(keys: Sequence[bytes] | None) -> Signer | None:
    """Return who signs with these keys; None for nobody."""
    return Signer(keys) if keys else None


def _fitted(key: bytes) -> bytes:
    return key if len(key) <= _LONGEST_KEY else blake2b(key).digest()


def _signature(
    blank: blake2b, name: bytes, head: bytes | memoryview, body: bytes | memoryview
) -> bytes:
    state = blank.copy()
    state.update(len(name).to_bytes(8, "little"))  # or a name's end might be a head's beginning
    state.update(name)
    state.update(head)
    state.update(body)
    return state.digest()
