# SPDX-License-Identifier: Apache-2.0
"""What the kernel has been told of a device's limits, read back from the cgroups."""

import contextlib
import os
from pathlib import Path

from container_stack import exceptions
from container_stack.host import containers
from container_stack.rootwrap import cgroups, limit

#: Bytes read and written in a second, and operations; 0 is without limit.
Numbers = tuple[int, ...]
NOTHING: Numbers = (0, 0, 0, 0)


def server(device: str, container_id: str) -> Numbers:
    """Return what holds for a container, which may have ended."""
    found = containers.Engine().inspect(container_id)
    if not found.pid:
        return NOTHING
    return _read(*cgroups.of_container(found.pid, found.id, "blkio"), device)


def kernel(device: str) -> Numbers:
    """Return what holds for all that version 1 writes back later; version 2 needs no such limit."""
    try:
        return _read(cgroups.hierarchy("blkio"), True, device)
    except exceptions.NotSupported:
        return NOTHING


def forget(device: str) -> None:
    """Take away what a reboot of the host takes away; containers' limits end with them."""
    with contextlib.suppress(exceptions.NotSupported):
        number = os.stat(device).st_rdev
        limit.write(cgroups.hierarchy("blkio"), True, number, dict.fromkeys(("wbps", "wiops"), 0))


def expected(bps: int = 0, iops: int = 0) -> tuple[Numbers, Numbers]:
    """Return what :func:`server` and :func:`kernel` say of a device with these limits."""
    try:
        cgroups.hierarchy("blkio")
    except exceptions.NotSupported:
        return (bps, bps, iops, iops), NOTHING
    return (bps, bps, iops, iops), (0, bps, 0, iops)


def _read(cgroup: Path, first: bool, device: str) -> Numbers:
    number = os.stat(device).st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    if first:
        files = ("read_bps", "write_bps", "read_iops", "write_iops")
        return tuple(_first(cgroup / f"blkio.throttle.{each}_device", name) for each in files)
    for line in (cgroup / "io.max").read_text(encoding="ascii").splitlines():
        if line.split()[0] == name:
            values = [word.partition("=")[2] for word in line.split()[1:]]
            return tuple(0 if value == "max" else int(value) for value in values)
    return NOTHING


def _first(path: Path, name: str) -> int:
    lines = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
    return int(lines.get(name, 0))
