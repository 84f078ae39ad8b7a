"""JSON by the standard library, for what survives it.

Tuples come back as lists, and subclasses of str, int, float, list and dict as these. Infinity and
NaN are written as Python does. A dict whose keys are no strings is refused: JSON would change them.
"""

import json
from typing import Any

from nearcache.codecs.base import ATOMS, check_keys
from nearcache.errors import CodecError

__all__ = ["JsonCodec"]

# As UTF-8 texts are smaller and faster read than escaped, and two lone surrogates side by side
# stay two: escaped, they would come back as one character.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode  # json.loads without its look at encodings and blanks
_SHARED = ATOMS - {bytes}


class JsonCodec:
    """JSON: null, booleans, numbers, strings, lists, and dicts with string keys."""

    name = "json"
    kind = 16

    def encode(self, value: Any) -> bytes:
        try:
            data = _encode(value).encode("utf-8", "surrogatepass")
            if type(value) not in ATOMS:
                check_keys(value, (str,), None)
        except RecursionError as error:
            raise CodecError("json cannot keep this value: it is nested too deeply") from error
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise CodecError(f"json cannot keep this value: {error}") from error
        return data

    def decode(self, data: bytes | memoryview) -> Any:
        try:
            text = str(data, "utf-8", "surrogatepass")
            value, end = _decode(text)
        except (ValueError, RecursionError) as error:
            raise CodecError("these bytes are no JSON") from error
        if end != len(text):
            raise CodecError("these bytes are more than JSON")
        return value

    def shares(self, value: Any) -> bool:
        return type(value) in _SHARED
