# The policies of policy.h with the interface of near/policies/base.py: for the tests that compare
# the two, and for nobody else. A tier calls policy.h itself.


POLICIES = tuple([name for name in ("lru", "fifo", "random", "sieve", "s3fifo", "lfu", "adaptive") if policy_kind(name.encode()) >= 0])


cdef class Policy:
    """An eviction policy in native code, wrapped to be compared with its Python twin."""

    cdef policy _policy
    cdef uint64_t *_hashes
    cdef readonly str name

    def __cinit__(self, str name, uint64_t seed=0):
        if policy_init(&self._policy, policy_kind(name.encode()), seed):
            raise ValueError(f"the native core has no policy {name!r}")
        self.name = name

    def __dealloc__(self):
        policy_free(&self._policy)
        PyMem_RawFree(self._hashes)

    def __len__(self):
        return self._policy.size

    @property
    def nbytes(self):
        return policy_bytes(&self._policy)

    cdef uint32_t _slot(self, slot) except? 0:
        if not 0 <= slot < self._policy.capacity:
            raise IndexError(f"slot {slot} is not reserved")
        return slot

    def reserve(self, uint32_t capacity):
        cdef void *hashes = PyMem_RawRealloc(self._hashes, (max(capacity, self._policy.capacity) + 1) * sizeof(uint64_t))
        if hashes is NULL:
            raise MemoryError
        self._hashes = <uint64_t *>hashes
        policy_hashes(&self._policy, self._hashes, 1)
        if policy_reserve(&self._policy, capacity):
            raise MemoryError

    def insert(self, slot, uint64_t key_hash):
        self._hashes[self._slot(slot)] = key_hash
        policy_insert(&self._policy, self._slot(slot), key_hash)

    def touch(self, slot):
        policy_touch(&self._policy, self._slot(slot), self._hashes[self._slot(slot)])

    def touch_many(self, slots):
        for slot in slots.tolist():
            self.touch(slot)

    def remove(self, slot):
        policy_remove(&self._policy, self._slot(slot))

    def evict(self):
        cdef uint32_t slot = policy_evict(&self._policy)
        return None if slot == POLICY_NONE else slot

    def move(self, source, target):
        self._hashes[self._slot(target)] = self._hashes[self._slot(source)]
        policy_move(&self._policy, self._slot(source), self._slot(target))

    def clear(self):
        policy_clear(&self._policy)

    def rebuild(self, live):
        # nothing interrupts native code; what is left is to be what the caller says
        policy_clear(&self._policy)
        if live:
            self.reserve(max(self._policy.capacity, 1 + max(slot for slot, _ in live)))
        for slot, key_hash in live:
            self.insert(slot, key_hash)

    def check(self):
        cdef int line = policy_check(&self._policy)
        assert not line, f"policy.h line {line}"
