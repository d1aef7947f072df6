# SPDX-License-Identifier: Apache-2.0
"""What of libiscsi is used here, for ctypes: its ``iscsi.h`` and ``scsi-lowlevel.h``.

Debian calls its package ``libiscsi7``. It is loaded when it is first needed.
"""

import ctypes
import functools
from typing import Any

from container_stack import exceptions

#: The ABI that is declared below: libiscsi 1.19 and 1.20.
SONAME = "libiscsi.so.7"

Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Task(ctypes.Structure):
    """The first fields of ``struct scsi_task``; those of its ``struct scsi_sense`` are last."""

    _fields_ = (
        ("status", ctypes.c_int),
        ("cdb_size", ctypes.c_int),
        ("direction", ctypes.c_int),
        ("expected", ctypes.c_int),
        ("cdb", ctypes.c_ubyte * 16),
        ("residual_status", ctypes.c_int),
        ("residual", ctypes.c_size_t),
        ("error_type", ctypes.c_ubyte),
        ("key", ctypes.c_int),
        ("code", ctypes.c_int),
    )


_int, _pointer, _text = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "iscsi_connect_async": (_int, (_pointer, _text, Callback, _pointer)),
    "iscsi_create_context": (_pointer, (_text,)),
    "iscsi_destroy_context": (_int, (_pointer,)),
    "iscsi_get_error": (_text, (_pointer,)),
    "iscsi_get_fd": (_int, (_pointer,)),
    "iscsi_get_target_address": (_text, (_pointer,)),
    "iscsi_login_async": (_int, (_pointer, Callback, _pointer)),
    "iscsi_logout_async": (_int, (_pointer, Callback, _pointer)),
    "iscsi_out_queue_length": (_int, (_pointer,)),
    "iscsi_scsi_command_async": (
        _int,
        (_pointer, _int, _pointer, Callback, _pointer, _pointer),
    ),
    "iscsi_service": (_int, (_pointer, _int)),
    "iscsi_set_header_digest": (_int, (_pointer, _int)),
    "iscsi_set_initiator_username_pwd": (_int, (_pointer, _text, _text)),
    "iscsi_set_isid_random": (_int, (_pointer, ctypes.c_uint32, ctypes.c_uint32)),
    "iscsi_set_noautoreconnect": (None, (_pointer, _int)),
    "iscsi_set_session_type": (_int, (_pointer, _int)),
    "iscsi_set_target_username_pwd": (_int, (_pointer, _text, _text)),
    "iscsi_set_targetname": (_int, (_pointer, _text)),
    "iscsi_which_events": (_int, (_pointer,)),
    "scsi_create_task": (_pointer, (_int, _text, _int, _int)),
    "scsi_free_scsi_task": (None, (_pointer,)),
    "scsi_task_add_data_in_buffer": (_int, (_pointer, _int, _pointer)),
    "scsi_task_add_data_out_buffer": (_int, (_pointer, _int, _pointer)),
}


@functools.cache
def load() -> Any:
    """Return the library, its functions declared.

    :raises HostNotReady: it isn't installed, or isn't the one that is meant.
    """
    try:
        library = ctypes.CDLL(SONAME)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as exc:
        raise exceptions.HostNotReady(
            f"{SONAME} can't be used ({exc}); install the package libiscsi7."
        ) from exc
    return library
