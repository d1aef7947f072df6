# SPDX-License-Identifier: Apache-2.0
"""A version 2 cgroup with a program like those of engines: no block device may be used."""

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from container_stack.rootwrap import disk_bpf

#: Where systemd and others mount it.
PLACES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))

# The kind of device into r2, r0 = 1, return unless it is a block device, r0 = 0, return.
_NO_BLOCKS = (
    (0x61, 0x12, 0, 0),
    (0x57, 2, 0, 0xFFFF),
    (0xB7, 0, 0, 1),
    (0x55, 2, 1, 1),
    (0xB7, 0, 0, 0),
    (0x95, 0, 0, 0),
)
PROGRAM = b"".join(struct.pack("=BBhi", *step) for step in _NO_BLOCKS)


def hierarchy() -> Path | None:
    """Return where version 2 is mounted, if it is."""
    return next((each for each in PLACES if (each / "cgroup.controllers").exists()), None)


@contextlib.contextmanager
def cgroup(name: str) -> Iterator[Path]:
    """Make a cgroup, whose processes must have gone at the end."""
    where = hierarchy()
    assert where is not None
    path = where / name
    path.mkdir()
    try:
        group, program = os.open(path, os.O_RDONLY), disk_bpf.load(PROGRAM)
        disk_bpf.attach(group, program, flags=disk_bpf.ALLOW_MULTI)
        os.close(program)
        os.close(group)
        yield path
    finally:
        end = time.monotonic() + 30
        while (path / "cgroup.procs").read_text() and time.monotonic() < end:
            time.sleep(0.02)
        path.rmdir()


def within(path: Path, action: Callable[[], object]) -> int:
    """Do something in a child in a cgroup, and return the number of the error, or 0."""
    child = os.fork()
    if not child:
        code = 255
        try:
            (path / "cgroup.procs").write_text(str(os.getpid()))
            action()
            code = 0
        except OSError as exc:
            code = exc.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
