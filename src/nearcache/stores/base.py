"""What the engine asks of a store: every call is one round trip, for a whole batch.

Values are opaque bytes with the head of ``nearcache.entry``. Keys are bytes. Times are the store's
own: seconds since its epoch, the same for every process that uses it, whatever their clocks say.

What never changes is read with ``fetch`` and written with ``lease``, ``fill`` and ``write``: the
first writer wins. What may change is read with ``look`` and ``heads``, and written with ``put``,
which is never executed after its deadline, or, where it follows from what was seen, with ``claim``,
``expect`` and ``commit``. There the head's stamp is the value's *version*, random and new with
every write. Where no value stands, the 16-byte token in the key's lease takes its place, the
*absence token*; so every commit says what it expects to replace, and one that is late or repeated
changes nothing.

Every method may raise StoreError, and nothing else. Implementations are thread-safe and survive
``fork``. ``nearcache.testing.contracts.stores`` is the specification.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, Protocol

from nearcache.entry import MAGIC, VERSION, Mark

__all__ = [
    "EVERYTHING",
    "HELD",
    "LOG_LENGTH",
    "MOST_SCANNED",
    "PONG",
    "SKIPPED",
    "TAKEN",
    "TOKEN_BYTES",
    "WRITTEN",
    "Changed",
    "Changes",
    "Fetched",
    "Message",
    "Signal",
    "Size",
    "Start",
    "Store",
    "Stream",
    "Ttl",
    "begins",
    "is_value",
    "lease_of",
    "lives",
    "most_scanned",
    "version_of",
]

LOG_LENGTH = 10_000
"""How many forgets a namespace remembers; who is further behind drops all its near copies."""

TAKEN, HELD = True, False
"""Answers of ``lease`` and ``claim``: the caller is to load, or somebody else is loading."""
WRITTEN, SKIPPED = True, False
"""Answers of ``fill``: the value stands, or its lease was gone and nothing was written."""


Ttl = float | Sequence[float] | None
"""Seconds that all values live, or that each does; None for no limit."""


def lives(ttl: Ttl, count: int) -> Sequence[float | None]:
    """Return the seconds each of ``count`` values lives."""
    return [ttl] * count if ttl is None or isinstance(ttl, (int, float)) else ttl


TOKEN_BYTES = 16
"""The length of a token that stands for the absence of a value; what is no token is garbage."""

_FORMAT = MAGIC + bytes((VERSION,))
_VERSIONED = 24  # bytes of the head up to the end of the stamp


def is_value(stored: bytes | None) -> bool:
    """Say whether bytes found in a store, or the first 24 of them, look like a mutable value."""
    return stored is not None and len(stored) >= _VERSIONED and stored[:3] == _FORMAT


def version_of(stored: bytes | None) -> bytes:
    """Return the version of a stored value, or of the first 24 bytes of one; b"" for no value."""
    return b"" if stored is None or len(stored) < _VERSIONED else stored[16:_VERSIONED]


def has_version(stored: bytes | None, versions: bytes) -> bool:
    """Say whether a stored value has one of several versions, given in a row."""
    mine = version_of(stored)
    return bool(mine) and any(versions[i : i + 8] == mine for i in range(0, len(versions), 8))


_LEASE = b":lease"


def lease_of(key: bytes) -> bytes:
    """Return the name of a value's lease, which a store may hear and tell of like any other."""
    return key + _LEASE


Start = tuple[bytes, bytes]
"""How names begin, whatever two characters (those of a bucket) are between the parts."""

MOST_SCANNED = 1000
"""The most names a store looks at in one call of ``scan``: a server does nothing else meanwhile."""


def begins(name: bytes, start: Start) -> bool:
    """Say whether a name begins like this, and is no lease's."""
    space, middle = start
    return (
        name.startswith(space)
        and name.startswith(middle, len(space) + 2)
        and not name.endswith(_LEASE)
    )


def most_scanned(count: int) -> int:
    """Return how many names a store looks at that was asked for about ``count``."""
    return min(max(count, 1), MOST_SCANNED)


class Signal(Enum):
    """What a stream says beside the names of changed keys."""

    EVERYTHING = "everything"
    PONG = "pong"


EVERYTHING: Final = Signal.EVERYTHING
"""Anything may have changed: the store was flushed, or what it said in between is lost."""
PONG: Final = Signal.PONG
"""The answer to a ping: every change made before the ping was sent came before it."""


class Changed(NamedTuple):
    """Values and groups that were written or deleted; some stores tell of leases too.

    Evictions, ends of lives and what ``fill``, ``write``, ``forget`` and ``forget_group`` do may
    be told or not.
    """

    names: list[bytes]


