"""Who asks: by the provider's keys, or by the proxy's own."""

from dataclasses import dataclass

from nearcache.proxy.answers import error_body
from nearcache.proxy.gate import Gate
from nearcache.proxy.headers import Headers, Sorted, end_to_end, is_credential, sort
from nearcache.proxy.own_keys import OwnKeys
from nearcache.proxy.partition import Partitions
from nearcache.proxy.settings import Settings
from nearcache.proxy.upstream import Refused

__all__ = ["Caller", "Callers"]

_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's sender.

    name: a keyed hash of its credentials.
    asking: its headers that may decide the answer.
    headers: what is sent to the provider for it.
    """

    name: bytes
    asking: Sorted
    headers: Headers


class Callers:
    """Tells callers apart, and knows whom the provider, or the proxy, has let in."""

    def __init__(self, settings: Settings, partitions: Partitions, gate: Gate) -> None:
        self._ignored = settings.ignored
        self._partitions = partitions
        self._gate = gate
        self._own = None if settings.api_keys is None else OwnKeys(settings.api_keys)
        key = (settings.upstream_key or "").strip()
        self._key = key.encode("utf-8")

    def of(self, headers: Headers) -> Caller:
        """Return who sends these headers.

        Raises: Refused for a key that is none of the proxy's own, where it has such.
        """
        asking = sort(headers, self._ignored)
        sent = end_to_end(headers)
        if self._own is not None:
            if not self._own.admits(headers):
                raise _no_key()
            sent = self._with_our_key(sent)
        return Caller(self._partitions.caller(asking), asking, sent)

    def _with_our_key(self, headers: Headers) -> Headers:
        """Return a caller's headers with the proxy's key in the place of its own."""
        as_azure = any(name == b"api-key" for name, _ in headers)
        kept = [pair for pair in headers if not is_credential(pair[0])]
        if self._key:
            kept.append(
                (b"api-key", self._key) if as_azure else (b"authorization", b"Bearer " + self._key)
            )
        return kept

    def is_let_in(self, caller: Caller, what: bytes) -> bool:
        """Say whether a caller may be answered from the cache."""
        return self._own is not None or self._gate.is_open(caller.name, what)

    def is_due(self, caller: Caller, what: bytes) -> bool:
        """Say whether the provider is to be asked again, behind an answer."""
        return self._own is None and self._gate.is_due(caller.name, what)


def _no_key() -> Refused:
    body = error_body("Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
    return Refused(401, [_JSON], body)
