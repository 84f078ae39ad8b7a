"""The near tier for rows: shelves of several models under one budget, one lock.

The contract (five verbs: get, put, drop, expire, resize) is written as
``nearcache.testing.contracts.near_rows``, which every implementation runs.
"""

import itertools
import threading
import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from nearcache.clock import Clock
from nearcache.near.arena import LONGEST_KEY, Arena, Shelf
from nearcache.near.curve import Curve, Histogram
from nearcache.near.lives import Lives
from nearcache.near.policies.base import Policy, by_name
from nearcache.near.trail import Steps

__all__ = ["VectorTier"]

Floats = NDArray[np.float32]
_EXPIRY_SLICE = 256  # entries dropped per hold of the lock: well under a millisecond
_FIRST_ENTRIES = 256
_MOVED_AT_ONCE = 2**20  # bytes of rows that a clean-up moves while it holds the lock
_HASH_BITS = 2**64 - 1
_APART = 0x9E3779B97F4A7C15  # golden ratio: shelves' hashes lie far apart
_KEY_HEAD = 80  # what a str costs beside its characters, at most


def _most_key_bytes(key: str | bytes) -> int:
    """Return what a key costs at most: a str takes up to four bytes a character."""
    return 4 * len(key) + _KEY_HEAD


def _hash_of(shelf: Shelf, key: str | bytes) -> int:
    """Return 64 well-mixed bits of a key: CPython's own hash of a text is keyed and mixed."""
    return (hash(key) + shelf.number * _APART) & _HASH_BITS


