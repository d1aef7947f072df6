# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells the guard, in a file that outlives both.

It is overwritten in place and takes no new space, so a full disk keeps nobody from renewing; and
it isn't brought onto the disk, because after a crash of the host nothing in it counts.
"""

import contextlib
import dataclasses
import enum
import fcntl
import json
import os
import struct
import time
import zlib

from container_stack import exceptions
from container_stack.host import abilities
from container_stack.volumes.cluster import clock

_SIZE = 512
#: struct flock of fcntl(2): type, whence, start, length, process.
_FLOCK = "hhqqi"


class Standing(enum.StrEnum):
    """How this node stands."""

    #: It may use volumes, until the guard's time comes.
    HELD = "held"
    #: It may not, and nothing may be mounted.
    OUT = "out"
    #: It has left in good order: no guard is needed.
    LEFT = "left"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What the guard has to know.

    :param boot: of the host's start that it was written in.
    :param holder: the secret by which the lease is known to be ours.
    :param asked: by the clock of leases: before the lease was last renewed.
    :param until: when the guard's time comes.
    :param process: the daemon that wrote it.
    """

    standing: Standing = Standing.OUT
    boot: str = ""
    holder: str = ""
    asked: float = 0.0
    until: float = 0.0
    process: int = 0

    @property
    def live(self) -> bool:
        """Tell whether volumes may be used on its word, now."""
        return self.held and clock.now() < self.until

    @property
    def held(self) -> bool:
        """Tell whether the lease was ours since this host started."""
        return self.standing is Standing.HELD and self.boot == abilities.boot_id()


class File:
    """The record, in a directory for its owner alone, which is made if need be."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.directory = directory
        self._path = os.path.join(directory, "record")

    def read(self) -> Record:
        """Return what was written last; what can't be read means that nothing may be used."""
        for _attempt in range(5):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                return _parse(self._bytes())
            # It is being written.
            time.sleep(0.01)
        return Record()

    def write(self, record: Record) -> None:
        """Write it."""
        body = json.dumps(dataclasses.asdict(record)).encode()
        text = b"%08x %s" % (zlib.crc32(body), body)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, text.ljust(_SIZE), 0)
        finally:
            os.close(fd)

    def _bytes(self) -> bytes:
        with open(self._path, "rb") as file:
            return file.read(_SIZE)


class Seat:
    """The daemon's place, which the kernel gives to one process and frees with it.

    The kernel also tells who has it (a lock by fcntl, not by flock), so nobody else is killed.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "daemon")
        self._fd: int | None = None

    def take(self) -> None:
        """Take it, for as long as this process lives or until :meth:`leave`.

        :raises Busy: another daemon has it.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(fd)
            raise exceptions.Busy("Another daemon serves this state directory.") from exc
        self._fd = fd

    def leave(self) -> None:
        """Leave it; idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def process(self) -> int:
        """Return who has it, seen from another process, or 0."""
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb+") as file:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _whence, _start, _length, process = struct.unpack(
                _FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked)
            )
            return 0 if kind == fcntl.F_UNLCK else int(process)
        return 0


def _parse(text: bytes) -> Record:
    check, _blank, body = text.rstrip().partition(b" ")
    if int(check, 16) != zlib.crc32(body):
        raise ValueError("half-written")
    fields = json.loads(body)
    return Record(**{**fields, "standing": Standing(fields["standing"])})
