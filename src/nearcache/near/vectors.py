"""The near tier for rows: shelves of several models under one budget, one lock.

The contract (five verbs: get, put, drop, expire, resize) is written as
``tests/contract/near_rows.py``, which every implementation runs.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from nearcache.clock import Clock
from nearcache.near.arena import LONGEST_KEY, Arena, Shelf

__all__ = ["VectorTier"]

Floats = NDArray[np.float32]
_EXPIRY_SLICE = 512  # slots freed per hold of the lock: well under a millisecond
_KEY_HEAD = 80  # what a str costs beside its characters, at most


def _most_key_bytes(key: str | bytes) -> int:
    """Return what a key costs at most: a str takes up to four bytes a character."""
    return 4 * len(key) + _KEY_HEAD


class _Waiting:
    """Entries of one put that have a slot, and whose rows are not written yet."""

    __slots__ = ("bytes_needed", "rows", "slots")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.slots: dict[str | bytes, int] = {}
        self.rows: dict[str | bytes, int] = {}
        self.bytes_needed = 0

    def add(self, key: str | bytes, row: int, slot: int, need: int) -> None:
        self.slots[key], self.rows[key] = slot, row
        self.bytes_needed += need


class VectorTier:
    """Rows by (shelf, text): a shelf is one model in one namespace.

    ``max_entries`` and ``max_bytes`` bound all shelves together; bytes count rows, texts and index.
    ``dtype`` and ``scaled`` say how rows are packed; what comes out is float32.

    Thread-safe. The lock is re-entrant, since any allocation may run a finaliser that calls back in
    the middle of an operation: then a get finds nothing, a put keeps nothing, and whatever drops is
    done as soon as the operation has ended. Subclasses of str are taken as the plain str they hold.
    """

    def __init__(
        self,
        *,
        dtype: np.dtype[np.generic],
        scaled: bool,
        max_entries: int,
        max_bytes: int,
        clock: Clock,
    ) -> None:
        self.lock = threading.RLock()
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.evictions = 0
        self.expirations = 0
        self._dtype = dtype
        self._scaled = scaled
        self._clock = clock
        self._shelves: dict[Hashable, Shelf] = {}
        self._arenas: dict[int, Arena] = {}
        self._numbers = -1  # the first is 0, so that its slots' owner is never written
        self._tick = 1
        self._busy = False
        self._deferred: list[Callable[[], object]] = []

    @contextmanager
    def _mending(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._repair()
            raise

    def _repair(self) -> None:
        """Bring back in order what an interrupted operation left."""
        for arena in self._arenas.values():
            arena.repair()

    def _leave(self) -> None:
        """End an operation, and do what came in its middle."""
        self._busy = False
        while self._deferred:
            self._deferred.pop(0)()

    def __len__(self) -> int:
        return sum(arena.live for arena in tuple(self._arenas.values()))

    @property
    def used_bytes(self) -> int:
        """What all entries cost, texts and index included."""
        return sum(arena.used_bytes for arena in tuple(self._arenas.values()))

    def has(self, name: Hashable) -> bool:
        """Say whether a shelf may hold anything."""
        return name in self._shelves

    # -- get ---------------------------------------------------------------------------------

    def get_all(self, name: Hashable, texts: Sequence[str]) -> Floats | None:
        """Return the rows of all texts, or None when any is missing: the path of a warm batch.

        Shapes: (n, d) float32, the caller's own.
        """
        shelf = self._shelves.get(name)
        if shelf is None:
            return None
        if set(map(type, texts)) != {str}:
            return None
        with self.lock:
            if self._busy:
                return None
            self._busy = True
            try:
                return self._get_all(shelf, texts)
            except BaseException:
                self._repair()
                raise
            finally:
                self._leave()

    def _get_all(self, shelf: Shelf, texts: Sequence[str]) -> Floats | None:
        count, arena = len(texts), shelf.arena
        try:
            slots = np.fromiter(map(shelf.by_text.get, texts), np.intp, count)
        except TypeError:  # a None among the slots
            return None
        if arena.next_expiry <= (now := self._clock()):
            expires = arena.expires.take(slots)
            if ((expires > 0) & (expires <= now)).any():
                return None
        arena.order.stamps[slots] = np.arange(self._tick, self._tick + count)
        self._tick += count
        return arena.rows(slots)

    def get_some(
        self, name: Hashable, texts: Sequence[str], digests: Sequence[bytes] | None = None
    ) -> tuple[list[int], Floats | None]:
        """Return the positions that are here and their rows, in that order.

        Without ``digests``, texts over ``LONGEST_KEY`` characters are not looked for.
        """
        shelf = self._shelves.get(name)
        if shelf is None:
            return [], None
        with self.lock:
            if self._busy:
                return [], None
            self._busy = True
            try:
                return self._get_some(shelf, texts, digests)
            except BaseException:
                self._repair()
                raise
            finally:
                self._leave()

    def _get_some(
        self, shelf: Shelf, texts: Sequence[str], digests: Sequence[bytes] | None
    ) -> tuple[list[int], Floats | None]:
        now = self._clock()
        found: list[int] = []
        slots: list[int] = []
        for i, text in enumerate(texts):
            slot = shelf.find(str.__str__(text), None if digests is None else digests[i])
            if slot is not None and not self._drop_if_expired(shelf.arena, slot, now):
                found.append(i)
                slots.append(slot)
        if not found:
            return [], None
        index = np.array(slots, np.intp)
        shelf.arena.order.stamps[index] = np.arange(self._tick, self._tick + len(slots))
        self._tick += len(slots)
        return found, shelf.arena.rows(index)

    def get_one(self, name: Hashable, text: str) -> Floats | None:
        """Return the (d,) row of a text up to ``LONGEST_KEY`` characters, or None."""
        shelf = self._shelves.get(name)
        if shelf is None or not isinstance(text, str):
            return None
        return self._one(shelf, lambda: shelf.by_text.get(str.__str__(text)))

    def get_digest(self, name: Hashable, digest: bytes) -> Floats | None:
        """Return the (d,) row of a content hash, or None."""
        shelf = self._shelves.get(name)
        if shelf is None:
            return None
        return self._one(shelf, lambda: next(iter(shelf.arena.find_digests(shelf, [digest])), None))

    def _one(self, shelf: Shelf, find: Callable[[], int | None]) -> Floats | None:
        with self.lock:
            if self._busy:
                return None
            self._busy = True
            try:
                slot = find()
                return None if slot is None else self._row(shelf.arena, slot)
            except BaseException:
                self._repair()
                raise
            finally:
                self._leave()

    def _row(self, arena: Arena, slot: int) -> Floats | None:
        if self._drop_if_expired(arena, slot, self._clock()):
            return None
        arena.order.stamps[slot] = self._tick
        self._tick += 1
        row: Floats = arena.rows(np.array([slot]))[0]
        return row

    def _drop_if_expired(self, arena: Arena, slot: int, now: float) -> bool:
        if now < arena.next_expiry or not 0 < arena.expires[slot] <= now:
            return False
        arena.remove(slot)
        self.expirations += 1
        return True

    # -- put ---------------------------------------------------------------------------------

    def put(
        self,
        name: Hashable,
        texts: Sequence[str],
        digests: Sequence[bytes],
        data: NDArray[np.generic],
        scale: Floats | None,
        expires: NDArray[np.float64],
    ) -> int:
        """Keep packed rows, each until its monotonic time in ``expires`` (0: until evicted).

        Returns how many others had to leave. An existing entry is overwritten in place: that never
        evicts another.
        """
        if not self.max_entries or not len(texts):
            return 0
        with self.lock:
            if self._busy:
                return 0
            self._busy = True
            before = self.evictions
            try:
                self._put(name, texts, digests, data, scale, expires)
                return self.evictions - before
            except BaseException:
                self._repair()
                raise
            finally:
                self._leave()

    def _put(
        self,
        name: Hashable,
        texts: Sequence[str],
        digests: Sequence[bytes],
        data: NDArray[np.generic],
        scale: Floats | None,
        expires: NDArray[np.float64],
    ) -> None:
        shelf = self._shelf(name, data.shape[1])
        arena = shelf.arena
        # a text is found only once its row is written: an operation that is interrupted at any
        # point (Ctrl-C, no memory) must not leave a text that finds another's row
        waiting = _Waiting()

        def flush() -> None:
            if not waiting.slots:
                return
            kept = list(waiting.rows.values())
            index = np.array(list(waiting.slots.values()), np.intp)
            arena.data[index] = data[kept]
            if scale is not None and arena.scale is not None:
                arena.scale[index] = scale[kept]
            names = np.frombuffer(b"".join([digests[i] for i in kept]), np.uint64)
            arena.digests[index] = names.reshape(-1, 2)
            life = expires[kept]
            bounded = life[life > 0]
            if len(bounded):
                arena.expires[index] = life
                arena.next_expiry = min(arena.next_expiry, float(bounded.min()))
            for key, slot in waiting.slots.items():
                arena.enter(shelf, key, slot, self._tick)
                self._tick += 1
            waiting.clear()

        for i, given in enumerate(texts):
            text = str.__str__(given)
            key: str | bytes = text if len(text) <= LONGEST_KEY else digests[i]
            if key in waiting.slots:
                flush()
            slot = shelf.find(text, digests[i])
            if slot is not None:
                arena.remove(slot)
            need = arena.row_bytes + _most_key_bytes(key)
            if self._make_room(arena, need, waiting, flush):
                waiting.add(key, i, arena.take_slot(), need)
        flush()

    def _shelf(self, name: Hashable, size: int) -> Shelf:
        shelf = self._shelves.get(name)
        if shelf is not None and shelf.arena.size == size:
            return shelf
        if shelf is not None:  # the model was forgotten and came back with another dimension
            self._drop_shelf(name)
        arena = self._arenas.get(size)
        if arena is None:
            arena = self._arenas[size] = Arena(size, self._dtype, scaled=self._scaled)
        self._numbers += 1
        shelf = self._shelves[name] = arena.shelves[self._numbers] = Shelf(arena, self._numbers)
        return shelf

    def _make_room(
        self, arena: Arena, need: int, waiting: "_Waiting", flush: Callable[[], None]
    ) -> bool:
        """Free what one more entry needs: expired entries leave first, then the oldest."""
        if need > self.max_bytes:
            return False
        if self._fits(need, waiting):
            return True
        flush()  # now the sizes are exact, and what is new may be evicted too
        if not self._fits(need, waiting):
            self._drop_expired(self._clock())
        while not self._fits(need, waiting):
            self._evict_oldest(arena)
        return True

    def _fits(self, need: int, waiting: "_Waiting") -> bool:
        if len(self) + len(waiting.slots) >= self.max_entries:
            return False
        return self.used_bytes + waiting.bytes_needed + need <= self.max_bytes

    def _evict_oldest(self, into: Arena | None) -> None:
        oldest: tuple[int, int, Arena] | None = None
        for arena in self._arenas.values():
            candidate = arena.order.oldest(arena.high)
            if candidate is not None and (oldest is None or candidate[0] < oldest[0]):
                oldest = (*candidate, arena)
        assert oldest is not None, "a full budget has an entry to evict"
        _, slot, arena = oldest
        arena.remove(slot)
        self.evictions += 1
        if arena is not into:  # its slots are not about to be reused
            arena.trim()

    # -- drop --------------------------------------------------------------------------------

    def drop(self, name: Hashable, digests: Sequence[bytes]) -> int:
        """Forget entries by content hash; return how many were here."""
        with self.lock, self._mending():
            if self._busy:
                self._deferred.append(lambda: self.drop(name, digests))
                return 0
            shelf = self._shelves.get(name)
            if shelf is None or not len(digests):
                return 0
            slots = shelf.arena.find_digests(shelf, digests)
            for slot in slots:
                shelf.arena.remove(slot)
            shelf.arena.trim()
            return len(slots)

    def drop_shelves(self, names: Iterable[Hashable]) -> int:
        """Forget whole shelves; return how many entries were here."""
        gone = list(names)
        with self.lock, self._mending():
            if self._busy:
                self._deferred.append(lambda: self.drop_shelves(gone))
                return 0
            return sum(self._drop_shelf(name) for name in gone)

    def _drop_shelf(self, name: Hashable) -> int:
        shelf = self._shelves.pop(name, None)
        if shelf is None:
            return 0
        count, arena = len(shelf), shelf.arena
        if count == arena.live:
            del self._arenas[arena.size]
        else:
            arena.remove_shelf(shelf)
            arena.trim()
        # other shelves of a dropped arena were empty: they start anew with their next row
        for other in [n for n, s in self._shelves.items() if s.arena is arena and not len(s)]:
            if arena.size not in self._arenas:
                del self._shelves[other]
        return count

    # -- expire ------------------------------------------------------------------------------

    def expire(self) -> int:
        """Drop every entry whose life has ended; the lock is held for short slices only."""
        with self.lock:
            if self._busy:
                self._deferred.append(self.expire)
                return 0
        dropped, now = 0, self._clock()
        for arena in tuple(self._arenas.values()):
            with self.lock:
                slots = arena.expired(now)
            for at in range(0, len(slots), _EXPIRY_SLICE):
                with self.lock, self._mending():
                    dropped += self._remove_expired(arena, slots[at : at + _EXPIRY_SLICE], now)
            if slots:
                with self.lock, self._mending():
                    arena.settle_expiry()
                    arena.trim()
        return dropped

    def _drop_expired(self, now: float) -> None:
        for arena in self._arenas.values():
            if slots := arena.expired(now):
                self._remove_expired(arena, slots, now)
                arena.settle_expiry()

    def _remove_expired(self, arena: Arena, slots: list[int], now: float) -> int:
        dropped = 0
        for slot in slots:
            # between two slices the slot may have been overwritten, freed, or moved by a trim
            if slot < arena.high and 0 < arena.expires[slot] <= now:
                arena.remove(slot)
                dropped += 1
        self.expirations += dropped
        return dropped

    # -- rare things -------------------------------------------------------------------------

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Set new budgets and evict at once what no longer fits."""
        with self.lock, self._mending():
            if self._busy:
                self._deferred.append(lambda: self.resize(max_entries, max_bytes))
                return
            self._drop_expired(self._clock())
            while len(self) > max_entries or self.used_bytes > max_bytes:
                self._evict_oldest(None)
            self.max_entries, self.max_bytes = max_entries, max_bytes

    def peek(self, name: Hashable, digest: bytes) -> tuple[float, int] | None:
        """Return (expiry, bytes beside the text) of an entry without touching it."""
        with self.lock:
            shelf = self._shelves.get(name)
            slots = [] if shelf is None else shelf.arena.find_digests(shelf, [digest])
            if shelf is None or not slots:
                return None
            return float(shelf.arena.expires[slots[0]]), shelf.arena.row_bytes

    def listing(self) -> list[tuple[Hashable, str]]:
        """Return (shelf, content hash) of every entry, in no order."""
        with self.lock:
            return [
                (name, shelf.arena.digests[slot].tobytes().hex())
                for name, shelf in self._shelves.items()
                for slot in [*shelf.by_text.values(), *shelf.by_digest.values()]
            ]

    def check(self) -> None:
        """Raise AssertionError where the tier is inconsistent; for tests."""
        with self.lock:
            for size, arena in self._arenas.items():
                assert arena.size == size, "an arena holds rows of its own size"
                arena.check()
            for shelf in self._shelves.values():
                assert self._arenas.get(shelf.arena.size) is shelf.arena, "no shelf is adrift"
            assert len(self) <= self.max_entries, "the entry budget holds"
            assert self.used_bytes <= self.max_bytes, "the byte budget holds"
