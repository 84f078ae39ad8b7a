# What a near tier of so many entries would hit: its policy and an index of hashes, without keys,
# values and the interpreter's lock. It decides as ObjectTier does (tests/unit/near/test_replay.py).


def replay(const uint64_t[::1] hashes, str name, uint32_t room, Py_ssize_t after=0, uint64_t seed=1):
    """Ask for each hash, keep what was missing; return how many were hits from ``after`` on."""
    cdef Py_ssize_t count = hashes.shape[0]
    cdef int kind = policy_kind(name.encode())
    cdef policy state
    cdef int64_t hits
    if kind < 0:
        raise ValueError(f"the native core has no policy {name!r}")
    if not room:
        return 0
    if policy_init(&state, kind, seed):
        raise MemoryError
    if room > count:
        room = <uint32_t>count
    with nogil:
        hits = _replay(&hashes[0], count, &state, room, after) if count else 0
        policy_free(&state)
    if hits < 0:
        raise MemoryError
    return hits


cdef int64_t _replay(
    const uint64_t *hashes, Py_ssize_t count, policy *state, uint32_t room, Py_ssize_t after
) noexcept nogil:
    cdef hash_index index
    cdef uint64_t *kept = <uint64_t *>PyMem_RawMalloc(room * sizeof(uint64_t))
    cdef uint64_t hash
    cdef uint32_t used = 0, id, at
    cdef int64_t hits = 0
    cdef Py_ssize_t i
    index.cells, index.size, index.used = NULL, 0, 0
    if kept is NULL or policy_reserve(state, room) or index_reserve(&index, <uint64_t>room + room // 2):
        hits, count = -1, 0
    else:
        policy_hashes(state, kept, 1)
    for i in range(count):
        hash = hashes[i]
        at = index_home(&index, hash)
        id = index_seek(&index, hash, &at)
        while id != NO_ID and kept[id] != hash:
            id = index_seek(&index, hash, &at)
        if id != NO_ID:
            policy_touch(state, id, hash)
            hits += i >= after
            continue
        if used < room:
            id = used
            used += 1
        else:
            id = policy_evict(state)
            index_take(&index, kept[id], id)
        kept[id] = hash
        index_put(&index, hash, id)
        policy_insert(state, id, hash)
    index_free(&index)
    PyMem_RawFree(kept)
    return hits