Message = Changed | Literal[Signal.EVERYTHING, Signal.PONG]
"""One thing a stream says."""


class Fetched(NamedTuple):
    """What a fetch found.

    ``epochs`` are the tokens of the groups asked for. ``now`` is the store's time while it read,
    ``sent`` this process's monotonic time before: an entry that expires at ``e`` in the store
    expires here at ``sent + (e - now)`` at the latest, however long the answer took.
    """

    values: list[bytes | None]
    epochs: list[bytes]
    now: float
    sent: float


class Changes(NamedTuple):
    """What a namespace's log says since a cursor; ``entries`` is None when the log has a gap."""

    cursor: bytes
    entries: list[bytes] | None


class Size(NamedTuple):
    """How much a store holds, of all namespaces and whoever else uses it; None where it is costly.

    Units: ``bytes`` are those of memory, or of the file.
    """

    entries: int | None
    bytes: int | None


class Stream(Protocol):
    """A connection on which a store says what changed, in order.

    Not thread-safe but for ``close``. After a failure every method raises StoreUnavailable, and
    what was missed is unknown: open another.
    """

    def open(self, prefixes: Sequence[bytes], seconds: float) -> None:
        """Begin to hear of changes of keys that start with one of these: one or more, no overlap.

        A change that anybody makes after the return is heard. Raises StoreUnavailable or
        StoreTimeout when the store cannot be reached within about ``seconds``, StoreCannotTell when
        it can be reached but does not say what changes.
        """

    def watch(self, prefix: bytes) -> None:
        """Hear of one more prefix; a change after the answer to a later ping is heard."""

    def ping(self) -> None:
        """Ask for a PONG, which comes in order: after every change made before."""

    def read(self, seconds: float) -> list[Message]:
        """Return what has come, waiting at most ``seconds`` for something; [] if nothing came."""

    def close(self) -> None:
        """Hear no more. From any thread, any number of times; a read that waits ends at once.

        That read, and every call after, returns nothing or raises StoreUnavailable.
        """


