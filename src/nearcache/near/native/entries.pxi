# What the two tiers have in common: numbered entries, each with a life and a place in a policy, under
# one budget of entries and bytes.
#
# No lock: an operation runs from its first change to its last without calling Python, so the
# interpreter's own lock makes it one step. What must call Python (the clock, a new array, whose
# allocation may run any finaliser) comes before the first change, and what was looked up before is
# looked up again if anything has changed meanwhile. Memory is asked for before the first change
# too: running out of it changes nothing.

cdef enum:
    LIFE_BYTES = 20  # the time, and a place in the heap
    FIRST_ROWS = 256
    SLICE = 256  # entries dropped before others get a turn: well under a millisecond


cdef class _Entries:
    cdef readonly object lock
    cdef readonly uint64_t max_entries
    cdef readonly uint64_t max_bytes
    cdef readonly uint64_t evictions
    cdef readonly uint64_t expirations
    cdef readonly str policy
    cdef object _clock
    cdef bint _real_clock
    cdef slot_set _ids
    cdef double *_expires  # from the first entry with a limited life
    cdef life_heap _lives
    cdef uint32_t _bounded
    cdef policy _policy
    cdef bint _has_policy
    cdef curve _curve
    cdef uint64_t _total  # bytes
    cdef uint64_t _version  # grows with every entry that comes, goes or moves

    def __cinit__(self, *, max_entries, max_bytes, clock, str policy="lru", seed=None, **_options):
        cdef int kind = policy_kind(policy.encode())
        if kind < 0:
            raise ValueError(f"the native core has no policy {policy!r}")
        self.lock = _RLock()
        self.policy = policy
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        curve_init(&self._curve)
        self._clock = clock
        self._real_clock = HAS_COARSE_CLOCK and clock is _monotonic
        if policy_init(&self._policy, kind, _seed() if seed is None else seed):
            raise MemoryError
        self._has_policy = True

    def __dealloc__(self):
        PyMem_RawFree(self._expires)
        slots_free(&self._ids)
        lives_free(&self._lives)
        curve_free(&self._curve)
        if self._has_policy:
            policy_free(&self._policy)

    def __len__(self):
        return self._ids.live

    @property
    def used_bytes(self):
        """What all entries cost, index included."""
        return self._total

    def histogram(self):
        """Return what near.curve.measured() makes a miss-ratio curve of."""
        return _curve_histogram(&self._curve)

    def trail(self):
        """Return what near.miniature plays: near.trail.Steps."""
        return _curve_trail(&self._curve)

    cdef inline void _hit(self, uint32_t id, uint64_t hash) noexcept:
        policy_touch(&self._policy, id, hash)
        curve_hit(&self._curve, hash)

    cdef void _remove(self, uint32_t id) noexcept:
        """Take an entry out of everything but the policy."""

    cdef double _now(self) except? -1:
        """The time, or 0 when nothing can have expired."""
        cdef double following = lives_next(&self._lives)
        if following == HUGE_VAL:
            return 0
        if self._real_clock and clock_coarse() + CLOCK_LAG < following:
            return 0
        return self._clock()

    cdef inline bint _is_expired(self, uint32_t id, double now) noexcept:
        return now > 0 and self._expires is not NULL and 0 < self._expires[id] <= now

    cdef inline void _end_life(self, uint32_t id) noexcept:
        if self._expires is not NULL and self._expires[id] > 0:
            self._expires[id] = 0
            self._bounded -= 1
            self._total -= LIFE_BYTES

    cdef inline void _set_life(self, uint32_t id, double end) noexcept:
        if self._expires is NULL:
            return  # _reserve made the column if any life of the batch has an end
        self._end_life(id)
        if end > 0:
            self._expires[id] = end
            self._bounded += 1
            self._total += LIFE_BYTES
            lives_add(&self._lives, end, id)

    cdef int _reserve_lives(self, uint64_t count) noexcept:
        """Have the memory for ``count`` more ends of lives, or -1."""
        if self._expires is NULL:
            self._expires = <double *>PyMem_RawMalloc(self._ids.capacity * sizeof(double))
            if self._expires is NULL:
                return -1
            memset(self._expires, 0, self._ids.high * sizeof(double))
        self._weed()
        return lives_reserve(&self._lives, self._lives.count + count)

    cdef int _extend(self, void **column, size_t size) noexcept:
        cdef void *block = PyMem_RawRealloc(column[0], size)
        if block is NULL:
            return -1
        column[0] = block
        return 0

    cdef void _weed(self) noexcept:
        """Take out of the heap what has left meanwhile, once that is the larger part."""
        cdef uint32_t i, kept = 0, id
        if self._lives.count <= 2 * self._bounded + FIRST_ROWS:
            return
        for i in range(self._lives.count):
            id = self._lives.id[i]
            if slots_has(&self._ids, id) and self._expires[id] == self._lives.at[i]:
                self._expires[id] = -self._lives.at[i]  # seen: a second note of it is litter too
                self._lives.at[kept] = self._lives.at[i]
                self._lives.id[kept] = id
                kept += 1
        for i in range(kept):
            self._expires[self._lives.id[i]] = self._lives.at[i]
        self._lives.count = kept
        for i in range(kept // 2, 0, -1):
            lives_sink(&self._lives, i - 1, self._lives.at[i - 1], self._lives.id[i - 1])

    cdef inline bint _fits(self, uint64_t cost) noexcept:
        return (self._ids.live < self.max_entries and cost <= self.max_bytes
                and self._total <= self.max_bytes - cost)

    cdef bint _evict(self) noexcept:
        cdef uint32_t id = policy_evict(&self._policy)
        if id == POLICY_NONE:
            return False
        self._remove(id)
        self.evictions += 1
        return True

    cdef uint32_t _drop_due(self, double now, uint32_t most) noexcept:
        """Drop up to ``most`` entries whose life has ended; return how many there were."""
        cdef uint32_t id, dropped = 0
        cdef double at
        while dropped < most and self._lives.count and lives_next(&self._lives) <= now:
            at = self._lives.at[0]
            id = lives_pop(&self._lives)
            if slots_has(&self._ids, id) and self._expires[id] == at:
                policy_remove(&self._policy, id)
                self._remove(id)
                self.expirations += 1
                dropped += 1
        return dropped

    cdef void _forget_all(self) noexcept:
        self._version += 1
        policy_clear(&self._policy)
        slots_free(&self._ids)
        lives_free(&self._lives)
        PyMem_RawFree(self._expires)
        self._expires = NULL
        self._bounded = 0
        self._total = 0
