# SPDX-License-Identifier: Apache-2.0
"""What this host's processes are about to do to an array, so that a crash can be undone.

A record is a file. Whoever works on the image holds a lock (flock) on it, which the kernel drops
with its holder; so a record that can be locked is a dead process's, and what it tells of may go.
A record is on the disk before the array is asked for anything, and goes after the last step. In
it is a line for each app instance: the uuid that it has or would have had.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from typing import Self

from container_stack import exceptions
from container_stack.host import locks

#: Longest id: an app instance's name has up to 64 characters, a prefix among them.
ID_LENGTH = 40

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{ID_LENGTH - 1}}}")


class Entry:
    """An image's record, which this thread has locked; leaving it as a context unlocks it."""

    def __init__(self, image_id: str, path: str, fd: int) -> None:
        self.image_id = image_id
        self._path = path
        self._fd = fd

    def noted(self) -> frozenset[str]:
        """Return the uuids in the record.

        A torn one is none of ours: its writer died before it asked the array for anything.
        """
        text = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        return frozenset(text.decode(errors="replace").split())

    def age(self) -> float:
        """Return the seconds since the last note."""
        return max(0.0, time.time() - os.fstat(self._fd).st_mtime)

    def note(self, uuid: str) -> None:
        """Note, onto the disk, that the app instance of this uuid is not to outlive us."""
        with _kept(self._path):
            os.pwrite(self._fd, f"\n{uuid}\n".encode(), os.fstat(self._fd).st_size)
            os.fsync(self._fd)
            _sync(os.path.dirname(self._path))

    def forget(self) -> None:
        """Drop the record, for good, and the lock."""
        with _kept(self._path):
            os.unlink(self._path)
            _sync(os.path.dirname(self._path))
        self.release()

    def release(self) -> None:
        """Drop the lock; a record stays. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


class Journal:
    """The records of one array and tenant. A write that fails raises HostNotReady.

    :param directory: kept across restarts, on a file system of this host (flock), for all
        processes and back ends of this host; others' records lie beside ours.
    :param array: what tells this array and tenant from any other, as address and tenant.
    """

    def __init__(self, directory: str, *array: str) -> None:
        key = hashlib.sha256("\n".join(array).encode()).hexdigest()[:16]
        self.directory = os.path.join(directory, key)
        self._uploads = os.path.join(self.directory, "uploads")

    def take(self, image_id: str) -> Entry:
        """Lock an image's record, made if need be.

        :raises Busy: another process, or thread, has it.
        :raises InvalidRequest: the id can't be a file's name.
        """
        check_id(image_id)
        with self._alone():
            return self._take(image_id)

    def left(self) -> Iterator[Entry]:
        """Yield the records of the dead, each locked: forget or leave it."""
        for image_id in self._names():
            with contextlib.suppress(exceptions.Busy):
                yield self.take(image_id)

    def _names(self) -> list[str]:
        with self._alone():
            return sorted(os.listdir(self._uploads))

    def _take(self, image_id: str) -> Entry:
        path = os.path.join(self._uploads, image_id)
        return Entry(image_id, path, locks.lock(path, wait=False))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep :meth:`left` from a record between its making and its locking."""
        with _kept(self._uploads):
            os.makedirs(self._uploads, mode=0o700, exist_ok=True)
            fd = os.open(self._uploads, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)


def check_id(image_id: str) -> None:
    """Raise InvalidRequest unless an id can name a file and, behind a prefix, an app instance."""
    if not _ID.fullmatch(image_id):
        raise exceptions.InvalidRequest(
            f"{image_id!r} can't be an id: give up to {ID_LENGTH} letters, digits and .-_."
        )


@contextlib.contextmanager
def _kept(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise exceptions.HostNotReady(f"No journal can be kept in {path}: {exc.strerror}.") from exc


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
