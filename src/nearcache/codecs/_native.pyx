# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=False
"""One pass over stored rows: what numpy does block by block in ``nearcache.codecs.checksums``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef enum:
    HEAD_WORDS = 4
    HEAD_BYTES = 32


cdef inline uint64_t _weighted(uint64_t word, uint64_t weight) noexcept:
    return (word ^ (word >> 32)) * weight


def gather(
    bodies,
    Py_ssize_t length,
    const uint64_t[::1] weights,
    uint64_t[:, ::1] heads,
    uint64_t[:, ::1] payload,
    uint64_t[::1] sums,
):
    """Split entries into heads and payloads, and sum them; False, undone, if one is no bytes."""
    cdef Py_ssize_t count = len(bodies), words = payload.shape[1], i, j
    cdef Py_ssize_t rest = length - HEAD_BYTES
    cdef uint64_t total
    cdef uint64_t *head
    cdef uint64_t *row
    if (
        rest < 0
        or (rest + 7) // 8 != words
        or weights.shape[0] != words + HEAD_WORDS
        or heads.shape[0] != count
        or heads.shape[1] != HEAD_WORDS
        or payload.shape[0] != count
        or sums.shape[0] != count
    ):
        raise ValueError("arrays that do not fit the entries")
    for i in range(count):
        body = bodies[i]
        if not PyBytes_CheckExact(body) or PyBytes_GET_SIZE(body) != length:
            return False
        head = &heads[i, 0]
        memcpy(head, PyBytes_AS_STRING(body), HEAD_BYTES)
        total = 0
        for j in range(HEAD_WORDS):
            total += _weighted(head[j], weights[j])
        if words:
            row = &payload[i, 0]
            row[words - 1] = 0
            memcpy(row, PyBytes_AS_STRING(body) + HEAD_BYTES, rest)
            for j in range(words):
                total += _weighted(row[j], weights[HEAD_WORDS + j])
        sums[i] = total
    return True
