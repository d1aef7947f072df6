# SPDX-License-Identifier: Apache-2.0
"""The book-keeping of a pool of sparse files: what is promised, what is left."""

import contextlib
import os

from container_stack import exceptions
from container_stack.host import records, sparse, storage, storage_locks


class Space:
    """Promises space to volumes and snapshots, never more than there is.

    A volume is promised its size, a snapshot what its volume occupied, since that is what it
    occupies once the volume is rewritten. What a copy shared when it was made (``shared`` in its
    record) counts once, for the original.

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
        """Return how full the pool is. Without a limit, it is as large as what it holds and what
        its file system has left.
        """
        occupied = provisioned = 0
        for where, cost in ((self._volumes, "size"), (self._snapshots, "cost")):
            for name, record in where.all().items():
                provisioned += record[cost]
                own = sparse.occupied(where.path(name, ".img")) - record["shared"]
                occupied += max(0, own)
        disk = os.statvfs(_existing(self._volumes.directory))
        total = disk.f_bavail * disk.f_frsize + occupied
        if self._limit is not None:
            total = min(total, self._limit)
        return storage.Capacity(total, max(0, total - provisioned), provisioned)

    def can_share(self) -> bool:
        """Return whether copies share blocks here."""
        with contextlib.suppress(OSError):
            return sparse.can_share(_existing(self._volumes.directory))
        return False


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
