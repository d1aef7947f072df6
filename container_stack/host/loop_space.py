# SPDX-License-Identifier: Apache-2.0
"""The book-keeping of a pool of sparse files: what is promised, what is left."""

import contextlib
import os

from container_stack import exceptions
from container_stack.host import loop_records, records, sparse, storage, storage_locks


class Space:
    """Promises space to volumes and snapshots, never more than there is.

    A volume is promised its size, a snapshot what its volume occupied: once the volume is rewritten
    it occupies that. How much of the disk is yet to be taken for these promises is asked of the
    files: all that a volume can't overwrite in place, which is what it lacks of its size, and what
    it shares with others. The last of those who shared something needs nothing more for it, but as
    long as they do, that is counted for each volume, so rather too much than too little.

    :param limit: bytes; None for what the file system has.
    """

    def __init__(
        self,
        volumes: records.Records,
        snapshots: records.Records,
        pool_locks: storage_locks.StorageLocks,
        limit: int | None,
    ) -> None:
        self._volumes = volumes
        self._snapshots = snapshots
        self._locks = pool_locks
        self._limit = limit

    def reserve(
        self, target: records.Records, name: str, record: records.Record, more: int
    ) -> None:
        """Write a record that needs ``more`` bytes, if the pool has them.

        :raises NoSpace: it hasn't; nothing was written.
        """
        with self._locks.hold_pool():
            free = self.capacity().free
            if more > free:
                raise exceptions.NoSpace(
                    f"{name} needs {more} bytes and {free} are free; delete something, "
                    "or let the pool be larger."
                )
            target.write(name, record)

    def capacity(self) -> storage.Capacity:
        """Return how full the pool is.

        Without a limit, it is as large as what was promised and what its disk has beyond that.
        """
        provisioned = to_come = 0
        for name, record in self._volumes.all().items():
            provisioned += record["size"]
            to_come += _lacks(record, self._volumes.path(name, ".img"))
        for name, record in self._snapshots.all().items():
            provisioned += record["cost"]
            if record["state"] == loop_records.CREATING:
                there = sparse.occupied(self._snapshots.path(name, ".img"))
                to_come += max(0, record["cost"] - there)
        disk = os.statvfs(_existing(self._volumes.directory))
        total = provisioned + max(0, disk.f_bavail * disk.f_frsize - to_come)
        if self._limit is not None:
            total = min(total, self._limit)
        return storage.Capacity(total, max(0, total - provisioned), provisioned)

    def can_share(self) -> bool:
        """Return whether copies share blocks here."""
        with contextlib.suppress(OSError):
            return sparse.can_share(_existing(self._volumes.directory))
        return False


def _lacks(record: records.Record, image: str) -> int:
    """Return the bytes of the disk that a volume may yet take."""
    there = sparse.own(image) if record["shared"] else sparse.occupied(image)
    return max(0, int(record["size"]) - there)


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
