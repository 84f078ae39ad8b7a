"""Names: which text, of which model, in which namespace; no two things share one.

Every part that a user chooses is either hashed or percent-encoded before it is joined, so no
character in any part can make two keys equal. Layout version 1::

    nc1:{<namespace>:<bucket>}:v:<model>:<content hash>     a vector
    nc1:{<namespace>:<bucket>}:k:<key>.                     any other value
    nc1:{<namespace>}:e:*      nc1:{<namespace>}:e:<group>  epochs: of everything, of a model, a tag
    nc1:{<namespace>}:log                                   what was forgotten lately
    nc1:{<namespace>!}:reports                              the board of its workers
    nc1:{!}:reports                                         the board of all namespaces

The braces are Redis Cluster's hash tags: 64 buckets spread a namespace, one slot each. A value's
lease is its name and ``:lease``; the dot after a key keeps a user's key from ending like that. No
name has a bare ``!``, so the boards, which change all the time, begin unlike whatever somebody
listens for.
"""

import base64
import hashlib
import json
import re
from binascii import hexlify
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote
from zlib import crc32

from nearcache.errors import ConfigError

__all__ = [
    "BUCKETS",
    "DIRECTORY",
    "EmbeddingModel",
    "Key",
    "KeySpace",
    "ModelKeys",
    "ValueKeys",
    "board_of",
    "check_key",
    "check_tags",
    "content_digest",
    "content_digests",
    "hash_content",
]

BUCKETS = 64
_LONGEST_NAME = 200
_LONGEST_KEY = 64 * 1024  # bytes as stored
_DEEPEST_KEY = 32  # tuples within tuples

Key = str | bytes | tuple["Key", ...]
"""What a value is kept under."""


def hash_content(text: str) -> str:
    """Return the stable name of a text: the first 32 hex digits of SHA-256 of its UTF-8 bytes."""
    return content_digest(text).hex()


def content_digest(text: str) -> bytes:
    """Return the 16 bytes behind :func:`hash_content`."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def content_digests(texts: Sequence[str]) -> list[bytes]:
    """Return the digest of each text."""
    sha256 = hashlib.sha256
    try:
        return [sha256(text.encode()).digest()[:16] for text in texts]
    except UnicodeEncodeError:  # a lone surrogate
        return list(map(content_digest, texts))


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingModel:
    """What decides a vector beside the text: the model and everything it was asked with.

    Two models that differ in any field never share a key. ``params`` holds JSON values: a prompt,
    normalisation, truncation, an endpoint.
    """

    name: str
    dimensions: int | None = field(default=None, kw_only=True)
    revision: str = field(default="", kw_only=True)
    input_type: str = field(default="", kw_only=True)
    params: Mapping[str, object] = field(default_factory=dict, kw_only=True)
    identity: bytes = field(default=b"", init=False, repr=False)

    def __post_init__(self) -> None:
        _check_name("a model's name", self.name)
        for part, value in (("revision", self.revision), ("input_type", self.input_type)):
            if not isinstance(value, str):
                msg = f"a model's {part} is a string, not {value!r}"
                raise ConfigError(msg)
        size = self.dimensions
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            msg = f"a model's dimensions is a whole number of at least 1, not {size!r}"
            raise ConfigError(msg)
        if not isinstance(self.params, Mapping):
            msg = f"a model's params is a mapping, not {type(self.params).__name__}"
            raise ConfigError(msg)
        object.__setattr__(self, "params", dict(self.params))
        object.__setattr__(self, "identity", self._digest())

    @classmethod
    def of(cls, model: object) -> "EmbeddingModel":
        """Return ``model`` itself, or the model that a non-empty string names."""
        if isinstance(model, str) and model:
            return cls(model)
        if not isinstance(model, cls):
            msg = f"model is a non-empty string or an EmbeddingModel, not {type(model).__name__}"
            raise ConfigError(msg)
        return model

    def _digest(self) -> bytes:
        try:
            parts = json.dumps(
                [self.name, self.dimensions, self.revision, self.input_type, self.params],
                sort_keys=True,
                allow_nan=False,
                ensure_ascii=False,  # escaped, a pair of surrogates would equal its character
            )
            plain = json.loads(parts)[4] == _plain(self.params)
        except (TypeError, ValueError) as error:
            msg = f"a model's params are JSON values under string keys: {error}"
            raise ConfigError(msg) from error
        if not plain:  # json turns the key 1 into "1": two models would share a name
            msg = "a model's params are JSON values under string keys"
            raise ConfigError(msg)
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).digest()[:16]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EmbeddingModel):
            return NotImplemented
        return self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def with_input_type(self, input_type: str) -> "EmbeddingModel":
        """Return the same model asked for another kind of text (a query, a document)."""
        return EmbeddingModel(
            self.name,
            dimensions=self.dimensions,
            revision=self.revision,
            input_type=input_type,
            params=self.params,
        )


def _plain(value: object) -> object:
    """Return ``value`` as JSON would give it back, its keys untouched."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _check_name(what: str, name: object) -> str:
    if not isinstance(name, str) or not name:
        msg = f"{what} is a non-empty string, not {name!r}"
        raise ConfigError(msg)
    return name


