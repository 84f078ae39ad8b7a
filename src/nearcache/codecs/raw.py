"""Bytes as they are."""

from typing import Any

from nearcache.errors import CodecError

__all__ = ["BytesCodec"]


class BytesCodec:
    """Bytes; a bytearray or memoryview is copied and comes back as bytes."""

    name = "bytes"
    kind = 18

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise CodecError(f"codec='bytes' keeps bytes only, not {type(value).__qualname__}")
        try:
            return bytes(value)
        except ValueError as error:  # a released memoryview
            raise CodecError(f"codec='bytes' cannot keep this value: {error}") from error

    def decode(self, data: bytes | memoryview) -> bytes:
        return bytes(data)

    def shares(self, value: Any) -> bool:
        return type(value) is bytes
