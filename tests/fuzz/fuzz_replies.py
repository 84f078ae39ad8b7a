"""Replies of a Redis server: whatever bytes it sends, a method returns what it says, or StoreError.

A connection without a server: what is sent goes nowhere, and then the input is what comes back.

Announcements of very long lists are left out: hiredis makes room for all of it at once, gigabytes
or not, which is between it and a hostile server.
"""

import re
import socket
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fuzz.harness import Choices
from nearcache.entry import Mark
from nearcache.errors import StoreError
from nearcache.stores.base import Changes, Fetched
from nearcache.stores.redis.store import RedisStore

__all__ = ["SEEDS", "Replies", "one", "store_of"]

_KEYS = [b"nc1:{app:00}:k:sa.", b"nc1:{app:01}:k:sb."]
_GROUPS = [b"nc1:{app}:e:*", b"nc1:{app}:e:tag"]
_LOG = b"nc1:{app}:log"
_TOKEN = b"t" * 16
_START = (b"nc1:{app:", b"}:k:")
_MARK = Mark(16, None, b"version1")
_TOO_LONG = re.compile(rb"([*%~>|][+-]?\d{4})\d+")
_V = b"nC\x01\x10" + bytes(40)


class Replies(redis.Connection):
    """A connection that answers each sending with the next of ``replies``, and then hangs up."""

    replies: list[bytes] = []  # noqa: RUF012  set before each use

    def _connect(self) -> socket.socket:
        ours, self.theirs = socket.socketpair()
        ours.settimeout(1.0)
        self.left = [_TOO_LONG.sub(rb"\g<1>", reply) for reply in self.replies]
        return ours

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._sock is None:
            self.connect()
        part = self.left.pop(0) if self.left else b""
        self.theirs.sendall(part)
        if not self.left:
            self.theirs.shutdown(socket.SHUT_WR)

    def disconnect(self, *arguments: Any, **more: Any) -> None:
        super().disconnect(*arguments, **more)
        theirs = getattr(self, "theirs", None)
        if theirs is not None:
            theirs.close()


def store_of(replies: list[bytes]) -> tuple[RedisStore, redis.ConnectionPool]:
    """A store that is answered with these, and where its connections are."""
    pool = redis.ConnectionPool(
        connection_class=type("Replies", (Replies,), {"replies": replies}),
        host="nowhere",
        protocol=2,
        driver_info=None,
        retry=Retry(NoBackoff(), 0),
    )
    return RedisStore(redis.Redis(connection_pool=pool), timeout=1.0), pool


def _bulk(*parts: bytes | int | None) -> bytes:
    said = [
        b"$-1\r\n"
        if part is None
        else b":%d\r\n" % part
        if isinstance(part, int)
        else b"$%d\r\n%b\r\n" % (len(part), part)
        for part in parts
    ]
    return b"*%d\r\n" % len(parts) + b"".join(said)


_TIME = _bulk(b"1700000000", b"123456")
_ENTRY = b"*2\r\n$3\r\n1-0\r\n"


def _is_fetched(found: Any, keys: int = 2) -> bool:
    return (
        isinstance(found, Fetched)
        and len(found.values) == keys
        and len(found.epochs) == 2
        and all(value is None or type(value) is bytes for value in found.values)
        and all(type(epoch) is bytes for epoch in found.epochs)
        and isinstance(found.now, float)
    )


def _are_answers(found: Any) -> bool:
    return len(found) == 2 and all(type(answer) in (bool, bytes) for answer in found)


def _are_bytes(found: Any) -> bool:
    return len(found) == 2 and all(type(token) is bytes for token in found)


def _is_none(found: Any) -> bool:
    return found is None


def _is_number(found: Any) -> bool:
    return type(found) is int


def _is_time(found: Any) -> bool:
    return type(found) is float


def _is_flag(found: Any) -> bool:
    return type(found) is bool


def _are_changes(found: Any) -> bool:
    return (
        isinstance(found, Changes)
        and type(found.cursor) is bytes
        and (found.entries is None or all(type(entry) is bytes for entry in found.entries))
    )


def _is_page(found: Any) -> bool:
    following, names = found
    return type(following) is int and all(type(name) is bytes for name in names)


def _is_put(found: Any) -> bool:
    return found is None or _are_bytes(found)


def _is_commit(found: Any) -> bool:
    return _are_answers(found[0]) and _are_bytes(found[1])


