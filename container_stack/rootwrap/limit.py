# SPDX-License-Identifier: Apache-2.0
"""``container-stack-limit``: how much a container, and the kernel for it, may do with a device.

It is no program: the daemon does it itself, when its filters admit the words.

A version 2 cgroup counts what the kernel writes back later as written by who wrote it. In version
1 that counts as the root's, so there the device is limited for the root cgroup as well. Reads, and
writes past the cache, are the container's in both. Sources: the kernel's
admin-guide/cgroup-v1/blkio-controller.rst and admin-guide/cgroup-v2.rst.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from container_stack import exceptions
from container_stack.rootwrap import cgroups

#: What stands for the program's name.
PROGRAM = "container-stack-limit"

# The files of version 1, and the words of version 2, for bytes and operations of each second.
_FIRST = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}


def write(cgroup: Path, first: bool, number: int, most: Mapping[str, int]) -> None:
    """Limit a device in a cgroup; 0 is without limit.

    :param first: it is one of version 1.
    :param most: by the words of version 2.
    """
    device = f"{os.major(number)}:{os.minor(number)}"
    if first:
        for word, value in most.items():
            (cgroup / _FIRST[word]).write_text(f"{device} {value}", encoding="ascii")
    else:
        limits = " ".join(f"{word}={value or 'max'}" for word, value in most.items())
        (cgroup / "io.max").write_text(f"{device} {limits}", encoding="ascii")


def _container(device: str, container: str, pid: str, *most: str) -> None:
    cgroup, first = cgroups.of_container(int(pid), container, "blkio")
    write(cgroup, first, _number(device), dict(zip(_FIRST, map(int, most), strict=True)))


def _kernel(device: str, wbps: str, wiops: str) -> None:
    try:
        cgroup = cgroups.hierarchy("blkio")
    except exceptions.NotSupported:
        return  # Version 2 knows whose it is.
    write(cgroup, True, _number(device), {"wbps": int(wbps), "wiops": int(wiops)})


#: What it can do, by the first word; the others are its arguments.
ACTIONS: Mapping[str, Callable[..., None]] = {"container": _container, "kernel": _kernel}


def _number(path: str) -> int:
    found = os.stat(path)
    if not stat.S_ISBLK(found.st_mode):
        raise exceptions.InvalidRequest(f"{path} is no block device.")
    return found.st_rdev
