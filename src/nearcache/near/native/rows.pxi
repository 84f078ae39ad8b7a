# The near tier for rows. What it promises stands in nearcache.testing.contracts.near_rows, and
# in words in vectors.py, the same tier in Python.

cdef enum:
    # a name, a content hash, the policy's links and mark, the index; the columns that only several
    # shelves or dimensions bring are within the rounding
    ENTRY_BYTES = 56
    DIGEST_BYTES = 11
    STEP = 64  # texts looked up together: what is fetched ahead must stay in the cache
    FEW = 4096  # content hashes that are searched without an index


@cython.final
cdef class _Arena:
    """Rows of one dimension."""

    cdef readonly uint32_t size
    cdef size_t stride
    cdef size_t row_bytes
    cdef char *data
    cdef float *scale
    cdef slot_set rows  # kept only while there is more than one arena
    cdef uint32_t capacity

    def __cinit__(self, uint32_t size, size_t itemsize, bint scaled):
        self.size = size
        self.row_bytes = size * itemsize
        self.stride = (self.row_bytes + 3) & ~<size_t>3

    def __dealloc__(self):
        PyMem_RawFree(self.data)
        PyMem_RawFree(self.scale)
        slots_free(&self.rows)

    cdef int reserve(self, uint32_t capacity, bint scaled) noexcept:
        cdef void *block
        if capacity <= self.capacity:
            return 0
        block = PyMem_RawRealloc(self.data, capacity * self.stride)
        if block is NULL:
            return -1
        self.data = <char *>block
        if scaled:
            block = PyMem_RawRealloc(self.scale, capacity * sizeof(float))
            if block is NULL:
                return -1
            self.scale = <float *>block
        self.capacity = capacity
        return 0

    cdef void shrink(self, uint32_t capacity, bint scaled) noexcept:
        """Give memory back; where the system will not take it, keep it."""
        cdef void *block
        if capacity >= self.capacity or not capacity:
            return
        block = PyMem_RawRealloc(self.data, capacity * self.stride)
        if block is not NULL:
            self.data = <char *>block
        if scaled:
            block = PyMem_RawRealloc(self.scale, capacity * sizeof(float))
            if block is not NULL:
                self.scale = <float *>block
        self.capacity = capacity

    @property
    def allocated(self):
        """The bytes of the block that holds the rows."""
        return self.capacity * self.stride


@cython.final
cdef class _Shelf:
    """One model in one namespace: its entries carry its number."""

    cdef object name
    cdef uint32_t number
    cdef uint32_t live
    cdef uint32_t size
    cdef _Arena arena  # None while the tier is empty


