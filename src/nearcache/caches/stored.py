"""What a name in a store, and the bytes under it, say of themselves; nobody's key is needed."""

import base64
import json
import re
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from nearcache.codecs.envelope import decode_rows
from nearcache.codecs.signing import SIGNATURE_BYTES
from nearcache.codecs.values import decode_value
from nearcache.codecs.vectors import by_kind
from nearcache.entry import HEAD, MAGIC, SEALED, SIGNED, VERSION
from nearcache.errors import CodecError, ConfigError, UnknownFormat
from nearcache.keys import Key, KeySpace, ValueKeys

__all__ = [
    "Entry",
    "Name",
    "entry_of",
    "identity_shown",
    "key_of",
    "name_of",
    "readable",
    "shown_key",
    "shown_space",
    "space_of",
    "views_of",
]

_NAME = re.compile(rb"nc1:\{([^{}:]+):([0-9a-f]{2})\}:([vk]):(.*)", re.DOTALL)
_VECTOR = re.compile(r"([\w-]{22}):([0-9a-f]{32})", re.ASCII)
_CODECS = {16: "json", 17: "msgpack", 18: "bytes", 19: "ndarray", 20: "None", 21: "absence"}
_BYTES = "bytes"
_JSON = ("[", "{", '"')
_NO_STRING = (*_JSON, "-")  # a dash would be taken for an option
_FORMAT = MAGIC + bytes((VERSION,))


@dataclass(frozen=True, slots=True)
class Name:
    """A stored name, taken apart.

    kind: "vector" or "value". A vector has the ``identity`` of its model and a ``content_hash``, a
    value its ``key``. ``view`` is the path of the view within the namespace.
    """

    raw: bytes
    namespace: str
    view: tuple[str, ...]
    kind: str
    key: Key | None = None
    identity: str = ""
    content_hash: str = ""

    @property
    def shown(self) -> str:
        """The key as a user wrote it, or the content hash."""
        return self.content_hash if self.key is None else shown_key(self.key)


@dataclass(frozen=True, slots=True)
class Entry:
    """The bytes under a name, as far as they can be read without a key of the user's.

    state: "ok", "corrupt" (it does not verify) or "unknown" (another release or program wrote it).
    codec: "json" …, or the precision of a vector. Units: ``expiry`` and ``dead_at`` are times of
    the store's clock, 0 for never; bytes. ``groups``: (digest, token) of each tag of a value.
    """

    size: int
    state: str
    codec: str = ""
    dimensions: int = 0
    expiry: float = 0.0
    dead_at: float = 0.0
    signed: bool = False
    sealed: bool = False
    stamp: bytes = b""
    everything: bytes = b""
    groups: tuple[tuple[bytes, bytes], ...] = ()
    payload: bytes = b""


def name_of(raw: bytes) -> Name | None:
    """Take a stored name apart; None for one that is no value's."""
    match = _NAME.fullmatch(raw)
    if match is None:
        return None
    root, *parts = match[1].decode("ascii", "replace").split("/")
    namespace = unquote(root, errors="surrogatepass")
    view = tuple(unquote(part, errors="surrogatepass") for part in parts)
    if match[3] == b"v":
        vector = _VECTOR.fullmatch(match[4].decode("ascii", "replace"))
        if vector is None:
            return None
        return Name(raw, namespace, view, "vector", None, vector[1], vector[2])
    try:
        key = ValueKeys(space_of(namespace, view)).key(raw)
    except ConfigError:
        return None
    return None if key is None else Name(raw, namespace, view, "value", key)


def space_of(namespace: str, view: tuple[str, ...] = ()) -> KeySpace:
    """Return the names of a namespace, or of a view of it."""
    space = KeySpace(namespace)
    for part in view:
        space = space.inside(part)
    return space


def views_of(epoch: bytes) -> tuple[str, ...]:
    """Return the namespace, and the path of the view in it, that the name of an epoch is of."""
    space = epoch[5 : epoch.index(b"}")].decode("ascii")
    return tuple(unquote(part, errors="surrogatepass") for part in space.split("/"))


def shown_space(namespace: str, view: tuple[str, ...]) -> str:
    """Return a namespace and the view in it as one line."""
    return " / ".join((namespace, *view))


