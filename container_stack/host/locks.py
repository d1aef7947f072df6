# SPDX-License-Identifier: Apache-2.0
"""One lock per object, across threads and processes.

Two shares never wait for each other; two changes of one share do. The kernel drops a lock with
its holder, kill -9 included; its file goes when nobody wants it, or by :meth:`ObjectLocks.sweep`.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator

from container_stack import exceptions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ObjectLocks:
    """Locks in one directory, one file a name.

    :param directory: made when first needed; on a local file system (flock).
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def hold(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the object's lock, waiting as long as another thread or process has it.

        Not reentrant: a thread that holds ``name`` and asks again waits for ever.

        :raises InvalidRequest: the name can't be a file's name.
        :raises Busy: somebody has it, and we weren't to wait.
        """
        if not _NAME.fullmatch(name):
            raise exceptions.InvalidRequest(f"{name!r} can't name a lock.")
        path = os.path.join(self._directory, name)
        fd = self._lock(path, wait)
        try:
            yield
        finally:
            # Unlinked while held: whoever waits on this file sees that and takes the new one.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.close(fd)

    def _lock(self, path: str, wait: bool) -> int:
        try:
            return lock(path, wait=wait)
        except FileNotFoundError:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            return lock(path, wait=wait)

    def sweep(self) -> None:
        """Remove the files of locks that nobody holds, below this directory: crashes left them."""
        for directory, _, names in os.walk(self._directory):
            for name in names:
                _remove_if_free(os.path.join(directory, name))


def lock(path: str, *, shared: bool = False, wait: bool = True) -> int:
    """Lock a file, made if need be, and return a descriptor; closing that unlocks it.

    Who unlinks it does so before unlocking; whoever then waits for it gets the new one.

    :raises Busy: somebody has it, and we weren't to wait.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how)
        except BlockingIOError as exc:
            os.close(fd)
            raise exceptions.Busy(f"Another process or thread has locked {path}.") from exc
        if _is_current(fd, path):
            return fd
        os.close(fd)


def lock_alone(fd: int, path: str) -> bool:
    """Make a shared lock exclusive and return whether that could be; if not, it is gone."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The kernel lets go of the old lock first: somebody may have unlinked the file in between.
    return _is_current(fd, path)


def _remove_if_free(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(fd, path):
                os.unlink(path)
        finally:
            os.close(fd)


def _is_current(fd: int, path: str) -> bool:
    mine = os.fstat(fd)
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
