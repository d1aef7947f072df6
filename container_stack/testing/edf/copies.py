# SPDX-License-Identifier: Apache-2.0
"""Copies of volumes that are made while their array already speaks of them as made.

A real array snapshots in no time. Here nobody gets to write to a volume before its copies are
whole, and so nobody can tell.
"""

import threading
from collections.abc import Callable


class Copies:
    """Copies under way, by the UUID of the volume that is read; threads may share it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # reentrant
        self._running: dict[str, int] = {}

    def begin(self, uuid: str, copy: Callable[[], None]) -> None:
        """Run a function in a thread of its own."""
        with self._changed:
            self._running[uuid] = self._running.get(uuid, 0) + 1
        threading.Thread(target=self._run, args=(uuid, copy), name="edf-copy").start()

    def busy(self, uuid: str | None = None) -> bool:
        """Tell whether a volume, or any at all, is being copied."""
        with self._changed:
            return bool(self._running) if uuid is None else uuid in self._running

    def settle(self, uuid: str | None = None) -> None:
        """Wait until a volume isn't being copied, or none at all."""
        with self._changed:
            self._changed.wait_for(lambda: not self.busy(uuid))

    def _run(self, uuid: str, copy: Callable[[], None]) -> None:
        try:
            copy()
        finally:
            with self._changed:
                self._running[uuid] -= 1
                if not self._running[uuid]:
                    del self._running[uuid]
                self._changed.notify_all()
