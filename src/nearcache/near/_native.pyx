# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, embedsignature=True, binding=False
"""The near tier in native code: the same contract as the Python one, at the speed of memory."""

import os
import threading
import time

import numpy as np

include "native/declarations.pxi"

_float32, _float64 = np.dtype(np.float32), np.dtype(np.float64)
_dtype, _empty = np.dtype, np.empty
_RLock = threading.RLock
_monotonic = time.monotonic
_yield = time.sleep  # letting go of the interpreter's lock alone wakes nobody in time

cdef uint64_t _SHRINK_BYTES = 1 << 20  # as much as the system takes back in about 200 us

cdef hash_key _SECRET


cdef _draw_secret():
    drawn = os.urandom(sizeof(hash_key))
    memcpy(&_SECRET, PyBytes_AS_STRING(drawn), sizeof(hash_key))


_draw_secret()


def _seed():
    return int.from_bytes(os.urandom(8), "little")


def _contiguous(array, dtype=None):
    return np.ascontiguousarray(array, dtype)


cdef name128 _digest(bytes given) except *:
    cdef name128 digest
    if not digest_is_ready(<PyObject *>given):
        raise TypeError("a content hash is 16 bytes")
    memcpy(&digest, PyBytes_AS_STRING(given), 16)
    return digest


cdef inline name128 _name_of(PyObject *text, uint32_t shelf) noexcept:
    cdef int width = PyUnicode_KIND(text)
    return hash_text(&_SECRET, PyUnicode_DATA(text), <size_t>PyUnicode_GET_LENGTH(text) * width, width, shelf)


cdef inline uint64_t mixed(uint64_t x) noexcept:
    return hash_mixed(&_SECRET, x)


cdef inline void *_freed(void *block) noexcept:
    PyMem_RawFree(block)
    return NULL


include "native/curve.pxi"
include "native/entries.pxi"
include "native/rows.pxi"
include "native/objects.pxi"
include "native/policy.pxi"
include "native/replay.pxi"
