"""Commands and replies of the Redis store as plain data: no connection, no I/O."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar

from nearcache.entry import MAGIC, VERSION, Mark
from nearcache.stores.base import (
    LOG_LENGTH,
    TOKEN_BYTES,
    Changes,
    Start,
    begins,
    lease_of,
    most_scanned,
)
from nearcache.stores.redis.replies import garbled, listed, page, text, told

__all__ = [
    "Command",
    "Part",
    "Script",
    "board_names",
    "changes_commands",
    "changes_of",
    "claim_arguments",
    "commit_columns",
    "commit_common",
    "epochs_arguments",
    "forget_commands",
    "forget_group_commands",
    "lives_of",
    "logged",
    "may_evict",
    "merged",
    "milliseconds",
    "name_by_name",
    "number",
    "picked",
    "scan_command",
    "scanned",
    "script",
    "size_commands",
    "size_of",
    "slots",
    "touch_arguments",
    "with_mark",
    "with_text",
]

Command = tuple[bytes | str, ...]
Part = Sequence[int]
"""Positions, in order, of those names of a call that one command may have."""

T = TypeVar("T")

_FORMAT = MAGIC + bytes((VERSION,))
_LEASE = lease_of(b"")
_SPECIAL = re.compile(rb"[*?\[\]\\]")  # in the server's patterns
_KEYS_OF_DATABASE = re.compile(rb"^db\d+:keys=(\d+)", re.MULTILINE)
_TRIM: Command = ("MAXLEN", "~", b"%d" % LOG_LENGTH)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script: its text, and the name the server knows it by."""

    text: bytes
    sha: str

    def call(self, keys: Sequence[bytes], *arguments: bytes | str) -> Command:
        """Return the call by name; the server may not know it yet."""
        return ("EVALSHA", self.sha, number(len(keys)), *keys, *arguments)


_TEXTS: dict[str, bytes] = {}


@cache
def script(name: str) -> Script:
    """Return the script ``scripts/<name>.lua``."""
    text = files("nearcache.stores.redis").joinpath("scripts", f"{name}.lua").read_bytes()
    found = Script(text, sha1(text, usedforsecurity=False).hexdigest())
    _TEXTS[found.sha] = text
    return found


def with_text(command: Command) -> Command:
    """Return the same call of a script with its text, after which the server knows it."""
    if command[0] != "EVALSHA":
        return command
    return ("EVAL", _TEXTS[str(command[1])], *command[2:])


def board_names(board: bytes) -> list[bytes]:
    """Return the keys of a board: what is said, and when that ends. They lie in one slot."""
    return [board, board + b":ends"]


def name_by_name(command: Command) -> list[Command]:
    """Return commands that do the same for one name each; none where names belong together."""
    if command[0] in ("MGET", "DEL"):
        names = command[1:]
        return [(command[0], name) for name in names] if len(names) > 1 else []
    heads = script("heads")
    if command[1] not in (heads.sha, heads.text):
        return []
    names, groups = command[3:-1], int(command[-1])
    if len(names) < 2:
        return []
    return [heads.call([bytes(n)], number(int(i < groups))) for i, n in enumerate(names)]  # type: ignore[arg-type]


def picked(column: Sequence[T], part: Part) -> Sequence[T]:
    """Return what stands at the positions of a part."""
    return column if len(part) == len(column) else [column[i] for i in part]


def merged(parts: Sequence[Part], replies: Sequence[list[Any]], count: int) -> list[Any]:
    """Return the replies for all parts in one list, each at its position."""
    if len(parts) == 1:
        return listed(replies[0], count)
    together = [None] * count
    for part, reply in zip(parts, replies, strict=True):
        for position, answer in zip(part, listed(reply, len(part)), strict=True):
            together[position] = answer
    return together


def slots(keys: Sequence[bytes]) -> list[bytes]:
    """Return each key followed by its lease, which lies in the same cluster slot."""
    return [name for key in keys for name in (key, key + b":lease")]


def number(count: int) -> bytes:
    """Return a number as it is sent.

    hiredis writes numbers by their ``repr``; Ctrl-C that comes there ends the interpreter.
    """
    return b"%d" % count


def milliseconds(seconds: float | None) -> bytes:
    """Return a life as the server counts it, at least 1; 0 for no limit."""
    return number(0 if seconds is None else max(1, math.ceil(seconds * 1000)))


def lives_of(seconds: Sequence[float | None]) -> list[bytes]:
    """Return lives in milliseconds."""
    return [milliseconds(life) for life in seconds]


def with_mark(mark: Mark) -> tuple[bytes, ...]:
    """Return the arguments by which a script knows a valid entry."""
    return (mark.format, number(mark.kind), mark.size_bytes, mark.stamp)


def claim_arguments(token: bytes, seconds: float) -> tuple[bytes, ...]:
    """Return what all keys of ``claim`` have in common."""
    return (token, milliseconds(seconds), _FORMAT)


