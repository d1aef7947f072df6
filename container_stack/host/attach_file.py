# SPDX-License-Identifier: Apache-2.0
"""Volumes of the EDF simulator as the files they are, without iSCSI.

The simulator keeps a link to each volume's sparse file at ``targets/<iqn>/lun-<n>`` below its
directory, ``:`` and ``/`` of the name replaced by ``_``. Who may read that file may attach it:
no access list, no CHAP.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from typing import TypeVar

from container_stack import exceptions
from container_stack.host import attach, attach_names, attach_ranges

T = TypeVar("T")


class FileAttacher(attach.Attacher):
    """Attaches volumes of a simulator that runs on this host.

    :param directory: where the simulator keeps its volumes.
    """

    def __init__(self, directory: str, initiator: str) -> None:
        self._directory = directory
        self._initiator = initiator

    @classmethod
    def open(cls, options: attach.Options) -> "FileAttacher":
        """Make one from what an operator configured.

        :raises InvalidRequest: no directory was given, or an unusable initiator's name.
        """
        if not options.directory:
            raise exceptions.InvalidRequest("Attaching files needs the simulator's directory.")
        return cls(options.directory, attach_names.initiator(options))

    @property
    def initiator(self) -> str:
        return self._initiator

    def attach(self, target: attach.Target, *, read_only: bool = False) -> attach.BlockDevice:
        self.check()
        path = _path(self._directory, target)
        try:
            mode = os.O_RDONLY if read_only else os.O_RDWR
            fd = _Descriptor(os.open(path, mode | os.O_CLOEXEC | os.O_NOFOLLOW))
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise exceptions.NotFound(f"There is no volume of {target.iqn}.") from exc
        except PermissionError as exc:
            raise exceptions.AccessDenied(f"This user may not open {path}.") from exc
        except OSError as exc:
            raise exceptions.ArrayUnavailable(f"Can't open {path}: {exc.strerror}.") from exc
        if not stat.S_ISREG(os.fstat(fd.number).st_mode):
            raise exceptions.InvalidRequest(f"{path} is not a file.")
        return FileDevice(fd, target.iqn)

    def check(self) -> Mapping[str, str]:
        if not os.path.isdir(self._directory):
            raise exceptions.HostNotReady(
                f"{self._directory} is not a directory; start the EDF simulator that keeps its "
                "volumes there."
            )
        return {"directory": self._directory}


def _path(directory: str, target: attach.Target) -> str:
    name = target.iqn.replace(":", "_").replace("/", "_")
    top = os.path.realpath(directory)
    link = os.path.join(top, "targets", name, f"lun-{target.lun or 0}")
    path = os.path.realpath(link)
    if name in ("", ".", "..") or os.path.commonpath([top, path]) != top:
        raise exceptions.InvalidRequest(f"{link} leads outside of {top}.")
    return path


class _Descriptor:
    """A file descriptor that is closed when its last user is done with it, and not before."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class FileDevice(attach.BlockDevice):
    """A file as a volume."""

    def __init__(self, fd: _Descriptor, name: str) -> None:
        self._open: _Descriptor | None = fd
        self._name = name
        self._size = os.fstat(fd.number).st_size

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        fd = self._fd()
        attach_ranges.check(self._size, offset, length)
        data = self._call(os.pread, fd.number, length, offset)
        while len(data) < length:
            more = self._call(os.pread, fd.number, length - len(data), offset + len(data))
            if not more:
                raise exceptions.ArrayUnavailable(f"The volume of {self._name} was cut off.")
            data += more
        return data

    def write(self, offset: int, data: attach.Buffer) -> None:
        fd = self._fd()
        rest = memoryview(data).cast("B")
        attach_ranges.check(self._size, offset, len(rest))
        while rest:
            done = self._call(os.pwrite, fd.number, rest, offset)
            offset, rest = offset + done, rest[done:]

    def flush(self) -> None:
        self._call(os.fsync, self._fd().number)

    def refresh(self) -> int:
        self._size = self._call(os.fstat, self._fd().number).st_size
        return self._size

    def close(self) -> None:
        self._open = None

    def _fd(self) -> _Descriptor:
        fd = self._open
        if fd is None:
            raise exceptions.InvalidRequest(f"The volume of {self._name} is detached.")
        return fd

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return function(*arguments)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise exceptions.NoSpace(f"No space left for the volume of {self._name}.") from exc
            if exc.errno == errno.EBADF:
                raise exceptions.InvalidRequest(f"{self._name} was attached to be read.") from exc
            raise exceptions.ArrayUnavailable(f"{self._name}: {exc.strerror}.") from exc
