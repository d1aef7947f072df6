# SPDX-License-Identifier: Apache-2.0
"""What a block device does, from the kernel's Documentation/block/stat.rst: no privilege."""

import os
from collections.abc import Sequence

from container_stack.volumes import model

_SECTOR = 512
#: Later kernels have more.
_FIELDS = 11


def read(device: str) -> list[int]:
    """Return the kernel's counters of a device, which go on when a loop device gets another file.

    A device that is no more has counted nothing.
    """
    try:
        number = os.stat(device).st_rdev
        where = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat"
        with open(where, encoding="utf-8") as file:
            return [int(word) for word in file.read().split()[:_FIELDS]]
    except FileNotFoundError:
        return [0] * _FIELDS


def since(device: str, before: Sequence[int]) -> model.Stats:
    """Return what a device did since its counters stood so; all it did if it began anew."""
    now = read(device)
    anew = any(there < then for there, then in zip(now[:4], before[:4], strict=True))
    done = now if anew else [there - then for there, then in zip(now, before, strict=True)]
    return model.Stats(
        reads=done[0],
        read_ms=done[3],
        read_bytes=done[2] * _SECTOR,
        writes=done[4],
        write_ms=done[7],
        write_bytes=done[6] * _SECTOR,
        io_progress=now[8],
        io_ms=done[9],
    )