def shown_key(key: Key) -> str:
    """Return a key as text that :func:`key_of` reads as the same key.

    A str is written as it is, unless it could be taken for something else or cannot be printed:
    then as a JSON string. A tuple is a JSON list, bytes are ``{"bytes": "…"}``, a character each.
    """
    plain = isinstance(key, str) and key == key.strip() and key.isprintable()
    if isinstance(key, str) and plain and not key.startswith(_NO_STRING):
        return key
    return _as_json(key)


def _as_json(key: Key) -> str:
    if isinstance(key, str):
        written = json.dumps(key, ensure_ascii=False)
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in written)
    if isinstance(key, bytes):
        return json.dumps({_BYTES: key.decode("latin-1")})
    return f"[{', '.join(map(_as_json, key))}]"


def key_of(text: str) -> Key:
    """Return the key that a user wrote, as :func:`shown_key` writes it; what is no JSON is a str.

    A number, an object of anything else or a list with one in it is no key: the text itself is.
    """
    if text.startswith(_JSON):
        try:
            return _parsed(json.loads(text))
        except (ValueError, TypeError, RecursionError):
            pass
    return text


def _parsed(found: object) -> Key:
    if isinstance(found, str):
        return found
    if isinstance(found, list) and found:
        return tuple(map(_parsed, found))
    if isinstance(found, dict) and found.keys() == {_BYTES}:
        return str.encode(found[_BYTES], "latin-1")
    msg = "no part of a key"
    raise TypeError(msg)


def identity_shown(identity: bytes) -> str:
    """Return a model's identity as it stands in a name."""
    return base64.urlsafe_b64encode(identity).rstrip(b"=").decode("ascii")


def entry_of(name: Name, data: bytes) -> Entry:
    """Read the bytes found under a name; never raises."""
    if name.kind == "value":
        return _value(name.raw, data)
    return _vector(data, bytes.fromhex(name.content_hash))


def _vector(data: bytes, digest: bytes) -> Entry:
    if len(data) < HEAD.size or data[:2] != MAGIC:
        return Entry(len(data), "corrupt")
    try:
        _, version, kind, size, expiry, stamp, _ = HEAD.unpack_from(data)
    except struct.error:  # pragma: no cover  the length was looked at
        return Entry(len(data), "corrupt")
    if version != VERSION:
        return Entry(len(data), "unknown")
    signed, sealed = bool(kind & SIGNED), bool(kind & SEALED)
    precision = by_kind(kind & ~(SIGNED | SEALED))
    tail = SIGNATURE_BYTES if signed else 0
    sound = precision is not None and size > 0
    if precision is not None and sound and not sealed:
        read = decode_rows([data], [digest], precision, stamp=stamp, size=size, now=0.0)
        sound = HEAD.size + precision.row_bytes(size) + tail == len(data) and not read.corrupt
    return Entry(
        size=len(data),
        state="ok" if sound else "corrupt",
        codec=precision.name if precision is not None else "",
        dimensions=size,
        expiry=expiry,
        dead_at=expiry,
        signed=signed,
        sealed=sealed,
        stamp=stamp,
    )


def _value(raw: bytes, data: bytes) -> Entry:
    try:
        envelope = decode_value(data, raw)
    except UnknownFormat:
        return Entry(len(data), "unknown" if data.startswith(MAGIC) else "corrupt")
    except CodecError:
        return Entry(len(data), "corrupt")
    return Entry(
        size=len(data),
        state="ok",
        codec=_CODECS.get(envelope.kind, f"kind {envelope.kind}"),
        expiry=envelope.expiry,
        dead_at=envelope.dead_at,
        signed=bool(struct.unpack_from("<H", data, 42)[0] & 1),
        everything=envelope.everything,
        groups=envelope.groups,
        payload=envelope.payload,
    )


def readable(entry: Entry) -> Any:
    """Return a value that is text or JSON; raises ValueError for any other."""
    if entry.codec == "None":
        return None
    if entry.codec == "json":
        return json.loads(entry.payload.decode("utf-8", "surrogatepass"))
    if entry.codec == "bytes":
        return entry.payload.decode("utf-8")
    msg = f"a value kept as {entry.codec or 'a vector'} is shown by the program that knows it"
    raise ValueError(msg)