@cython.final
cdef class VectorTier(_Entries):
    """Rows by (shelf, text), as nearcache.near.vectors.VectorTier; the text itself is not kept."""

    cdef int _kind
    cdef object _dtype
    cdef size_t _itemsize
    cdef bint _scaled
    cdef dict _shelves
    cdef list _numbered
    cdef readonly dict _arenas
    cdef name128 *_names
    cdef name128 *_digests
    cdef uint32_t *_owner  # from the second shelf
    cdef uint32_t *_row  # from the second arena; before, a row has the number of its entry
    cdef _Arena _sole  # the only arena, while there is one
    cdef hash_index _by_name
    cdef hash_index _by_digest  # from the first question by content hash in a large tier

    def __cinit__(self, *, dtype, bint scaled, **_options):
        kinds = {"float32": ROW_FLOAT32, "float16": ROW_FLOAT16, "int8": ROW_INT8}
        self._kind = kinds[_dtype(dtype).name]
        self._dtype = _dtype(dtype).newbyteorder("=")
        self._itemsize = self._dtype.itemsize
        self._scaled = scaled
        self._shelves = {}
        self._numbered = []
        self._arenas = {}

    def __init__(self, *, dtype, scaled, max_entries, max_bytes, clock, policy="lru", seed=None):
        """Make an empty tier; ``policy`` is the name of one."""

    def __dealloc__(self):
        PyMem_RawFree(self._names)
        PyMem_RawFree(self._digests)
        PyMem_RawFree(self._owner)
        PyMem_RawFree(self._row)
        index_free(&self._by_name)
        index_free(&self._by_digest)

    def has(self, name):
        """Say whether a shelf may hold anything."""
        return name in self._shelves

    # -- sizes ---------------------------------------------------------------------------------

    cdef uint64_t _cost(self, _Arena arena, bint bounded) noexcept:
        cdef uint64_t cost = ENTRY_BYTES + arena.stride + (4 if self._scaled else 0)
        if self._by_digest.cells is not NULL:
            cost += DIGEST_BYTES
        return cost + (LIFE_BYTES if bounded else 0)

    cdef inline uint32_t _row_of(self, uint32_t id) noexcept:
        return id if self._row is NULL else self._row[id]

    cdef inline uint32_t _owner_of(self, uint32_t id) noexcept:
        return 0 if self._owner is NULL else self._owner[id]

    cdef inline _Shelf _shelf_of(self, uint32_t id):
        return <_Shelf>self._numbered[self._owner_of(id)]

    # -- find ----------------------------------------------------------------------------------

    cdef uint32_t _find(self, name128 name) noexcept:
        cdef uint32_t at, id
        if self._by_name.cells is NULL:
            return NO_ID
        at = index_home(&self._by_name, name.a)
        while True:
            id = index_seek(&self._by_name, name.a, &at)
            if id == NO_ID:
                return NO_ID
            if self._names[id].a == name.a and self._names[id].b == name.b:
                return id

    cdef bint _probe(self, _Shelf shelf, object texts, Py_ssize_t count, uint32_t *ids, bint all) noexcept:
        """Look up texts, in steps short enough that what is fetched ahead stays in cache."""
        cdef name128 names[STEP]
        cdef Py_ssize_t start, i, size
        cdef PyObject *text
        cdef uint32_t at, id
        for start in range(0, count, STEP):
            size = min(<Py_ssize_t>STEP, count - start)
            for i in range(size):
                if start + i + 8 < count:
                    PREFETCH(PySequence_Fast_GET_ITEM(texts, start + i + 8))
                text = PySequence_Fast_GET_ITEM(texts, start + i)
                if not text_is_ready(text):
                    names[i].a = names[i].b = 0
                    ids[start + i] = NO_ID
                    if all:
                        return False
                    continue
                ids[start + i] = 0
                names[i] = _name_of(text, shelf.number)
                PREFETCH(&self._by_name.cells[index_home(&self._by_name, names[i].a)])
            for i in range(size):
                if ids[start + i] == NO_ID:
                    continue
                at = index_home(&self._by_name, names[i].a)
                id = index_seek(&self._by_name, names[i].a, &at)
                if id != NO_ID:
                    PREFETCH(&self._names[id])
                ids[start + i] = id
            for i in range(size):
                id = ids[start + i]
                if id == NO_ID:
                    if all:
                        return False
                    continue
                if self._names[id].a != names[i].a or self._names[id].b != names[i].b:
                    id = self._find(names[i])  # another entry with the same 32 bits
                    ids[start + i] = id
                    if id == NO_ID and all:
                        return False
        return True

    cdef void _gather(self, _Arena arena, const uint32_t *ids, Py_ssize_t count, float *out) noexcept:
        cdef Py_ssize_t i, ahead
        cdef uint32_t row
        cdef float scale = 0
        cdef const char *next
        for i in range(count):
            if i + 2 < count:
                next = arena.data + self._row_of(ids[i + 2]) * arena.stride
                for ahead in range(0, min(arena.stride, <size_t>2048), 64):
                    PREFETCH(next + ahead)
            row = self._row_of(ids[i])
            if arena.scale is not NULL:
                scale = arena.scale[row]
            row_decode(out + i * arena.size, arena.data + row * arena.stride, arena.size, self._kind, scale)

    cdef void _touch(self, const uint32_t *ids, Py_ssize_t count) noexcept:
        cdef Py_ssize_t i
        for i in range(count):
            if i + 12 < count:
                policy_far_ahead(&self._policy, ids[i + 12])
                if i + 4 < count:
                    policy_ahead(&self._policy, ids[i + 4])
            self._hit(ids[i], self._names[ids[i]].b)

    # -- get -----------------------------------------------------------------------------------

    def get_all(self, name, texts):
        """Return the rows of all texts, or None when any is missing. Shapes: (n, d) float32."""
        cdef _Shelf shelf
        cdef Py_ssize_t count, i
        cdef uint32_t *ids
        cdef uint64_t version
        cdef double now
        cdef Py_buffer view
        if type(texts) is not list and type(texts) is not tuple:
            texts = list(texts)
        count = len(texts)
        shelf = <_Shelf>self._shelves.get(name)
        if shelf is None or not shelf.live or not count:
            return None
        ids = <uint32_t *>PyMem_RawMalloc(count * sizeof(uint32_t))
        if ids is NULL:
            raise MemoryError
        try:
            while True:
                now = self._now()
                if not shelf.live or PySequence_Fast_GET_SIZE(texts) != count:
                    return None
                if not self._probe(shelf, texts, count, ids, True):
                    return None
                if now > 0:
                    for i in range(count):
                        if self._is_expired(ids[i], now):
                            return None
                version = self._version
                out = _empty((count, shelf.size), _float32)
                PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
                if version == self._version:
                    break
                PyBuffer_Release(&view)
            self._touch(ids, count)
            self._gather(shelf.arena, ids, count, <float *>view.buf)
            PyBuffer_Release(&view)
            return out
        finally:
            PyMem_RawFree(ids)

    def get_some(self, name, texts, digests=None):
        """Return the positions that are here and their rows, in that order."""
        cdef _Shelf shelf
        cdef Py_ssize_t count, found, i
        cdef uint32_t *ids
        cdef uint64_t version
        cdef double now
        cdef Py_buffer view
        if type(texts) is not list and type(texts) is not tuple:
            texts = list(texts)
        count = len(texts)
        shelf = <_Shelf>self._shelves.get(name)
        if shelf is None or not shelf.live or not count:
            return [], None
        ids = <uint32_t *>PyMem_RawMalloc(count * sizeof(uint32_t))
        if ids is NULL:
            raise MemoryError
        try:
            while True:
                now = self._now()
                if not shelf.live or PySequence_Fast_GET_SIZE(texts) != count:
                    return [], None
                self._probe(shelf, texts, count, ids, False)
                if now > 0:
                    self._drop_met(ids, count, now)
                version = self._version
                positions = [i for i in range(count) if ids[i] != NO_ID]
                found = len(positions)
                if not found:
                    return [], None
                out = _empty((found, shelf.size), _float32)
                PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
                if version == self._version:
                    break
                PyBuffer_Release(&view)
            found = 0
            for i in range(count):
                if ids[i] != NO_ID:
                    ids[found] = ids[i]
                    found += 1
            self._touch(ids, found)
            self._gather(shelf.arena, ids, found, <float *>view.buf)
            PyBuffer_Release(&view)
            return positions, out
        finally:
            PyMem_RawFree(ids)

    cdef void _drop_met(self, uint32_t *ids, Py_ssize_t count, double now) noexcept:
        """Drop the expired entries among these; their places say that nothing was found."""
        cdef Py_ssize_t i
        for i in range(count):
            if ids[i] != NO_ID and not slots_has(&self._ids, ids[i]):
                ids[i] = NO_ID  # met twice
            elif ids[i] != NO_ID and self._is_expired(ids[i], now):
                policy_remove(&self._policy, ids[i])
                self._remove(ids[i])
                self.expirations += 1
                ids[i] = NO_ID

    def get_one(self, name, text):
        """Return the (d,) row of a text, or None."""
        cdef name128 wanted
        cdef PyObject *given = <PyObject *>text
        cdef _Shelf shelf = <_Shelf>self._shelves.get(name)
        if shelf is None or not shelf.live or not text_is_ready(given):
            return None
        wanted = _name_of(given, shelf.number)
        return self._one(shelf, wanted, False)

    def get_digest(self, name, bytes digest):
        """Return the (d,) row of a content hash, or None."""
        cdef name128 wanted
        cdef _Shelf shelf = <_Shelf>self._shelves.get(name)
        if shelf is None or not shelf.live:
            return None
        wanted = _digest(digest)
        self._index_digests()
        return self._one(shelf, wanted, True)

    cdef object _one(self, _Shelf shelf, name128 wanted, bint by_digest):
        cdef uint32_t id
        cdef uint64_t version
        cdef Py_buffer view
        cdef double now
        while True:
            now = self._now()
            if not shelf.live:
                return None
            id = self._find_digest(shelf, wanted) if by_digest else self._find(wanted)
            if id == NO_ID:
                return None
            if self._is_expired(id, now):
                policy_remove(&self._policy, id)
                self._remove(id)
                self.expirations += 1
                return None
            version = self._version
            out = _empty(shelf.size, _float32)
            PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
            if version == self._version:
                break
            PyBuffer_Release(&view)
        self._touch(&id, 1)
        self._gather(shelf.arena, &id, 1, <float *>view.buf)
        PyBuffer_Release(&view)
        return out

    # -- content hashes ------------------------------------------------------------------------

    cdef inline uint64_t _digest_hash(self, name128 digest, uint32_t number) noexcept:
        """Spread content hashes over the index by a secret: others choose the texts."""
        return mixed(digest.a + number * <uint64_t>0x9E3779B97F4A7C15)

    cdef int _index_digests(self) except -1:
        """Index a large tier by content hash, on the first question that needs it."""
        cdef uint32_t id
        if self._by_digest.cells is not NULL or self._ids.live <= FEW:
            return 0
        if index_reserve(&self._by_digest, self._ids.capacity):
            return 0  # without it the question takes longer
        for id in range(self._ids.high):
            if slots_has(&self._ids, id):
                index_put(&self._by_digest, self._digest_hash(self._digests[id], self._owner_of(id)), id)
        self._total += self._ids.live * <uint64_t>DIGEST_BYTES
        while self._total > self.max_bytes and self._evict():
            pass
        return 0

    cdef uint32_t _find_digest(self, _Shelf shelf, name128 digest) noexcept:
        cdef uint32_t id, at
        cdef uint64_t hash
        if self._by_digest.cells is NULL:
            for id in range(self._ids.high):
                if (self._digests[id].a == digest.a and self._digests[id].b == digest.b
                        and slots_has(&self._ids, id) and self._owner_of(id) == shelf.number):
                    return id
            return NO_ID
        hash = self._digest_hash(digest, shelf.number)
        at = index_home(&self._by_digest, hash)
        while True:
            id = index_seek(&self._by_digest, hash, &at)
            if id == NO_ID:
                return NO_ID
            if (self._digests[id].a == digest.a and self._digests[id].b == digest.b
                    and self._owner_of(id) == shelf.number):
                return id

    # -- put -----------------------------------------------------------------------------------

    def put(self, name, texts, digests, data, scale, expires):
        """Keep packed rows, each until its time in ``expires``; return how many had to leave."""
        cdef Py_ssize_t count, i
        cdef uint64_t before = self.evictions
        cdef double now
        cdef Py_buffer rows, scales, ends
        cdef _Shelf shelf
        if type(texts) is not list and type(texts) is not tuple:
            texts = list(texts)
        if type(digests) is not list and type(digests) is not tuple:
            digests = list(digests)
        count = len(texts)
        if not self.max_entries or not count:
            return 0
        data = _contiguous(data, self._dtype)
        expires = _contiguous(expires, _float64)
        if self._scaled:
            scale = _contiguous(scale, _float32)
        if data.ndim != 2 or not data.shape[1] or expires.shape != (count,) or len(data) != count or len(digests) != count:
            raise ValueError("texts, hashes, rows (n, d) and expiries (n,) of one put belong together")
        if self._scaled and scale.shape != (count,):
            raise ValueError("one scale for each row")
        size = data.shape[1]
        now = self._clock()
        if not self.max_entries:
            return 0  # the clock, or another thread meanwhile
        PyObject_GetBuffer(data, &rows, PyBUF_C_CONTIGUOUS)
        try:
            PyObject_GetBuffer(expires, &ends, PyBUF_C_CONTIGUOUS)
            try:
                if self._scaled:
                    PyObject_GetBuffer(scale, &scales, PyBUF_C_CONTIGUOUS)
                try:
                    shelf = self._shelf(name, size)
                    if not self.max_entries:
                        return 0  # a finaliser came in while the shelf was made
                    if PySequence_Fast_GET_SIZE(texts) != count or PySequence_Fast_GET_SIZE(digests) != count:
                        raise ValueError("a batch changed while it was put")
                    for i in range(count):
                        if not text_is_ready(PySequence_Fast_GET_ITEM(texts, i)):
                            raise TypeError("a text is a str")
                        if not digest_is_ready(PySequence_Fast_GET_ITEM(digests, i)):
                            raise TypeError("a content hash is 16 bytes")
                    self._reserve(shelf, count, <double *>ends.buf)
                    self._put(shelf, texts, digests, count, <char *>rows.buf,
                              <float *>scales.buf if self._scaled else NULL, <double *>ends.buf, now)
                finally:
                    if self._scaled:
                        PyBuffer_Release(&scales)
            finally:
                PyBuffer_Release(&ends)
        finally:
            PyBuffer_Release(&rows)
        return self.evictions - before

    cdef void _put(self, _Shelf shelf, object texts, object digests, Py_ssize_t count,
                   const char *rows, const float *scales, const double *ends, double now) noexcept:
        cdef Py_ssize_t i
        cdef PyObject *text
        cdef name128 name, digest
        cdef uint32_t id
        cdef uint64_t cost
        cdef _Arena arena = shelf.arena
        for i in range(count):
            text = PySequence_Fast_GET_ITEM(texts, i)
            name = _name_of(text, shelf.number)
            memcpy(&digest, PyBytes_AS_STRING(<object>PySequence_Fast_GET_ITEM(digests, i)), 16)
            id = self._find(name)
            if id != NO_ID:
                # a life that was endless may now take a place in the heap, beyond the budget: nobody
                # leaves for that before the next one comes
                policy_touch(&self._policy, id, name.b)
                self._set_life(id, ends[i])
            else:
                cost = self._cost(arena, ends[i] > 0)
                if cost > self.max_bytes:
                    continue
                self._make_room(cost, now)
                if not self._fits(cost):
                    continue
                id = self._enter(shelf, name, digest)
                self._set_life(id, ends[i])
            self._write(arena, id, rows + i * arena.row_bytes, 0 if scales is NULL else scales[i])

    cdef void _write(self, _Arena arena, uint32_t id, const char *row, float scale) noexcept:
        cdef uint32_t to = self._row_of(id)
        memcpy(arena.data + to * arena.stride, row, arena.row_bytes)
        if arena.scale is not NULL:
            arena.scale[to] = scale

    cdef uint32_t _enter(self, _Shelf shelf, name128 name, name128 digest) noexcept:
        cdef _Arena arena = shelf.arena
        cdef uint32_t id = slots_take(&self._ids)
        self._names[id] = name
        self._digests[id] = digest
        if self._expires is not NULL:
            self._expires[id] = 0
        if self._owner is not NULL:
            self._owner[id] = shelf.number
        if self._row is not NULL:
            self._row[id] = slots_take(&arena.rows)
        index_put(&self._by_name, name.a, id)
        if self._by_digest.cells is not NULL:
            index_put(&self._by_digest, self._digest_hash(digest, shelf.number), id)
        policy_insert(&self._policy, id, name.b)
        curve_miss(&self._curve, name.b, self._ids.live)
        shelf.live += 1
        self._total += self._cost(arena, False)
        self._version += 1
        return id

    cdef _Shelf _shelf(self, name, uint32_t size):
        """The shelf of a name, made if need be, with an arena of its rows' size."""
        cdef _Shelf shelf, fresh
        cdef _Arena arena, block
        cdef uint32_t number
        shelf = <_Shelf>self._shelves.get(name)
        if shelf is not None and shelf.size != size:
            self.drop_shelves([name])  # the model was forgotten and came back with another dimension
            shelf = None
        if shelf is not None and shelf.arena is not None and (self._owner is not NULL or not shelf.number):
            return shelf
        fresh, block = _Shelf(), _Arena(size, self._itemsize, self._scaled)
        # making these may have run a finaliser that came in here: look again, then call nothing
        shelf = <_Shelf>self._shelves.get(name)
        if shelf is None:
            number = 0
            while number < <uint32_t>len(self._numbered) and self._numbered[number] is not None:
                number += 1
            fresh.name, fresh.size, fresh.number = name, size, number
            if number == <uint32_t>len(self._numbered):
                self._numbered.append(fresh)
            else:
                self._numbered[number] = fresh
            self._shelves[name] = shelf = fresh
        elif shelf.size != size:
            raise ValueError("a shelf was given another dimension while rows were put on it")
        if shelf.arena is None:
            arena = <_Arena>self._arenas.get(size)
            if arena is None:
                if self._arenas:
                    self._part_rows()
                self._arenas[size] = arena = block
                if self._row is NULL:
                    self._sole = arena
            shelf.arena = arena
        if shelf.number and self._owner is NULL:  # so far every entry was on the shelf number 0
            if self._extend(<void **>&self._owner, (self._ids.capacity + 1) * sizeof(uint32_t)):
                raise MemoryError
            memset(self._owner, 0, self._ids.high * sizeof(uint32_t))
        return shelf

    cdef int _part_rows(self) except -1:
        """From now on rows have numbers of their own: a second arena is coming."""
        cdef uint32_t id
        if self._row is not NULL:
            return 0
        if slots_reserve(&self._sole.rows, self._ids.capacity + 1):
            raise MemoryError
        if self._extend(<void **>&self._row, (self._ids.capacity + 1) * sizeof(uint32_t)):
            raise MemoryError
        slots_copy(&self._sole.rows, &self._ids)
        for id in range(self._ids.high):
            self._row[id] = id
        return 0

    # -- memory --------------------------------------------------------------------------------

    cdef int _reserve(self, _Shelf shelf, Py_ssize_t count, const double *ends) except -1:
        """Have the memory for ``count`` more entries, or raise and change nothing."""
        cdef uint64_t most = min(<uint64_t>self._ids.live + count, self.max_entries)
        cdef uint64_t capacity = self._ids.capacity, rows
        cdef Py_ssize_t i, bounded = 0
        for i in range(count):
            bounded += ends[i] > 0
        # the smallest row bounds how many can fit; each may wait in here for the others' eviction
        most = min(most, self._ids.live + self.max_bytes // self._cost(shelf.arena, False) + 1)
        if most >= NO_ID:
            raise MemoryError
        if most > capacity:
            capacity = max(most, min(2 * capacity, self.max_entries), <uint64_t>FIRST_ROWS)
            capacity = min(capacity, <uint64_t>NO_ID - 1)
            if self._extend(<void **>&self._names, capacity * sizeof(name128)):
                raise MemoryError
            policy_hashes(&self._policy, &self._names[0].b, 2)  # they may have moved
            if (self._extend(<void **>&self._digests, capacity * sizeof(name128))
                    or (self._expires is not NULL and self._extend(<void **>&self._expires, capacity * sizeof(double)))
                    or (self._owner is not NULL and self._extend(<void **>&self._owner, capacity * sizeof(uint32_t)))
                    or (self._row is not NULL and self._extend(<void **>&self._row, capacity * sizeof(uint32_t)))
                    or policy_reserve(&self._policy, <uint32_t>capacity)
                    or slots_reserve(&self._ids, <uint32_t>capacity)):
                raise MemoryError
        if index_reserve(&self._by_name, most):
            raise MemoryError
        if self._by_digest.cells is not NULL and index_reserve(&self._by_digest, most):
            raise MemoryError
        if bounded and self._reserve_lives(bounded):
            raise MemoryError
        if self._row is NULL:
            rows = self._ids.capacity
        else:
            rows = min(<uint64_t>shelf.arena.rows.live + count, most)
            if rows > shelf.arena.rows.capacity:
                rows = max(rows, 2 * <uint64_t>shelf.arena.rows.capacity)
                if slots_reserve(&shelf.arena.rows, <uint32_t>rows):
                    raise MemoryError
            rows = max(rows, <uint64_t>shelf.arena.rows.capacity)
        if shelf.arena.reserve(<uint32_t>rows, self._scaled):
            raise MemoryError
        return 0

    # -- who leaves ----------------------------------------------------------------------------

    cdef void _make_room(self, uint64_t cost, double now) noexcept:
        """Free what one more entry needs: expired entries leave first."""
        if self._fits(cost):
            return
        while not self._fits(cost) and self._drop_due(now, SLICE):
            pass
        while not self._fits(cost) and self._evict():
            pass

    cdef void _remove(self, uint32_t id) noexcept:
        """Take an entry out of everything but the policy."""
        cdef _Shelf shelf = self._shelf_of(id)
        cdef _Arena arena = shelf.arena
        index_take(&self._by_name, self._names[id].a, id)
        if self._by_digest.cells is not NULL:
            index_take(&self._by_digest, self._digest_hash(self._digests[id], shelf.number), id)
        self._end_life(id)
        if self._row is not NULL:
            slots_give(&arena.rows, self._row[id])
        slots_give(&self._ids, id)
        shelf.live -= 1
        self._total -= self._cost(arena, False)
        self._version += 1

    # -- drop ----------------------------------------------------------------------------------

    def drop(self, name, digests):
        """Forget entries by content hash; return how many were here."""
        cdef name128 digest
        cdef uint32_t id, dropped = 0
        cdef Py_ssize_t i
        cdef _Shelf shelf
        cdef list wanted = list(digests)
        for i in range(len(wanted)):
            if not digest_is_ready(PyList_GET_ITEM(wanted, i)):
                raise TypeError("a content hash is 16 bytes")
        self._index_digests()
        shelf = <_Shelf>self._shelves.get(name)
        if shelf is None:
            return 0
        for i in range(len(wanted)):
            memcpy(&digest, PyBytes_AS_STRING(<object>PyList_GET_ITEM(wanted, i)), 16)
            if shelf.live:
                id = self._find_digest(shelf, digest)
                if id != NO_ID:
                    policy_remove(&self._policy, id)
                    self._remove(id)
                    dropped += 1
        if dropped:
            self._trim()
        return dropped

    def drop_shelves(self, names):
        """Forget whole shelves; return how many entries were here."""
        cdef _Shelf shelf
        cdef uint32_t id, dropped = 0
        for name in list(names):
            shelf = <_Shelf>self._shelves.pop(name, None)
            if shelf is None:
                continue
            dropped += shelf.live
            if shelf.live == self._ids.live:
                self._clear()
            else:
                for id in range(self._ids.high):
                    if shelf.live and slots_has(&self._ids, id) and self._owner_of(id) == shelf.number:
                        policy_remove(&self._policy, id)
                        self._remove(id)
            self._numbered[shelf.number] = None
            self._trim()
        return dropped

    cdef void _clear(self) noexcept:
        """Let go of every entry, and of the memory."""
        cdef _Shelf shelf
        cdef Py_ssize_t i
        self._version += 1
        for i in range(len(self._numbered)):
            shelf = <_Shelf>self._numbered[i]
            if shelf is not None:
                shelf.live = 0
                shelf.arena = None
        self._arenas.clear()
        self._sole = None
        self._forget_all()
        index_free(&self._by_name)
        index_free(&self._by_digest)
        self._names = <name128 *>_freed(self._names)
        self._digests = <name128 *>_freed(self._digests)
        self._owner = <uint32_t *>_freed(self._owner)
        self._row = <uint32_t *>_freed(self._row)

    # -- expire --------------------------------------------------------------------------------

    def expire(self):
        """Drop every entry whose life has ended, in slices between which others may run."""
        cdef uint64_t dropped = 0, part
        cdef double now = self._clock()
        while True:
            part = self._drop_due(now, SLICE)
            dropped += part
            if part < SLICE:
                break
            _yield(0)  # whoever waits gets a turn
        if dropped:
            while self._trim_some(SLICE):
                _yield(0)  # whoever waits gets a turn
        return dropped

    cdef void _trim(self):
        while self._trim_some(NO_ID):
            pass

    cdef bint _trim_some(self, uint32_t most):
        """Give memory back once more than half of it is free; say whether there is more to do."""
        cdef uint32_t moved = 0, source, target
        cdef _Arena arena
        if not self._ids.live:
            if most < NO_ID and self._row is NULL and self._ids.capacity > FIRST_ROWS:
                return self._shrink()
            if self._ids.capacity:
                self._clear()
            return False
        if self._ids.capacity > FIRST_ROWS and self._ids.live * 2 < self._ids.high:
            while moved < most and self._ids.live < self._ids.high:
                source = self._ids.high - 1
                target = slots_take(&self._ids)
                if not self._move(source, target):
                    slots_give(&self._ids, target)
                    return False
                moved += 1
            if self._ids.live < self._ids.high:
                return True
        if self._ids.capacity > FIRST_ROWS and self._ids.high * 4 < self._ids.capacity:
            return self._shrink()
        if self._row is not NULL:
            for arena in list(self._arenas.values()):
                # the list may have run a finaliser
                if self._row is NULL or self._arenas.get(arena.size) is not arena:
                    return False
                if arena.capacity > FIRST_ROWS and arena.rows.live * 2 < arena.rows.high:
                    return self._pack(arena, most)
        return False

    cdef bint _move(self, uint32_t source, uint32_t target) noexcept:
        """Give the entry ``source`` the number ``target``; say whether there was memory for it."""
        cdef double end = 0 if self._expires is NULL else self._expires[source]
        if end > 0 and lives_reserve(&self._lives, <uint64_t>self._lives.count + 1):
            return False
        index_rename(&self._by_name, self._names[source].a, source, target)
        if self._by_digest.cells is not NULL:
            index_rename(&self._by_digest, self._digest_hash(self._digests[source], self._owner_of(source)), source, target)
        self._names[target] = self._names[source]
        self._digests[target] = self._digests[source]
        if self._expires is not NULL:
            self._expires[source] = 0
            self._expires[target] = end
            if end > 0:
                lives_add(&self._lives, end, target)
        if self._owner is not NULL:
            self._owner[target] = self._owner[source]
        if self._row is not NULL:
            self._row[target] = self._row[source]
        else:
            self._move_row(self._sole, source, target)
        policy_move(&self._policy, source, target)
        slots_give(&self._ids, source)
        self._version += 1
        return True

    cdef void _move_row(self, _Arena arena, uint32_t source, uint32_t target) noexcept:
        memcpy(arena.data + target * arena.stride, arena.data + source * arena.stride, arena.row_bytes)
        if arena.scale is not NULL:
            arena.scale[target] = arena.scale[source]

    cdef bint _shrink(self) noexcept:
        """Give back some of the memory beyond the highest entry; say whether there is more."""
        cdef uint32_t least = max(2 * self._ids.high, <uint32_t>FIRST_ROWS)
        cdef uint64_t step = max(<uint64_t>1, _SHRINK_BYTES // self._sole_stride())
        cdef uint32_t capacity = self._ids.capacity
        if capacity <= least:
            return False
        capacity = least if capacity - least <= step else capacity - <uint32_t>step
        self._extend(<void **>&self._names, capacity * sizeof(name128))
        policy_hashes(&self._policy, &self._names[0].b, 2)
        self._extend(<void **>&self._digests, capacity * sizeof(name128))
        if self._expires is not NULL:
            self._extend(<void **>&self._expires, capacity * sizeof(double))
        if self._owner is not NULL:
            self._extend(<void **>&self._owner, (capacity + 1) * sizeof(uint32_t))
        if self._row is not NULL:
            self._extend(<void **>&self._row, (capacity + 1) * sizeof(uint32_t))
        else:
            self._sole.shrink(capacity, self._scaled)
        self._ids.capacity = capacity
        if capacity == least:
            if index_needs(capacity) < self._by_name.size:
                index_resize(&self._by_name, <uint32_t>index_needs(capacity))
            if self._by_digest.cells is not NULL and index_needs(capacity) < self._by_digest.size:
                index_resize(&self._by_digest, <uint32_t>index_needs(capacity))
        return True

    cdef size_t _sole_stride(self) noexcept:
        return 64 if self._row is not NULL else self._sole.stride + 64

    cdef bint _pack(self, _Arena arena, uint32_t most) noexcept:
        """Move the last rows of an arena into free ones; say whether there is more to do."""
        cdef uint32_t id, source, target, moved = 0
        cdef uint32_t *entry = <uint32_t *>PyMem_RawMalloc((arena.rows.high + 1) * sizeof(uint32_t))
        if entry is NULL:
            return False
        for id in range(self._ids.high):
            if slots_has(&self._ids, id) and self._shelf_of(id).arena is arena:
                entry[self._row[id]] = id
        while moved < most and arena.rows.live < arena.rows.high:
            source = arena.rows.high - 1
            target = slots_take(&arena.rows)
            self._move_row(arena, source, target)
            self._row[entry[source]] = target
            slots_give(&arena.rows, source)
            moved += 1
        self._version += 1
        PyMem_RawFree(entry)
        if arena.rows.live < arena.rows.high:
            return True
        arena.shrink(max(2 * arena.rows.high, <uint32_t>FIRST_ROWS), self._scaled)
        arena.rows.capacity = min(arena.rows.capacity, arena.capacity)
        return False

    # -- rare things ---------------------------------------------------------------------------

    def resize(self, max_entries, max_bytes):
        """Set new budgets and evict at once what no longer fits."""
        cdef uint64_t entries = max_entries, size = max_bytes
        cdef double now = self._clock()
        while self._drop_due(now, SLICE):
            pass
        while (self._ids.live > entries or self._total > size) and self._evict():
            pass
        self.max_entries, self.max_bytes = entries, size
        self._version += 1
        self._trim()

    def peek(self, name, bytes digest):
        """Return (expiry, bytes) of an entry without touching it."""
        cdef _Shelf shelf = <_Shelf>self._shelves.get(name)
        cdef uint32_t id
        cdef double end
        if shelf is None or not shelf.live:
            return None
        id = self._find_digest(shelf, _digest(digest))
        if id == NO_ID:
            return None
        end = 0 if self._expires is NULL else self._expires[id]
        return end, self._cost(shelf.arena, end > 0)

    def listing(self):
        """Return (shelf, content hash) of every entry, in no order."""
        cdef uint32_t id
        cdef list numbers = [], digests = []
        for id in range(self._ids.high):
            if slots_has(&self._ids, id):
                numbers.append((<_Shelf>self._numbered[self._owner_of(id)]).name)
                digests.append((<char *>&self._digests[id])[:16])
        return [(name, digest.hex()) for name, digest in zip(numbers, digests)]

    def check(self):
        """Raise AssertionError where the tier is inconsistent; for tests."""
        cdef uint32_t id, live = 0, bounded = 0, found = 0, at
        cdef uint64_t size = 0
        cdef _Shelf shelf
        cdef _Arena arena
        line = policy_check(&self._policy)
        assert not line, f"the policy is consistent (policy.h, line {line})"
        lives = {}
        rows = {}
        for id in range(self._ids.high):
            if not slots_has(&self._ids, id):
                continue
            live += 1
            shelf = self._shelf_of(id)
            assert shelf is not None and self._shelves.get(shelf.name) is shelf, "every entry is on a shelf"
            arena = shelf.arena
            assert self._arenas.get(shelf.size) is arena, "no shelf is adrift"
            lives[shelf.number] = lives.get(shelf.number, 0) + 1
            row = self._row_of(id)
            assert row < arena.capacity, "an entry has a row"
            assert (arena.size, row) not in rows, "and no other has it"
            assert self._row is NULL or slots_has(&arena.rows, row), "a row in use is taken"
            rows[arena.size, row] = id
            assert self._find(self._names[id]) == id, "every entry is found by its name"
            assert self._find_digest(shelf, self._digests[id]) == id, "and by its content hash"
            size += self._cost(arena, self._expires is not NULL and self._expires[id] > 0)
            bounded += self._expires is not NULL and self._expires[id] > 0
        assert live == self._ids.live == self._by_name.used, "live counts the entries"
        assert self._by_digest.cells is NULL or self._by_digest.used == live, "both indexes have all"
        for shelf in self._shelves.values():
            assert shelf.live == lives.get(shelf.number, 0), "a shelf counts its entries"
        if self._row is not NULL:
            for arena in self._arenas.values():
                assert arena.rows.live == sum(1 for key in rows if key[0] == arena.size), "an arena counts its rows"
        assert size == self._total and bounded == self._bounded, "bytes and lives are counted"
        ends = set()
        for at in range(self._lives.count):
            assert not at or self._lives.at[(at - 1) // 2] <= self._lives.at[at], "the heap is a heap"
            ends.add((self._lives.id[at], self._lives.at[at]))
        for id in range(self._ids.high):
            if slots_has(&self._ids, id) and self._expires is not NULL and self._expires[id] > 0:
                assert (id, self._expires[id]) in ends, "what has an end is in the heap"
        assert self._ids.live <= self.max_entries, "the entry budget holds"
        assert self._total <= self.max_bytes + self._bounded * <uint64_t>LIFE_BYTES, "the byte budget holds"
