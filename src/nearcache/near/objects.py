"""The near tier for any value: what was put comes back, the same object.

The contract is ``nearcache.testing.contracts.near_objects``, which every implementation runs.
"""

import operator
import os
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from nearcache.clock import Clock
from nearcache.near.lives import Lives
from nearcache.near.policies.base import Policy, by_name

__all__ = ["ENTRY_BYTES", "LIFE_BYTES", "ObjectTier"]

# At 100,000 entries: 240 bytes allocated (tracemalloc) under adaptive, of which 7 are its shadows,
# which take 0.7 MB in a cache of any size; 218 to 224 under the others. A limited life takes 43.
ENTRY_BYTES = 230
"""What the tier itself takes for an entry: its list, its places in the index, columns, policy."""
LIFE_BYTES = 40
"""What it takes on top when the entry's life is limited: the time, and its place in a bucket."""

# An entry: [value, end, slot, hits]. The index leads from keys to entries; what a hit does not need
# is in columns, by slot. An end of 0 is none.
_END, _SLOT, _HITS = 1, 2, 3
_VALUE_AND_END, _ALL_BUT_HITS = slice(0, 2), slice(0, 3)
_DROPPED = -1.0  # an end that has always passed: a hit needs no other look at what has left
_FORGOTTEN = (None, _DROPPED)
_LEFT = (None, _DROPPED, -1)

_NOTHING, _MARK, _CALL, _LOCK = range(4)
# to note a hit in a log is a call, too: of the log's append
_ON_HIT = {"nothing": _NOTHING, "log": _CALL, "mark": _MARK, "call": _CALL, "lock": _LOCK}
_MOST_LOGGED = 4096
_FEW_LOGGED = 16  # hits that the policy is told one by one: an array would take longer
_FIRST_SLOTS = 256
_SPARE = 256  # what may lie about although it leads to nothing
_SLICE = 64  # entries dropped per hold of the lock: well under a millisecond
_TRIES = 3
_WORD = 2**64 - 1

Entry = list[Any]


