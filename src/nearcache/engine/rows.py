"""One call's distinct texts of one model on their way through the tiers, as rows of a matrix."""

import threading
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearcache.codecs.base import Codec
from nearcache.codecs.envelope import decode_rows, encode_rows
from nearcache.codecs.sealing import seal, unseal
from nearcache.codecs.signing import Signer
from nearcache.codecs.vectors import Precision, Rows
from nearcache.entry import SEALED, SIGNED, Mark
from nearcache.errors import CodecError, LoaderError, ShapeMismatch
from nearcache.keys import ModelKeys, content_digests
from nearcache.near.pick import VectorTier
from nearcache.options import jittered
from nearcache.stores.base import Fetched

__all__ = ["ABSENT", "FAR", "JOINED", "LOADED", "NEAR", "STALE", "Landing", "RowBatch", "RowShelf"]

Floats = NDArray[np.float32]

ABSENT, NEAR, FAR, LOADED, JOINED, STALE = range(6)
"""Where a text's row came from."""


class Ends(NamedTuple):
    """When the entries of one call end: after ``life`` seconds (None: never), less the jitter."""

    life: float | None
    jitter: float

    def of(self, count: int, now: float) -> NDArray[np.float64] | None:
        """Return the ends of ``count`` entries that begin now; None for never."""
        if self.life is None:
            return None
        return now + np.array([jittered(self.life, self.jitter) for _ in range(count)], np.float64)

    def one(self, now: float) -> float:
        """Return the end of one entry that begins now; 0 for never."""
        return 0.0 if self.life is None else now + jittered(self.life, self.jitter)


