# SPDX-License-Identifier: Apache-2.0
"""A file on its way from a store: it appears under its name when it is whole."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.host import locks

PIECE = 1024 * 1024
_ETAG = re.compile(r"[0-9a-f]{32}")


@contextlib.contextmanager
def local(path: str) -> Iterator[None]:
    """Let only errors of ours out.

    :raises NoSpace: the disk is full.
    :raises InvalidRequest: the path can't be used.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise exceptions.NoSpace(f"There is no room for {path}.") from exc
        raise exceptions.InvalidRequest(f"{path} can't be used: {exc.strerror}.") from exc


class Part:
    """What has arrived of an object so far, beside the file that it becomes.

    Its name has the object's etag, so that whoever goes on after a crash goes on with the same.
    """

    def __init__(self, path: str, part: str, fd: int) -> None:
        self._path = path
        self._part = part
        self._fd = fd
        self.size = os.fstat(fd).st_size

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str, etag: str) -> Iterator["Part"]:
        """Lend what is there, or something empty; parts of what the object was before go.

        :raises Busy: another process downloads to the same path.
        :raises InvalidRequest: the path, or what the store calls an etag, can't be used.
        """
        if not _ETAG.fullmatch(etag):
            raise exceptions.InvalidRequest(
                "The object has no etag that its bytes could be checked by; upload it again, whole "
                "or with `swift upload --use-slo --segment-size`."
            )
        if os.path.isdir(path):
            raise exceptions.InvalidRequest(f"{path} is a directory.")
        directory, base = os.path.split(os.path.abspath(path))
        mine = f".{base}.{etag}.part"
        with local(path):
            _sweep(directory, re.compile(rf"\.{re.escape(base)}\.{_ETAG.pattern}\.part"), mine)
            part = os.path.join(directory, mine)
            fd = locks.lock(part, wait=False)
            try:
                yield cls(path, part, fd)
            finally:
                os.close(fd)

    def pieces(self) -> Iterator[bytes]:
        """Yield what is there."""
        offset = 0
        while piece := os.pread(self._fd, PIECE, offset):
            yield piece
            offset += len(piece)

    def append(self, piece: bytes) -> None:
        """Write the next bytes."""
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(self._fd, rest, self.size)
            self.size += written
            rest = rest[written:]

    def clear(self) -> None:
        """Begin again."""
        os.ftruncate(self._fd, 0)
        self.size = 0

    def finish(self) -> None:
        """Give it its name; what bore that before is replaced."""
        os.fsync(self._fd)
        os.replace(self._part, self._path)
        directory = os.open(os.path.dirname(self._part), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _sweep(directory: str, pattern: re.Pattern[str], mine: str) -> None:
    for name in os.listdir(directory):
        if pattern.fullmatch(name) and name != mine:
            path = os.path.join(directory, name)
            with contextlib.suppress(exceptions.Busy, FileNotFoundError):
                fd = locks.lock(path, wait=False)
                os.unlink(path)
                os.close(fd)
