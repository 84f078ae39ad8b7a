/* What may be read of an argument without calling Python. */
#ifndef NEARCACHE_TEXT_H
#define NEARCACHE_TEXT_H

#include <Python.h>

#include <string.h>

static inline int text_is_ready(PyObject *text) {
    if (!PyUnicode_Check(text)) return 0;
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(text)) {
        PyErr_Clear();
        return 0;
    }
#endif
    return 1;
}

/* Two exact strs. */
static inline int text_equals(PyObject *one, PyObject *other) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(one);
    return length == PyUnicode_GET_LENGTH(other) && PyUnicode_KIND(one) == PyUnicode_KIND(other) &&
           !memcmp(PyUnicode_DATA(one), PyUnicode_DATA(other), (size_t)length * PyUnicode_KIND(one));
}

static inline int digest_is_ready(PyObject *digest) {
    return PyBytes_Check(digest) && PyBytes_GET_SIZE(digest) == 16;
}

#endif
