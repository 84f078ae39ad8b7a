"""MessagePack by the package ``msgpack``, for what survives it.

It tells bytes from str, and keys of dicts may be any of str, bytes, int, float, bool and None.
Tuples come back as lists, bytearrays as bytes, and subclasses as what they extend. Its extension
types, timestamps among them, are refused.
"""

from typing import Any

from nearcache.codecs.base import ATOMS, check_keys
from nearcache.errors import CodecError, ConfigError

__all__ = ["MsgpackCodec"]

_KEYS = (str, bytes, int, float, type(None))
_EXTENSION = b"\xff"  # the byte that every timestamp has, and few other values


class MsgpackCodec:
    """MessagePack: what JSON holds, bytes, and keys that are no strings; integers of 64 bits.

    Raises: ConfigError when the package is missing.
    """

    name = "msgpack"
    kind = 17

    def __init__(self) -> None:
        try:
            import msgpack
        except ImportError as error:
            msg = "codec='msgpack' needs a package: pip install 'nearcache[msgpack]'"
            raise ConfigError(msg) from error
        self._pack = msgpack.packb
        self._unpack = msgpack.unpackb
        self._malformed = msgpack.UnpackException
        self._refused = (msgpack.ExtType, msgpack.Timestamp)

    def encode(self, value: Any) -> bytes:
        try:
            data: bytes = self._pack(value, unicode_errors="surrogatepass")
            if type(value) not in ATOMS:
                check_keys(value, _KEYS, self._refuses)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise CodecError(f"msgpack cannot keep this value: {error}") from error
        return data

    def decode(self, data: bytes | memoryview) -> Any:
        try:
            value = self._unpack(
                data, strict_map_key=False, unicode_errors="surrogatepass", ext_hook=_no_extension
            )
            # timestamps do not pass by the hook
            if _EXTENSION in bytes(data):
                check_keys(value, (object,), self._refuses)
        except (TypeError, ValueError, RecursionError, self._malformed) as error:
            raise CodecError("these bytes are no MessagePack") from error
        return value

    def shares(self, value: Any) -> bool:
        return type(value) in ATOMS

    def _refuses(self, value: Any) -> bool:
        return isinstance(value, self._refused)


def _no_extension(code: int, _: bytes) -> Any:
    raise TypeError(f"it holds the extension type {code}")
