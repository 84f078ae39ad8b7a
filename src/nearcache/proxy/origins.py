"""What pages of other origins may read: a browser looks for that in every answer, cached or not."""

from nearcache.proxy.headers import Headers

__all__ = ["Origins"]

_MOST = 1000  # origins; callers choose them


class Origins:
    """Remembers by origin what the provider says of it, for answers that it has no part in."""

    def __init__(self) -> None:
        self._said: dict[bytes, Headers] = {}

    def is_known(self, origin: bytes) -> bool:
        """Say whether the provider has answered an origin; b"" is no page, and needs no word."""
        return not origin or origin in self._said

    def note(self, origin: bytes, answered: Headers) -> None:
        """Note what the provider said of an origin; nothing is a word, too."""
        if not origin:
            return
        if len(self._said) >= _MOST and origin not in self._said:
            self._said.clear()
        self._said[origin] = [
            (name, value)
            for name, value in answered
            if name.startswith(b"access-control-") or name == b"vary"
        ]

    def said(self, origin: bytes) -> Headers:
        """Return what the provider says of an origin."""
        return self._said.get(origin, [])
