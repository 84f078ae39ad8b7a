# The near tier for any value. What it promises stands in nearcache.testing.contracts.near_objects, and
# in words in objects.py, the same tier in Python.
#
# Python code of others runs in two places: a key's own __eq__ while it is looked for, and the
# destructors of what leaves. The first is followed by a second look if anything has changed; the
# second comes when everything is in order again, and whatever was known before is looked up anew.

cdef enum:
    # hash, size and count, two references, the policy's columns, the index: measured at 100,000
    OBJECT_BYTES = 78
    ASK = 0xFFFFFFFE
    MOST_ASKED = 1000
    LEAVING = 16  # entries dropped before their keys and values are let go


cdef struct object_entry:
    uint64_t hash  # spread: as good as the key's own, for no two hashes spread alike
    uint64_t size
    uint64_t hits


@cython.final
@cython.no_gc_clear  # a collected cycle is cut at the two lists; methods that still run must find them
cdef class ObjectTier(_Entries):
    """Values by key, as nearcache.near.objects.ObjectTier."""

    cdef readonly uint64_t hits
    cdef readonly uint64_t misses
    cdef list _keys
    cdef list _values
    cdef object_entry *_entries
    cdef hash_index _index
    cdef PyObject *_leaving[2 * LEAVING]
    cdef uint32_t _leaving_count

    def __cinit__(self, **_options):
        self._keys, self._values = [], []

    def __init__(self, *, max_entries, max_bytes, clock, policy="lru", seed=None):
        """Make an empty tier; ``policy`` is the name of one."""

    def __dealloc__(self):
        PyMem_RawFree(self._entries)
        index_free(&self._index)

    # -- find ----------------------------------------------------------------------------------

    cdef inline uint32_t _find_text(self, PyObject *key, uint64_t hash) noexcept:
        """Look for a plain str: no code of others runs, unless another key's __eq__ is wanted."""
        cdef uint32_t at, id
        cdef PyObject *other
        if self._index.cells is NULL:
            return NO_ID
        at = index_home(&self._index, hash)
        while True:
            id = index_seek(&self._index, hash, &at)
            if id == NO_ID:
                return NO_ID
            if self._entries[id].hash != hash:
                continue
            if <Py_ssize_t>id >= PyList_GET_SIZE(self._keys):
                return NO_ID  # the collector has taken the lists
            other = PyList_GET_ITEM(self._keys, id)
            if other is key:
                return id
            if not PyUnicode_CheckExact(other):
                return ASK
            if text_equals(other, key):
                return id

    cdef uint32_t _find(self, object key, uint64_t hash) except? 0xFFFFFFFF:
        cdef uint32_t at, id, asked = 0
        cdef uint64_t version
        cdef bint same
        cdef PyObject *other
        if PyUnicode_CheckExact(<PyObject *>key):
            id = self._find_text(<PyObject *>key, hash)
            if id != ASK:
                return id
        if self._index.cells is NULL:
            return NO_ID
        at = index_home(&self._index, hash)
        while True:
            id = index_seek(&self._index, hash, &at)
            if id == NO_ID:
                return NO_ID
            if self._entries[id].hash != hash:
                continue
            if <Py_ssize_t>id >= PyList_GET_SIZE(self._keys):
                return NO_ID
            other = PyList_GET_ITEM(self._keys, id)
            if other is <PyObject *>key:
                return id
            if asked == MOST_ASKED:
                raise RuntimeError("a key's __eq__ changes the cache whenever it is asked")
            asked += 1
            version = self._version
            candidate = <object>other  # it may be dropped while it is compared
            same = PyObject_RichCompareBool(candidate, key, Py_EQ)
            if version != self._version:
                if self._index.cells is NULL:
                    return NO_ID
                at = index_home(&self._index, hash)
            else:
                asked = 0
                if same:
                    return id

    cdef bint _is_dead(self, uint32_t id) except -1:
        """Say whether an entry's life has ended. May run the clock, which is Python."""
        cdef double end
        if self._expires is NULL:
            return False
        end = self._expires[id]
        if end == 0 or (self._real_clock and clock_coarse() + CLOCK_LAG < end):
            return False
        return end <= <double>self._clock()

    cdef uint32_t _alive(self, object key, uint64_t hash) except? 0xFFFFFFFF:
        """Return the entry of a key; one whose life has ended is dropped."""
        cdef uint32_t id
        cdef uint64_t version
        cdef bint dead
        while True:
            id = self._find(key, hash)
            if id == NO_ID:
                return NO_ID
            version = self._version
            dead = self._is_dead(id)
            if version != self._version:
                continue
            if not dead:
                return id
            self._drop(id)
            self.expirations += 1
            self._let_go()
            return NO_ID

    # -- get -----------------------------------------------------------------------------------

    def get(self, key, default=None):
        """Return the value of a key, or ``default``."""
        cdef uint32_t id = self._alive(key, mixed(<uint64_t>hash(key)))
        if id == NO_ID:
            self.misses += 1
            return default
        self.hits += 1
        self._entries[id].hits += 1
        self._hit(id, self._entries[id].hash)
        return <object>PyList_GET_ITEM(self._values, id)

    def get_many(self, keys, default=None):
        """Return the values of several keys, ``default`` for each that is not here."""
        cdef list found = []
        for key in keys:
            found.append(self.get(key, default))
        return found

    def __contains__(self, key):
        return self._alive(key, mixed(<uint64_t>hash(key))) != NO_ID

    def peek(self, key):
        """Return (value, expiry, hits, bytes) without touching the entry, or None."""
        cdef uint32_t id = self._find(key, mixed(<uint64_t>hash(key)))
        if id == NO_ID:
            return None
        value = <object>PyList_GET_ITEM(self._values, id)  # ours: what follows may run the collector
        cdef double end = 0 if self._expires is NULL else self._expires[id]
        cdef uint64_t hits = self._entries[id].hits
        cdef uint64_t size = self._entries[id].size + OBJECT_BYTES + (LIFE_BYTES if end > 0 else 0)
        return value, end, hits, size

    # -- put -----------------------------------------------------------------------------------

    def put(self, key, value, double expires=0, uint64_t size=0):
        """Keep a value until its monotonic time ``expires`` (0: until evicted).

        ``size`` is what key and value cost. Returns how many others had to leave.
        """
        cdef uint64_t key_hash = mixed(<uint64_t>hash(key))
        cdef uint64_t version, before = self.evictions, cost = OBJECT_BYTES + size
        cdef uint32_t id
        cdef double now = 0
        cdef bint asked = False
        cdef uint32_t again = 0
        if not expires > 0:
            expires = 0
        if size > self.max_bytes:
            cost = UINT64_MAX  # and not what a sum that overflows would say
        elif expires:
            cost += LIFE_BYTES
        if not self.max_entries:
            return 0
        while True:
            version = self._version
            if self._reserve(expires > 0):
                raise MemoryError
            id = self._find(key, key_hash)
            if version != self._version:
                again += 1
                if again == MOST_ASKED:
                    raise RuntimeError("a key's __eq__ changes the cache whenever it is asked")
                continue  # it came in here; even what was reserved may be gone
            # from here to the change nothing calls Python
            if id == NO_ID and cost <= self.max_bytes and self.max_entries:
                while not self._fits(cost) and version == self._version:
                    if now >= lives_next(&self._lives):
                        self._drop_due(now, 1)
                    elif not asked and self._lives.count:
                        now, asked = self._now(), True
                        continue
                    elif not self._evict():
                        break
                    version += 1
                    self._let_go()
                if version != self._version or not self._fits(cost):
                    continue  # the clock or a destructor came in here
                self._enter(key, value, key_hash, expires, size)
            elif id != NO_ID and self._fits_instead(id, cost):
                self._replace(id, value, expires, size)
                self._let_go()
            elif id != NO_ID:
                self._drop(id)  # it makes place for its successor, or must not stand for it
                self._let_go()
                continue
            return self.evictions - before

    cdef inline bint _fits_instead(self, uint32_t id, uint64_t cost) noexcept:
        cdef uint64_t old = OBJECT_BYTES + self._entries[id].size
        if self._expires is not NULL and self._expires[id] > 0:
            old += LIFE_BYTES
        return cost <= old or (cost <= self.max_bytes and self._total - old <= self.max_bytes - cost)

    cdef int _reserve(self, bint bounded) noexcept:
        """Have the memory for one more entry, or -1. May run finalisers."""
        cdef uint64_t capacity = self._ids.capacity
        cdef Py_ssize_t missing
        if self._ids.live == capacity and capacity < self.max_entries:
            capacity = min(max(2 * capacity, <uint64_t>FIRST_ROWS), self.max_entries, <uint64_t>NO_ID - 1)
            if self._extend(<void **>&self._entries, capacity * sizeof(object_entry)):
                return -1
            policy_hashes(&self._policy, &self._entries[0].hash, sizeof(object_entry) // sizeof(uint64_t))
            if ((self._expires is not NULL and self._extend(<void **>&self._expires, capacity * sizeof(double)))
                    or policy_reserve(&self._policy, <uint32_t>capacity)
                    or index_reserve(&self._index, capacity + capacity // 2)  # half full: quick to leave
                    or slots_reserve(&self._ids, <uint32_t>capacity)):
                return -1
        while PyList_GET_SIZE(self._keys) < <Py_ssize_t>self._ids.capacity:
            if PyList_Append(self._keys, None):
                PyErr_Clear()
                return -1
        while PyList_GET_SIZE(self._values) < <Py_ssize_t>self._ids.capacity:
            if PyList_Append(self._values, None):
                PyErr_Clear()
                return -1
        if bounded and (self._expires is NULL or self._lives.count == self._lives.capacity):
            return self._reserve_lives(1)
        return 0

    cdef void _enter(self, object key, object value, uint64_t hash, double expires, uint64_t size) noexcept:
        cdef uint32_t id = slots_take(&self._ids)
        self._swap(self._keys, id, key)
        self._swap(self._values, id, value)
        self._entries[id].hash = hash
        self._entries[id].size = size
        self._entries[id].hits = 0
        if self._expires is not NULL:
            self._expires[id] = 0
        self._set_life(id, expires)
        index_put(&self._index, hash, id)
        policy_insert(&self._policy, id, hash)
        curve_miss(&self._curve, hash, self._ids.live)
        self._total += OBJECT_BYTES + size
        self._version += 1

    cdef void _replace(self, uint32_t id, object value, double expires, uint64_t size) noexcept:
        self._swap(self._values, id, value)
        self._total += size - self._entries[id].size
        self._entries[id].size = size
        self._set_life(id, expires)
        policy_touch(&self._policy, id, self._entries[id].hash)
        self._version += 1

    cdef void _swap(self, list column, uint32_t id, object value) noexcept:
        """Put a reference in; the one that was there leaves later, for letting go may run anything."""
        cdef PyObject *old = PyList_GET_ITEM(column, id)
        Py_INCREF(value)
        PyList_SET_ITEM(column, id, value)
        if old is <PyObject *>None:
            Py_DECREF(None)
        else:
            self._leaving[self._leaving_count] = old
            self._leaving_count += 1

    cdef void _let_go(self) noexcept:
        # a destructor may come in here and let go of others: what is ours is ours first
        cdef PyObject *gone[2 * LEAVING]
        cdef uint32_t i, count = self._leaving_count
        if not count:
            return
        if count == 2:  # one entry, the common case
            gone[0], gone[1] = self._leaving[0], self._leaving[1]
            self._leaving_count = 0
            Py_DECREF(<object>gone[0])
            Py_DECREF(<object>gone[1])
            return
        memcpy(gone, self._leaving, count * sizeof(PyObject *))
        self._leaving_count = 0
        for i in range(count):
            Py_DECREF(<object>gone[i])

    # -- drop ----------------------------------------------------------------------------------

    cdef void _remove(self, uint32_t id) noexcept:
        index_take(&self._index, self._entries[id].hash, id)
        self._end_life(id)
        self._total -= OBJECT_BYTES + self._entries[id].size
        if <Py_ssize_t>id < PyList_GET_SIZE(self._keys):
            self._swap(self._keys, id, None)
        if <Py_ssize_t>id < PyList_GET_SIZE(self._values):
            self._swap(self._values, id, None)
        slots_give(&self._ids, id)
        self._version += 1

    cdef inline void _drop(self, uint32_t id) noexcept:
        policy_remove(&self._policy, id)
        self._remove(id)

    def drop(self, key):
        """Forget a key; say whether it was here."""
        cdef uint32_t id = self._alive(key, mixed(<uint64_t>hash(key)))
        if id == NO_ID:
            return False
        self._drop(id)
        self._trim()
        self._let_go()
        return True

    def drop_many(self, keys):
        """Forget several keys; return how many were here."""
        cdef uint64_t dropped = 0
        for key in keys:
            dropped += self.drop(key)
        return dropped

    def clear(self):
        """Forget everything; return how many entries there were."""
        cdef uint64_t dropped
        cdef list no_keys = [], no_values = []
        keys, values = self._keys, self._values  # let go when everything is in order
        dropped = self._ids.live
        self._keys, self._values = no_keys, no_values
        self._empty_out()
        return dropped

    cdef void _empty_out(self) noexcept:
        self._forget_all()
        index_free(&self._index)
        PyMem_RawFree(self._entries)
        self._entries = NULL

    def expire(self):
        """Drop every entry whose life has ended, in slices between which others may run."""
        cdef uint64_t dropped = 0, part, since = 0
        cdef double now = self._clock()
        while True:
            part = self._drop_due(now, LEAVING)
            self._let_go()
            dropped += part
            if part < LEAVING:
                break
            since += part
            if since >= SLICE:
                since = 0
                _yield(0)  # whoever waits gets a turn
        if dropped:
            self._trim()
            self._let_go()
        return dropped

    def resize(self, max_entries, max_bytes):
        """Set new budgets and evict at once what no longer fits."""
        cdef uint64_t entries = max_entries, size = max_bytes
        cdef double now = self._clock()
        self.max_entries, self.max_bytes = entries, size
        self._version += 1
        while self._drop_due(now, LEAVING):
            self._let_go()
        while (self._ids.live > self.max_entries or self._total > self.max_bytes) and self._evict():
            self._let_go()
        self._trim()
        self._let_go()

    cdef void _trim(self) noexcept:
        """Give memory back once all is gone: what is left of fewer entries is small."""
        if not self._ids.live and self._ids.capacity > FIRST_ROWS:
            self._empty_out()

    # -- rare things ---------------------------------------------------------------------------

    def keys(self):
        """Return the key of every entry, in no order; a fifth of what ``items`` costs."""
        cdef uint32_t id = 0
        cdef list found = []
        while id < self._ids.high:
            if slots_has(&self._ids, id) and <Py_ssize_t>id < PyList_GET_SIZE(self._keys):
                found.append(<object>PyList_GET_ITEM(self._keys, id))
            id += 1
        return found

    def items(self):
        """Return (key, hits) of every entry, in no order."""
        cdef uint32_t id = 0
        cdef uint64_t hits
        cdef list found = []
        while id < self._ids.high:
            if slots_has(&self._ids, id) and <Py_ssize_t>id < PyList_GET_SIZE(self._keys):
                key = <object>PyList_GET_ITEM(self._keys, id)  # ours: a tuple may run the collector
                hits = self._entries[id].hits
                found.append((key, hits))
            id += 1
        return found

    def check(self):
        """Raise AssertionError where the tier is inconsistent; for tests."""
        cdef uint32_t id, live = 0, bounded = 0, at
        cdef uint64_t size = 0
        line = policy_check(&self._policy)
        assert not line, f"the policy is consistent (policy.h, line {line})"
        assert not self._leaving_count, "what left was let go"
        for id in range(self._ids.high):
            if not slots_has(&self._ids, id):
                assert self._keys[id] is None and self._values[id] is None, "a free place holds nothing"
                continue
            live += 1
            index_cell(&self._index, self._entries[id].hash, id)
            size += OBJECT_BYTES + self._entries[id].size
            bounded += self._expires is not NULL and self._expires[id] > 0
        assert live == self._ids.live == self._index.used == self._policy.size, "live counts the entries"
        assert size + LIFE_BYTES * <uint64_t>bounded == self._total and bounded == self._bounded, "bytes and lives are counted"
        ends = {(self._lives.id[at], self._lives.at[at]) for at in range(self._lives.count)}
        for id in range(self._ids.high):
            if slots_has(&self._ids, id) and self._expires is not NULL and self._expires[id] > 0:
                assert (id, self._expires[id]) in ends, "what has an end is in the heap"
        assert self._ids.live <= self.max_entries, "the entry budget holds"
        assert self._total <= self.max_bytes, "the byte budget holds"