# what is asked, what it must return, and what a server says to it
_ACTS = (
    (lambda s: s.fetch(_KEYS, _GROUPS), _is_fetched, _TIME + _bulk(b"e", b"f", _V, None)),
    (lambda s: s.look(_KEYS, _GROUPS), _is_fetched, _TIME + _bulk(b"e", None, _V, None)),
    (lambda s: s.heads(_KEYS, _GROUPS), _is_fetched, _TIME + _bulk(b"e", None, _V[:24], None)),
    (lambda s: s.epochs(_GROUPS, 60.0), _are_bytes, _bulk(b"e" * 16, b"f" * 16)),
    (lambda s: s.changes(_LOG, b""), _are_changes, b"*1\r\n" + _ENTRY + _bulk(b"e", b"x")),
    (
        lambda s: s.changes(_LOG, b"1-0"),
        _are_changes,
        b"*2\r\n" + _ENTRY + _bulk(b"e", b"") + _ENTRY + _bulk(b"e", b"x"),
    ),
    (lambda s: s.now(), _is_time, _TIME),
    (lambda s: s.least_now(), _is_time, _TIME),
    (lambda s: s.lease(_KEYS, _TOKEN, 2.0, _MARK), _are_answers, _bulk(1, _V)),
    (lambda s: s.claim(_KEYS, [b"", b""], _TOKEN, 2.0), _are_answers, _bulk(0, _V)),
    (lambda s: s.renew(_KEYS, _TOKEN, 2.0), _is_none, b":1\r\n"),
    (lambda s: s.release(_KEYS, _TOKEN), _is_none, b"-NOSCRIPT No\r\n:1\r\n"),
    (lambda s: s.fill(_KEYS, [_V, _V], _TOKEN, _MARK, None), _are_answers, _bulk(1, 0)),
    (lambda s: s.expect(_KEYS, _TOKEN, 2.0), _are_bytes, _bulk(b"version1", _TOKEN)),
    (lambda s: s.commit(_KEYS, [_V, _V], [_TOKEN, _TOKEN], 9.0, _LOG), _are_answers, _bulk(1, b"")),
    (
        lambda s: s.commit_and_look(
            _KEYS, [_V, _V], [_TOKEN, _TOKEN], 9.0, _LOG, _TOKEN, 1.0, _GROUPS
        ),
        _is_commit,
        _bulk(1, b"version1") + _bulk(b"e", None),
    ),
    (
        lambda s: s.put(_KEYS, [_V, _V], 9.0, _LOG, 2e9, _GROUPS),
        _is_put,
        b":1\r\n" + _bulk(b"e", None),
    ),
    (lambda s: s.revoke(_KEYS, _LOG), _is_number, b":2\r\n"),
    (lambda s: s.bump(_GROUPS[0], _TOKEN, _LOG), _is_none, b"+OK\r\n"),
    (lambda s: s.touch(_KEYS, 9.0), _is_none, b":1\r\n"),
    (lambda s: s.scan(_START, 0, 9), _is_page, b"*2\r\n$1\r\n7\r\n" + _bulk(*_KEYS)),
    (lambda s: s.write(_KEYS, [_V, _V], None, _LOG, [b"x", b"y"]), _is_none, b":1\r\n"),
    (lambda s: s.forget(_KEYS, _LOG, [b"x"]), _is_number, b":0\r\n:2\r\n$3\r\n1-0\r\n"),
    (lambda s: s.forget_group(_GROUPS[0], _LOG, b"x"), _is_none, b"+OK\r\n$3\r\n1-0\r\n"),
    (lambda s: s.drop_corrupt(_KEYS, [_V, _V]), _is_none, b":1\r\n"),
    (
        lambda s: s.may_evict(),
        _is_flag,
        b"$48\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\nx:12345\r\n",
    ),
)  # fmt: skip

SEEDS = [
    *(bytes((number,)) + reply for number, (_, _, reply) in enumerate(_ACTS)),
    *(bytes((number,)) + b"-ERR no\r\n" for number in range(len(_ACTS))),
    *(bytes((number,)) + b":1\r\n:1\r\n:1\r\n" for number in range(len(_ACTS))),
    *(bytes((number,)) + b"$-1\r\n*-1\r\n*0\r\n" for number in range(len(_ACTS))),
    *(bytes((number,)) + b"*2\r\n*1\r\n+a\r\n$1\r\nx\r\n" * 3 for number in range(len(_ACTS))),
    b"\x00" + _TIME + b"*10000\r\n",
    b"\x00$999999999999\r\n",
    b"\x06" + _bulk(b"9" * 5000, b"1"),
    b"\x06" + _bulk(b"nan", b"x"),
    b"\x02-NOSCRIPT No\r\n",
    b"\x02-READONLY You can't write\r\n",
    b"\x02-OOM command not allowed\r\n",
    b"\x02-MOVED 1 127.0.0.1:1\r\n",
    b"\x02-LOADING\r\n",
    b"\x02>0\r\n",
    b"\x00%1\r\n+a\r\n+b\r\n~1\r\n+a\r\n",
]


def one(data: bytes) -> None:
    choices = Choices(data)
    ask, is_right, _ = _ACTS[choices.number(len(_ACTS))]
    store, pool = store_of([choices.rest()])
    try:
        found = ask(store)
    except StoreError:
        return
    finally:
        pool.disconnect()
    assert is_right(found), found
