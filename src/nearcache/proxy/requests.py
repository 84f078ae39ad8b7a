"""A request for embeddings, read: its inputs one by one, and what else decides their vectors.

Whatever is not plainly such a request is not read at all. It is passed on, and the provider says
what it thinks of it.
"""

import json
from dataclasses import dataclass
from typing import Any

from msgspec import MsgspecError, Raw
from msgspec.json import Decoder, encode

__all__ = ["MOST_INPUTS", "Call", "read_call"]

MOST_INPUTS = 2048
"""What OpenAI takes in one list; more is passed on."""

_FIELDS = Decoder(dict[str, Raw])
_TEXT, _TEXTS = Decoder(str), Decoder(list[str])
_TOKENS, _TOKEN_LISTS = Decoder(list[int]), Decoder(list[list[int]])
_TEXTS_OF = ("model", "user", "encoding_format")
_TOGETHER = "late_chunking"  # makes a vector depend on the other inputs of its request (Jina's)
_LONG = 4096  # bytes of an input beyond which reading it twice takes time


@dataclass(frozen=True, slots=True)
class Call:
    """What one request asks for.

    inputs: the bytes that each input is, of a text its UTF-8.
    tokens: whether the inputs are lists of token ids.
    base64: whether vectors come as base64, or as decimals.
    model: as the caller names it; may be empty, where the path names one.
    parts: what decides a vector beside the input, in an order of our own.
    opening: what a request to the provider begins with, up to its inputs.
    """

    inputs: list[bytes]
    tokens: bool
    base64: bool
    model: str
    parts: tuple[bytes, ...]
    opening: bytes

    def written(self, each: bytes) -> bytes:
        """Return an input as JSON."""
        return b"[" + each + b"]" if self.tokens else encode(each.decode())


def read_call(body: bytes) -> Call | None:
    """Return what a body asks for; None where it is to be passed on as it is."""
    try:
        written = _FIELDS.decode(body).get("input")
        found = None if written is None else _inputs(bytes(written))
        return None if found is None else _call(_others(body, bytes(written or b"")), *found)
    except (ValueError, MsgspecError, RecursionError):  # of older versions it is no ValueError
        return None


def _others(body: bytes, written: bytes) -> dict[str, Any]:
    """Return the fields of a body but for its input, which is long and has been read.

    Raises: ValueError for a name that stands twice: the provider may read the other one.
    """
    alone = len(written) > _LONG and body.count(written) == 1
    fields: dict[str, Any] = _load(body.replace(written, b"0") if alone else body)
    del fields["input"]
    return fields


def _load(text: bytes) -> Any:
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _inputs(given: bytes) -> tuple[list[bytes], bool] | None:
    """Return the inputs, and whether they are token ids; None for what is empty or too many."""
    start = given[:1]
    if start == b'"':
        inputs, tokens = [_TEXT.decode(given).encode()], False
    elif start != b"[":
        return None
    else:
        start = given[1:].lstrip()[:1]
        tokens = start != b'"'
        if not tokens:
            inputs = [text.encode() for text in _TEXTS.decode(given)]
        elif start == b"[":
            inputs = [_written_ids(ids) for ids in _TOKEN_LISTS.decode(given)]
        else:
            ids = _TOKENS.decode(given)
            inputs = [_written_ids(ids)] if len(ids) <= MOST_INPUTS else []
    if not 0 < len(inputs) <= MOST_INPUTS or not all(inputs):
        return None
    return inputs, tokens


def _written_ids(ids: list[int]) -> bytes:
    return ",".join(map(str, ids)).encode()


def _call(fields: dict[str, Any], inputs: list[bytes], tokens: bool) -> Call | None:
    dimensions = fields.get("dimensions", 1)
    encoding = fields.get("encoding_format", "float")
    if (
        not all(fields.get(name, "-") and type(fields.get(name, "-")) is str for name in _TEXTS_OF)
        or type(dimensions) is not int
        or dimensions < 1
        or encoding not in ("float", "base64")
        or fields.get(_TOGETHER)
    ):
        return None
    kept = {name: _canonical(value) for name, value in sorted(fields.items())}
    deciding = [
        part
        for name, value in kept.items()
        if name not in ("user", "encoding_format")
        for part in (name.encode(), value)
    ]
    written = b"".join(encode(name) + b":" + value + b"," for name, value in kept.items())
    return Call(
        inputs=inputs,
        tokens=tokens,
        base64=encoding == "base64",
        model=fields.get("model", ""),
        parts=(b"tokens" if tokens else b"text", encoding.encode(), *deciding),
        opening=b"{" + written + b'"input":[',
    )


def _canonical(value: Any) -> bytes:
    """Return JSON as everybody would write it who means the same."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")
    ).encode()
