"""Replies of a server, checked: what is no reply of Redis is a StoreUnavailable, never a surprise.

Whoever answers may be another program, a proxy that lost count, or a server with a defect. Each
function returns its argument in the shape that was asked for, or raises StoreUnavailable. What a
reply holds is in no message: it may be a value.
"""

from collections.abc import Sequence
from types import NoneType
from typing import Any

from nearcache.errors import StoreUnavailable

__all__ = [
    "Found",
    "answers",
    "garbled",
    "listed",
    "one_found",
    "page",
    "pairs",
    "text",
    "time_of",
    "tokens",
    "told",
    "values_of",
    "whole",
]

Found = list[bytes | None]

_FOUND: set[type] = {bytes, NoneType}
_TOKENS: set[type] = {bytes}
_ANSWERS: set[type] = {bytes, int}


def garbled(wanted: str = "what was asked for") -> StoreUnavailable:
    """Return the error for a reply that is none."""
    return StoreUnavailable(
        f"the server's answer is not {wanted}: is it Redis or Valkey, and nothing in between?"
    )


def listed(reply: object, count: int | None = None) -> list[Any]:
    """Check a list, of so many items."""
    if not isinstance(reply, list) or (count is not None and len(reply) != count):
        raise garbled("a list of as many items as were asked for")
    return reply


def _of(reply: object, kinds: set[type], wanted: str, count: int | None = None) -> list[Any]:
    items = listed(reply, count)
    if not set(map(type, items)) <= kinds:
        raise garbled(wanted)
    return items


def values_of(reply: object) -> Found:
    """Check what MGET, or the script ``heads``, says: values, or None for there is none."""
    return _of(reply, _FOUND, "values")


def one_found(reply: object) -> bytes | None:
    """Check what GET says."""
    if reply is not None and type(reply) is not bytes:
        raise garbled("a value")
    return reply


def tokens(reply: object) -> list[bytes]:
    """Check what the scripts ``epochs`` and ``expect`` say."""
    return _of(reply, _TOKENS, "tokens")


def answers(reply: object) -> list[bool | bytes]:
    """Return what other scripts say for each key; 1 and 0 are True and False."""
    said = _of(reply, _ANSWERS, "answers")
    return [answer if type(answer) is bytes else bool(answer) for answer in said]


def whole(reply: object) -> int:
    """Check a number."""
    if type(reply) is not int:
        raise garbled("a number")
    return reply


def pairs(reply: object) -> dict[bytes, bytes]:
    """Return the names and values that the script ``reports`` says, one after the other."""
    said = _of(reply, _TOKENS, "what is on a board")
    if len(said) % 2:
        raise garbled("what is on a board")
    return dict(zip(said[::2], said[1::2], strict=True))


def text(reply: object) -> bytes:
    """Check a text, as of INFO."""
    if type(reply) is not bytes:
        raise garbled("a text")
    return reply


def time_of(reply: object) -> float:
    """Return the seconds that TIME says."""
    seconds, microseconds = _of(reply, _TOKENS, "the time", 2)
    if not (seconds.isdigit() and microseconds.isdigit() and len(seconds + microseconds) < 32):
        raise garbled("the time")
    return int(seconds) + int(microseconds) / 1e6


def page(reply: object) -> tuple[int, list[bytes]]:
    """Return the cursor and the names that SCAN says."""
    cursor, names = listed(reply, 2)
    if type(cursor) is not bytes or not cursor.isdigit() or len(cursor) > 20:
        raise garbled("a page of names")
    return int(cursor), _of(names, _TOKENS, "a page of names")


def told(reply: object) -> Sequence[tuple[bytes, bytes]]:
    """Return the places and entries that XRANGE says."""
    pairs: list[tuple[bytes, bytes]] = []
    for one in _of(reply, {list}, "a log"):
        if len(one) != 2 or type(one[0]) is not bytes:
            raise garbled("a log")
        fields = _of(one[1], _TOKENS, "a log")
        if len(fields) < 2:
            raise garbled("a log")
        pairs.append((one[0], fields[1]))
    return pairs
