# SPDX-License-Identifier: Apache-2.0
"""The locks of storage backends: a volume's, a snapshot's, and for a moment the whole pool's."""

import contextlib
import os
from collections.abc import Iterator

from container_stack.host import locks


class StorageLocks:
    """Locks below a state directory, across threads and processes; gone with their holder.

    So whoever holds a volume's lock and finds something under way with the volume knows that
    whoever began it is dead.
    """

    def __init__(self, state_dir: str) -> None:
        self._locks = locks.ObjectLocks(os.path.join(state_dir, "locks", "storage"))

    @contextlib.contextmanager
    def hold(self, *, volume: str | None = None, snapshot: str | None = None) -> Iterator[None]:
        """Hold a volume, a snapshot or both: always in this order, or two could block."""
        with contextlib.ExitStack() as held:
            if volume is not None:
                held.enter_context(self._locks.hold(f"volume.{volume}"))
            if snapshot is not None:
                held.enter_context(self._locks.hold(f"snapshot.{snapshot}"))
            yield

    @contextlib.contextmanager
    def hold_pool(self) -> Iterator[None]:
        """Hold the pool, for no longer than it takes to reserve space in it."""
        with self._locks.hold("pool"):
            yield