class RowShelf:
    """One model in one namespace: its names, and the dimension all its vectors have."""

    record = False

    def valid_near(self, _handles: object) -> None:
        """Return None: what is near is valid."""

    def __init__(
        self,
        space: str,
        keys: ModelKeys,
        dimensions: int | None,
        label: str,
        signer: Signer | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.name: Hashable = (space, keys.identity)
        self.space = space
        self.keys = keys
        self.label = label
        self.size = dimensions
        self.signer = signer
        self.codec = codec
        self._dimensions = dimensions
        self._lock = threading.Lock()

    def learn(self, size: int) -> bool:
        """Take the dimension of the first vector; say whether ``size`` is the model's."""
        with self._lock:
            if self.size is None:
                self.size = size
            return self.size == size

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    def forget_size(self) -> None:
        """Let the next first vector decide again."""
        self.size = self._dimensions


class Landing(NamedTuple):
    """Rows ready for the near tier: positions in the batch, and when each row's life ends.

    Units: ``expires`` in monotonic seconds, 0 for never.
    """

    positions: list[int]
    rows: Rows
    expires: NDArray[np.float64]

    def only(self, kept: set[int]) -> "Landing":
        """Return the part of it at the positions ``kept``."""
        if len(kept) == len(self.positions):
            return self
        index = np.array([n for n, i in enumerate(self.positions) if i in kept], np.intp)
        positions = [self.positions[n] for n in index.tolist()]
        return Landing(positions, self.rows.take(index), self.expires[index])

    def until(self, expires: NDArray[np.float64] | None) -> "Landing":
        """Return the same rows with these ends; None for no limit."""
        return self._replace(expires=np.zeros(len(self.positions)) if expires is None else expires)

    def lives(self, since: float) -> NDArray[np.float64] | None:
        """Return the seconds each row lives from the monotonic time ``since``; None for ever."""
        return self.expires - since if self.expires.any() else None


class RowBatch:
    """Distinct texts, and the rows found for them so far."""

    changes = False
    """Whether the value of a key may change: then one that was not written must not be kept."""
    fresh = False
    """Whether it must be read from the store now, whoever else is reading."""
    renews = None
    """The copies it loads anew: none, for they do not grow old."""

    def __init__(
        self,
        shelf: RowShelf,
        texts: Sequence[str],
        near: VectorTier,
        precision: Precision,
        digests: Sequence[bytes] | None = None,
    ) -> None:
        self.shelf = shelf
        self.texts = texts
        self.near = near
        self.precision = precision
        self.digests = content_digests(texts) if digests is None else list(digests)
        self.handles = self.digests
        self.keys = shelf.keys.values(self.digests)
        self.rows: Floats | None = None
        self.origin = np.zeros(len(self.keys), np.int8)
        self.stamp = b""
        self.shared = False  # another call copies from ``rows``: they may not be given away
        self._placing = threading.Lock()

    def keys_at(self, positions: Sequence[int]) -> list[bytes]:
        """Return the keys at some positions; cheap for all of them."""
        if len(positions) == len(self.keys):
            return self.keys  # positions are distinct and in order
        return [self.keys[i] for i in positions]

    # -- near --------------------------------------------------------------------------------

    def look_near(self, positions: Sequence[int]) -> list[int]:
        """Take from the near tier what is there; return the positions that are not."""
        if not self.texts or not self.near.has(self.shelf.name):
            return list(positions)
        found, rows = self.near.get_some(
            self.shelf.name,
            [self.texts[i] for i in positions],
            self._digests_at(positions),
        )
        if rows is None:
            return list(positions)
        here = [positions[i] for i in found]
        self._place(here, rows, NEAR)
        gone = set(here)
        return [i for i in positions if i not in gone]

    def install(self, landing: Landing, keys: set[bytes]) -> int:
        """Put near those rows of a landing whose keys are ours; return how many others left."""
        if not self.texts:  # known by content hash alone; near finds rows by text
            return 0
        positions, rows, expires = landing.only(
            {i for i in landing.positions if self.keys[i] in keys}
        )
        return self.near.put(
            self.shelf.name,
            [self.texts[i] for i in positions],
            self._digests_at(positions),
            rows.data,
            rows.scale,
            expires,
        )

    # -- store -------------------------------------------------------------------------------

    def accept(
        self, positions: Sequence[int], fetched: Fetched, origin: int = FAR
    ) -> tuple[Landing | None, list[int]]:
        """Read stored entries; return what is usable, and the positions of corrupt ones."""
        names, shelf = self.keys_at(positions), self.shelf
        values, signer = fetched.values, shelf.signer
        if shelf.codec is not None:
            values, signer = unseal(values, shelf.codec, names, signer), None
        decoded = decode_rows(
            values,
            self.digests if len(positions) == len(self.keys) else self._digests_at(positions),
            self.precision,
            stamp=self.stamp,
            size=shelf.size,
            now=fetched.now,
            names=names,
            signer=signer,
        )
        corrupt = [positions[i] for i in decoded.corrupt]
        if decoded.rows is None or not self.shelf.learn(decoded.size):
            return None, corrupt
        here = decoded.usable.tolist()
        if len(positions) != len(self.keys):
            here = [positions[i] for i in here]
        expires = np.where(decoded.expiry > 0, fetched.sent + decoded.expiry - fetched.now, 0.0)
        self._place(here, self.precision.unpack(decoded.rows), origin)
        return Landing(here, decoded.rows, expires), corrupt

    def _digests_at(self, positions: Sequence[int]) -> list[bytes]:
        return [self.digests[i] for i in positions]

    def marked(self) -> Mark:
        """Return how a valid entry of this batch looks to a store."""
        shelf = self.shelf  # what is not signed, or not sealed, gives way
        bits = (SIGNED if shelf.signer else 0) | (SEALED if shelf.codec else 0)
        return Mark(self.precision.kind | bits, shelf.size, self.stamp)

    def pack(self, landing: Landing, expiry: NDArray[np.float64] | None) -> list[bytes]:
        """Return the entries to store; ``expiry`` is in the store's time, None for never."""
        names, shelf = self.keys_at(landing.positions), self.shelf
        entries = encode_rows(
            landing.rows,
            self.precision,
            self._digests_at(landing.positions),
            stamp=self.stamp,
            expiry=expiry,
            names=names,
            signer=None if shelf.codec else shelf.signer,
        )
        return entries if shelf.codec is None else seal(entries, shelf.codec, names, shelf.signer)

    # -- loader ------------------------------------------------------------------------------

    def inputs(self, positions: Sequence[int]) -> list[str]:
        """Return what the loader is asked for."""
        return [self.texts[i] for i in positions]

    def loaded(
        self, positions: Sequence[int], output: object, loaded_at: float, ends: Ends
    ) -> Landing:
        """Check a loader's output and take what the precision keeps of it.

        Raises: LoaderError for a wrong count, shape, dimension or component; nothing of it is
        taken then, since a list that is one too short may be shifted anywhere.
        """
        matrix = self._checked(output, len(positions))
        if not self.shelf.learn(matrix.shape[1]):
            msg = (
                f"{self.shelf.label} gave vectors of {matrix.shape[1]} dimensions, its cached ones "
                f"have {self.shelf.size}: the model changed under its name; call "
                "invalidate_by_model, or name the model with dimensions or revision"
            )
            raise LoaderError(msg)
        try:
            rows = self.precision.pack(matrix)
        except CodecError as error:
            raise LoaderError(f"{self.shelf.label}: {error}") from error
        self._place(positions, self.precision.unpack(rows), LOADED)
        landing = Landing(list(positions), rows, np.empty(0))
        return landing.until(ends.of(len(positions), loaded_at))

    def nothing(self, _positions: Sequence[int]) -> list[int]:
        """Return none: a loader has a row for every text."""
        return []

    def _checked(self, output: object, count: int) -> Floats:
        label = self.shelf.label
        try:
            matrix = as_floats(output)
        except CodecError as error:
            raise LoaderError(f"{label} gave no matrix of floats: {error}") from error
        if matrix.ndim != 2 or len(matrix) != count or not matrix.shape[1]:
            msg = (
                f"{label} was given {count} texts and gave an array of shape {matrix.shape}; "
                "one vector per text is expected"
            )
            raise LoaderError(msg)
        if not np.isfinite(matrix).all():
            row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
            msg = f"{label} gave NaN or an infinite component for text {row} of {count}"
            raise LoaderError(msg)
        return matrix

    def given(self, rows: Rows, now: float, ends: Ends) -> Landing:
        """Take packed rows that the caller brought, one for each text."""
        positions = list(range(len(self.keys)))
        self._place(positions, self.precision.unpack(rows), LOADED)
        return Landing(positions, rows, np.empty(0)).until(ends.of(len(positions), now))

    # -- results -----------------------------------------------------------------------------

    def may_take(self, _other: "RowBatch", _key: bytes) -> bool:
        """Say yes: whoever got a row got the right one."""
        return True

    def taken_from(self, other: "RowBatch", positions: Sequence[int]) -> None:
        """Copy the rows at ``positions`` that another batch of the same shelf got."""
        assert other.rows is not None, "a flight lands after its rows are placed"
        there = {key: i for i, key in enumerate(other.keys)}
        rows = other.rows[[there[self.keys[i]] for i in positions]]
        self._place(positions, rows, JOINED)

    def _place(self, positions: Sequence[int], rows: Floats, origin: int) -> None:
        with self._placing:  # chunks of one batch may land in several threads
            if self.rows is None:
                if list(positions) == list(range(len(self.keys))):
                    self.rows = rows
                    self.origin[:] = origin
                    return
                self.rows = np.empty((len(self.keys), rows.shape[1]), np.float32)
        if rows.shape[1] != self.rows.shape[1]:
            msg = f"{self.shelf.label} was forgotten during this call and changed its dimension"
            raise ShapeMismatch(msg)
        index = np.array(positions, np.intp)
        self.rows[index] = rows
        self.origin[index] = origin


def as_floats(value: object) -> Floats:
    """Return a fresh float32 array of real numbers; whoever gave ``value`` cannot change it.

    Raises: CodecError for anything that is not an array of real numbers.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # rows of different lengths; whatever an __array__ may raise
        msg = f"{type(value).__name__} is no array of numbers: {error}"
        raise CodecError(msg) from error
    if array.dtype.kind not in "fiu":
        msg = f"{type(value).__name__} of {array.dtype} is no array of numbers"
        raise CodecError(msg)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
        return np.array(array, dtype=np.float32, order="C")