class ObjectTier:
    """Values by key, each until its time has come or others need the place.

    ``policy`` is the name of one, or one; ``seed`` is for those that draw lots. Whoever puts a
    value says what it costs beside the tier's own ``ENTRY_BYTES`` and ``LIFE_BYTES``.

    Thread-safe. A hit takes no lock, except where the policy needs it. Keys may do anything in
    their ``__eq__`` and ``__hash__``, values when they are destroyed. What calls the tier from the
    middle of an operation in the same thread (a key, the clock, a signal handler, a finaliser in an
    allocation) gets what is here; what it drops or puts anew is not found from then on, and the
    rest of its call is done as soon as the operation has ended.

    Interrupted (Ctrl-C, no memory) at any point, a tier is in order again with its next operation
    at the latest; what was being written may be gone.
    """

    __slots__ = (
        "__weakref__",
        "_bounded",
        "_busy",
        "_capacity",
        "_clock",
        "_ends",
        "_entries",
        "_free",
        "_hashes",
        "_index",
        "_keys",
        "_later",
        "_left_hits",
        "_lives",
        "_log",
        "_marks",
        "_most",
        "_on_hit",
        "_policy",
        "_secret",
        "_sizes",
        "_torn",
        "_total",
        "_touch",
        "evictions",
        "expirations",
        "lock",
        "max_bytes",
        "max_entries",
        "misses",
        "policy",
    )

    def __init__(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        clock: Clock,
        policy: str | Policy = "lru",
        seed: int | None = None,
    ) -> None:
        if isinstance(policy, str):
            drawn = int.from_bytes(os.urandom(8), "little") if seed is None else seed
            policy = by_name(policy, drawn)
        self.lock = threading.RLock()
        self.policy: str = policy.name
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.misses = 0
        self.evictions = 0
        self.expirations: int = 0
        self._clock = clock
        self._policy = policy
        self._on_hit = _ON_HIT[policy.on_hit]
        self._marks = policy.marks
        self._most = policy.most
        # hits the policy has not been told of. Appending is atomic, and so needs no lock; of a full
        # log the oldest are lost
        self._log: deque[int] = deque(maxlen=_MOST_LOGGED)
        self._touch: Callable[[int], None] | None = None
        if self._on_hit == _CALL:
            self._touch = self._log.append if policy.on_hit == "log" else policy.touch
        self._secret = int.from_bytes(os.urandom(7), "little")
        self._busy = False  # an operation is under way, in the thread that holds the lock
        self._torn = False  # it is between its first change and its last
        self._later: deque[Callable[[], object]] = deque()
        self._left_hits = 0  # of entries that have left
        self._lives = Lives()
        self._empty_out()

    def _empty_out(self) -> None:
        self._index: dict[Hashable, Entry] = {}
        self._entries: list[Entry | None] = []
        self._keys: list[Any] = []
        self._hashes = array("Q")
        self._sizes = array("Q")
        self._ends = array("d")
        self._free: list[int] = []
        self._bounded = 0
        self._total = 0
        self._capacity = 0
        self._lives.clear()
        self._log.clear()
        self._policy.clear()
        self._policy.reserve(0)

    def __len__(self) -> int:
        return len(self._entries) - len(self._free)

    @property
    def used_bytes(self) -> int:
        """What all entries cost, index included."""
        return self._total

    @property
    def hits(self) -> int:
        """How many gets found something. Adds up the entries: for statistics, not for a loop."""
        with self.lock:
            total, entries = self._left_hits, self._entries[:]
        # those that leave from here on keep their number
        return int(total + sum(entry[_HITS] for entry in entries if entry is not None))

    # -- get ---------------------------------------------------------------------------------

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""
        # No lock, and counts are exact: CPython with the GIL lets other threads and signal
        # handlers in only where a call begins or returns and at a jump back, and finalisers where
        # a container is allocated. From the unpacking, or the second look at the end, to the
        # counts there is nothing of that kind; an entry that left before has an end that is over.
        entry = self._index.get(key)
        if entry is None:
            self.misses += 1
            return default
        value, end, slot, hits = entry
        if end:
            clock = self._clock  # as a local it is called faster
            if end <= clock() or entry[_END] != end:  # others had their turn
                return self._get_slowly(key, default)
            hits = entry[_HITS]
        touch = self._touch
        if touch is not None:
            entry[_HITS] = hits + 1
            try:  # noqa: SIM105 a with costs more than all the rest
                touch(slot)
            except IndexError:  # all has left meanwhile, and the policy's columns too
                pass
            return value
        on_hit = self._on_hit
        if on_hit == _MARK:
            entry[_HITS] = hits + 1
            marks = self._marks
            if marks[slot] < self._most:
                marks[slot] += 1
        elif on_hit == _LOCK:
            return self._get_slowly(key, default)
        else:
            entry[_HITS] = hits + 1
        return value

    def _get_slowly(self, key: Hashable, default: Any) -> Any:
        found = self._do(self._get, key)
        if not found:
            self.misses += 1
            return default
        return found[0]

    def _get(self, gone: list[Any], key: Hashable) -> tuple[Any, ...]:
        entry = self._alive(gone, key)
        if entry is None:
            return ()
        entry[_HITS] += 1
        self._torn = True
        self._policy.touch(entry[_SLOT])
        self._torn = False
        return (entry[0],)

    def get_many(self, keys: Iterable[Hashable], default: Any = None) -> list[Any]:
        """Return the values of several keys, ``default`` for each that is not here."""
        return [self.get(key, default) for key in keys]

    def __contains__(self, key: Hashable) -> bool:
        entry = self._index.get(key)
        return entry is not None and (not entry[_END] or bool(self._do(self._has, key)))

    def _has(self, gone: list[Any], key: Hashable) -> bool:
        return self._alive(gone, key) is not None

    def peek(self, key: Hashable) -> tuple[Any, float, int, int] | None:
        """Return (value, expiry, hits, bytes) without touching the entry, or None."""
        with self.lock:
            entry = self._index.get(key)
            if entry is None or entry[_END] < 0:
                return None
            value, end, slot, hits = entry
            return value, end, hits, self._cost(slot)

    # -- operations --------------------------------------------------------------------------

    def _do(self, act: Callable[..., Any], *args: Any) -> Any:
        """Run one operation; None if this thread is in the middle of another.

        ``act`` puts what it takes out into the list it gets: values are let go when all is in
        order and the lock is free.
        """
        gone: list[Any] = []
        with self.lock:
            if self._busy:
                return None
            try:
                self._busy = True
                if self._torn:
                    self._repair(gone)
                if len(self._index) > 2 * len(self) + _SPARE:
                    self._clear(gone)  # keys whose hash changes cannot be taken out
                if self._log:
                    self._tell_hits()
                done = act(gone, *args)
            except BaseException:
                if self._torn:
                    self._repair(gone)
                raise
            finally:
                self._busy = False
        gone.clear()
        while self._later:
            with suppress(IndexError):  # another thread was faster
                again = self._later.popleft()
                again()
        return done

    def _tell_hits(self) -> None:
        """Tell the policy of the hits that were logged."""
        log, known = self._log, self._capacity
        self._torn = True
        if len(log) <= _FEW_LOGGED:
            for _ in range(len(log)):  # others may append, but not take away
                slot = log.popleft()
                if slot < known:  # else it has left, and the policy's columns too
                    self._policy.touch(slot)
        else:
            slots = np.array([log.popleft() for _ in range(len(log))], np.intp)
            self._policy.touch_many(slots[slots < known])
        self._torn = False

    def _cost(self, slot: int) -> int:
        return ENTRY_BYTES + self._sizes[slot] + (LIFE_BYTES if self._ends[slot] else 0)

    def _alive(self, gone: list[Any], key: Hashable) -> Entry | None:
        """Return the entry of a key; one whose life has ended is dropped."""
        entry = self._index.get(key)
        if entry is None or entry[_SLOT] < 0:
            return None
        end = entry[_END]
        if not end or (end > 0 and end > self._clock()):
            return entry
        self._torn = True
        if end > 0:
            self.expirations += 1
        self._drop_entry(gone, entry)
        self._torn = False
        return None

    def _forget(self, key: Hashable) -> bool:
        """Let nobody find a key from now on, in the middle of an operation that ends first."""
        entry = self._index.get(key)
        if entry is None or entry[_END] < 0:
            return False
        was_alive = not entry[_END] or entry[_END] > self._clock()
        value = entry[0]
        entry[_VALUE_AND_END] = _FORGOTTEN
        del value
        return bool(was_alive)

    # -- put ---------------------------------------------------------------------------------

    def put(self, key: Hashable, value: Any, expires: float = 0.0, size: int = 0) -> int:
        """Keep a value until its monotonic time ``expires`` (0: until evicted).

        ``size`` is what key and value cost. Returns how many others had to leave. An existing entry
        is overwritten in place: that evicts another only if the new value is larger.
        """
        spread = hash((hash(key), self._secret)) & _WORD
        end = float(expires)
        end = end if end > 0 else 0.0
        size = operator.index(size)
        if not 0 <= size <= _WORD:
            raise OverflowError("a size is a number of bytes")
        evicted = self._do(self._put, key, value, spread, end, size)
        if evicted is None:
            self._forget(key)
            self._later.append(partial(self.put, key, value, expires, size))
            return 0
        return int(evicted)

    def _put(
        self, gone: list[Any], key: Hashable, value: Any, spread: int, end: float, size: int
    ) -> int:
        cost = ENTRY_BYTES + size + (LIFE_BYTES if end else 0)
        entry = self._index.get(key)
        if entry is not None and entry[_SLOT] >= 0:
            old = self._cost(entry[_SLOT])
            if cost <= old or self._total - old + cost <= self.max_bytes:
                self._torn = True
                self._replace(gone, entry, value, end, size)
                self._torn = False
                return 0
            self._torn = True
            self._drop_entry(gone, entry)
            self._torn = False
        if cost > self.max_bytes or not self.max_entries:
            return 0
        now = 0.0
        if not self._fits(cost) and self._lives.count:
            now = self._clock()
        before = self.evictions
        self._torn = True
        while not self._fits(cost):
            if self._lives.next <= now:
                self._drop_due(gone, now, 1)
            else:
                self._evict(gone)
        self._enter(gone, key, value, spread, end, size)
        self._torn = False
        return self.evictions - before

    def _fits(self, cost: int) -> bool:
        return len(self) < self.max_entries and self._total + cost <= self.max_bytes

    def _replace(self, gone: list[Any], entry: Entry, value: Any, end: float, size: int) -> None:
        slot = entry[_SLOT]
        gone.append(entry[0])
        self._total -= self._cost(slot)
        self._bounded -= self._ends[slot] > 0
        self._sizes[slot] = size
        self._ends[slot] = end
        entry[_VALUE_AND_END] = (value, end)
        self._total += self._cost(slot)
        self._limit(slot, end)
        self._policy.touch(slot)

    def _enter(
        self, gone: list[Any], key: Hashable, value: Any, spread: int, end: float, size: int
    ) -> None:
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._entries)
            if slot >= self._capacity:
                more = min(max(slot + slot // 2, _FIRST_SLOTS), self.max_entries)
                self._capacity = max(more, slot + 1)
                self._policy.reserve(self._capacity)
            self._keys.append(None)
            self._hashes.append(0)
            self._sizes.append(0)
            self._ends.append(0)
            self._entries.append(None)  # the last: there are as many slots as there are entries
        entry = self._entries[slot] = [value, end, slot, 0]
        self._keys[slot] = key
        self._hashes[slot] = spread
        self._sizes[slot] = size
        self._ends[slot] = end
        self._total += self._cost(slot)
        self._policy.insert(slot, spread)
        self._limit(slot, end)
        for _ in range(_TRIES):
            if self._index.setdefault(key, entry) is entry:
                return
            # what has left is still there; or another key equals this one, asked again
            self._take_from_index(gone, key)
        self._drop_entry(gone, entry)  # a key that finds, and does not find, as it likes

    def _limit(self, slot: int, end: float) -> None:
        if not end:
            return
        self._bounded += 1
        if self._lives.count > 2 * self._bounded + _SPARE:
            self._weed()
        else:
            self._lives.add(slot, end)

    def _weed(self) -> None:
        """Begin with the lives that are lived."""
        ends = np.array(self._ends)
        slots = np.flatnonzero(ends)
        self._lives.clear()
        self._lives.add_many(slots, ends[slots])

    # -- drop --------------------------------------------------------------------------------

    def drop(self, key: Hashable) -> bool:
        """Forget a key; say whether it was here."""
        dropped = self._do(self._drop, key)
        if dropped is None:
            self._later.append(partial(self._do, self._bury, key))
            return self._forget(key)
        return bool(dropped)

    def _bury(self, gone: list[Any], key: Hashable) -> bool:
        """Take out what ``_forget`` has left."""
        entry = self._index.get(key)
        return entry is not None and entry[_END] < 0 and self._drop(gone, key)

    def _drop(self, gone: list[Any], key: Hashable) -> bool:
        entry = self._alive(gone, key)
        if entry is not None:
            self._torn = True
            self._drop_entry(gone, entry)
            self._torn = False
        self._trim(gone)
        return entry is not None

    def drop_many(self, keys: Iterable[Hashable]) -> int:
        """Forget several keys; return how many were here."""
        return sum([self.drop(key) for key in keys])

    def clear(self) -> int:
        """Forget everything; return how many entries there were."""
        dropped = self._do(self._clear)
        if dropped is None:
            entries = [entry for entry in self._entries if entry and entry[_END] >= 0]
            values = [entry[0] for entry in entries]
            for entry in entries:
                entry[_VALUE_AND_END] = _FORGOTTEN
            self._later.append(self.clear)
            values.clear()
            return len(entries)
        return int(dropped)

    def _clear(self, gone: list[Any]) -> int:
        dropped = len(self)
        self._torn = True
        gone += [self._index, self._keys]
        for entry in self._entries:
            if entry:
                gone.append(entry[0])
                self._left_hits += entry[_HITS]
                entry[_ALL_BUT_HITS] = _LEFT
        self._empty_out()
        self._torn = False
        return dropped

    def _drop_entry(self, gone: list[Any], entry: Entry) -> None:
        self._policy.remove(entry[_SLOT])
        self._remove(gone, entry)

    def _evict(self, gone: list[Any]) -> None:
        slot = self._policy.evict()
        entry = None if slot is None else self._entries[slot]
        assert entry, "a full budget has an entry to evict"
        self._remove(gone, entry)
        self.evictions += 1

    def _remove(self, gone: list[Any], entry: Entry) -> None:
        """Take an entry out of everything but the policy."""
        slot = entry[_SLOT]
        key = self._keys[slot]
        gone += (entry[0], key)
        self._left_hits += entry[_HITS]
        entry[_ALL_BUT_HITS] = _LEFT
        self._total -= self._cost(slot)
        self._bounded -= self._ends[slot] > 0
        self._keys[slot] = self._entries[slot] = None
        self._ends[slot] = 0
        self._free.append(slot)
        self._take_from_index(gone, key)

    def _take_from_index(self, gone: list[Any], key: Hashable) -> None:
        """Take out the key of an entry that has left, if the key still finds it.

        If not it stays: it leads to what has left, which is nothing, and goes in the end.
        """
        try:
            found = self._index.pop(key, None)
        except Exception:  # noqa: BLE001
            return  # the key's own
        if found is not None and found[_SLOT] >= 0:  # the key has changed, and took this one along
            self._drop_entry(gone, found)

    # -- expire ------------------------------------------------------------------------------

    def expire(self) -> int:
        """Drop every entry whose life has ended; the lock is held for short slices only."""
        dropped: int = 0
        now = self._clock()
        while True:
            part = self._do(self._expire, now)
            if part is None:
                self._later.append(self.expire)
                return dropped
            dropped += part
            if self._lives.next > now:
                break
            time.sleep(0)  # whoever waits for the lock gets it now
        if dropped:
            self._do(self._trim)
        return dropped

    def _expire(self, gone: list[Any], now: float) -> int:
        before = self.expirations
        self._torn = True
        self._drop_due(gone, now, _SLICE)
        self._torn = False
        return int(self.expirations - before)

    def _drop_due(self, gone: list[Any], now: float, most: int) -> None:
        """Drop those of the next ``most`` ends up to ``now`` that are the ends of something."""
        for slot, end in self._lives.due(now, most):
            entry = self._entries[slot] if slot < len(self._entries) else None
            if entry and self._ends[slot] == end:  # else it has left, or lives longer
                self.expirations += entry[_END] > 0
                self._drop_entry(gone, entry)

    # -- rare things -------------------------------------------------------------------------

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Set new budgets and evict at once what no longer fits."""
        now = self._clock()
        if self._do(self._resize, now, max_entries, max_bytes) is None:
            self._later.append(partial(self.resize, max_entries, max_bytes))

    def _resize(self, gone: list[Any], now: float, max_entries: int, max_bytes: int) -> bool:
        self._torn = True
        self.max_entries, self.max_bytes = max_entries, max_bytes
        while self._lives.next <= now:
            self._drop_due(gone, now, _SLICE)
        self._shrink(gone)
        self._torn = False
        return self._trim(gone)

    def _shrink(self, gone: list[Any]) -> None:
        while len(self) > self.max_entries or self._total > self.max_bytes:
            self._evict(gone)

    def _trim(self, gone: list[Any]) -> bool:
        """Give memory back once all is gone: what is left of fewer entries is small."""
        empty = not len(self) and self._capacity > _FIRST_SLOTS
        if empty:
            self._clear(gone)
        return empty

    def _repair(self, gone: list[Any]) -> None:
        """Bring back in order what an interrupted operation left.

        What counts is that an entry is in the index and at its slot; the rest follows from that.
        """
        kept: dict[int, Entry] = {}
        for entry in list(self._index.values()):
            slot = entry[_SLOT]
            if 0 <= slot < len(self._entries) and self._entries[slot] is entry and entry[_END] >= 0:
                kept[slot] = entry
            else:
                self._mark_left(gone, entry)
        slots = range(len(self._entries))
        for slot in slots:
            other = self._entries[slot]
            if slot not in kept and other:
                self._mark_left(gone, other)
            if slot not in kept:
                gone.append(self._keys[slot])
                self._keys[slot] = self._entries[slot] = None
        for column in (self._keys, self._hashes, self._sizes):
            del column[len(slots) :]
        self._ends = array("d", [kept[slot][_END] if slot in kept else 0.0 for slot in slots])
        self._free = [slot for slot in reversed(slots) if slot not in kept]
        self._bounded = sum(end > 0 for end in self._ends)
        self._total = sum(map(self._cost, kept))
        self._policy.rebuild([(slot, self._hashes[slot]) for slot in kept])
        self._policy.reserve(self._capacity)
        self._weed()
        self._shrink(gone)
        for key in [key for key, entry in self._index.items() if entry[_SLOT] < 0]:
            self._take_from_index(gone, key)
        self._torn = False

    def _mark_left(self, gone: list[Any], entry: Entry) -> None:
        if entry[_SLOT] >= 0:
            gone.append(entry[0])
            self._left_hits += entry[_HITS]
            entry[_ALL_BUT_HITS] = _LEFT

    def keys(self) -> list[Any]:
        """Return the key of every entry, in no order; a fifth of what ``items`` costs."""
        with self.lock:
            return [
                self._keys[entry[_SLOT]] for entry in self._entries if entry and entry[_END] >= 0
            ]

    def items(self) -> list[tuple[Any, int]]:
        """Return (key, hits) of every entry, in no order."""
        with self.lock:
            return [
                (self._keys[entry[_SLOT]], entry[_HITS])
                for entry in self._entries
                if entry and entry[_END] >= 0
            ]

    def check(self) -> None:
        """Raise AssertionError where the tier is inconsistent; for tests."""
        with self.lock:
            assert not self._busy, "no operation is under way"
            assert not self._torn, "every operation has come to its end"
            self._tell_hits()
            self._policy.check()
            self._lives.check()
            live = {slot: entry for slot, entry in enumerate(self._entries) if entry}
            assert sorted([*live, *self._free]) == list(range(len(self._entries))), "live or free"
            assert len(self) == len(live) == len(self._policy), "every entry is counted"
            for column in (self._keys, self._hashes, self._sizes, self._ends):
                assert len(column) == len(self._entries), "every slot is in every column"
            found = [entry for entry in self._index.values() if entry[_SLOT] >= 0]
            assert len(found) == len(live), "every entry is in the index once"
            assert all(live[entry[_SLOT]] is entry for entry in found), "at its own slot"
            for slot, entry in live.items():
                assert entry[_END] in (self._ends[slot], _DROPPED), "a life ends once"
            for slot in self._free:
                assert self._keys[slot] is None, "a free slot holds no key"
                assert not self._ends[slot], "a free slot has no end"
            assert self._bounded == sum(end > 0 for end in self._ends), "lives are counted"
            assert self._total == sum(map(self._cost, live)), "bytes are counted"
            assert len(self) <= self.max_entries, "the entry budget holds"
            assert self._total <= self.max_bytes, "the byte budget holds"
            assert self._lives.count >= self._bounded, "every end is noted"
            assert self._lives.count <= 2 * self._bounded + _SPARE, "old ends are weeded out"
