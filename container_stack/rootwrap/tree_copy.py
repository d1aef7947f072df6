# SPDX-License-Identifier: Apache-2.0
"""Copying and measuring a tree of files in which strangers go on writing.

Each entry is opened below the open directory that holds it, and never through a link, so that who
exchanges a directory for a link while it is copied gains nothing. What vanishes meanwhile is left
out. Contents are shared where the file system can (reflinks), else copied by the kernel or, over
NFS 4.2, by the server; holes stay holes.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from container_stack import exceptions

#: Directories in directories: each is a file descriptor, of which rootwrap allows 1,024.
DEPTH = 400

_FICLONE = 0x40049409  # linux/fs.h
_CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS)
_CHUNK = 1024**2
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
#: What is said of an entry that has gone since, or is now a link.
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def copy(source: int, target: int) -> None:
    """Copy what an open directory holds into another, empty one, with all that is said of it.

    :raises NotSupported: directories are nested too deeply.
    """
    _Copy(target).directory(source, target, ())


def measure(directory: int) -> int:
    """Return the bytes that the files in an open directory take on the disk."""
    return _measure(directory, set(), 0)


class _Copy:
    def __init__(self, top: int) -> None:
        self._top = top
        #: Where the copy has a file that has several names, by its inode.
        self._links: dict[int, str] = {}

    def directory(self, source: int, target: int, path: tuple[str, ...]) -> None:
        _check_depth(len(path))
        for name in os.listdir(source):
            with _unless_vanished():
                self._entry(source, target, name, (*path, name))
        _say(source, target)

    def _entry(self, source: int, target: int, name: str, path: tuple[str, ...]) -> None:
        found = os.lstat(name, dir_fd=source)
        if stat.S_ISDIR(found.st_mode):
            with _closing(inner := os.open(name, _DIRECTORY, dir_fd=source)):
                os.mkdir(name, dir_fd=target)
                with _closing(made := os.open(name, _DIRECTORY, dir_fd=target)):
                    self.directory(inner, made, path)
        elif stat.S_ISREG(found.st_mode):
            if found.st_nlink == 1 or not self._link(found.st_ino, target, name):
                self._file(source, target, name)
                if found.st_nlink > 1:
                    self._links[found.st_ino] = "/".join(path)
        else:
            if stat.S_ISLNK(found.st_mode):
                os.symlink(_goal(source, name), name, dir_fd=target)
            else:
                os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
            times = (found.st_atime_ns, found.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    def _link(self, inode: int, target: int, name: str) -> bool:
        """Give a file one more name in the copy, to which nobody else comes."""
        with contextlib.suppress(KeyError, OSError):
            os.link(self._links[inode], name, src_dir_fd=self._top, dst_dir_fd=target)
            return True
        return False

    def _file(self, source: int, target: int, name: str) -> None:
        there = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=source)
        with _closing(there):
            found = os.fstat(there)
            if not stat.S_ISREG(found.st_mode):
                return  # somebody has just exchanged it
            file = os.open(f"/proc/self/fd/{there}", os.O_RDONLY)
        with _closing(file), _closing(made := os.open(name, _WRITE, 0o600, dir_fd=target)):
            _content(file, made, found.st_size)
            _say(file, made)


def _goal(directory: int, name: str) -> str:
    """Return what a link says."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # somebody has just exchanged it
            raise FileNotFoundError(errno.ENOENT, "no link any more", name) from exc
        raise


def _content(source: int, target: int, size: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
            end = min(os.lseek(source, at, os.SEEK_HOLE), size)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # nothing but a hole from here, or it was just cut off
                break
            raise
        _range(source, target, at, end)
        at = end
    os.ftruncate(target, size)


def _range(source: int, target: int, at: int, end: int) -> None:
    try:
        while at < end and (done := os.copy_file_range(source, target, end - at, at, at)):
            at += done
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
        while at < end and (data := os.pread(source, min(_CHUNK, end - at), at)):
            at += os.pwrite(target, data, at)


def _say(source: int, target: int) -> None:
    """Say of a copy what is said of the original: owner, mode, attributes, access lists, times."""
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    with contextlib.suppress(OSError):  # many file systems have none
        for name in os.listxattr(source):
            _attribute(source, target, name)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _attribute(source: int, target: int, name: str) -> None:
    try:
        os.setxattr(target, name, os.getxattr(source, name))
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise


def _measure(directory: int, seen: set[int], depth: int) -> int:
    _check_depth(depth)
    total = os.fstat(directory).st_blocks * 512
    for name in os.listdir(directory):
        with _unless_vanished():
            found = os.lstat(name, dir_fd=directory)
            if stat.S_ISDIR(found.st_mode):
                with _closing(inner := os.open(name, _DIRECTORY, dir_fd=directory)):
                    total += _measure(inner, seen, depth + 1)
            elif found.st_nlink == 1 or found.st_ino not in seen:
                seen.add(found.st_ino)
                total += found.st_blocks * 512
    return total


def _check_depth(depth: int) -> None:
    if depth > DEPTH:
        raise exceptions.NotSupported(f"it has directories nested more than {DEPTH} deep.")


@contextlib.contextmanager
def _unless_vanished() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in _VANISHED:
            raise


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)
