"""What a memory is kept under: its type, its id, its scope."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nearcache.errors import ConfigError

__all__ = ["MemoryKey", "MemoryType", "check_part", "inner_key"]

_MOST_BYTES = 8 * 1024


class MemoryType(StrEnum):
    """The usual types of memories. Types are open: any non-empty string is one."""

    WORKING = "working"
    EPISODIC = "episodic"
    SEMANTIC = "semantic"
    PROCEDURAL = "procedural"


@dataclass(frozen=True, slots=True)
class MemoryKey:
    """The name of one memory. No two that differ in any part ever meet, whatever characters.

    memory_type: ``MemoryType.EPISODIC`` or any non-empty string.
    scope: whom it belongs to (a tenant, an agent, a session); None for nobody in particular.

    Raises: ConfigError for a part that is no string or empty, or more than 8 kB of UTF-8 in all.
    """

    memory_type: str
    memory_id: str
    scope: str | None = None
    inner: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """What the cache below keeps it under."""

    def __post_init__(self) -> None:
        parts = [("type", self.memory_type), ("id", self.memory_id)]
        if self.scope is not None:
            parts.append(("scope", self.scope))
        inner = tuple(check_part(what, part) for what, part in parts)
        size = sum(len(part.encode("utf-8", "surrogatepass")) for part in inner)
        if size > _MOST_BYTES:
            msg = f"a memory's type, id and scope have at most {_MOST_BYTES} bytes, not {size}"
            raise ConfigError(msg)
        for name, part in zip(("memory_type", "memory_id", "scope"), inner, strict=False):
            object.__setattr__(self, name, part)
        object.__setattr__(self, "inner", inner)

    @classmethod
    def of(cls, inner: tuple[str, ...]) -> "MemoryKey":
        """Return the key that a cache keeps under ``inner``."""
        return cls(*inner)


def check_part(what: str, part: object) -> str:
    """Return a part of a memory's key, if it is a str that is not empty."""
    if not isinstance(part, str) or not part:
        msg = f"a memory's {what} is a str, not empty; not {type(part).__name__}"
        raise ConfigError(msg)
    return str.__str__(part)  # what a subclass says of itself decides nothing here


def inner_key(key: Any) -> tuple[str, ...]:
    """Return what the cache below keeps a memory under."""
    if isinstance(key, MemoryKey):
        inner: tuple[str, ...] = key.inner
        return inner
    msg = f"a key is a MemoryKey(memory_type, memory_id, scope=None), not {type(key).__name__}"
    raise ConfigError(msg)
