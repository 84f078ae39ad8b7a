"""Rows of one size: one growing block of memory that several shelves share.

A shelf (one model in one namespace) finds its slots by text. Texts up to ``LONGEST_KEY`` characters
are themselves the keys, since a lookup by text costs a third of hashing it; longer ones are found
by the 16 bytes of their content hash, in an index of their own.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LONGEST_KEY", "Arena", "Shelf"]

LONGEST_KEY = 4096
_FIRST_ROWS = 256
# dict entry, slot number, key list, content hash, expiry, owner, id; the tier's columns by id and
# the policy's: see bench/memory.py
_INDEX_BYTES = 136
_FREE = -1

Floats = NDArray[np.float32]
Slots = NDArray[np.intp]
_Columns = tuple[
    NDArray[np.generic],
    Floats | None,
    NDArray[np.uint64],
    NDArray[np.float64],
    NDArray[np.int32],
    NDArray[np.int32],
]


_PLAIN, _LATIN, _BMP, _ASTRAL = (
    sys.getsizeof(c) - w for c, w in zip("aé€😀", (1, 1, 2, 4), strict=True)
)


def _key_bytes(key: str | bytes) -> int:
    """Return what a key costs: ``sys.getsizeof``, less the UTF-8 form CPython may add to a str.

    Computed from the text, so that what is taken off later is what was added.
    """
    if isinstance(key, bytes):
        return sys.getsizeof(key)
    if key.isascii():
        return _PLAIN + len(key)
    widest = max(key)
    if widest < "\u0100":
        return _LATIN + len(key)
    return _BMP + 2 * len(key) if widest < "\U00010000" else _ASTRAL + 4 * len(key)


class Shelf:
    """Which slot holds which text of one model in one namespace."""

    __slots__ = ("arena", "by_digest", "by_text", "number")

    def __init__(self, arena: "Arena", number: int) -> None:
        self.arena = arena
        self.number = number
        self.by_text: dict[str, int] = {}
        self.by_digest: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.by_text) + len(self.by_digest)

    def find(self, text: str, digest: bytes | None) -> int | None:
        """Return the slot of a text; ``digest`` is needed only for one over ``LONGEST_KEY``."""
        if len(text) <= LONGEST_KEY:
            return self.by_text.get(text)
        return None if digest is None else self.by_digest.get(digest)

    def index(self, key: str | bytes, slot: int) -> None:
        """Point ``key`` to ``slot``."""
        if isinstance(key, str):
            self.by_text[key] = slot
        else:
            self.by_digest[key] = slot

    def forget(self, key: str | bytes) -> None:
        """Take ``key`` out."""
        if isinstance(key, str):
            del self.by_text[key]
        else:
            del self.by_digest[key]


class Arena:
    """Slots of packed rows. Not thread-safe: the tier that owns it holds its lock.

    ``ids`` holds the entry number that the tier gave what is in a slot. Units: ``expires`` in
    monotonic seconds, 0 for never.
    """

    __slots__ = (
        "_free",
        "_scaled",
        "data",
        "digests",
        "expires",
        "high",
        "ids",
        "key_bytes",
        "keys",
        "live",
        "moving",
        "owner",
        "row_bytes",
        "scale",
        "shelves",
    )

    def __init__(self, size: int, dtype: np.dtype[np.generic], *, scaled: bool) -> None:
        self._scaled = scaled
        self._free: list[int] = []
        self.keys: list[str | bytes | None] = []
        self.shelves: dict[int, Shelf] = {}
        self.high = self.live = self.key_bytes = 0
        self.row_bytes = size * dtype.itemsize + 4 * scaled + _INDEX_BYTES
        self.moving = False
        self._use(self._columns(_FIRST_ROWS, size, dtype))

    def _columns(self, capacity: int, size: int, dtype: np.dtype[np.generic]) -> _Columns:
        # the system hands out pages as they are touched: spare capacity costs no memory
        return (
            np.empty((capacity, size), dtype),
            np.empty(capacity, np.float32) if self._scaled else None,
            np.empty((capacity, 2), np.uint64),
            np.zeros(capacity, np.float64),
            np.zeros(capacity, np.int32),
            np.full(capacity, _FREE, np.int32),
        )

    def _use(self, columns: _Columns) -> None:
        self.data, self.scale, self.digests, self.expires, self.owner, self.ids = columns

    @property
    def size(self) -> int:
        """The dimension of a row."""
        return int(self.data.shape[1])

    @property
    def allocated(self) -> int:
        """The bytes of the block that holds the rows, used or not."""
        return self.data.nbytes

    @property
    def used_bytes(self) -> int:
        """What all live entries cost, texts and index included."""
        return self.live * self.row_bytes + self.key_bytes

    def find_digests(self, shelf: Shelf, digests: Sequence[bytes]) -> list[int]:
        """Return the slots of a shelf's content hashes that are here, in the order asked.

        Cost: one vectorised pass over all slots; no second index is kept for this rare question.
        """
        wanted = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
        have = self.digests[: self.high]
        maybe = np.isin(have[:, 0], wanted[:, 0]) & self._of(shelf)
        slots = {have[slot].tobytes(): slot for slot in np.flatnonzero(maybe).tolist()}
        return [slots[digest] for digest in dict.fromkeys(digests) if digest in slots]

    def _of(self, shelf: Shelf) -> NDArray[np.bool_]:
        mine = self.owner[: self.high] == shelf.number
        return np.asarray(mine & (self.ids[: self.high] >= 0))

    def take_slot(self) -> int:
        """Return a slot that nothing points to; the caller writes its row, then enters it."""
        if self._free:
            return self._free.pop()
        if self.high == len(self.data):
            self._move(np.arange(self.high), 2 * self.high)
        self.high += 1
        self.keys.append(None)
        return self.high - 1

    def enter(self, shelf: Shelf, key: str | bytes, slot: int, entry: int) -> None:
        """Let a text be found in a slot whose row is written."""
        self.keys[slot] = key
        if self.owner[slot] != shelf.number:  # a page that is only read takes no memory
            self.owner[slot] = shelf.number
        self.key_bytes += _key_bytes(key)
        self.live += 1
        self.ids[slot] = entry
        shelf.index(key, slot)

    def repair(self) -> None:
        """Rebuild from the indexes what an operation left half done when it was interrupted.

        An index never points to a row that is not written, so whatever it says is right; unless
        slots were being renumbered, and then nothing is.
        """
        if self.moving:
            for shelf in self.shelves.values():
                shelf.by_text.clear()
                shelf.by_digest.clear()
            self.moving = False
        entries: dict[int, tuple[int, str | bytes]] = {}
        for number, shelf in self.shelves.items():
            entries.update((slot, (number, key)) for key, slot in shelf.by_text.items())
            entries.update((slot, (number, key)) for key, slot in shelf.by_digest.items())
        self.keys = [None] * self.high
        for slot, (number, key) in entries.items():
            self.keys[slot] = key
            self.owner[slot] = number
        free = [slot for slot in range(self.high) if slot not in entries]
        self.ids[free] = _FREE
        self.expires[free] = 0
        self._free = free
        self.live = len(entries)
        self.key_bytes = sum(_key_bytes(key) for _, key in entries.values())

    def remove(self, slot: int) -> None:
        """Free a live slot."""
        key = self.keys[slot]
        assert key is not None, "only live slots are removed"
        self.shelves[int(self.owner[slot])].forget(key)
        self.keys[slot] = None
        self.key_bytes -= _key_bytes(key)
        self.live -= 1
        self.ids[slot] = _FREE
        if self.expires[slot]:
            self.expires[slot] = 0
        self._free.append(slot)

    def shelf_slots(self, shelf: Shelf) -> list[int]:
        """Return the slots of a shelf."""
        return np.flatnonzero(self._of(shelf)).tolist()

    def rows(self, slots: Slots) -> Floats:
        """Return copies of the rows as float32: a view would change when its slot is reused."""
        packed = self.data.take(slots, axis=0)
        if self.scale is not None:
            return np.multiply(packed, self.scale.take(slots)[:, None], dtype=np.float32)
        return packed.astype(np.float32, copy=False)

    @property
    def is_sparse(self) -> bool:
        """Whether more than half of the slots ever used are free."""
        return self.high > _FIRST_ROWS and self.live * 2 < self.high

    def trim(self) -> object:
        """Give memory back; slots get new numbers. Returns the old blocks, to be let go of."""
        old = (self.data, self.scale, self.digests, self.expires, self.owner, self.ids)
        self._move(self.live_slots(), max(_FIRST_ROWS, self.live))
        return old

    def live_slots(self) -> Slots:
        """Return the slots in use."""
        return np.flatnonzero(self.ids[: self.high] >= 0)

    def _move(self, kept: Slots, capacity: int) -> None:
        """Copy the ``kept`` slots, in order, to the start of new blocks."""
        count = len(kept)
        columns = self._columns(capacity, self.size, self.data.dtype)
        data, scale, digests, expires, owner, ids = columns
        pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (self.data, data),
            (self.digests, digests),
            (self.expires, expires),
            (self.owner, owner),
            (self.ids, ids),
        ]
        if scale is not None and self.scale is not None:
            pairs.append((self.scale, scale))
        for source, target in pairs:
            np.take(source, kept, axis=0, out=target[:count], mode="clip")
        if count == self.high:
            self._use(columns)
            return  # grown: every slot kept its number
        self.moving = True
        self._use(columns)
        self.keys = [self.keys[slot] for slot in kept.tolist()]
        for slot, key in enumerate(self.keys):
            assert key is not None, "only live slots are kept"
            self.shelves[int(self.owner[slot])].index(key, slot)
        self._free.clear()
        self.high = count
        self.moving = False

    def check(self) -> None:
        """Raise AssertionError where indexes, keys, numbers and counts disagree; for tests."""
        slots: list[int] = []
        for number, shelf in self.shelves.items():
            assert (shelf.number, shelf.arena) == (number, self), "a shelf is where it says"
            for key, slot in [*shelf.by_text.items(), *shelf.by_digest.items()]:
                assert self.keys[slot] == key, "index and keys agree"
                assert self.owner[slot] == number, "a slot's owner indexes it"
                slots.append(slot)
        assert sorted(slots) == self.live_slots().tolist(), "indexed slots, and no others, live"
        assert len(slots) == self.live, "live counts the indexed slots"
        assert sorted([*slots, *self._free]) == list(range(self.high)), "a slot is live or free"
        assert len(self.keys) == self.high, "one key per slot"
        texts = sum(_key_bytes(key) for key in self.keys if key is not None)
        assert texts == self.key_bytes, "key_bytes counts the keys"
