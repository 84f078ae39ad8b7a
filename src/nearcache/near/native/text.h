/* What may be read of an argument without calling Python. */
#ifndef NEARCACHE_TEXT_H
#define NEARCACHE_TEXT_H

#include <Python.h>

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

static inline int digest_is_ready(PyObject *digest) {
    return PyBytes_Check(digest) && PyBytes_GET_SIZE(digest) == 16;
}

#endif
