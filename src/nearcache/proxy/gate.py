"""Whose key the provider has accepted lately."""

from collections import OrderedDict

from nearcache.clock import Clock, monotonic

__all__ = ["Gate"]

_MOST, _MOST_PURPOSES = 100_000, 1000  # callers, and what each is let in to
_EARLY = 0.75  # of the life of an acceptance, after which it is renewed behind an answer


class Gate:
    """Remembers by name which callers were accepted for what, and when.

    What the provider says holds from when it was asked: an acceptance that was asked for before a
    refusal came does not undo it. A refusal is of the key, so it ends all that the caller had.
    """

    def __init__(self, seconds: float, clock: Clock = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._accepted: OrderedDict[bytes, dict[bytes, float]] = OrderedDict()
        self._refused: OrderedDict[bytes, float] = OrderedDict()

    def now(self) -> float:
        """Return the time to give ``accept``: take it before the provider is asked."""
        return self._clock()

    def was_open(self, caller: bytes, what: bytes) -> bool:
        """Say whether a caller was ever accepted, and not refused since."""
        return what in self._accepted.get(caller, ())

    def is_open(self, caller: bytes, what: bytes) -> bool:
        """Say whether a caller may be answered from the cache."""
        return self._age(caller, what) < self._seconds

    def is_due(self, caller: bytes, what: bytes) -> bool:
        """Say whether it is time to ask again, before the acceptance ends."""
        return _EARLY * self._seconds < self._age(caller, what)

    def _age(self, caller: bytes, what: bytes) -> float:
        when = self._accepted.get(caller, {}).get(what)
        return float("inf") if when is None else self._clock() - when

    def accept(self, caller: bytes, what: bytes, asked: float) -> None:
        """Note that the provider accepted a caller when it was asked."""
        refused = self._refused.get(caller)
        if refused is not None and asked <= refused:
            return
        mine = self._accepted.setdefault(caller, {})
        if len(mine) >= _MOST_PURPOSES and what not in mine:
            mine.clear()
        mine[what] = max(asked, mine.get(what, asked))
        self._accepted.move_to_end(caller)
        if len(self._accepted) > _MOST:
            self._accepted.popitem(last=False)

    def refuse(self, caller: bytes) -> None:
        """Note that the provider refused a caller's key."""
        # not only noted: strangers' refusals, which are many, may push the note out
        self._accepted.pop(caller, None)
        self._refused[caller] = self._clock()
        self._refused.move_to_end(caller)
        if len(self._refused) > _MOST:
            self._refused.popitem(last=False)
