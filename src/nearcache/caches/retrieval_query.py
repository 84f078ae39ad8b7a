"""What a retrieval asks: its parameters, and the stable name they have as a key.

Queries with equal parameters have one name, in whatever order and from whatever process; queries
that differ in a parameter, or in its type, never share one::

    "agents"                              a string
    {"text": "agents", "limit": 5}        the same as {"limit": 5, "text": "agents"}
    RetrievalQuery("agents", limit=5)     the same once more
    {"text": "agents", "limit": "5"}      another
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

from nearcache.caches.memory_key import MemoryKey
from nearcache.errors import ConfigError

__all__ = ["RetrievalQuery", "check_ids", "memory_tag", "query_key", "scope_tag"]

_DEEPEST = 64
_LONGEST_SCOPE = 16 * 1024  # bytes
_NO_SCOPE = "n:"
_UNCHANGING = frozenset((str, bytes, int, float, bool, type(None)))


class RetrievalQuery(Mapping[str, Any]):
    """The parameters of a retrieval: a text, and whatever else decides what it finds.

    A mapping that is made once. Values: None, bool, int, float, str, bytes, and lists, mappings and
    dataclasses of them.
    """

    __slots__ = ("_form", "_parameters")

    def __init__(self, text: str, **parameters: Any) -> None:
        if not isinstance(text, str):
            kind = type(text).__name__
            msg = f"the text of a RetrievalQuery is a str, not {kind}; or give a mapping"
            raise ConfigError(msg)
        self._parameters = {"text": text, **parameters}
        form = canonical(self._parameters)
        # of what may change until it is asked for the form is taken then
        self._form = form if all(type(v) in _UNCHANGING for v in parameters.values()) else None

    @property
    def form(self) -> bytes:
        """The bytes that stand for these parameters."""
        return self._form or canonical(self._parameters)

    def __getitem__(self, name: str) -> Any:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __eq__(self, other: object) -> bool:
        return self.form == other.form if isinstance(other, RetrievalQuery) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.form)

    def __repr__(self) -> str:
        named = (f", {name}={value!r}" for name, value in self.items() if name != "text")
        return f"RetrievalQuery({self['text']!r}{''.join(named)})"


def query_key(query: object, scope: object) -> tuple[str, ...]:
    """Return the key of a query in a scope: 32 hex digits of SHA-256, and the scope if any.

    Raises: ConfigError for a query, or a scope, that has no stable name.
    """
    digest = sha256(canonical(query)).hexdigest()[:32]
    return (digest,) if scope is None else (digest, check_scope(scope))


def check_scope(scope: object) -> str:
    """Return ``scope`` if it is one: a str, not empty and not too long."""
    if not isinstance(scope, str) or not scope:
        msg = f"a scope is a non-empty str, or None for no scope, not {scope!r}"
        raise ConfigError(msg)
    if len(scope.encode("utf-8", "surrogatepass")) > _LONGEST_SCOPE:
        msg = f"a scope has at most {_LONGEST_SCOPE} bytes in UTF-8; give a digest of it"
        raise ConfigError(msg)
    return str.__str__(scope)


def scope_tag(scope: str | None) -> str:
    """Return the tag of the lists that were looked for in a scope; None: everywhere."""
    return _NO_SCOPE if scope is None else f"s:{check_scope(scope)}"


def memory_tag(memory: object) -> str:
    """Return the tag of the lists that hold a memory.

    It is that of the bare id: a list that names "7" holds MemoryKey("episodic", "7", "ada"), as far
    as anybody can know. So a change may drop a list too many, never one too few.
    """
    identity = memory.memory_id if isinstance(memory, MemoryKey) else memory
    if not isinstance(identity, str) or not identity:
        kind = type(memory).__name__
        msg = f"a memory is named by a MemoryKey or by its id, a non-empty str, not {kind}"
        raise ConfigError(msg)
    return f"m:{str.__str__(identity)}"


def check_ids(memory_ids: object) -> list[str]:
    """Return the tags of memories, if they are a list (or another collection) of keys or ids."""
    if isinstance(memory_ids, (str, bytes)) or not isinstance(memory_ids, Iterable):
        kind = type(memory_ids).__name__
        msg = f"memory_ids is a list of ids or MemoryKeys, not {kind}; give [id]"
        raise ConfigError(msg)
    return list(dict.fromkeys(memory_tag(memory) for memory in memory_ids))


# -- the canonical form --------------------------------------------------------------------------


def canonical(query: object) -> bytes:
    """Return the bytes that stand for a query: the same for equal parameters, else different.

    Each value is a letter for its type and then what it is; what has no fixed length tells it
    first, so no value can look like two.
    """
    if isinstance(query, RetrievalQuery):
        return query.form
    parts: list[bytes] = []
    if isinstance(query, (str, Mapping)) or (is_dataclass(query) and not isinstance(query, type)):
        _add(query, parts, 0)
    else:
        msg = (
            "a query is a str, or a mapping or dataclass of parameters, "
            f"not {type(query).__name__}; give {{'name': value}}"
        )
        raise ConfigError(msg)
    return b"".join(parts)


def _add(value: object, parts: list[bytes], depth: int) -> None:
    if depth > _DEEPEST:
        msg = f"a query is nested at most {_DEEPEST} levels deep: give it flatter"
        raise ConfigError(msg)
    if isinstance(value, str):
        _add_bytes(b"s", str.encode(value, "utf-8", "surrogatepass"), parts)
    elif value is None:
        parts.append(b"n")
    elif isinstance(value, bool):
        parts.append(b"T" if value else b"F")
    elif isinstance(value, int):
        _add_bytes(b"i", b"%x" % int(value), parts)
    elif isinstance(value, float):
        if value != value:  # noqa: PLR0124  NaN
            msg = "a query holds NaN, which equals nothing: give None, or leave it out"
            raise ConfigError(msg)
        parts.append(b"f" + struct.pack(">d", value + 0.0))  # -0.0 equals 0.0
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _add_bytes(b"b", bytes(value), parts)
    elif isinstance(value, (list, tuple)):
        parts.append(b"l%d:" % len(value))
        for item in value:
            _add(item, parts, depth + 1)
    elif isinstance(value, Mapping):
        _add_mapping(value, parts, depth)
    elif is_dataclass(value) and not isinstance(value, type):
        # two kinds of query may have the same parameters
        _add_bytes(b"r", type(value).__qualname__.encode(), parts)
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        _add_mapping(named, parts, depth)
    else:
        msg = (
            f"a query holds {type(value).__name__}, which has no stable form: give str, int, "
            "float, bool, None, bytes, or lists, mappings and dataclasses of them"
        )
        raise ConfigError(msg)


def _add_bytes(kind: bytes, data: bytes, parts: list[bytes]) -> None:
    parts += (kind, b"%d:" % len(data), data)


def _add_mapping(value: Mapping[Any, Any], parts: list[bytes], depth: int) -> None:
    items: list[tuple[bytes, Any]] = []
    for name, item in value.items():
        if not isinstance(name, (str, bytes, int)):
            msg = f"a query names its parameters with str, not {type(name).__name__}"
            raise ConfigError(msg)
        encoded: list[bytes] = []
        _add(name, encoded, depth + 1)
        items.append((b"".join(encoded), item))
    parts.append(b"d%d:" % len(items))
    for encoded_name, item in sorted(items, key=lambda pair: pair[0]):
        parts.append(encoded_name)
        _add(item, parts, depth + 1)
