# SPDX-License-Identifier: Apache-2.0
"""Leases within one process, which can be lost on demand."""

import contextlib
import threading
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.storlets.deployment import leases


class MemoryLeases:
    """Gives out leases: `hold` is a :data:`container_stack.storlets.deployment.leases.Lock`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: dict[str, _Lease] = {}

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[leases.Lease]:
        """Hold a name.

        :raises Busy: somebody has it.
        """
        with self._guard:
            if name in self._held:
                raise exceptions.Busy(f"Another manager is at work on {name}.")
            lease = self._held[name] = _Lease()
        try:
            yield lease
        finally:
            with self._guard:
                if self._held.get(name) is lease:
                    del self._held[name]

    def lose(self) -> None:
        """Take away all that anybody has, as when a lease runs out."""
        with self._guard:
            for lease in self._held.values():
                lease.lost = True
            self._held.clear()


class _Lease:
    def __init__(self) -> None:
        self.lost = False

    def check(self) -> None:
        if self.lost:
            raise leases.LeaseLost("The lease was lost: look at the status before going on.")