class _Waiting:
    """Entries of one put that have a slot, and whose rows are not written yet."""

    __slots__ = ("bytes_needed", "entries", "rows", "slots")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.slots: dict[str | bytes, int] = {}
        self.rows: dict[str | bytes, int] = {}
        self.entries: dict[str | bytes, int] = {}  # of those that are overwritten
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
        policy: str | Policy = "lru",
        seed: int = 0,
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
        self._policy = by_name(policy, seed) if isinstance(policy, str) else policy
        self.policy = self._policy.name
        # an entry's number, and where it is: what the policy and the lives speak of
        self._arena_of: list[Arena | None] = []
        self._slot_of = array("i")
        self._free: list[int] = []
        self._lives = Lives()
        self._hashes = array("Q")
        self._curve = Curve()
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
        for name, shelf in tuple(self._shelves.items()):  # one that was being dropped is gone
            known = self._arenas.get(shelf.arena.size) is shelf.arena
            if not known or shelf.arena.shelves.get(shelf.number) is not shelf:
                del self._shelves[name]
        places: dict[int, tuple[Arena, int, int]] = {}
        lost: list[tuple[Arena, int, int]] = []
        for arena in self._arenas.values():
            arena.repair()
            for shelf in arena.shelves.values():
                slots: list[tuple[str | bytes, int]] = [
                    *shelf.by_text.items(),
                    *shelf.by_digest.items(),
                ]
                for key, slot in slots:
                    entry, place = int(arena.ids[slot]), (arena, slot, _hash_of(shelf, key))
                    if entry < 0 or entry in places:
                        lost.append(place)
                    else:
                        places[entry] = place
        fresh = (entry for entry in range(len(places) + len(lost)) if entry not in places)
        places.update(zip(fresh, lost, strict=False))
        count = max(places, default=-1) + 1
        self._arena_of = [None] * count
        self._slot_of = array("i", bytes(4 * count))
        self._hashes = array("Q", bytes(8 * count))
        self._curve.reset()
        self._free = [entry for entry in range(count) if entry not in places]
        self._lives.clear()
        for entry, (arena, slot, key_hash) in places.items():
            self._arena_of[entry], self._slot_of[entry] = arena, slot
            self._hashes[entry] = key_hash
            arena.ids[slot] = entry
            if arena.expires[slot] > 0:
                self._lives.add(entry, float(arena.expires[slot]))
        self._policy.rebuild([(entry, place[2]) for entry, place in sorted(places.items())])
        self._policy.reserve(count)

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
        if self._lives.next <= (now := self._now()):
            expires = arena.expires.take(slots)
            if ((expires > 0) & (expires <= now)).any():
                return None
        self._touch(arena, slots)
        return arena.rows(slots)

    def _now(self) -> float:
        return self._clock() if self._lives.count else 0.0

    def _touch(self, arena: Arena, slots: NDArray[np.intp]) -> None:
        entries = arena.ids.take(slots).astype(np.intp)
        self._curve.hit_many(np.frombuffer(self._hashes, np.uint64).take(entries))
        if self._policy.on_hit != "nothing":
            self._policy.touch_many(entries)

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
        now = self._now()
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
        self._touch(shelf.arena, index)
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
        if self._drop_if_expired(arena, slot, self._now()):
            return None
        entry = int(arena.ids[slot])
        self._policy.touch(entry)
        self._curve.hit(self._hashes[entry])
        row: Floats = arena.rows(np.array([slot]))[0]
        return row

    def _drop_if_expired(self, arena: Arena, slot: int, now: float) -> bool:
        if now < self._lives.next or not 0 < arena.expires[slot] <= now:
            return False
        self._remove(arena, slot)
        self.expirations += 1
        return True

    # -- entries -----------------------------------------------------------------------------

    def _enter(self, shelf: Shelf, key: str | bytes, slot: int) -> int:
        """Give what was put in a slot a number, and let it be found."""
        if not self._free:
            count = len(self._arena_of)
            more = max(_FIRST_ENTRIES, count)
            self._policy.reserve(count + more)
            self._slot_of.extend(array("i", bytes(4 * more)))
            self._hashes.extend(array("Q", bytes(8 * more)))
            self._arena_of.extend([None] * more)
            self._free.extend(range(count + more - 1, count - 1, -1))
        entry = self._free.pop()
        self._arena_of[entry], self._slot_of[entry] = shelf.arena, slot
        self._hashes[entry] = key_hash = _hash_of(shelf, key)
        self._policy.insert(entry, key_hash)
        self._curve.miss(key_hash, len(self))
        shelf.arena.enter(shelf, key, slot, entry)
        return entry

    def _remove(self, arena: Arena, slot: int) -> None:
        entry = int(arena.ids[slot])
        arena.remove(slot)
        self._policy.remove(entry)
        self._release(entry)

    def _release(self, entry: int) -> None:
        self._arena_of[entry] = None
        self._free.append(entry)

    def _trim(self, arena: Arena) -> object:
        """Give memory back if there is much; return the old blocks."""
        if not arena.is_sparse:
            return None
        old = arena.trim()
        for slot, entry in enumerate(arena.ids[: arena.high].tolist()):
            self._slot_of[entry] = slot
        return old

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
        count = len(texts)
        if (
            (data.ndim, len(data), len(digests), expires.shape) != (2, count, count, (count,))
            or not data.shape[1]
            or (scale is not None and scale.shape != (count,))
        ):
            msg = "texts, hashes, rows (n, d) and expiries (n,) of one put belong together"
            raise ValueError(msg)
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
            life = np.where(expires[kept] > 0, expires[kept], 0.0)
            bounded = life > 0
            if bounded.any():
                arena.expires[index] = life
            for key, slot in waiting.slots.items():
                entry = waiting.entries.get(key)
                if entry is None:
                    self._enter(shelf, key, slot)
                else:
                    self._slot_of[entry] = slot
                    self._policy.touch(entry)
                    arena.enter(shelf, key, slot, entry)
            if bounded.any():
                self._weed()
                self._lives.add_many(arena.ids.take(index)[bounded], life[bounded])
            waiting.clear()

        for i, given in enumerate(texts):
            text = str.__str__(given)
            key: str | bytes = text if len(text) <= LONGEST_KEY else digests[i]
            if key in waiting.slots:
                flush()
            slot = shelf.find(text, digests[i])
            need = arena.row_bytes + _most_key_bytes(key)
            if slot is not None:  # it takes what it had
                waiting.entries[key] = int(arena.ids[slot])
                arena.remove(slot)
                waiting.add(key, i, arena.take_slot(), 0)
            elif self._make_room(arena, need, waiting, flush):
                waiting.add(key, i, arena.take_slot(), need)
        flush()

    def _weed(self) -> None:
        """Forget the ends of lives that ended early, once they are the larger part."""
        if self._lives.count <= 2 * len(self) + _FIRST_ENTRIES:
            return
        self._lives.clear()
        for arena in self._arenas.values():
            ends = arena.expires[: arena.high]
            bounded = np.flatnonzero((ends > 0) & (arena.ids[: arena.high] >= 0))
            self._lives.add_many(arena.ids.take(bounded), ends.take(bounded))

    def _shelf(self, name: Hashable, size: int) -> Shelf:
        shelf = self._shelves.get(name)
        if shelf is not None and shelf.arena.size == size:
            return shelf
        if shelf is not None:  # the model was forgotten and came back with another dimension
            self._drop_shelf(name)
        arena = self._arenas.get(size)
        if arena is None:
            arena = self._arenas[size] = Arena(size, self._dtype, scaled=self._scaled)
        used = {number for each in self._arenas.values() for number in each.shelves}
        number = next(number for number in itertools.count() if number not in used)
        shelf = self._shelves[name] = arena.shelves[number] = Shelf(arena, number)
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
            self._drop_expired()
        while not self._fits(need, waiting):
            self._evict(arena)
        return True

    def _fits(self, need: int, waiting: "_Waiting") -> bool:
        if len(self) + len(waiting.slots) >= self.max_entries:
            return False
        return self.used_bytes + waiting.bytes_needed + need <= self.max_bytes

    def _drop_expired(self) -> None:
        now = self._now()
        while self._drop_due(now, _EXPIRY_SLICE):
            pass

    def _evict(self, into: Arena | None) -> None:
        entry = self._policy.evict()
        arena = None if entry is None else self._arena_of[entry]
        assert entry is not None, "a full budget has an entry to evict"
        assert arena is not None, "the policy knows only what is here"
        arena.remove(self._slot_of[entry])
        self._release(entry)
        self.evictions += 1
        if arena is not into:  # its slots are not about to be reused
            self._trim(arena)

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
                self._remove(shelf.arena, slot)
            if slots:
                self._trim(shelf.arena)
                self._settle()
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
        shelf = self._shelves.get(name)
        if shelf is None:
            return 0
        count, arena = len(shelf), shelf.arena
        for slot in arena.shelf_slots(shelf):
            self._remove(arena, slot)
        if not arena.live:
            del self._arenas[arena.size]
        else:
            del arena.shelves[shelf.number]
            self._trim(arena)
        del self._shelves[name]
        self._settle()
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
        while True:
            with self.lock, self._mending():
                before = self.expirations
                looked = self._drop_due(now, _EXPIRY_SLICE)
                dropped += self.expirations - before
            if not looked:
                break
            time.sleep(0)  # whoever waits for the lock gets it now
        if dropped:
            for arena in tuple(self._arenas.values()):
                if arena.live * arena.row_bytes <= _MOVED_AT_ONCE:
                    with self.lock, self._mending():
                        old = self._trim(arena)
                    del old  # giving large blocks back takes long: not under the lock
            with self.lock, self._mending():
                self._settle()
        return dropped

    def _settle(self) -> None:
        """An empty tier remembers nobody."""
        if not len(self):
            self._policy.clear()

    def _drop_due(self, now: float, most: int) -> int:
        """Drop up to ``most`` entries whose life has ended; return how many were looked at."""
        due = self._lives.due(now, most)
        for entry, end in due:
            arena = self._arena_of[entry] if entry < len(self._arena_of) else None
            if arena is not None and arena.expires[self._slot_of[entry]] == end:
                self._remove(arena, self._slot_of[entry])
                self.expirations += 1
        return len(due)

    # -- rare things -------------------------------------------------------------------------

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Set new budgets and evict at once what no longer fits."""
        with self.lock, self._mending():
            if self._busy:
                self._deferred.append(lambda: self.resize(max_entries, max_bytes))
                return
            self._drop_expired()
            while len(self) > max_entries or self.used_bytes > max_bytes:
                self._evict(None)
            self.max_entries, self.max_bytes = max_entries, max_bytes
            self._settle()

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

    def histogram(self) -> Histogram:
        """Return what near.curve.measured() makes a miss-ratio curve of."""
        with self.lock:
            return self._curve.histogram()

    def trail(self) -> Steps:
        """Return what near.miniature plays on caches of other sizes."""
        with self.lock:
            return self._curve.trail()

    def check(self) -> None:
        """Raise AssertionError where the tier is inconsistent; for tests."""
        with self.lock:
            for size, arena in self._arenas.items():
                assert arena.size == size, "an arena holds rows of its own size"
                arena.check()
                for slot in arena.live_slots().tolist():
                    entry = int(arena.ids[slot])
                    assert self._arena_of[entry] is arena, "an entry's number leads to its arena"
                    assert self._slot_of[entry] == slot, "and to its slot"
            self._policy.check()
            assert len(self._policy) == len(self), "the policy knows every entry"
            assert len(self) + len(self._free) == len(self._arena_of), "a number is used or free"
            for shelf in self._shelves.values():
                assert self._arenas.get(shelf.arena.size) is shelf.arena, "no shelf is adrift"
            assert len(self) <= self.max_entries, "the entry budget holds"
            assert self.used_bytes <= self.max_bytes, "the byte budget holds"
