"""The errors a user can meet: one tree, each a sentence with the cure."""

__all__ = [
    "CacheError",
    "ClosedError",
    "CodecError",
    "CoherenceError",
    "ConfigError",
    "CorruptEntry",
    "LoadTimeout",
    "LoaderError",
    "ShapeMismatch",
    "StoreCannotTell",
    "StoreError",
    "StoreReadOnly",
    "StoreTimeout",
    "StoreUnavailable",
    "UnknownFormat",
]


class CacheError(Exception):
    """Root of everything nearcache raises itself."""


class ConfigError(CacheError, ValueError):
    """A wrong option, key or URL; raised before any effect."""


class ClosedError(CacheError):
    """The cache was used after ``close()``."""


class LoaderError(CacheError):
    """The loader broke its contract; what it raises itself passes through unchanged."""


class LoadTimeout(LoaderError):
    """The loader did not answer within its time."""


class CodecError(CacheError):
    """Bytes or values that cannot be read or written."""


class UnknownFormat(CodecError):
    """Bytes that no codec of this version wrote."""


class CorruptEntry(CodecError):
    """Bytes that do not match their checksum."""


class ShapeMismatch(CodecError):
    """A vector of another dimension than its model's."""


class StoreError(CacheError):
    """The store could not do what was asked.

    ``is_over`` says that nothing of it will be done later either: it was refused, or never sent.
    """

    is_over = False


class StoreUnavailable(StoreError):
    """The store cannot be reached, or refuses."""


class StoreTimeout(StoreUnavailable):
    """The store did not answer in time."""


class StoreReadOnly(StoreError):
    """The store can be read but not written."""


class StoreCannotTell(StoreError):
    """The store cannot say what changed; near copies live for link_timeout at most."""


class CoherenceError(CacheError):
    """Copies in different processes could not be kept together; never raised on a read."""
