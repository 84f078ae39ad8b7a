"""Names: which text, of which model, in which namespace; no two things share one.

Every part that a user chooses is either hashed or percent-encoded before it is joined, so no
character in any part can make two keys equal. Layout version 1::

    nc1:{<namespace>:<bucket>}:v:<model>:<content hash>     a value
    nc1:{<namespace>}:e:*      nc1:{<namespace>}:e:<model>  epochs: of everything, of a model
    nc1:{<namespace>}:log                                   what was forgotten lately

The braces are Redis Cluster's hash tags: 64 buckets spread a namespace, one slot each.
"""

import base64
import hashlib
import json
from binascii import hexlify
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from nearcache.errors import ConfigError

__all__ = [
    "BUCKETS",
    "EmbeddingModel",
    "KeySpace",
    "ModelKeys",
    "content_digest",
    "content_digests",
    "hash_content",
]

BUCKETS = 64
_LONGEST_NAME = 200


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
            msg = f"a model's params is a mapping, not {self.params!r}"
            raise ConfigError(msg)
        object.__setattr__(self, "params", dict(self.params))
        object.__setattr__(self, "identity", self._digest())

    @classmethod
    def of(cls, model: object) -> "EmbeddingModel":
        """Return ``model`` itself, or the model that a non-empty string names."""
        if isinstance(model, str) and model:
            return cls(model)
        if not isinstance(model, cls):
            msg = f"model is a non-empty string or an EmbeddingModel, not {model!r}"
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
            msg = f"a model's params are JSON values under string keys, not {self.params!r}"
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
