# The miss-ratio curve of curve.h with the interface of near/curve.py: for the tests that compare
# the two, and for nobody else. A tier calls curve.h itself.


cdef extern from "native/trail.h":
    ctypedef struct trail:
        uint32_t count
        uint32_t shift
        bint late
    uint32_t trail_at(const trail *, uint32_t)
    size_t trail_bytes(const trail *)


cdef extern from "native/curve.h":
    ctypedef struct curve_bin:
        uint64_t known[2]
        uint64_t at_least[2]
    ctypedef struct curve:
        uint64_t hits
        uint64_t misses
        uint64_t skipped_misses
        uint64_t cold
        uint32_t shift
        uint32_t count
        bint paused
        trail trail
    void curve_init(curve *)
    void curve_free(curve *)
    void curve_reset(curve *)
    void curve_hit(curve *, uint64_t)
    void curve_miss(curve *, uint64_t, uint32_t)
    size_t curve_bytes(const curve *)
    uint64_t curve_skipped_hits(const curve *)
    uint32_t curve_histogram_bins(const curve *)
    const curve_bin *curve_histogram(const curve *)


cdef object _curve_histogram(const curve *source):
    """What near.curve.measured() takes: the fields of its Histogram, in their order."""
    cdef Py_ssize_t size = curve_histogram_bins(source) * sizeof(curve_bin)
    counts = np.zeros((curve_histogram_bins(source), 4), np.uint64)
    cdef uint64_t[:, ::1] to = counts
    if size:
        memcpy(&to[0, 0], curve_histogram(source), size)
    return (
        counts, source.cold, source.hits, source.misses, curve_skipped_hits(source),
        source.skipped_misses, source.count, source.shift,
    )


cdef object _curve_trail(const curve *source):
    """The fields of near.trail.Steps, in their order."""
    cdef uint32_t i, count = source.trail.count
    words = np.empty(count, np.uint32)
    cdef uint32_t[::1] to = words
    if source.trail.count != count:
        return _curve_trail(source)  # a finaliser that ran in the allocation came in here
    for i in range(count):
        to[i] = trail_at(&source.trail, i)
    return words, source.trail.shift, bool(source.trail.late)


cdef class Curve:
    """A miss-ratio curve in native code, wrapped to be compared with its Python twin."""

    cdef curve _curve

    def __cinit__(self):
        curve_init(&self._curve)

    def __dealloc__(self):
        curve_free(&self._curve)

    @property
    def nbytes(self):
        return curve_bytes(&self._curve)

    @property
    def paused(self):
        return bool(self._curve.paused)

    def hit(self, uint64_t key_hash):
        curve_hit(&self._curve, key_hash)

    @property
    def trail_nbytes(self):
        return trail_bytes(&self._curve.trail)

    def miss(self, uint64_t key_hash, uint32_t entries=0):
        curve_miss(&self._curve, key_hash, entries)

    def hit_many(self, hashes):
        cdef const uint64_t[::1] view = hashes
        cdef Py_ssize_t i
        for i in range(view.shape[0]):
            curve_hit(&self._curve, view[i])

    def reset(self):
        curve_reset(&self._curve)

    def histogram(self):
        return _curve_histogram(&self._curve)

    def trail(self):
        return _curve_trail(&self._curve)
