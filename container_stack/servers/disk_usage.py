# SPDX-License-Identifier: Apache-2.0
"""What was read from volumes and written to them, by the kernel's own counters.

They begin when a device appears on this host: an iSCSI volume's when it is connected, a logical
volume's when that is activated. Several servers of one host that share a volume share its counters.
"""

import dataclasses
import os

from container_stack.rootwrap import disk_wire

#: Bytes of a sector in the kernel's statistics, whatever the device's own are.
SECTOR = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Requests and bytes, since the device is there."""

    reads: int
    read: int
    writes: int
    written: int


def measure(disk_id: str) -> Usage | None:
    """Return what a volume has seen, or None when it isn't connected to this host."""
    try:
        number = os.stat(disk_wire.device(disk_id)).st_rdev
        path = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat"
        with open(path, encoding="ascii") as file:
            # Source: Documentation/block/stat.rst of Linux.
            reads, _, sectors_read, _, writes, _, sectors_written, *_ = map(
                int, file.read().split()
            )
    except FileNotFoundError:
        return None
    return Usage(reads, sectors_read * SECTOR, writes, sectors_written * SECTOR)
