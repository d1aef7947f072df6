# SPDX-License-Identifier: Apache-2.0
"""Where in memory the bytes of a Python object are, for C code to use."""

import ctypes

from container_stack.host import attach


class _View(ctypes.Structure):
    """``Py_buffer`` of Python's stable ABI."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = (ctypes.py_object, ctypes.POINTER(_View), ctypes.c_int)
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = (ctypes.POINTER(_View),)
_release.restype = None


class Pin:
    """Keeps an object's bytes where they are as long as the pin exists.

    Who writes to the address of a ``bytes`` object must be the only one who knows the object.

    :ivar address: of the first byte; 0 if there is none.
    """

    def __init__(self, data: attach.Buffer) -> None:
        self._view = _View()
        # ctypes raises the error that PyObject_GetBuffer sets.
        _get(data, ctypes.byref(self._view), 0)
        self.address = int(self._view.buf or 0)

    def __del__(self) -> None:
        _release(ctypes.byref(self._view))
