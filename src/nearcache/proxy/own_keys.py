"""The proxy's own keys: a file of their hashes, read again when it changes."""

import logging
import re
from hashlib import sha256
from pathlib import Path

from nearcache.clock import Clock, monotonic
from nearcache.errors import ConfigError
from nearcache.proxy.headers import Headers

__all__ = ["OwnKeys"]

log = logging.getLogger("nearcache")

_LINE = re.compile(r"([0-9a-fA-F]{64})(?:\s.*)?")
_LOOK = 1.0  # seconds between looks at the file


class OwnKeys:
    """Who may use the proxy: one SHA-256 a line, as ``printf %s KEY | sha256sum`` writes it.

    What follows the hash is a comment, as is a line that begins with ``#``. A file that became
    unreadable changes nothing until it can be read again.

    Raises: ConfigError for a file that cannot be read, or holds something else.
    """

    def __init__(self, path: Path, clock: Clock = monotonic) -> None:
        self._path = path
        self._clock = clock
        self._state = self._stamp()
        self._hashes = self._read()
        self._looked = clock()

    def admits(self, headers: Headers) -> bool:
        """Say whether the key of a request is one of them."""
        self._look_again()
        return any(sha256(key).hexdigest() in self._hashes for key in _keys(headers))

    def _look_again(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        try:
            state = self._stamp()
            if state != self._state:
                self._hashes, self._state = self._read(), state
        except ConfigError as error:
            log.warning("the keys that were read before hold on: %s", error)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise ConfigError(f"the keys in {self._path} cannot be read: {error}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> frozenset[str]:
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the keys in {self._path} cannot be read: {error}") from error
        hashes = set()
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = _LINE.fullmatch(text)
            if match is None:  # it may be a key: it is not shown
                raise ConfigError(
                    f"line {number} of {self._path} is no SHA-256 in hex: write what "
                    "`printf %s KEY | sha256sum` prints, never the key itself"
                )
            hashes.add(match[1].lower())
        if not hashes:
            raise ConfigError(f"{self._path} holds no key: nobody could use the proxy")
        return frozenset(hashes)


def _keys(headers: Headers) -> list[bytes]:
    """Return the keys of a request, as OpenAI's clients send them, and Azure's."""
    keys = []
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            keys.append(value[7:].strip())
        elif name == b"api-key":
            keys.append(value.strip())
    return keys