class KeySpace:
    """The stored names of one namespace; ``inside`` makes one that nothing outside can name."""

    __slots__ = ("everything", "log", "name")

    def __init__(self, namespace: str) -> None:
        _check_name("a namespace", namespace)
        self._set(quote(namespace, safe="", errors="surrogatepass"))

    def _set(self, name: str) -> None:
        if len(name) > _LONGEST_NAME:
            msg = f"a namespace has at most {_LONGEST_NAME} characters as stored, not {len(name)}"
            raise ConfigError(msg)
        self.name = name
        self.everything = f"nc1:{{{name}}}:e:*".encode()
        self.log = f"nc1:{{{name}}}:log".encode()

    def inside(self, part: str) -> "KeySpace":
        """Return the sub-namespace ``part``; a namespace's own name never holds a bare slash."""
        _check_name("a view's name", part)
        space = KeySpace.__new__(KeySpace)
        space._set(f"{self.name}/{quote(part, safe='', errors='surrogatepass')}")
        return space


DIRECTORY = b"nc1:{!}:reports"
"""The board that holds the names of the namespaces with living workers."""


def board_of(root: str) -> bytes:
    """Return the board of a namespace and all its views, by the namespace's stored name."""
    return f"nc1:{{{root}!}}:reports".encode()


class ModelKeys:
    """The stored names of one model's entries in one namespace."""

    __slots__ = ("_prefixes", "group", "groups", "identity", "log")

    def __init__(self, space: KeySpace, identity: bytes) -> None:
        model = base64.urlsafe_b64encode(identity).rstrip(b"=").decode("ascii")
        self.identity = identity
        self.log = space.log
        self.group = f"nc1:{{{space.name}}}:e:{model}".encode()
        self.groups = (space.everything, self.group)
        self._prefixes = [
            f"nc1:{{{space.name}:{bucket:02x}}}:v:{model}:".encode() for bucket in range(BUCKETS)
        ]

    def values(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return the stored name of each content digest."""
        prefixes = self._prefixes
        return [prefixes[digest[0] % BUCKETS] + hexlify(digest) for digest in digests]


# -- keys of any value ---------------------------------------------------------------------------

_STR, _BYTES, _TUPLE = b"s", b"b", b"t"
_SPECIAL = re.compile(rb"[\\,()]")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def check_key(key: object) -> Key:
    """Return ``key`` if it may be one: str, bytes, or a tuple of them, not empty."""
    if type(key) is str and key:
        return key
    if isinstance(key, (str, bytes)):
        if not key:
            msg = "a key is not empty"
            raise ConfigError(msg)
        # what a subclass says of itself decides nothing here
        return str.__str__(key) if isinstance(key, str) else bytes(memoryview(key))
    if type(key) is tuple and key:
        for part in key:
            if type(part) is not str:
                break
        else:
            return key
    if isinstance(key, tuple) and len(key):
        return _checked_tuple(key, 1)
    msg = f"a key is a str, bytes, or a tuple of them, not empty; not {type(key).__name__}"
    raise ConfigError(msg)


def _checked_tuple(key: tuple[object, ...], depth: int) -> Key:
    if depth > _DEEPEST_KEY:
        msg = f"a key has tuples within tuples {_DEEPEST_KEY} deep at most"
        raise ConfigError(msg)
    return tuple(_check_part(part, depth) for part in tuple.__iter__(key))


def _check_part(part: object, depth: int) -> Key:
    if isinstance(part, (str, bytes)) and not part:
        return "" if isinstance(part, str) else b""
    if isinstance(part, tuple) and len(part):
        return _checked_tuple(part, depth + 1)
    return check_key(part)


def check_tags(tags: object) -> list[str]:
    """Return the distinct tags, if they are a list (or another collection) of str."""
    if isinstance(tags, (str, bytes)) or not isinstance(tags, Iterable):
        msg = f"tags is a list of str, not {type(tags).__name__}; give [tag]"
        raise ConfigError(msg)
    given = list(tags)
    for tag in given:
        if not isinstance(tag, str) or not tag:
            msg = f"a tag is a str, not empty; not {type(tag).__name__}"
            raise ConfigError(msg)
    return list(dict.fromkeys(str.__str__(tag) for tag in given))


def _encode_part(key: Key) -> bytes:
    if isinstance(key, str):
        return _STR + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return _BYTES + key
    parts = [
        _TUPLE + b"(" + _encode_part(part)[1:] + b")"
        if isinstance(part, tuple)
        else _SPECIAL.sub(rb"\\\g<0>", _encode_part(part))
        for part in key
    ]
    return _TUPLE + b",".join(parts)


def _decode(data: bytes, deepest: int = _DEEPEST_KEY) -> Key:
    kind, rest = data[:1], data[1:]
    if kind == _STR:
        return rest.decode("utf-8", "surrogatepass")
    if kind == _BYTES:
        return rest
    if kind != _TUPLE or not deepest:
        msg = f"{data!r} is no key"
        raise ValueError(msg)
    parts: list[Key] = []
    depth, start, at = 0, 0, 0
    while at <= len(rest):
        end = at == len(rest)
        character = b"," if end else rest[at : at + 1]
        if character == b"\\":
            at += 2
            continue
        depth += (character == b"(") - (character == b")")
        if character == b"," and (end or not depth):
            part = rest[start:at]
            if part[:2] == b"t(":
                parts.append(_decode(_TUPLE + part[2:-1], deepest - 1))
            else:
                plain = _ESCAPED.sub(rb"\g<1>", part)
                parts.append(_decode(plain, 0))  # a tuple would be in brackets
            start = at + 1
        at += 1
    return tuple(parts)


class ValueKeys:
    """The stored names of one namespace's values and groups; a key can be read from its name."""

    __slots__ = ("_bucket_prefix", "_epochs", "_prefixes", "groups", "log", "prefixes", "space")

    def __init__(self, space: KeySpace) -> None:
        self.space = space.name.encode()
        self.log = space.log
        self.groups = (space.everything,)
        self._epochs = space.everything[:-1]
        self._bucket_prefix = len(f"nc1:{{{space.name}:00}}:k:")
        self._prefixes = [
            f"nc1:{{{space.name}:{bucket:02x}}}:k:".encode() for bucket in range(BUCKETS)
        ]
        # of a cache with all its views: what begins with one of these is theirs, and nobody else's
        root = space.name.partition("/")[0]
        self.prefixes = [f"nc1:{{{root}".encode() + end for end in (b":", b"}", b"/")]

    def name(self, key: Key) -> bytes:
        """Return the stored name of a key."""
        encoded = _encode_part(key)
        if len(encoded) > _LONGEST_KEY:
            msg = f"a key has at most {_LONGEST_KEY} bytes as stored, not {len(encoded)}"
            raise ConfigError(msg)
        return self._prefixes[crc32(encoded) % BUCKETS] + encoded + b"."

    def length(self, key: Key) -> int:
        """Return how long the stored name of a checked key is, nearly; escapes are not counted.

        Raises: ConfigError for a key that is too long.
        """
        if type(key) is str:
            size = len(key)
        else:
            size = 0
            for part in key:
                if type(part) is not str:
                    return len(self.name(key))
                size += 2 + len(part)
        return self._bucket_prefix + size + 2 if size < _LONGEST_KEY // 4 else len(self.name(key))

    def values(self, keys: Sequence[Key]) -> list[bytes]:
        """Return the stored name of each key."""
        return [self.name(key) for key in keys]

    def key(self, name: bytes) -> Key | None:
        """Return the key that a stored name was made of; None for a name of something else."""
        if not name.endswith(b".") or name[self._bucket_prefix - 3 : self._bucket_prefix] != b":k:":
            return None
        try:
            return _decode(name[self._bucket_prefix : -1])
        except ValueError:
            return None

    def group(self, digest: bytes) -> bytes:
        """Return the name of a group's epoch."""
        return self._epochs + base64.urlsafe_b64encode(digest).rstrip(b"=")

    def is_group(self, name: bytes) -> bool:
        """Say whether a stored name is that of an epoch."""
        return name.startswith(self._epochs)
