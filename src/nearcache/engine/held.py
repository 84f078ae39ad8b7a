"""A near copy of any value, and how long it serves.

It is a list, for a hit unpacks it: the value itself, or its bytes and how to decode them; its
version; the link's epoch before it was asked for; when that was; the groups it belongs to, each
with the token it was read under; its size; from when a hit takes the long way; its end.

A value has two ends. At the first, the user's ttl, it is *expired*: whoever has a loader loads it
anew. Until the second it is kept to stand in: while it is loaded (``stale_while_revalidate``) or
when that fails (``fail_safe``). A *sliding* value has no first end; its second moves with its use.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nearcache.codecs.base import MISSING_KIND, NONE_KIND, Codec
from nearcache.codecs.values import Envelope
from nearcache.coherence.groups import Group
from nearcache.coherence.link import Epoch
from nearcache.entry import MISSING
from nearcache.errors import UnknownFormat
from nearcache.options import FOR_EVER, Options

__all__ = [
    "DECODE",
    "END",
    "EPOCH",
    "GROUPS",
    "HELD_VERSION",
    "NO_END",
    "READ_AT",
    "SIZE",
    "SOFT",
    "VALUE",
    "Freshness",
    "Held",
    "Pairs",
    "hold",
    "is_expired",
    "kept_for",
    "slide",
    "slides",
    "value_of",
]

Held = list[Any]
VALUE, DECODE, HELD_VERSION, EPOCH, READ_AT, GROUPS, SIZE, SOFT, END = range(9)
Pairs = tuple[tuple[Group, bytes], ...]

NO_END: tuple[float, float] = (float("inf"), 0.0)
"""The last two fields of a copy that lives until it is evicted."""

_WINDOW = 0.1  # of a sliding life: a read that soon after another prolongs nothing
_SLACK = 1.25  # what is kept of a sliding life, so that it never ends early for all the windows


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a call wants of values that grow old; from ``Options``."""

    stale: float = 0.0
    fail_safe: float = 0.0
    negative: float = 0.0
    early: float = 0.0
    jitter: float = 0.0
    sliding: bool = False
    soft: float | None = None
    hard: float | None = None

    @classmethod
    def of(cls, options: Options) -> "Freshness":
        """Return what the options say."""
        return cls(
            options.stale_while_revalidate,
            options.fail_safe,
            options.negative_ttl,
            options.early_refresh,
            options.jitter,
            options.sliding,
            options.loader_soft_timeout,
            options.loader_timeout,
        )

    @property
    def grace(self) -> float:
        """How long a value is kept after it expired."""
        return min(max(self.stale, self.fail_safe), FOR_EVER)

    def set_ends(self, held: Held, now: float, end: float, bound: float) -> float:
        """Note when a fresh copy ends (monotonic, 0 for never); return its second end."""
        if held[VALUE] is MISSING:
            held[SOFT], held[END] = -NO_END[0], end  # the quick way knows no absence
            return end
        if not end:
            return 0.0
        if self.sliding:
            return slide(held, now, end - now, bound)
        self.set_first_end(held, end, end - now, bound)
        return end + self.grace

    def set_first_end(self, held: Held, end: float, life: float | None, bound: float) -> None:
        """Note when a copy expires, and when to load it anew, which many do not do at once."""
        window = self.early * life * random.uniform(0.5, 1) if life else 0.0  # noqa: S311
        held[SOFT], held[END] = end - window - bound, end


def slide(held: Held, now: float, life: float, bound: float) -> float:
    """Let a sliding copy live on from now; return its end. Its END says how long, negated."""
    held[SOFT], held[END] = now + _WINDOW * life - bound, -life
    return now + (1 + _WINDOW) * life  # before the store's can end, which may not have been touched


def kept_for(life: float) -> float:
    """Return how many seconds the store keeps a sliding value that was just read."""
    return _SLACK * life


def slides(held: Held) -> bool:
    """Say whether a copy's life starts anew with every read."""
    sliding: bool = held[END] < 0
    return sliding


def is_expired(held: Held, now: float) -> bool:
    """Say whether a copy is past its first end."""
    expired: bool = 0 < held[END] <= now
    return expired


def value_of(held: Held) -> Any:
    """Return a near copy's value; a copy of the caller's own if it can be changed."""
    return held[VALUE] if held[DECODE] is None else held[DECODE](held[VALUE])


def hold(codec: Codec, envelope: Envelope, pairs: Pairs, epoch: Epoch, read_at: float) -> Held:
    """Return the near copy of an entry, without its ends.

    Raises: CodecError for bytes, or a kind, that the codec does not know.
    """
    payload: Any = envelope.payload
    decode: Callable[[Any], Any] | None = None
    if envelope.kind == NONE_KIND:
        value = None
    elif envelope.kind == MISSING_KIND:
        value = MISSING
    elif envelope.kind == codec.kind:
        value = codec.decode(payload)
        if not codec.shares(value):
            value, decode = payload, codec.decode
    else:
        msg = f"an entry of kind {envelope.kind} is not {codec.name}"
        raise UnknownFormat(msg)
    return [value, decode, envelope.version, epoch, read_at, pairs, len(payload), *NO_END]
