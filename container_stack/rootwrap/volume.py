# SPDX-License-Identifier: Apache-2.0
"""``container-stack-volume``: volumes that are subvolumes or directories, by system calls alone.

It is no program: the daemon does it itself, when its filters admit the words. btrfs(8), mount(8)
and umount(8) would take two milliseconds each to start, for calls that take a tenth of one.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import struct
from collections.abc import Callable, Iterator, Mapping

#: What stands for the program's name.
PROGRAM = "container-stack-volume"

# Of the kernel's include/uapi/linux/btrfs.h: BTRFS_IOC_SUBVOL_CREATE, _SNAP_DESTROY, whose argument
# is a descriptor, for these two 0, and a name; _QGROUP_LIMIT, whose first field is a group, or 0
# for that of the open subvolume.
_CREATE, _DESTROY, _LIMIT = 0x5000940E, 0x5000940F, 0x8030942B
_NAMED = struct.Struct("=q4088s")
_LIMITS = struct.Struct("=6Q")
#: BTRFS_QGROUP_LIMIT_MAX_RFER: the second number is one of bytes, shared ones included.
_REFERENCED = 1
# Of mount(2) and umount2(2).
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND = 1, 2, 4, 32, 4096
_NO_FOLLOW = 8


def _create(path: str, size: str) -> None:
    """Make a subvolume that can take so many bytes; without its limit it doesn't stay."""
    with contextlib.ExitStack() as undo:
        _call(_CREATE, path)
        undo.callback(_delete, path)
        with _directory(path) as made:
            fcntl.ioctl(made, _LIMIT, _LIMITS.pack(0, _REFERENCED, int(size), 0, 0, 0))
        undo.pop_all()


def _delete(path: str) -> None:
    _call(_DESTROY, path)


def _bind(access: str, source: str, path: str) -> None:
    """Mount a directory without setuid and devices; the kernel does that in two steps."""
    flags = _NO_SETUID | _NO_DEVICES | (_READ_ONLY if access == "ro" else 0)
    with contextlib.ExitStack() as undo:
        _mount(source, path, _BIND)
        undo.callback(_unbind, path)
        _mount(source, path, _BIND | _REMOUNT | flags)
        undo.pop_all()


def _unbind(path: str) -> None:
    """Unmount all that is mounted there, which may be nothing."""
    try:
        while True:
            _check(_libc().umount2(os.fsencode(path), _NO_FOLLOW))
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOENT):
            raise


#: What it can do, by the first word; the others are its arguments.
ACTIONS: Mapping[str, Callable[..., None]] = {
    "create": _create,
    "delete": _delete,
    "bind": _bind,
    "unbind": _unbind,
}


def _call(what: int, path: str) -> None:
    """Let the kernel make or remove the subvolume of this path."""
    above, name = os.path.split(path)
    with _directory(above) as parent:
        fcntl.ioctl(parent, what, bytearray(_NAMED.pack(0, os.fsencode(name))))


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def _mount(source: str, path: str, flags: int) -> None:
    _check(_libc().mount(os.fsencode(source), os.fsencode(path), None, ctypes.c_ulong(flags), None))


def _check(failed: int) -> None:
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
