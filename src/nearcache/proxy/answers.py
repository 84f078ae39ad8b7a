"""Answers with embeddings: the provider's, read with care, and ours, written fast."""

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec import MsgspecError, Raw, Struct
from msgspec.json import Decoder, encode
from numpy.typing import NDArray

from nearcache.proxy.headers import Headers
from nearcache.proxy.requests import MOST_INPUTS

__all__ = ["Answer", "Unusable", "Usage", "error_body", "read_answer", "write_answer"]


class Unusable(Exception):
    """The provider's answer is none that could be cut into vectors and kept."""


class Usage(NamedTuple):
    """Tokens that were spent."""

    prompt: int = 0
    total: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum."""
        return Usage(self.prompt + other.prompt, self.total + other.total)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered: the JSON of each vector, in the order of the inputs."""

    vectors: list[bytes]
    model: str
    usage: Usage
    headers: Headers


class _Body(Struct):
    data: list[dict[str, Raw]]
    model: str | None = None
    usage: Raw = Raw(b"null")


class _Tokens(Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


_BODY, _TOKENS, _ANY = Decoder(_Body), Decoder(_Tokens), Decoder()
_NULL = Raw(b"null")
_TEXT, _NUMBERS, _INDEX = Decoder(str), Decoder(list[float]), Decoder(int | None)
_NOT_KEPT = frozenset(("embedding", "index", "object"))
_SPACE = b" \t\r\n"


def read_answer(body: bytes, count: int, *, base64: bool, headers: Headers) -> Answer:
    """Return what the provider answered to ``count`` inputs.

    Raises: Unusable for a wrong count, an index that is missing or given twice, vectors of
        different lengths, a component that is no finite number.
    """
    try:
        found = _BODY.decode(body)
        items = _in_order(found.data, count)
        as_written = _base64 if base64 else _decimals
        read = [as_written(bytes(item["embedding"])) for item in items]
        vectors = [vector + _others(item) for (vector, _), item in zip(read, items, strict=True)]
    except KeyError:
        raise Unusable("an item without an embedding") from None
    except (ValueError, MsgspecError, RecursionError) as error:
        raise Unusable(str(error)) from None
    if len({length for _, length in read}) != 1:
        raise Unusable("vectors of different lengths")
    return Answer(vectors, found.model or "", _usage(found.usage), headers)


def _in_order(items: list[dict[str, Raw]], count: int) -> list[dict[str, Raw]]:
    if len(items) != count:
        raise Unusable(f"{len(items)} vectors for {count} inputs")
    places = {_INDEX.decode(item.get("index", _NULL)): item for item in items}
    if places.keys() == {None}:
        return items
    if places.keys() != set(range(count)):
        raise Unusable("its indexes are not those of the inputs")
    return [places[index] for index in range(count)]


def _others(item: dict[str, Raw]) -> bytes:
    """Return what an item has beside its vector, as it follows that in an answer of ours."""
    if item.keys() <= _NOT_KEPT:
        return b""
    kept = [(name, value) for name, value in item.items() if name not in _NOT_KEPT]
    return b"".join(b"," + encode(name) + b":" + encode(_ANY.decode(value)) for name, value in kept)


def _base64(written: bytes) -> tuple[bytes, int]:
    """Return base64 of little-endian float32 as JSON, and how many there are.

    A provider that knows no base64 answers with decimals: they are rounded to float32 once.
    """
    if written[:1] == b'"':
        row = np.frombuffer(a2b_base64(_TEXT.decode(written), strict_mode=True), "<f4")
    else:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            row = np.array(_NUMBERS.decode(written), "<f4")
    _check(row)
    return b'"' + b2a_base64(row.tobytes(), newline=False) + b'"', len(row)


def _decimals(written: bytes) -> tuple[bytes, int]:
    """Return decimals digit by digit as they came, without white space, and their number."""
    row = np.array(_NUMBERS.decode(written), np.float64)
    _check(row)
    return written.translate(None, _SPACE), len(row)


def _check(row: NDArray[np.floating]) -> None:
    if not len(row):
        raise Unusable("an empty vector")
    if not np.isfinite(row).all():
        raise Unusable("NaN, or an infinite component")


def _usage(written: Raw) -> Usage:
    try:
        tokens = _TOKENS.decode(written)
    except (ValueError, MsgspecError):  # null, or a provider's own idea
        return Usage()
    prompt = max(0, tokens.prompt_tokens or 0)
    return Usage(prompt, max(0, tokens.total_tokens or prompt))


_ITEM = [b'{"object":"embedding","index":%d,"embedding":' % index for index in range(MOST_INPUTS)]
_NEXT = [b"}," + item for item in _ITEM]


def write_answer(vectors: Sequence[bytes], model: str, usage: Usage) -> list[bytes]:
    """Return the body of an answer in parts; those that are long are the vectors themselves."""
    parts = [b'{"object":"list","data":[', _ITEM[0], vectors[0]]
    for item, vector in zip(_NEXT[1 : len(vectors)], vectors[1:], strict=True):
        parts += (item, vector)
    parts.append(
        b'}],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
        % (encode(model), usage.prompt, usage.total)
    )
    return parts


def error_body(message: str, kind: str, code: str | None = None) -> bytes:
    """Return an error in OpenAI's form."""
    return encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