def commit_common(token: bytes, token_seconds: float) -> tuple[bytes, ...]:
    """Return what all keys of ``commit`` have in common."""
    return (token, milliseconds(token_seconds or None))


def commit_columns(
    values: Sequence[bytes], seconds: Sequence[float | None], expected: Sequence[bytes]
) -> tuple[Sequence[bytes], ...]:
    """Return what each key of ``commit`` has for itself."""
    return (values, lives_of(seconds), expected)


def touch_arguments(seconds: float) -> tuple[bytes, ...]:
    """Return the arguments of ``touch``."""
    return (milliseconds(seconds), milliseconds(0.9 * seconds))


# A scan with leases is two in a row, since a load that ends moves from one name to the other:
# first all leases, then all values. What was being loaded at first, is found as one or the other.
# A cursor is twice the server's, and odd among the values.


def _among_values(cursor: int, *, leases: bool) -> bool:
    return bool(cursor & 1 or not leases)


def scan_command(start: Start, cursor: int, count: int, *, leases: bool) -> Command:
    """Return one step of a scan."""
    space, middle = (_SPECIAL.sub(rb"\\\g<0>", part) for part in start)
    end = b"*" if _among_values(cursor, leases=leases) else b"*" + _LEASE
    pattern = space + b"??" + middle + end
    return ("SCAN", number(cursor >> 1), "MATCH", pattern, "COUNT", number(most_scanned(count)))


def scanned(
    start: Start,
    cursor: int,
    reply: object,
    *,
    leases: bool,
) -> tuple[int, list[bytes]]:
    """Read the reply to :func:`scan_command`: the next cursor, and the names of values."""
    following, names = page(reply)
    if _among_values(cursor, leases=leases):
        following = following << 1 | 1 if following else 0
    else:
        following = following << 1 if following else 1
        names = [name.removesuffix(_LEASE) for name in names]
    return following, [name for name in names if begins(name, start)]


def epochs_arguments(count: int, seconds: float | None) -> tuple[tuple[bytes, ...], list[bytes]]:
    """Return lives (given is twice the least one, so that it is seldom prolonged), and tokens."""
    given = None if seconds is None else 2 * seconds
    tokens = [os.urandom(TOKEN_BYTES) for _ in range(count)]
    return (milliseconds(seconds), milliseconds(given)), tokens


def forget_commands(keys: Sequence[bytes]) -> list[Command]:
    """Return: delete leases, so that no load fills in between, then delete and count values."""
    return [("DEL", *slots(keys)[1::2]), ("DEL", *keys)]


def logged(log: bytes, entries: Sequence[bytes]) -> list[Command]:
    """Return the commands that add entries to a log."""
    return [("XADD", log, *_TRIM, "*", "e", entry) for entry in entries]


def forget_group_commands(group: bytes, token: bytes, log: bytes, entry: bytes) -> list[Command]:
    """Return: a new epoch, then log."""
    return [("SET", group, token), *logged(log, [entry])]


def size_commands() -> list[Command]:
    """Return how a server is asked how much it holds."""
    return [("INFO", "keyspace"), ("INFO", "memory")]


def size_of(replies: Sequence[object]) -> tuple[int, int]:
    """Return the number of a server's keys, whatever their database, and its allocated bytes."""
    keyspace, memory = replies
    keys = [int(found) for found in _KEYS_OF_DATABASE.findall(text(keyspace))]
    used = _said(memory).get(b"used_memory", b"")
    if not used.isdigit():
        raise garbled("the memory that is used")
    return sum(keys), int(used)


def _said(info: object) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in text(info).splitlines())
    return {name: value for name, _, value in pairs}


def may_evict(info: object) -> bool:
    """Read ``INFO memory``: whether the server drops values when they are more than it may keep."""
    said = _said(info)
    policy = said.get(b"maxmemory_policy", b"noeviction")
    return said.get(b"maxmemory", b"0") != b"0" and policy != b"noeviction"


def changes_commands(log: bytes, cursor: bytes) -> Command:
    """Return the read of a log: its end, or all since a cursor, the cursor's own entry first."""
    if not cursor:
        return ("XREVRANGE", log, "+", "-", "COUNT", b"1")
    return ("XRANGE", log, cursor, "+", "COUNT", number(LOG_LENGTH + 1))


def changes_of(cursor: bytes, reply: object) -> Changes:
    """Read the reply to :func:`changes_commands`; a log without the cursor's entry has a gap.

    It was trimmed, evicted, flushed or rolled back by a failover: what else it lost, none can say.
    """
    entries = told(reply)
    if not entries:
        return Changes(b"", None)
    last = entries[-1][0]
    if not cursor:
        return Changes(last, [])
    if entries[0][0] != cursor or len(entries) > LOG_LENGTH:
        return Changes(b"", None)
    return Changes(last, [entry for _, entry in entries[1:]])
