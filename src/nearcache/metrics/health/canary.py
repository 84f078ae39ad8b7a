"""A canary: a value of our own that is written, read, heard of, and taken away again.

It lives in the view "doctor" of the namespace, so a user who may touch that namespace alone may
write it; whatever happens, it ends within a minute.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from nearcache.caches.stored import space_of
from nearcache.codecs.values import encode_value
from nearcache.entry import Mark
from nearcache.errors import StoreCannotTell, StoreError, StoreReadOnly, StoreTimeout
from nearcache.keys import KeySpace, ValueKeys
from nearcache.metrics.health.check import Check
from nearcache.stores.base import TAKEN, TOKEN_BYTES, Changed, Store, Stream

__all__ = ["canary"]

_LIFE = 60.0  # seconds
_PATIENCE = 2.0
_COMMAND = re.compile(r"run the '?([\w|]+)'? command")


def canary(store: Store, namespace: str | None) -> Iterator[Check]:
    """Say whether the store takes a value, gives it back, and tells who listens."""
    space = space_of(namespace or "doctor", ("doctor",))
    keys = ValueKeys(space)
    name = keys.name(os.urandom(8).hex())
    value = encode_value(
        16,
        b'"canary"',
        name=name,
        version=os.urandom(8),
        expiry=store.now() + _LIFE,
        dead_at=store.now() + _LIFE,
        everything=os.urandom(TOKEN_BYTES),
        groups=(),
    )
    stream = store.stream()
    try:
        deaf = _listen(stream, space)
        refused: list[str] = []
        try:
            yield from _written(store, space, name, value, refused)
            yield deaf if deaf is not None else _heard(stream, name, told=not refused)
        finally:
            _clean(store, name, value, space.log, refused)
        if refused:
            yield _denied(refused, namespace)
        else:
            yield Check("permissions", "ok", "every command and key that a cache needs")
    finally:
        stream.close()


def _listen(stream: Stream, space: KeySpace) -> Check | None:
    """Begin to hear; return the check if that is not possible."""
    effect = "Other processes' changes are noticed after link_timeout seconds only, not at once. "
    try:
        stream.open([f"nc1:{{{space.name}".encode()], _PATIENCE)
    except StoreCannotTell as error:
        cure = effect + _cure_of_silence(str(error))
        return Check("tracking", "fail", str(error), cure)
    except StoreReadOnly:
        return Check(
            "tracking", "warn", "not tried: nothing can be written here", "See the line above."
        )
    except StoreError as error:
        cure = effect + _cure_of_silence(str(error))
        if isinstance(error, StoreTimeout):
            cure = effect + "Something between here and the server keeps back what it pushes."
        return Check("tracking", "fail", str(error), cure)
    return None


def _cure_of_silence(text: str) -> str:
    """Return what to do about a server that does not tell what changes."""
    if "permission" in text.lower():
        return "Allow this user +client|tracking and +ping, on its own keys (docs/operations.md)."
    if "unknown" in text.lower():
        return "Do not rename or disable CLIENT on the server, and use Redis 6, Valkey, or newer."
    return "Take away what is between here and the server and does not pass on what it pushes."


def _written(
    store: Store, space: KeySpace, name: bytes, value: bytes, refused: list[str]
) -> Iterator[Check]:
    def put() -> None:
        store.put([name], [value], _LIFE, space.log, store.now() + max(1.0, store.patience()), [])

    try:
        written = _allowed(put, refused)
        found = store.look([name], []).values[0] if written else None
    except StoreReadOnly as error:
        cure = "Name the primary, make room, or give this user the right to write."
        yield Check("canary", "fail", str(error), cure)
        return
    if not written:
        yield Check("canary", "warn", "not written: this user may not", "See permissions.")
    elif found != value:
        cure = "Something rewrites values: look for a proxy, or a server that evicts at once."
        yield Check("canary", "fail", "a value that was written did not come back", cure)
    else:
        yield Check("canary", "ok", "a value was written and came back")
    token = os.urandom(TOKEN_BYTES)
    lease = name[:-1] + b"2."

    def load() -> None:
        mark = Mark(value[3], None, value[16:24])
        if store.lease([lease], token, 1.0, mark) == [TAKEN]:
            store.release([lease], token)

    steps: list[Callable[[], object]] = [
        load,
        lambda: store.scan((f"nc1:{{{space.name}:".encode(), b"}:"), 0, 1),
        lambda: store.changes(space.log, b""),
    ]
    for step in steps:
        _allowed(step, refused)


def _heard(stream: Stream, name: bytes, *, told: bool) -> Check:
    """Wait until the stream tells that the canary was written."""
    if not told:
        return Check("tracking", "ok", "the server tells of changes")
    end = time.monotonic() + _PATIENCE
    began = time.perf_counter()
    try:
        stream.ping()
        while time.monotonic() < end:
            for message in stream.read(max(0.0, end - time.monotonic())):
                if isinstance(message, Changed) and name in message.names:
                    took = 1000 * (time.perf_counter() - began)
                    return Check("tracking", "ok", f"a change was heard of within {took:.1f} ms")
    except StoreError as error:
        cure = "Look at what is between here and the server: it ends connections that wait."
        return Check("tracking", "fail", str(error), cure)
    cure = "Take away what is between here and the server and keeps back what it pushes."
    detail = "a change was not heard of: other processes' changes are noticed late"
    return Check("tracking", "fail", detail, cure)


def _allowed(step: Callable[[], object], refused: list[str]) -> bool:
    """Do something; note what the server does not permit."""
    try:
        step()
    except StoreError as error:
        if "permission" not in str(error).lower():
            raise
        refused.append(str(error))
        return False
    return True


def _denied(refused: list[str], namespace: str | None) -> Check:
    commands = sorted({found[1] for text in refused if (found := _COMMAND.search(text))})
    needs = [f"+{command}" for command in commands]
    if any("key" in text and not _COMMAND.search(text) for text in refused):
        needs.append("~nc1:*" if namespace is None else f"the keys of {namespace!r}: ~nc1:*")
    cure = f"Give this user what it lacks: ACL SETUSER … {' '.join(needs)} (docs/operations.md)."
    return Check("permissions", "fail", refused[0], cure)


def _clean(store: Store, name: bytes, value: bytes, log: bytes, refused: list[str]) -> None:
    try:
        store.drop_corrupt([name], [value])  # "if it is still this one", and without the log
        if not store.address.startswith(("sqlite", "memory")):
            redis: Any = store  # where a log begins when it is looked at
            redis._ask([("DEL", log)], writes=True)
    except StoreError as error:
        if "permission" in str(error).lower():
            refused.append(str(error))
