# What the C headers beside this file offer.

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING
cimport cython
from cpython.object cimport Py_EQ, PyObject, PyObject_RichCompareBool
from cpython.exc cimport PyErr_Clear
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport HUGE_VAL
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset


cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(list, Py_ssize_t)
    Py_ssize_t PyList_GET_SIZE(list)
    void PyList_SET_ITEM(list, Py_ssize_t, object)
    int PyList_Append(list, object)
    PyObject *PySequence_Fast_GET_ITEM(object, Py_ssize_t)
    Py_ssize_t PySequence_Fast_GET_SIZE(object)
    bint PyUnicode_Check(PyObject *)
    bint PyUnicode_CheckExact(PyObject *)
    int PyUnicode_KIND(PyObject *)
    void *PyUnicode_DATA(PyObject *)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *)


cdef extern from "native/hash.h" nogil:
    ctypedef struct name128:
        uint64_t a
        uint64_t b
    ctypedef struct hash_key:
        pass
    uint64_t hash_mixed(const hash_key *, uint64_t)
    name128 hash_text(const hash_key *, const void *, size_t, int, uint32_t)


cdef extern from "native/index.h" nogil:
    uint32_t NO_ID
    ctypedef struct hash_index:
        uint64_t *cells
        uint32_t size
        uint32_t used
    uint32_t index_home(const hash_index *, uint64_t)
    uint32_t index_seek(const hash_index *, uint64_t, uint32_t *)
    uint32_t index_cell(const hash_index *, uint64_t, uint32_t)
    void index_put(hash_index *, uint64_t, uint32_t)
    void index_take(hash_index *, uint64_t, uint32_t)
    void index_rename(hash_index *, uint64_t, uint32_t, uint32_t)
    int index_reserve(hash_index *, uint64_t)
    uint64_t index_needs(uint64_t)
    int index_resize(hash_index *, uint32_t)
    void index_free(hash_index *)


cdef extern from "native/slots.h" nogil:
    ctypedef struct slot_set:
        uint32_t capacity
        uint32_t high
        uint32_t live
    bint slots_has(const slot_set *, uint32_t)
    int slots_reserve(slot_set *, uint32_t)
    uint32_t slots_take(slot_set *)
    void slots_give(slot_set *, uint32_t)
    void slots_copy(slot_set *, const slot_set *)
    void slots_free(slot_set *)


cdef extern from "native/lives.h" nogil:
    ctypedef struct life_heap:
        double *at
        uint32_t *id
        uint32_t count
        uint32_t capacity
    int lives_reserve(life_heap *, uint64_t)
    double lives_next(const life_heap *)
    void lives_add(life_heap *, double, uint32_t)
    uint32_t lives_pop(life_heap *)
    void lives_sink(life_heap *, uint32_t, double, uint32_t)
    void lives_free(life_heap *)


cdef extern from "native/clock.h" nogil:
    double clock_coarse()
    double CLOCK_LAG
    int HAS_COARSE_CLOCK


cdef extern from "native/decode.h" nogil:
    int ROW_FLOAT32
    int ROW_FLOAT16
    int ROW_INT8
    void row_decode(float *, const void *, size_t, int, float)
    void PREFETCH(const void *)


cdef extern from "native/policy.h" nogil:
    uint32_t POLICY_NONE
    ctypedef struct policy:
        uint32_t size
        uint32_t capacity
    int policy_kind(const char *)
    int policy_init(policy *, int, uint64_t)
    void policy_free(policy *)
    int policy_reserve(policy *, uint32_t)
    void policy_hashes(policy *, const uint64_t *, size_t)
    void policy_insert(policy *, uint32_t, uint64_t)
    void policy_touch(policy *, uint32_t, uint64_t)
    void policy_far_ahead(const policy *, uint32_t)
    void policy_ahead(const policy *, uint32_t)
    void policy_remove(policy *, uint32_t)
    uint32_t policy_evict(policy *)
    void policy_move(policy *, uint32_t, uint32_t)
    void policy_clear(policy *)
    int policy_check(const policy *)
    size_t policy_bytes(const policy *)


cdef extern from "native/text.h":
    bint text_is_ready(PyObject *)
    bint text_equals(PyObject *, PyObject *)
    bint digest_is_ready(PyObject *)
