# SPDX-License-Identifier: Apache-2.0
"""Copies of large files: by shared blocks where the file system can, else without the holes."""

import contextlib
import errno
import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator

from container_stack import exceptions

# ioctl_ficlonerange(2); Python has no name for it before 3.14.
_FICLONE = 0x40049409
_CANT_SHARE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS}
_CHUNK = 64 * 1024**2

# The kernel's Documentation/filesystems/fiemap.rst: a request, and an extent of the answer.
_FIEMAP = 0xC020660B
_REQUEST, _EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQ16xI12x")
_EXTENTS = 512
_LAST, _SHARED = 0x1, 0x2000


def make(path: str, size: int) -> None:
    """Make a file of this size that occupies nothing, readable by its owner alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)


def copy(source: str, target: str, *, durable: bool = True) -> bool:
    """Copy a file and return whether the copy shares blocks with its source.

    :param target: a leftover there is replaced; after a failure there is none.
    :param durable: return when the copy is on the disk.
    :raises NoSpace: the file system is full.
    """
    remove(target)
    with contextlib.ExitStack() as undo:
        undo.callback(remove, target)
        shared = _copy(source, target, durable)
        undo.pop_all()
    return shared


def remove(path: str) -> None:
    """Remove a file, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def occupied(path: str) -> int:
    """Return the bytes that a file occupies, shared ones included; 0 if there is none."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


def own(path: str) -> int:
    """Return the bytes of a file that it can overwrite in place, so without those it shares.

    What is in the cache for shared blocks doesn't count yet. 0 if there is no file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return sum(length for length, flags in _extents(fd) if not flags & _SHARED)
    except OSError as exc:
        if exc.errno not in _CANT_SHARE:
            raise
        # A file system that can't tell can't share either.
        return os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)


def can_share(directory: str) -> bool:
    """Return whether files in this directory can share blocks, found by trying."""
    with tempfile.TemporaryFile(dir=directory) as one, tempfile.TemporaryFile(dir=directory) as two:
        return _share(one.fileno(), two.fileno())


def _extents(fd: int) -> Iterator[tuple[int, int]]:
    """Yield length and flags of each extent of a file."""
    start, flags = 0, 0
    while not flags & _LAST:
        answer = bytearray(_REQUEST.size + _EXTENTS * _EXTENT.size)
        _REQUEST.pack_into(answer, 0, start, 2**64 - 1 - start, 0, 0, _EXTENTS, 0)
        fcntl.ioctl(fd, _FIEMAP, answer)
        count = _REQUEST.unpack_from(answer)[3]
        if not count:
            return
        extents = memoryview(answer)[_REQUEST.size : _REQUEST.size + count * _EXTENT.size]
        for logical, _physical, length, flags in _EXTENT.iter_unpack(extents):
            yield length, flags
            start = logical + length


def _copy(source: str, target: str, durable: bool) -> bool:
    with contextlib.ExitStack() as stack:
        old = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, old)
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, new)
        try:
            shared = _share(old, new)
            if not shared:
                _copy_data(old, new)
            if durable:
                os.fsync(new)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise exceptions.NoSpace(f"No space for a copy of {source}.") from exc
            raise
    return shared


def _share(old: int, new: int) -> bool:
    try:
        fcntl.ioctl(new, _FICLONE, old)
    except OSError as exc:
        if exc.errno in _CANT_SHARE:
            return False
        raise
    return True


def _copy_data(old: int, new: int) -> None:
    size = os.fstat(old).st_size
    os.ftruncate(new, size)
    start = 0
    while start < size:
        try:
            start = os.lseek(old, start, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(old, start, os.SEEK_HOLE)
        while start < end:
            copied = os.copy_file_range(old, new, min(end - start, _CHUNK), start, start)
            if not copied:
                return
            start += copied