class Store(Protocol):
    """A place for values that several processes share."""

    @property
    def address(self) -> str:
        """Where it is, without secrets."""

    def fetch(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and group epochs; an absent epoch is created, once for all processes."""

    def lease(
        self, keys: Sequence[bytes], token: bytes, seconds: float, mark: Mark
    ) -> list[bool | bytes]:
        """Claim the right to load: TAKEN, HELD by another, or the value that came meanwhile."""

    def renew(self, keys: Sequence[bytes], token: bytes, seconds: float) -> None:
        """Prolong leases that are still held."""

    def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give leases back without a value."""

    def fill(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        token: bytes,
        mark: Mark,
        ttl: Ttl,
    ) -> list[bool | bytes]:
        """Write loaded values whose lease is held, and release it; the first writer wins.

        Returns WRITTEN, SKIPPED (the lease was lost: forgotten meanwhile), or the winner's bytes.
        """

    def write(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        entries: Sequence[bytes],
    ) -> None:
        """Write values whatever is there, and log all but what was there already.

        What was not there is logged too: near copies elsewhere may outlive what the store evicted.
        """

    def forget(self, keys: Sequence[bytes], log: bytes, entries: Sequence[bytes]) -> int:
        """Delete values and leases, log it, and return how many values there were."""

    def forget_group(self, group: bytes, log: bytes, entry: bytes) -> None:
        """Give a group a new epoch, so that none of its entries is valid, and log it."""

    def drop_corrupt(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Delete keys that still hold exactly these bytes."""

    def look(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read values and epochs and create nothing: an absent epoch is b"".

        ``now`` may be an estimate from a reading of the store's clock at most ten seconds old;
        never one that is early.
        """

    def heads(self, keys: Sequence[bytes], groups: Sequence[bytes]) -> Fetched:
        """Read epochs and the first 24 bytes of each value: enough to tell whether it changed."""

    def epochs(self, groups: Sequence[bytes], seconds: float | None) -> list[bytes]:
        """Return the epochs of groups; an absent one is created, once for all processes.

        Each lives at least ``seconds`` from now (None: for ever); never shorter than it would have.
        """

    def claim(
        self, keys: Sequence[bytes], seen: Sequence[bytes], token: bytes, seconds: float
    ) -> list[bool | bytes]:
        """Claim the right to load: TAKEN, HELD by another, or the value that came meanwhile.

        ``seen`` holds the versions the caller found there and cannot use; b"" for none. A value of
        another version came meanwhile.
        """

    def expect(self, keys: Sequence[bytes], token: bytes, seconds: float) -> list[bytes]:
        """Return what a commit will have to find at each key.

        That is the version of its value (8 bytes) or, where there is none, the absence token (16):
        the one that is there, or ``token``, which is put there for ``seconds``.
        """

    def commit(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        expected: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        token: bytes = b"",
        seconds: float = 0.0,
    ) -> list[bool | bytes]:
        """Write each value if its key still holds what is expected, and end its lease.

        Answers WRITTEN or, where nothing was changed, what is to be expected now: as ``expect``
        does with this ``token``, a new one that nobody expects yet. With ``seconds`` 0 no token is
        put anywhere, and "absent" is b"".
        """

    def commit_and_look(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        expected: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        token: bytes,
        seconds: float,
        groups: Sequence[bytes],
    ) -> tuple[list[bool | bytes], list[bytes]]:
        """Do what ``commit`` does, and return the epochs that groups have after it, as ``look``."""

    def patience(self, size: int = 0) -> float:
        """Seconds from the call that a ``put`` of ``size`` bytes may be executed: its deadline."""

    def put(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        ttl: Ttl,
        log: bytes,
        deadline: float,
        groups: Sequence[bytes],
    ) -> list[bytes] | None:
        """Write values over whatever is there, and end leases; return the epochs of groups then.

        None, with nothing done, if in the store's time it is later than ``deadline``: a call whose
        caller gave up then, or waited until then before it said so, is never executed after others.
        """

    def revoke(
        self, keys: Sequence[bytes], log: bytes, versions: Sequence[bytes] | None = None
    ) -> int:
        """Delete values and absence tokens; return how many values there were.

        Where ``versions`` are given, of each key one or several in a row: only values that have one
        of theirs. A call that is executed late deletes nothing newer, then.
        """

    def bump(self, group: bytes, token: bytes, log: bytes, seconds: float | None = None) -> None:
        """Make ``token`` the epoch of a group.

        It lives ``seconds`` from now (None: for ever), even if the one before had longer to live:
        what is written under the new one prolongs it.
        """

    def touch(self, keys: Sequence[bytes], seconds: float) -> None:
        """Let values, and epochs, that have a limited life live at least ``seconds`` from now.

        Does nothing where more than nine tenths of that are left, for who listens may hear of it;
        and nothing where there is no value, or it has no limit.
        """

    def scan(
        self, start: Start, cursor: int, count: int, *, leases: bool = False
    ) -> tuple[int, list[bytes]]:
        """Return the next cursor and about ``count`` names of values, of those that begin so.

        Begin with cursor 0 and go on until it is 0 again; a page may be empty before. A value that
        stands all the while is named at least once, one that came or went meanwhile perhaps, one
        that has expired not. With ``leases`` the names of values that are being loaded are among
        them: of all whose lease stood when the scan began. At most MOST_SCANNED names are looked at
        in one call; the cursor of one scan is good for another only with the same ``leases``.
        """

    def report(self, board: bytes, name: bytes, value: bytes, seconds: float) -> None:
        """Put a value on a board under a name, for so long; 0 seconds take it down.

        A board is no value's name: nobody is told, nothing counts as a change, nothing is evicted
        for it. It holds what thousands of processes say of themselves, no more.
        """

    def reports(self, board: bytes) -> dict[bytes, bytes]:
        """Return what is on a board and has not ended, by name."""

    def stream(self) -> Stream:
        """Return a new stream of changes, not yet open."""

    def changes(self, log: bytes, cursor: bytes) -> Changes:
        """Read what was forgotten since ``cursor``; an empty cursor starts at the end."""

    def now(self) -> float:
        """Return the store's time, or later; asks the store only when its last answer is old."""

    def least_now(self) -> float:
        """Return the store's time, or earlier: for who writes when something ends.

        How long the answer was under way nobody knows.
        """

    def least_now_at_hand(self) -> float | None:
        """Return what ``least_now`` would, if it need not ask; never raises."""

    def purge(self) -> int:
        """Delete what has expired, where the store does not do so itself."""

    def size(self) -> Size:
        """Return how much it holds: for people, and so cheap that they may look every second."""

    def may_evict(self) -> bool:
        """Say whether values may leave before their time, when there are too many."""

    @property
    def fork_lock(self) -> Any:
        """A re-entrant lock to hold over a fork, so that the child copies nothing half done."""

    def reset_after_fork(self) -> None:
        """Let go of connections that belong to the parent process."""

    def close(self) -> None:
        """Let go of all connections."""
